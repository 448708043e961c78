"""How does a recipe filter a dataset that does not fit in memory?

The files are read twice: once the columns that the recipe needs, for the decisions, and once all
columns, to write the rows to where they belong.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from magpie_steps.filtering.decisions import decide
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.filtering.origins import holds_texts
from magpie_steps.recipes import Recipe
from magpie_steps.row_schemas import OURS, schema_of
from magpie_steps.selection import Counts
from magpie_steps.shards import ShardWriter


def filter_files(paths: Sequence[Path], recipe: Recipe, folder: Path) -> Counts:
    """Write the rows that a recipe keeps and those that it removes to two folders of parquet files.

    Rows keep their columns and their order. A removed row has its drop reason besides; in our own
    schema `keep` and `drop_reason` say what this recipe decides.

    Args:
        paths: The parquet files, in the rows' order.
        recipe: The recipe.
        folder: Where the folders ``filtered`` and ``removed`` go.

    Raises:
        ValueError: If the files have not the columns that the recipe needs.
        OSError: If a file cannot be read or written.
    """
    decisions = decide(paths, recipe)
    schema = schema_of_files(paths)
    ours = schema_of(schema.names) is OURS
    marked = ours and pa.types.is_boolean(schema.field("keep").type)
    texts = pa.array(decisions.reasons)
    first = 0
    with (
        ShardWriter(folder / "filtered", schema) as kept,
        ShardWriter(folder / "removed", _with_reason(schema)) as removed,
    ):
        for batch in batches(paths):
            codes = decisions.codes[first : first + len(batch)]
            first += len(batch)
            kept.write_batch(_kept(batch.filter(pa.array(codes == 0)), marked=marked))
            gone = batch.filter(pa.array(codes != 0))
            removed.write_batch(
                _removed(gone, texts.take(pa.array(codes[codes != 0])), marked=marked)
            )
    return decisions.counts


def _kept(batch: Any, *, marked: bool) -> Any:
    """Return kept rows; if they are marked, as kept: another recipe may have removed them."""
    if not marked:
        return batch
    changed = {"keep": pa.array(np.ones(len(batch), bool))}
    kind = batch.schema.field("drop_reason").type
    if holds_texts(kind):
        changed["drop_reason"] = pa.array([""] * len(batch), kind)
    return _changed(batch, changed, batch.schema)


def _with_reason(schema: Any) -> Any:
    place = schema.get_field_index("drop_reason")
    reason = pa.field("drop_reason", pa.string())
    return schema.append(reason) if place < 0 else schema.set(place, reason)


def _removed(batch: Any, drop_reasons: Any, *, marked: bool) -> Any:
    """Return removed rows with their drop reasons, and if they are marked, marked as not kept."""
    changed = {"drop_reason": drop_reasons}
    if marked:
        changed["keep"] = pa.array(np.zeros(len(batch), bool))
    return _changed(batch, changed, _with_reason(batch.schema))


def _changed(batch: Any, changed: dict[str, Any], schema: Any) -> Any:
    """Return a batch with some columns replaced or added, in a schema's order."""
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True)) | changed
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)
