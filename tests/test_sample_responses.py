"""Several answers to one question: all at once, each with its seed, the bad ones left out."""

import logging
import sqlite3

import pytest
from answering import BAD_ROWS, process
from distilabel.pipeline import Pipeline
from pydantic import ValidationError
from told_engine import ToldEngine

from magpie_steps import columns, reasons
from magpie_steps.embedded import model_path
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.running import run_pipeline
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.response import GenerateResponse
from magpie_steps.steps.sample_responses import SampleResponses

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

ASKED = {"instruction": "What is one plus one?"}
OWN = set(columns.written_by("SampleResponses"))


def seeded(prompt, sampling):
    return f"Seed {sampling.seed}."


def sample(rows, script=seeded, context=4096, **fields):
    step = SampleResponses(name="step", llm=ToldEngine(script=script, context=context), **fields)
    return step, process(step, rows)


def in_turn(*texts):
    """Return a script that says these texts, one after the other."""
    left = iter(texts)
    return lambda prompt, sampling: next(left)


# Answers


def test_a_row_gets_five_answers_at_the_papers_setting():
    row = {**ASKED, "response": "Two.", "other": 3, "keep": True}
    before = {**row}
    step, (written,) = sample([row])
    assert row == before
    assert set(written) == {*row, *OWN}
    assert {name: written[name] for name in row} == row
    assert list(step.outputs) == [name for name in columns.NAMES if name in OWN]
    (prompt,) = {prompt for prompt, _ in step.llm.asked}
    question = [{"role": "user", "content": ASKED["instruction"]}]
    assert prompt == step.llm.template.response_prompt_text(question)
    samplings = [sampling for _, sampling in step.llm.asked]
    assert {(s.temperature, s.top_p) for s in samplings} == {(0.8, 1.0)}
    assert {s.stop_token_ids for s in samplings} == {step.llm.template.assistant_stop_token_ids}
    assert written["responses"] == [f"Seed {s.seed}." for s in samplings]
    assert len(set(written["responses"])) == 5
    assert written["responses_tokens"] == [3] * 5
    assert written["responses_rejections"] == []
    config = written["gen_responses_configs"]
    assert config["seed"] == samplings[0].seed
    assert (config["temperature"], config["output_generator"]) == (0.8, "told")
    assert (written["keep"], written["drop_reason"]) == (True, "")


