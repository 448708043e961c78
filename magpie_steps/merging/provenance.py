"""What did the shards of a run take together, and how is the whole run made again?"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from magpie_steps.card.record import ModelUsed, RunRecord
from magpie_steps.effort import Effort
from magpie_steps.merging.parts import Part
from magpie_steps.merging.pipelines import whole
from magpie_steps.neighbours.store import SEARCH_REMARK

OF_A_SHARD = ("seconds", "cpu_seconds", "gpu_seconds", "completions", "completion_tokens")
"""What ``run.json`` says of each shard's effort."""


def merged_record(parts: Sequence[Part], title: str) -> RunRecord:
    """Return the record of the run that shards make up.

    Times, tokens and completions are sums; what all shards have in common is said once. The command
    is that of the same rows without shards.

    Args:
        parts: The shards, all of them, in order.
        title: The dataset's name.

    Raises:
        ValueError: If a shard's record does not say what it has to.
    """
    records = [_record(part) for part in parts]
    first, count = records[0], len(records)
    # What a shard found when it searched its own rows for neighbours holds for none of them now.
    common = [each for each in first.remarks if not each.startswith(SEARCH_REMARK)]
    joined = f"The rows were written in {count} shards, whose times and tokens are added up here."
    return replace(
        first,
        title=title,
        settings={name: value for name, value in first.settings.items() if name != "shard"},
        effort=_summed([record.effort for record in records]),
        engines=[engine for record in records for engine in record.engines],
        completions_of_all_runs=sum(record.completions_of_all_runs for record in records),
        remarks=[*common, joined],
        command=_without_shard(first.command),
        pipeline=whole(first.pipeline, parts[0].shard.all_rows),
        shards=[_about(part, record) for part, record in zip(parts, records, strict=True)],
    )


def _record(part: Part) -> RunRecord:
    content = part.record
    try:
        effort = content["effort"]
        return RunRecord(
            title=content["title"],
            model=content["model"],
            settings=content["settings"],
            template=content["pre_query_template"],
            effort=Effort(**{field.name: _number(effort[field.name]) for field in fields(Effort)}),
            bare_template=content["bare_pre_query_template"],
            models=[ModelUsed(**model) for model in content["models"]],
            system_prompts={
                key: (each["weight"], each["text"])
                for key, each in content["system_prompts"].items()
            },
            engines=content["engines"],
            completions_of_all_runs=_number(content["completions"]["all_runs"]),
            remarks=[str(remark) for remark in content["remarks"]],
            versions=content["versions"],
            license=content["license"],
            generator=content["generator"],
            command=content["command"],
            pipeline=part.pipeline,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{part.folder / 'run.json'} does not say what a run writes there: {error!r}; run that"
            " shard again with this release"
        ) from None


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _summed(efforts: Sequence[Effort]) -> Effort:
    names = [field.name for field in fields(Effort) if field.name != "busy_share"]
    # Not fsum, which makes a float of a number of tokens.
    sums: dict[str, Any] = {
        name: sum(getattr(effort, name) for effort in efforts) for name in names
    }
    busy = sum(effort.busy_share * effort.seconds for effort in efforts)
    return Effort(**sums, busy_share=busy / sums["seconds"] if sums["seconds"] > 0 else 0.0)


def _about(part: Part, record: RunRecord) -> dict[str, Any]:
    counts = part.record.get("counts")
    kept = counts.get("kept") if isinstance(counts, Mapping) else None
    effort = {name: getattr(record.effort, name) for name in OF_A_SHARD}
    return {"shard": str(part.shard), "rows": len(part.shard.rows), "kept": kept, **effort}


def _without_shard(command: str) -> str:
    words = shlex.split(command)
    if "--shard" in words:
        place = words.index("--shard")
        del words[place : place + 2]
    return shlex.join(words)
