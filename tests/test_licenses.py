"""What the table of licences says of models, and what it does not claim to know."""

import re

import pytest

from magpie_steps.embedded import MODEL_NAMES
from magpie_steps.licenses import FAMILIES, combined, licence_of

KNOWN = [
    ("meta-llama/Llama-2-7b-chat-hf", "llama2"),
    ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
    ("meta-llama/Meta-Llama-3-70B", "llama3"),
    ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama3.1"),
    ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama3.1"),
    ("META-LLAMA/llama-3.1-8b-instruct", "llama3.1"),
    ("nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", "llama3.1"),
    ("meta-llama/Llama-3.2-3B-Instruct", "llama3.2"),
    ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama4"),
    ("Qwen/Qwen2-7B-Instruct", "apache-2.0"),
    ("Qwen/Qwen2-57B-A14B-Instruct", "apache-2.0"),
    ("Qwen/Qwen2.5-0.5B-Instruct", "apache-2.0"),
    ("Qwen/Qwen2.5-7B", "apache-2.0"),
    ("Qwen/Qwen2.5-32B-Instruct-AWQ", "apache-2.0"),
    ("Qwen/Qwen2.5-Coder-32B-Instruct", "apache-2.0"),
    ("Qwen/Qwen2.5-Math-7B-Instruct", "apache-2.0"),
    ("Qwen/Qwen3-0.6B", "apache-2.0"),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", "apache-2.0"),
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "apache-2.0"),
    ("Qwen/QwQ-32B", "apache-2.0"),
    ("google/gemma-2b-it", "gemma"),
    ("google/gemma-1.1-7b-it", "gemma"),
    ("google/gemma-2-9b-it", "gemma"),
    ("google/gemma-3-270m-it", "gemma"),
    ("google/gemma-3n-E4B-it", "gemma"),
    ("google/gemma-4-31B-it", "apache-2.0"),
    ("mistralai/Mistral-7B-Instruct-v0.3", "apache-2.0"),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", "apache-2.0"),
    ("mistralai/Mistral-Nemo-Instruct-2407", "apache-2.0"),
    ("mistralai/Mistral-Small-24B-Instruct-2501", "apache-2.0"),
    ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "apache-2.0"),
    ("microsoft/Phi-3-mini-4k-instruct", "mit"),
    ("microsoft/Phi-3.5-MoE-instruct", "mit"),
    ("microsoft/phi-4", "mit"),
    ("ibm-granite/granite-3.0-8b-instruct", "apache-2.0"),
    ("ibm-granite/granite-4.0-h-small", "apache-2.0"),
    ("allenai/OLMo-2-1124-7B-Instruct", "apache-2.0"),
    ("allenai/OLMoE-1B-7B-0924", "apache-2.0"),
    ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
    ("HuggingFaceTB/SmolLM3-3B", "apache-2.0"),
    ("deepseek-ai/DeepSeek-R1", "mit"),
    ("deepseek-ai/DeepSeek-R1-0528", "mit"),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "mit"),
    ("deepseek-ai/DeepSeek-V3-0324", "mit"),
    ("deepseek-ai/DeepSeek-V3.1", "mit"),
    ("openai/gpt-oss-20b", "apache-2.0"),
    ("tiiuae/falcon-7b-instruct", "apache-2.0"),
    ("zai-org/GLM-4.6", "mit"),
    ("THUDM/GLM-4-9B-0414", "mit"),
    ("01-ai/Yi-1.5-6B-Chat", "apache-2.0"),
    ("CohereForAI/c4ai-command-r-v01", "cc-by-nc-4.0"),
    ("CohereLabs/aya-expanse-8b", "cc-by-nc-4.0"),
    *((name, "apache-2.0") for name in MODEL_NAMES),
]

OTHER = [
    ("Qwen/Qwen2-72B-Instruct", "tongyi-qianwen"),
    ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
    ("Qwen/Qwen2.5-Coder-3B", "qwen-research"),
    ("Qwen/Qwen2.5-72B-Instruct", "qwen"),
    ("Qwen/Qwen2.5-Math-72B-Instruct", "qwen"),
    ("mistralai/Mistral-Large-Instruct-2411", "mrl"),
    ("mistralai/Mistral-Small-Instruct-2409", "mrl"),
    ("mistralai/Ministral-8B-Instruct-2410", "mrl"),
    ("mistralai/Codestral-22B-v0.1", "mnpl"),
    ("deepseek-ai/DeepSeek-V3", "deepseek"),
    ("deepseek-ai/DeepSeek-V3-Base", "deepseek"),
    ("deepseek-ai/DeepSeek-V2.5-1210", "deepseek"),
    ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "deepseek"),
    ("deepseek-ai/deepseek-coder-33b-instruct", "deepseek"),
    ("deepseek-ai/deepseek-llm-7b-chat", "deepseek"),
    ("tiiuae/Falcon3-7B-Instruct", "falcon-llm-license"),
    ("tiiuae/Falcon-H1-7B-Instruct", "falcon-llm-license"),
    ("THUDM/glm-4-9b-chat", "glm-4"),
    ("nvidia/Nemotron-4-340B-Instruct", "nvidia-open-model-license"),
]

