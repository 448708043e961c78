"""Prompts reach a server as they are, whatever the server's habits, or it is said why not."""

import asyncio
import pickle
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from completions_server import EXTENSIONS, CompletionsServer, running
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline

from magpie_steps import ConversationGenerator, SampleResponses, run_pipeline
from magpie_steps.embedded import model_path
from magpie_steps.engines import http_client
from magpie_steps.engines.base import (
    Completion,
    EngineLostError,
    Sampling,
    Structure,
    UnsupportedSamplingError,
)
from magpie_steps.engines.completions import CompletionsEngine

MODEL = str(model_path("tiny-instruct"))
KEY = "secret-key-of-the-test"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "FIRST_WAIT_SECONDS", 0.01)


def connected(*servers: CompletionsServer, **fields: Any) -> CompletionsEngine:
    engine = CompletionsEngine(model=MODEL, base_urls=[s.url for s in servers], **fields)
    engine.load()
    return engine


def complete(engine: Any, prompt: Sequence[int], *samplings: Sampling) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        return list(await asyncio.gather(*(engine.complete(prompt, s) for s in samplings)))

    return asyncio.run(all_of_them())


def samplings(engine: Any, **fields: Any) -> list[Sampling]:
    stops = engine.template.stop_token_ids
    greedy = Sampling(temperature=0, stop_token_ids=stops, max_new_tokens=64)
    drawn = [
        Sampling(seed=s, stop_token_ids=stops, max_new_tokens=64, **fields) for s in (1, 5, 2**62)
    ]
    return [greedy, *drawn]


@pytest.mark.parametrize(
    "habits",
    [
        pytest.param({}, id="takes ids"),
        pytest.param({"takes_ids": False}, id="takes text"),
        pytest.param({"takes_ids": False, "adds_bos": True}, id="adds BOS unless told not to"),
        pytest.param(
            {"takes_ids": False, "adds_bos": True, "ignored": {"add_special_tokens"}},
            id="adds BOS to text",
        ),
        pytest.param({"always_adds_bos": True}, id="adds BOS to everything"),
        pytest.param(
            {"takes_ids": False, "adds_bos": True, "refused": {"add_special_tokens"}},
            id="adds BOS, refuses what it does not know",
        ),
    ],
)
def test_prompts_arrive_token_for_token_and_answers_are_the_models(behind, habits):
    with running(behind, **habits) as server:
        engine = connected(server)
        told = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]
        for prompt in (
            engine.template.pre_query_ids().ids,
            engine.template.pre_query_ids(told, "Be kind.").ids,
            engine.template.response_prompt_ids([{"role": "user", "content": "What is 2 + 3?"}]),
        ):
            server.prompts.clear()
            wanted = samplings(engine)
            assert complete(engine, prompt, *wanted) == complete(behind, prompt, *wanted)
            assert set(server.prompts) == {tuple(prompt)}
        engine.unload()


def test_what_a_server_can_do_is_found_out_by_its_effect(behind):
    with running(behind) as server:
        engine = connected(server)
        every = {"seed", "top_k", "min_p", "stop_token_ids", "logit_bias", "allowed_token_ids", "n"}
        assert engine._abilities.features == every
        assert engine.obeys == {"logit_bias", "allowed_token_ids", "first_token_not"}
        assert engine._abilities.gives_ids
        engine.unload()


@pytest.mark.parametrize("missing", ["seed", "top_k", "min_p", "stop_token_ids", "logit_bias"])
def test_an_ignored_field_is_noticed(behind, missing):
    """Servers ignore what they do not know without a word, so its name tells nothing."""
    with running(behind, ignored={missing}) as server:
        engine = connected(server)
        lost = {missing, *({"n"} if missing == "seed" else ())}
        every = {"seed", "top_k", "min_p", "stop_token_ids", "logit_bias", "allowed_token_ids", "n"}
        assert engine._abilities.features == every - lost
        engine.unload()


def test_what_would_have_no_effect_is_refused(behind):
    with running(behind, ignored={"min_p"}) as server:
        engine = connected(server)
        prompt = engine.template.pre_query_ids().ids
        with pytest.raises(UnsupportedSamplingError, match=r"min_p is 0.1, .* set it to 0"):
            complete(engine, prompt, Sampling(min_p=0.1))
        with pytest.raises(UnsupportedSamplingError, match=r"cannot obey structure; it obeys"):
            complete(engine, prompt, Sampling(structure=Structure("choice", ("yes", "no"))))
        complete(engine, prompt, Sampling(min_p=0.1, temperature=0))  # nothing is drawn
        engine.unload()


