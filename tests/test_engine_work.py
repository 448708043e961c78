"""How a step keeps its engine busy, what it says of it, and what if the engine is gone."""

import itertools
import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distilabel.pipeline import Pipeline
from distilabel.steps.tasks import TextGeneration
from running_steps import LosesItsEngine, Numbers
from told_engine import CrowdedEngine, LostEngine, ToldEngine

from magpie_steps.engines.base import EngineLostError, EngineStats
from magpie_steps.engines.journal import Journal
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.running import PipelineRunError, run_pipeline
from magpie_steps.steps.base_response import BaseResponse
from magpie_steps.steps.continue_conversation import ContinueConversation
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.engine_work import Failures, window_for, work_of
from magpie_steps.steps.instruction import InstructionGenerator
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.response import GenerateResponse
from magpie_steps.steps.sample_responses import SampleResponses

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline"),
]

GENERATORS = [InstructionGenerator, ConversationGenerator]
TASKS = [GenerateResponse, SampleResponses, BaseResponse, ContinueConversation]
GONE = "the engine's process has ended"


def rows(count: int) -> list[dict[str, Any]]:
    """Rows that every task can work on."""
    return [
        {"instruction": f"{n}?", "messages": [{"role": "user", "content": f"{n}?"}], "row": n}
        for n in range(count)
    ]


def run(step: Any, given: int) -> list[dict[str, Any]]:
    """Run a generator, or a task on so many rows."""
    step.load()
    try:
        if type(step) in GENERATORS:
            return [row for batch, _ in step.process() for row in batch]
        (written,) = step.process(rows(given))
        return list(written)
    finally:
        step.unload()


def make(kind: Any, engine: Any, count: int, **fields: Any) -> Any:
    size = {"num_rows": count} if kind in GENERATORS else {}
    return kind(name="step", llm=engine, **size, **fields)


# Rows at once


@pytest.mark.parametrize(
    ("capacity", "window"), [(1, 8), (4, 32), (256, 2048), (1024, 4096), (4000, 8000)]
)
def test_several_times_as_many_rows_as_places_are_worked_on(capacity: int, window: int) -> None:
    engine = CrowdedEngine(places=capacity)
    assert window_for(None, engine) == window
    assert window_for(7, engine) == 7
    assert window_for(10_000, engine) == 10_000


@pytest.mark.parametrize(("places", "asked", "peak"), [(4, None, 32), (10, None, 80), (40, 3, 3)])
@pytest.mark.parametrize("kind", [*GENERATORS, GenerateResponse, ContinueConversation])
def test_steps_follow_their_engine_unless_told_otherwise(
    kind: Any, places: int, asked: int | None, peak: int
) -> None:
    engine = CrowdedEngine(places=places)
    assert len(run(make(kind, engine, 120, max_in_flight=asked), 120)) == 120
    assert engine.peak == peak
    assert engine.stats.capacity == places
    assert engine.stats.in_flight == 0


def test_an_engine_with_rows_to_spare_is_busy() -> None:
    """Thirty-two rows for 4 places: a place is taken again at once, but for the last few rows."""
    engine = CrowdedEngine(places=4)
    run(make(InstructionGenerator, engine, 200), 0)
    assert engine.stats.busy_share > 0.9


# What is said


def stats_of(**counts: Any) -> EngineStats:
    stats = EngineStats(capacity=4, clock=lambda: now[0])
    now = [100.0]
    for _ in range(counts.pop("entered", 0)):
        stats.enter()
    now[0] = 110.0
    for name, value in counts.items():
        setattr(stats, name, value)
    return stats


def test_a_line_says_tokens_requests_and_how_busy_the_engine_is() -> None:
    stats = stats_of(entered=3, completion_tokens=12_345, prompt_tokens=600)
    assert work_of(stats, 10.0) == [
        "1,234 tokens/s out",
        "60 in",
        "3 in flight",
        "engine 75% busy",
    ]


def test_a_line_says_what_is_cached_waits_or_was_sent_again_if_anything_was() -> None:
    stats = stats_of(entered=9, completion_tokens=50, prompt_tokens=600, cached_tokens=450)
    stats.retries = 2
    assert work_of(stats, 10.0) == [
        "5 tokens/s out",
        "60 in (75% cached)",
        "9 in flight (5 waiting)",
        "engine 100% busy",
        "2 retries",
    ]


def test_a_line_before_the_first_request_divides_by_nothing() -> None:
    assert work_of(EngineStats(), 1e-9) == [
        "0 tokens/s out",
        "0 in",
        "0 in flight",
        "engine 0% busy",
    ]


def test_a_progress_line_ends_with_the_engines_work() -> None:
    stats = stats_of(entered=6, completion_tokens=5_000, prompt_tokens=600, cached_tokens=60)
    stats.retries = 1
    now = [0.0]
    progress = Progress(8, work=partial(work_of, stats), clock=lambda: now[0])
    now[0] = 2.0
    progress.count({"keep": True})
    assert progress.line() == (
        "1/8 rows, kept 1, rejected attempts 0, 2,500 tokens/s out, 300 in (10% cached),"
        " 6 in flight (2 waiting), engine 100% busy, 1 retries, ETA 14 s"
    )


