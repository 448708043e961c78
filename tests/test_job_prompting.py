"""Flags about the chat template and thoughts, from the command line to the engine."""

import argparse
import json
from hashlib import sha256
from pathlib import Path

import pytest

from magpie_steps.embedded import model_path
from magpie_steps.job import conversation_job
from magpie_steps.job.flags import run_asked_for
from magpie_steps.job.prompting import Prompting, add_prompting, prompting_asked_for
from magpie_steps.resume import claim

MODEL = str(model_path("tiny-instruct"))
TEMPLATE = (
    "{% for m in messages %}{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n'"
    " ~ m.content ~ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% if enable_thinking %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
JOB = conversation_job("magpie-test", {"max_attempts": 2})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "template.jinja"
    path.write_text(TEMPLATE, encoding="utf-8")
    return path


def asked_for(*arguments):
    parser = argparse.ArgumentParser()
    add_prompting(parser)
    return prompting_asked_for(parser.parse_args([*arguments]))


def run_of(*arguments, job=JOB):
    return run_asked_for(job, "A test.", ["--engine", "transformers", *map(str, arguments)])


def test_nothing_is_set_by_default():
    assert asked_for() == Prompting()
    assert Prompting().engine_fields == Prompting().template_options == Prompting().settings == {}


def test_what_is_set_reaches_the_engine_of_the_model_and_no_other(file):
    run = run_of("--chat-template", file, "--response-template-kwargs", '{"enable_thinking": true}')
    engine = run.engine()
    assert engine.chat_template == TEMPLATE
    assert engine.response_template_kwargs == {"enable_thinking": True}
    assert engine.chat_template_kwargs == {}
    other = type(run)(**{**vars(run), "models": {**run.models, "base_model": "another"}})
    assert other.engine("base_model").chat_template is None


def test_settings_name_the_template_by_its_hash(file):
    found = asked_for("--chat-template", str(file), "--drop-reasoning").settings
    digest = sha256(TEMPLATE.encode()).hexdigest()
    assert found == {"chat_template_sha256": digest, "keep_reasoning": False}
    assert asked_for("--drop-reasoning", "--keep-reasoning").settings == {}


def test_a_work_folder_takes_no_other_variables(file, tmp_path):
    variables = ("--chat-template-kwargs", '{"enable_thinking": true}')
    first = run_of("--chat-template", file)
    other = run_of("--chat-template", file, *variables)
    claim(tmp_path / "work", JOB.settings_of(first))
    with pytest.raises(ValueError, match="chat_template_kwargs was None and is now"):
        claim(tmp_path / "work", JOB.settings_of(other))
    assert claim(tmp_path / "work", JOB.settings_of(first))


def test_the_command_says_what_is_set(file):
    variables = '{"enable_thinking": true}'
    run = run_of("--chat-template", file, "--chat-template-kwargs", variables, "--drop-reasoning")
    assert "--chat-template template.jinja" in run.command
    assert f"--chat-template-kwargs '{variables}'" in run.command
    assert run.command.endswith("--drop-reasoning")
    assert run.keep_reasoning is False


def test_variables_may_be_longer_than_a_files_name(file):
    long = json.dumps({"enable_thinking": "x" * 5000})
    assert long in run_of("--chat-template", file, "--chat-template-kwargs", long).command


@pytest.mark.parametrize("flag", ["chat-template-kwargs", "response-template-kwargs"])
@pytest.mark.parametrize(
    "text", ["[1]", "enable_thinking=false", '{"a": }', "7", "null", "{" * 100_000, "\ud800"]
)
def test_what_is_no_json_object_is_one_error(flag, text):
    with pytest.raises(ValueError, match=rf"--{flag} is .*no JSON object; give names"):
        asked_for(f"--{flag}", text)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": [[1]]}', '{"a": "\\ud800"}', '{"a": 1e999}'])
def test_values_that_could_not_be_written_down_are_one_error(text):
    with pytest.raises(ValueError, match="--chat-template-kwargs has 'a' = "):
        asked_for("--chat-template-kwargs", text)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b" \n", "it is empty"), (b"\xff", "UTF-8")]
)
def test_a_file_that_is_no_template_is_one_error(content, says, tmp_path):
    path = tmp_path / "there"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        asked_for("--chat-template", str(path))
    with pytest.raises(ValueError, match="Is a directory"):
        asked_for("--chat-template", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--chat-template-kwargs", '{"a": 1}'], "does not know the option 'a'"),
        (["--dry-run", "--chat-template-kwargs", '{"a": 1}'], "a run without one has its own"),
    ],
)
def test_what_the_model_cannot_use_is_told_before_anything_starts(arguments, says):
    with pytest.raises(ValueError, match=says):
        run_of(*arguments)


def test_a_template_that_cannot_serve_is_told_before_anything_starts(tmp_path):
    path = tmp_path / "broken.jinja"
    path.write_text("{% for m in messages %}", encoding="utf-8")
    with pytest.raises(ValueError, match="compile_error"):
        run_of("--chat-template", path)


def test_a_model_without_a_template_needs_none_if_one_is_given(file, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for each in Path(MODEL).iterdir():
        if each.name not in ("chat_template.jinja", "tokenizer_config.json"):
            (bare / each.name).symlink_to(each)
    config = json.loads((Path(MODEL) / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="no chat template"):
        run_of("--model", bare)
    assert run_of("--model", bare, "--chat-template", file).engine().chat_template == TEMPLATE
