"""Real vLLM on a CPU: the same tokens as elsewhere, and no process left behind.

These tests need vLLM (`make test-vllm` sets up an environment with its build for CPUs).
"""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from distilabel.pipeline import Pipeline
from distilabel.steps.tasks import TextGeneration
from waiting import completions, wait_for

from magpie_steps import ConversationGenerator, SampleResponses, run_pipeline
from magpie_steps.embedded import model_path
from magpie_steps.engines.base import Completion, Engine, EngineLostError, Sampling, Structure
from magpie_steps.engines.completions import CompletionsEngine
from magpie_steps.engines.journal import Journal
from magpie_steps.engines.served import ServedEngine
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.engines.vllm import VLLMEngine
from magpie_steps.labels import Category
from magpie_steps.running import PipelineRunError
from magpie_steps.steps.tags import sampling_of
from magpie_steps.tag_answers import read_answer
from magpie_steps.tagging import FORMS, TAGS

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    # vLLM's own, and those of what it imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODEL = str(model_path("tiny-instruct"))
SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "dtype": "float32",
    "max_num_seqs": 64,
    # Compiling takes longer than the tests, and several engines share the machine.
    "engine_args": {"enforce_eager": True, "kv_cache_memory_bytes": 2**28},
}


@pytest.fixture(scope="module")
def reference() -> Iterator[TransformersEngine]:
    engine = TransformersEngine(model=MODEL)
    engine.load()
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def in_process() -> Iterator[VLLMEngine]:
    engine = VLLMEngine(**SETTINGS)
    engine.load()
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def served() -> Iterator[ServedEngine]:
    engine = ServedEngine(**SETTINGS)
    engine.load()
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def completions_engine(served: ServedEngine) -> Iterator[CompletionsEngine]:
    """The same server, as one that somebody else has started."""
    address = served._own.address  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SERVER_KEY", address.key)
        engine = CompletionsEngine(
            model=MODEL, base_urls=[address.url], api_key_variable="A_SERVER_KEY"
        )
        engine.load()
        yield engine
        engine.unload()