def test_a_server_that_knows_nothing_beyond_the_standard_serves_too(behind, caplog):
    with running(behind, takes_ids=False, refused=set(EXTENSIONS)) as server:
        engine = connected(server)
        assert engine._abilities.features == {"seed", "n"}
        assert not engine._abilities.gives_ids
        assert "ignores stop_token_ids" in caplog.text
        prompt, wanted = engine.template.pre_query_ids().ids, samplings(engine)
        found, true = complete(engine, prompt, *wanted), complete(behind, prompt, *wanted)
        assert [f.text for f in found] == [t.text for t in true]
        assert [f.finish_reason for f in found] == [t.finish_reason for t in true]
        assert not set(server.bodies[-1]) & EXTENSIONS
        engine.unload()


def test_constraints_have_their_effect(behind):
    with running(behind) as server:
        engine = connected(server)
        prompt = engine.template.pre_query_ids().ids
        (plain,) = complete(engine, prompt, Sampling(temperature=0, max_new_tokens=8))
        banned = plain.token_ids[0]
        for way in ({"logit_bias": {banned: -100}}, {"first_token_not": (banned,)}):
            (other,) = complete(engine, prompt, Sampling(temperature=0, max_new_tokens=8, **way))
            assert other.token_ids[0] != banned
            assert other.completion_tokens == 8
            assert other.text == behind._decode(other.token_ids)
        engine.unload()


