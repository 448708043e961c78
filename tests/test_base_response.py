"""The base model's answer: how it is asked for, where it ends, when its row is dropped."""

import logging
import pickle
import sqlite3

import pytest
import tiny_tokenizers
from answering import BAD_ROWS, process
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline
from pydantic import ValidationError
from told_engine import ToldEngine
from transformers import LlamaConfig, LlamaForCausalLM

from magpie_steps import columns, reasons
from magpie_steps.base_prompts import text_styles
from magpie_steps.embedded import model_path
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.running import run_pipeline
from magpie_steps.steps.base_response import BaseResponse
from magpie_steps.steps.conversation import ConversationGenerator

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

ASKED = {"instruction": "What is one plus one?"}
OWN = set(columns.written_by("BaseResponse"))
FEW_SHOT = text_styles()["few_shot"]


def answer(rows, script=lambda prompt, sampling: "It is two.", context=4096, **fields):
    step = BaseResponse(name="step", llm=ToldEngine(script=script, context=context), **fields)
    return step, process(step, rows)


def says(text):
    return lambda prompt, sampling: text


# Prompts


@pytest.mark.parametrize("style", text_styles())
def test_text_styles_ask_with_bos_in_front_and_stop_at_further_questions(style):
    step, _ = answer([ASKED], prompt_style=style)
    ((prompt, sampling),) = step.llm.asked
    text = text_styles()[style]
    assert prompt == "<|begin_of_text|>" + text.prompt(ASKED["instruction"])
    assert sampling.stop_strings == text.stop_strings
    assert sampling.stop_token_ids == ()


def test_the_default_is_few_shot_and_greedy():
    step, (row,) = answer([ASKED])
    ((prompt, sampling),) = step.llm.asked
    assert FEW_SHOT.before in prompt
    assert (sampling.temperature, sampling.max_new_tokens) == (0.0, 1024)
    config = row["gen_base_configs"]
    assert config["prompt_style"] == "few_shot"
    assert config["base_generator"] == "told"
    assert (config["temperature"], config["max_new_tokens"]) == (0.0, 1024)
    assert config["seed"] == sampling.seed


