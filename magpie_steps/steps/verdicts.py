"""How does a row get its verdict from a guard model?"""

from typing import Any

from magpie_steps import reasons, seeds
from magpie_steps.conversation import Message, append_turn, has_messages, is_text
from magpie_steps.engines.base import Engine, PromptTooLongError, Sampling
from magpie_steps.engines.conversation_encoder import PROBE
from magpie_steps.safety import Verdict, categories_in, read_verdict
from magpie_steps.steps.answers import Row, prompt_of, row_number
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.tags import count_labelled, failure, failures_of

SAFETY = "safety"
"""The verdict's name in seeds and failures."""


class VerdictWriter:
    """Writes a guard model's verdict to rows that have a conversation.

    Args:
        engine: The guard model's.
        sampling: How verdicts are sampled.
        seed: The run's seed.
        progress: Counts the rows.

    Raises:
        DistilabelUserError: The model has no chat template.
    """

    def __init__(self, engine: Engine, sampling: Sampling, seed: int, progress: Progress) -> None:
        self._engine = engine
        self._sampling = sampling
        self._seed = seed
        self._progress = progress
        self._names = categories_in(engine.encode_conversation(PROBE).text)

    async def write(self, row: Row) -> Row:
        """Return the row with its verdict; no model call is spent on a row that is not kept."""
        messages, reason = judged_messages(row)
        if reason:
            return self.drop(row, reason)
        encoded = self._engine.encode_conversation(messages)
        if encoded.reason:
            return self.drop(row, encoded.reason)
        seed = seeds.call_seed(self._seed, row_number(row, messages), SAFETY, 0, 0)
        try:
            done = await self._engine.complete(encoded.ids, self._sampling.with_seed(seed))
        except PromptTooLongError:
            return self.drop(row, reasons.PROMPT_TOO_LONG)
        return self._finish(row, read_verdict(done.text, self._names), done.text)

    def drop(self, row: Row, reason: str) -> Row:
        """Return the row without a verdict and with the reason; a dropped row has its own."""
        return self._finish(row, Verdict(False, reason=reason))

    def _finish(self, row: Row, verdict: Verdict, raw: str = "") -> Row:
        kept = row.get("keep") is not False
        new = [failure(SAFETY, verdict.reason)] if verdict.reason and kept else []
        count_labelled(self._progress, row, new)
        return {
            **row,
            "safe": verdict.safe,
            "unsafe_categories": list(verdict.categories),
            "guard_raw": raw,
            "guard_generator": self._engine.model_name if raw else "",
            "tag_failures": [*failures_of(row), *new],
        }


def judged_messages(row: Row) -> tuple[list[Message], str]:
    """Return the conversation to judge, or [] and why there is none.

    The row's messages count if it has any, else its instruction with its response.
    """
    prompt, reason = prompt_of(row)
    if reason:
        return [], reason
    if has_messages(row):
        messages: Any = row["messages"]
        return [{"role": each["role"], "content": each["content"]} for each in messages], ""
    response = row.get("response")
    if is_text(response):
        return append_turn([], prompt[-1]["content"], response), ""
    return prompt, ""
