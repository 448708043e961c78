r"""Does a base model that learns from nothing but an aligned model's Magpie data come near it?

The paper's headline, reproduced on the embedded models: tiny-instruct writes data through our
pipelines, TRL trains tiny-base on it, and all are asked questions that none has seen.

- Sets with as many answers: raw rows, rows that a recipe keeps, conversations of two turns, and as
  a control rows from twelve hand-written templates, rightly answered. The last shows what the
  format alone teaches.
- Filtered sets in sizes 1x, 2x and 4x: does more data help?
- The model on the largest filtered set goes on by DPO, on the best and worst of five answers, and
  on tiny-instruct's answers against tiny-base's.
- Nine ways to sample instructions (the paper's figure 11): what do temperature and top_p change?

Answers to held-out questions are judged by a checker that knows the right ones, and by tiny-reward
against the answers of tiny-instruct and of tiny-base. No row of any set asks what is held out.

    python benchmarks/paper_in_miniature.py --work-dir /tmp/paper     # everything
    python benchmarks/paper_in_miniature.py --work-dir /tmp/paper --stage train --device cuda

The stage `generate` needs no GPU; `train` reads only `pools`, `questions.json` and the models;
`score` needs none. Everything finished is kept in the work folder: the same command goes on after a
crash. On a CPU all but the largest raw and filtered sets are trained on once by default.
`show_paper_in_miniature.py` writes the committed result into the documents.

With models of the Hub the paper's settings hold (Llama-3-8B: appendix of arXiv 2406.08464v2), and
the trained models are left for public harnesses to judge:

    python benchmarks/paper_in_miniature.py --work-dir paper --dry-run \
        --model meta-llama/Meta-Llama-3-8B-Instruct --base-model meta-llama/Meta-Llama-3-8B \
        --reward-model sfairXC/FsfairX-LLaMA3-RM-v0.1

The last line is one JSON object.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import quiet, report, say
from paper.plan import Folders, Plan, plan_for

from magpie_steps.embedded import model_path
from magpie_steps.shards import write_text

STAGES = ("generate", "train", "score")


def main() -> int:
    """Run the stages that were asked for."""
    args = parse_args()
    quiet()
    plan = plan_of(args)
    if args.dry_run:
        show_plan(plan)
        return 0
    folders = Folders(args.work_dir.resolve())
    settle(plan, folders)
    jobs = args.jobs or jobs_for(plan)
    chosen = STAGES if args.stage == "all" else (args.stage,)
    for stage, work in {"generate": generate, "train": train}.items():
        if stage in chosen:
            start = time.monotonic()
            work(plan, folders, jobs)
            note_time(folders, stage, time.monotonic() - start)
    if "score" in chosen and plan.is_miniature:
        score(plan, folders)
    return 0


def note_time(folders: Folders, stage: str, seconds: float) -> None:
    """Add to what a stage has taken in this work folder; a start that was killed is not in it."""
    took = times(folders)
    took[stage] = round(took.get(stage, 0) + seconds)
    write_text(folders.times, json.dumps(took))
    say(f"{stage}: {seconds:.0f} s")


def times(folders: Folders) -> dict[str, int]:
    """Return the seconds that stages have taken, by their names."""
    found: dict[str, int] = {}
    if folders.times.exists():
        found = json.loads(folders.times.read_text(encoding="utf-8"))
    return found


def settle(plan: Plan, folders: Folders) -> None:
    """Note the plan in the work folder, or see that the folder is of the same plan.

    Raises:
        SystemExit: If it is of another one.
    """
    here = json.loads(json.dumps(settings(plan)))
    for free in ("device", "seeds", "side_seeds"):  # these add to what is there
        here.pop(free)
    noted = folders.root / "plan.json"
    if not noted.exists():
        folders.root.mkdir(parents=True, exist_ok=True)
        write_text(noted, json.dumps(here, indent=2))
    there = json.loads(noted.read_text(encoding="utf-8"))
    if differing := sorted(name for name in here if here[name] != there.get(name)):
        raise SystemExit(
            f"{folders.root} was made with another {', '.join(differing)}:"
            f" {[there.get(name) for name in differing]}; give the same flags or another --work-dir"
        )


def jobs_for(plan: Plan) -> int:
    """Return how much is done at the same time: small models leave room beside each other."""
    if not plan.is_miniature:
        return 1
    cores = len(os.sched_getaffinity(0))
    return min(5, cores) if plan.device == "cuda" else cores


def generate(plan: Plan, folders: Folders, jobs: int) -> None:
    """Write pools, questions and the decoding ablation."""
    from paper.ablation import decoding_ablation  # distilabel takes seconds
    from paper.generation import GROUPS, described_pools, make_pools
    from paper.held_out import questions
    from paper.workers import workers

    write_text(folders.questions, json.dumps(questions(plan.questions)))
    with workers(jobs) as pool:
        waiting: list[Future[Any]] = [
            pool.submit(make_pools, plan, folders, group) for group in GROUPS
        ]
        if plan.is_miniature:
            waiting.append(pool.submit(decoding_ablation, plan, folders))
        for each in waiting:
            each.result()
    described = described_pools(plan, folders)
    write_text(folders.described, json.dumps(described))


def train(plan: Plan, folders: Folders, jobs: int) -> None:
    """Train all models and let them answer."""
    from paper.training import train_all

    train_all(plan, folders, jobs)


def score(plan: Plan, folders: Folders) -> None:
    """Judge all answers; print the tables, then everything as a line of JSON.

    Raises:
        SystemExit: If models that the plan trains have not answered yet.
    """
    from paper.ablation import decoding_ablation
    from paper.scoring import efforts, score_all
    from paper.telling import (
        ablation_table,
        claims,
        claims_table,
        models_table,
        pools_table,
        trends,
    )

    waiting = [c.name for c in plan.chains if not folders.answers(c.name).exists()]
    if waiting:
        raise SystemExit(f"no answers yet of {', '.join(waiting)}; run with --stage train first")
    arms = score_all(plan, folders)
    pools = json.loads(folders.described.read_text(encoding="utf-8"))
    measured = decoding_ablation(plan, folders)
    found = claims(arms)
    instruct, base = arms["instruct"].runs[0], arms["base"].runs[0]
    report(
        [
            *pools_table(pools),
            *models_table(arms),
            *claims_table(found),
            *ablation_table(measured),
        ],
        settings(plan),
        {
            "pools": pools,
            "models": {name: arm.figures(instruct, base) for name, arm in arms.items()},
            "claims": found,
            "decoding": measured,
            "trends": trends(measured),
            "trainings": efforts(folders),
            "seconds": times(folders),
        },
    )


def show_plan(plan: Plan) -> None:
    """Print the plan and the trainers' settings, without loading a model."""
    from paper.training import dpo_config, sft_config

    # TRL refuses bf16 on a machine whose device cannot do it; nothing is trained here.
    sft = sft_config(plan.sft, "cpu", 0, plan.largest)
    dpo = dpo_config(plan.dpo, "cpu", 0, plan.pairs)
    shown = {
        "plan": settings(plan),
        "trainings": [chain.name for chain in plan.chains],
        "sft": {name: getattr(sft, name) for name in SHOWN},
        "dpo": {name: getattr(dpo, name) for name in (*SHOWN, "beta")},
    }
    print(json.dumps(shown, indent=2, default=str))


