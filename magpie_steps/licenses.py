"""Which licence does a model leave the text with that it writes?

Only what is known for sure is in the table; of any other model it is said that its licence must be
looked up. It says what the licences ask of a dataset and of models that are trained on it, and is
no legal advice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence, as a dataset's card names it.

    Attributes:
        id: The Hub's identifier, "other" for a licence that the Hub has none for.
        name: The licence's name; of another licence the card's ``license_name``.
        link: Where its text is, or a model's page if it has to be looked up there; "" for nowhere.
        obligations: What it asks of the dataset, in one or two sentences; "" for nothing.
    """

    id: str
    name: str
    link: str
    obligations: str = ""


# The section numbers are those of the licences behind the links.
APACHE = Licence("apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0")
MIT = Licence("mit", "MIT License", "https://opensource.org/license/mit")
CC_BY_NC = Licence(
    "cc-by-nc-4.0",
    "Creative Commons Attribution Non Commercial 4.0",
    "https://creativecommons.org/licenses/by-nc/4.0/",
    "Commercial use is not allowed, and the model and its makers have to be named.",
)
LLAMA_2 = Licence(
    "llama2",
    "Llama 2 Community License",
    "https://ai.meta.com/llama/license/",
    "The text must not be used to improve another large language model than Llama 2 and its"
    " derivatives (section 1.b.v).",
)
LLAMA_3 = Licence(
    "llama3",
    "Meta Llama 3 Community License",
    "https://www.llama.com/llama3/license/",
    "The text must not be used to improve another large language model than Llama 3 and its"
    ' derivatives (section 1.b.v). A product with it shows "Built with Meta Llama 3", and a'
    ' distributed model that was made with Llama 3 has a name that begins with "Llama 3"'
    " (section 1.b.i).",
)
_LLAMA_ASKS = (
    'A product that holds the text shows "Built with Llama", and a distributed model that is'
    ' trained on it has a name that begins with "Llama" (section 1.b.i).'
)
LLAMA_3_1 = Licence(
    "llama3.1",
    "Llama 3.1 Community License",
    "https://www.llama.com/llama3_1/license/",
    _LLAMA_ASKS,
)
LLAMA_3_2 = Licence(
    "llama3.2",
    "Llama 3.2 Community License",
    "https://www.llama.com/llama3_2/license/",
    _LLAMA_ASKS,
)
LLAMA_3_3 = Licence(
    "llama3.3",
    "Llama 3.3 Community License",
    "https://www.llama.com/llama3_3/license/",
    _LLAMA_ASKS,
)
LLAMA_4 = Licence(
    "llama4",
    "Llama 4 Community License",
    "https://www.llama.com/llama4/license/",
    _LLAMA_ASKS,
)
GEMMA = Licence(
    "gemma",
    "Gemma Terms of Use",
    "https://ai.google.dev/gemma/terms",
    "Google claims no rights in the text, but a model trained on it to perform like Gemma is a"
    " derivative (section 1.1): who distributes one passes the use restrictions on (section 3).",
)
QWEN = Licence(
    "other",
    "qwen",
    f"{HUB}/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
    'A distributed model that is trained on the text says "Built with Qwen" or "Improved using'
    ' Qwen" in its documentation; above 100 million monthly users commercial use needs a licence of'
    " its own.",
)
QWEN_RESEARCH = Licence(
    "other",
    "qwen-research",
    f"{HUB}/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
    'Commercial use is not allowed, and a distributed model that is trained on the text says "Built'
    ' with Qwen" or "Improved using Qwen" in its documentation.',
)
TONGYI_QIANWEN = Licence(
    "other",
    "tongyi-qianwen",
    f"{HUB}/Qwen/Qwen2-72B-Instruct/blob/main/LICENSE",
    "Before training another model than Qwen on the text, read the licence's rules of use: the"
    " published versions of this agreement restrict that. Above 100 million monthly users"
    " commercial use needs a licence of its own.",
)
MISTRAL_RESEARCH = Licence(
    "other",
    "mrl",
    "https://mistral.ai/licenses/MRL-0.1.md",
    "The text may be used for research and without commercial aim only (sections 3.2 and 4.2).",
)
MISTRAL_NON_PRODUCTION = Licence(
    "other",
    "mnpl",
    "https://mistral.ai/licenses/MNPL-0.1.md",
    "The model may be used for testing, research and evaluation only, not for commercial activity"
    " (section 3.2).",
)
DEEPSEEK = Licence(
    "other",
    "deepseek",
    "https://github.com/deepseek-ai/DeepSeek-V2/blob/main/LICENSE-MODEL",
    "A model trained on the text to perform like the model is a derivative: who distributes one"
    " passes the use restrictions on (sections 4 and 5).",
)
FALCON = Licence(
    "other",
    "falcon-llm-license",
    "https://falconllm.tii.ae/falcon-terms-and-conditions.html",
    "The acceptable use policy holds; what the terms ask of models trained on the text must be read"
    " there.",
)
GLM_4 = Licence(
    "other",
    "glm-4",
    f"{HUB}/THUDM/glm-4-9b-chat/blob/main/LICENSE",
    "Use for research is free, commercial use of the model has to be registered.",
)
NVIDIA_OPEN = Licence(
    "other",
    "nvidia-open-model-license",
    "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/",
    "NVIDIA claims no ownership of the text; what else its terms ask must be read at the link.",
)
UNKNOWN = Licence("other", "unknown", "")
"""What is said of a model that is not in the table."""

