"""How does a row get several responses to one instruction?

All of them are asked for at once, so that an engine computes their prompt once; their seeds follow
one another, so that a server can be sent one request for all. A rejected one is left out and
counted, not tried again.
"""

from magpie_steps import reasons, seeds
from magpie_steps.steps.answers import (
    REFUSALS,
    CanComplete,
    Role,
    Row,
    Written,
    prompt_of,
    reason_of,
    respond_all,
    row_number,
)
from magpie_steps.steps.progress import Progress

RESPONSES = "responses"
"""The role's name in seeds: not that of a single response, which would be the first of these."""

LEAST_RESPONSES = 2
"""A preference is between two."""


class ResponsesWriter:
    """Writes several responses to rows that have an instruction or messages."""

    def __init__(
        self, engine: CanComplete, role: Role, seed: int, num_responses: int, progress: Progress
    ) -> None:
        self._engine = engine
        self._role = role
        self._seed = seed
        self._num_responses = num_responses
        self._progress = progress

    async def write(self, row: Row) -> Row:
        """Return the row with its responses; no model call is spent on a row that is not kept."""
        prompt, reason = prompt_of(row)
        if reason:
            return self.drop(row, reason)
        number = row_number(row, prompt)
        first = seeds.call_seed(self._seed, number, RESPONSES, 0, 0)
        drawn = [(first + i) % seeds.SEEDS for i in range(self._num_responses)]
        try:
            answers = await respond_all(self._engine, prompt, self._role, drawn)
        except REFUSALS as error:
            return self.drop(row, reasons.response_reason(reason_of(error)))
        enough = sum(not answer.reason for answer in answers) >= LEAST_RESPONSES
        return self._finish(row, answers, "" if enough else reasons.RESPONSES_TOO_FEW)

    def drop(self, row: Row, reason: str) -> Row:
        """Return the row without responses and with the reason."""
        return self._finish(row, [], reason)

    def _finish(self, row: Row, answers: list[Written], drop_reason: str) -> Row:
        """Return the finished row; a dropped one has no texts but keeps its rejections."""
        accepted = [answer for answer in answers if not answer.reason and not drop_reason]
        rejections = [reasons.response_reason(each.reason) for each in answers if each.reason]
        finished = {
            **row,
            "responses": [answer.text for answer in accepted],
            "responses_tokens": [answer.tokens for answer in accepted],
            "responses_rejections": rejections,
            "responses_reasoning": self._role.told(each.reasoning for each in accepted),
            "gen_responses_configs": {
                **self._role.columns,
                "seed": answers[0].seed if answers else 0,
                "output_generator": self._engine.model_name,
            },
            "keep": not drop_reason,
            "drop_reason": drop_reason,
        }
        self._progress.count(finished, rejections)
        return finished
