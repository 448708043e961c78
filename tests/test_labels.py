"""Levels are ordered by rank, never as texts."""

import itertools
import pickle

import pytest

from magpie_steps.labels import Category, Difficulty, Quality

ORDERS = {
    Difficulty: ["very easy", "easy", "medium", "hard", "very hard"],
    Quality: ["very poor", "poor", "average", "good", "excellent"],
}
PAIRS = [
    (scale, a, b) for scale, order in ORDERS.items() for a, b in itertools.product(order, order)
]


@pytest.mark.parametrize(("scale", "a", "b"), PAIRS)
def test_every_pair_compares_by_rank_as_level_and_as_text(scale, a, b):
    i, j = ORDERS[scale].index(a), ORDERS[scale].index(b)
    for left, right in ((scale(a), scale(b)), (scale(a), b), (a, scale(b))):
        assert (left >= right) is (i >= j)
        assert (left > right) is (i > j)
        assert (left <= right) is (i <= j)
        assert (left < right) is (i < j)
        assert (left == right) is (i == j)


def test_sorting_and_extremes_follow_the_scale():
    for scale, order in ORDERS.items():
        assert sorted(scale, reverse=True) == order[::-1]
        assert max(scale) == order[-1]
        assert [level.rank for level in scale] == [1, 2, 3, 4, 5]


def test_as_texts_the_order_would_be_another():
    """Magpie Ultra's published filter compares texts, which keeps "poor" for at least "good"."""
    assert "poor" >= "good"
    assert not Quality.POOR >= Quality.GOOD
    assert "average" < "good"
    assert "excellent" < "good"
    assert Quality.EXCELLENT >= Quality.GOOD


def test_what_is_no_level_is_refused_with_the_levels():
    with pytest.raises(
        ValueError, match="'Good' is no quality; the levels are, lowest first, very p"
    ):
        Quality.of("Good")
    with pytest.raises(ValueError, match="'' is no difficulty"):
        _ = Difficulty.EASY < ""
    with pytest.raises(TypeError, match="another scale than Quality"):
        _ = Quality.GOOD < Difficulty.EASY
    assert Quality.GOOD != Difficulty.EASY


def test_labels_are_their_texts_and_survive_pickling():
    assert str(Quality.VERY_POOR) == "very poor"
    assert pickle.loads(pickle.dumps(Difficulty.HARD)) is Difficulty.HARD
    assert {Quality.GOOD: 1}["good"] == 1
    assert len(Category) == 12
    assert Category("Coding & Debugging") is Category.CODING_DEBUGGING
