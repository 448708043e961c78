"""How does a dataset's script run, from its flags to the output folder?

A script of ours declares a `Job`: its pipeline and what its rows depend on. Everything else is
here: flags, checks before anything is slow, one work folder per run that a second call goes on in,
the output folder, the summary and the exit code.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.effort import effort_of
from magpie_steps.embedded import model_path
from magpie_steps.engines.preflight import INSTALL_VLLM, check_model, has_vllm
from magpie_steps.provenance import Work, generated_so_far
from magpie_steps.publish import RunRecord, check_folder, write_repository
from magpie_steps.resume import claim
from magpie_steps.stored_rows import StoredRows
from magpie_steps.summary import Summary, counted, problem_of, summarise, table, timed
from magpie_steps.supervision.errors import PipelineRunError

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

    from magpie_steps.running import RunResult

MODELS = {"model": "tiny-instruct", "base_model": "tiny-base", "reward_model": "tiny-reward"}
"""The flags that name models, each with the embedded model that stands in for it."""

ENGINES = ("auto", "transformers", "vllm", "server", "completions", "scripted")
"""What can write: a model in this process, one in a server that is started for the run or that is
there already, or none."""

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
"""There if the driver of an NVIDIA or AMD GPU is."""


@dataclass(frozen=True)
class Run:
    """What a job was asked for on its command line.

    Attributes:
        num_rows: Rows to generate.
        seed: The run's seed.
        output_dir: Where the dataset goes.
        engine_kind: What writes: one of `ENGINES`, chosen already.
        base_urls: Where the servers of the model are, for the engine "completions".
        models: Model by flag: a hub id, a folder, or "scripted".
        license: The dataset's licence, None to leave it open.
    """

    num_rows: int
    seed: int
    output_dir: Path
    engine_kind: str
    models: Mapping[str, str]
    base_urls: tuple[str, ...] = ()
    license: str | None = None

    @property
    def work_dir(self) -> Path:
        """Where the run keeps every completion, beside the output folder."""
        return self.output_dir.with_name(f"{self.output_dir.name}.work")

    @property
    def scripted(self) -> bool:
        """Whether a scripted engine writes, without a model."""
        return self.engine_kind == "scripted"

    def engine(self, flag: str = "model") -> "magpie_steps.Engine":
        """Return a new engine for the model of a flag."""
        if self.scripted:
            return magpie_steps.ScriptedEngine()
        model = self.models[flag]
        if self.engine_kind == "vllm":
            return magpie_steps.VLLMEngine(model=model)
        if self.engine_kind == "server":
            return magpie_steps.ServedEngine(model=model)
        if self.engine_kind == "completions" and flag == "model":
            return magpie_steps.CompletionsEngine(model=model, base_urls=list(self.base_urls))
        return magpie_steps.TransformersEngine(model=model)

    def reward_model(self) -> dict[str, Any]:
        """Return the settings of a `RewardScorer`'s reward model."""
        return {"model": self.models["reward_model"]}


