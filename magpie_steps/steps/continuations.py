"""How is a given conversation continued?

One coroutine per row on one engine. What is no conversation is dropped with its reason and costs no
model call; what cannot be continued keeps its finished turns and says why there are no more.
"""

from collections.abc import Mapping
from typing import Any

from magpie_steps import reasons
from magpie_steps.conversation import USER, Message, find_fault, is_text, take_system
from magpie_steps.steps.answers import CanComplete, Role, Row, row_number
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.turns import Draft, TurnPlan, TurnWriter, about_turns

MOST_ATTEMPTS = 2**31
"""No row had as many: a larger number in its place is not one of attempts."""


class ContinuationWriter:
    """Adds turns to rows that have messages."""

    def __init__(
        self,
        engine: CanComplete,
        plan: TurnPlan,
        instruction: Role,
        n_turns: int,
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._instruction = instruction
        self._n_turns = n_turns
        self._progress = progress
        self._writer = TurnWriter(engine, plan)
        self._config = {
            **instruction.columns,
            "seed": plan.seed,
            "continuation_generator": engine.model_name,
        }

    async def write(self, row: Row) -> Row:
        """Return the row with its conversation continued."""
        fault = reasons.carried_by(row) or find_fault(row.get("messages"))
        if fault:
            return self.drop(row, fault)
        draft = self._start(row, _plain(row))
        before = draft.turns
        reason = await self._continue(draft)
        if draft.turns == before and reason.endswith(reasons.BAD_MESSAGES):
            return self.drop(row, reasons.BAD_MESSAGES)
        return self._finish(row, draft, reason, "" if draft.turns else reason)

    def drop(self, row: Row, reason: str) -> Row:
        """Return the row without a continuation and with the reason."""
        draft = Draft(0, self._instruction)
        if not find_fault(row.get("messages")):
            draft = self._start(row, _plain(row))
        return self._finish(row, draft, "", reason)

    def _start(self, row: Row, messages: list[Message]) -> Draft:
        system, turns = take_system(messages)
        seen = self._writer.later_system(system) if self._plan.include_system_prompt else system
        return Draft(
            row_number(row, messages),
            self._instruction,
            system=system,
            messages=turns,
            response_system=seen,
        )

    async def _continue(self, draft: Draft) -> str:
        """Answer what waits for an answer and add the turns; return "" or why some are missing."""
        if draft.messages[-1]["role"] == USER:
            reason = await self._writer.answer_last(draft)
            if reason:
                draft.messages = draft.messages[:-1]
                return reason
        wanted = draft.turns + self._n_turns
        reason = ""
        while not reason and draft.turns < wanted:
            reason = await self._writer.add(draft)
        return reason

    def _finish(self, row: Row, draft: Draft, reason: str, drop_reason: str) -> Row:
        assert self._plan.response is not None
        finished = {
            **row,
            "messages": draft.whole,
            **about_turns(draft, reason),
            "follow_up_reasoning": self._plan.response.told(draft.thoughts),
            "gen_continuation_configs": self._config,
            "instruction_attempts": _attempts(row) + draft.attempts,
            "instruction_rejections": [*_rejections(row), *draft.rejections],
            "keep": not drop_reason,
            "drop_reason": drop_reason,
        }
        self._progress.count(finished, draft.rejections)
        return finished


def _attempts(row: Mapping[str, Any]) -> int:
    """Return how many user turns were generated before, 0 for anything that is no such number."""
    found = row.get("instruction_attempts")
    if not isinstance(found, int) or isinstance(found, bool):
        return 0
    return found if 0 <= found < MOST_ATTEMPTS else 0


def _rejections(row: Mapping[str, Any]) -> list[str]:
    """Return why user turns were rejected before, [] for anything that is no list of texts."""
    found = row.get("instruction_rejections")
    return [word for word in found if is_text(word)] if isinstance(found, list | tuple) else []


def _plain(row: Mapping[str, Any]) -> list[Message]:
    """Return a row's messages with role and text alone; datasets add keys of their own."""
    return [{"role": each["role"], "content": each["content"]} for each in row["messages"]]
