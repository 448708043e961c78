"""How does one row come about?

One coroutine per row on one engine: pre-query ids, raw user turn, sanitised instruction, response,
the next turn. A rejected turn is tried again with another seed; each rejection is counted. Nothing
here knows about batches or distilabel, and no row knows another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from magpie_steps import columns, seeds
from magpie_steps.conversation import Message, append_turn, start
from magpie_steps.engines.base import PromptTooLongError
from magpie_steps.sanitize import sanitize_instruction
from magpie_steps.steps.answers import (
    RESPONSE,
    CanComplete,
    Role,
    Row,
    Written,
    respond,
    response_columns,
)
from magpie_steps.steps.progress import Progress
from magpie_steps.templates import PromptIds

INSTRUCTION = "instruction"
"""The role's name in seeds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all rows of a generator have in common.

    Attributes:
        names: The columns to write.
        seed: The run's seed.
        instruction: How user turns are sampled.
        response: How responses are sampled; with None there are none.
        n_turns: Turns per row, at least 1.
        max_attempts: Attempts at a turn before the row is dropped, at least 1.
        system_prompts: Texts by key; without any, and with an empty text, nothing steers a row.
        weights: How often each key is drawn, relative to the others, by key; 1 if not given.
        include_system_prompt: Whether the response sees the system prompt and messages hold it.
        min_chars: Characters of the shortest accepted instruction.
        max_chars: Characters of the longest accepted instruction.
    """

    names: Sequence[str]
    seed: int
    instruction: Role
    response: Role | None
    n_turns: int
    max_attempts: int
    system_prompts: Mapping[str, str]
    weights: Mapping[str, float]
    include_system_prompt: bool
    min_chars: int
    max_chars: int


@dataclass(slots=True)
class _Draft:
    """A row in the making; the messages are without the system prompt."""

    row: int
    key: str
    system: str
    messages: list[Message] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)
    attempts: int = 0
    first: Written | None = None
    first_response: Written | None = None


class RowWriter:
    """Writes a generator's rows, each from its number alone."""

    def __init__(self, engine: CanComplete, plan: Plan, progress: Progress) -> None:
        self._engine = engine
        self._plan = plan
        self._progress = progress
        self._control_tokens = engine.template.control_tokens
        self._model = engine.model_name
        self._run_key = run_key(engine, plan)
        self._systems = dict(plan.system_prompts) or {"": ""}
        self._keys = list(self._systems)
        self._cumulative = list(accumulate(plan.weights.get(key, 1.0) for key in self._keys))
        # Rendering and tokenising cost more than all else here, and a first turn's prompt depends
        # on nothing but the system prompt.
        self._prompts = {key: self._prompt([], text) for key, text in self._systems.items()}
        self._configs = {key: self._config(text) for key, text in self._systems.items()}

    async def write(self, row: int) -> Row:
        """Return the row with this number, kept or dropped with its reason."""
        key = self._draw_key(row)
        draft = _Draft(row, key, self._systems[key])
        reason = ""
        for turn in range(self._plan.n_turns):
            reason = await self._turn(draft, turn)
            if reason:
                break
        finished = self._finish(draft, reason)
        self._progress.count(finished, draft.rejections)
        return finished

    def fail(self, row: int) -> Row:
        """Return the row with this number as one that the engine failed to write."""
        key = self._draw_key(row)
        finished = self._finish(_Draft(row, key, self._systems[key]), columns.ENGINE_ERROR)
        self._progress.count(finished)
        return finished

    async def _turn(self, draft: _Draft, turn: int) -> str:
        """Add a turn to the draft; return "" or the last attempt's reason."""
        reason = ""
        for attempt in range(self._plan.max_attempts):
            draft.attempts += 1
            reason = await self._attempt(draft, turn, attempt)
            if not reason:
                return ""
            draft.rejections.append(reason)
        return reason

    async def _attempt(self, draft: _Draft, turn: int, attempt: int) -> str:
        """Add a turn to the draft if it is accepted; return "" or why it is not."""
        written = await self._instruction(draft, turn, attempt)
        if turn == 0:
            draft.first = written
        if written.reason:
            return columns.instruction_reason(written.reason)
        messages = append_turn(draft.messages, written.text)
        if self._plan.response is not None:
            seed = seeds.call_seed(self._plan.seed, draft.row, RESPONSE, turn, attempt)
            system = draft.system if self._plan.include_system_prompt else ""
            answer = await respond(
                self._engine, [*start(system), *messages], self._plan.response, seed
            )
            if turn == 0:
                draft.first_response = answer
            if answer.reason:
                return columns.response_reason(answer.reason)
            messages = append_turn(draft.messages, written.text, answer.text)
        draft.messages = messages
        return ""

    async def _instruction(self, draft: _Draft, turn: int, attempt: int) -> Written:
        """Return a user turn after the draft's messages."""
        plan = self._plan
        seed = seeds.call_seed(plan.seed, draft.row, INSTRUCTION, turn, attempt)
        prompt = self._prompt(draft.messages, draft.system) if turn else self._prompts[draft.key]
        try:
            done = await self._engine.complete(
                prompt.ids, replace(plan.instruction.sampling, seed=seed)
            )
        except PromptTooLongError:
            return Written("", columns.PROMPT_TOO_LONG, seed)
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

    def _prompt(self, messages: Sequence[Message], system: str) -> PromptIds:
        return self._engine.template.pre_query_ids(messages, system or None)

    def _config(self, system: str) -> dict[str, Any]:
        """Return the part of gen_input_configs that rows with a system prompt share."""
        return {
            **self._plan.instruction.columns,
            "pre_query_template": self._engine.template.pre_query_text((), system or None),
            "input_generator": self._model,
        }

    def _draw_key(self, row: int) -> str:
        if len(self._keys) == 1:
            return self._keys[0]
        chance = seeds.row_random(self._plan.seed, row)
        return chance.choices(self._keys, cum_weights=self._cumulative)[0]

    def _finish(self, draft: _Draft, drop_reason: str) -> Row:
        """Return the draft as a row; a dropped one has no texts but keeps its evidence."""
        plan, kept = self._plan, not drop_reason
        first = draft.first or Written("", "", 0)
        instruction = first.text if kept else ""
        finished = {
            "uuid": seeds.row_uuid(self._run_key, draft.row),
            "row": draft.row,
            "model": self._model,
            "system_prompt_key": draft.key,
            "instruction": instruction,
            "gen_input_configs": {**self._configs[draft.key], "seed": first.seed},
            "instruction_raw": first.raw,
            "instruction_finish_reason": first.finish_reason,
            "instruction_tokens": first.tokens,
            "instruction_attempts": draft.attempts,
            "instruction_rejections": draft.rejections,
            "instruction_length": len(instruction),
            "keep": kept,
            "drop_reason": drop_reason,
        }
        if plan.response is not None:
            system = draft.system if plan.include_system_prompt else ""
            messages = [*start(system), *draft.messages] if kept else []
            answer = draft.first_response or Written("", "", 0)
            finished |= response_columns(answer, messages, plan.response, self._model)
        return {name: finished[name] for name in plan.names}


def run_key(engine: CanComplete, plan: Plan) -> str:
    """Return what all the rows' content depends on, as a key for their ids."""
    return seeds.key_of(
        engine.fingerprint,
        engine.template.template_sha256,
        plan.seed,
        plan.instruction.sampling,
        plan.response and plan.response.sampling,
        plan.n_turns,
        plan.max_attempts,
        sorted(plan.system_prompts.items()),
        sorted(plan.weights.items()),
        plan.include_system_prompt,
        (plan.min_chars, plan.max_chars),
    )
