"""What a tokenizer's engine makes of a chat template and its variables."""

import pickle

import pytest
from distilabel.errors import DistilabelUserError
from pydantic import ValidationError

from magpie_steps import ConversationGenerator
from magpie_steps.embedded import model_path
from magpie_steps.engines.completions import CompletionsEngine
from magpie_steps.engines.served import ServedEngine
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.engines.vllm import VLLMEngine

MODEL = str(model_path("tiny-instruct"))
TEMPLATE = (
    "{% for m in messages %}{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n'"
    " ~ m.content ~ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% elif enable_thinking %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
ASKED = [{"role": "user", "content": "Hi?"}]


@pytest.fixture
def load():
    """Load engines of the embedded model, and unload them in the end."""
    loaded = []

    def make(**fields):
        engine = TransformersEngine(model=MODEL, **fields)
        loaded.append(engine)
        engine.load()
        return engine

    yield make
    for engine in loaded:
        engine.unload()


def test_variables_reach_the_prompts_and_only_they_tell_the_engines_apart(load):
    plain = load(chat_template=TEMPLATE)
    fast = load(chat_template=TEMPLATE, chat_template_kwargs={"enable_thinking": False})
    slow = load(chat_template=TEMPLATE, response_template_kwargs={"enable_thinking": True})
    prompts = [each.template.response_prompt_text(ASKED) for each in (plain, fast, slow)]
    assert [prompt.partition("assistant<|end_header_id|>\n\n")[2] for prompt in prompts] == [
        "",
        "<think>\n\n</think>\n\n",
        "<think>\n",
    ]
    assert slow.template.opens_reasoning == ("<think>\n", "</think>")
    assert len({each.template.pre_query for each in (plain, fast, slow)}) == 1
    # Prompt ids are in the journal's key; what is not in them changes no completion.
    assert len({each.fingerprint for each in (plain, fast, slow)}) == 1


def test_bos_is_as_asked_for(load):
    without = load(chat_template=TEMPLATE)
    always = load(chat_template=TEMPLATE, add_bos="always")
    assert always.template.pre_query_ids().ids == (
        always._tokenizer.bos_token_id,
        *without.template.pre_query_ids().ids,
    )


def test_system_prompts_are_placed_as_asked_for(load):
    dropping = TEMPLATE.replace("{{ '<|start", "{% if m.role != 'system' %}{{ '<|start", 1).replace(
        "{% endfor %}", "{% endif %}{% endfor %}"
    )
    assert load(chat_template=dropping).template.system_mode == "dropped"
    prepending = load(chat_template=dropping, system_policy="prepend")
    assert prepending.template.pre_query_text((), "Be kind.").endswith("Be kind.\n\n")


def test_a_variable_that_the_template_does_not_know_is_told_with_those_that_it_knows(load):
    engine = load(chat_template=TEMPLATE, chat_template_kwargs={"thinking": False})
    with pytest.raises(DistilabelUserError, match=r"tiny-instruct: .*'thinking'.*enable_thinking"):
        _ = engine.template


@pytest.mark.parametrize("kind", [TransformersEngine, VLLMEngine, ServedEngine, CompletionsEngine])
def test_every_engine_with_a_tokenizer_has_the_settings_and_they_survive(kind):
    variables = {"enable_thinking": False, "tools": [{"name": "a"}], "n": None, "x": {"y": [1, 2]}}
    engine = kind(
        model=MODEL,
        chat_template_kwargs=variables,
        response_template_kwargs={"enable_thinking": True},
        system_policy="ignore",
        add_bos="never",
    )
    assert kind.from_dict(engine.dump()).dump() == engine.dump()
    assert pickle.loads(pickle.dumps(engine)).chat_template_kwargs == variables


@pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")
def test_variables_change_a_steps_signature():
    def signature(**variables):
        engine = TransformersEngine(model=MODEL, chat_template_kwargs=variables)
        return ConversationGenerator(name="step", llm=engine).signature

    found = [signature(), signature(a=1), signature(a=[{"b": [1]}]), signature(a={"b": "c"})]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "value", [[[1]], [None], [{"a": 1}, 2], {"a": [[1]]}, float("nan"), "\ud800", object(), {1: 2}]
)
def test_values_that_could_not_be_written_down_are_refused(value):
    with pytest.raises(ValidationError, match="chat_template_kwargs has 'a' = "):
        TransformersEngine(model=MODEL, chat_template_kwargs={"a": value})