def test_the_template_style_renders_the_conversation_up_to_the_last_user_message():
    messages = [
        {"role": "user", "content": "Hi there?"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Old answer."},
    ]
    step, _ = answer([{**ASKED, "messages": messages}], prompt_style="template")
    ((prompt, sampling),) = step.llm.asked
    template = step.llm.template
    assert prompt == template.response_prompt_text(messages[:3])
    assert sampling.stop_token_ids == template.assistant_stop_token_ids


@pytest.mark.parametrize("style", text_styles())
def test_text_styles_take_the_instruction_else_the_last_user_message(style):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there?"}]
    broken = [{"role": "assistant", "content": "x"}]
    rows = [{**ASKED, "messages": messages}, {"messages": messages}, {**ASKED, "messages": broken}]
    step, written = answer(rows, prompt_style=style)
    prompt = text_styles()[style].prompt
    assert [asked.removeprefix("<|begin_of_text|>") for asked, _ in step.llm.asked] == [
        prompt(ASKED["instruction"]),
        prompt("Hi there?"),
        prompt(ASKED["instruction"]),
    ]
    assert all(row["keep"] for row in written)


def test_a_control_token_in_an_instruction_stays_text_in_plain_prompts():
    row = {"instruction": "Say <|eot_id|> now"}
    step, (written,) = answer([row], prompt_style="raw")
    assert written["keep"]
    ids = step.llm.encode("Say <|eot_id|> now")
    assert step.llm._tokenizer.convert_tokens_to_ids("<|eot_id|>") not in ids
    _, (refused,) = answer([row], prompt_style="template")
    assert refused["drop_reason"] == "base_response_bad_messages"


# Answers


def test_a_base_response_is_written_beside_what_the_row_has():
    row = {**ASKED, "response": "Two.", "messages": [], "other": 3, "keep": True}
    before = {**row}
    step, (written,) = answer([row], says("It is two.\n\n[Question]\nWhat is three?"))
    assert row == before
    assert set(written) == {*row, *OWN}
    assert {name: written[name] for name in row} == row
    assert written["base_response"] == "It is two."
    assert written["base_response_raw"] == "It is two.\n\n[Question]\nWhat is three?"
    assert written["base_response_finish_reason"] == "stop"
    assert written["base_response_tokens"] == len(written["base_response_raw"].split()) + 1
    assert written["drop_reason"] == ""
    assert list(step.outputs) == [name for name in columns.NAMES if name in OWN]


def test_one_that_ran_out_of_tokens_is_kept():
    _, (row,) = answer([ASKED], says("It goes on and…"))
    assert row["keep"]
    assert row["base_response"] == "It goes on and"
    assert row["base_response_finish_reason"] == "length"


@pytest.mark.parametrize("style", ["raw", "few_shot", "template"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "whitespace"),
        ("It is <|start_header_id|>two", "template_tokens"),
        ("It is\x00 two.", "control_characters"),
    ],
)
def test_a_rejected_answer_drops_its_row_only_and_leaves_its_evidence(style, text, reason):
    rows = [{"instruction": "Bad one?"}, {"instruction": "Good one?"}]

    def script(prompt, sampling):
        return text if "Bad" in prompt else "Fine."

    _, (bad, good) = answer(rows, script, prompt_style=style)
    assert bad["keep"] is False
    assert bad["drop_reason"] == f"base_response_{reason}"
    assert bad["drop_reason"] in reasons.BASE_REJECTIONS
    assert bad["base_response"] == ""
    assert bad["base_response_raw"] == text
    assert bad["base_response_finish_reason"] == "stop"
    assert good["keep"]


def test_nothing_but_further_questions_is_empty():
    _, (row,) = answer([ASKED], says("[Question]\nWhat?"))
    assert row["drop_reason"] == "base_response_empty"


@pytest.mark.parametrize("style", ["raw", "few_shot", "template"])
@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_rows_that_ask_nothing_cost_no_call(row, reason, style):
    step, (written,) = answer([row], prompt_style=style)
    assert step.llm.asked == []
    assert (written["keep"], written["drop_reason"]) == (False, reason)
    empty = columns.empty_row(OWN - {"gen_base_configs", "keep", "drop_reason"})
    assert {name: written[name] for name in empty} == empty
    assert written["gen_base_configs"]["seed"] == 0
    assert set(written) == {*row, *OWN}


@pytest.mark.parametrize("style", ["raw", "few_shot", "template"])
def test_a_huge_instruction_drops_its_row_only(style):
    rows = [{"instruction": "word " * 20_000}, ASKED]
    step, (huge, fine) = answer(rows, prompt_style=style)
    assert huge["drop_reason"] == "base_response_prompt_too_long"
    assert fine["keep"]
    assert len(step.llm.asked) == 1


def test_an_engine_failure_costs_one_row(caplog):
    def script(prompt, sampling):
        if "Bad" in prompt:
            raise OSError("no memory")
        return "Fine."

    rows = [{"instruction": "Good one?"}, {"instruction": "Bad one?"}, {"instruction": "Good?"}]
    with caplog.at_level(logging.ERROR):
        _, written = answer(rows, script)
    assert [row["drop_reason"] for row in written] == ["", "engine_error", ""]
    assert "row failed: OSError: no memory" in caplog.text


def test_every_reason_is_a_known_one():
    words = {f"base_response_{name}" for name in reasons.BASE_RESPONSE_REASONS}
    others = {"base_response_prompt_too_long", "base_response_bad_messages"}
    assert set(reasons.BASE_REJECTIONS) == words | others


# Seeds and settings