@pytest.mark.parametrize("kind", [InstructionGenerator, GenerateResponse])
def test_a_steps_progress_tells_of_its_engines_work(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A row is counted when it is done: 19 of 20 are then still on their way."""
    step = make(kind, CrowdedEngine(places=4), 60)
    step.load()
    step._writer._progress.every_seconds = 0.0
    with caplog.at_level(logging.INFO):
        written = list(step.process(rows(60)) if kind is GenerateResponse else step.process())
    step.unload()
    assert written
    lines = [r.message for r in caplog.records if " in flight" in r.message]
    assert len(lines) == 60
    assert any("31 in flight (27 waiting), engine " in line for line in lines)
    assert any(" tokens/s out, " in line and "% busy" in line for line in lines)


# A row's failure


def test_the_first_failure_is_told_in_full_and_the_others_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures(logging.getLogger("test"))
    for row in (3, 4, 5):
        failures.note(row, OSError("no memory"))
    assert failures.count == 3
    assert [r.message for r in caplog.records] == ["row 3 failed: OSError: no memory"]


def test_failures_are_told_anew_when_a_step_is_loaded_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = make(GenerateResponse, ScriptedEngine(failure_fraction=1.0), 0)
    for _ in range(2):
        assert {row["drop_reason"] for row in run(step, 3)} == {"engine_error"}
    told = [r.message for r in caplog.records if " failed: RuntimeError: the scripted" in r.message]
    assert len(told) == 2


# The engine is gone


def test_an_engine_that_is_gone_is_no_rows_failure() -> None:
    failures = Failures(logging.getLogger("test"))
    with pytest.raises(EngineLostError, match=GONE):
        failures.note(3, EngineLostError(GONE))
    assert failures.count == 0


@pytest.mark.parametrize("answers", [0, 50])
@pytest.mark.parametrize("kind", [*GENERATORS, *TASKS])
def test_a_step_ends_at_once_when_its_engine_is_gone(kind: Any, answers: int) -> None:
    """Each of 10,000 rows was tried, found the engine gone, and became an `engine_error` row."""
    engine = LostEngine(answers=answers)
    threads = threading.active_count()
    began = time.monotonic()
    with pytest.raises(EngineLostError, match=GONE):
        run(make(kind, engine, 10_000), 10_000)
    assert time.monotonic() - began < 10
    assert engine.stats.generated == answers
    assert 1 <= engine.stats.failed <= 5 * window_for(None, engine)  # up to 5 requests a row
    assert threading.active_count() == threads


def test_rows_that_were_written_before_are_handed_out() -> None:
    """A generator's batches before the one in which the engine was lost are on their way."""
    step = make(InstructionGenerator, LostEngine(answers=50), 10_000, batch_size=10)
    step.load()
    written: list[Any] = []
    with pytest.raises(EngineLostError, match=GONE):
        written.extend(step.process())
    step.unload()
    assert all(row["keep"] for batch, _ in written for row in batch)


def test_another_error_remains_its_rows_own() -> None:
    def script(prompt: str, sampling: Any) -> str:
        if "3?" in prompt:
            raise RuntimeError("this prompt only")
        return "Fine."

    written = run(make(GenerateResponse, ToldEngine(script=script), 0), 6)
    assert [row["drop_reason"] for row in written] == ["", "", "", "engine_error", "", ""]


def pipeline_of(*makers: Any) -> Pipeline:
    with Pipeline(name="lost") as pipeline:
        steps = [maker() for maker in makers]
        for before, after in itertools.pairwise(steps):
            before >> after
    return pipeline


def lose(pipeline: Pipeline, work_dir: Path, step: str) -> None:
    began = time.monotonic()
    with pytest.raises(PipelineRunError, match=rf"step '{step}' failed: .*{GONE}") as caught:
        run_pipeline(pipeline, work_dir=work_dir)
    assert caught.value.step == step
    assert "EngineLostError" in str(caught.value)
    assert "one after the other" not in str(caught.value)
    assert time.monotonic() - began < 60


def test_a_run_ends_with_one_error_when_a_generators_engine_is_gone(tmp_path: Path) -> None:
    """What was answered is in the journal: the next run asks for the rest only."""
    lost = pipeline_of(lambda: ConversationGenerator(llm=LostEngine(answers=30), num_rows=200))
    lose(lost, tmp_path, "conversation_generator_0")
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.counts()["completions"] == 30
    ((_, _, report),) = journal.reports()
    assert report["generated"] == 30
    assert report["failed"] >= 1
    journal.close()

    again = pipeline_of(lambda: ConversationGenerator(llm=ScriptedEngine(), num_rows=200))
    result = run_pipeline(again, work_dir=tmp_path, expected_rows=200)
    assert set(result.dataset["drop_reason"]) == {""}
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.counts()["completions"] == journal.counts()["generated"]
    report = journal.reports(after=1)[0][2]
    assert report["replayed"] == 30
    journal.close()


@pytest.mark.parametrize("kind", [GenerateResponse, SampleResponses])
def test_a_run_ends_with_one_error_when_a_tasks_engine_is_gone(tmp_path: Path, kind: Any) -> None:
    pipeline = pipeline_of(
        lambda: InstructionGenerator(llm=ScriptedEngine(), num_rows=2_000),
        lambda: kind(name="task", llm=LostEngine(answers=20), input_batch_size=100),
    )
    lose(pipeline, tmp_path, "task")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_stock_task_ends_the_run_too(tmp_path: Path) -> None:
    pipeline = pipeline_of(
        lambda: InstructionGenerator(llm=ScriptedEngine(), num_rows=200),
        lambda: TextGeneration(name="task", llm=LostEngine(answers=20), input_batch_size=50),
    )
    lose(pipeline, tmp_path, "task")


def test_a_step_that_is_retried_row_by_row_stops_at_the_row_that_finds_it_gone(
    tmp_path: Path,
) -> None:
    """The batch failed for another reason; the lost engine then counted as one row's failure."""
    pipeline = pipeline_of(lambda: Numbers(num_rows=10), lambda: LosesItsEngine(name="task"))
    lose(pipeline, tmp_path, "task")
