"""Everything Magpie needs from a model's chat template, derived from the template itself.

A Magpie prompt ends where a user's text would begin, so that an aligned model writes the
instruction. `PreQueryTemplate` knows that prompt as text and as token ids, with a system prompt,
after any history, and it knows where each turn ends.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from magpie_steps.boundary import PromptEncoder, PromptIds, Tokenizer
from magpie_steps.probes import split, user_message
from magpie_steps.rendering import ChatRenderer, ChatTemplateError
from magpie_steps.scaffold import (
    Scaffold,
    SystemMode,
    derive_scaffold,
    drop_preamble,
)
from magpie_steps.stops import (
    Stops,
    assistant_stops,
    control_tokens,
    eos_ids_of,
    special_texts,
    user_stops,
    vocabulary_of,
)

__all__ = [
    "ChatTemplateError",
    "Form",
    "PreQueryTemplate",
    "PromptIds",
    "SystemMode",
    "SystemPolicy",
]

Message = Mapping[str, Any]
Clock = Callable[[], datetime]
Form = Literal["rendered", "bare"]
SystemPolicy = Literal["error", "ignore", "merge", "prepend"]

# Distinct (system prompt, form, policy) combinations whose first-turn prompt is remembered.
_MAX_REMEMBERED_PROMPTS = 4096


@dataclass(frozen=True, eq=False)
class PreQueryTemplate:
    """A chat template, seen from the place where a user's text begins.

    Build one with `from_tokenizer` or, without token ids, with `from_template`. The clock is read
    once, so that all prompts of a run carry one date.

    Attributes:
        template_sha256: Hash of the Jinja text.
        pre_query: The prompt of a first turn without a system prompt, as the template renders it.
        bare_pre_query: The same without the default system prompt or preamble that the template
            writes on its own: BOS, if any, and `user_header`.
        user_header: What opens a user turn.
        post_query: What stands between a user's text and the assistant's answer to it.
        generation_prompt: The part of `post_query` that opens the assistant's turn, `None` when the
            template ignores `add_generation_prompt`.
        system_mode: What the template does with a system prompt: `separate` (a turn of its own),
            `merged` (into a user turn), `dropped` (without a word) or `unsupported` (it raises).
        system_moves: The system prompt moves to a later user turn when the history grows.
        default_system_prompt: The system prompt that the template writes by itself, or `None`.
        user_stop: What comes first after a user's text: a control token, or text.
        stop_token_ids: Ids that end a user's turn; empty without a tokenizer.
        stop_strings: Texts that end a user's turn and are not single tokens.
        assistant_stop: What comes first after an assistant's text that a user's text follows.
        assistant_stop_token_ids: Ids that end an assistant's turn; empty without a tokenizer.
        assistant_stop_strings: Texts that end an assistant's turn and are not single tokens.
        conversation_end: What the template writes after an assistant's text at the very end.
        control_tokens: Tokens of template and tokenizer that may never stand in a text. `<think>`
            and its kin are not among them: they are an assistant's content.
        strips_content: The template strips white space around a user's text.
        bos_in_template: The template writes the BOS token itself.
        dated: The prompt holds the date of the clock.
        history_reasoning: What becomes of `<think>` text in an earlier assistant message.
        content_format: `parts` for templates that take only `[{"type": "text", ...}]`.
        hazards: What is unusual about this template, as stable words; none of them is an error.
    """

    template_sha256: str
    pre_query: str
    bare_pre_query: str
    user_header: str
    post_query: str
    generation_prompt: str | None
    system_mode: SystemMode
    system_moves: bool
    default_system_prompt: str | None
    user_stop: str
    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    assistant_stop: str
    assistant_stop_token_ids: tuple[int, ...]
    assistant_stop_strings: tuple[str, ...]
    conversation_end: str
    control_tokens: frozenset[str]
    strips_content: bool
    bos_in_template: bool
    dated: bool
    history_reasoning: str
    content_format: str
    hazards: tuple[str, ...]
    _scaffold: Scaffold = field(repr=False)
    _encoder: PromptEncoder | None = field(repr=False)
    _forbidden: re.Pattern[str] = field(repr=False)
    _endings: tuple[str, ...] = field(repr=False)
    _remembered: dict[tuple[str | None, Form, SystemPolicy], PromptIds] = field(
        repr=False, default_factory=dict
    )

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: Tokenizer,
        *,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        generation_config: Any = None,
    ) -> Self:
        """Derive from a transformers tokenizer.

        Args:
            tokenizer: The model's tokenizer, with its special tokens set.
            chat_template: Jinja text, or the name of one of the tokenizer's templates; the
                tokenizer's own (default) template when `None`.
            chat_template_kwargs: Variables for the template, e.g. `{"enable_thinking": False}`.
            clock: Tells the date to templates that print it; the machine's clock when `None`.
            generation_config: The model's generation config or its dict: its end-of-sequence ids
                become stops.

        Raises:
            ChatTemplateError: Without a template, or when it cannot serve; see the code.
        """
        source = _choose_template(tokenizer.chat_template, chat_template)
        vocabulary = vocabulary_of(tokenizer)
        renderer = _renderer(source, tokenizer.special_tokens_map, chat_template_kwargs, clock)
        bos_token = str(tokenizer.special_tokens_map.get("bos_token") or "")
        scaffold = derive_scaffold(renderer, vocabulary, bos_token=bos_token)
        eos_ids = eos_ids_of(tokenizer, generation_config)
        return cls._build(
            scaffold,
            user=user_stops(scaffold, vocabulary, eos_ids),
            assistant=assistant_stops(scaffold, vocabulary, eos_ids),
            special=special_texts(tokenizer),
            vocabulary=vocabulary,
            encoder=PromptEncoder(tokenizer, scaffold.pre_query, scaffold.user_header),
        )

    @classmethod
    def from_template(
        cls,
        template: str,
        special_tokens: Mapping[str, str],
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Derive from a template's text alone: texts and stop strings, but no token ids.

        Args:
            template: Jinja text.
            special_tokens: What the template may name, e.g. `{"bos_token": "<s>"}`.
            chat_template_kwargs: Variables for the template.
            clock: Tells the date to templates that print it; the machine's clock when `None`.

        Raises:
            ChatTemplateError: When the template cannot serve; see the code.
        """
        renderer = _renderer(template, special_tokens, chat_template_kwargs, clock)
        bos_token = str(special_tokens.get("bos_token") or "")
        scaffold = derive_scaffold(renderer, bos_token=bos_token)
        return cls._build(
            scaffold,
            user=user_stops(scaffold, {}, ()),
            assistant=assistant_stops(scaffold, {}, ()),
            special=set(special_tokens.values()),
            vocabulary={},
            encoder=None,
        )

    @classmethod
    def _build(
        cls,
        scaffold: Scaffold,
        *,
        user: Stops,
        assistant: Stops,
        special: set[str],
        vocabulary: Mapping[str, int],
        encoder: PromptEncoder | None,
    ) -> Self:
        controls = control_tokens(scaffold, special)
        encoded = sorted(controls & set(vocabulary), key=lambda token: (-len(token), token))
        return cls(
            template_sha256=hashlib.sha256(scaffold.renderer.source.encode()).hexdigest(),
            pre_query=scaffold.pre_query,
            bare_pre_query=scaffold.bare_pre_query,
            user_header=scaffold.user_header,
            post_query=scaffold.post_query,
            generation_prompt=scaffold.generation_prompt,
            system_mode=scaffold.system_mode,
            system_moves=scaffold.system_moves,
            default_system_prompt=scaffold.default_system_prompt,
            user_stop=user.first,
            stop_token_ids=user.token_ids,
            stop_strings=user.strings,
            assistant_stop=assistant.first,
            assistant_stop_token_ids=assistant.token_ids,
            assistant_stop_strings=assistant.strings,
            conversation_end=scaffold.conversation_end,
            control_tokens=controls,
            strips_content=scaffold.strips_content,
            bos_in_template=scaffold.bos_in_template,
            dated=scaffold.dated,
            history_reasoning=scaffold.history_reasoning,
            content_format=scaffold.renderer.content_format,
            hazards=scaffold.hazards,
            _scaffold=scaffold,
            _encoder=encoder,
            _endings=tuple({user.first, *user.strings, *controls} - {""}),
            _forbidden=re.compile("|".join(map(re.escape, encoded)) or "(?!)"),
        )

    def pre_query_text(
        self,
        history: Sequence[Message] = (),
        system: str | None = None,
        *,
        form: Form = "rendered",
        system_policy: SystemPolicy = "error",
    ) -> str:
        """Return the prompt that ends where the next user's text begins.

        Args:
            history: Complete turns, user and assistant in alternation; they may start with a system
                message instead of `system`.
            system: System prompt, `None` for none (then the template may write its own).
            form: `rendered` as the template has it, or `bare` without what it writes on its own
                before the first user turn. An explicit system prompt is kept in both.
            system_policy: What to do when `system_mode` is not `separate`: `error`; `ignore` the
                system prompt; `merge` (mode `merged` only): the model then continues a user turn
                that begins with it; `prepend` it to the first user text ourselves.

        Raises:
            ChatTemplateError: `system_merged`, `system_dropped`, `system_unsupported`,
                `multi_turn_unsupported`, `control_token_in_content`, `bad_messages`, or what the
                template raises.
        """
        messages, system = _take_system(history, system)
        if messages and messages[-1].get("role") != "assistant":
            raise ChatTemplateError(
                "bad_messages",
                "A history must end with an assistant message, since a user's text comes next;"
                f" the last role is {messages[-1].get('role')!r}.",
            )
        if messages and not self._scaffold.multi_turn:
            raise ChatTemplateError(
                "multi_turn_unsupported",
                "The chat template does not print earlier turns; generate one turn (n_turns=1).",
            )
        messages, prefix = self._with_system(messages, system, system_policy)
        text = split(self._scaffold.renderer, messages, prefix=prefix).before
        self._require_system(text, messages)
        if form == "bare":
            return drop_preamble(self._scaffold, text)
        return text

    def pre_query_ids(
        self,
        history: Sequence[Message] = (),
        system: str | None = None,
        *,
        form: Form = "rendered",
        system_policy: SystemPolicy = "error",
    ) -> PromptIds:
        """Return `pre_query_text` as token ids that end at a boundary the model knows.

        Arguments and errors are those of `pre_query_text`; moreover `no_tokenizer` and
        `boundary_merge`. First turns are remembered: calling it for every row is free.
        """
        key = (system, form, system_policy)
        if not history and key in self._remembered:
            return self._remembered[key]
        text = self.pre_query_text(history, system, form=form, system_policy=system_policy)
        prompt = self._require_encoder().stable_prefix(text)
        if not history:
            if len(self._remembered) >= _MAX_REMEMBERED_PROMPTS:
                self._remembered.clear()
            self._remembered[key] = prompt
        return prompt

    def response_prompt_text(
        self, messages: Sequence[Message], *, system_policy: SystemPolicy = "error"
    ) -> str:
        """Return the prompt that ends where the assistant's answer begins.

        Args:
            messages: A conversation that ends with a user message, perhaps with a system message in
                front.
            system_policy: As in `pre_query_text`, but a merged system prompt is always rendered as
                the template has it, unless it is to be ignored or prepended.

        Raises:
            ChatTemplateError: `bad_messages`, `system_dropped`, `system_unsupported`,
                `control_token_in_content`, or what the template raises.
        """
        rest, system = _take_system(messages, None)
        if not rest or rest[-1].get("role") != "user":
            raise ChatTemplateError(
                "bad_messages",
                "A response answers a user: messages must end with a user message, not with"
                f" {rest[-1].get('role') if rest else None!r}.",
            )
        if self.system_mode == "merged" and system_policy == "error":
            system_policy = "merge"
        rest, _ = self._with_system(rest, system, system_policy)
        text = self._scaffold.renderer.render(rest, add_generation_prompt=True)
        self._require_system(text, rest)
        return text

    def response_prompt_ids(
        self, messages: Sequence[Message], *, system_policy: SystemPolicy = "error"
    ) -> tuple[int, ...]:
        """Return `response_prompt_text` as token ids; arguments and errors are the same."""
        text = self.response_prompt_text(messages, system_policy=system_policy)
        return self._require_encoder().encode(text)

    def clean_query(self, text: str, healed_suffix: str = "") -> str:
        """Return a generated user turn as the template would print it in a history.

        Args:
            text: What the model wrote after `pre_query_ids`.
            healed_suffix: That of the prompt.
        """
        text = text.removeprefix(healed_suffix)
        while text.endswith(self._endings):
            text = next(text.removesuffix(end) for end in self._endings if text.endswith(end))
        # The template's own white space between the text and the stop belongs to the template.
        gap = self.post_query[: len(self.post_query) - len(self.post_query.lstrip())]
        text = text.removesuffix(gap)
        return text.strip() if self.strips_content else text

    def to_dict(self) -> dict[str, Any]:
        """Return all that was derived and the options, as JSON values, for provenance."""
        renderer = self._scaffold.renderer
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if not name.startswith("_") and name != "control_tokens"
        }
        return {
            **values,
            "control_tokens": sorted(self.control_tokens),
            "chat_template_kwargs": dict(renderer.kwargs),
            "date": renderer.now.isoformat() if self.dated else None,
        }

    def _with_system(
        self, messages: list[Message], system: str | None, policy: SystemPolicy
    ) -> tuple[list[Message], str]:
        """Place a system prompt; return the messages and what the next user's text begins with."""
        self._require_no_control_tokens(messages, system)
        if system is None or (policy == "ignore" and self.system_mode != "separate"):
            return messages, ""
        if self.system_mode == "separate" or (self.system_mode == "merged" and policy == "merge"):
            return [{"role": "system", "content": system}, *messages], ""
        if policy != "prepend":
            raise _system_error(self.system_mode, policy)
        prefix = f"{system}\n\n"
        if not messages:
            return [], prefix
        return [user_message(prefix + str(messages[0]["content"])), *messages[1:]], ""

    def _require_system(self, text: str, messages: Sequence[Message]) -> None:
        """Check that a system prompt, if there is one, came out."""
        if not messages or messages[0].get("role") != "system":
            return
        if "".join(messages[0]["content"].split()) not in "".join(text.split()):
            raise ChatTemplateError(
                "system_dropped",
                "The chat template does not print this system prompt as it is:"
                f" {messages[0]['content'][:80]!r}.",
            )

    def _require_no_control_tokens(self, messages: Sequence[Message], system: str | None) -> None:
        """Refuse texts that would become control tokens, which ordinary text must never do."""
        for text in [system, *(message.get("content") for message in messages)]:
            match = self._forbidden.search(text) if isinstance(text, str) else None
            if match:
                raise ChatTemplateError(
                    "control_token_in_content",
                    f"The text {text!r:.80} holds the control token {match.group()!r}, which would"
                    " end or open a turn. Drop the row, or take the token out.",
                )

    def _require_encoder(self) -> PromptEncoder:
        if self._encoder is None:
            raise ChatTemplateError(
                "no_tokenizer",
                "This template was derived from text alone and has no token ids;"
                " use PreQueryTemplate.from_tokenizer.",
            )
        return self._encoder


