"""The steps on plain dicts, without a pipeline."""

import itertools
import logging
import threading

import pytest
from pydantic import ValidationError
from told_engine import (
    USER_HEADER,
    BlindEngine,
    DisobedientEngine,
    ObedientEngine,
    ToldEngine,
    question_and_answer,
)

from magpie_steps import columns, prompts, reasons
from magpie_steps.decoding import MARKDOWN_OPENER
from magpie_steps.engines.base import UnsupportedSamplingError
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.sanitize import sanitize_instruction
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.instruction import InstructionGenerator
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.response import GenerateResponse

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")
GENERATORS = [InstructionGenerator, ConversationGenerator]
CONVERSATION = columns.written_by("ConversationGenerator")


def asks(prompt):
    return prompt.rstrip().endswith(USER_HEADER)


def batches(step, offset=0):
    step.load()
    try:
        return list(step.process(offset=offset))
    finally:
        step.unload()


def rows_of(step, offset=0):
    return [row for rows, _ in batches(step, offset) for row in rows]


def generate(kind=ConversationGenerator, script=question_and_answer, context=4096, **fields):
    step = kind(name="step", llm=ToldEngine(script=script, context=context), **fields)
    return step, rows_of(step)


def respond(rows, script=question_and_answer, **fields):
    step = GenerateResponse(name="step", llm=ToldEngine(script=script), **fields)
    step.load()
    try:
        (answered,) = list(step.process(rows))
        return step, answered
    finally:
        step.unload()


def failing_first(times, bad):
    """Return a script whose first user turns of each row are `bad`."""
    seen = {}

    def script(prompt, sampling):
        if not asks(prompt):
            return question_and_answer(prompt, sampling)
        number = seen[()] = seen.get((), 0) + 1
        return bad if number <= times else question_and_answer(prompt, sampling)

    return script