@pytest.fixture(params=["in_process", "served", "completions_engine"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)


def complete(engine: Engine, asked: Sequence[tuple[Sequence[int], Sampling]]) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        return list(await asyncio.gather(*(engine.complete(*each) for each in asked)))

    return asyncio.run(all_of_them())


def greedy(engine: Engine) -> Sampling:
    stops = engine.template.assistant_stop_token_ids
    return Sampling(temperature=0, stop_token_ids=stops, max_new_tokens=96)


def drawn(engine: Engine, seed: int, **fields: Any) -> Sampling:
    stops = engine.template.stop_token_ids
    return Sampling(seed=seed, stop_token_ids=stops, max_new_tokens=64, **fields)


def test_greedy_answers_agree(reference, engine):
    """Of 200 prompts at least 99 %: float32 on a CPU, but other kernels in another order."""
    prompt = reference.template.pre_query_ids().ids
    asked = complete(reference, [(prompt, drawn(reference, seed)) for seed in range(200)])
    requests = []
    for each in asked:
        told = [{"role": "user", "content": each.text.strip() or "Hello?"}]
        ids = reference.template.response_prompt_ids(told)
        assert engine.template.response_prompt_ids(told) == ids
        requests.append((ids, greedy(reference)))
    found, true = complete(engine, requests), complete(reference, requests)
    assert [f.prompt_tokens for f in found] == [t.prompt_tokens for t in true]
    same = sum(
        (f.token_ids, f.text, f.finish_reason, f.stop_reason)
        == (t.token_ids, t.text, t.finish_reason, t.stop_reason)
        for f, t in zip(found, true, strict=True)
    )
    assert same >= 198, f"{same} of 200 agree"


def test_a_seed_decides_whatever_is_beside_it(engine):
    prompt = engine.template.pre_query_ids().ids
    alone = complete(engine, [(prompt, drawn(engine, 5))])
    beside = complete(engine, [(prompt, drawn(engine, seed)) for seed in (3, 4, 5, 6)])
    assert beside[2] == alone[0]
    assert len({each.text for each in beside}) == 4
    several = asyncio.run(engine.complete_all(prompt, [drawn(engine, seed) for seed in (4, 5, 6)]))
    assert [each.text for each in several] == [each.text for each in beside[1:]]


def test_ends_are_told_apart(engine):
    prompt = engine.template.pre_query_ids().ids
    (whole,) = complete(engine, [(prompt, drawn(engine, 1))])
    assert whole.finish_reason == "stop"
    assert whole.stop_reason == whole.token_ids[-1]
    assert whole.completion_tokens == len(whole.token_ids)
    (cut,) = complete(engine, [(prompt, Sampling(seed=1, max_new_tokens=3))])
    assert (cut.finish_reason, cut.stop_reason, cut.completion_tokens) == ("length", None, 3)
    assert whole.token_ids[:3] == cut.token_ids
    word = whole.text.split()[2]
    (stopped,) = complete(engine, [(prompt, drawn(engine, 1, stop_strings=(word,)))])
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", word)
    assert word not in stopped.text


def test_constraints_are_obeyed(engine):
    prompt = engine.template.pre_query_ids().ids
    (plain,) = complete(engine, [(prompt, greedy(engine))])
    first, word = plain.token_ids[0], plain.text.split()[1]

    def ask(**fields: Any) -> Completion:
        return complete(engine, [(prompt, Sampling(temperature=0, max_new_tokens=24, **fields))])[0]

    assert ask(logit_bias={first: -100}).token_ids[0] != first
    banned = ask(first_token_not=(first,))
    assert banned.token_ids[0] != first
    assert banned.completion_tokens == len(banned.token_ids)
    assert set(ask(allowed_token_ids=(first,)).token_ids) == {first}
    assert word not in ask(bad_words=(word,)).text.split()
    assert ask(structure=Structure("choice", ("yes", "no"))).text in ("yes", "no")
    assert ask(structure=Structure("regex", "[0-9]{3}")).text.isdigit()
    schema = '{"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}'
    assert ask(structure=Structure("json", schema)).text.replace(" ", "").startswith('{"a":1')


@pytest.mark.parametrize("tag", TAGS)
def test_labels_keep_to_their_schema(in_process, tag):
    """The miniature model knows nothing of labels, but cannot write another form.

    The taggers' own prompt is longer than its context, so it is asked something else.
    """
    told = [{"role": "user", "content": "What is 2 plus 3?"}]
    asked = sampling_of(tag, replace(greedy(in_process), max_new_tokens=200), in_process)
    ids = in_process.template.response_prompt_ids(told)
    (done,) = complete(in_process, [(ids, asked)])
    answer = read_answer(done.text, FORMS[tag], truncated=done.finish_reason == "length")
    assert done.text.startswith("{")
    assert answer.reason == ("truncated" if done.finish_reason == "length" else "")
    if tag == "category":  # no free text in it that could go on for ever
        assert answer.values["primary_tag"] in list(Category)


def test_a_temperature_that_vllm_refuses_is_told(in_process):
    with pytest.raises(ValueError, match=r"temperature is 2.5; vLLM takes 0 to 2"):
        complete(in_process, [((5, 6), Sampling(temperature=2.5))])


def test_what_prompts_share_is_computed_once(engine):
    """VLLM on a CPU shares blocks of 128 tokens."""
    long = engine.encode("The weather is fine and " * 60)[:300]
    complete(engine, [(long, Sampling(max_new_tokens=1))])
    (again,) = complete(engine, [(long, Sampling(max_new_tokens=1))])
    assert again.cached_tokens >= 128


def test_a_markdown_ban_finds_its_tokens(in_process):
    from magpie_steps.decoding import MARKDOWN_OPENER

    found = in_process.tokens_matching(MARKDOWN_OPENER)
    assert found
    assert {in_process._decode([token]).strip() for token in found} <= {"#", "##", "###", "**"}


def test_stock_tasks_can_use_it(in_process):
    task = TextGeneration(name="stock", llm=in_process, num_generations=2)
    task.load()  # the engine too, once more
    (rows,) = list(task.process([{"instruction": "What is 2 plus 3?"}]))
    assert len(rows) == 2
    assert all(row["generation"] for row in rows)


def pipeline_of(engine: Engine, num_rows: int) -> Pipeline:
    with Pipeline(name="vllm") as pipeline:
        rows = ConversationGenerator(llm=engine, num_rows=num_rows, batch_size=100, seed=3)
        rows >> SampleResponses(llm=engine, num_responses=2)
    return pipeline


def vllm_processes() -> list[psutil.Process]:
    """VLLM's processes: the server, engine cores and workers."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        names = ("VLLM::", "vllm_serve")
        if any(n in line for n in names) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_a_killed_server_comes_back_and_the_run_completes(tmp_path: Path):
    engine, journal = ServedEngine(**SETTINGS), tmp_path / "journal.sqlite"
    others = vllm_processes()

    def kill() -> None:
        wait_for(lambda: completions(journal) > 200)
        for process in vllm_processes():
            if process not in others and "vllm_serve" in " ".join(process.cmdline()):
                process.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = run_pipeline(pipeline_of(engine, 600), work_dir=tmp_path, expected_rows=600)
    killer.join(1)
    assert not killer.is_alive()
    assert sum(row["keep"] for row in result.dataset) > 500
    opened = Journal(journal, run_id="look")
    assert opened.counts()["generated"] == opened.counts()["completions"]
    opened.close()
    wait_for(lambda: set(vllm_processes()) <= set(others), 30)


def test_a_killed_engine_core_is_one_error_and_a_run_goes_on_from_there(tmp_path: Path):
    engine, journal = VLLMEngine(**SETTINGS), tmp_path / "journal.sqlite"
    others = vllm_processes()

    def kill() -> None:
        wait_for(lambda: completions(journal) > 100)
        for process in vllm_processes():
            if process not in others and "EngineCore" in " ".join(process.cmdline()):
                process.kill()

    with Pipeline(name="vllm") as pipeline:
        ConversationGenerator(llm=engine, num_rows=1000, seed=3)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(PipelineRunError, match=r"vLLM's engine process .* has ended"):
        run_pipeline(pipeline, work_dir=tmp_path, expected_rows=1000)
    killer.join(1)
    assert 100 < completions(journal) < 2000
    wait_for(lambda: set(vllm_processes()) <= set(others), 30)
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=1000)
    assert sum(row["keep"] for row in result.dataset) > 900
    opened = Journal(journal, run_id="look")
    assert opened.counts()["generated"] == opened.counts()["completions"]
    opened.close()


def test_a_dead_engine_says_so_at_once():
    engine = VLLMEngine(**SETTINGS)
    others = vllm_processes()
    engine.load()
    for process in vllm_processes():
        if process not in others and "EngineCore" in " ".join(process.cmdline()):
            process.kill()
    requests = [((5, 6), Sampling(seed=seed)) for seed in range(50)]
    with pytest.raises(EngineLostError, match="run again"):
        complete(engine, requests)
    engine.unload()
    wait_for(lambda: set(vllm_processes()) <= set(others), 30)


OWNER = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from magpie_steps.engines.vllm import VLLMEngine
if __name__ == "__main__":
    engine = VLLMEngine(**{settings!r})
    engine.load()
    print("ready", flush=True)
    if {raises!r}:
        raise SystemError("something of the caller's")
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT", "SIGTERM", "exception"])
def test_no_engine_core_outlives_its_owner(end: str, tmp_path: Path):
    code = textwrap.dedent(OWNER).format(settings=SETTINGS, raises=end == "exception")
    script = tmp_path / "owner.py"
    script.write_text(code, encoding="utf-8")
    others = vllm_processes()
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as owner:
        assert owner.stdout is not None
        try:
            assert b"ready\n" in iter(owner.stdout.readline, b"")
            if end.startswith("SIG"):
                assert set(vllm_processes()) > set(others)
                os.kill(owner.pid, getattr(signal, end))
            owner.wait(60)
        finally:
            owner.kill()
    wait_for(lambda: set(vllm_processes()) <= set(others), 40)
