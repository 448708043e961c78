"""How do the records on the server become those that should be there?

Nothing is trusted but what the server tells afterwards: what is there is compared with what should
be there, the difference is sent, and this is repeated until there is none. So the same command
mends what an earlier one left undone.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magpie_steps.review.client import ServerAway
from magpie_steps.review.dataset import ReviewDataset
from magpie_steps.review.records import Record
from magpie_steps.review.settings import EMBEDDING, FINGERPRINT, RANKING
from magpie_steps.review.suggestions import Suggestion
from magpie_steps.review.vectors import Vectors

BATCH = 100
"""Records that are sent at once; the server takes at most 500."""

SAID_EVERY = 500
"""Records after which progress is said."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 0.0)
"""Seconds before the server is asked again when it failed; a restart takes about so long."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done.

    Attributes:
        records: Records that should be there and are.
        sent: How many of them had to be sent.
        kept_as_answered: Records that differ from what they should be and stay so, since somebody
            has answered them: an answer is about what was shown.
        others: Other records, which stay.
    """

    records: int
    sent: int
    kept_as_answered: int
    others: int


@dataclass(frozen=True, slots=True)
class _There:
    """A record on the server: its id there, what was sent, whether somebody has answered it."""

    id: str
    fingerprint: str
    answered: bool


def make_equal(
    dataset: ReviewDataset,
    wanted: Iterable[tuple[Record, Row]],
    vectors: Vectors,
    say: Callable[[str], object],
) -> Done:
    """Send what is missing or differs on the server, until nothing does.

    Args:
        dataset: The dataset.
        wanted: The records that should be there, each with its row; gone through several times.
        vectors: Their embeddings.
        say: Is told the progress, a line at a time.

    Raises:
        ServerAway: If the server keeps failing.
        ValueError: If it refuses a record.
    """
    work = _Work(dataset, wanted, vectors, say)
    failure: ServerAway | None = None
    for pause in PAUSES:
        try:
            if not work.send_difference():
                work.show_in_search()
                return work.done()
        except ServerAway as error:
            failure = error
            say(f"{error}; asking again")
            time.sleep(pause)
    raise failure or ServerAway(
        f"{dataset.name!r} has not got all records although they were sent {len(PAUSES)} times;"
        " see the server's log"
    )


class _Work:
    """The rounds of sending."""

    def __init__(
        self,
        dataset: ReviewDataset,
        wanted: Iterable[tuple[Record, Row]],
        vectors: Vectors,
        say: Callable[[str], object],
    ) -> None:
        self._dataset = dataset
        self._wanted = wanted
        self._vectors = vectors
        self._say = say
        self._sent: set[str] = set()
        self._there: dict[str, _There] = {}
        self._equal = self._answered = 0

    def send_difference(self) -> bool:
        """Send what is missing or differs; return whether there was anything."""
        self._there = dict(map(_there, self._dataset.records(["responses"])))
        self._equal = self._answered = 0
        batch: list[tuple[Record, Row]] = []
        before = len(self._sent)
        any_sent = False
        for record, row in self._wanted:
            if self._is_done(record):
                continue
            any_sent = True
            batch.append((record, row))
            if len(batch) == BATCH:
                self._send(batch)
                batch = []
        if batch:
            self._send(batch)
        if len(self._sent) > before:
            self._say(f"{len(self._sent):,} records sent")
        return any_sent

    def show_in_search(self) -> None:
        """Let the server index its records again if its search does not know them all.

        It fails to when its search engine is away while records are sent.
        """
        if self._dataset.progress()["total"] == len(self._there):
            return
        ids = [there.id for there in self._there.values()]
        self._say(f"the server's search does not know all of {len(ids):,} records; indexing again")
        for start in range(0, len(ids), BATCH):
            self._dataset.send([{"id": each} for each in ids[start : start + BATCH]])

    def done(self) -> Done:
        """Return what was done, after the last round."""
        ours = self._equal + self._answered
        return Done(ours, len(self._sent), self._answered, len(self._there) - ours)

    def _is_done(self, record: Record) -> bool:
        there = self._there.get(record.id)
        if there is None:
            return False
        equal = there.fingerprint == record.fingerprint
        self._equal += equal
        self._answered += there.answered and not equal
        return equal or there.answered

    def _send(self, batch: Sequence[tuple[Record, Row]]) -> None:
        # A suggestion that is gone would stay on a record that is only changed.
        outdated = [self._there[r.id].id for r, _ in batch if r.id in self._there]
        self._dataset.delete(outdated)
        embeddings = self._vectors.of([row for _, row in batch])
        self._dataset.send(
            [
                as_item(record, embedding, self._dataset.questions)
                for (record, _), embedding in zip(batch, embeddings, strict=True)
            ]
        )
        before = len(self._sent) // SAID_EVERY
        self._sent.update(record.id for record, _ in batch)
        if len(self._sent) // SAID_EVERY > before:
            self._say(f"{len(self._sent):,} records sent so far")


def as_item(
    record: Record, embedding: Sequence[float], questions: Mapping[str, str]
) -> dict[str, Any]:
    """Return a record as the server takes it.

    Args:
        record: The record.
        embedding: Its embedding, empty for none.
        questions: The server's ids of questions by name.
    """
    return {
        "external_id": record.id,
        "fields": dict(record.fields),
        "metadata": dict(record.metadata),
        "suggestions": [_suggestion(each, questions) for each in record.suggestions],
        "vectors": {EMBEDDING: list(embedding)} if embedding else {},
    }


def _suggestion(each: Suggestion, questions: Mapping[str, str]) -> dict[str, Any]:
    many = not isinstance(each.value, str)
    value: Any = each.value
    if each.question == RANKING:
        value = [{"value": name, "rank": place} for place, name in enumerate(each.value, 1)]
    elif many:
        value = list(each.value)
    found = {
        "question_id": questions[each.question],
        "value": value,
        "type": "model",
        "agent": each.agent,
    }
    if each.score is not None:
        found["score"] = list(each.score) if many else each.score[0]
    return found


def _there(item: Mapping[str, Any]) -> tuple[str, _There]:
    metadata = item.get("metadata") or {}
    answered = bool(item.get("responses"))
    there = _There(item["id"], metadata.get(FINGERPRINT.name, ""), answered)
    return item.get("external_id") or item["id"], there
