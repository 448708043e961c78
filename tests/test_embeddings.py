"""Whether a run's embeddings are published with the rows that they belong to."""

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from magpie_steps.embeddings import write_embeddings
from magpie_steps.neighbours.store import ABOUT, KEYS, VECTORS, VectorStore, embed_into
from magpie_steps.steps.neighbour_distance import NeighbourDistance

DIM = 4
TEXTS = ["one", "two", "three", "two", "five"]


def vector(text):
    return np.random.default_rng(list(text.encode())).normal(size=DIM).astype(np.float32)


def store(folder, texts=TEXTS, embed=vector):
    made = VectorStore(folder, "model", DIM)
    embed_into(made, texts, lambda part: np.array([embed(each) for each in part]), 1000, _silent)
    return folder


def _silent(done, of):
    pass


def rows(*texts):
    return [{"uuid": f"id-{i}", "instruction": text} for i, text in enumerate(texts)]


def read(folder):
    return pq.read_table(folder).to_pylist()


def test_every_row_has_the_embedding_of_its_instruction(tmp_path):
    left_out = write_embeddings(tmp_path / "out", rows(*TEXTS), store(tmp_path / "store"))
    assert left_out == 0
    expected = [
        {"uuid": f"id-{i}", "embedding": vector(text).astype(np.float16).tolist()}
        for i, text in enumerate(TEXTS)
    ]
    assert read(tmp_path / "out") == expected
    assert str(pq.read_schema(tmp_path / "out" / "train-00000-of-00001.parquet").field(1).type) == (
        f"fixed_size_list<element: halffloat>[{DIM}]"
    )


def test_the_order_of_the_rows_does_not_matter(tmp_path):
    texts = [f"text {i}" for i in range(3000)]
    folder = store(tmp_path / "store", texts)
    shuffled = [texts[i] for i in np.random.default_rng(0).permutation(3000)]
    assert write_embeddings(tmp_path / "out", iter(rows(*shuffled)), folder) == 0
    found = read(tmp_path / "out")
    assert [row["uuid"] for row in found] == [f"id-{i}" for i in range(3000)]
    np.testing.assert_array_equal(
        [row["embedding"] for row in found],
        [vector(text).astype(np.float16) for text in shuffled],
    )


@pytest.mark.parametrize("text", ["unknown", "", None, 3, "\ud800"])
def test_rows_without_an_embedding_are_left_out_and_counted(tmp_path, text):
    folder = store(tmp_path / "store")
    assert write_embeddings(tmp_path / "out", rows("one", text, "five"), folder) == 1
    assert [row["uuid"] for row in read(tmp_path / "out")] == ["id-0", "id-2"]


def test_a_damaged_embedding_is_left_out(tmp_path):
    folder = store(tmp_path / "store")
    content = bytearray((folder / VECTORS).read_bytes())
    content[2 * DIM * 2] ^= 0xFF  # in the third one
    (folder / VECTORS).write_bytes(content)
    assert write_embeddings(tmp_path / "out", rows(*TEXTS), folder) == 1
    assert [row["uuid"] for row in read(tmp_path / "out")] == ["id-0", "id-1", "id-3", "id-4"]


def test_an_embedding_that_is_no_number_is_left_out(tmp_path):
    folder = store(
        tmp_path / "store", embed=lambda text: vector(text) * (np.nan if text == "two" else 1)
    )
    assert write_embeddings(tmp_path / "out", rows(*TEXTS), folder) == 2


@pytest.mark.parametrize("cut", [1, 100])
def test_a_store_that_was_cut_short_gives_what_it_has(tmp_path, cut):
    folder = store(tmp_path / "store")
    whole = (folder / KEYS).read_bytes()
    (folder / KEYS).write_bytes(whole[: max(0, len(whole) - cut)])
    left_out = write_embeddings(tmp_path / "out", rows(*TEXTS), folder)
    assert left_out == (1 if cut == 1 else 2)


def test_no_row_is_no_file_and_takes_an_earlier_runs_away(tmp_path):
    folder = store(tmp_path / "store")
    write_embeddings(tmp_path / "out", rows("one"), folder)
    assert write_embeddings(tmp_path / "out", rows("unknown"), folder) == 1
    assert not (tmp_path / "out").exists()
    assert write_embeddings(tmp_path / "out", [], folder) == 0


def test_an_empty_store_has_no_embedding(tmp_path):
    VectorStore(tmp_path / "store", "model", DIM).open([])
    assert write_embeddings(tmp_path / "out", rows("one"), tmp_path / "store") == 1


def test_what_is_no_store_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no embeddings in .*give the store_dir"):
        write_embeddings(tmp_path / "out", rows("one"), tmp_path)
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(ValueError, match=r"says nothing of embeddings.*give the store_dir"):
        write_embeddings(tmp_path / "out", rows("one"), tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_store_of_the_step_opens_in_datasets(tmp_path):
    step = NeighbourDistance(name="step", store_dir=str(tmp_path / "store"))
    step.load()
    given = [*rows("Name a prime.", "Bake a cake!"), {"uuid": "gone", "instruction": ""}]
    list(step.process(given))
    expected = step.embedder.embed(["Name a prime.", "Bake a cake!"]).astype(np.float16)
    step.unload()
    assert write_embeddings(tmp_path / "out", given, tmp_path / "store") == 1
    loaded = datasets.load_dataset(
        *("parquet", None),
        data_files=str(tmp_path / "out" / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded.features["embedding"] == datasets.List(datasets.Value("float16"), length=384)
    np.testing.assert_allclose(loaded.with_format("numpy")["embedding"][:], expected, atol=1e-3)