UNKNOWN = [
    "someone/Llama-3-finetune",
    "someone/Meta-Llama-3-8B-Instruct",
    "meta-llama-3/Meta-Llama-3-8B",
    "meta-llama/Meta-Llama-3",
    "meta-llama/Llama-3.10-8B",
    "meta-llama/Llama-5-8B",
    "meta-llama/Llama-3.1-8B-Instruct/x",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen3.5-27B",
    "Qwen/Qwen1.5-72B-Chat",
    "Qwen/Qwen2.5-7Bx",
    "google/gemma-5-9b",
    "mistralai/Mistral-Medium-4",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "deepseek-ai/DeepSeek-Math-V2",
    "tiny-instruct-2/tiny-instruct",
]


@pytest.mark.parametrize(("model", "license_id"), KNOWN)
def test_a_known_model_has_the_hubs_identifier(model, license_id):
    licence = licence_of(model)
    assert licence.id == license_id
    assert licence.link.startswith("https://")


@pytest.mark.parametrize(("model", "name"), OTHER)
def test_a_licence_without_identifier_has_a_name_and_a_link(model, name):
    licence = licence_of(model)
    assert (licence.id, licence.name) == ("other", name)
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert licence.link.startswith("https://")


@pytest.mark.parametrize("model", UNKNOWN)
def test_an_unknown_model_is_never_guessed(model):
    licence = licence_of(model)
    assert (licence.id, licence.name) == ("other", "unknown")
    if model.count("/") == 1:
        assert licence.link == f"https://huggingface.co/{model}"
        assert "must be looked up" in licence.obligations
    else:
        assert licence.link == ""


@pytest.mark.parametrize(
    "model",
    [
        "/models/meta-llama/Llama-3.1-8B-Instruct",
        "./tiny-instruct",
        "../Llama-3.1-8B",
        "Llama-3.1-8B-Instruct",
        "",
        "a/b](javascript:alert(1))",
        "a/b\nlicense: mit",
        "meta-llama/Llama-3.1-8B\n",
        "mеta-llama/Llama-3.1-8B",  # the second letter is Cyrillic
    ],
)
def test_what_is_no_hub_id_has_no_page(model):
    licence = licence_of(model)
    assert (licence.id, licence.name, licence.link) == ("other", "unknown", "")
    assert "no page on the Hub" in licence.obligations


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "meta-llama/Meta-Llama-3-8B-Instruct",
            ["improve another large", "Built with Meta Llama 3"],
        ),
        ("meta-llama/Llama-3.1-8B-Instruct", ['"Built with Llama"', 'begins with "Llama"']),
        ("google/gemma-2-9b-it", ["use restrictions"]),
        ("Qwen/Qwen2.5-72B", ["Built with Qwen"]),
        ("Qwen/Qwen2.5-3B", ["Commercial use is not allowed"]),
        ("mistralai/Mistral-Large-Instruct-2407", ["research"]),
        ("CohereForAI/c4ai-command-r-plus", ["Commercial use is not allowed"]),
    ],
)
def test_what_a_licence_asks_is_said(model, words):
    assert all(word in licence_of(model).obligations for word in words)


def test_only_llama_2_and_3_forbid_training_others():
    forbidding = {licence.id for _, licence in FAMILIES if "improve another" in licence.obligations}
    assert forbidding == {"llama2", "llama3"}


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "microsoft/phi-4", "tiny-instruct"])
def test_a_permissive_licence_asks_nothing(model):
    assert licence_of(model).obligations == ""


def test_every_family_is_reached():
    """A pattern that an earlier one hides would never count."""
    reached = {licence_of(model) for model, _ in [*KNOWN, *OTHER]}
    assert reached == {licence for _, licence in FAMILIES}


def test_one_licence_stays_what_it_is():
    models = ["meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-405B-Instruct"]
    assert combined(models) == licence_of(models[0])
    assert combined(["Qwen/Qwen3-8B", "tiny-base"]).id == "apache-2.0"


def test_different_licences_bind_together():
    models = ["meta-llama/Llama-3.1-8B-Instruct", "google/gemma-2-9b-it", "Qwen/Qwen3-8B", "a/b"]
    together = combined([*models, models[0]])
    assert (together.id, together.name, together.link) == ("other", "several-licenses", "")
    for model in models:
        licence = licence_of(model)
        assert together.obligations.count(licence.link) >= 1
        assert licence.obligations in together.obligations
    assert together.obligations.count("Built with Llama") == 1
    assert "Apache License 2.0" in together.obligations


def test_only_a_permissive_licence_is_said_to_ask_nothing():
    for model, _ in [*KNOWN, *OTHER]:
        together = combined([model, "a/b"])
        nothing = "It asks nothing of the text." in together.obligations
        assert nothing == (licence_of(model).id in ("apache-2.0", "mit")), model


def test_two_unknown_models_are_not_one_licence():
    together = combined(["a/b", "c/d"])
    assert together.id == "other"
    assert "huggingface.co/a/b" in together.obligations
    assert "huggingface.co/c/d" in together.obligations


def test_no_model_has_no_licence():
    with pytest.raises(ValueError, match="there is no model"):
        combined([])
