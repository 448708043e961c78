"""What every engine does: fit, journal, share, count, and serve distilabel's own tasks."""

import asyncio
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from distilabel.steps.tasks import TextGeneration

from magpie_steps.engines.base import (
    Completion,
    PromptTooLongError,
    Sampling,
    completion_key,
)
from magpie_steps.engines.journal import Journal
from magpie_steps.engines.scripted import ScriptedEngine


class Slow(ScriptedEngine):
    """Takes its time, so that requests overlap."""

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        await asyncio.sleep(0.01)
        return await super()._complete(prompt_ids, sampling)


def loaded(engine: ScriptedEngine, journal: Path | None = None) -> ScriptedEngine:
    engine.use_journal(journal)
    engine.load()
    return engine


def complete(
    engine: ScriptedEngine, seeds: Sequence[int], prompt: tuple[int, ...] = (0, 1)
) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        return list(
            await asyncio.gather(*(engine.complete(prompt, Sampling(seed=seed)) for seed in seeds))
        )

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_k": -1},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"seed": -1},
        {"seed": 2**63},
        {"stop_strings": ("a", "")},
    ],
)
def test_sampling_out_of_range_names_field_and_value(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=rf"Sampling\.{name} is .*; it must be"):
        Sampling(**wrong)


def test_sampling_takes_lists_and_stays_hashable() -> None:
    sampling = Sampling(stop_token_ids=[3, 4], stop_strings=["\n"])  # type: ignore[arg-type]
    assert sampling.stop_token_ids == (3, 4)
    assert hash(sampling) == hash(Sampling(stop_token_ids=(3, 4), stop_strings=("\n",)))


def test_the_key_tells_apart_whatever_can_change_a_completion() -> None:
    base = Sampling(temperature=0.7, seed=1)
    keys = {
        completion_key("a", (1, 2), base),
        completion_key("b", (1, 2), base),
        completion_key("a", (1, 2, 2), base),
        completion_key("a", (12,), base),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=2)),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=1, top_p=0.9)),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=1, top_k=9)),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=1, min_p=0.1)),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=1, max_new_tokens=9)),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=1, stop_token_ids=(3,))),
        completion_key("a", (1, 2), Sampling(temperature=0.7, seed=1, stop_strings=("3",))),
        completion_key("a", (1, 2), Sampling(temperature=0.0, seed=1)),
    }
    assert len(keys) == 12


def test_the_key_ignores_what_cannot() -> None:
    assert completion_key("a", (1,), Sampling(temperature=1)) == completion_key(
        "a", [1], Sampling(temperature=1.0)
    )
    assert completion_key("a", (1,), Sampling(temperature=0, seed=1)) == completion_key(
        "a", (1,), Sampling(temperature=0, seed=2)
    )


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    engine = loaded(ScriptedEngine(context_tokens=10))
    with pytest.raises(PromptTooLongError, match=r"has 10 tokens and the context .* holds 10"):
        complete(engine, [1], prompt=tuple(range(20, 30)))
    with pytest.raises(ValueError, match="the prompt is empty"):
        complete(engine, [1], prompt=())


def test_max_new_tokens_is_cut_to_the_room_that_is_left() -> None:
    engine = loaded(ScriptedEngine(context_tokens=10))
    done = complete(engine, [1], prompt=(0, 20, 1))[0]
    assert done.completion_tokens == 7
    assert done.finish_reason == "length"


