"""How does one row come about?

One coroutine per row on one engine: the row draws its system prompt and its sampling from its
number, then gets its turns one by one. Nothing here knows about batches or distilabel, and no row
knows another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from magpie_steps import reasons, seeds
from magpie_steps.steps.answers import CanComplete, Role, Row, Written, response_columns
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.turns import Draft, TurnPlan, TurnWriter, about_turns
from magpie_steps.templates import Form, PreQueryTemplate

_USUAL: dict[str, object] = {
    "chat_template_kwargs": {},
    "response_kwargs": {},
    "system_policy": "error",
    "add_bos": "template",
    "form": "rendered",
}
"""What prompts are made with if nothing is set; ids of rows do not depend on it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all rows of a generator have in common.

    Attributes:
        names: The columns to write.
        turns: What all turns have in common.
        instructions: How user turns are sampled; each row draws one.
        instruction_weights: How often each is drawn, relative to the others.
        n_turns: Turns per row, at least 1.
        system_prompts: Texts by key; without any, and with an empty text, nothing steers a row.
        weights: How often each key is drawn, relative to the others, by key; 1 if not given.
    """

    names: Sequence[str]
    turns: TurnPlan
    instructions: Sequence[Role]
    instruction_weights: Sequence[float]
    n_turns: int
    system_prompts: Mapping[str, str]
    weights: Mapping[str, float]


class RowWriter:
    """Writes a generator's rows, each from its number alone."""

    def __init__(self, engine: CanComplete, plan: Plan, progress: Progress) -> None:
        self._plan = plan
        self._progress = progress
        self._writer = TurnWriter(engine, plan.turns)
        self._model = engine.model_name
        self._run_key = run_key(engine, plan)
        self._systems = dict(plan.system_prompts) or {"": ""}
        self._keys = list(self._systems)
        self._key_steps = list(accumulate(plan.weights.get(key, 1.0) for key in self._keys))
        self._role_steps = list(accumulate(plan.instruction_weights))
        # Rendering and tokenising cost more than all else here, and a first turn's prompt depends
        # on nothing but the system prompt.
        self._prompts = {key: self._writer.prompt([], text) for key, text in self._systems.items()}
        self._templates = {
            key: engine.template.pre_query_text((), text or None, form=plan.turns.form)
            for key, text in self._systems.items()
        }

    async def write(self, row: int) -> Row:
        """Return the row with this number, kept or dropped with its reason."""
        key, draft = self._start(row)
        reason = await self._writer.add(draft, self._prompts[key])
        for _ in range(self._plan.n_turns - 1):
            if reason:
                break
            reason = await self._writer.add(draft)
        return self._finish(key, draft, reason)

    def fail(self, row: int) -> Row:
        """Return the row with this number as one that the engine failed to write."""
        key, draft = self._start(row)
        return self._finish(key, draft, reasons.ENGINE_ERROR)

    def _start(self, row: int) -> tuple[str, Draft]:
        """Return the row's system prompt key and its conversation without turns."""
        plan, key, role = self._plan, self._keys[0], self._plan.instructions[0]
        if len(self._keys) > 1 or len(plan.instructions) > 1:
            chance = seeds.row_random(plan.turns.seed, row)
            if len(self._keys) > 1:
                key = chance.choices(self._keys, cum_weights=self._key_steps)[0]
            role = chance.choices(plan.instructions, cum_weights=self._role_steps)[0]
        system = self._systems[key]
        seen = ""
        if plan.turns.include_system_prompt:
            seen = self._writer.later_system(system) if plan.n_turns > 1 else system
        return key, Draft(row, role, system=system, response_system=seen)

    def _finish(self, key: str, draft: Draft, reason: str) -> Row:
        """Return the draft as a row; a dropped one has no texts but keeps its evidence.

        A row is dropped without a finished turn. Later, what ends a conversation leaves its turns.
        """
        plan = self._plan
        kept = not reason or draft.turns > 0
        first = draft.first or Written("", "", 0)
        instruction = first.text if kept else ""
        finished = {
            "uuid": seeds.row_uuid(self._run_key, draft.row),
            "row": draft.row,
            "model": self._model,
            "system_prompt_key": key,
            "instruction": instruction,
            "gen_input_configs": {
                **draft.instruction.columns,
                "pre_query_template": self._templates[key],
                "input_generator": self._model,
                "seed": first.seed,
            },
            "instruction_raw": first.raw,
            "instruction_finish_reason": first.finish_reason,
            "instruction_tokens": first.tokens,
            "instruction_attempts": draft.attempts,
            "instruction_rejections": draft.rejections,
            "instruction_length": len(instruction),
            "keep": kept,
            "drop_reason": "" if kept else reason,
        }
        if plan.turns.response is not None:
            answer = draft.first_response or Written("", "", 0)
            messages = draft.whole if kept else []
            finished |= response_columns(answer, messages, plan.turns.response, self._model)
            finished |= about_turns(draft, reason if kept else "")
            finished["follow_up_reasoning"] = plan.turns.response.told(draft.thoughts[1:])
        row = {name: finished[name] for name in plan.names}
        self._progress.count(row, draft.rejections)
        return row


def run_key(engine: CanComplete, plan: Plan) -> str:
    """Return what all the rows' content depends on, as a key for their ids."""
    turns = plan.turns
    return seeds.key_of(
        engine.fingerprint,
        engine.template.template_sha256,
        turns.seed,
        [role.sampling for role in plan.instructions],
        plan.instruction_weights,
        turns.response and turns.response.sampling,
        plan.n_turns,
        turns.max_attempts,
        turns.multi_turn_prompt,
        sorted(plan.system_prompts.items()),
        sorted(plan.weights.items()),
        turns.include_system_prompt,
        (turns.min_chars, turns.max_chars),
        *_prompting(engine.template, turns.form),
    )


def _prompting(template: PreQueryTemplate, form: Form) -> list[object]:
    """Return how prompts differ from those that the chat template makes when nothing is set."""
    given = {**template.to_dict(), "form": form}
    return [(name, given[name]) for name, usual in _USUAL.items() if given[name] != usual]