# Batches


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("batch_size", range(1, 7))
@pytest.mark.parametrize("num_rows", range(1, 13))
def test_every_number_of_rows_and_batch_size_ends(kind, num_rows, batch_size):
    """The stock generator never ends when the rows do not fill the last batch."""
    found = batches(kind(name="step", llm=ToldEngine(), num_rows=num_rows, batch_size=batch_size))
    sizes = [len(rows) for rows, _ in found]
    assert sum(sizes) == num_rows
    assert all(size == batch_size for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size
    assert [last for _, last in found] == [False] * (len(found) - 1) + [True]
    assert [row["row"] for rows, _ in found for row in rows] == list(range(num_rows))


@pytest.mark.parametrize("kind", GENERATORS)
def test_rows_depend_neither_on_batches_nor_on_the_offset(kind):
    def step(**fields):
        return kind(
            name="step",
            llm=ToldEngine(),
            num_rows=12,
            seed=5,
            system_prompts=prompts.category_prompts(),
            **fields,
        )

    wanted = rows_of(step())
    for batch_size, max_in_flight in itertools.product((1, 5, 12, 50), (1, 3, 100)):
        found = rows_of(step(batch_size=batch_size, max_in_flight=max_in_flight))
        assert found == wanted
    for offset in range(12):
        found = batches(step(batch_size=3), offset)
        assert [row for rows, _ in found for row in rows] == wanted[offset:]
        assert [last for _, last in found].count(True) == 1
        assert found[-1][1]


def test_more_rows_of_the_same_run_keep_the_first_ones():
    _, few = generate(num_rows=5)
    _, many = generate(num_rows=9)
    assert many[:5] == few


@pytest.mark.parametrize("offset", [3, 4])
def test_nothing_left_is_one_empty_last_batch(offset):
    assert batches(InstructionGenerator(name="s", llm=ToldEngine(), num_rows=3), offset) == [
        ([], True)
    ]


def test_stopping_early_leaves_no_thread_behind():
    before = threading.active_count()
    step = InstructionGenerator(name="step", llm=ToldEngine(), num_rows=10_000, batch_size=1)
    step.load()
    written = step.process()
    assert next(written)[1] is False
    written.close()
    step.unload()
    assert threading.active_count() == before


# Rows


def test_a_conversation_row_is_complete():
    step, (row, *_) = generate(num_rows=2, seed=3)
    assert list(row) == step.outputs == CONVERSATION
    assert row["keep"] is True
    assert row["drop_reason"] == ""
    assert row["model"] == "told"
    assert row["messages"] == [
        {"role": "user", "content": row["instruction"]},
        {"role": "assistant", "content": row["response"]},
    ]
    assert row["instruction_raw"] == row["instruction"]
    assert row["instruction_finish_reason"] == row["response_finish_reason"] == "stop"
    assert row["instruction_tokens"] == 6
    assert row["instruction_length"] == len(row["instruction"])
    assert row["response_length"] == len("It is one more.")
    assert row["gen_input_configs"]["temperature"] == 1.0
    assert row["gen_input_configs"]["input_generator"] == "told"
    assert row["gen_input_configs"]["pre_query_template"] == step.llm.template.pre_query
    assert row["gen_response_configs"]["temperature"] == 0.0
    used = {sampling.seed for _, sampling in step.llm.asked}
    assert {row["gen_input_configs"]["seed"], row["gen_response_configs"]["seed"]} <= used


def test_an_instruction_row_has_no_response_columns():
    step, (row,) = generate(InstructionGenerator, num_rows=1)
    assert list(row) == step.outputs
    assert "response" not in row
    assert len(step.llm.asked) == 1


def test_prompts_stop_where_the_turn_stops():
    step, _ = generate(num_rows=1, early_stop_on_newline=True)
    (_, instruction), (prompt, response) = step.llm.asked
    template = step.llm.template
    assert instruction.stop_token_ids == template.stop_token_ids
    assert "\n" in instruction.stop_strings
    assert response.stop_token_ids == template.assistant_stop_token_ids
    assert "\n" not in response.stop_strings
    assert prompt.count("<|begin_of_text|>") == 1
    assert not any("\n" in s.stop_strings for _, s in generate(num_rows=1)[0].llm.asked)


def test_sampling_settings_reach_the_engine():
    step, (row,) = generate(
        num_rows=1,
        instruction_sampling={"temperature": 1.2, "top_p": 0.9, "top_k": 40, "min_p": 0.05},
        response_sampling={"temperature": 0.5, "max_new_tokens": 77},
    )
    (_, instruction), (_, response) = step.llm.asked
    assert (instruction.temperature, instruction.top_p) == (1.2, 0.9)
    assert (instruction.top_k, instruction.min_p) == (40, 0.05)
    assert (response.temperature, response.max_new_tokens) == (0.5, 77)
    assert row["gen_input_configs"]["top_k"] == 40
    assert row["gen_response_configs"]["max_new_tokens"] == 77


def test_uuids_follow_from_settings_seed_and_row():
    def uuids(**fields):
        return [row["uuid"] for row in generate(num_rows=3, **fields)[1]]

    assert uuids() == uuids(batch_size=2)
    assert len({*uuids(), *uuids(seed=1), *uuids(max_chars=99), *uuids(n_turns=2)}) == 12


# Markdown


def test_user_turns_may_not_begin_with_markdown_if_that_is_asked_for():
    """Responses may: there a heading is no bad habit."""
    step = ConversationGenerator(
        name="step", llm=ObedientEngine(), num_rows=2, n_turns=2, ban_markdown_start=True
    )
    step.load()
    banned = step.llm.tokens_matching(MARKDOWN_OPENER)
    assert "#" in [step.llm.text_of(token) for token in banned]
    ((rows, _),) = step.process()
    step.unload()
    assert [row["turns"] for row in rows] == [2, 2]
    assert len(step.llm.asked) == 8
    for prompt, sampling in step.llm.asked:
        assert sampling.first_token_not == (banned if asks(prompt) else ())


@pytest.mark.parametrize("kind", GENERATORS)
def test_every_way_to_sample_instructions_keeps_to_the_ban(kind):
    mix = {"cool": {"temperature": 0.7}, "hot": {"temperature": 1.2}}
    step = kind(
        name="step",
        llm=ObedientEngine(),
        num_rows=40,
        instruction_mix=mix,
        ban_markdown_start=True,
    )
    rows_of(step)
    asked = [sampling for prompt, sampling in step.llm.asked if asks(prompt)]
    assert {sampling.temperature for sampling in asked} == {0.7, 1.2}
    assert all(sampling.first_token_not for sampling in asked)


def test_nothing_is_banned_unless_asked_for():
    step, _ = generate(num_rows=2)
    assert not any(sampling.constraints for _, sampling in step.llm.asked)


def test_a_ban_gives_other_rows_other_ids():
    def ids(**fields):
        step = InstructionGenerator(name="step", llm=ObedientEngine(), num_rows=3, **fields)
        return {row["uuid"] for row in rows_of(step)}

    assert len(ids() | ids(ban_markdown_start=True)) == 6
    assert ids(ban_markdown_start=False) == ids()


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (ToldEngine, "ToldEngine with told cannot obey first_token_not; it obeys no constraint"),
        (DisobedientEngine, "cannot obey first_token_not; it obeys logit_bias. Leave that out"),
        (BlindEngine, "BlindEngine knows no vocabulary to look for .* in; use an engine that has"),
    ],
)
def test_an_engine_that_cannot_ban_a_first_token_says_so_when_it_is_loaded(engine, message):
    """Each row asked for it, was refused, and became an `engine_error` row."""
    step = InstructionGenerator(name="step", llm=engine(), num_rows=3, ban_markdown_start=True)
    with pytest.raises(UnsupportedSamplingError, match=message):
        step.load()
    step.llm.unload()


