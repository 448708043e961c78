"""Which families of models does Magpie work with, and what does each of them need?

Every chat template of a folder is inspected as `magpie-steps inspect` does it, without a tokenizer,
and counted in its family. The folder has a `manifest.json` with a list `templates` of objects: the
template's `name`, its `file`, the `models` that have it, and `bos_token` and `eos_token` if known.
What is found is about templates alone: how good a model's instructions are, nobody knows from them.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import report

from magpie_steps.inspection import Judgement, judge
from magpie_steps.inspection.sources import template_alone

OTHERS = "others: Apertus, Apriel, DBRX, GigaChat, Jamba, Ling, Step, YandexGPT"
FAMILIES = (
    ("guards, extractors, function callers", r"guard|shield|nuextract|function|hammer|tool.?ace"),
    ("Llama 4", r"llama-?4"),
    ("DeepSeek R1, distilled ones", r"deepseek.?r1|deepcoder|r1.distill"),
    ("DeepSeek LLM, Coder, V2 to V4", r"deepseek"),
    ("MiniMax, MiniCPM", r"minimax|minicpm"),
    ("SmolLM, SmolVLM", r"smol|idefics"),
    ("Nemotron", r"nemotron"),
    ("OLMo, Tülu", r"olmo|tulu"),
    ("Hermes, Dolphin, ChatML", r"hermes|dolphin|chatml"),
    ("Zephyr, OpenChat, Starling", r"zephyr|openchat|starling"),
    ("Vicuna, Alpaca, SOLAR", r"vicuna|alpaca|solar"),
    ("Llama 3 to 3.3", r"llama-?3|cogito"),
    ("Llama 2, Code Llama", r"llama-?2|code-?llama|llama2|^llama$"),
    ("Qwen 1.5 to 2.5", r"qwen-?(1\.5|2)"),
    ("Qwen 3 to 3.8, QwQ", r"qwen|qwq|marco-o1"),
    ("Gemma 4", r"gemma-?4"),
    ("Gemma 1 to 3", r"gemma"),
    ("Mistral, Mixtral, Devstral", r"mistral|mixtral|magistral|devstral|ministral|pixtral"),
    ("Phi 3 to 4", r"phi-?[34]"),
    ("gpt-oss", r"gpt-?oss"),
    ("GLM, ChatGLM", r"glm"),
    ("Kimi K2", r"kimi"),
    ("Granite", r"granite"),
    ("Command, Aya", r"command|c4ai|aya|cohere"),
    ("Falcon", r"falcon"),
    ("Yi, InternLM, Baichuan, Orion", r"\byi\b|yi-|internlm|baichuan|orion"),
    ("EXAONE, Hunyuan, Seed, LFM", r"exaone|hunyuan|\bhy3|seed-oss|lfm"),
)
"""Families in the order in which a name is looked up: the first that a part of it fits."""


def main() -> None:
    """Inspect the templates, count, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder with manifest.json")
    args = parser.parse_args()
    families = count(args.folder)
    lines = [(each["family"], f"{each['works']} of {each['templates']}") for each in families]
    report(lines, vars(args), {"families": families})


def count(folder: Path) -> list[dict[str, Any]]:
    """Inspect a folder's templates; return what was counted in each family."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    judged: dict[str, list[Judgement]] = {name: [] for name in [*sorted_names(), OTHERS]}
    for entry in manifest["templates"]:
        judged[family_of(entry)].append(inspected(folder, entry))
    return [{"family": name, **counts(found)} for name, found in judged.items() if found]


def sorted_names() -> list[str]:
    """Return the families' names in alphabetical order."""
    return sorted((name for name, _ in FAMILIES), key=str.casefold)


def family_of(entry: Mapping[str, Any]) -> str:
    """Return the family of a manifest's entry."""
    called = " ".join([entry["name"], *entry["models"]]).casefold().replace("_", "-")
    called = called.replace("mistral.rs", "")  # a program that brings templates of many families
    return next((name for name, pattern in FAMILIES if re.search(pattern, called)), OTHERS)


def inspected(folder: Path, entry: Mapping[str, Any]) -> Judgement:
    """Return the judgement on a manifest's entry."""
    text = (folder / entry["file"]).read_text(encoding="utf-8")
    tokens = {name: entry[name] for name in ("bos_token", "eos_token") if entry[name] is not None}
    return judge(template_alone(entry["name"], text, tokens).derive, {})


def counts(judged: Sequence[Judgement]) -> dict[str, Any]:
    """Return what some templates have in common."""
    found = [each.findings for each in judged if each.findings is not None]
    templates = [each.template for each in found]
    return {
        "templates": len(judged),
        "works": len(found),
        "system_mode": tally(template.system_mode for template in templates),
        "single_turn": sum(each.second_turn is None for each in found),
        "thinks": sum(template.reasoning_marks is not None for template in templates),
        "opens_thoughts": sum(template.opens_reasoning is not None for template in templates),
        "switches": tally(
            option
            for each in found
            for option in {effect.option for effect in each.effects if effect.changes}
        ),
        "needs": tally(need for each in judged for need in each.verdict.needs),
        "refused": tally(each.verdict.code for each in judged if not each.verdict.works),
    }


def tally(values: Iterable[str]) -> dict[str, int]:
    """Return how often each value is there, the most frequent first."""
    found = Counter(values)
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


if __name__ == "__main__":
    main()
