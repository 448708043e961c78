"""The map of instructions: every point is there, alike ones are near, tiny datasets work."""

import math

import numpy as np
import pytest

from magpie_steps.report import coverage as module
from magpie_steps.report.coverage import Cloud, coverage

COOKING = [f"How do I bake {what}?" for what in "bread cake pizza pie scones muffins".split()]
CODE = [f"Write a Python function that {what} a list." for what in "sorts sums zips".split()]


def places(cloud):
    return np.array([cloud.xs, cloud.ys]).T


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (2,), (3,), (4,), (0, 1), (1, 1), (2, 0, 1)])
def test_tiny_datasets_have_their_points(sizes):
    datasets = {str(number): COOKING[:size] for number, size in enumerate(sizes)}
    clouds = coverage(datasets)
    assert [(cloud.name, len(cloud.xs), len(cloud.ys)) for cloud in clouds] == [
        (name, len(texts), len(texts)) for name, texts in datasets.items()
    ]
    assert all(math.isfinite(value) for cloud in clouds for value in (*cloud.xs, *cloud.ys))


@pytest.mark.parametrize("texts", [["Hi?"] * 40, ["Hi?"] * 30 + ["Ho!"] * 10])
def test_equal_texts_share_a_place(texts):
    (cloud,) = coverage({"same": texts})
    assert len(set(zip(cloud.xs, cloud.ys, strict=True))) == len(set(texts))


def test_blank_texts_are_no_points():
    assert coverage({"blank": ["", " \n"]}) == [Cloud("blank", [], [])]


def test_alike_texts_are_near_whatever_dataset_they_are_from():
    first, second = coverage({"a": COOKING + CODE, "b": [f"{text} Please." for text in COOKING]})
    cooking, code = places(first)[: len(COOKING)], places(first)[len(COOKING) :]
    centre = places(second).mean(axis=0)
    near = np.linalg.norm(cooking.mean(axis=0) - centre)
    far = np.linalg.norm(code.mean(axis=0) - centre)
    assert near < far


def test_the_seed_decides_sample_and_map(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 6)
    one, two, other = (coverage({"a": COOKING + CODE}, seed=seed) for seed in (0, 0, 1))
    assert one == two
    assert one != other
    assert len(one[0].xs) == 6