def test_the_whole_conversation_is_answered_and_its_old_answer_is_not_seen():
    messages = [
        {"role": "user", "content": "Hi there?"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Old answer."},
    ]
    step, (row,) = sample([{**ASKED, "messages": messages}], num_responses=2)
    assert row["messages"] == messages
    wanted = step.llm.template.response_prompt_text(messages[:3])
    assert [prompt for prompt, _ in step.llm.asked] == [wanted] * 2


def test_rejected_answers_are_left_out_and_counted_in_order():
    texts = ["One.", "", "Three…", "Four.", "Five\x00", "Six <|eot_id|>", " \n"]
    _, (row,) = sample([ASKED], in_turn(*texts), num_responses=7)
    assert row["responses"] == ["One.", "Four."]
    assert row["responses_tokens"] == [2, 2]
    assert row["responses_rejections"] == [
        "response_empty",
        "response_truncated",
        "response_control_characters",
        "response_template_tokens",
        "response_whitespace",
    ]
    assert set(row["responses_rejections"]) <= set(reasons.REJECTIONS)
    assert row["keep"]


@pytest.mark.parametrize("good", [[], ["One."]])
def test_fewer_than_two_answers_drop_the_row(good):
    texts = [*good, *["cut…"] * (3 - len(good))]
    _, (row,) = sample([ASKED], in_turn(*texts), num_responses=3)
    assert (row["keep"], row["drop_reason"]) == (False, "responses_too_few")
    assert row["drop_reason"] in reasons.DROP_REASONS
    assert row["responses"] == row["responses_tokens"] == []
    assert row["responses_rejections"] == ["response_truncated"] * (3 - len(good))


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_rows_that_ask_nothing_cost_no_call(row, reason):
    step, (written,) = sample([row])
    assert step.llm.asked == []
    assert (written["keep"], written["drop_reason"]) == (False, reason)
    assert written["responses"] == written["responses_tokens"] == []
    assert written["responses_rejections"] == []
    assert written["gen_responses_configs"]["seed"] == 0
    assert set(written) == {*row, *OWN}


def test_a_huge_instruction_and_a_control_token_drop_their_rows_only():
    rows = [{"instruction": "word " * 20_000}, {"instruction": "Say <|eot_id|> now"}, ASKED]
    step, written = sample(rows)
    assert [row["drop_reason"] for row in written] == [
        "response_prompt_too_long",
        "response_bad_messages",
        "",
    ]
    assert len(step.llm.asked) == 5


def test_an_engine_failure_costs_one_row(caplog):
    calls = []

    def script(prompt, sampling):
        calls.append(prompt)
        if "Bad" in prompt and sum("Bad" in each for each in calls) == 2:
            raise OSError("no memory")
        return "Fine."

    with caplog.at_level(logging.ERROR):
        _, written = sample([{"instruction": "Bad one?"}, {"instruction": "Good one?"}], script)
    assert [row["drop_reason"] for row in written] == ["engine_error", ""]
    assert "row failed: OSError: no memory" in caplog.text
    assert len(calls) == 10


# Seeds and settings


def test_answers_depend_neither_on_batches_nor_on_neighbours_nor_on_their_number():
    rows = [{"instruction": f"Number {i}?", "row": i} for i in range(6)]
    rows += [{"instruction": f"No number {i}?"} for i in range(3)]
    _, wanted = sample(rows, seed=5)
    texts = [text for row in wanted for text in row["responses"]]
    assert len(set(texts)) == 9 * 5
    for window in (1, 4, 100):
        assert sample(rows, seed=5, max_in_flight=window)[1] == wanted
    for row, whole in zip(rows, wanted, strict=True):
        assert sample([row], seed=5)[1] == [whole]
        (fewer,) = sample([row], seed=5, num_responses=3)[1]
        assert fewer["responses"] == whole["responses"][:3]
    assert not {text for row in sample(rows, seed=6)[1] for text in row["responses"]} & {*texts}


def test_none_of_them_repeats_the_single_response_of_the_same_settings():
    single = GenerateResponse(
        name="one", llm=ToldEngine(script=seeded), response_sampling={"temperature": 0.8}
    )
    (row,) = process(single, [{**ASKED, "row": 0}])
    (several,) = sample([{**ASKED, "row": 0}])[1]
    assert row["response"] not in several["responses"]


@pytest.mark.parametrize(
    "fields",
    [
        {"num_responses": 1},
        {"num_responses": None},
        {"sampling": {"temperature": 0}},
        {"sampling": {"top_p": 0}},
        {"input_batch_size": 0},
        {"max_in_flight": 0},
        {"seed": -1},
    ],
)
def test_settings_out_of_bounds_are_refused(fields):
    with pytest.raises(ValidationError):
        SampleResponses(name="step", llm=ToldEngine(), **fields)


def test_processing_before_loading_is_a_clear_error():
    with pytest.raises(RuntimeError, match="call load"):
        next(SampleResponses(name="step", llm=ToldEngine()).process([]))


def test_the_same_journal_generates_only_what_is_missing(tmp_path):
    rows = [{"instruction": f"Number {i}?"} for i in range(10)]

    def run(**fields):
        step = SampleResponses(name="step", llm=ScriptedEngine(), **fields)
        step.llm.use_journal(tmp_path / "journal.sqlite")
        return process(step, rows), step.llm.stats

    first, made = run(num_responses=3)
    again, found = run(num_responses=3)
    more, added = run(num_responses=5)
    assert again == first
    assert (made.generated, made.replayed) == (30, 0)
    assert (found.generated, found.replayed) == (0, 30)
    assert (added.generated, added.replayed) == (20, 30)
    assert [row["responses"][:3] for row in more] == [row["responses"] for row in first]


# In a pipeline


def generated(folder):
    with sqlite3.connect(folder / "journal.sqlite") as database:
        return database.execute("SELECT SUM(generated) FROM runs").fetchone()[0]


@pytest.mark.slow
def test_the_embedded_model_answers_its_own_questions_several_times(tmp_path):
    def run():
        with Pipeline(name="samples") as pipeline:
            ask, answer = (
                TransformersEngine(model=str(model_path("tiny-instruct")), max_rows_in_flight=8)
                for _ in range(2)
            )
            several = SampleResponses(llm=answer, num_responses=4, input_batch_size=3)
            ConversationGenerator(llm=ask, num_rows=6, batch_size=4) >> several
        result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=6)
        return result.dataset.to_list()

    rows = run()
    assert [row["row"] for row in rows] == list(range(6))
    for row in rows:
        assert len(row["responses"]) == len(row["responses_tokens"])
        assert len(row["responses"]) + len(row["responses_rejections"]) == 4 or not row["keep"]
        assert all(text.strip() for text in row["responses"])
    assert sum(row["keep"] for row in rows) >= 4
    assert any(len(set(row["responses"])) > 1 for row in rows)
    before = generated(tmp_path)
    assert run() == rows
    assert generated(tmp_path) == before
