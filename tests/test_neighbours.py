"""Neighbours against brute force in float64, with what a run leaves in a folder."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_steps.neighbours import approximate, coarse, compare, exact, search, store
from magpie_steps.neighbours.approximate import find_approximately
from magpie_steps.neighbours.exact import find_neighbours
from magpie_steps.neighbours.pace import Pace
from magpie_steps.neighbours.vectors import UnitVectors
from magpie_steps.neighbours.verdicts import nothing_known

ROOT = Path(__file__).resolve().parents[1]
PAPER = 0.05
ARRAYS = ("distance", "count", "earliest")


@pytest.fixture
def small_blocks(monkeypatch):
    """Let few rows fill several blocks, with parts of blocks and groups left over."""
    monkeypatch.setattr(coarse, "BLOCK_ROWS", 64)
    monkeypatch.setattr(coarse, "GROUP_ROWS", 16)


def planted(rows, dim=64, seed=0, dtype=np.float32):
    """Return vectors of which a third copy others: exactly, nearly, or about threshold far."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, dim)).astype(dtype)
    for row in rng.choice(rows, rows // 3, replace=False):
        noise = rng.normal(size=dim) * rng.choice([0.0, 0.0, 0.01, 0.1, 0.2, 0.22, 0.23, 0.25])
        vectors[row] = vectors[rng.integers(rows)] + noise.astype(dtype)
    return vectors


def brute_force(vectors, threshold):
    """Return distance, near pairs and, of each row, the first of itself and those near it."""
    exactly = np.asarray(vectors, dtype=np.float64)
    unit = exactly / np.linalg.norm(exactly, axis=1, keepdims=True)
    distances = np.array([np.square(unit - row).sum(axis=1) for row in unit])
    np.fill_diagonal(distances, np.inf)
    near = distances < threshold
    first = [min([i, *np.flatnonzero(row)]) for i, row in enumerate(near)]
    return distances.min(axis=1), near, np.array(first)


def components(near):
    """Return the first row of each row's connected component."""
    first = np.full(len(near), -1)
    for start in range(len(near)):
        if first[start] < 0:
            waiting = [start]
            while waiting:
                row = waiting.pop()
                if first[row] < 0:
                    first[row] = start
                    waiting += np.flatnonzero(near[row]).tolist()
    return first


def check(found, vectors, threshold):
    distance, near, first = brute_force(vectors, threshold)
    count = near.sum(axis=1)
    assert found.count.tolist() == count.tolist()
    assert np.abs(found.distance - distance).max() < 1e-12
    assert (found.distance[distance == 0] == 0).all()
    expected = np.where(count > 0, first, -1)
    assert found.representative("earliest").tolist() == expected.tolist()
    expected = np.where(count > 0, components(near), -1)
    assert found.representative("cluster").tolist() == expected.tolist()
    assert found.recall is None


def same(one, other):
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=1e-14)
    for mode in ("earliest", "cluster"):
        assert one.representative(mode).tolist() == other.representative(mode).tolist()


# Exactly


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_five_thousand_rows_are_as_by_brute_force(dtype):
    vectors = planted(5000, dtype=dtype)
    found = find_neighbours(vectors, PAPER)
    assert 500 < (found.count > 0).sum() < 4000
    check(found, vectors, PAPER)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("threshold", [1e-6, PAPER, 1.0, 1.9, 2.0, 4.1, 100.0])
@pytest.mark.parametrize("rows", [3, 17, 64, 65, 200])
def test_every_size_and_threshold(small_blocks, monkeypatch, rows, threshold, dtype):
    monkeypatch.setattr(exact, "fastest_type", lambda device: dtype)
    vectors = planted(rows, dim=8, seed=rows)
    check(find_neighbours(vectors, threshold), vectors, threshold)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=2, max_size=12),
    st.sampled_from([0.05, 0.4, 1.0, 2.0, 3.5, 4.0, 5.0]),
)
def test_few_directions_with_many_ties(rows, threshold):
    """Whole numbers: distances such as 2 and 4 are met exactly, and near is strictly below."""
    vectors = np.array([row for row in rows if any(row)] + [[1, 0], [0, 1]], dtype=np.float32)
    distance, near, _ = brute_force(vectors, threshold)
    found = find_neighbours(vectors, threshold)
    assert found.count.tolist() == near.sum(axis=1).tolist()
    assert np.abs(found.distance - distance).max() < 1e-12


