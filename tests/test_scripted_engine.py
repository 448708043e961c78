"""A model-free engine whose texts are plausible, varied and the same every time."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.engines.scripted_text import RESPONSE_SPOILABLE, SPOILABLE, ScriptedTokenizer
from magpie_steps.sanitize import sanitize_instruction, sanitize_response

QUESTION = [{"role": "user", "content": "How are you?"}]


def loaded(**options: Any) -> ScriptedEngine:
    engine = ScriptedEngine(**options)
    engine.load()
    return engine


def complete(
    engine: ScriptedEngine, prompt: Sequence[int], samplings: Sequence[Sampling]
) -> list[Completion]:
    async def main() -> list[Completion]:
        return [await engine.complete(prompt, sampling) for sampling in samplings]

    return asyncio.run(main())


def user_turns(engine: ScriptedEngine, count: int, **sampling: Any) -> list[Completion]:
    prompt = engine.template.pre_query_ids().ids
    return complete(engine, prompt, [Sampling(seed=seed, **sampling) for seed in range(count)])


def answers(engine: ScriptedEngine, count: int, **sampling: Any) -> list[Completion]:
    prompt = engine.template.response_prompt_ids(QUESTION)
    return complete(engine, prompt, [Sampling(seed=seed, **sampling) for seed in range(count)])


def test_the_template_is_derived_like_any_models() -> None:
    template = loaded().template
    assert template.bare_pre_query == "<s><user>"
    assert template.pre_query_ids().ids == (0, 1)
    assert template.system_mode == "separate"
    assert template.response_prompt_text(QUESTION) == "<s><user>How are you?<end><assistant>"
    assert ScriptedTokenizer().encode("<end>", add_special_tokens=False)[0] in (
        template.stop_token_ids
    )


def test_texts_are_clean_varied_and_end_properly() -> None:
    engine = loaded()
    turns = user_turns(engine, 1_000)
    assert {turn.finish_reason for turn in turns} == {"stop"}
    assert len({turn.text for turn in turns}) > 900
    tokens = engine.template.control_tokens
    assert {sanitize_instruction(t.text, control_tokens=tokens).reason for t in turns} == {None}
    replies = answers(engine, 300)
    assert {sanitize_response(t.text, control_tokens=tokens).reason for t in replies} == {None}
    assert len({reply.text for reply in replies}) > 290


def test_a_text_depends_on_seed_prompt_and_sampling_seed_only() -> None:
    once, again = user_turns(loaded(), 20), user_turns(loaded(), 20)
    assert once == again
    assert once != user_turns(loaded(seed=1), 20)
    assert once != answers(loaded(), 20)
    assert len({turn.text for turn in user_turns(loaded(), 20, temperature=0.0)}) == 1


def test_tokens_and_counts_agree_with_the_text() -> None:
    for turn in user_turns(loaded(), 20) + answers(loaded(), 20):
        assert ScriptedTokenizer().decode(turn.token_ids) == turn.text + "<end>"
        assert turn.completion_tokens == len(turn.token_ids)
        assert turn.stop_reason == turn.token_ids[-1]


def test_max_new_tokens_and_stop_strings_end_a_text() -> None:
    short = user_turns(loaded(), 1, max_new_tokens=5)[0]
    assert (short.completion_tokens, short.finish_reason, short.stop_reason) == (5, "length", None)
    full = user_turns(loaded(), 1)[0]
    stopped = user_turns(loaded(), 1, stop_strings=(" ",))[0]
    assert stopped.text == full.text.split(" ")[0]
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", " ")


@pytest.mark.parametrize("reason", SPOILABLE)
def test_bad_user_turns_are_rejected_for_their_reason(reason: str) -> None:
    engine = loaded(bad_fraction={reason: 1.0})
    tokens = engine.template.control_tokens
    found = {
        sanitize_instruction(t.text, finish_reason=t.finish_reason, control_tokens=tokens).reason
        for t in user_turns(engine, 50, max_new_tokens=20_000)
    }
    assert found == {reason}


@pytest.mark.parametrize("reason", RESPONSE_SPOILABLE)
def test_bad_answers_are_rejected_for_their_reason(reason: str) -> None:
    engine = loaded(bad_response_fraction={reason: 1.0})
    tokens = engine.template.control_tokens
    found = {
        sanitize_response(t.text, finish_reason=t.finish_reason, control_tokens=tokens).reason
        for t in answers(engine, 50)
    }
    assert found == {reason}


def test_fractions_are_shares() -> None:
    """False alarm below 1 in 10**6: five standard deviations of 2,000 draws at 0.2 are 0.045."""
    engine = loaded(bad_fraction={"empty": 0.2, "too_short": 0.2})
    found = Counter(sanitize_instruction(turn.text).reason for turn in user_turns(engine, 2_000))
    assert abs(found["empty"] / 2_000 - 0.2) < 0.045
    assert abs(found["too_short"] / 2_000 - 0.2) < 0.045


def test_failing_requests_fail_again_and_others_do_not() -> None:
    async def failing(engine: ScriptedEngine) -> list[bool]:
        requests = [engine.complete((0, 1), Sampling(seed=seed)) for seed in range(400)]
        return [
            isinstance(outcome, RuntimeError)
            for outcome in await asyncio.gather(*requests, return_exceptions=True)
        ]

    first = asyncio.run(failing(loaded(failure_fraction=0.25)))
    assert first == asyncio.run(failing(loaded(failure_fraction=0.25)))
    assert 50 < sum(first) < 150


def test_calls_are_counted_from_load_on() -> None:
    engine = loaded()
    user_turns(engine, 5)
    assert engine.calls == 5
    engine.load()
    assert engine.calls == 0


def test_delays_overlap() -> None:
    engine = loaded(delay_seconds=0.1)

    async def main() -> None:
        await asyncio.gather(*(engine.complete((0, 1), Sampling(seed=s)) for s in range(20)))

    start = time.perf_counter()
    asyncio.run(main())
    assert 0.1 <= time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"bad_fraction": {"silly": 0.1}},
        {"bad_fraction": {"empty": 1.5}},
        {"bad_fraction": {"empty": 0.6, "too_long": 0.6}},
        {"bad_response_fraction": {"answer_attached": 0.1}},
        {"failure_fraction": 2.0},
        {"delay_seconds": -1.0},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScriptedEngine(**wrong)


def test_a_completion_is_fast() -> None:
    """Measured above 25,000 per second of CPU; three tries, since the machine may be busy."""
    engine = loaded()
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        user_turns(engine, 2_000)
        best = max(best, 2_000 / (time.process_time() - start))
    assert best > 10_000
