"""How does a row get its labels from a model?

One coroutine per row on one engine. A row's questions are asked at once, so that an engine computes
the beginning that they share only once. A label that a model does not give is left empty with its
reason: that is no fault of the row's text, so the row stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from magpie_steps import reasons, seeds
from magpie_steps.conversation import USER, is_text
from magpie_steps.engines.base import Completion, Engine, Sampling, Structure, all_of
from magpie_steps.steps.answers import REFUSALS, Row, reason_of, row_number
from magpie_steps.steps.progress import Progress
from magpie_steps.tag_answers import TagAnswer, read_answer
from magpie_steps.tagging import FORMS, Tag, no_tags, tagging_messages

Failure = dict[str, str]


@dataclass(frozen=True, slots=True)
class TagPlan:
    """What all rows of a tagger have in common.

    Attributes:
        tags: The labels to ask for.
        sampling: How answers are sampled.
        seed: The run's seed.
        keep_failed_answers: Whether a row keeps the answers that give no label.
    """

    tags: tuple[Tag, ...]
    sampling: Sampling
    seed: int
    keep_failed_answers: bool


class TagWriter:
    """Writes labels to rows that have an instruction."""

    def __init__(self, engine: Engine, plan: TagPlan, progress: Progress) -> None:
        self._engine = engine
        self._plan = plan
        self._progress = progress
        self._samplings = {tag: sampling_of(tag, plan.sampling, engine) for tag in plan.tags}

    async def write(self, row: Row) -> Row:
        """Return the row with its labels; no model call is spent on a row that is not kept."""
        instruction, reason = instruction_of(row)
        if reason:
            return self.drop(row, reason)
        number = row_number(row, [{"role": USER, "content": instruction}])
        answers = await all_of(*(self._ask(tag, instruction, number) for tag in self._plan.tags))
        labels = {name: value for given, _ in answers for name, value in given.items()}
        new = [missing for _, missing in answers if missing]
        return self._finish({**row, **labels, "tag_failures": [*failures_of(row), *new]}, new)

    def drop(self, row: Row, reason: str) -> Row:
        """Return the row without labels and with the reason for each; none for a dropped row."""
        finished = untagged(row, self._plan.tags, reason)
        return self._finish(finished, finished["tag_failures"][len(failures_of(row)) :])

    def _finish(self, row: Row, failures: Sequence[Failure]) -> Row:
        count_labelled(self._progress, row, failures)
        return row

    async def _ask(
        self, tag: Tag, instruction: str, number: int
    ) -> tuple[dict[str, Any], Failure | None]:
        """Return a tag's columns, and why they are empty if they are."""
        form, engine, empty = FORMS[tag], self._engine, no_tags((tag,))
        seed = seeds.call_seed(self._plan.seed, number, tag, 0, 0)
        try:
            prompt_ids = engine.template.response_prompt_ids(tagging_messages(tag, instruction))
            done = await engine.complete(prompt_ids, self._samplings[tag].with_seed(seed))
        except REFUSALS as error:
            return empty, failure(tag, reason_of(error))
        answer = self._read(tag, done)
        if answer.reason:
            raw = done.text if self._plan.keep_failed_answers else ""
            return empty, failure(tag, answer.reason, raw)
        labels = {form.columns[key]: value for key, value in answer.values.items()}
        return {**labels, form.generator: engine.model_name}, None

    def _read(self, tag: Tag, done: Completion) -> TagAnswer:
        """Return what an answer says, without the thought before it."""
        cut = done.finish_reason == "length"
        # An engine that keeps to a schema leaves no room for a thought, even after a prompt that
        # opens one.
        if self._samplings[tag].structure:
            return read_answer(done.text, FORMS[tag], truncated=cut)
        said = self._engine.template.split_reasoning(done.text)
        return read_answer(said.answer, FORMS[tag], truncated=cut or not said.closed)


def sampling_of(tag: Tag, sampling: Sampling, engine: Engine) -> Sampling:
    """Return how a tag is asked for: with its schema if the engine keeps to one."""
    if "structure" not in engine.obeys:
        return sampling
    return replace(sampling, structure=Structure("json", FORMS[tag].schema()))


def instruction_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the text to judge, or "" and why there is none.

    It is the instruction, else the first user message.
    """
    if carried := reasons.carried_by(row):
        return "", carried
    text = row.get("instruction")
    if not is_text(text):
        text = _first_message(row.get("messages"))
    return (text, "") if is_text(text) else ("", reasons.NO_INSTRUCTION)


def untagged(row: Row, tags: Sequence[Tag], reason: str) -> Row:
    """Return the row with empty labels; a row that another step dropped has no failures of ours."""
    new = [] if row.get("keep") is False else [failure(tag, reason) for tag in tags]
    return {**row, **no_tags(tuple(tags)), "tag_failures": [*failures_of(row), *new]}


def count_labelled(progress: Progress, row: Row, failures: Sequence[Failure]) -> None:
    """Count a finished row: as kept if it has all its labels."""
    missing = [f"{each['tag']}_{each['reason']}" for each in failures]
    kept = row.get("keep") is not False and not missing
    progress.count({"keep": kept, "drop_reason": reasons.carried_by(row)}, missing)


def failure(tag: str, reason: str, raw: str = "") -> Failure:
    """Return what a row says of a label that it has not got."""
    return {"tag": tag, "reason": reason, "raw": raw}


def failures_of(row: Mapping[str, Any]) -> list[Failure]:
    """Return what other taggers could not give; [] for anything that is none of ours."""
    found = row.get("tag_failures")
    items = found if isinstance(found, list | tuple) else ()
    return [
        {name: _said(item.get(name)) for name in ("tag", "reason", "raw")}
        for item in items
        if isinstance(item, Mapping)
    ]


def _said(value: object) -> str:
    return value if is_text(value) else ""


def _first_message(messages: Any) -> str:
    for message in messages if isinstance(messages, list | tuple) else ():
        if isinstance(message, Mapping) and message.get("role") == USER:
            text = message.get("content")
            return text if isinstance(text, str) else ""
    return ""
