"""What is there to say about a run beside its rows?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from magpie_steps.effort import Effort
from magpie_steps.provenance import versions
from magpie_steps.recipes import Recipe


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """A model that took part.

    Attributes:
        role: What it did, such as "instructions and responses".
        name: Its hub id, or its folder's name.
        revision: Which version of it, "" if that is not known.
        writes: Whether text in the dataset is its own, so that its licence binds the dataset.
    """

    role: str
    name: str
    revision: str = ""
    writes: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What ``run.json`` and the card say about a run.

    Attributes:
        title: The dataset's name.
        model: The model that wrote the rows.
        settings: What was asked for; the same settings give the same rows.
        template: The pre-query template's text, as the chat template renders it.
        effort: What this run took.
        bare_template: The same without what the chat template writes on its own; "" if unknown.
        models: Every model that took part.
        system_prompts: How often each system prompt is drawn, relative to the others, and its text,
            by key; empty without system prompts.
        engines: What each of its engines reported.
        completions_of_all_runs: Model calls of all runs with this run's journal.
        remarks: What a reader of the card has to know first.
        versions: Versions by package name, by default those that are installed.
        license: The dataset's licence as a Hub identifier, "" for that of its models.
        generator: What wrote the folder, for the card.
        command: The command that makes the same rows; "" if there is none.
        pipeline: The pipeline in YAML, as distilabel reads it; "" to leave it out.
        shards: What each shard took, of a dataset that was joined from shards.
    """

    title: str
    model: str
    settings: Mapping[str, Any]
    template: str
    effort: Effort
    bare_template: str = ""
    models: Sequence[ModelUsed] = ()
    system_prompts: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    engines: Sequence[Mapping[str, Any]] = ()
    completions_of_all_runs: int = 0
    remarks: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=versions)
    license: str = ""
    generator: str = "magpie-steps"
    command: str = ""
    pipeline: str = ""
    shards: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Filtered:
    """What chose the kept rows.

    Attributes:
        recipe: The recipe.
        fails: Rows that each of its rules alone fails, by the rule's word.
    """

    recipe: Recipe
    fails: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration of the dataset, as its files are.

    Attributes:
        name: Its name; "default" is the one that opens without a name.
        folder: The folder of its files.
        use: What it is for, in Markdown.
        rows: Its rows.
        file_bytes: The size of its parquet files.
        data_bytes: The size of its rows in memory, about.
        schema: Its columns, a `pyarrow.Schema`.
    """

    name: str
    folder: str
    use: str
    rows: int
    file_bytes: int
    data_bytes: int
    schema: Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of the rows, in the repository.

    Attributes:
        file: Its path in the repository.
        caption: What it shows.
    """

    file: str
    caption: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a dataset's files hold.

    Attributes:
        configs: Its configurations, the default one first.
        names: The columns of the default configuration.
        sample: A row to show, None for none.
        filtered: What chose the kept rows, None if no recipe did.
        figures: Pictures of the rows.
        sections: More sections of the card, each in Markdown, by title.
    """

    configs: Sequence[Config]
    names: Sequence[str]
    sample: Mapping[str, Any] | None = None
    filtered: Filtered | None = None
    figures: Sequence[Figure] = ()
    sections: Mapping[str, str] = field(default_factory=dict)
