"""What distilabel and its components gallery expect of every exported component."""

import inspect
import pickle

import pytest
from distilabel.mixins.runtime_parameters import RuntimeParametersMixin
from distilabel.pipeline import Pipeline
from distilabel.steps.base import GeneratorStep, _Step
from distilabel.utils.docstring import parse_google_docstring
from distilabel.utils.export_components_info import export_components_info

import magpie_steps
from magpie_steps import columns
from magpie_steps.column_types import short_type
from magpie_steps.engines.scripted import ScriptedEngine

EXPORTED = [getattr(magpie_steps, name) for name in magpie_steps.__all__]
STEPS = [x for x in EXPORTED if inspect.isclass(x) and issubclass(x, _Step)]
READERS = [kind for kind in STEPS if not issubclass(kind, GeneratorStep)]
COMPONENTS = [*STEPS, magpie_steps.ScriptedEngine, magpie_steps.TransformersEngine]
GALLERY = {
    "text-generation",
    "chat-generation",
    "text-classification",
    "text-manipulation",
    "scorer",
    "filtering",
    "columns",
    "format",
    "load",
    "save",
    "labelling",
}
COMMON = {"name", "resources", "pipeline", "input_mappings", "output_mappings", "use_cache"}
COMMON |= {"exclude_from_signature"}
OTHER_SETTINGS = {
    "paths": ["evaluation.jsonl"],
    "threshold": 0.4,
    "seed": 3,
    "num_responses": 3,
    "prompt_style": "raw",
    "max_in_flight": 7,
    "max_attempts": 2,
    "ban_markdown_start": True,
    "keep_reasoning": False,
    "pre_query_form": "bare",
    "response_sampling": {"temperature": 0.3},
    "sampling": {"temperature": 0.3},
    "reward_model": {"score_index": 1, "trust_remote_code": True},
    "instruction_sampling": {"temperature": 1.1, "min_p": 0.1},
    "system_prompts": {"a": "First.", "b": 'Second: "x"\nline'},
    "system_prompt_weights": {"a": 0.25, "b": 3.0},
    "instruction_mix": {"cool": {"weight": 3.0}, "hot": {"temperature": 1.2, "top_p": 0.995}},
    "n_turns": 3,
    "multi_turn_prompt": "Go on.",
    "include_system_prompt": True,
    "source": "instruct_vs_base",
    "min_margin": 0.5,
    "allow_swap": True,
    "drop_system": True,
    "recipe": {
        "name": "mine",
        "rules": [
            {"kind": "one_of", "column": "language", "values": ["EN", "NO"]},
            {"kind": "number_above", "column": "instruct_reward", "bound": -12.0},
        ],
        "longest": 5,
    },
    "longest": 7,
}

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")


def fields(kind):
    return {name: field for name, field in kind.model_fields.items() if name not in COMMON}


def build(kind, **changes):
    engine = {"llm": ScriptedEngine()} if "llm" in kind.model_fields else {}
    return kind(**engine, **changes)


def line(kind, **changes):
    """Return a pipeline with the component in it."""
    with Pipeline(name="contract") as pipeline:
        if kind in READERS:
            magpie_steps.ConversationGenerator(llm=ScriptedEngine()) >> build(kind, **changes)
        else:
            build(kind, **changes)
    return pipeline


def last_step(pipeline):
    return pipeline.dag.get_step(list(pipeline.dag)[-1])["step"]


def changed(kind):
    return {name: value for name, value in OTHER_SETTINGS.items() if name in kind.model_fields}


@pytest.mark.parametrize("kind", STEPS)
def test_docstrings_list_exactly_the_fields(kind):
    parsed = parse_google_docstring(kind)
    assert parsed["short_description"].endswith(".")
    assert set(parsed["attributes"]) == set(fields(kind))
    assert all(text.endswith(".") for text in parsed["attributes"].values())


@pytest.mark.parametrize("kind", STEPS)
def test_docstrings_list_exactly_the_runtime_parameters(kind):
    step = build(kind, name="step")
    tunable = {
        name
        for name in step.runtime_parameters_names
        if name not in COMMON and not isinstance(getattr(step, name), RuntimeParametersMixin)
    }
    parsed = parse_google_docstring(kind)
    assert set(parsed["runtime_parameters"]) == tunable
    for name in tunable:
        assert kind.model_fields[name].description, name


@pytest.mark.parametrize("kind", STEPS)
def test_docstrings_list_exactly_the_columns(kind):
    step = build(kind, name="step")
    parsed = parse_google_docstring(kind)
    known = {column.name: column for column in columns.COLUMNS}
    assert list(parsed["output_columns"]) == list(step.outputs)
    assert list(parsed["input_columns"]) == list(step.inputs)
    for name, (shown, text) in {**parsed["output_columns"], **parsed["input_columns"]}.items():
        assert shown.strip("`") == short_type(known[name].type)
        assert text.endswith(".")
    for name, (_, text) in parsed["output_columns"].items():
        assert " ".join(text.split()) == known[name].description