def test_a_dry_run_takes_the_ban():
    step = ConversationGenerator(
        name="step", llm=ScriptedEngine(), num_rows=5, ban_markdown_start=True
    )
    assert all(row["keep"] for row in rows_of(step))


# System prompts


def test_every_row_draws_a_system_prompt():
    texts = prompts.category_prompts()
    step, rows = generate(num_rows=200, system_prompts=texts, system_prompt_weights={"math": 50})
    keys = [row["system_prompt_key"] for row in rows]
    # Expected 164 of 200; below 140 has a probability under 1e-4.
    assert keys.count("math") > 140
    assert set(keys) <= set(texts)
    for row in rows[:5]:
        assert texts[row["system_prompt_key"]] in row["gen_input_configs"]["pre_query_template"]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    answers = [prompt for prompt, _ in step.llm.asked if not asks(prompt)]
    assert not any("helpful assistant for" in prompt for prompt in answers)


def test_an_included_system_prompt_is_what_was_answered():
    step, (row,) = generate(
        num_rows=1, system_prompts={"math": "You like math."}, include_system_prompt=True
    )
    assert row["messages"][0] == {"role": "system", "content": "You like math."}
    assert all("You like math." in prompt for prompt, _ in step.llm.asked)


def test_an_empty_system_prompt_is_none():
    _, (plain,) = generate(num_rows=1)
    _, (row,) = generate(num_rows=1, system_prompts={"none": ""}, include_system_prompt=True)
    template = "pre_query_template"
    assert row["gen_input_configs"][template] == plain["gen_input_configs"][template]
    assert row["system_prompt_key"] == "none"
    assert row["messages"][0]["role"] == "user"


def test_weights_need_their_prompt():
    with pytest.raises(ValueError, match=r"names .'typo'."):
        InstructionGenerator(
            name="s", llm=ToldEngine(), system_prompts={"a": "b"}, system_prompt_weights={"typo": 1}
        )


# Rejections


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "empty"),
        (" \n ", None),
        ("Write a story about…", "truncated"),
        ("What is\x00 this?", "control_characters"),
        ("<|start_header_id|>assistant What is this?", "template_tokens"),
        ("x", "too_short"),
    ],
)
def test_a_rejected_turn_is_tried_again_and_counted(bad, reason):
    _, (row,) = generate(num_rows=1, script=failing_first(2, bad))
    assert row["keep"]
    assert row["instruction_attempts"] == 3
    rejections = row["instruction_rejections"]
    assert len(rejections) == 2
    assert set(rejections) <= set(reasons.REJECTIONS)
    if reason:
        assert rejections == [reasons.instruction_reason(reason)] * 2
    assert row["instruction_finish_reason"] == "stop"
    assert bad.strip() == "" or bad not in row["instruction_raw"]


def test_the_sanitiser_agrees_on_what_the_test_calls_bad():
    assert sanitize_instruction("x").reason == "too_short"


def test_every_attempt_has_its_own_seed():
    step, _ = generate(num_rows=3, script=lambda prompt, sampling: "", max_attempts=4)
    seeds = [sampling.seed for _, sampling in step.llm.asked]
    assert len(seeds) == len(set(seeds)) == 12


def test_a_row_that_is_never_accepted_travels_with_its_reason():
    step, rows = generate(num_rows=2, script=lambda prompt, sampling: "So it goes…", max_attempts=3)
    assert len(step.llm.asked) == 6
    for row in rows:
        assert row["keep"] is False
        assert row["drop_reason"] == "instruction_truncated"
        assert row["instruction"] == row["response"] == ""
        assert row["messages"] == []
        assert row["instruction_raw"] == "So it goes"
        assert row["instruction_attempts"] == 3
        assert row["instruction_rejections"] == ["instruction_truncated"] * 3
        assert list(row) == CONVERSATION


def test_a_rejected_response_asks_for_a_fresh_instruction():
    answers = iter(["It goes on and…", "Done."])

    def script(prompt, sampling):
        return question_and_answer(prompt, sampling) if asks(prompt) else next(answers)

    step, (row,) = generate(num_rows=1, script=script)
    questions = [prompt for prompt, _ in step.llm.asked if not asks(prompt)]
    assert questions[0] != questions[1]
    assert row["keep"]
    assert row["response"] == "Done."
    assert row["instruction_rejections"] == ["response_truncated"]
    assert row["instruction"] in questions[1]


