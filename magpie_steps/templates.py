"""Everything Magpie needs from a model's chat template, derived from the template itself.

A Magpie prompt ends where a user's text would begin, so that an aligned model writes the
instruction. `PreQueryTemplate` knows that prompt as text and as token ids, with a system prompt,
after any history, and it knows where each turn ends.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal, Self, get_args

from magpie_steps.boundary import PromptEncoder, PromptIds, Tokenizer
from magpie_steps.derivation import Clock, Derivation, Options, choose_template, settable
from magpie_steps.probes import Split, require_user_texts, split
from magpie_steps.reasoning import Marks, Reasoned, split_reasoning
from magpie_steps.rendering import REASONING_FIELDS, ChatRenderer, ChatTemplateError
from magpie_steps.scaffold import Scaffold, SystemMode, drop_preamble, require_user_turn
from magpie_steps.stops import (
    Stop,
    assistant_stops,
    control_tokens,
    eos_ids_of,
    special_texts,
    thought_tokens,
    user_stops,
    vocabulary_of,
)
from magpie_steps.system_prompt import SystemPolicy, place_system, require_printed, take_system

__all__ = [
    "BosPolicy",
    "ChatTemplateError",
    "Form",
    "PreQueryTemplate",
    "PromptIds",
    "Stop",
    "SystemMode",
    "SystemPolicy",
]

Message = Mapping[str, Any]
Form = Literal["rendered", "bare"]
BosPolicy = Literal["template", "always", "never"]

_SYSTEM_POLICIES = get_args(SystemPolicy)

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
        user_stop: What comes first after a user's text: a control token, or text; with its id.
        stop_token_ids: Ids that end a user's turn; empty without a tokenizer.
        stop_strings: Texts that end a user's turn and are not single tokens.
        assistant_stop: What comes first after an assistant's text that a user's text follows.
        assistant_stop_token_ids: Ids that end an assistant's turn, thoughts included; empty without
            a tokenizer.
        assistant_stop_strings: Texts that end an assistant's turn and are not single tokens.
        conversation_end: What the template writes after an assistant's text at the very end.
        control_tokens: Tokens of template and tokenizer that may never stand in a text. `<think>`
            and its kin are not among them: they are an assistant's content.
        strips_content: The template strips white space around a user's text.
        bos_in_template: The template writes the BOS token itself.
        dated: The prompt holds the date of the clock.
        history_reasoning: What becomes of `<think>` text in an earlier assistant message.
        reasoning_marks: What the model writes around its thoughts; `None` if it does not think.
        opens_reasoning: What a response's prompt opens a thought with and what the model closes it
            with, e.g. `("<think>", "</think>")`; `None` when the prompt opens none.
        known_options: Variables of the template that can be set, sorted.
        system_policy: What becomes of system prompts when nothing else is asked for.
        add_bos: Whether prompts begin with the BOS token: as the `template` has it, `always` or
            `never`.
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
    user_stop: Stop
    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    assistant_stop: Stop
    assistant_stop_token_ids: tuple[int, ...]
    assistant_stop_strings: tuple[str, ...]
    conversation_end: str
    control_tokens: frozenset[str]
    strips_content: bool
    bos_in_template: bool
    dated: bool
    history_reasoning: str
    reasoning_marks: Marks | None
    opens_reasoning: tuple[str, str] | None
    known_options: tuple[str, ...]
    system_policy: SystemPolicy
    add_bos: BosPolicy
    content_format: str
    hazards: tuple[str, ...]
    _scaffold: Scaffold = field(repr=False)
    _responses: ChatRenderer = field(repr=False)
    _answered: Split = field(repr=False)
    _bos_token: str = field(repr=False)
    _encoder: PromptEncoder | None = field(repr=False)
    _forbidden: re.Pattern[str] = field(repr=False)
    _forbidden_to_users: re.Pattern[str] = field(repr=False)
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
        chat_template_kwargs: Options | None = None,
        response_kwargs: Options | None = None,
        clock: Clock | None = None,
        generation_config: Any = None,
        system_policy: SystemPolicy = "error",
        add_bos: BosPolicy = "template",
        strict: bool = True,
    ) -> Self:
        """Derive from a transformers tokenizer.

        Args:
            tokenizer: The model's tokenizer, with its special tokens set.
            chat_template: Jinja text, or the name of one of the tokenizer's templates; the
                tokenizer's own (default) template when `None`.
            chat_template_kwargs: Variables for the template, e.g. `{"enable_thinking": False}`.
            response_kwargs: Variables for responses' prompts alone, over `chat_template_kwargs`.
                Where both are the same, a response's prompt goes on from the instruction's.
            clock: Tells the date to templates that print it, or is it; the machine's clock when
                `None`.
            generation_config: The model's generation config or its dict: its end-of-sequence ids
                become stops.
            system_policy: What becomes of system prompts; see `pre_query_text`.
            add_bos: Whether prompts begin with the BOS token. What a template writes is what its
                model was trained on; some leave BOS to the tokenizer, and then none is written.
            strict: Refuse a template that writes nothing before or after the user's text, which
                cannot prompt a model; else it is described with that hazard.

        Raises:
            ChatTemplateError: Without a template, or when it cannot serve; see the code.
        """
        source = choose_template(tokenizer.chat_template, chat_template)
        vocabulary = vocabulary_of(tokenizer)
        derivation = Derivation.begin(
            source,
            tokenizer.special_tokens_map,
            kwargs=(chat_template_kwargs, response_kwargs),
            clock=clock,
            vocabulary=vocabulary,
        )
        scaffold = derivation.scaffold
        if strict:
            require_user_turn(scaffold)
        return cls._build(
            derivation,
            eos_ids=eos_ids_of(tokenizer, generation_config),
            special=special_texts(tokenizer),
            encoder=PromptEncoder(tokenizer, scaffold.pre_query, scaffold.user_header),
            policies=(system_policy, add_bos),
        )

    @classmethod
    def from_template(
        cls,
        template: str,
        special_tokens: Mapping[str, Any],
        *,
        chat_template_kwargs: Options | None = None,
        response_kwargs: Options | None = None,
        clock: Clock | None = None,
        system_policy: SystemPolicy = "error",
        add_bos: BosPolicy = "template",
    ) -> Self:
        """Derive from a template's text alone: texts and stop strings, but no token ids.

        A template without a user header, or without anything after the user's text, is described
        with the hazard `no_user_header` or `no_text_after_user`; `from_tokenizer` refuses it.

        Args:
            template: Jinja text.
            special_tokens: What the template may name, e.g. `{"bos_token": "<s>"}`; `None` is a
                token that is not set.
            chat_template_kwargs: As in `from_tokenizer`.
            response_kwargs: As in `from_tokenizer`.
            clock: As in `from_tokenizer`.
            system_policy: As in `from_tokenizer`.
            add_bos: As in `from_tokenizer`.

        Raises:
            ChatTemplateError: When the template cannot serve; see the code.
        """
        derivation = Derivation.begin(
            template,
            special_tokens,
            kwargs=(chat_template_kwargs, response_kwargs),
            clock=clock,
            vocabulary={},
        )
        return cls._build(
            derivation,
            eos_ids=set(),
            special={token for token in special_tokens.values() if isinstance(token, str)},
            encoder=None,
            policies=(system_policy, add_bos),
        )

    @classmethod
    def _build(
        cls,
        derivation: Derivation,
        *,
        eos_ids: set[int],
        special: set[str],
        encoder: PromptEncoder | None,
        policies: tuple[SystemPolicy, BosPolicy],
    ) -> Self:
        scaffold, vocabulary = derivation.scaffold, derivation.vocabulary
        system_policy, add_bos = policies
        _require_choice("system_policy", system_policy, _SYSTEM_POLICIES)
        _require_choice("add_bos", add_bos, get_args(BosPolicy))
        if add_bos == "always" and not derivation.bos_token:
            raise ChatTemplateError(
                "no_bos_token",
                'add_bos="always" needs a BOS token, and the tokenizer has none; use "template".',
            )
        user = user_stops(scaffold, vocabulary, eos_ids)
        assistant = assistant_stops(scaffold, vocabulary, eos_ids, derivation.marks)
        controls = control_tokens(scaffold, special)
        thoughts = thought_tokens(scaffold, derivation.marks)
        return cls(
            template_sha256=_sha256(scaffold.renderer.source),
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
            reasoning_marks=derivation.marks,
            opens_reasoning=derivation.opening,
            known_options=settable(scaffold.renderer),
            system_policy=system_policy,
            add_bos=add_bos,
            content_format=scaffold.renderer.content_format,
            hazards=derivation.hazards,
            _scaffold=scaffold,
            _responses=derivation.responses,
            _answered=derivation.answered,
            _bos_token=derivation.bos_token,
            _encoder=encoder,
            _endings=tuple({user.first.text, *user.strings, *controls} - {""}),
            _forbidden=_any_of(controls & set(vocabulary)),
            _forbidden_to_users=_any_of((controls | thoughts) & set(vocabulary)),
        )

    def pre_query_text(
        self,
        history: Sequence[Message] = (),
        system: str | None = None,
        *,
        form: Form = "rendered",
        system_policy: SystemPolicy | None = None,
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
                that begins with it; `prepend` it to the first user text ourselves. The template's
                own `system_policy` when `None`.

        Raises:
            ChatTemplateError: `system_merged`, `system_dropped`, `system_unsupported`,
                `multi_turn_unsupported`, `control_token_in_content`, `bad_messages`, or what the
                template raises.
        """
        _require_choice("form", form, get_args(Form))
        _require_choice("system_policy", system_policy or self.system_policy, _SYSTEM_POLICIES)
        messages, system = take_system(history, system)
        if messages and messages[-1].get("role") != "assistant":
            raise ChatTemplateError(
                "bad_messages",
                "A history must end with an assistant message, since a user's text comes next;"
                f" the last role is {messages[-1].get('role')!r}.",
            )
        if messages and not self._scaffold.multi_turn:
            raise ChatTemplateError(
                "multi_turn_unsupported",
                f"{self._scaffold.multi_turn_fault} Earlier turns cannot be rendered; generate one"
                " turn (n_turns=1).",
            )
        self._require_no_control_tokens(messages, system)
        policy = system_policy or self.system_policy
        messages, prefix = place_system(messages, system, self.system_mode, policy)
        text = split(self._scaffold.renderer, messages, prefix=prefix).before
        require_printed(text, messages)
        require_user_texts(text, messages)
        return self._with_bos(drop_preamble(self._scaffold, text) if form == "bare" else text)

    def pre_query_ids(
        self,
        history: Sequence[Message] = (),
        system: str | None = None,
        *,
        form: Form = "rendered",
        system_policy: SystemPolicy | None = None,
    ) -> PromptIds:
        """Return `pre_query_text` as token ids that end at a boundary the model knows.

        Arguments and errors are those of `pre_query_text`; moreover `no_tokenizer` and
        `boundary_merge`. First turns are remembered: calling it for every row is free.
        """
        key = (system, form, system_policy or self.system_policy)
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
        self, messages: Sequence[Message], *, system_policy: SystemPolicy | None = None
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
        _require_choice("system_policy", system_policy or self.system_policy, _SYSTEM_POLICIES)
        rest, system = take_system(messages, None)
        if not rest or rest[-1].get("role") != "user":
            raise ChatTemplateError(
                "bad_messages",
                "A response answers a user: messages must end with a user message, not with"
                f" {rest[-1].get('role') if rest else None!r}.",
            )
        policy = system_policy or self.system_policy
        if self.system_mode == "merged" and policy == "error":
            policy = "merge"
        self._require_no_control_tokens(rest, system)
        rest, _ = place_system(rest, system, self.system_mode, policy)
        text = self._responses.render(rest, add_generation_prompt=True)
        require_printed(text, rest)
        require_user_texts(text, rest, self._answered)
        return self._with_bos(text)

    def response_prompt_ids(
        self, messages: Sequence[Message], *, system_policy: SystemPolicy | None = None
    ) -> tuple[int, ...]:
        """Return `response_prompt_text` as token ids; arguments and errors are the same."""
        text = self.response_prompt_text(messages, system_policy=system_policy)
        return self._require_encoder().encode(text)

    def split_reasoning(self, text: str) -> Reasoned:
        """Take a response, as the engine wrote it, apart into thought and answer."""
        return split_reasoning(text, self.reasoning_marks, opened=self.opens_reasoning is not None)

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
            name: _as_json(value) for name, value in vars(self).items() if not name.startswith("_")
        }
        return {
            **values,
            "chat_template_kwargs": dict(renderer.kwargs),
            "response_kwargs": dict(self._responses.kwargs),
            "date": renderer.now.isoformat() if self.dated else None,
        }

    def _require_no_control_tokens(self, messages: Sequence[Message], system: str | None) -> None:
        """Refuse texts that would become control tokens, which ordinary text must never do."""
        for message in [{"role": "system", "content": system}, *messages]:
            # An assistant may have written its thought into its answer; nobody else has any.
            is_model = message.get("role") == "assistant"
            forbidden = self._forbidden if is_model else self._forbidden_to_users
            for key in ("content", *REASONING_FIELDS):
                text = message.get(key)
                match = forbidden.search(text) if isinstance(text, str) else None
                if match:
                    raise ChatTemplateError(
                        "control_token_in_content",
                        f"The text {text!r:.80} holds the control token {match.group()!r}, which"
                        " would end or open a turn or a thought. Drop the row, or take the token"
                        " out.",
                    )

    def _with_bos(self, text: str) -> str:
        """Return a prompt with or without the BOS token, as is asked for."""
        if self.add_bos == "template" or not self._bos_token:
            return text
        if not text.lstrip().startswith(self._bos_token):
            return text if self.add_bos == "never" else self._bos_token + text
        return text.replace(self._bos_token, "", 1) if self.add_bos == "never" else text

    def _require_encoder(self) -> PromptEncoder:
        if self._encoder is None:
            raise ChatTemplateError(
                "no_tokenizer",
                "This template was derived from text alone and has no token ids;"
                " use PreQueryTemplate.from_tokenizer.",
            )
        return self._encoder


def _sha256(source: str) -> str:
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def _any_of(tokens: set[str] | frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _require_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def _as_json(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value
