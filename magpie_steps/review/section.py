"""What does a dataset's card say about its review?"""

from collections.abc import Mapping, Sequence
from typing import Any

from magpie_steps.markup import code, plain, table

TITLE = "Human review"

_NOT_DEFINED = "not defined"


def review_section(review: Mapping[str, Any]) -> str:
    """Return what people found in Markdown, without a heading; "" if they judged nothing.

    Args:
        review: What ``review.json`` says, as `pull` wrote it.
    """
    if not review["rows"]:
        return ""
    people = "one person" if review["annotators"] == 1 else f"{review['annotators']:,} people"
    parts = [
        f"{review['rows']:,} rows were judged by {people}, {review['verdicts']:,} verdicts in all;"
        " who judged a row saw the machine's labels as suggestions. The configuration `reviewed`"
        " has these rows, with people's labels beside the machine's and `keep` as they decided;"
        " `reviewed_preference` the pairs that follow from their rankings.",
        _compared(review.get("compared", 0)),
        _of_filter(review["filter"]),
        _agreement(review["agreement"]),
        *(
            _confusion(column, found)
            for column, found in review["machine_against_people"].items()
            if found["rows"]
        ),
        _counted("issue that most reviewers of a row see", review["issues"]),
        _counted("ranking by people, blind", review["rankings"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _compared(rows: int) -> str:
    """Return what a verdict means where reviewers could not know the row's own answer."""
    if not rows:
        return ""
    return (
        f"In {rows:,} of the rows, answers were compared without telling which one is the row's:"
        " there, `keep` says that the question is good and at least one answer right, an issue is"
        " one of the question or of every answer, and `human_ranking` says which answer is best."
    )


def _of_filter(found: Mapping[str, Any]) -> str:
    """Return how often people confirm the filter."""
    lines = [
        ("kept by the filter", found["kept"], found["kept_confirmed"], found["precision"]),
        (
            "removed by the filter",
            found["removed"],
            found["removed_confirmed"],
            found["removed_rightly"],
        ),
    ]
    cells = [[name, f"{n:,}", f"{same:,}", _percent(share)] for name, n, same, share in lines]
    text = table(["", "rows", "people agree", "share"], cells, numbers=True)
    split = found["undecided"]
    return text + (f"\n\nOn {split:,} more, reviewers were split." if split else "")


def _agreement(found: Mapping[str, Any]) -> str:
    """Return how far reviewers agree with each other."""
    cells = [
        [code(question), f"{each['shared']:,}", each["scale"], _number(each["alpha"])]
        for question, each in found.items()
        if each["shared"]
    ]
    header = ["question", "judged by several", "scale", "Krippendorff's alpha"]
    return table(header, cells, numbers=True) if cells else ""


def _confusion(column: str, found: Mapping[str, Any]) -> str:
    """Return a machine's labels against those of people."""
    about = (
        f"{code(column)}: the same label in {_percent(found['equal'])} of {found['rows']:,} rows,"
        f" Cohen's kappa {_number(found['kappa'])}. Lines are the machine's labels, columns"
        " people's."
    )
    labels: Sequence[str] = found["labels"]
    cells = [
        [plain(label), *(f"{n:,}" for n in line)]
        for label, line in zip(labels, found["counts"], strict=True)
    ]
    return f"{about}\n\n{table(['', *map(plain, labels)], cells, numbers=True)}"


def _counted(title: str, counts: Mapping[str, int]) -> str:
    cells = [[plain(name), f"{n:,}"] for name, n in counts.items()]
    return table([title, "rows"], cells, numbers=True) if cells else ""


def _percent(share: float | None) -> str:
    return _NOT_DEFINED if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return _NOT_DEFINED if value is None else f"{value:.3f}"