def test_near_is_strictly_below_the_threshold():
    square = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    assert find_neighbours(square, 2.0).count.tolist() == [0, 0, 0]
    assert find_neighbours(square, np.nextafter(2.0, 3)).count.tolist() == [1, 2, 1]
    assert find_neighbours(square, 4.0).count.tolist() == [1, 2, 1]
    assert find_neighbours(square, np.nextafter(4.0, 5)).count.tolist() == [2, 2, 2]


@pytest.mark.parametrize("near", [PAPER, PAPER * (1 - 1e-7), PAPER * (1 + 1e-7)])
def test_pairs_a_hair_from_the_threshold(near):
    """Far closer to it than any cheap number type can tell."""
    angle = 2 * np.arcsin(np.sqrt(near) / 2)
    rng = np.random.default_rng(1)
    vectors = np.zeros((600, 300))
    for pair in range(300):
        vectors[pair, pair] = 1
        turned = rng.permutation(300)[0]
        vectors[300 + pair, pair] = np.cos(angle)
        vectors[300 + pair, turned if turned != pair else pair - 1] = np.sin(angle)
    check(find_neighbours(vectors, PAPER), vectors, PAPER)


def test_length_does_not_count():
    vectors = planted(300)
    factors = np.random.default_rng(2).choice([1e-30, 0.5, 3.0, 1e18], size=(300, 1))
    longer = find_neighbours((vectors * factors).astype(np.float64), PAPER)
    assert longer.count.tolist() == find_neighbours(vectors, PAPER).count.tolist()
    extreme = np.array([[1e200, 1e200], [1e-200, 1e-200], [1.0, -1.0]])
    assert find_neighbours(extreme, PAPER).count.tolist() == [1, 1, 0]


def test_no_row_one_row_two_rows():
    empty = find_neighbours(np.empty((0, 5), dtype=np.float16), PAPER)
    assert (len(empty), empty.representative("cluster").tolist()) == (0, [])
    one = find_neighbours(np.ones((1, 5), dtype=np.float16), PAPER)
    assert np.isnan(one.distance).tolist() == [True]
    assert (one.count.tolist(), one.representative("earliest").tolist()) == ([0], [-1])
    far = find_neighbours(np.array([[1.0, 0.0], [-1.0, 0.0]]), PAPER)
    assert (far.distance.tolist(), far.count.tolist()) == ([4, 4], [0, 0])
    near = find_neighbours(np.array([[1.0, 0.0], [2.0, 0.0]]), PAPER)
    assert (near.distance.tolist(), near.count.tolist()) == ([0, 0], [1, 1])
    assert near.representative("earliest").tolist() == [0, 0]


MEMORY = """
import resource, sys
import numpy as np
from magpie_steps.neighbours.exact import find_neighbours

rng = np.random.default_rng(0)
rows = np.repeat(rng.normal(size=(1, 384)), 5000, axis=0)
rows += float(sys.argv[1]) * rng.normal(size=rows.shape)
find_neighbours(rows[:300].astype(np.float16), 0.05)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = find_neighbours(rows.astype(np.float16), 0.05)
assert set(found.count) == {4999}
assert (found.distance == 0).all() if sys.argv[1] == "0" else (found.distance > 0).all()
assert set(found.representative("earliest")) == set(found.representative("cluster")) == {0}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("noise", ["0", "0.01"])
def test_rows_that_are_all_the_same_take_no_memory_for_their_pairs(noise):
    """25 million pairs: as indices alone they would be 400 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, noise], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert float(done.stdout) < 250


