"""How does a conversation get its next turn?

Pre-query ids over the history, raw user turn, sanitised instruction, response. A turn that is not
accepted is tried again with another seed; each rejection is counted. A turn that could not be added
leaves the conversation as it was, with its finished turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from magpie_steps import reasons, seeds
from magpie_steps.conversation import Message, append_turn, join_texts, start
from magpie_steps.engines.base import PromptTooLongError
from magpie_steps.follow_ups import find_follow_up_fault, is_close, similarity
from magpie_steps.reasoning import recall
from magpie_steps.sanitize import sanitize_instruction
from magpie_steps.steps.answers import RESPONSE, CanComplete, Role, Written, respond
from magpie_steps.templates import ChatTemplateError, Form, PreQueryTemplate, PromptIds

INSTRUCTION = "instruction"
"""The role's name in seeds."""

_A_TURN = ({"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello!"})

MANY_TURNS = 4
"""Turns up to which models stay the user that they are asked to be; the paper's own multi-turn data
have two (section 3.3), Magpie Ultra three."""

FINAL = frozenset(
    {
        reasons.follow_up_reason("closing"),
        reasons.instruction_reason(reasons.PROMPT_TOO_LONG),
        reasons.response_reason(reasons.PROMPT_TOO_LONG),
        reasons.instruction_reason(reasons.BAD_MESSAGES),
        reasons.response_reason(reasons.BAD_MESSAGES),
    }
)
"""Reasons that another attempt would meet again, and the model's own wish to end."""


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """What all turns of a step have in common.

    Attributes:
        seed: The run's seed.
        response: How responses are sampled; with None there are none.
        max_attempts: Attempts at a turn, at least 1.
        multi_turn_prompt: What steers user turns after the first, besides the conversation's own
            system prompt; "" for nothing.
        include_system_prompt: Whether responses see what steers the user turns.
        min_chars: Characters of the shortest accepted instruction.
        max_chars: Characters of the longest accepted instruction.
        form: Which form of the pre-query template elicits user turns.
    """

    seed: int
    response: Role | None
    max_attempts: int
    multi_turn_prompt: str
    include_system_prompt: bool
    min_chars: int
    max_chars: int
    form: Form = "rendered"


@dataclass(slots=True)
class Draft:
    """A conversation in the making.

    Attributes:
        row: The row's number, which seeds it.
        instruction: How its user turns are sampled.
        system: What steers its user turns, "" for nothing.
        messages: The finished turns, without a system prompt and thoughts.
        thoughts: What was thought before each answer that was added, oldest first.
        response_system: The system prompt that responses see and the row's messages begin with.
        attempts: User turns that were generated.
        rejections: Why each rejected attempt was rejected.
        similarities: How similar each added follow-up is to what was said before it.
        related: Whether each added follow-up belongs to what was said before it.
        first: The first turn's last attempt.
        first_response: The response to it.
    """

    row: int
    instruction: Role
    system: str = ""
    messages: list[Message] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    response_system: str = ""
    attempts: int = 0
    rejections: list[str] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)
    related: list[bool] = field(default_factory=list)
    first: Written | None = None
    first_response: Written | None = None

    @property
    def turns(self) -> int:
        """Finished turns."""
        return len(self.messages) // 2

    @property
    def whole(self) -> list[Message]:
        """The conversation as its responses saw it."""
        return [*start(self.response_system), *self.messages]


