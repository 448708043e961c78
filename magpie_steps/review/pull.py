"""How do verdicts come back into the dataset?

Beside the other configurations, ``reviewed/`` gets the rows that people judged, with their labels
beside the machine's and `keep` as they decided; ``reviewed_preference/`` the pairs that follow from
their rankings; ``review.json`` what all that adds up to.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie_steps.column_types import ColumnType
from magpie_steps.columns import MESSAGES
from magpie_steps.conversation import ASSISTANT
from magpie_steps.exports import REVIEWED, REVIEWED_PREFERENCE
from magpie_steps.preference import first_prompt
from magpie_steps.repository import REVIEW, tell_review
from magpie_steps.review.answers import comparable
from magpie_steps.review.client import Server
from magpie_steps.review.dataset import ReviewDataset, open_dataset
from magpie_steps.review.records import conversation, shown
from magpie_steps.review.rows import Rows, json_object
from magpie_steps.review.tally import Tally
from magpie_steps.review.values import finite
from magpie_steps.review.verdicts import VERDICT_TYPES, Answered, Verdict, answered, verdict_of
from magpie_steps.shards import ShardWriter, arrow_schema, write_text

PREFERENCE_TYPES: Mapping[str, ColumnType] = {
    "uuid": "string",
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "chosen_from": "string",
    "rejected_from": "string",
    "chosen_rank": "float64",
    "rejected_rank": "float64",
    "annotators": "int64",
    "keep": "bool",
}
"""The columns of pairs that people chose: where both answers stand in the row, their mean ranks (1
is best), how many ranked them, and whether the row is to be kept."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came back.

    Attributes:
        review: What ``review.json`` says.
        pairs: Preference pairs written.
    """

    review: Mapping[str, Any]
    pairs: int

    def lines(self) -> list[tuple[str, str]]:
        """Return it as names and values for people."""
        review = self.review
        return [
            ("rows reviewed", f"{review['rows']:,}"),
            ("verdicts", f"{review['verdicts']:,}"),
            ("annotators", f"{review['annotators']:,}"),
            ("preference pairs", f"{self.pairs:,}"),
            *((f"left out: {reason}", f"{n:,}") for reason, n in review["left_out"].items()),
        ]


def pull(
    folder: Path,
    name: str,
    *,
    workspace: str | None = None,
    api_url: str | None = None,
    api_key: str | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Pulled:
    """Write the verdicts on a dataset's rows into its folder, in place of an earlier pull's.

    Args:
        folder: The run's output folder.
        name: The dataset's name in Argilla.
        workspace: Its workspace; None is the only one there is, else "default".
        api_url: The server's address; None is that of ARGILLA_API_URL.
        api_key: The key; None is that of ARGILLA_API_KEY.
        say: Is told the progress, a line at a time.

    Raises:
        ValueError: If there is no such dataset, the key is none, or verdicts that an earlier pull
            wrote are of another dataset or none of them would be left.
        OSError: If the folder cannot be read or written, or the server does not answer.
    """
    rows = Rows(folder)
    earlier = json_object(folder / REVIEW, "delete it and pull again")
    _check_earlier(folder, earlier, name)
    left_out: Counter[str] = Counter()
    with Server(api_url, api_key) as server:
        dataset = open_dataset(server, name, workspace)
        records = _with_answers(dataset, left_out)
        say(f"{len(records):,} of {dataset.count():,} records have verdicts")
    tally = Tally()
    pairs = _write(folder, rows, records, tally, left_out, keep=_judged_rows(earlier) > 0)
    review = {"dataset": name, **tally.as_dict(), "left_out": dict(left_out)}
    write_text(folder / REVIEW, json.dumps(review, indent=2, ensure_ascii=False) + "\n")
    tell_review(folder)
    return Pulled(review, pairs)


def _with_answers(dataset: ReviewDataset, left_out: Counter[str]) -> dict[str, Answered]:
    """Return the records that somebody submitted, by row."""
    found: dict[str, Answered] = {}
    for item in dataset.records(["responses"]):
        record = answered(item)
        left_out.update({"answers_discarded": record.discarded} if record.discarded else {})
        if record.answers:
            found[record.uuid] = record
    return found


def _write(
    folder: Path,
    rows: Rows,
    records: Mapping[str, Answered],
    tally: Tally,
    left_out: Counter[str],
    *,
    keep: bool,
) -> int:
    """Write reviewed rows and pairs; return the number of pairs.

    Nothing is written if there is nothing and `keep` says that something is there already.
    """
    everybody = sorted({who for record in records.values() for who in record.answers})
    names = {who: f"annotator-{number}" for number, who in enumerate(everybody, 1)}
    pairs = 0
    with ExitStack() as stack:
        reviewed = stack.enter_context(ShardWriter(folder / REVIEWED, _schema(rows.schema)))
        preferred = stack.enter_context(ShardWriter(folder / REVIEWED_PREFERENCE, PREFERENCE_TYPES))
        for row, verdict in _judged(rows, records, left_out):
            tally.add(row, verdict)
            written = {**row, **verdict.columns(row, names)}
            reviewed.write(written)
            if pair := human_pair(row, verdict):
                preferred.write({**pair, "keep": written["keep"]})
                pairs += 1
        if keep and not tally.rows:
            raise ValueError(
                f"none of the {len(records):,} records with verdicts is about a row of {folder},"
                " which has verdicts of an earlier pull: nothing was changed; see that folder and"
                f" dataset belong together, or delete {folder / REVIEW} to replace them"
            )
    return pairs


def _check_earlier(folder: Path, earlier: Mapping[str, Any], name: str) -> None:
    """Refuse to replace the verdicts of another dataset."""
    if _judged_rows(earlier) and earlier.get("dataset") != name:
        raise ValueError(
            f"{folder} has the verdicts of the dataset {earlier.get('dataset')!r}, not of {name!r}:"
            f" nothing was changed; give that name, or delete {folder / REVIEW} to replace them"
        )


def _judged_rows(review: Mapping[str, Any]) -> int:
    """Return how many judged rows ``review.json`` speaks of."""
    return int(finite(review.get("rows")) or 0)


def _judged(
    rows: Rows, records: Mapping[str, Answered], left_out: Counter[str]
) -> Iterator[tuple[Mapping[str, Any], Verdict]]:
    """Yield rows with their verdicts, each once; count those of other or of changed rows."""
    waiting = dict(records)
    for row in rows.chosen(records):
        record = waiting.pop(row["uuid"], None)
        if record is None:
            continue
        seen = shown(row, order=record.order)
        if isinstance(seen, str) or seen.key != record.key:
            left_out["row_changed_since"] += 1
        else:
            yield row, verdict_of(record)
    if waiting:
        left_out["not_in_the_dataset"] += len(waiting)


def human_pair(row: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """Return the pair of the best and the worst answer, {} if nobody ranked or all are equal."""
    ranks = verdict.mean_ranks
    best, worst = next(iter(ranks), ""), next(reversed(ranks), "")
    if not ranks or ranks[best] == ranks[worst]:
        return {}
    texts = comparable(row, conversation(row))
    return {
        "uuid": row["uuid"],
        "prompt": first_prompt(row)[0],
        "chosen": [{"role": ASSISTANT, "content": texts[best]}],
        "rejected": [{"role": ASSISTANT, "content": texts[worst]}],
        "chosen_from": best,
        "rejected_from": worst,
        "chosen_rank": ranks[best],
        "rejected_rank": ranks[worst],
        "annotators": len(verdict.ranks),
    }


def _schema(rows: Any) -> Any:
    """Return the rows' schema with the columns of reviews."""
    types: dict[str, ColumnType] = {"keep": "bool", "drop_reason": "string", **VERDICT_TYPES}
    for each in arrow_schema(types):
        place = rows.get_field_index(each.name)
        rows = rows.append(each) if place < 0 else rows.set(place, each)
    return rows