def test_a_text_a_model_repeats_costs_no_more_than_once():
    """Identical rows are compared as one, and each still counts."""
    vectors = np.concatenate([np.ones((20_000, 8)), [[1, 1, 1, 1, 1, 1, 1, 1.1], [-1] * 8]])
    found = find_neighbours(vectors, PAPER)
    assert found.count.tolist() == [20_000] * 20_001 + [0]
    assert set(found.representative("earliest")[:-1]) == {0}
    grown = find_neighbours(np.concatenate([vectors, vectors[:3]]), PAPER, known=found)
    assert grown.count.tolist() == [20_003] * 20_001 + [0] + [20_003] * 3
    assert set(grown.representative("cluster")[-3:]) == {0}


def test_twins_have_distance_zero_among_rows_that_only_look_the_same():
    """In float64, dot products with rows one bit away are 1 as well."""
    row = np.random.default_rng(3).normal(size=64).astype(np.float32)
    rows = np.repeat(row[None], 40, axis=0)
    for i in range(38):
        rows[i, i] = np.nextafter(rows[i, i], np.float32(9))
    found = find_neighbours(rows, PAPER)
    assert found.distance[38:].tolist() == [0, 0]
    assert (found.distance[:38] > 0).all()
    assert found.count.tolist() == [39] * 40


@pytest.mark.parametrize("find", [find_neighbours, find_approximately])
def test_rows_without_a_direction_have_no_neighbours_and_are_none(find):
    vectors = planted(120)
    bad = {5: 0.0, 40: np.nan, 41: np.inf, 119: 0.0}
    good = np.setdiff1d(np.arange(120), list(bad))
    for row, value in bad.items():
        vectors[row] = 0.0
        vectors[row, 3] = value
    found = find(vectors, PAPER)
    assert found.unusable == 4
    assert np.flatnonzero(np.isnan(found.distance)).tolist() == sorted(bad)
    assert found.count[list(bad)].tolist() == [0] * 4
    assert found.representative("cluster")[list(bad)].tolist() == [-1] * 4
    alone = find_neighbours(vectors[good], PAPER)
    assert found.count[good].tolist() == alone.count.tolist()
    chosen = alone.representative("earliest")
    expected = np.where(chosen < 0, -1, good[chosen])
    assert found.representative("earliest")[good].tolist() == expected.tolist()


def test_only_rows_without_a_direction():
    found = find_neighbours(np.zeros((3, 4), dtype=np.float32), PAPER)
    assert found.unusable == 3
    assert np.isnan(found.distance).all()


@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((2, 2), dtype=np.int64)])
def test_what_is_no_table_of_floats_is_refused(rows):
    with pytest.raises(ValueError, match=f"{rows.dtype}.*float16, float32 or float64"):
        find_neighbours(rows, PAPER)


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("find", [find_neighbours, find_approximately])
def test_a_threshold_that_nothing_is_below_is_refused(find, threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}"):
        find(np.ones((2, 2)), threshold)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_cheap_products_are_within_their_margin(dtype):
    vectors = UnitVectors(planted(1500, dim=768))
    copy = coarse.copy_of(vectors, vectors.usable, dtype, "cpu")
    exactly = vectors.take(vectors.usable) @ vectors.take(vectors.usable).T
    dots = torch.mm(copy.rows, copy.rows.T)
    assert (copy.lower(dots).numpy() <= exactly).all()
    assert (copy.upper(dots).numpy() >= exactly).all()
    assert copy.margin < 0.01


def test_a_memory_map_is_read_as_it_is(tmp_path):
    vectors = planted(700, dtype=np.float16)
    path = tmp_path / "vectors.npy"
    np.save(path, vectors)
    same(find_neighbours(np.load(path, mmap_mode="r"), PAPER), find_neighbours(vectors, PAPER))


def test_progress_reaches_its_end(small_blocks):
    told = []
    find_neighbours(topics(200), PAPER, tell=lambda *parts: told.append(parts))
    assert told == [(1, 10), (3, 10), (6, 10), (10, 10)]  # four blocks, each with those before it


# Chains