@pytest.mark.parametrize("kind", STEPS)
def test_docstrings_lose_nothing_in_the_gallery(kind):
    parsed = parse_google_docstring(kind)
    assert parsed["categories"][0] in GALLERY
    assert parsed["references"]["Magpie"] == "https://arxiv.org/abs/2406.08464"
    papers = [link.rpartition("/")[2] for link in parsed["references"].values()]
    for paper, citation in zip(papers, parsed["citations"], strict=True):
        assert paper in citation, "without it, the card looks the paper up online"
    assert len(parsed["examples"]) == kind.__doc__.count("```python") > 0


@pytest.mark.parametrize("kind", STEPS)
def test_examples_run_and_print_what_they_show(kind, capsys):
    for code in parse_google_docstring(kind)["examples"].values():
        exec(compile(code, kind.__name__, "exec"), {})
        shown = [line.removeprefix("# ") for line in code.splitlines() if line.startswith("# ")]
        assert capsys.readouterr().out.splitlines() == shown


def test_the_gallery_finds_every_component():
    info = export_components_info()
    found = {each["name"] for part in info.values() for each in part}
    assert {kind.__name__ for kind in COMPONENTS} <= found


@pytest.mark.parametrize("kind", STEPS)
def test_no_name_equals_a_stock_component(kind):
    import distilabel.steps
    import distilabel.steps.tasks

    assert not hasattr(distilabel.steps, kind.__name__)
    assert not hasattr(distilabel.steps.tasks, kind.__name__)


@pytest.mark.parametrize("kind", STEPS)
def test_dump_and_back_is_the_same_step(kind):
    step = build(kind, name="step", **changed(kind))
    again = kind.from_dict(step.dump())
    assert again.dump() == step.dump()
    assert again.signature == step.signature


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("kind", STEPS)
def test_save_and_load_is_the_same_pipeline(kind, form, tmp_path):
    pipeline = line(kind, **changed(kind))
    path = tmp_path / f"pipeline.{form}"
    pipeline.save(path, format=form)
    again = Pipeline.from_yaml(path) if form == "yaml" else Pipeline.from_json(path)
    assert again.signature == pipeline.signature
    assert "python/tuple" not in path.read_text()
    before, after = last_step(pipeline), last_step(again)
    assert after.dump() == before.dump()
    assert type(getattr(after, "llm", None)) is type(getattr(before, "llm", None))


@pytest.mark.parametrize("kind", STEPS)
def test_everything_that_changes_rows_changes_the_signature(kind):
    signatures = {build(kind, name="step").signature}
    settings = changed(kind)
    for name, value in settings.items():
        given = {name: value}
        if name == "system_prompt_weights":
            given["system_prompts"] = OTHER_SETTINGS["system_prompts"]
        signatures.add(build(kind, name="step", **given).signature)
    assert len(signatures) == 1 + len(settings)


@pytest.mark.parametrize("kind", STEPS)
def test_runtime_parameters_reach_the_step_however_deep(kind):
    pipeline = line(kind)
    step = last_step(pipeline)
    parameters = {
        "max_in_flight": 5,
        "input_batch_size": 6,
        "response_sampling": {"temperature": 0.4},
        "instruction_sampling": {"top_p": 0.8},
        "sampling": {"min_p": 0.2},
        "min_margin": 0.4,
        "drop_system": True,
    }
    known = {name: value for name, value in parameters.items() if name in kind.model_fields}
    pipeline._set_runtime_parameters({step.name: known})
    for name in {"max_in_flight", "input_batch_size", "min_margin", "drop_system"} & set(known):
        assert getattr(step, name) == known[name]
    if "response_sampling" in known:
        assert step.response_sampling.temperature == 0.4
    if "instruction_sampling" in known:
        assert step.instruction_sampling.top_p == 0.8
    if "sampling" in known:
        assert step.sampling.min_p == 0.2


@pytest.mark.parametrize("kind", STEPS)
def test_runtime_parameters_are_optional_and_described(kind):
    step = build(kind, name="step")
    for info in step.get_runtime_parameters_info():
        if "runtime_parameters_info" not in info:
            assert info["optional"], info
            assert info["description"], info


@pytest.mark.parametrize("kind", STEPS)
def test_steps_can_be_sent_to_their_process(kind):
    step = build(kind, name="step", **changed(kind))
    step.pipeline = None
    again = pickle.loads(pickle.dumps(step))
    assert again.dump() == step.dump()


@pytest.mark.parametrize("kind", READERS)
def test_process_yields_once_per_batch_and_keeps_rows(kind):
    """Generators are tested batch by batch in test_steps.py."""
    step = build(kind, name="step")
    step.load()
    said = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello!"}]
    rows = [
        {"instruction": text, "messages": messages}
        for text, messages in ((None, None), ("", []), ("Hi there?", None), ("Hi?", said))
    ]
    yielded = list(step.process(rows))
    step.unload()
    assert len(yielded) == 1
    assert len(yielded[0]) == len(rows)
    assert len({tuple(row) for row in yielded[0]}) == 1
