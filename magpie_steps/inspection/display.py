"""How does a person see what a chat template gives?"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from magpie_steps.inspection.advice import ERRORS, HAZARDS, Advice
from magpie_steps.inspection.findings import HISTORY, SYSTEM, Effect, Findings
from magpie_steps.inspection.marking import Marker, Style
from magpie_steps.inspection.sources import Source
from magpie_steps.inspection.verdict import Judgement
from magpie_steps.markup import visible
from magpie_steps.probes import TokenFinder
from magpie_steps.stops import Stop, vocabulary_of

_WIDTH = 96
_TEXTS = {
    "pre_query": "the prompt",
    "post_query": "what follows the user's text",
    "second_turn": "the prompt of a second turn",
}


def display(source: Source, judgement: Judgement, style: Style) -> str:
    """Return a judgement for people.

    Args:
        source: What was judged.
        judgement: The judgement.
        style: How control tokens stand out.
    """
    findings = judgement.findings
    if findings is None:
        advice = _explained(judgement.verdict.code, ERRORS[judgement.verdict.code])
        parts = [f"{_plain(source.name)}", advice]
    else:
        parts = [_heading(source, findings), *_View(findings, _names(source), style).parts()]
    return "\n\n".join([*parts, f"verdict: {_plain(judgement.verdict.sentence())}"])


class _View:
    """The parts of the page on a template that works.

    Args:
        findings: What it gives.
        names: The texts of tokens, by their ids.
        style: How control tokens stand out.
    """

    def __init__(self, findings: Findings, names: Mapping[int, str], style: Style) -> None:
        self._findings = findings
        self._names = names
        self._template = findings.template
        self._marker = Marker({*_tokens(findings), *filter(str.strip, names.values())}, style)

    def parts(self) -> Iterator[str]:
        """Yield the parts."""
        yield from self._prompts()
        yield self._stops()
        yield self._thinking()
        yield f"options of the template: {_named(self._template.known_options)}"
        if self._template.hazards:
            lines = [_explained(name, HAZARDS[name]) for name in self._template.hazards]
            yield "\n".join(["what is unusual", *(textwrap.indent(line, "  ") for line in lines)])

    def _prompts(self) -> Iterator[str]:
        template, findings = self._template, self._findings
        yield self._titled("the prompt (pre-query)", template.pre_query) + self._ids()
        if template.bare_pre_query == template.pre_query:
            yield "the bare form: the same"
        else:
            yield self._titled(
                "the bare form: without what the template adds", template.bare_pre_query
            )
        yield self._titled(f"with the system prompt {SYSTEM!r}", findings.with_system)
        first, second = (message["content"] for message in HISTORY)
        yield self._titled(f"the second turn, after {first!r} and {second!r}", findings.second_turn)
        yield self._titled("what follows the user's text (post-query)", template.post_query)
        yield self._titled("of which opens the assistant's turn", template.generation_prompt)

    def _ids(self) -> str:
        prompt = self._findings.prompt
        if prompt is None:
            return "\n  token ids: none without a tokenizer"
        ids = f"\n  token ids: {' '.join(map(str, prompt.ids))}"
        if not prompt.healed_suffix:
            return ids
        return f"{ids}\n  left to the model: {self._marker.in_a_line(prompt.healed_suffix)}"

    def _stops(self) -> str:
        template = self._template
        user = self._all_stops(template.stop_token_ids, template.stop_strings)
        assistant = self._all_stops(
            template.assistant_stop_token_ids, template.assistant_stop_strings
        )
        return "\n".join(
            [
                f"a user's turn ends at {self._stop(template.user_stop)}",
                f"  and is stopped at {user}",
                f"an assistant's turn ends at {self._stop(template.assistant_stop)}",
                f"  and is stopped at {assistant}",
            ]
        )

    def _thinking(self) -> str:
        template, marks = self._template, self._template.reasoning_marks
        effects = self._findings.effects
        matter = {effect.option for effect in effects if effect.changes or effect.code}
        if marks is None and not matter:
            return "thinking: none that the template knows of"
        lines = []
        if marks is not None:
            opening, closing = map(self._marker.in_a_line, (marks.open, marks.close))
            lines.append(f"a thought stands between {opening} and {closing}")
        if template.opens_reasoning is not None:
            lines.append("each response begins inside a thought")
        if self._findings.keeps_thoughts is not None:
            kept = "stay in" if self._findings.keeps_thoughts else "are taken out of"
            lines.append(f"thoughts {kept} earlier answers")
        shown = (effect for effect in effects if effect.option in matter)
        lines += [line for effect in shown for line in self._effect(effect)]
        return "\n".join(["thinking", *(f"  {line}" for line in lines)])

    def _effect(self, effect: Effect) -> Iterator[str]:
        setting = f"{_plain(effect.option)} = {json.dumps(effect.value)}"
        if effect.code:
            yield f"{setting}: does not work ({effect.code})"
        elif not effect.changes:
            yield f"{setting}: changes nothing"
        else:
            yield f"{setting} changes"
        for name, text in effect.changes.items():
            yield f"  {_TEXTS[name]}: {self._marker.in_a_line(text)}"

    def _titled(self, title: str, text: str | None) -> str:
        if text is None:
            return f"{title}: none"
        shown = self._marker.shown(text).removesuffix("\n")
        return f"{title}\n{textwrap.indent(shown, '    ')}"

    def _stop(self, stop: Stop) -> str:
        return self._text(stop.text) if stop.token_id is None else self._token(stop.token_id)

    def _all_stops(self, ids: Sequence[int], texts: Sequence[str]) -> str:
        return ", ".join([*map(self._token, ids), *map(self._text, texts)]) or "nothing"

    def _token(self, number: int) -> str:
        name = self._names.get(number)
        return f"token {number}" if name is None else f"{self._text(name)} ({number})"

    def _text(self, text: str) -> str:
        shown = self._marker.in_a_line(text)
        return repr(shown) if shown == text else shown


def _heading(source: Source, findings: Findings) -> str:
    lines = [_plain(source.name), f"  chat template: {findings.template.template_sha256} (sha256)"]
    if source.named_templates:
        names = ", ".join(map(_plain, source.named_templates))
        lines.append(f"  the tokenizer has several, which --chat-template names: {names}")
    if source.stand_ins:
        lines.append(
            f"  not known from the template alone: {', '.join(source.stand_ins)}; --special-tokens"
            " says what they are"
        )
    return "\n".join(lines)


def _explained(name: str, advice: Advice) -> str:
    text = f"{name}: {advice.meaning} {advice.remedy}"
    return textwrap.fill(text, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(_plain, names)) or "none"


def _tokens(findings: Findings) -> set[str]:
    """Return what stands out in the texts of a template."""
    template = findings.template
    marks = template.reasoning_marks
    thoughts = set() if marks is None else {marks.open.strip(), marks.close.strip()}
    # Tokens that stand only in what a template adds on its own; `<tools>` there is no token.
    texts = [template.pre_query, findings.with_system or "", template.post_query]
    texts += [text for effect in findings.effects for text in effect.changes.values()]
    looks = {text for text in TokenFinder((), ()).markers(*texts) if set(text) & {"|", "\uff5c"}}
    return {*template.control_tokens, *thoughts, *looks}


def _names(source: Source) -> dict[int, str]:
    """Return the texts of a tokenizer's added tokens by their ids."""
    known = {} if source.tokenizer is None else vocabulary_of(source.tokenizer)
    return {number: text for text, number in known.items()}


def _plain(text: str) -> str:
    """Return a text on one line that a terminal only shows."""
    return visible(" ".join(text.split()))
