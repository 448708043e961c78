"""A pipeline file with any mistake in it is a pipeline or one clear error, and runs nothing."""

import copy
import io
import runpy
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline
from fuzzing import fuzz, texts
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from magpie_steps.job.flags import run_asked_for
from magpie_steps.job.reproduction import pipeline_yaml
from magpie_steps.merging import pipelines

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[1]
Place = tuple[Any, ...]


def written() -> str:
    """What the main job writes."""
    job = runpy.run_path(str(ROOT / "pipelines" / "magpie_pro.py"))["JOB"]
    run = run_asked_for(job, "", ["--dry-run", "--num-rows", "20"])
    return pipeline_yaml(job.build(run), run.places)


@pytest.fixture(scope="module")
def content() -> Any:
    return yaml.safe_load(written())


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """The place of everything in a file."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def settings_of(content: Any) -> list[Place]:
    """The places of our steps' own settings, how they are named and connected aside."""
    return [
        ("pipeline", "steps", number, "step", *path)
        for number, each in enumerate(content["pipeline"]["steps"])
        for path in places(each["step"])
        if "type_info" not in path and path[0] not in ("name", "resources")
    ]


def changed(content: Any, path: Place, value: Any) -> Any:
    """A file with something else at a place."""
    copied = copy.deepcopy(content)
    holder = copied
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return copied


WRONG = st.sampled_from(
    (None, -1, 0, 10**30, float("nan"), float("inf"), True, "", [], {}, [None], {"x": 1}, "\x00")
) | st.deferred(lambda: texts)


@fuzz(60)
@given(data=st.data())
def test_any_setting_in_a_pipeline_file_is_taken_or_refused_in_one_error(
    content: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(settings_of(content)), label="place")
    mistaken = changed(content, path, data.draw(WRONG, label="value"))
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            loaded = Pipeline.from_dict(mistaken)
    except (ValidationError, DistilabelUserError, ValueError) as error:
        assert str(error)  # noqa: PT017
    else:
        assert list(loaded.dag)
    assert not said.getvalue()


def in_order(text: str) -> None:
    """Read a shard's pipeline as merging does."""
    pipelines.whole(text, 100)
    pipelines.step_named(text, "NeighbourDistance")


@fuzz(40)
@given(data=st.data())
def test_merging_refuses_what_is_no_pipeline(content: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(places(content))), label="place")
    mistaken = changed(content, path, data.draw(WRONG, label="value"))
    text = yaml.safe_dump(mistaken, allow_unicode=True)
    cut = data.draw(st.integers(0, len(text)), label="cut")
    for each in (text, text[:cut], text[cut:]):
        try:
            in_order(each)
        except ValueError as error:
            assert "a shard's pipeline.yaml is not what a run writes" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "text",
    ["[", "a: &a [*a]", "? [1, 2] : 3", "- " * 5000, "2020-99-99", "!!python/object:os.system {}"],
)
def test_merging_refuses_yaml_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not what a run writes"):
        in_order(text)
