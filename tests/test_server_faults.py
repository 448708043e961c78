"""Whatever a server does, a row gets its answer or a reason, and a broken server ends the run."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from completions_server import CompletionsServer, Habits, running
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline
from troubled_answers import ALWAYS, OF_ONE_ROW, ONCE, PAGE, Trouble, resets, says

from magpie_steps import CompletionsEngine, GenerateResponse, InstructionGenerator, run_pipeline
from magpie_steps.embedded import model_path
from magpie_steps.engines import http_client
from magpie_steps.engines.base import Completion, EngineLostError, Sampling
from magpie_steps.engines.http_engine import MOST_FAILURES
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.running import PipelineRunError

MODEL = str(model_path("tiny-instruct"))
POISON = "verbena"
ROWS = [
    {"instruction": text, "row": number}
    for number, text in enumerate(["Name a color.", f"What is a {POISON}?", "What is 2 + 3?"])
]
SHORT = {"max_new_tokens": 24}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline"),
]


@pytest.fixture(scope="module")
def served(behind: TransformersEngine) -> Iterator[CompletionsServer]:
    with running(behind) as server:
        yield server


@pytest.fixture(scope="module")
def step(served: CompletionsServer) -> Iterator[GenerateResponse]:
    """A step on the server, loaded while all was well."""
    engine = CompletionsEngine(
        model=MODEL, base_urls=[served.url], max_retries=2, timeout_seconds=0.7
    )
    built = GenerateResponse(name="step", llm=engine, response_sampling=SHORT)
    slow, engine.timeout_seconds = engine.timeout_seconds, 60.0
    built.load()
    assert engine._client is not None
    engine._client.timeout_seconds = engine.timeout_seconds = slow
    yield built
    built.unload()


@pytest.fixture(autouse=True)
def sound(
    step: GenerateResponse, served: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Begin each test with a server that is well and has no failures behind it."""
    monkeypatch.setattr(http_client, "FIRST_WAIT_SECONDS", 0.01)
    step.llm._failures = 0
    yield
    served.habits = Habits()


def patient(step: GenerateResponse) -> None:
    """Give answers all the time that they may need on a busy machine."""
    step.llm._client.timeout_seconds = 60.0


def impatient(step: GenerateResponse) -> None:
    step.llm._client.timeout_seconds = 0.7


@pytest.fixture(scope="module")
def undisturbed(step: GenerateResponse) -> list[dict[str, Any]]:
    patient(step)
    rows = next(iter(step.process(ROWS)))
    assert all(row["response_finish_reason"] for row in rows)
    return list(rows)


def ask(step: GenerateResponse, seeds: range) -> list[Completion | BaseException]:
    """Ask for some short completions at once; return them or their errors."""
    engine = step.llm
    prompt = engine.template.response_prompt_ids([{"role": "user", "content": "Hi?"}])

    async def all_of_them() -> list[Any]:
        wanted = (Sampling(max_new_tokens=2, temperature=1.0, seed=seed) for seed in seeds)
        return await asyncio.gather(
            *(engine.complete(prompt, each) for each in wanted), return_exceptions=True
        )

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("name", ONCE)
def test_a_fault_that_passes_is_not_noticed(
    step: GenerateResponse, served: CompletionsServer, name: str
) -> None:
    quick = name in ("silence", "drip")
    (impatient if quick else patient)(step)
    seed = 1000 + list(ONCE).index(name)
    before = step.llm.stats.retries
    served.habits.troubles = [ONCE[name]]
    (found,) = ask(step, range(seed, seed + 1))
    assert isinstance(found, Completion)
    assert step.llm.stats.retries > before
    patient(step)
    assert found == ask(step, range(seed, seed + 1))[0]