SHOWN = (
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "warmup_steps",
    "max_length",
    "weight_decay",
    "bf16",
    "gradient_checkpointing",
)
"""The settings of TRL's that a dry run shows."""


def settings(plan: Plan) -> dict[str, Any]:
    """Return the plan as the result holds it, without places on this machine."""
    names = ("model", "base_model", "reward_model")
    embedded = str(model_path("tiny-instruct").parent)
    told = {name: str(getattr(plan, name)).removeprefix(embedded).lstrip("/") for name in names}
    return {**asdict(plan), **told}


def plan_of(args: argparse.Namespace) -> Plan:
    """Return the plan that the flags ask for."""
    flags = ("model", "base_model", "reward_model", "unit", "pool", "pairs", "ablation")
    names = (*flags, "seeds", "side_seeds", "questions")
    plan = plan_for(device_of(args.device), {name: getattr(args, name) for name in names})
    if min(plan.seeds, plan.side_seeds) < 1:
        raise SystemExit(
            f"--seeds is {plan.seeds} and --side-seeds {plan.side_seeds}; give at least 1 for each,"
            " as every set is compared with others"
        )
    return plan


def device_of(name: str) -> str:
    """Return "cpu" or "cuda"; "auto" is a GPU where there is one."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def parse_args() -> argparse.Namespace:
    """Read the flags; what is not given is the plan's for the device."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--work-dir", type=Path, required=True, help="what is finished is kept here"
    )
    parser.add_argument("--stage", choices=("all", *STAGES), default="all", help="what to do")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--jobs", type=int, help="pools made, and models trained, at the same time")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    parser.add_argument("--model", help="the aligned model that writes")
    parser.add_argument("--base-model", help="the model that is trained")
    parser.add_argument("--reward-model", help="what judges answers")
    for name, meaning in (
        ("unit", "rows of a set of size 1x"),
        ("pool", "rows that the model writes"),
        ("pairs", "rows that preference pairs are made of, each way"),
        ("ablation", "rows of each of the nine ways to sample"),
        ("seeds", "trainings on each of the largest raw and filtered sets"),
        ("side-seeds", "trainings on each other set"),
        ("questions", "held-out questions"),
    ):
        parser.add_argument(f"--{name}", type=int, help=meaning)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
