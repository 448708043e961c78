"""The main job: a Magpie dataset, written by one aligned model that is prompted with nothing.

The model's chat template is cut where a user's text begins; the model writes that text itself, then
answers it. With no arguments the model is the one that ships with the package; others by name:

    python pipelines/magpie_pro.py --model Qwen/Qwen2.5-0.5B-Instruct --num-rows 1000

The output folder is a Hub dataset repository, which ``datasets.load_dataset`` opens. The ``.work``
folder beside it keeps every completion: after a crash the same command goes on from there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.embedded import model_path
from magpie_steps.engines.preflight import check_model
from magpie_steps.provenance import Work, generated_so_far
from magpie_steps.publish import RunRecord, check_folder, write_repository
from magpie_steps.resume import claim
from magpie_steps.summary import Summary, counted, problem_of, summarise, table, timed
from magpie_steps.supervision.errors import PipelineRunError

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

    from magpie_steps.running import RunResult

# The paper's first setting (Table 7) for instructions; responses are greedy.
INSTRUCTIONS = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 512}
RESPONSES = {"temperature": 0.0, "max_new_tokens": 2048}
MAX_ATTEMPTS = 10


def build_pipeline(engine: "magpie_steps.Engine", num_rows: int, seed: int) -> "Pipeline":
    """Return the pipeline: one generator, in which every row makes its own way."""
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name="magpie-pro") as pipeline:
        magpie_steps.ConversationGenerator(
            llm=engine,
            num_rows=num_rows,
            seed=seed,
            instruction_sampling=INSTRUCTIONS,
            response_sampling=RESPONSES,
            max_attempts=MAX_ATTEMPTS,
        )
    return pipeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; return the exit code: 0, 1 if rows are missing, 2 if it cannot start."""
    args = parse_args(arguments)
    journal = args.work_dir / "journal.sqlite"
    try:
        check(args)
        claim(args.work_dir, settings_of(args))
    except OSError as error:
        return fail(f"cannot write {args.output_dir}: {error.strerror or error}", code=2)
    except ValueError as error:
        return fail(error, code=2)
    before = generated_so_far(journal)
    scripted, model = magpie_steps.ScriptedEngine, magpie_steps.TransformersEngine
    engine = scripted() if args.scripted else model(model=args.model)
    pipeline = build_pipeline(engine, args.num_rows, args.seed)
    try:
        result = magpie_steps.run_pipeline(
            pipeline, work_dir=args.work_dir, expected_rows=args.num_rows
        )
    except PipelineRunError as error:
        return fail(error, code=1)
    except KeyboardInterrupt:
        return fail("interrupted; the same command goes on from here", code=130)
    summary = publish(args, result, before, generated_so_far(journal))
    problem = problem_of(summary)
    return fail(problem, code=1) if problem else 0


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="hub id or folder (default: the embedded tiny-instruct)")
    parser.add_argument("--engine", choices=["auto", "transformers", "scripted"], default="auto")
    parser.add_argument("--num-rows", type=int, default=200, help="rows to generate (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="the run's seed (default: 0)")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("data/magpie-pro"), help="default: %(default)s"
    )
    parser.add_argument("--license", help="the dataset's licence, a Hub identifier like cc-by-4.0")
    parser.add_argument("--dry-run", action="store_true", help="run without a model")
    args = parser.parse_args(arguments)
    args.scripted = args.dry_run or args.engine == "scripted"
    args.work_dir = args.output_dir.with_name(f"{args.output_dir.name}.work")
    args.model = "scripted" if args.scripted else args.model or str(model_path("tiny-instruct"))
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is started."""
    for flag, value, least in (("num-rows", args.num_rows, 1), ("seed", args.seed, 0)):
        if value < least:
            raise ValueError(f"--{flag} is {value}; it must be at least {least}")
    if not args.scripted:
        check_model(args.model)
    check_folder(args.output_dir)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the rows depend on; more rows of the same settings extend a dataset."""
    return {
        "model": args.model,
        "seed": args.seed,
        "instruction_sampling": INSTRUCTIONS,
        "response_sampling": RESPONSES,
        "max_attempts": MAX_ATTEMPTS,
    }


def publish(args: argparse.Namespace, result: "RunResult", before: Work, after: Work) -> Summary:
    """Write the output folder and say what is in it."""
    rows = result.dataset.to_list()
    summary = summarise(rows)
    work = after.since(before)
    record = RunRecord(
        title=args.output_dir.name,
        model=rows[0]["model"],
        settings={**settings_of(args), "model": rows[0]["model"], "num_rows": args.num_rows},
        template=rows[0]["gen_input_configs"]["pre_query_template"],
        seconds=result.seconds,
        completions={"generated": work.completions, "all_runs": after.completions},
        license=args.license,
    )
    write_repository(args.output_dir, rows, summary, record)
    lines = [*counted(summary), *timed(summary, result.seconds, work.completions, work.tokens)]
    print(f"{table(lines)}\n\ndatasets.load_dataset({str(args.output_dir)!r}) opens them")
    return summary


def fail(reason: object, *, code: int) -> int:
    """Say in one line why it does not work; return the exit code."""
    print(f"magpie_pro: error: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
