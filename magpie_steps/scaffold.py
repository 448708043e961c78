"""Find what a chat template writes around a user's text, by rendering probes and cutting at them.

Nothing is looked up in a table of models and nothing is glued together from parts: each text is
cut out of a full rendering of history, system prompt and one user message, since many templates
render a message in history otherwise than the same message at the end.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from magpie_steps.probes import SENTINEL, Messages, Split, TokenFinder, split, user_message
from magpie_steps.rendering import ChatRenderer, ChatTemplateError, raise_attack

SystemMode = Literal["separate", "merged", "unsupported", "dropped"]
HistoryReasoning = Literal["kept", "removed", "unsupported"]
# More user texts, of several lengths, scripts and line counts.
_OTHER_PROBES = (
    "Hb2 wren Lm8 over the river",
    "川Vt5の鳥Жизнь9",
    "Rk4 first\n\n  second line\nJd6",
)
_PADDED_PROBE = f"  \n{SENTINEL} \n "
_SYSTEM = "Nw5SystemProbe8yt"
_USER = "Gd3UserProbe6vb"
_ASSISTANT = "Tc9AssistantProbe2mj"
_THOUGHT = "Fx4ThoughtProbe7ks"
_REASONING = f"<think>\n{_THOUGHT}\n</think>\n\n{_ASSISTANT}"
# Two days that differ in year, month, day, weekday and hour.
_CLOCKS = (datetime(2001, 2, 3, 4, 5, 6), datetime(2019, 11, 28, 17, 38, 49))


@dataclass(frozen=True)
class Scaffold:
    """What a chat template writes, as text; `PreQueryTemplate` documents the public fields."""

    renderer: ChatRenderer
    tokens: TokenFinder
    pre_query: str
    post_query: str
    generation_prompt: str | None
    user_header: str
    bare_pre_query: str
    preamble: str
    opening: str
    system_mode: SystemMode
    default_system_prompt: str | None
    system_moves: bool
    system_end: str
    bridge: str
    turn_gap: str
    conversation_end: str
    multi_turn: bool
    multi_turn_fault: str
    strips_content: bool
    bos_in_template: bool
    dated: bool
    history_reasoning: HistoryReasoning
    hazards: tuple[str, ...]


def derive_scaffold(
    renderer: ChatRenderer, known_tokens: Collection[str] = (), *, bos_token: str = ""
) -> Scaffold:
    """Derive everything that `PreQueryTemplate` needs from a template's renderings.

    Args:
        renderer: The template, its special tokens and options.
        known_tokens: The tokenizer's added tokens; empty when there is no tokenizer.
        bos_token: The text of the beginning-of-sequence token, `""` when there is none.

    Raises:
        ChatTemplateError: The template cannot be used for Magpie; the code says why.
    """
    renderer, single = _choose_content_format(renderer)
    _require_affixes_independent_of_content(renderer, single)
    named = [value for value in renderer.special_tokens.values() if isinstance(value, str)]
    tokens = TokenFinder(known_tokens, named)
    closed = split(renderer, [], add_generation_prompt=False)
    generation_prompt = _generation_prompt(single, closed, tokens)
    turns = _probe_history(renderer, single)
    with_system = _probe_system(renderer)
    has_bos = bool(bos_token) and single.before.lstrip().startswith(bos_token)
    bos = bos_token if has_bos else ""
    user_end = single.after.removesuffix(generation_prompt or "")
    # Where no turn can follow another, a user's turn still follows a system prompt.
    gap = turns.gap or with_system.after
    header = _user_header(single, user_end, replace(turns, gap=gap), tokens, bos)
    system = _read_system(renderer, single, with_system, header, turns.works)
    preamble = _preamble(single, header, turns, tokens, bos)
    elsewhere = tokens.markers(header, single.after, gap) | tokens.last(with_system.before)
    start = _opening_tokens(preamble, elsewhere, tokens) or bos
    # A default system prompt inside the user turn stands behind the header.
    start = "" if header.startswith(start) else start
    opening = start if single.before.endswith(header) else start + header
    scaffold = Scaffold(
        renderer=renderer,
        tokens=tokens,
        pre_query=single.before,
        post_query=single.after,
        generation_prompt=generation_prompt,
        user_header=header,
        bare_pre_query=_replace_preamble(single.before, preamble, opening),
        preamble=preamble,
        opening=opening,
        system_mode=system.mode,
        default_system_prompt=system.default,
        system_moves=system.moves,
        system_end=system.end,
        bridge=turns.bridge,
        turn_gap=turns.gap,
        conversation_end=turns.end,
        multi_turn=turns.works,
        multi_turn_fault=turns.fault,
        strips_content=_strips_content(renderer, single),
        bos_in_template=has_bos,
        dated=_is_dated(renderer, system.mode),
        history_reasoning=_history_reasoning(renderer),
        hazards=(),
    )
    return replace(scaffold, hazards=_hazards(scaffold, turns, system, bos_token))


def require_user_turn(scaffold: Scaffold) -> None:
    """Refuse a template that does not show where a user's text begins or ends.

    Such a template can be described, but a model cannot be prompted with it.

    Raises:
        ChatTemplateError: `no_user_header` or `no_text_after_user`.
    """
    if not scaffold.pre_query.strip():
        raise ChatTemplateError(
            "no_user_header",
            "The chat template writes nothing before the user's text, so there is no pre-query"
            " template to prompt with. Is this a base model? Give a template with chat_template=.",
        )
    if not scaffold.post_query.strip():
        raise ChatTemplateError(
            "no_text_after_user",
            "The chat template writes nothing after the user's text, so a model cannot show where"
            " an instruction ends. Give another template with chat_template=.",
        )


def drop_preamble(scaffold: Scaffold, text: str) -> str:
    """Return a pre-query without what the template writes on its own before the first user text.

    A text that does not open with that preamble, since it has a system prompt, stays as it is.
    """
    return _replace_preamble(text, scaffold.preamble, scaffold.opening)


@dataclass(frozen=True)
class _Turns:
    """What stands between messages in history: after a user text, after an assistant text."""

    works: bool
    fault: str = "The chat template does not print earlier turns."
    bridge: str = ""
    gap: str = ""
    end: str = ""
    prefix_stable: bool = True


@dataclass(frozen=True)
class _WithSystem:
    """A rendering with a system message, `None` if refused; what stands around its text."""

    found: Split | None
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class _System:
    """What becomes of a system message."""

    mode: SystemMode
    default: str | None = None
    moves: bool = False
    end: str = ""
    repeated: bool = False


_HISTORY: tuple[dict[str, str], ...] = (
    {"role": "user", "content": _USER},
    {"role": "assistant", "content": _ASSISTANT},
)
_SYSTEM_MESSAGE = {"role": "system", "content": _SYSTEM}


def _choose_content_format(renderer: ChatRenderer) -> tuple[ChatRenderer, Split]:
    try:
        return renderer, split(renderer, [])
    except ChatTemplateError as error:
        raise_attack(error)
        if error.code == "compile_error":
            raise
        parts = replace(renderer, content_format="parts")
        try:
            return parts, split(parts, [])
        except ChatTemplateError as second:
            raise_attack(second)
            _raise_if_tools_help(renderer)
            raise error from None


def _raise_if_tools_help(renderer: ChatRenderer) -> None:
    with_tools = replace(renderer, kwargs={**renderer.kwargs, "tools": []})
    try:
        split(with_tools, [])
    except ChatTemplateError as error:
        raise_attack(error)
        return
    raise ChatTemplateError(
        "tools_required",
        'The chat template needs a list of tools: pass chat_template_kwargs={"tools": []}.',
    )


def _require_affixes_independent_of_content(renderer: ChatRenderer, expected: Split) -> None:
    for probe in _OTHER_PROBES:
        try:
            found = split(renderer, [], probe)
        except ChatTemplateError as error:
            raise_attack(error)
            raise ChatTemplateError(
                "content_transformed",
                f"The chat template rewrites the user's text (probe {probe!r}), so what a model"
                " writes in its place would not be what is stored. Give another template with"
                " chat_template=.",
            ) from error
        if found != expected:
            raise ChatTemplateError(
                "affix_depends_on_content",
                f"What the chat template writes around the user's text depends on that text:"
                f" {expected.before!r} became {found.before!r} for {probe!r}.",
            )


def _probe_history(renderer: ChatRenderer, single: Split) -> _Turns:
    try:
        second = split(renderer, _HISTORY)
        third = split(renderer, [*_HISTORY, *_HISTORY])
        final, _, end = renderer.render(_HISTORY).rpartition(_ASSISTANT)
    except ChatTemplateError as error:
        raise_attack(error)
        return _Turns(works=False, fault=error.message)
    head, user_found, rest = second.before.partition(_USER)
    bridge, assistant_found, gap = rest.partition(_ASSISTANT)
    if not user_found or not assistant_found:
        return _Turns(works=False)
    return _Turns(
        works=True,
        bridge=bridge,
        gap=gap,
        end=end,
        prefix_stable=head == single.before
        and second.before.startswith(final + _ASSISTANT + end)
        and third.before.startswith(second.before),
    )


def _user_header(
    single: Split, user_end: str, turns: _Turns, tokens: TokenFinder, bos_token: str
) -> str:
    """Return the text that opens a user turn: what the first and a later turn share at their end.

    Args:
        single: The rendering of a user message alone.
        user_end: What closes a user turn.
        turns: The rendering of a longer history.
        tokens: Finds control tokens; none is ever cut in two.
        bos_token: The BOS token when the template writes one, else "".
    """
    pre_query = single.before
    gap = turns.gap or pre_query
    ending = next((end for end in (turns.end, user_end) if end and gap.startswith(end)), "")
    # Where a user's header is also what ends an assistant's turn, it is a header all the same.
    opens = gap.removeprefix(ending)
    gap = opens if opens.strip() else gap
    length = _common_suffix_length(pre_query, gap)
    start = tokens.snap(pre_query, len(pre_query) - length, forward=True)
    offset = len(pre_query) - len(gap)
    start = max(start, offset + tokens.snap(gap, len(gap) - length, forward=True))
    if length < len(gap):
        start = _word_start(pre_query, start, tokens)
    header = _without_turn_end(pre_query[start:], pre_query.removeprefix(bos_token), tokens)
    newlines = len(header) - len(header.lstrip("\n"))
    if header.strip() and single.after.startswith("\n" * newlines):
        header = header[newlines:]
    # A BOS that stands in every turn is part of the header only if it opens turns of both roles.
    if bos_token and bos_token not in single.after:
        header = header.removeprefix(bos_token)
    if header.strip():
        return header
    inner = gap.removeprefix(bos_token)
    return inner if turns.works and inner.strip() and inner.strip() in pre_query else pre_query


def _word_start(text: str, cut: int, tokens: TokenFinder) -> int:
    """Move a cut inside a word, such as the number of a turn, to the start of that line."""
    edges = {edge for match in tokens.looks.finditer(text) for edge in match.span()}
    around = text[max(cut - 1, 0) : cut + 1]
    if cut in edges or len(around.strip()) < 2:
        return cut
    return max(edge for edge in {0, text.rfind("\n", 0, cut) + 1, *edges} if edge < cut)


def _without_turn_end(header: str, first_turn: str, tokens: TokenFinder) -> str:
    """Take off the end of the turn before, into which a common suffix may reach back."""
    opener = tokens.first(first_turn)
    before, found, after = header.partition(opener.group()) if opener else (header, "", "")
    # Plain words before the first token open the turn themselves (`user<|sep|>`).
    is_turn_end = not before.strip() or tokens.markers(before)
    return found + after if found and is_turn_end else header


def _opening_tokens(preamble: str, elsewhere: Collection[str], tokens: TokenFinder) -> str:
    """Return the tokens that start every prompt: BOS and those that open nothing but the text.

    Args:
        preamble: What stands before the first user header.
        elsewhere: Tokens that open or close a turn.
        tokens: Finds control tokens.
    """
    end = 0
    for match in tokens.looks.finditer(preamble):
        is_followed = tokens.looks.match(preamble, match.end())
        if match.start() != end or match.group() in elsewhere or not is_followed:
            break
        end = match.end()
    return preamble[:end]


def _preamble(
    single: Split, header: str, turns: _Turns, tokens: TokenFinder, bos_token: str
) -> str:
    """Return the text or empty turn that the template writes before the user header, or ""."""
    if not single.before.endswith(header):
        return single.before
    preamble = single.before.removesuffix(header)
    added = preamble.replace(bos_token, "", 1)
    is_turn = tokens.markers(added) & tokens.markers(header, single.after, turns.gap)
    # Tokens that open no turn are a prefix of every prompt, as BOS is, and stay.
    return preamble if is_turn or tokens.erase(added).strip() else ""


def _replace_preamble(text: str, preamble: str, opening: str) -> str:
    if not preamble or not text.startswith(preamble):
        return text
    return opening + text.removeprefix(preamble)


def _common_suffix_length(left: str, right: str) -> int:
    length = 0
    while length < min(len(left), len(right)) and left[-1 - length] == right[-1 - length]:
        length += 1
    return length


def _generation_prompt(single: Split, closed: Split, tokens: TokenFinder) -> str | None:
    if single.after == closed.after:
        return None
    length = _common_suffix_length(single.after[::-1], closed.after[::-1])
    return single.after[tokens.snap(single.after, length, forward=False) :]


def _probe_system(renderer: ChatRenderer) -> _WithSystem:
    try:
        found = split(renderer, [_SYSTEM_MESSAGE])
    except ChatTemplateError as error:
        raise_attack(error)
        return _WithSystem(None)
    before, _, after = found.before.rpartition(_SYSTEM)
    return _WithSystem(found, before, after)


def _read_system(
    renderer: ChatRenderer, single: Split, probe: _WithSystem, header: str, multi_turn: bool
) -> _System:
    found, before, after = probe.found, probe.before, probe.after
    if found is None:
        return _System("unsupported")
    if _SYSTEM not in found.before + found.after:
        return _System("dropped")
    is_separate = bool(header.strip()) and header.strip() in after
    is_written = single.before.startswith(before) and single.before.endswith(after)
    written = single.before[len(before) : len(single.before) - len(after)]
    return _System(
        mode="separate" if is_separate else "merged",
        default=(written or None) if is_written else None,
        moves=multi_turn and _system_moves(renderer, found),
        end=after,
        repeated=(found.before + found.after).count(_SYSTEM) > 1,
    )


def _system_moves(renderer: ChatRenderer, first_turn: Split) -> bool:
    try:
        later = split(renderer, [_SYSTEM_MESSAGE, *_HISTORY])
    except ChatTemplateError as error:
        raise_attack(error)
        return True
    return not later.before.startswith(first_turn.before)


def _strips_content(renderer: ChatRenderer, single: Split) -> bool:
    text = renderer.render([user_message(_PADDED_PROBE)], add_generation_prompt=True)
    return text != single.before + _PADDED_PROBE + single.after


def _is_dated(renderer: ChatRenderer, mode: SystemMode) -> bool:
    if "strftime_now" not in renderer.source:
        return False
    before: list[Messages] = [[]] if mode == "unsupported" else [[], [_SYSTEM_MESSAGE]]
    early, late = (replace(renderer, now=clock) for clock in _CLOCKS)
    return any(split(early, messages) != split(late, messages) for messages in before)


def _history_reasoning(renderer: ChatRenderer) -> HistoryReasoning:
    assistant = {"role": "assistant", "content": _REASONING}
    try:
        found = split(renderer, [user_message(_USER), assistant])
    except ChatTemplateError as error:
        raise_attack(error)
        return "unsupported"
    return "kept" if _THOUGHT in found.before else "removed"


def _hazards(scaffold: Scaffold, turns: _Turns, system: _System, bos_token: str) -> tuple[str, ...]:
    renderer = scaffold.renderer
    eos_token = renderer.special_tokens.get("eos_token") or "\0"
    post = scaffold.post_query
    words = re.findall(r"[^\W_]+", scaffold.tokens.erase(scaffold.preamble))
    found = {
        "no_user_header": not scaffold.pre_query.strip(),
        "no_text_after_user": not post.strip(),
        "system_unsupported": system.mode == "unsupported",
        "system_dropped": system.mode == "dropped",
        "system_merged": system.mode == "merged",
        "system_repeated": system.repeated,
        "system_moves_in_history": system.moves,
        "multi_turn_unsupported": not turns.works,
        "default_system_prompt": system.default is not None,
        # The name of a role alone is an empty turn.
        "default_preamble": system.default is None and len(words) > 1,
        "date_in_prompt": scaffold.dated,
        "strips_user_content": scaffold.strips_content,
        "trailing_space": scaffold.pre_query.endswith(" "),
        "history_rewritten": turns.works and not turns.prefix_stable,
        "bridge_differs_from_generation_prompt": turns.works and turns.bridge != post,
        "generation_prompt_ignored": scaffold.generation_prompt is None,
        "reasoning_removed_from_history": scaffold.history_reasoning == "removed",
        "eos_in_generation_prompt": post.rstrip().endswith(str(eos_token)),
        "conversation_end_differs": turns.works and not turns.gap.startswith(turns.end),
        "content_parts_required": renderer.content_format == "parts",
        "empty_user_differs": _empty_user_differs(scaffold),
        "header_is_only_bos": bool(bos_token) and scaffold.pre_query.strip() == bos_token,
    }
    return tuple(name for name, is_present in found.items() if is_present)


def _empty_user_differs(scaffold: Scaffold) -> bool:
    try:
        text = scaffold.renderer.render([user_message("")], add_generation_prompt=True)
    except ChatTemplateError as error:
        raise_attack(error)
        return True
    return text != scaffold.pre_query + scaffold.post_query
