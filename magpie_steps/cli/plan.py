"""How is a dataset's cost planned from a shell?"""

import argparse
import json
from collections.abc import Mapping
from math import ceil
from typing import Any

from magpie_steps.capacity import SHARDS_SOURCE, Plan, measured_rate, plan
from magpie_steps.capacity.rates import GPUS, TOKENS_PER_ROW, rate_of
from magpie_steps.capacity.small_run import plan_from_run
from magpie_steps.cli.paths import path
from magpie_steps.cli.speech import say
from magpie_steps.summary import duration, table


def add_plan(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "plan",
        help="tell what a dataset will take",
        description="Tell what a dataset will take before it is begun: GPU hours, time and disk by"
        " stage, from rates that others and we have measured, each with its source. Nothing is"
        " loaded or run.",
    )
    parser.add_argument(
        "--model", help="the model, by whose name its size is told, or a size such as 8B"
    )
    parser.add_argument("--num-rows", type=int, required=True, help="rows to generate")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs (default: %(default)s)")
    parser.add_argument(
        "--gpu", default=GPUS[0], choices=GPUS, help="which GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--tokens-per-row",
        type=float,
        default=TOKENS_PER_ROW,
        help="tokens of an instruction and its response (default: %(default)s, Magpie-Air's mean)",
    )
    measured = parser.add_mutually_exclusive_group()
    measured.add_argument(
        "--rate",
        type=float,
        help="rows per second that you measured on one GPU, instead of what is known of the model",
    )
    measured.add_argument(
        "--from-run",
        metavar="FOLDER",
        type=path,
        help="the output folder of a small run of the same job, whose effort is scaled up",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for programs")
    parser.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    """Show a plan."""
    found = _asked_for(args)
    say(json.dumps(found.as_dict()) if args.json else shown(found))
    return 0


def _asked_for(args: argparse.Namespace) -> Plan:
    if args.from_run:
        return plan_from_run(args.from_run, args.num_rows, args.gpus)
    if args.rate is not None:
        rate = measured_rate(args.rate, args.gpu, args.tokens_per_row)
    elif args.model:
        rate = rate_of(args.model, args.gpu)
    else:
        raise ValueError(
            "--model is missing; name the model or its size, such as 8B, or give what you measured,"
            " with --rate or --from-run"
        )
    return plan(args.model or "", args.num_rows, args.gpus, rate, args.tokens_per_row)


def shown(found: Plan) -> str:
    """Return a plan as text: a table of its stages, then where its numbers are from."""
    told = [*(stage.source for stage in found.stages), found.disk_source]
    sources = list(dict.fromkeys([*told, *([SHARDS_SOURCE] if found.shards > 1 else [])]))
    marks = {source: f"[{number}]" for number, source in enumerate(sources, 1)}
    stages = [
        (f"{stage.name} {marks[stage.source]}", _hours(stage.gpu_hours, stage.wall_hours))
        for stage in found.stages
    ]
    amounts = [(name.replace("_", " "), f"{n:,}") for name, n in found.amounts.items()]
    generation = f"{found.generation_gpu_hours:,.1f} GPU hours"
    disk = marks[found.disk_source]
    lines = [
        ("rows", f"{found.rows:,}"),
        *amounts,
        *stages,
        *([("instructions and responses", generation)] if found.generation_gpu_hours else []),
        ("all stages, one after the other", _hours(found.gpu_hours, found.wall_hours)),
        (f"disk, dataset {disk}", _size(found.dataset_bytes)),
        (f"disk, work folder {disk}", _size(found.work_bytes)),
        *_shards(found, marks),
    ]
    said = "\n".join(f"{mark} {source}" for source, mark in marks.items())
    return f"{table(lines)}\n\n{said}"


def _shards(found: Plan, marks: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the line about shards, none where one process is enough."""
    if found.shards == 1:
        return []
    share = f"{found.shards:,}, of {ceil(found.gpus / found.shards):,} GPUs each"
    return [(f"shards, at least {marks[SHARDS_SOURCE]}", share)]


def _hours(gpu_hours: float, wall_hours: float) -> str:
    """Return a stage's hours; of one without a GPU its time alone."""
    gpu = f"{gpu_hours:,.{2 if gpu_hours >= 1 else 4}f} GPU hours, " if gpu_hours else ""
    return f"{gpu}{duration(3600 * wall_hours)}"


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