def test_a_prompt_that_does_not_fit_drops_the_row_without_a_call():
    step, (row,) = generate(num_rows=1, context=3)
    assert step.llm.asked == []
    assert row["drop_reason"] == "instruction_prompt_too_long"


def test_an_engine_failure_costs_its_own_row_only(caplog):
    def script(prompt, sampling):
        if asks(prompt) and sampling.seed == doomed:
            raise OSError("no memory")
        return question_and_answer(prompt, sampling)

    doomed = generate(num_rows=5)[1][2]["gen_input_configs"]["seed"]
    with caplog.at_level(logging.ERROR):
        _, rows = generate(num_rows=5, script=script)
    assert [row["drop_reason"] for row in rows] == ["", "", "engine_error", "", ""]
    assert list(rows[2]) == CONVERSATION
    assert "row 2 failed: OSError: no memory" in caplog.text


# Turns


def test_later_turns_follow_the_conversation():
    step, (row,) = generate(num_rows=1, n_turns=3, seed=9)
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 3
    assert row["instruction"] == row["messages"][0]["content"]
    assert row["response"] == row["messages"][1]["content"]
    assert len({m["content"] for m in row["messages"][::2]}) == 3
    assert row["instruction_attempts"] == 3
    third = [prompt for prompt, _ in step.llm.asked if asks(prompt)][2]
    template = step.llm.template
    wanted = template.pre_query_text(row["messages"][:4], prompts.multi_turn_prompt())
    assert wanted.startswith(third.rstrip())
    assert third.count("<|begin_of_text|>") == 1


def test_the_first_turn_does_not_depend_on_how_many_follow():
    _, one = generate(num_rows=3)
    _, three = generate(num_rows=3, n_turns=3)
    assert [row["messages"][:2] for row in three] == [row["messages"] for row in one]


def test_a_first_turn_that_is_never_accepted_drops_the_row():
    _, (row,) = generate(num_rows=1, script=lambda *_: "", n_turns=2, max_attempts=2)
    assert (row["keep"], row["drop_reason"]) == (False, "instruction_empty")
    assert (row["turns"], row["conversation_end"]) == (0, "")
    assert row["messages"] == []


# GenerateResponse


def test_instructions_are_answered_in_order():
    rows = [{"instruction": f"Number {i}?", "row": i, "other": i} for i in range(7)]
    step, answered = respond(rows, lambda prompt, sampling: "Yes " + prompt.split()[-2])
    assert [row["response"] for row in answered] == [
        "Yes " + step.llm.asked[i][0].split()[-2] for i in range(7)
    ]
    assert [row["other"] for row in answered] == list(range(7))
    assert all(row["keep"] and row["drop_reason"] == "" for row in answered)
    assert set(step.outputs) <= set(answered[0])


def test_messages_win_over_the_instruction_and_old_answers_go():
    history = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there?"}]
    old = [*history, {"role": "assistant", "content": "Old answer."}]
    step, answered = respond([{"instruction": "Never asked?", "messages": old}])
    assert answered[0]["messages"] == [
        *history,
        {"role": "assistant", "content": "It is one more."},
    ]
    assert "Be kind." in step.llm.asked[0][0]
    assert "Old answer." not in step.llm.asked[0][0]
    assert "Never asked?" not in step.llm.asked[0][0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": None}, "no_instruction"),
        ({"instruction": ""}, "no_instruction"),
        ({"instruction": "  "}, "no_instruction"),
        ({"instruction": 7}, "no_instruction"),
        ({}, "no_instruction"),
        ({"instruction": "Hi?", "keep": False, "drop_reason": "too_bad"}, "too_bad"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "bad_messages"),
        ({"messages": [{"role": "user", "content": None}]}, "bad_messages"),
    ],
)
def test_rows_without_a_question_cost_no_call(row, reason):
    step, answered = respond([row])
    assert step.llm.asked == []
    assert answered[0]["keep"] is False
    assert answered[0]["drop_reason"] == reason
    assert answered[0]["response"] == ""
    assert answered[0]["messages"] == []


def test_inputs_are_not_changed():
    messages = [{"role": "user", "content": "Hi?"}]
    row = {"messages": messages, "instruction": "Hi?"}
    respond([row])
    assert row == {"messages": [{"role": "user", "content": "Hi?"}], "instruction": "Hi?"}
    assert messages == [{"role": "user", "content": "Hi?"}]