FAMILIES: tuple[tuple[str, Licence], ...] = (
    (r"tiny-(base|instruct|reward)|scripted", APACHE),  # this package's own
    (r"meta-llama/Llama-2-(7|13|70)b", LLAMA_2),
    (r"meta-llama/Meta-Llama-3-(8|70)B", LLAMA_3),
    (r"meta-llama/(Meta-)?Llama-3\.1", LLAMA_3_1),
    (r"nvidia/Llama-3\.1-Nemotron-70B-Instruct", LLAMA_3_1),
    (r"meta-llama/Llama-3\.2", LLAMA_3_2),
    (r"meta-llama/Llama-3\.3", LLAMA_3_3),
    (r"meta-llama/Llama-4", LLAMA_4),
    (r"Qwen/Qwen2-(0\.5|1\.5|7)B", APACHE),
    (r"Qwen/Qwen2-57B-A14B", APACHE),
    (r"Qwen/Qwen2-72B", TONGYI_QIANWEN),
    (r"Qwen/Qwen2\.5-((Coder|Math)-)?(0\.5|1\.5|7|14|32)B", APACHE),
    (r"Qwen/Qwen2\.5-(Coder-)?3B", QWEN_RESEARCH),
    (r"Qwen/Qwen2\.5-(Math-)?72B", QWEN),
    (r"Qwen/Qwen3-(\d[\d.]*B|Coder|Next)", APACHE),
    (r"Qwen/QwQ-32B", APACHE),
    (r"google/gemma-(2b|7b|1\.1|2|3|3n)", GEMMA),
    (r"google/gemma-4", APACHE),  # the Gemma terms say so themselves
    (r"mistralai/(Mistral-7B|Mixtral-8x7B|Mixtral-8x22B|Mathstral-7B)", APACHE),
    (r"mistralai/Mistral-Nemo-(Base|Instruct)-2407", APACHE),
    (r"mistralai/Mistral-Small-(3\.[12]-)?24B", APACHE),
    (r"mistralai/Mistral-Small-Instruct-2409", MISTRAL_RESEARCH),
    (r"mistralai/Mistral-Large-Instruct-24(07|11)", MISTRAL_RESEARCH),
    (r"mistralai/Ministral-8B-Instruct-2410", MISTRAL_RESEARCH),
    (r"mistralai/Codestral-22B-v0\.1", MISTRAL_NON_PRODUCTION),
    (r"microsoft/phi-(2|3|3\.5|4)", MIT),
    (r"ibm-granite/granite-[34]\.\d", APACHE),
    (r"allenai/OLMoE?", APACHE),
    (r"HuggingFaceTB/SmolLM[23]?", APACHE),
    # Of those distilled into Llama the page says MIT, the text below it Llama's own licence.
    (r"deepseek-ai/DeepSeek-(V3-0324|V3\.[12]|R1(?!-Distill-Llama))", MIT),
    (r"deepseek-ai/DeepSeek-(llm-\d+b|coder-[\d.]+b|math-7b|(Coder-)?V2|V2\.5|V3)", DEEPSEEK),
    (r"openai/gpt-oss-(20|120)b", APACHE),
    (r"tiiuae/falcon-(7|40)b", APACHE),
    (r"tiiuae/Falcon(3|-H1)", FALCON),
    (r"(THUDM|zai-org)/GLM-(4|Z1|Z1-Rumination)-(9|32)B(-Base)?-0414", MIT),
    (r"(THUDM|zai-org)/glm-4-9b", GLM_4),
    (r"zai-org/GLM-4\.[567]", MIT),
    (r"01-ai/Yi-(1\.5|Coder|(6|9|34)B)", APACHE),
    (r"(CohereForAI|CohereLabs)/(c4ai-command|command-a|aya-23|aya-expanse)", CC_BY_NC),
    (r"nvidia/Nemotron-4-340B", NVIDIA_OPEN),
)
"""Licences by the beginning of a hub id; the first that matches counts.

After it comes nothing, or a dash and the size, kind or quantisation. Sources are the models' pages
and the licences' own texts.
"""

_REST = r"(-[\w.-]+)?"

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def licence_of(model: str) -> Licence:
    """Return the licence that what a model writes is under.

    Args:
        model: A hub id, an embedded model's name or "scripted"; of anything else, as a folder,
            nothing is known.
    """
    for family, licence in FAMILIES:
        if re.fullmatch(family + _REST, model, re.ASCII | re.IGNORECASE):
            return licence
    if not _HUB_ID.fullmatch(model):
        return replace(UNKNOWN, obligations="The model has no page on the Hub: ask its makers.")
    page = f"{HUB}/{model}"
    return replace(UNKNOWN, link=page, obligations=f"It must be looked up on the page {page}.")


def combined(models: Sequence[str]) -> Licence:
    """Return the licence of what several models wrote together.

    Theirs if it is one and the same, else another one with the obligations of all.

    Args:
        models: The models, at least one.

    Raises:
        ValueError: If there are none.
    """
    if not models:
        raise ValueError("there is no model, so no licence; give those that wrote the text")
    licences = list(dict.fromkeys(map(licence_of, models)))
    if len(licences) == 1:
        return licences[0]
    return Licence("other", "several-licenses", "", " ".join(map(_named, licences)))


def _named(licence: Licence) -> str:
    """Return a licence with its obligations, to stand beside others."""
    name = f"{licence.name} ({licence.link})" if licence.link else licence.name
    return f"{name}: {licence.obligations or 'It asks nothing of the text.'}"
