"""How does a sample of a dataset's rows come to Argilla?"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie_steps.recipes import recipe_from_dict
from magpie_steps.review.answers import comparable, is_uncompared, named
from magpie_steps.review.client import Server
from magpie_steps.review.dataset import create_dataset, find_dataset
from magpie_steps.review.records import Record, conversation, record
from magpie_steps.review.rows import Rows, run_record, system_prompts
from magpie_steps.review.sample import Chosen, Plan, choose
from magpie_steps.review.settings import Layout
from magpie_steps.review.sync import make_equal
from magpie_steps.review.values import REPEATED
from magpie_steps.review.vectors import Vectors
from magpie_steps.rules import NumberAbove, NumberAtLeast

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        url: Where the records are annotated.
        records: Records of the sample that are there now.
        sent: How many of them had to be sent.
        kept_as_answered: Records that differ from their rows and stay so, since somebody has
            answered them.
        others: Records of earlier samples, which stay too.
        uncompared: Records with several answers that are not compared, since their conversation has
            several turns.
        without_embedding: Rows whose embedding is missing or cannot be sent.
        left_out: Rows that cannot be reviewed, by reason.
    """

    url: str
    records: int
    sent: int
    kept_as_answered: int
    others: int
    uncompared: int
    without_embedding: int
    left_out: Mapping[str, int]

    def lines(self) -> list[tuple[str, str]]:
        """Return it as names and values for people."""
        return [
            ("records", f"{self.records:,}"),
            ("sent", f"{self.sent:,}"),
            *([("answered, left as they are", f"{n:,}")] if (n := self.kept_as_answered) else []),
            *([("of earlier pushes", f"{self.others:,}")] if self.others else []),
            *([("several turns, not compared", f"{n:,}")] if (n := self.uncompared) else []),
            *([("without an embedding", f"{n:,}")] if (n := self.without_embedding) else []),
            *((f"rows left out: {reason}", f"{n:,}") for reason, n in self.left_out.items()),
        ]


def push(
    folder: Path,
    name: str,
    sample: int,
    *,
    workspace: str | None = None,
    api_url: str | None = None,
    api_key: str | None = None,
    uncertain: float = 0.0,
    removed_share: float = 0.2,
    seed: int = 0,
    min_submitted: int | None = None,
    say: Say = lambda line: None,
) -> Pushed:
    """Send a sample of a dataset's rows to Argilla, or what is missing there.

    Args:
        folder: A run's output folder.
        name: The dataset's name in Argilla; made if there is none.
        sample: How many rows, at least 1; all if there are fewer.
        workspace: The workspace; None is the only one there is, else "default".
        api_url: The server's address; None is that of ARGILLA_API_URL.
        api_key: The key; None is that of ARGILLA_API_KEY.
        uncertain: Which part are rows that the machine is least sure of, 0 to 1.
        removed_share: Which part are rows that the filter removed, 0 to 1.
        seed: What the sample and the order of compared answers depend on.
        min_submitted: How many reviewers a record needs, at least 1; None is 1 for a new dataset
            and as it is for one that is there.
        say: Is told the progress, a line at a time.

    Raises:
        ValueError: If something cannot work: a setting, the key, the workspace, the dataset's
            settings, the folder's rows.
        OSError: If the folder cannot be read, or the server does not answer.
    """
    if min_submitted is not None and min_submitted < 1:
        raise ValueError(f"min_submitted is {min_submitted}; a record needs at least 1 reviewer")
    run = run_record(folder)
    plan = Plan(sample, removed_share, uncertain, seed, _threshold(run))
    prompts = system_prompts(run)
    rows = Rows(folder)
    with Server(api_url, api_key) as server:
        found = find_dataset(server, name, workspace)
        chosen = choose(rows.for_choice(), plan)
        if not chosen.uuids:
            raise ValueError(f"{folder} has no row to review among {chosen.rows:,}")
        say(f"{len(chosen.uuids):,} of {chosen.rows:,} rows are in the sample")
        wanted = _Sample(rows, chosen, seed, found.answers if found else 0, prompts)
        vectors = Vectors(folder, chosen.uuids)
        layout = Layout(wanted.answers, vectors.dimensions, min_submitted or 1)
        if found is None:
            found = create_dataset(server, name, workspace, layout)
        found.check(layout)
        if min_submitted is not None:
            found.set_min_submitted(min_submitted)
        done = make_equal(found, wanted, vectors, say)
        return Pushed(
            url=found.url,
            records=done.records,
            sent=done.sent,
            kept_as_answered=done.kept_as_answered,
            others=done.others,
            uncompared=wanted.uncompared,
            without_embedding=vectors.without,
            left_out=dict(wanted.left_out),
        )


class _Sample:
    """The rows that should be on the server, as records."""

    def __init__(
        self,
        rows: Rows,
        chosen: Chosen,
        seed: int,
        answers: int,
        prompts: Mapping[str, str],
    ) -> None:
        self.left_out: Counter[str] = Counter()
        self.uncompared = 0
        self._prompts = prompts
        self._rows = rows
        self._chosen = chosen
        self._seed = seed
        # An earlier sample may have had rows with more answers than these.
        self.answers = max(answers, *map(_answers_of, rows.chosen(chosen.uuids)))

    def __iter__(self) -> Iterator[tuple[Record, Mapping[str, Any]]]:
        """Yield the records, each with its row; count anew what is left out."""
        self.left_out = Counter(self._chosen.left_out)
        self.uncompared = 0
        seen: set[str] = set()
        for row in self._rows.chosen(self._chosen.uuids):
            made = REPEATED if row["uuid"] in seen else self._record(row)
            seen.add(row["uuid"])
            if isinstance(made, str):
                self.left_out[made] += 1
            else:
                self.uncompared += is_uncompared(row, conversation(row))
                yield made, row

    def _record(self, row: Mapping[str, Any]) -> Record | str:
        return record(row, self._seed, self.answers, self._prompts)


def _answers_of(row: Mapping[str, Any]) -> int:
    return len(named(comparable(row, conversation(row))))


def _threshold(run: Mapping[str, Any]) -> float | None:
    """Return the reward that a run's recipe asks for, None if it asks for none."""
    recipe = run.get("recipe")
    rules = recipe_from_dict(recipe).rules if recipe else ()
    bounds = [
        rule.bound
        for rule in rules
        if isinstance(rule, NumberAbove | NumberAtLeast) and rule.column == "instruct_reward"
    ]
    return bounds[0] if bounds else None
