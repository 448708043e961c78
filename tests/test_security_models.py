"""No code comes in with a model: not its Python files, not its pickles, not its chat template."""

import json
import logging
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distilabel.errors import DistilabelUserError

from magpie_steps.embedded import embedder_path, model_path
from magpie_steps.engines.completions import CompletionsEngine
from magpie_steps.engines.embedder import Embedder
from magpie_steps.engines.identity import template_of
from magpie_steps.engines.preflight import check_model
from magpie_steps.engines.reward import RewardModel
from magpie_steps.engines.served import ServedEngine
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.engines.trust import check_code, check_weights
from magpie_steps.engines.vllm import VLLMEngine
from magpie_steps.job.run import Run
from magpie_steps.recipes import recipe_named

ROOT = Path(__file__).resolve().parents[1]

FLAG = "trust_remote_code=True (--trust-remote-code)"


@pytest.fixture
def loot(tmp_path: Path) -> Path:
    """The file that hostile code writes when it runs."""
    return tmp_path / "loot"


@pytest.fixture(autouse=True)
def modules_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where transformers would put a model's code, were it to run."""
    place = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", place)
    monkeypatch.syspath_prepend(place)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("transformers_modules"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magpie_steps.engines.vllm_api.require_vllm", lambda say: "0")


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, loot: Path) -> None:
        self.loot = loot

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.loot,)


def copy(source: Path, folder: Path, **config: Any) -> Path:
    shutil.copytree(source, folder)
    edit(folder / "config.json", **config)
    return folder


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def with_code(source: Path, folder: Path, loot: Path, name: str = "config.json") -> Path:
    """A model whose configuration names code of its own, which is there."""
    copy(source, folder)
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(loot)!r}).touch()\n"
        # Classes of its own: transformers marks those that it loads, for all of the process.
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "class Config(LlamaConfig): pass\n"
        "class Model(LlamaForCausalLM): config_class = Config\n"
        "class Tokenizer(PreTrainedTokenizerFast): pass\n"
    )
    kinds = {
        "AutoConfig": "evil.Config",
        "AutoModelForCausalLM": "evil.Model",
        "AutoModelForSequenceClassification": "evil.Model",
        "AutoModel": "evil.Model",
    }
    tokenizers = {"AutoTokenizer": [None, "evil.Tokenizer"]}
    edit(folder / name, auto_map=kinds if name == "config.json" else tokenizers)
    return folder


def instruct(folder: Path) -> TransformersEngine:
    return TransformersEngine(model=str(folder))


ENGINES: dict[str, tuple[Path, Callable[[Path], Any]]] = {
    "transformers": (model_path("tiny-instruct"), instruct),
    "vllm": (model_path("tiny-instruct"), lambda folder: VLLMEngine(model=str(folder))),
    "served": (model_path("tiny-instruct"), lambda folder: ServedEngine(model=str(folder))),
    "completions": (
        model_path("tiny-instruct"),
        lambda folder: CompletionsEngine(
            model=str(folder), base_urls=["http://127.0.0.1:9/v1"], max_retries=0
        ),
    ),
    "reward": (model_path("tiny-reward"), lambda folder: RewardModel(model=str(folder))),
    "embedder": (embedder_path(), lambda folder: Embedder(model=str(folder))),
}


def refusal(load: Callable[[], object]) -> str:
    """The one line that says why a model is not loaded."""
    with pytest.raises(DistilabelUserError) as raised:
        load()
    said = str(raised.value)
    assert "\n" not in said
    return said


# Python code


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ENGINES)
def test_a_models_own_code_never_runs_unless_it_is_trusted(
    kind: str, place: str, tmp_path: Path, loot: Path
):
    source, make = ENGINES[kind]
    folder = with_code(source, tmp_path / "model", loot, place)
    said = refusal(make(folder).load)
    assert "brings Python code of its own (evil." in said
    assert FLAG in said
    assert not loot.exists()


def test_code_runs_with_trust_and_a_warning(
    tmp_path: Path, loot: Path, caplog: pytest.LogCaptureFixture
):
    """The test's code would run: what keeps it from running is the check."""
    folder = with_code(model_path("tiny-instruct"), tmp_path / "model", loot)
    engine = TransformersEngine(model=str(folder), trust_remote_code=True)
    with caplog.at_level(logging.WARNING, logger="magpie_steps"):
        engine.load()
    engine.unload()
    assert loot.exists()
    assert f"trust_remote_code is on: code that comes with {str(folder)!r}" in caplog.text