@dataclass(frozen=True)
class Job:
    """A dataset that a script makes.

    Attributes:
        name: The dataset's name, also of its default output folder under ``data``.
        build: Returns the pipeline of a run.
        settings: What the rows depend on besides models, seed and number, for the card.
        models: The flags in `MODELS` that it takes.
        mix: How often each system prompt is drawn, by key; empty without system prompts.
        exports: The kept rows in trainers' formats, see `write_repository`.
        num_rows: Rows by default.
    """

    name: str
    build: Callable[[Run], "Pipeline"]
    settings: Mapping[str, Any]
    models: tuple[str, ...] = ("model",)
    mix: Mapping[str, float] = field(default_factory=dict)
    exports: tuple[str, ...] = ()
    num_rows: int = 200

    @property
    def script(self) -> str:
        """The script's name, for error lines."""
        return self.name.replace("-", "_")

    def settings_of(self, run: Run) -> dict[str, Any]:
        """Return what the rows depend on; more rows of the same settings extend a dataset."""
        return {**run.models, "seed": run.seed, **self.settings}

    def main(self, description: str | None, arguments: Sequence[str] | None = None) -> int:
        """Run the job; return the exit code: 0, 1 if rows are missing, 2 if it cannot start."""
        run = self._parse(description or "", arguments)
        journal = run.work_dir / "journal.sqlite"
        try:
            _check(run)
            claim(run.work_dir, self.settings_of(run))
        except OSError as error:
            return self._fail(f"cannot write {run.output_dir}: {error.strerror or error}", code=2)
        except ValueError as error:
            return self._fail(error, code=2)
        before = generated_so_far(journal)
        try:
            result = magpie_steps.run_pipeline(
                self.build(run), work_dir=run.work_dir, expected_rows=run.num_rows
            )
        except PipelineRunError as error:
            return self._fail(error, code=1)
        except KeyboardInterrupt:
            return self._fail("interrupted; the same command goes on from here", code=130)
        summary = self._publish(run, result, before, generated_so_far(journal))
        problem = problem_of(summary)
        return self._fail(problem, code=1) if problem else 0

    def _parse(self, description: str, arguments: Sequence[str] | None) -> Run:
        """Return what the command line asks for."""
        parser = argparse.ArgumentParser(
            prog=f"{self.script}.py", description=description.partition("\n")[0]
        )
        for flag in self.models:
            parser.add_argument(
                f"--{flag.replace('_', '-')}",
                help=f"hub id or folder (default: the embedded {MODELS[flag]})",
            )
        parser.add_argument(
            "--engine",
            choices=ENGINES,
            default="auto",
            help="auto is a vLLM server if vLLM and a GPU are there, else transformers",
        )
        parser.add_argument(
            "--base-url",
            action="append",
            default=[],
            help="a server that has the model already, such as http://localhost:8000/v1; may be"
            " given several times",
        )
        parser.add_argument(
            "--num-rows",
            type=int,
            default=self.num_rows,
            help="rows to generate (default: %(default)s)",
        )
        parser.add_argument("--seed", type=int, default=0, help="the run's seed (default: 0)")
        parser.add_argument(
            "--output-dir", type=Path, default=Path("data") / self.name, help="default: %(default)s"
        )
        parser.add_argument("--license", help="the dataset's licence, a Hub id like cc-by-4.0")
        parser.add_argument("--dry-run", action="store_true", help="run without a model")
        args = parser.parse_args(arguments)
        kind = _engine_kind("scripted" if args.dry_run else args.engine, args.base_url)
        scripted = kind == "scripted"
        return Run(
            num_rows=args.num_rows,
            seed=args.seed,
            output_dir=args.output_dir,
            engine_kind=kind,
            base_urls=tuple(args.base_url),
            models={flag: _model(flag, getattr(args, flag), scripted) for flag in self.models},
            license=args.license,
        )

    def _publish(self, run: Run, result: "RunResult", before: Work, after: Work) -> Summary:
        """Write the output folder and say what is in it."""
        rows = StoredRows(result.dataset)
        summary = summarise(rows)
        work = after.since(before)
        effort = effort_of(
            result.seconds, result.cpu_seconds, work.completions, work.tokens, work.engines
        )
        settings = {**self.settings_of(run), "model": rows[0]["model"], "num_rows": run.num_rows}
        record = RunRecord(
            title=run.output_dir.name,
            model=rows[0]["model"],
            settings=settings,
            template=rows[0]["gen_input_configs"]["pre_query_template"],
            effort=effort,
            engines=work.engines,
            completions_of_all_runs=after.completions,
            license=run.license,
        )
        write_repository(run.output_dir, rows, summary, record, self.exports)
        lines = [*counted(summary, self.mix), *timed(summary, effort)]
        print(f"{table(lines)}\n\ndatasets.load_dataset({str(run.output_dir)!r}) opens them")
        return summary

    def _fail(self, reason: object, *, code: int) -> int:
        """Say in one line why it does not work; return the exit code."""
        print(f"{self.script}: error: {' '.join(str(reason).split())}", file=sys.stderr)
        return code


def conversation_job(name: str, settings: Mapping[str, Any]) -> Job:
    """Return the job of a dataset that one `ConversationGenerator` writes with these settings."""
    return Job(name=name, build=partial(_build_conversations, name, settings), settings=settings)


def _build_conversations(name: str, settings: Mapping[str, Any], run: Run) -> "Pipeline":
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name=name) as pipeline:
        magpie_steps.ConversationGenerator(
            llm=run.engine(), num_rows=run.num_rows, seed=run.seed, **settings
        )
    return pipeline


def _engine_kind(asked: str, base_urls: Sequence[str]) -> str:
    """Return the engine that writes, with nothing left to choose."""
    if asked != "auto":
        return asked
    if base_urls:
        return "completions"
    # Looked for without importing torch or vLLM: both take seconds, and torch would use the GPU in
    # this process.
    gpu = any(Path(device).exists() for device in GPU_DEVICES)
    return "server" if gpu and has_vllm() else "transformers"


def _model(flag: str, given: str | None, scripted: bool) -> str:
    """Return the model of a flag; a reward model has no scripted stand-in and needs none."""
    if scripted and flag != "reward_model":
        return "scripted"
    return given or str(model_path(MODELS[flag]))


def _check(run: Run) -> None:
    """Refuse what cannot work, before anything is started."""
    for flag, value, least in (("num-rows", run.num_rows, 1), ("seed", run.seed, 0)):
        if value < least:
            raise ValueError(f"--{flag} is {value}; it must be at least {least}")
    if not run.scripted:
        for flag, model in run.models.items():
            check_model(model, needs_template=flag != "base_model")
    if run.engine_kind == "completions" and not run.base_urls:
        raise ValueError(
            "--engine completions asks a server that you have: give its address, such as"
            " --base-url http://localhost:8000/v1"
        )
    if run.base_urls and run.engine_kind != "completions":
        raise ValueError(
            f"--base-url is for --engine completions, not for {run.engine_kind}; leave one out"
        )
    if run.engine_kind in ("vllm", "server") and not has_vllm():
        raise ValueError(f"--engine {run.engine_kind} needs vLLM: {INSTALL_VLLM}")
    check_folder(run.output_dir)