@pytest.mark.parametrize(
    ("order", "earliest", "cluster"),
    [
        ((0, 1, 2), [0, 0, 1], [0, 0, 0]),
        ((1, 0, 2), [0, 0, 0], [0, 0, 0]),
        ((0, 2, 1), [0, 1, 0], [0, 0, 0]),
        ((0, 1, 2, 3), [0, 0, 1, 2], [0, 0, 0, 0]),
        ((0, 3, 1, 2), [0, 1, 0, 1], [0, 0, 0, 0]),
        ((0, 1, 5, 6, 9), [0, 0, 2, 2, -1], [0, 0, 2, 2, -1]),
    ],
)
def test_chains(order, earliest, cluster):
    """On a circle, where each number is near the next one only."""
    angles = np.array(order) * 0.2
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = find_neighbours(rows, PAPER)
    assert found.representative("earliest").tolist() == earliest
    assert found.representative("cluster").tolist() == cluster


def test_a_long_chain_is_one_cluster_in_any_order(small_blocks):
    angles = np.random.default_rng(4).permutation(300) * 0.02
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = find_neighbours(rows, 0.0005)
    assert set(found.count) == {1, 2}
    assert found.representative("cluster").tolist() == [0] * 300


@pytest.mark.parametrize("mode", ["earliest", "cluster"])
def test_of_a_near_pair_never_both_go(mode):
    """What stays: rows without a representative and those that are their own."""
    vectors = planted(2000)
    found = find_neighbours(vectors, PAPER)
    chosen = found.representative(mode)
    stays = (chosen < 0) | (chosen == np.arange(2000))
    _, near, _ = brute_force(vectors, PAPER)
    kept_in = defaultdict(int)
    for row, first in enumerate(components(near)):
        kept_in[first] += stays[row]
    assert min(kept_in.values()) >= 1
    if mode == "cluster":
        assert max(kept_in.values()) == 1
    assert not near[np.ix_(stays, stays)].any()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'first'; give one of earliest, cluster"):
        nothing_known(1).representative("first")


# What is new


@pytest.mark.parametrize(
    "cuts", [(0,), (1,), (100,), (299,), (300,), (16, 64, 65, 200), (150,) * 3]
)
def test_growing_gives_what_starting_again_gives(small_blocks, cuts):
    vectors = planted(300, dim=16)
    vectors[[3, 170]] = 0
    known = None
    for rows in (*cuts, 300):
        known = find_neighbours(vectors[:rows], PAPER, known=known)
    same(known, find_neighbours(vectors, PAPER))
    assert known.unusable == 2


def test_old_rows_are_not_compared_again(small_blocks, monkeypatch):
    vectors = planted(640, dim=32)
    known = find_neighbours(vectors[:576], PAPER)
    told = []
    find_neighbours(vectors, PAPER, known=known, tell=lambda *parts: told.append(parts))
    assert told[-1] == (10, 10)
    compared = []
    whole = search.Search.compare

    def counted(self, rows, members):
        compared.extend((row, member) for row in rows for member in members)
        whole(self, rows, members)

    monkeypatch.setattr(search.Search, "compare", counted)
    find_neighbours(vectors, PAPER, known=known)
    assert compared
    assert all(row >= 576 or member >= 576 for row, member in compared)


# Approximately