def test_trust_is_off_wherever_nothing_is_said():
    for kind in (TransformersEngine, VLLMEngine, ServedEngine, CompletionsEngine):
        assert kind(model="owner/name").trust_remote_code is False
    assert RewardModel().trust_remote_code is Embedder().trust_remote_code is False


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("kind", ["transformers", "completions", "vllm", "server"])
def test_a_job_hands_its_trust_to_every_model(kind: str, trust: bool):
    flags = ("model", "base_model", "reward_model", "tagger_model", "embedding_model")
    run = Run(
        num_rows=1,
        seed=0,
        output_dir=Path("out"),
        engine_kind=kind,
        command="",
        models=dict.fromkeys(flags, "owner/name"),
        base_urls=("http://127.0.0.1:9/v1",) if kind == "completions" else (),
        recipe=recipe_named("pro"),
        trust_remote_code=trust,
    )
    assert run.engine("base_model").trust_remote_code is trust
    assert run.reward_model()["trust_remote_code"] is trust
    judges = str([step.dump() for step in run.judges()])
    assert judges.count(f"'trust_remote_code': {trust}") >= 3
    assert f"'trust_remote_code': {not trust}" not in judges


def test_nobody_turns_trust_on_by_the_back_door():
    with pytest.raises(ValueError, match="the engine has a field of that name"):
        VLLMEngine(model="owner/name", engine_args={"trust_remote_code": True})
    with pytest.raises(ValueError, match="the engine has a field of that name"):
        ServedEngine(model="owner/name", engine_args={"trust-remote-code": True})


@pytest.mark.parametrize("script", sorted(p.stem for p in (ROOT / "pipelines").glob("*.py")))
def test_a_job_refuses_code_before_it_starts_anything(script: str, tmp_path: Path, loot: Path):
    folder = with_code(model_path("tiny-instruct"), tmp_path / "model", loot)
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "pipelines" / f"{script}.py"), "--model", str(folder)),
            *("--num-rows", "2", "--output-dir", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "brings Python code of its own (evil." in done.stderr
    assert not loot.exists()
    assert not (tmp_path / "out").exists()


def test_code_of_a_sentence_transformers_part_is_refused(tmp_path: Path, loot: Path):
    folder = copy(embedder_path(), tmp_path / "model")
    (folder / "custom_st.py").write_text(f"open({str(loot)!r}, 'w').close()\nclass Part: pass\n")
    parts = json.loads((folder / "modules.json").read_text())
    parts[0]["type"] = "custom_st.Part"
    (folder / "modules.json").write_text(json.dumps(parts))
    assert "its own (custom_st.Part)" in refusal(Embedder(model=str(folder)).load)
    assert not loot.exists()


def test_code_that_is_not_there_is_no_reason_to_refuse(tmp_path: Path):
    """Many models name code that the library has by now; from the hub it is not fetched."""
    auto_map = {"AutoConfig": "gone.Config", "AutoModelForCausalLM": "someone/other--gone.Model"}
    folder = copy(model_path("tiny-instruct"), tmp_path / "model", auto_map=auto_map)
    engine = instruct(folder)
    engine.load()
    engine.unload()


def test_a_model_that_only_its_absent_code_can_read_is_refused(tmp_path: Path):
    folder = copy(
        model_path("tiny-instruct"),
        tmp_path / "model",
        model_type="unheard_of",
        architectures=["Unheard"],
        auto_map={"AutoConfig": "gone.Config", "AutoModelForCausalLM": "gone.Model"},
    )
    assert "contains custom code" in refusal(instruct(folder).load)


@pytest.mark.parametrize(
    "content", ["[", "7", "null", '{"auto_map": 7}', '{"auto_map": [[{"a": null}]]}', "[" * 9999]
)
def test_odd_configurations_name_no_code(content: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "modules.json").write_text(content)
    check_code(tmp_path, "model", False)
    check_weights(tmp_path, "model", False)


def test_the_template_of_a_folder_with_code_is_not_read(tmp_path: Path, loot: Path):
    folder = with_code(model_path("tiny-instruct"), tmp_path / "m", loot, "tokenizer_config.json")
    assert "brings Python code" in refusal(lambda: template_of(str(folder)))
    with pytest.raises(ValueError, match="brings Python code"):
        check_model(str(folder))
    assert not loot.exists()


# Pickles


def pickled(source: Path, folder: Path, loot: Path, name: str = "pytorch_model.bin") -> Path:
    """A model whose weights are a pickle that writes a file."""
    copy(source, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Bomb(loot)}, folder / name)
    return folder


def test_the_pickle_of_the_tests_is_one(tmp_path: Path, loot: Path):
    torch.save({"weight": Bomb(loot)}, tmp_path / "bomb.bin")
    torch.load(tmp_path / "bomb.bin", weights_only=False)
    assert loot.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
@pytest.mark.parametrize("kind", [kind for kind in ENGINES if kind != "completions"])
def test_pickled_weights_are_refused_and_never_read(
    kind: str, name: str, tmp_path: Path, loot: Path
):
    source, make = ENGINES[kind]
    said = refusal(make(pickled(source, tmp_path / "model", loot, name)).load)
    assert f"are a pickle ({name})" in said
    assert "save_pretrained(folder)" in said
    assert FLAG in said
    assert not loot.exists()


