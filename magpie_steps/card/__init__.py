"""What does a dataset's card say?"""

from collections.abc import Iterator, Sequence

from magpie_steps import columns
from magpie_steps.card import findings, origin
from magpie_steps.card.advice import CITATION, LIMITATIONS, OVERLAP
from magpie_steps.card.front_matter import front_matter
from magpie_steps.card.record import Config, Contents, RunRecord
from magpie_steps.column_types import type_text
from magpie_steps.markup import plain, table
from magpie_steps.summary import Summary


def card(summary: Summary, record: RunRecord, contents: Contents) -> str:
    """Return the dataset card: YAML front matter, then what the data are and how they came about.

    Args:
        summary: The rows' counts.
        record: What to say about the run.
        contents: What the files hold.
    """
    parts = [
        front_matter(summary, record, contents),
        f"# {plain(record.title)}",
        origin.introduction(summary, record),
        *(f"## {title}\n\n{text}" for title, text in _sections(summary, record, contents)),
    ]
    return "\n\n".join(parts) + "\n"


def _sections(summary: Summary, record: RunRecord, contents: Contents) -> Iterator[tuple[str, str]]:
    yield "How to load it", _usage(contents.configs)
    yield "How it was generated", origin.generation(summary, record)
    yield "Counts", findings.counts(summary)
    if contents.filtered:
        yield "How rows were chosen", origin.choice(contents.filtered)
    if contents.figures:
        yield findings.PICTURES, findings.pictures(contents.figures)
    yield from ((title, text) for title, text in contents.sections.items() if text)
    yield "What it took", findings.effort_of_run(summary, record.effort)
    yield "Columns", _glossary(contents.names)
    if contents.sample is not None:
        yield "A row", findings.example(contents.sample, contents.names)
    yield "Before you mix it with other data", OVERLAP
    yield "Limitations", LIMITATIONS
    yield "Licence", origin.licence(record)
    yield "How to make it again", origin.reproduction(record)
    yield "Citation", CITATION


def _usage(configs: Sequence[Config]) -> str:
    """Return a list that says how each configuration is loaded."""
    lines = [f"- `{_call(each)}`: {each.use}, {each.rows:,} rows" for each in configs]
    return "\n".join(["PATH is this repository's id or its folder.", "", *lines])


def _call(config: Config) -> str:
    name = "" if config.name == "default" else f', "{config.name}"'
    return f"load_dataset(PATH{name})"


def _glossary(names: Sequence[str]) -> str:
    described = map(columns.described, names)
    lines = [[f"`{c.name}`", f"`{type_text(c.type)}`", c.description] for c in described]
    return table(["column", "type", "what it holds"], lines)