@pytest.mark.parametrize(
    ("habits", "says"),
    [
        ({"chats": True}, "it puts a chat template around every prompt"),
        ({"says_usage": False}, "usage.prompt_tokens"),
        ({"status": 404}, "Magpie gives a model the beginning of a user's turn and nothing else"),
        ({"status": 405}, "Serve the model with vLLM, SGLang or llama.cpp"),
        ({"lists": ["one", "two"]}, r"has no model .*; it serves one, two: give one of these"),
        ({"key": KEY}, r"refuses the key \(401\); set OPENAI_API_KEY"),
    ],
)
def test_a_server_that_cannot_serve_says_why(behind, habits, says, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running(behind, **habits) as server, pytest.raises(DistilabelUserError, match=says):
        connected(server)


def test_a_bos_that_cannot_be_left_out_is_an_error(behind):
    """The prompt has none, so there is none that the server's own could stand for."""
    bare = behind._tokenizer.chat_template.replace("{{ bos_token }}", "")
    with (
        running(behind, always_adds_bos=True) as server,
        pytest.raises(DistilabelUserError, match="it puts a BOS of its own before every prompt"),
    ):
        connected(server, chat_template=bare)


def test_no_server_at_all_is_one_clear_error():
    engine = CompletionsEngine(model=MODEL, base_urls=["http://127.0.0.1:9/v1"])
    with pytest.raises(DistilabelUserError, match=r"no server to work with: http://127.0.0.1:9/v1"):
        engine.load()
    with pytest.raises(ValueError, match="give addresses such as"):
        CompletionsEngine(model=MODEL, base_urls=["localhost:8000"])


def test_a_key_is_sent_and_kept_nowhere(behind, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with running(behind, key=KEY) as server:
        engine = connected(server, api_key_variable="MY_KEY")
        complete(engine, engine.template.pre_query_ids().ids, Sampling(max_new_tokens=2))
        for shown in (repr(engine), str(engine.dump()), repr(engine._client), engine.fingerprint):
            assert KEY not in shown
        engine.unload()
        assert KEY.encode() not in pickle.dumps(engine)


def test_failures_are_tried_again_and_counted(behind):
    with running(behind) as server:
        engine = connected(server)
        prompt, wanted = engine.template.pre_query_ids().ids, samplings(engine)
        server.habits.failures = [429, 503, 0, 500, 0]
        assert complete(engine, prompt, *wanted) == complete(behind, prompt, *wanted)
        assert engine.stats.retries == 5
        assert engine.stats.generated == len(wanted)
        engine.unload()


def test_a_request_that_keeps_failing_fails_alone(behind):
    with running(behind) as server:
        engine = connected(server, max_retries=1)
        prompt = engine.template.pre_query_ids().ids
        server.habits.failures = [400]
        with pytest.raises(RuntimeError, match=r"answered 400: busy"):
            complete(engine, prompt, Sampling(max_new_tokens=2))
        server.habits.failures = [503, 503]
        with pytest.raises(RuntimeError, match=r"answered 503"):
            complete(engine, prompt, Sampling(max_new_tokens=2))
        assert engine.stats.failed == 2
        complete(engine, prompt, Sampling(max_new_tokens=2))
        engine.unload()


def test_a_server_that_goes_away_is_lost(behind):
    with running(behind) as server:
        engine = connected(server, max_retries=2)
    with pytest.raises(EngineLostError, match=r"did not answer 3 times.*run again"):
        complete(engine, engine.template.pre_query_ids().ids, Sampling(max_new_tokens=2))
    engine.unload()


def test_several_servers_share_the_work_and_stand_in_for_each_other(behind):
    with ExitStack() as stack:
        one, two = (stack.enter_context(running(behind)) for _ in range(2))
        engine = connected(one, two)
        assert engine.capacity == 2 * engine.max_in_flight
        prompt = engine.template.pre_query_ids().ids
        for server in (one, two):
            server.bodies.clear()
        many = [Sampling(seed=7 * s, max_new_tokens=4) for s in range(20)]
        complete(engine, prompt, *many)
        assert len(one.bodies) == len(two.bodies) == 10
        one.stop()
        assert complete(engine, prompt, *many) == complete(behind, prompt, *many)
        engine.unload()


def test_servers_of_different_kinds_are_refused(behind):
    with ExitStack() as stack:
        one = stack.enter_context(running(behind))
        two = stack.enter_context(running(behind, takes_ids=False))
        with pytest.raises(DistilabelUserError, match="are of different kinds"):
            connected(one, two)


def test_several_answers_are_one_request(behind):
    with running(behind) as server:
        engine = connected(server)
        prompt = engine.template.pre_query_ids().ids
        five = [Sampling(seed=s, max_new_tokens=16) for s in range(10, 15)]
        server.bodies.clear()
        together = asyncio.run(engine.complete_all(prompt, five))
        assert [body["n"] for body in server.bodies] == [5]
        assert together == complete(behind, prompt, *five)
        engine.unload()


def test_several_answers_are_several_requests_where_n_has_other_seeds(behind):
    with running(behind, ignored={"seed"}) as server:
        engine = connected(server)
        prompt = engine.template.pre_query_ids().ids
        server.bodies.clear()
        asyncio.run(engine.complete_all(prompt, [Sampling(seed=s) for s in range(3)]))
        assert [body["n"] for body in server.bodies] == [1, 1, 1]
        engine.unload()


@pytest.mark.parametrize(("limit", "asked", "length"), [(512, None, 512), (300, 200, 200)])
def test_the_context_is_what_the_server_says(behind, limit, asked, length):
    with running(behind, limit=limit) as server:
        engine = connected(server, max_context_tokens=asked)
        assert engine.max_model_len == length
        engine.unload()


def test_a_longer_context_than_the_servers_is_refused(behind):
    with (
        running(behind, limit=300) as server,
        pytest.raises(DistilabelUserError, match=r"max_context_tokens is 400, .* at most 300"),
    ):
        connected(server, max_context_tokens=400)


def test_a_pipeline_runs_on_a_server_that_stumbles(behind, tmp_path: Path):
    """Steps are processes of their own with an event loop for each batch."""
    with running(behind) as server:
        engine = CompletionsEngine(model=MODEL, base_urls=[server.url])
        with Pipeline(name="served") as pipeline:
            rows = ConversationGenerator(llm=engine, num_rows=30, batch_size=10, seed=3)
            rows >> SampleResponses(llm=engine, num_responses=3, input_batch_size=10)
        server.habits.failures = [503, 429, 0]
        first = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=30)
        made = len(server.bodies)
        again = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=30)
        assert again.dataset.to_list() == first.dataset.to_list()
        trials = 2 * 40  # finding out what the server can do, once for each step
        assert len(server.bodies) - made < trials
        assert {body.get("n") for body in server.bodies} >= {1, 3}
