"""What is a program told about a chat template?"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from magpie_steps.inspection.advice import HAZARDS
from magpie_steps.inspection.findings import Findings
from magpie_steps.inspection.sources import Source
from magpie_steps.inspection.verdict import Judgement


def record(source: Source, judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as JSON values.

    Args:
        source: What was judged.
        judgement: The judgement. Of a template that does not work, `works`, `code`, `message` and
            the source's name are told; of another one, everything.
    """
    verdict, findings = judgement.verdict, judgement.findings
    answer = {"model": source.name, "works": verdict.works}
    if findings is None:
        return {**answer, "code": verdict.code, "message": verdict.message}
    return {
        **answer,
        "needs": list(verdict.needs),
        "verdict": verdict.sentence(),
        "named_templates": list(source.named_templates),
        "stand_ins": list(source.stand_ins),
        **findings.template.to_dict(),
        **_examples(findings),
        "advice": _advice(findings),
    }


def _examples(findings: Findings) -> Mapping[str, Any]:
    prompt = findings.prompt
    return {
        "pre_query_ids": None if prompt is None else list(prompt.ids),
        "healed_suffix": None if prompt is None else prompt.healed_suffix,
        "pre_query_with_system": findings.with_system,
        "pre_query_turn2": findings.second_turn,
        "pre_query_turn2_with_system": findings.second_turn_with_system,
        "keeps_thoughts": findings.keeps_thoughts,
        "option_effects": [asdict(effect) for effect in findings.effects],
    }


def _advice(findings: Findings) -> dict[str, dict[str, str]]:
    return {
        name: {"meaning": HAZARDS[name].meaning, "remedy": HAZARDS[name].remedy}
        for name in findings.template.hazards
    }
