import json

import pytest

from magpie_steps.engines.preflight import check_model


def folder(path, **files):
    path.mkdir()
    (path / "config.json").write_text("{}")
    for name, content in files.items():
        target = path / name.replace("__", "/").replace("_dot_", ".")
        target.parent.mkdir(exist_ok=True)
        target.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config_dot_json": json.dumps({"chat_template": "{{ messages }}"})},
        {"tokenizer_config_dot_json": json.dumps({"chat_template": [{"name": "default"}]})},
        {"chat_template_dot_jinja": "{{ messages }}"},
        {"chat_template_dot_json": "{}"},
        {"additional_chat_templates__default_dot_jinja": "{{ messages }}"},
    ],
)
def test_a_chat_template_may_be_in_several_places(tmp_path, files):
    check_model(folder(tmp_path / "model", **files))


@pytest.mark.parametrize("config", ["", "[]", "{", "{}", '{"chat_template": null}'])
def test_without_a_chat_template_the_model_cannot_serve(tmp_path, config):
    model = folder(tmp_path / "model", tokenizer_config_dot_json=config)
    with pytest.raises(ValueError, match="has no chat template"):
        check_model(model)
    check_model(model, chat_template="{{ messages }}")


@pytest.mark.parametrize("model", ["./nowhere", "/no/where", "~/no/where", "a/b/c", " "])
def test_a_path_that_is_no_folder_is_told(model):
    with pytest.raises(ValueError, match="there is no model folder"):
        check_model(model)


@pytest.mark.parametrize("model", ["gpt2", "Qwen/Qwen2.5-0.5B-Instruct"])
def test_a_hub_id_is_left_to_the_hub(model):
    check_model(model)


def test_a_file_and_an_empty_folder_are_no_models(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="there is no model folder"):
        check_model(str(tmp_path / "file"))
    with pytest.raises(ValueError, match="holds no model"):
        check_model(str(tmp_path))


def test_a_base_model_needs_no_chat_template(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has no chat template"):
        check_model(str(tmp_path))
    check_model(str(tmp_path), needs_template=False)
    with pytest.raises(ValueError, match="there is no model folder"):
        check_model(str(tmp_path / "none"), needs_template=False)
