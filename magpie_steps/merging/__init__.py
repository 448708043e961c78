"""How do the shards of a run become the dataset that the whole run would have written?"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from magpie_steps.effort import Effort
from magpie_steps.engines.embedder import Embedder
from magpie_steps.exports import EMBEDDINGS, EXPORTS
from magpie_steps.filtering.decisions import decide
from magpie_steps.merging import neighbours
from magpie_steps.merging.parts import Part, read_parts
from magpie_steps.merging.pipelines import step_named
from magpie_steps.merging.provenance import merged_record
from magpie_steps.merging.rows import MergedRows, check_rows, columns_of, join
from magpie_steps.neighbours.store import search_remark
from magpie_steps.recipes import Recipe, recipe_from_dict
from magpie_steps.repository import check_folder, write_repository
from magpie_steps.shards import shard_files
from magpie_steps.sources import check_outside
from magpie_steps.summary import Summary, summarise
from magpie_steps.supervision.folder_lock import locked


def merge(
    folders: Sequence[Path],
    output: Path,
    *,
    embedding_model: str = "",
    illustrated: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Summary, Effort]:
    """Join the output folders of a run's shards into that of the whole run.

    Rows come in the order of their numbers. What depends on all of them is found again: how near
    each instruction is to the others, and which rows the recipe keeps. Card, report and
    ``run.json`` tell of the whole. The rows are gone through in parts and never all in memory. A
    folder beside the output holds what is not finished; it goes away at the end.

    Args:
        folders: The output folders of the shards, all of them, in any order.
        output: Where to write; new, empty or an earlier run's or merge's.
        embedding_model: The model of the neighbours' distances, "" for the one that the shards
            name; only for one that is a folder, as the shards do not say where it is.
        illustrated: Whether to draw figures for the card and a report.
        say: Told what is done next.

    Returns:
        The counts of the rows, and what the shards took together.

    Raises:
        ValueError: If the folders are not all the shards of one run, or rows are missing.
        FileExistsError: If the output folder holds something else.
        OSError: If a file cannot be read or written.
        PipelineRunError: If another merge is writing there.
    """
    parts = read_parts(folders)
    check_folder(output)
    check_outside([file for part in parts for file in part.files], output)
    say(f"checking {parts[0].shard.all_rows:,} rows in {len(parts)} shards")
    check_rows(parts)
    names, record = columns_of(parts), merged_record(parts, output.name)
    scratch = output.with_name(f".{output.name}.merge")
    with locked(scratch):
        near = None
        if set(neighbours.NAMES) <= set(names):
            say("comparing the instructions of all shards")
            near = _nearness(parts, embedding_model, scratch, say)
        say("joining the rows")
        recipe = _recipe(parts[0])
        rows = _joined(parts, names, near, recipe, scratch / "rows")
        summary = summarise(rows)
        store = scratch / neighbours.EMBEDDINGS
        if remark := search_remark(store):
            record = replace(record, remarks=[*record.remarks, remark])
        say("writing the dataset")
        write_repository(
            output,
            rows,
            summary,
            record,
            [name for name in EXPORTS if _has(parts, name)],
            recipe,
            embeddings=store if near and _has(parts, EMBEDDINGS) else None,
            illustrated=illustrated,
        )
        shutil.rmtree(scratch)
    return summary, record.effort


def _joined(
    parts: Sequence[Part],
    names: Sequence[str],
    near: neighbours.Nearness | None,
    recipe: Recipe | None,
    folder: Path,
) -> MergedRows:
    """Write the rows of all shards to a folder, and return them as the recipe decides on them."""
    join(parts, names, near, folder)
    files = shard_files(folder)
    decisions = decide(files, recipe) if recipe else None
    return MergedRows(files, parts[0].shard.all_rows, decisions)


def _nearness(
    parts: Sequence[Part], embedding_model: str, folder: Path, say: Callable[[str], None]
) -> neighbours.Nearness:
    """Compare the instructions of all shards as their runs compared their own."""
    files = [file for part in parts for file in part.files]
    comparison = _comparison(parts[0].pipeline, embedding_model)
    return neighbours.nearness(files, comparison, folder, say)


def _comparison(pipeline: str, embedding_model: str) -> neighbours.Comparison:
    """Return how the shards compared their instructions."""
    settings = step_named(pipeline, "NeighbourDistance")
    try:
        # Code that comes with a model is not run because a file says so.
        embedder = {name: settings["embedder"][name] for name in ("model", "revision", "prefix")}
        embedder |= {"model": embedding_model} if embedding_model else {}
        fields = {name: settings[name] for name in ("threshold", "mode", "approximate_above")}
    except (KeyError, TypeError):
        raise ValueError(
            "the first shard's pipeline.yaml does not say how NeighbourDistance compared its rows;"
            " run that shard again"
        ) from None
    return neighbours.Comparison(Embedder(**embedder), **fields)


def _recipe(part: Part) -> Recipe | None:
    found = part.record.get("recipe")
    return recipe_from_dict(found) if found else None


def _has(parts: Sequence[Part], config: str) -> bool:
    return any(shard_files(part.folder / config) for part in parts)
