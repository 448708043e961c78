"""Texts are counted once each, whether their hashes fit into memory or not."""

import random
import tempfile
import tracemalloc

import pytest

from magpie_steps.distinct import BUCKETS, ROWS_PER_BLOCK, DistinctTexts


def count_of(texts):
    with DistinctTexts() as distinct:
        for text in texts:
            distinct.add(text)
        return distinct.count()


@pytest.mark.parametrize("rows", [0, 1, 2000])
def test_few_texts_are_counted_without_a_file(rows, monkeypatch):
    monkeypatch.setattr("magpie_steps.distinct.TemporaryFile", None)
    assert count_of(f"text {number % 700}" for number in range(rows)) == min(rows, 700)


def test_texts_on_the_disk_are_counted_with_those_that_still_wait():
    """Each text comes twice, far apart: in blocks that are written, and in those that are not."""
    texts = [f"text {number}" for number in range(BUCKETS * ROWS_PER_BLOCK)]
    again = texts[:]
    random.Random(0).shuffle(again)
    assert count_of([*texts, *again, "new"]) == len(texts) + 1


def test_a_text_that_comes_again_and_again_is_one():
    assert count_of(["same"] * (3 * ROWS_PER_BLOCK + 5)) == 1


def test_empty_texts_and_halves_of_surrogate_pairs_are_texts():
    assert count_of(["", "\ud800", "\udfff", "\U00010000", "", "\ud800"]) == 4


def test_counting_again_gives_the_same():
    with DistinctTexts() as distinct:
        for number in range(5 * ROWS_PER_BLOCK):
            distinct.add(str(number % 4000))
        first = distinct.count()
        distinct.add("one more")
        assert (first, distinct.count()) == (4000, 4001)


def test_a_temporary_folder_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        count_of(["same"] * ROWS_PER_BLOCK)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts():
    """A set of as many numbers takes over 50 bytes for each: 40 MiB."""
    tracemalloc.start()
    try:
        assert count_of(str(number) for number in range(800_000)) == 800_000
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8 * 2**20