def test_no_rows_are_no_rows():
    assert respond([])[1] == []


def test_a_huge_instruction_drops_its_row_only():
    _, answered = respond([{"instruction": "word " * 50_000}, {"instruction": "Hi there?"}])
    assert [row["drop_reason"] for row in answered] == ["response_prompt_too_long", ""]


def test_a_control_token_in_a_text_drops_its_row_only():
    _, answered = respond([{"instruction": "Say <|eot_id|> now"}, {"instruction": "Hi there?"}])
    assert [row["drop_reason"] for row in answered] == ["response_bad_messages", ""]


@pytest.mark.parametrize(("temperature", "calls"), [(0.0, 1), (0.7, 4)])
def test_only_sampled_responses_are_tried_again(temperature, calls):
    step, (row,) = respond(
        [{"instruction": "Hi there?", "row": 3}],
        lambda prompt, sampling: "on and on…",
        response_sampling={"temperature": temperature},
        max_attempts=4,
    )
    assert len(step.llm.asked) == calls
    assert row["drop_reason"] == "response_truncated"
    assert row["response_finish_reason"] == "length"


def test_an_engine_failure_while_answering_costs_one_row():
    def script(prompt, sampling):
        if "Bad" in prompt:
            raise RuntimeError("broken")
        return "Fine."

    _, answered = respond([{"instruction": "Good one?"}, {"instruction": "Bad one?"}], script)
    assert [row["drop_reason"] for row in answered] == ["", "engine_error"]


def test_a_generator_and_a_responder_write_what_the_conversation_generator_writes():
    _, whole = generate(num_rows=4)
    _, halves = generate(InstructionGenerator, num_rows=4)
    _, answered = respond(halves)
    for one, other in zip(whole, answered, strict=True):
        same = set(one) & set(other) - {"uuid", "gen_response_configs"}
        assert {k: one[k] for k in same} == {k: other[k] for k in same}


# Settings


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (InstructionGenerator, {"num_rows": 0}),
        (InstructionGenerator, {"num_rows": None}),
        (InstructionGenerator, {"batch_size": 0}),
        (InstructionGenerator, {"max_in_flight": 0}),
        (InstructionGenerator, {"seed": -1}),
        (InstructionGenerator, {"max_attempts": 0}),
        (InstructionGenerator, {"instruction_sampling": {"temperature": -0.1}}),
        (InstructionGenerator, {"instruction_sampling": {"temperature": float("nan")}}),
        (InstructionGenerator, {"instruction_sampling": {"top_p": 0.0}}),
        (InstructionGenerator, {"instruction_sampling": {"typo": 1}}),
        (InstructionGenerator, {"system_prompts": {"a": "b"}, "system_prompt_weights": {"a": 0}}),
        (ConversationGenerator, {"n_turns": 0}),
        (ConversationGenerator, {"response_sampling": {"max_new_tokens": 0}}),
        (GenerateResponse, {"input_batch_size": 0}),
    ],
)
def test_settings_out_of_bounds_are_refused(kind, fields):
    with pytest.raises(ValidationError):
        kind(name="step", llm=ToldEngine(), **fields)


def test_processing_before_loading_is_a_clear_error():
    with pytest.raises(RuntimeError, match="call load"):
        next(InstructionGenerator(name="s", llm=ToldEngine()).process())
    with pytest.raises(RuntimeError, match="call load"):
        next(GenerateResponse(name="s", llm=ToldEngine()).process([]))


# Progress


def test_progress_says_what_matters_every_few_seconds():
    now, lines = [0.0], []

    def work(seconds):
        return [f"{500 / seconds:.0f} tokens/s out", "engine 40% busy"]

    progress = Progress(10, lines.append, work, every_seconds=5, clock=lambda: now[0])
    kept = {"keep": True}
    for second in range(1, 6):
        now[0] = second
        progress.count(kept)
    assert lines == [
        "5/10 rows, kept 5, rejected attempts 0, 100 tokens/s out, engine 40% busy, ETA 5.0 s"
    ]
    now[0] = 10
    dropped = {"keep": False, "drop_reason": "instruction_empty"}
    progress.count(dropped, ["instruction_empty", "instruction_empty"])
    assert lines[1] == (
        "6/10 rows, kept 5, rejected attempts 2 (instruction_empty 2), 50 tokens/s out,"
        " engine 40% busy, ETA 6.7 s"
    )


def test_progress_without_a_total_or_an_engine_says_neither():
    progress = Progress(0, clock=lambda: 1.0)
    progress.count({"keep": False, "drop_reason": "engine_error"})
    assert progress.line() == "1 rows, kept 0, rejected attempts 1 (engine_error 1)"