@pytest.mark.parametrize("kind", ["transformers", "reward", "embedder"])
def test_not_even_a_trusted_pickle_runs_code(kind: str, tmp_path: Path, loot: Path):
    """With trust weights may be pickled; they are still read as numbers alone."""
    source, make = ENGINES[kind]
    engine = make(pickled(source, tmp_path / "model", loot))
    engine.trust_remote_code = True
    with pytest.raises(Exception, match=r"cannot be loaded|[Ww]eights"):
        engine.load()
    assert not loot.exists()


def test_honest_pickled_weights_work_with_trust(tmp_path: Path):
    folder = copy(model_path("tiny-instruct"), tmp_path / "model")
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    engine = TransformersEngine(model=str(folder), trust_remote_code=True)
    engine.load()
    engine.unload()


def test_safetensors_beside_a_pickle_are_read_alone(tmp_path: Path, loot: Path):
    folder = copy(model_path("tiny-instruct"), tmp_path / "model")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        torch.save({"weight": Bomb(loot)}, folder / name)
    engine = instruct(folder)
    engine.load()
    engine.unload()
    assert not loot.exists()


def test_safetensors_of_another_name_open_no_way_to_the_pickle(tmp_path: Path, loot: Path):
    folder = pickled(model_path("tiny-instruct"), tmp_path / "model", loot)
    shutil.copy(model_path("tiny-instruct") / "model.safetensors", folder / "other.safetensors")
    assert "cannot be loaded" in refusal(instruct(folder).load)
    assert not loot.exists()


def test_the_pickle_of_a_sentence_transformers_part_is_refused(tmp_path: Path, loot: Path):
    folder = copy(embedder_path(), tmp_path / "model")
    parts = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 9, "name": "9", "path": "9_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*parts, dense]))
    (folder / "9_Dense").mkdir()
    settings = {"in_features": 384, "out_features": 8, "bias": True}
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "9_Dense/config.json").write_text(json.dumps({**settings, **activation}))
    torch.save({"weight": Bomb(loot)}, folder / "9_Dense/pytorch_model.bin")
    assert "are a pickle (pytorch_model.bin)" in refusal(Embedder(model=str(folder)).load)
    assert not loot.exists()


def test_pickles_among_a_tokenizers_files_are_not_read(tmp_path: Path, loot: Path):
    folder = copy(model_path("tiny-instruct"), tmp_path / "model")
    for name in ("vocab.pkl", "tokenizer.pkl", "vocab.bin", "special_tokens_map.pickle"):
        (folder / name).write_bytes(pickle.dumps(Bomb(loot)))
    engine = instruct(folder)
    engine.load()
    engine.unload()
    assert not loot.exists()


# Names


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc/passwd", "a/../../b", "..", "../x", "/etc", "owner/..", "..--x/y"),
        *("a\nb/c", "a/b\x00c", "a/\u202eb", "owner/na me", "a/b?c", "a/b#c", "", " "),
    ],
)
def test_a_name_that_is_none_is_one_clear_line(name: str):
    said = refusal(TransformersEngine(model=name).load)
    assert "model" in said or "hub" in said
    assert said.isprintable()


# Chat templates

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('touch LOOT') }}",
    "{{ lipsum.__globals__['os'].system('touch LOOT') }}",
    "{{ self.__init__.__globals__.__builtins__.open('LOOT', 'w') }}",
    "{{ raise_exception.__globals__.__builtins__.open('LOOT', 'w') }}",
    "{{ strftime_now.__func__.__globals__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(namespace) }}",
    "{% set x = namespace(__class__=1) %}{{ x.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends '/etc/passwd' %}",
    "{{ messages.append(1) }}",
    "{{ messages | attr('__class__') }}",
    "{% for x in messages %}{{ x.update({}) }}{% endfor %}",
]


@pytest.mark.parametrize("template", ESCAPES)
@pytest.mark.parametrize("kind", ["transformers", "reward"])
def test_a_chat_template_stays_in_its_box(kind: str, template: str, tmp_path: Path, loot: Path):
    source, make = ENGINES[kind]
    folder = copy(source, tmp_path / "model")
    for path in (folder / "chat_template.jinja", folder / "chat_template.json"):
        path.unlink(missing_ok=True)
    (folder / "chat_template.jinja").write_text(template.replace("LOOT", str(loot)))
    engine = make(folder)

    def use() -> None:
        engine.load()
        assert engine.template  # of an engine that is prompted with it

    try:
        said = refusal(use)
    finally:
        engine.unload()
    assert "template" in said
    assert not loot.exists()
