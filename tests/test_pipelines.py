"""The steps in real pipelines, with processes and all."""

import pytest
from distilabel.pipeline import Pipeline

from magpie_steps import columns, reasons
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.running import run_pipeline
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.instruction import InstructionGenerator
from magpie_steps.steps.response import GenerateResponse
from magpie_steps.summary import summarise

BAD = {"truncated": 0.3, "empty": 0.2}


def conversations(**fields):
    with Pipeline(name="conversations") as pipeline:
        ConversationGenerator(llm=fields.pop("llm", ScriptedEngine()), **fields)
    return pipeline


def two_steps(engine, num_rows, generate_size, respond_size):
    with Pipeline(name="two-steps") as pipeline:
        InstructionGenerator(
            llm=engine, num_rows=num_rows, batch_size=generate_size, max_attempts=1
        ) >> GenerateResponse(llm=ScriptedEngine(), input_batch_size=respond_size)
    return pipeline


def rows_of(pipeline, folder, num_rows):
    return run_pipeline(pipeline, work_dir=folder, expected_rows=num_rows).dataset.to_list()


@pytest.mark.parametrize(
    ("num_rows", "batch_size"), [(1, 1), (1, 6), (5, 2), (12, 5), (12, 6), (7, 50)]
)
def test_every_number_of_rows_and_batch_size_ends(num_rows, batch_size, tmp_path):
    rows = rows_of(
        conversations(num_rows=num_rows, batch_size=batch_size), tmp_path, num_rows=num_rows
    )
    assert [row["row"] for row in rows] == list(range(num_rows))
    assert all(row["keep"] for row in rows)


@pytest.mark.parametrize(
    ("num_rows", "generate_size", "respond_size"), [(1, 1, 1), (10, 3, 4), (12, 5, 2), (7, 50, 3)]
)
def test_two_steps_keep_every_row_in_order(num_rows, generate_size, respond_size, tmp_path):
    engine = ScriptedEngine(bad_fraction=BAD)
    pipeline = two_steps(engine, num_rows, generate_size, respond_size)
    rows = rows_of(pipeline, tmp_path, num_rows)
    assert [row["row"] for row in rows] == list(range(num_rows))
    written = {*columns.written_by("InstructionGenerator"), *columns.written_by("GenerateResponse")}
    assert set(rows[0]) == written
    for row in rows:
        assert bool(row["response"]) == bool(row["instruction"]) == row["keep"]
        assert (row["drop_reason"] in reasons.DROP_REASONS) != row["keep"]


def test_lists_that_start_empty_keep_their_type(tmp_path):
    """Stock distilabel takes a column's type from its first rows and crashes at the end."""
    engine = ScriptedEngine(bad_fraction={"truncated": 0.0008})
    pipeline = conversations(llm=engine, num_rows=3000, seed=22, batch_size=100)
    rows = rows_of(pipeline, tmp_path, 3000)
    first = next(row["row"] for row in rows if row["instruction_rejections"])
    assert first > 2000, "choose another seed: the first rows should have none"
    assert all(row["keep"] for row in rows)


def test_rows_that_are_all_dropped_are_still_rows(tmp_path):
    engine = ScriptedEngine(bad_fraction={"empty": 1.0})
    rows = rows_of(conversations(llm=engine, num_rows=60, max_attempts=2), tmp_path, 60)
    summary = summarise(rows)
    assert summary.dropped == {"instruction_empty": 60}
    assert summary.rejected == {"instruction_empty": 120}
    assert summary.model_calls == 120


def test_rejections_are_counted_and_nothing_bad_is_kept(tmp_path):
    engine = ScriptedEngine(bad_fraction=BAD, bad_response_fraction={"truncated": 0.2})
    rows = rows_of(conversations(llm=engine, num_rows=300, max_attempts=30), tmp_path, 300)
    summary = summarise(rows)
    assert summary.kept == 300
    assert set(summary.rejected) == {
        "instruction_truncated",
        "instruction_empty",
        "response_truncated",
    }
    # Half of the user turns are bad: 300 rows take about 750 attempts; under 500 or over 1,100 is
    # beyond ten standard deviations.
    assert 500 < sum(row["instruction_attempts"] for row in rows) < 1100


def test_engine_failures_are_rows_with_a_reason(tmp_path):
    engine = ScriptedEngine(failure_fraction=0.1)
    rows = rows_of(conversations(llm=engine, num_rows=100), tmp_path, 100)
    failed = [row for row in rows if not row["keep"]]
    assert 1 <= len(failed) < 60
    assert {row["drop_reason"] for row in failed} == {"engine_error"}


def test_a_pipeline_from_yaml_writes_the_same_rows(tmp_path):
    pipeline = conversations(num_rows=9, system_prompts={"a": "First.", "b": "Second."})
    pipeline.save(tmp_path / "pipeline.yaml", format="yaml")
    again = Pipeline.from_yaml(tmp_path / "pipeline.yaml")
    rows = rows_of(pipeline, tmp_path / "one", 9)
    assert rows_of(again, tmp_path / "two", 9) == rows


def test_runtime_parameters_are_taken_when_the_pipeline_runs(tmp_path):
    parameters = {
        "conversation_generator_0": {
            "num_rows": 4,
            "seed": 8,
            "instruction_sampling": {"temperature": 1.3},
        }
    }
    result = run_pipeline(
        conversations(num_rows=100), work_dir=tmp_path, expected_rows=4, parameters=parameters
    )
    temperatures = {row["gen_input_configs"]["temperature"] for row in result.dataset}
    assert temperatures == {1.3}