@pytest.mark.parametrize("name", OF_ONE_ROW)
def test_a_fault_of_one_row_is_that_rows_alone(
    step: GenerateResponse,
    served: CompletionsServer,
    undisturbed: list[dict[str, Any]],
    name: str,
) -> None:
    patient(step)
    served.habits.trouble, served.habits.poison = OF_ONE_ROW[name], POISON
    rows = next(iter(step.process(ROWS)))
    assert [rows[0], rows[2]] == [undisturbed[0], undisturbed[2]]
    reason = {"empty": "response_empty", "half a pair": "response_control_characters"}
    assert rows[1]["drop_reason"] == reason.get(name, "engine_error")
    assert rows[1]["keep"] is False
    assert rows[1]["messages"] == []


@pytest.mark.parametrize("name", ALWAYS)
def test_a_fault_that_stays_is_the_servers(
    step: GenerateResponse, served: CompletionsServer, name: str
) -> None:
    """Rows that no answer comes for are not dropped one after the other, to the last."""
    (impatient if name in ("silence", "drip") else patient)(step)
    served.habits.trouble = ALWAYS[name]
    began = time.monotonic()
    seed = 10_000 + 1000 * list(ALWAYS).index(name)
    # Seeds that follow one another would be one request.
    found = ask(step, range(seed, seed + 7 * MOST_FAILURES, 7))
    lost = [each for each in found if isinstance(each, EngineLostError)]
    assert lost
    assert all(isinstance(each, BaseException) for each in found)
    assert "see to the server and run again" in str(lost[0])
    assert time.monotonic() - began < 60
    served.habits.trouble = None
    step.llm._failures = 0
    patient(step)
    assert isinstance(ask(step, range(seed, seed + 1))[0], Completion)


def test_failures_with_answers_between_them_are_rows_own(
    step: GenerateResponse, served: CompletionsServer
) -> None:
    patient(step)
    for number in range(MOST_FAILURES + 2):
        served.habits.troubles = [says(400)]
        (failed,) = ask(step, range(90_000 + number, 90_001 + number))
        assert isinstance(failed, RuntimeError)
        assert not isinstance(failed, EngineLostError)
        (answered,) = ask(step, range(95_000 + number, 95_001 + number))
        assert isinstance(answered, Completion)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (says(200, PAGE, kind="text/html"), r"what is no JSON: <!DOCTYPE html>"),
        (says(307, headers={"Location": "http://127.0.0.1:9/v1"}), "has moved to http://127.0.0.1"),
        (says(401), r"answered 401"),
        (says(429), r"answered 429"),
        (resets, "stopped answering|did not answer"),
    ],
    ids=["page", "redirect", "401", "429", "reset"],
)
def test_a_server_that_is_broken_at_the_start_says_so(
    behind: TransformersEngine, trouble: Trouble, says: str
) -> None:
    with running(behind, trouble=trouble) as server:
        engine = CompletionsEngine(model=MODEL, base_urls=[server.url], max_retries=1)
        with pytest.raises(DistilabelUserError, match=says) as told:
            engine.load()
        assert "\n" not in str(told.value)


def test_a_run_whose_server_breaks_goes_on_where_it_was(
    behind: TransformersEngine, tmp_path: Path
) -> None:
    """The fault begins in the middle; the run ends by itself, and the next one makes the rest."""

    def build(server: CompletionsServer) -> Pipeline:
        engine = CompletionsEngine(model=MODEL, base_urls=[server.url], max_retries=1)
        with Pipeline(name="faults") as pipeline:
            InstructionGenerator(
                llm=engine, num_rows=24, batch_size=8, seed=5, instruction_sampling=SHORT
            )
        return pipeline

    with running(behind) as server:
        whole = run_pipeline(build(server), work_dir=tmp_path / "whole", expected_rows=24)
        server.habits.trouble, server.habits.sound = says(503), len(server.bodies) - 12
        with pytest.raises(PipelineRunError, match="503"):
            run_pipeline(build(server), work_dir=tmp_path / "work", expected_rows=24)
        server.habits.trouble = None
        asked = len(server.bodies)
        rest = run_pipeline(build(server), work_dir=tmp_path / "work", expected_rows=24)
        assert rest.dataset.to_list() == whole.dataset.to_list()
        assert len(server.bodies) - asked < asked
