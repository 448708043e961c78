"""How rows become files: split as they should be, whole or not there at all."""

import os
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from magpie_steps import shards
from magpie_steps.shards import ShardWriter, remove_shards

TYPES = {"number": "int64", "text": "string"}


def rows(count, start=0):
    return [{"number": i, "text": f"row {i}"} for i in range(start, start + count)]


def write(folder, *parts, **options):
    write_all(folder, parts, **options)


def write_all(folder, parts, **options):
    """Write rows and lists of rows; the latter as a record batch each."""
    with ShardWriter(folder, TYPES, **options) as writer:
        for part in parts:
            if isinstance(part, dict):
                writer.write(part)
            else:
                writer.write_batch(pa.RecordBatch.from_pylist(part, writer_schema()))


def writer_schema():
    return shards.arrow_schema(TYPES)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def failing(given):
    """Yield rows one by one, then fail."""
    yield from given
    raise RuntimeError("no more rows")


def numbers(folder):
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return [n for table in tables for n in table.column("number").to_pylist()]


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 1000])
def test_rows_keep_their_order_whatever_their_number(tmp_path, count):
    write(tmp_path / "data", *rows(count))
    assert numbers(tmp_path / "data") == list(range(count))
    assert files(tmp_path) == ["data"]


def test_rows_and_batches_mix(tmp_path):
    write(tmp_path / "data", *rows(3), rows(300, start=3), *rows(2, start=303), [], rows(1, 305))
    assert numbers(tmp_path / "data") == list(range(306))


@pytest.mark.parametrize("batched", [False, True])
def test_files_and_groups_have_the_rows_that_they_should(tmp_path, monkeypatch, batched):
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 25)
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 10)
    write(tmp_path / "data", *([rows(60)] if batched else rows(60)))
    names = [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert files(tmp_path / "data") == names
    metadata = [pq.read_metadata(tmp_path / "data" / name) for name in names]
    groups = [[each.row_group(g).num_rows for g in range(each.num_row_groups)] for each in metadata]
    assert groups == [[10, 10, 5], [10, 10, 5], [10]]
    assert numbers(tmp_path / "data") == list(range(60))


def test_long_rows_make_smaller_groups_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BYTES_PER_GROUP", 40_000)
    monkeypatch.setattr(shards, "BYTES_PER_FILE", 100_000)
    monkeypatch.setattr(shards, "ROWS_PER_BATCH", 1)
    write(tmp_path / "data", *({"number": i, "text": "x" * 10_000} for i in range(30)))
    metadata = [pq.read_metadata(path) for path in sorted((tmp_path / "data").iterdir())]
    assert [each.num_rows for each in metadata] == [12, 12, 6]
    assert [each.num_row_groups for each in metadata] == [3, 3, 2]


def test_no_rows_make_a_file_only_if_asked_for(tmp_path):
    write(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    write(tmp_path / "empty", allow_empty=True)
    table = pq.read_table(tmp_path / "empty" / "train-00000-of-00001.parquet")
    assert (table.num_rows, table.schema) == (0, writer_schema())


def test_what_the_columns_do_not_name_is_left_out_and_what_a_row_lacks_is_null(tmp_path):
    write(tmp_path / "data", {"number": 1, "other": object()}, {"text": "only"})
    table = pq.read_table(tmp_path / "data")
    assert table.to_pylist() == [{"number": 1, "text": None}, {"number": None, "text": "only"}]


def test_several_are_open_at_once(tmp_path):
    with ExitStack() as stack:
        even = stack.enter_context(ShardWriter(tmp_path / "even", TYPES))
        odd = stack.enter_context(ShardWriter(tmp_path / "odd", writer_schema()))
        for row in rows(700):
            (odd if row["number"] % 2 else even).write(row)
        assert not (tmp_path / "even").exists()
    assert numbers(tmp_path / "even") == list(range(0, 700, 2))
    assert numbers(tmp_path / "odd") == list(range(1, 700, 2))
    assert files(tmp_path) == ["even", "odd"]


@pytest.mark.parametrize("written", [0, 1, 30])
def test_an_error_leaves_what_was_there(tmp_path, monkeypatch, written):
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 10)
    write(tmp_path / "data", *rows(5))
    with pytest.raises(RuntimeError, match="no more rows"):
        write_all(tmp_path / "data", failing(rows(written, start=100)))
    assert numbers(tmp_path / "data") == list(range(5))
    assert files(tmp_path) == ["data"]


@pytest.mark.parametrize("bad", ["text", "\ud800"])
def test_a_row_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, bad):
    row = {"number": bad, "text": ""} if bad == "text" else {"number": 1, "text": bad}
    with pytest.raises(ValueError, match=r".+"):
        write(tmp_path / "data", row)
    assert files(tmp_path) == []


def test_a_tilde_is_a_letter_like_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write(Path("~") / "data", *rows(3))
    assert numbers(tmp_path / "~" / "data") == [0, 1, 2]
    assert files(tmp_path) == ["~"]


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the path '.*x\\udcff' is not UTF-8"):
        write(tmp_path / os.fsdecode(b"x\xff"), *rows(3))
    assert files(tmp_path) == []


def test_a_later_run_replaces_files_and_leaves_others(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 2)
    write(tmp_path / "data", *rows(5))
    (tmp_path / "data" / "mine.parquet").touch()
    write(tmp_path / "data", *rows(2))
    assert files(tmp_path / "data") == ["mine.parquet", "train-00000-of-00001.parquet"]
    remove_shards(tmp_path / "data")
    assert files(tmp_path / "data") == ["mine.parquet"]


def test_files_are_written_for_the_hub(tmp_path):
    write(tmp_path / "data", *rows(3))
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    chunk = pq.read_metadata(path).row_group(0).column(1)
    assert chunk.compression == "ZSTD"
    assert chunk.has_offset_index
    assert chunk.has_column_index


def test_pages_that_a_new_version_repeats_are_the_same_bytes(tmp_path):
    """What is before and behind an added row must not be uploaded again."""
    texts = [{"number": i, "text": f"{i * 7919 % 10_007} " * 400} for i in range(8_000)]
    added = [*texts[:3_000], {"number": -1, "text": "new"}, *texts[3_000:]]
    write(tmp_path / "old", texts)
    write(tmp_path / "new", added)
    old, new = (
        (tmp_path / name / "train-00000-of-00001.parquet").read_bytes() for name in ("old", "new")
    )
    places = range(0, len(old) - 64, 4096)
    assert sum(old[at : at + 64] in new for at in places) > 0.75 * len(places)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"/run\.json is no JSON.*; run again$"):
        shards.read_json(tmp_path / "run.json", "run again")