def _renderer(
    source: str,
    special_tokens: Mapping[str, Any],
    kwargs: Mapping[str, Any] | None,
    clock: Clock | None,
) -> ChatRenderer:
    now = (clock or datetime.now)()
    return ChatRenderer(source, dict(special_tokens), dict(kwargs or {}), now)


def _choose_template(own: Any, wanted: str | None) -> str:
    """Choose as `tokenizer.get_chat_template(wanted, tools=None)` does."""
    named = own if isinstance(own, Mapping) else {}
    if wanted is not None:
        return str(named.get(wanted, wanted))
    if isinstance(own, str):
        return own
    if "default" in named:
        return str(named["default"])
    if named:
        raise ChatTemplateError(
            "no_chat_template",
            "The tokenizer has several chat templates and no default one; choose with"
            f" chat_template=: {', '.join(sorted(named))}.",
        )
    raise ChatTemplateError(
        "no_chat_template",
        "The tokenizer has no chat template, so this is probably a base model: Magpie needs an"
        " instruction-tuned one. Choose its instruct version, or give the Jinja text with"
        " chat_template=.",
    )


def _take_system(
    messages: Sequence[Message], system: str | None
) -> tuple[list[Message], str | None]:
    """Take a leading system message out of `messages`."""
    rest = list(messages)
    if not rest or rest[0].get("role") != "system":
        return rest, system
    if system is not None:
        raise ChatTemplateError(
            "bad_messages", "Give the system prompt in the messages or as system=, not in both."
        )
    return rest[1:], str(rest[0]["content"])


def _system_error(mode: SystemMode, policy: SystemPolicy) -> ChatTemplateError:
    what = {
        "merged": "puts a system prompt into the user's turn, so a model would go on with a turn"
        " that begins with the system text",
        "dropped": "drops a system prompt without a word",
        "unsupported": "refuses a system prompt",
    }[mode]
    remedies = '"ignore" or "prepend"' if mode != "merged" else '"merge", "ignore" or "prepend"'
    return ChatTemplateError(
        f"system_{mode}",
        f"The chat template {what}; system_policy={policy!r} does not help. Leave the system"
        f" prompt out, or set system_policy to {remedies}.",
    )