def topics(rows, dim=32, seed=0):
    """Return rows around centres, as texts are around topics, some of them nearly copies."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(rows // 50, dim))
    found = centres[rng.integers(len(centres), size=rows)] + 0.6 * rng.normal(size=(rows, dim))
    found[: rows // 10] = found[-(rows // 10) :] + 0.03 * rng.normal(size=(rows // 10, dim))
    return found.astype(np.float32)


def test_the_recall_is_what_an_exact_search_says():
    vectors = topics(4000)
    found = find_approximately(vectors, PAPER, probes=2)
    true = find_neighbours(vectors, PAPER)
    assert found.recall.rows == 1000
    nearest = np.isclose(found.distance, true.distance, atol=1e-9).mean()
    assert found.recall.nearest == pytest.approx(nearest, abs=0.05)
    assert found.recall.nearest < 1
    assert found.recall.near == pytest.approx(found.count.sum() / true.count.sum(), abs=0.05)
    assert found.recall.near > 0.95
    assert (found.count <= true.count).all()
    assert not (found.distance < true.distance - 1e-9).any()


def test_with_all_cells_it_is_exact():
    vectors = planted(1000)
    found = find_approximately(vectors, PAPER, probes=10**6)
    same(found, find_neighbours(vectors, PAPER))
    assert (found.recall.nearest, found.recall.near) == (1.0, 1.0)


def test_near_rows_have_no_limit():
    vectors = topics(3000)
    vectors[:1200] = vectors[0]
    found = find_approximately(vectors, PAPER)
    assert (found.count[:1200] >= 1199).all()
    assert set(found.representative("earliest")[:1200]) == {0}


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_few_rows_are_searched_too(rows):
    found = find_approximately(np.ones((rows, 4)), PAPER)
    assert found.count.tolist() == [max(rows - 1, 0)] * rows
    assert found.recall.rows == min(rows, 1)


def test_without_faiss_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(approximate, "has_faiss", lambda: False)
    with pytest.raises(ImportError, match=r'pip install "magpie-steps\[faiss\]"'):
        find_approximately(np.ones((2, 2)), PAPER)


# In a folder


class Letters:
    """Embeds texts by their letters, and remembers which it was given."""

    dim = 26

    def __init__(self):
        self.read = []

    def embed(self, texts):
        self.read += texts
        rows = [[text.count(chr(97 + i)) for i in range(26)] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, 26)


TEXTS = ["abc", "bcd", "abc", "xyz", "cab", "", "qqq", "xyz", "abcd", "hello", "world"]


def run(folder, texts, fingerprint="model", threshold=PAPER, batch_rows=3, above=1000, say=list):
    """Embed and compare in a folder; returns what was found and what was embedded."""
    made = store.VectorStore(folder, fingerprint, 26)
    letters = Letters()
    keys = store.embed_into(made, texts, letters.embed, batch_rows, lambda done, total: None)
    return compare.compare(made, keys, threshold, above, say), letters.read


def fresh(tmp_path, texts, **settings):
    return run(tmp_path / f"fresh-{len(list(tmp_path.iterdir()))}", texts, **settings)[0]


def test_a_text_that_comes_twice_is_embedded_once(tmp_path):
    found, read = run(tmp_path / "store", TEXTS)
    assert sorted(read) == sorted(set(TEXTS))
    assert found.distance[[0, 2, 3, 7]].tolist() == [0] * 4
    assert found.representative("earliest")[[0, 2, 4]].tolist() == [0, 0, 0]
    assert found.unusable == 1


@pytest.mark.parametrize("cut", range(len(TEXTS) + 1))
def test_a_grown_dataset_embeds_what_is_new_and_finds_the_same(tmp_path, cut):
    run(tmp_path / "store", TEXTS[:cut])
    found, read = run(tmp_path / "store", TEXTS)
    assert sorted(read) == sorted(set(TEXTS[cut:]) - set(TEXTS[:cut]))
    same(found, fresh(tmp_path, TEXTS))


def test_nothing_new_costs_no_comparison(tmp_path, monkeypatch):
    before, _ = run(tmp_path, TEXTS)
    monkeypatch.setattr(search.Search, "compare", None)
    after, read = run(tmp_path, TEXTS)
    assert read == []
    same(after, before)


@pytest.mark.parametrize(
    "texts",
    [TEXTS[::-1], ["new", *TEXTS], [*TEXTS[:4], "new", *TEXTS[5:]], TEXTS[:5], [], TEXTS[:3] * 2],
)
def test_changed_rows_are_embedded_and_compared_again(tmp_path, texts):
    run(tmp_path / "store", TEXTS)
    same(run(tmp_path / "store", texts)[0], fresh(tmp_path, texts))
    same(run(tmp_path / "store", TEXTS)[0], fresh(tmp_path, TEXTS))


def test_another_model_starts_again(tmp_path):
    run(tmp_path, TEXTS)
    _, read = run(tmp_path, TEXTS, fingerprint="other")
    assert sorted(read) == sorted(set(TEXTS))


def test_another_threshold_compares_again_and_embeds_nothing(tmp_path):
    run(tmp_path / "store", TEXTS)
    found, read = run(tmp_path / "store", TEXTS, threshold=0.5)
    assert read == []
    same(found, fresh(tmp_path, TEXTS, threshold=0.5))


FILES = (store.VECTORS, store.KEYS, store.ABOUT, store.RESULTS)


def torn(content):
    return content[: len(content) // 2 + 1]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [torn, flipped, lambda content: b"", None])
def test_a_damaged_folder_is_noticed_and_mended(tmp_path, name, damage):
    folder = tmp_path / "store"
    run(folder, TEXTS)
    path = folder / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    same(run(folder, [*TEXTS, "more"])[0], fresh(tmp_path, [*TEXTS, "more"]))


@pytest.mark.parametrize("extra", [store.VECTORS, store.KEYS])
def test_a_row_that_was_only_half_written_is_written_again(tmp_path, extra):
    run(tmp_path / "store", TEXTS)
    with (tmp_path / "store" / extra).open("ab") as file:
        file.write(b"half a row, half a key and more than that: " * 3)
    found, read = run(tmp_path / "store", [*TEXTS, "more"])
    assert read == ["more"]
    same(found, fresh(tmp_path, [*TEXTS, "more"]))


def test_embeddings_survive_a_kill_between_two_writes(tmp_path):
    letters = Letters()

    def embed(texts):
        if len(letters.read) >= 6:
            raise KeyboardInterrupt
        return letters.embed(texts)

    made = store.VectorStore(tmp_path / "store", "model", 26)
    with pytest.raises(KeyboardInterrupt):
        store.embed_into(made, sorted(set(TEXTS)), embed, 3, lambda done, total: None)
    found, read = run(tmp_path / "store", sorted(set(TEXTS)))
    assert not set(read) & set(letters.read)
    same(found, fresh(tmp_path, sorted(set(TEXTS))))


def test_damage_is_told(tmp_path, caplog):
    run(tmp_path, TEXTS)
    for name in (store.VECTORS, store.RESULTS):
        (tmp_path / name).write_bytes(torn((tmp_path / name).read_bytes()))
    (tmp_path / store.VECTORS).write_bytes(flipped((tmp_path / store.VECTORS).read_bytes()))
    run(tmp_path, TEXTS)
    assert "is damaged; going on from there" in caplog.text
    assert "all rows are compared again" in caplog.text
    assert "1 rows have no embedding" in caplog.text


def test_above_a_size_the_search_is_approximate_and_says_its_recall(tmp_path):
    said = []
    found, _ = run(tmp_path / "store", TEXTS, above=5, say=said.append)
    assert found.recall is not None
    assert any("approximate search: of 7 rows" in line for line in said)
    told = json.loads((tmp_path / "store" / store.SEARCH).read_text())
    assert told == {
        "rows": 11,
        "threshold": PAPER,
        "unusable_rows": 1,
        "recall": {"rows": 7, "nearest": found.recall.nearest, "near": found.recall.near},
    }
    assert not (tmp_path / "store" / store.RESULTS).exists()
    run(tmp_path / "store", TEXTS)
    assert json.loads((tmp_path / "store" / store.SEARCH).read_text())["recall"] is None


def test_without_faiss_all_rows_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "has_faiss", lambda: False)
    said = []
    found, _ = run(tmp_path / "store", TEXTS, above=5, say=said.append)
    assert found.recall is None
    assert any('pip install "magpie-steps[faiss]"' in line for line in said)


# How far


def test_pace_says_every_few_seconds_how_long_it_takes():
    now, said = [0.0], []
    pace = Pace("blocks", said.append, clock=lambda: now[0])
    for done in range(1, 101):
        now[0] += 1
        pace(done, 1000)
    assert len(said) == 20
    assert said[0] == "5/1,000 blocks, ETA 16 min 35 s"