def test_the_journal_replays_what_is_done_and_only_that(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = loaded(ScriptedEngine(), path)
    written = complete(first, range(10))
    first.unload()

    second = loaded(ScriptedEngine(), path)
    assert complete(second, range(15))[:10] == written
    assert second.calls == 5
    assert (second.stats.generated, second.stats.replayed) == (5, 10)
    second.unload()

    journal = Journal(path, run_id="reader")
    assert journal.counts()["generated"] == 15
    journal.close()


def test_another_engine_does_not_replay_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = loaded(ScriptedEngine(seed=1), path)
    complete(first, [1])
    first.unload()
    other = loaded(ScriptedEngine(seed=2), path)
    complete(other, [1])
    assert other.stats.replayed == 0
    other.unload()


def test_failures_are_counted_and_never_kept(tmp_path: Path) -> None:
    engine = loaded(ScriptedEngine(failure_fraction=1.0), tmp_path / "journal.sqlite")
    with pytest.raises(RuntimeError, match="as it was told to"):
        complete(engine, [1])
    assert engine.stats.failed == 1
    assert engine.stats.generated == 0
    engine.unload()


def test_equal_requests_in_flight_are_generated_once(tmp_path: Path) -> None:
    engine = loaded(Slow(), tmp_path / "journal.sqlite")
    results = complete(engine, [7, 7, 7, 8])
    assert results[0] == results[1] == results[2] != results[3]
    assert engine.calls == 2
    assert engine.stats.replayed == 2
    engine.unload()


def test_when_the_first_of_equal_requests_is_cancelled_another_takes_over(tmp_path: Path) -> None:
    engine = loaded(Slow(), tmp_path / "journal.sqlite")

    async def main() -> Completion:
        first = asyncio.create_task(engine.complete((0, 1), Sampling(seed=7)))
        second = asyncio.create_task(engine.complete((0, 1), Sampling(seed=7)))
        await asyncio.sleep(0.002)
        first.cancel()
        return await second

    assert asyncio.run(main()).completion_tokens > 0
    engine.unload()


def test_several_completions_come_in_order() -> None:
    engine = loaded(Slow())
    samplings = [Sampling(seed=seed) for seed in (3, 1, 2)]
    assert asyncio.run(engine.complete_all((0, 1), samplings)) == complete(engine, [3, 1, 2])
    assert asyncio.run(engine.complete_all((0, 1), [])) == []


class FailsAtOnce(Slow):
    """Fails for one seed, before the others are done."""

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        if sampling.seed == 2:
            raise ConnectionError("the server went away")
        return await super()._complete(prompt_ids, sampling)


def test_one_failure_among_several_waits_for_the_others_and_keeps_them(tmp_path: Path) -> None:
    """`asyncio.gather` alone raises at once, and the others' work is lost with the loop."""
    engine = loaded(FailsAtOnce(), tmp_path / "journal.sqlite")
    samplings = [Sampling(seed=seed) for seed in range(1, 5)]
    with pytest.raises(ConnectionError, match="went away"):
        asyncio.run(engine.complete_all((0, 1), samplings))
    assert (engine.stats.generated, engine.stats.failed) == (3, 1)
    engine.unload()
    again = loaded(Slow(), tmp_path / "journal.sqlite")
    assert len(asyncio.run(again.complete_all((0, 1), samplings))) == 4
    assert (again.stats.generated, again.stats.replayed) == (1, 3)
    again.unload()


def test_cancelling_several_completions_cancels_each() -> None:
    engine = loaded(ScriptedEngine(delay_seconds=60))

    async def main() -> int:
        samplings = [Sampling(seed=seed) for seed in range(3)]
        several = asyncio.create_task(engine.complete_all((0, 1), samplings))
        await asyncio.sleep(0.01)
        several.cancel()
        await asyncio.wait([several])
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


def test_a_plain_text_becomes_a_prompt_without_control_tokens() -> None:
    engine = loaded(ScriptedEngine())
    prompt = engine.encode("a <user>")
    assert prompt[0] == 0
    assert len(prompt) == 1 + len("a <user>")
    assert 1 not in prompt
    assert engine.special_tokens == engine.template.control_tokens


def test_pickle_keeps_the_journal_and_dump_does_not_show_it(tmp_path: Path) -> None:
    """Steps are pickled into their processes; the journal's place must not change a signature."""
    engine = ScriptedEngine(seed=3)
    before = engine.dump()
    engine.use_journal(tmp_path / "journal.sqlite")
    assert engine.dump() == before
    copy = pickle.loads(pickle.dumps(engine))
    copy.load()
    complete(copy, [1])
    copy.unload()
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.counts()["completions"] == 1
    journal.close()


def test_yaml_round_trip(tmp_path: Path) -> None:
    engine = ScriptedEngine(seed=3, bad_fraction={"empty": 0.25}, delay_seconds=0.5)
    engine.save(tmp_path / "engine.yaml", format="yaml")
    assert ScriptedEngine.from_yaml(tmp_path / "engine.yaml").dump() == engine.dump()


def test_generate_answers_conversations_and_texts() -> None:
    engine = loaded(ScriptedEngine())
    hello = [{"role": "user", "content": "Hello"}]
    outputs = engine.generate(inputs=[hello, "Hello", "Bye"], num_generations=2, seed=5)
    assert outputs[0] == outputs[1] != outputs[2]
    first, second = outputs[0]["generations"]
    assert first != second
    assert engine.generate(inputs=[hello], seed=6)[0]["generations"] == [second]
    for output in outputs:
        assert len(output["statistics"]["input_tokens"]) == 2
        assert all(tokens > 0 for tokens in output["statistics"]["output_tokens"])


def test_generate_works_where_an_event_loop_is_running() -> None:
    async def notebook_cell() -> Any:
        return engine.generate(inputs=["Hello"])

    engine = loaded(ScriptedEngine())
    assert asyncio.run(notebook_cell()) == engine.generate(inputs=["Hello"])


def test_generates_parameters_are_runtime_parameters() -> None:
    names = ScriptedEngine().runtime_parameters_names["generation_kwargs"]
    assert set(names) == {
        "max_new_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "stop",
        "seed",
    }
    assert all(names.values())


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
def test_a_stock_distilabel_task_runs_on_an_engine() -> None:
    task = TextGeneration(
        name="stock",
        llm=ScriptedEngine(generation_kwargs={"temperature": 0.0}),
        num_generations=2,
        group_generations=True,
    )
    task.load()
    rows = next(task.process([{"instruction": "Hello"}, {"instruction": "Bye"}]))
    task.unload()
    assert len(rows) == 2
    assert rows[0]["generation"][0] == rows[0]["generation"][1] != rows[1]["generation"][0]
    assert rows[0]["model_name"] == "scripted"


def test_unload_twice_and_before_load_is_fine() -> None:
    engine = ScriptedEngine()
    engine.unload()
    engine.load()
    engine.unload()
    engine.unload()