class TurnWriter:
    """Adds turns to conversations, each from the conversation's number and history alone."""

    def __init__(self, engine: CanComplete, plan: TurnPlan) -> None:
        self._engine = engine
        self._plan = plan
        self._control_tokens = engine.template.control_tokens

    def later_system(self, system: str) -> str:
        """Return what steers user turns after the first one."""
        return join_texts(system, self._plan.multi_turn_prompt)

    def prompt(self, messages: Sequence[Message], system: str) -> PromptIds:
        """Return the prompt that ends where the next user's text begins."""
        template, form = self._engine.template, self._plan.form
        return template.pre_query_ids(messages, system or None, form=form)

    async def add(self, draft: Draft, first_prompt: PromptIds | None = None) -> str:
        """Add a turn to the draft; return "" or the last attempt's reason.

        Args:
            draft: The conversation; it changes only if the turn is accepted, but for its counts.
            first_prompt: The prompt of a first turn, which does not depend on the row.
        """
        try:
            history = recall(draft.messages, draft.thoughts)
            prompt = first_prompt or self.prompt(history, self.later_system(draft.system))
        except ChatTemplateError:
            # The template refuses these messages: a control token in a text, no later turns.
            return reasons.instruction_reason(reasons.BAD_MESSAGES)
        reason = ""
        for attempt in range(self._plan.max_attempts):
            draft.attempts += 1
            reason = await self._attempt(draft, prompt, attempt)
            if not reason:
                break
            draft.rejections.append(reason)
            if reason in FINAL:
                break
        return reason

    async def _attempt(self, draft: Draft, prompt: PromptIds, attempt: int) -> str:
        """Add a turn to the draft if it is accepted; return "" or why it is not."""
        turn, history = draft.turns, draft.messages
        written = await self._instruction(draft, prompt, turn, attempt)
        if turn == 0:
            draft.first, draft.first_response = written, None
        if written.reason:
            return reasons.instruction_reason(written.reason)
        fault = find_follow_up_fault(history, written.text) if turn else None
        if fault:
            return reasons.follow_up_reason(fault)
        messages = append_turn(history, written.text)
        if self._plan.response is not None:
            answer = await self._response(draft, messages, turn, attempt)
            if turn == 0:
                draft.first_response = answer
            if answer.reason:
                return reasons.response_reason(answer.reason)
            messages = append_turn(history, written.text, answer.text)
            draft.thoughts.append(answer.reasoning)
        if turn:
            similar = similarity(history, written.text)
            draft.similarities.append(similar)
            draft.related.append(is_close(similar, written.text))
        draft.messages = messages
        return ""

    async def answer_last(self, draft: Draft) -> str:
        """Answer a conversation that ends with the user; return "" or the last attempt's reason."""
        role = self._plan.response
        assert role is not None
        reason = ""
        for attempt in range(role.attempts(self._plan.max_attempts)):
            answer = await self._response(draft, draft.messages, draft.turns, attempt)
            if not answer.reason:
                reply = {"role": "assistant", "content": answer.text}
                draft.messages = [*draft.messages, reply]
                draft.thoughts.append(answer.reasoning)
                return ""
            reason = reasons.response_reason(answer.reason)
            draft.rejections.append(reason)
        return reason

    async def _response(
        self, draft: Draft, messages: Sequence[Message], turn: int, attempt: int
    ) -> Written:
        role = self._plan.response
        assert role is not None
        seed = seeds.call_seed(self._plan.seed, draft.row, RESPONSE, turn, attempt)
        told = recall([*start(draft.response_system), *messages], draft.thoughts)
        return await respond(self._engine, told, role, seed)

    async def _instruction(
        self, draft: Draft, prompt: PromptIds, turn: int, attempt: int
    ) -> Written:
        """Return a user turn after the draft's messages."""
        plan = self._plan
        seed = seeds.call_seed(plan.seed, draft.row, INSTRUCTION, turn, attempt)
        try:
            done = await self._engine.complete(
                prompt.ids, draft.instruction.sampling.with_seed(seed)
            )
        except PromptTooLongError:
            return Written("", reasons.PROMPT_TOO_LONG, seed)
        raw = self._engine.template.clean_query(done.text, prompt.healed_suffix)
        clean = sanitize_instruction(
            raw,
            finish_reason=done.finish_reason,
            control_tokens=self._control_tokens,
            min_chars=plan.min_chars,
            max_chars=plan.max_chars,
        )
        return Written(
            clean.text, clean.reason or "", seed, raw, done.finish_reason, done.completion_tokens
        )


def usable_multi_turn_prompt(
    template: PreQueryTemplate, text: str, n_turns: int, warn: Callable[[str], object]
) -> str:
    """Return what can steer later user turns; "" where there are none or the template cannot.

    Args:
        template: The model's template.
        text: What should steer them.
        n_turns: Turns that are asked for.
        warn: Takes a line of text about what will not be as asked for, or not be good.

    Raises:
        ChatTemplateError: If the template prints no earlier turns, so that none can follow them.
    """
    if n_turns == 1:
        return ""
    template.pre_query_text(_A_TURN)
    if n_turns > MANY_TURNS:
        warn(
            f"{n_turns} turns are many: above {MANY_TURNS}, models often forget that they are the"
            " user or repeat themselves; see conversation_end and follow_up_related"
        )
    if text and template.system_mode != "separate":
        warn(
            "the chat template has no place of its own for a system prompt"
            f" ({template.system_mode}), so nothing steers the user turns after the first"
        )
        return ""
    return text


def about_turns(draft: Draft, reason: str) -> dict[str, object]:
    """Return the columns about a conversation's turns; `reason` is the last turn's."""
    return {
        "turns": draft.turns,
        "conversation_end": reasons.conversation_end(reason),
        "follow_up_similarity": draft.similarities,
        "follow_up_related": draft.related,
    }