def test_rows_depend_neither_on_batches_nor_on_neighbours():
    rows = [{"instruction": f"Number {i}?", "row": i} for i in range(9)]
    rows += [{"instruction": f"No number {i}?"} for i in range(3)]

    def script(prompt, sampling):
        return f"Seed {sampling.seed}."

    settings = {"sampling": {"temperature": 1.0}, "seed": 5}
    _, wanted = answer(rows, script, **settings)
    assert len({row["base_response"] for row in wanted}) == 12
    for window in (1, 4, 100):
        assert answer(rows, script, max_in_flight=window, **settings)[1] == wanted
    for row, whole in zip(rows, wanted, strict=True):
        assert answer([row], script, **settings)[1] == [whole]
    assert answer(rows, script, sampling={"temperature": 1.0}, seed=6)[1] != wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_style": "chat"},
        {"prompt_style": None},
        {"sampling": {"temperature": -1}},
        {"sampling": {"stop": "x"}},
        {"input_batch_size": 0},
        {"max_in_flight": 0},
        {"seed": -1},
    ],
)
def test_settings_out_of_bounds_are_refused(fields):
    with pytest.raises(ValidationError):
        BaseResponse(name="step", llm=ToldEngine(), **fields)


def test_processing_before_loading_is_a_clear_error():
    with pytest.raises(RuntimeError, match="call load"):
        next(BaseResponse(name="step", llm=ToldEngine()).process([]))


def test_the_same_journal_generates_nothing_twice(tmp_path):
    rows = [{"instruction": f"Number {i}?"} for i in range(20)]

    def run():
        step = BaseResponse(name="step", llm=ScriptedEngine())
        step.llm.use_journal(tmp_path / "journal.sqlite")
        return process(step, rows), step.llm.stats

    first, made = run()
    again, found = run()
    assert again == first
    assert (made.generated, made.replayed) == (20, 0)
    assert (found.generated, found.replayed) == (0, 20)


# Models


def test_a_base_model_without_chat_template_is_asked_in_plain_text(tmp_path):
    tokenizer = pickle.loads(pickle.dumps(tiny_tokenizers.llama_style()))
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    fields = {"llm": TransformersEngine(model=str(tmp_path), max_rows_in_flight=2)}
    fields |= {"sampling": {"max_new_tokens": 4}}
    for style in text_styles():
        step = BaseResponse(name="step", prompt_style=style, **fields)
        (row,) = process(step, [ASKED])
        assert row["base_response_tokens"] > 0
        assert row["drop_reason"] != "engine_error"
    step = BaseResponse(name="step", prompt_style="template", **fields)
    with pytest.raises(DistilabelUserError, match=r"no chat template.*chat_template="):
        step.load()
    step.unload()


# In a pipeline


def generated(folder):
    with sqlite3.connect(folder / "journal.sqlite") as database:
        return database.execute("SELECT SUM(generated) FROM runs").fetchone()[0]


@pytest.mark.slow
def test_the_embedded_base_model_answers_what_the_embedded_chat_model_asks(tmp_path):
    def run():
        with Pipeline(name="base") as pipeline:
            instruct, base = (
                TransformersEngine(model=str(model_path(name)), max_rows_in_flight=8)
                for name in ("tiny-instruct", "tiny-base")
            )
            few_shot = BaseResponse(llm=base, input_batch_size=3)
            ConversationGenerator(llm=instruct, num_rows=6, batch_size=4) >> few_shot
        result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=6)
        return result.dataset.to_list()

    rows = run()
    assert [row["row"] for row in rows] == list(range(6))
    assert sum(row["keep"] for row in rows) >= 4
    for row in rows:
        assert bool(row["base_response"]) == row["keep"]
        assert "[Question]" not in row["base_response"]
        assert row["response"] != row["base_response"] or not row["keep"]
        assert row["gen_base_configs"]["base_generator"] == "tiny-base"
    before = generated(tmp_path)
    assert run() == rows
    assert generated(tmp_path) == before
