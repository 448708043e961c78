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
from magpie_steps import columns
from magpie_steps.card import RunRecord
from magpie_steps.effort import effort_of
from magpie_steps.embedded import model_path
from magpie_steps.engines.preflight import INSTALL_VLLM, check_model, has_vllm
from magpie_steps.neighbours.store import search_remark
from magpie_steps.provenance import Work, generated_so_far
from magpie_steps.recipe_files import recipe_given
from magpie_steps.recipes import RECIPES, Recipe
from magpie_steps.repository import check_folder, write_repository
from magpie_steps.resume import claim
from magpie_steps.stored_rows import StoredRows
from magpie_steps.summary import Summary, counted, problem_of, summarise, table, timed
from magpie_steps.supervision.errors import PipelineRunError

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

    from magpie_steps.running import RunResult

MODELS = {"model": "tiny-instruct", "base_model": "tiny-base", "reward_model": "tiny-reward"}
"""The flags that name models, each with the embedded model that stands in for it."""

SCRIPTED = "scripted"
"""What writes where there is no model at all."""

RULES = "rules"
"""What labels instructions where there is no model for it."""

MINILM = "all-MiniLM-L6-v2"
"""What embeds instructions where nothing else is asked for; it comes with the package."""

JUDGED_BY = (
    "ConversationGenerator",
    "RuleTagger",
    "LanguageTagger",
    "RewardScorer",
    "NeighbourDistance",
)
"""The steps of a job with a recipe, in a way: every tagger writes the same columns."""

UNJUDGED = frozenset({"base_reward", "reward_difference", "responses_rewards"})
"""Columns of theirs that stay empty there, without a base model and sampled responses."""

RULES_REMARK = (
    "Difficulty, quality and category were chosen by rules of words and form, not by a model: they"
    " try the pipeline out and judge nothing."
)
REWARDS_REMARK = (
    "No reward model was given, so there are no rewards, and the recipe's rules about them were"
    " left out."
)

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
        models: Model by flag: a hub id, a folder, "scripted", or "rules" for a tagger without one;
            "" for a reward model that is left out.
        recipe: Which rows are kept, None for all.
        license: The dataset's licence, None to leave it open.
    """

    num_rows: int
    seed: int
    output_dir: Path
    engine_kind: str
    models: Mapping[str, str]
    base_urls: tuple[str, ...] = ()
    recipe: Recipe | None = None
    license: str | None = None

    @property
    def work_dir(self) -> Path:
        """Where the run keeps every completion, beside the output folder."""
        return self.output_dir.with_name(f"{self.output_dir.name}.work")

    @property
    def store_dir(self) -> Path:
        """Where the instructions' embeddings are kept."""
        return self.work_dir / "embeddings"

    @property
    def scripted(self) -> bool:
        """Whether a scripted engine writes, without a model."""
        return self.engine_kind == SCRIPTED

    def engine(self, flag: str = "model") -> "magpie_steps.Engine":
        """Return a new engine for the model of a flag."""
        if self.scripted:
            return magpie_steps.ScriptedEngine()
        model = self.models[flag]
        if self.engine_kind == "vllm":
            return magpie_steps.VLLMEngine(model=model)
        if self.engine_kind == "server":
            return magpie_steps.ServedEngine(model=model)
        if self.engine_kind == "completions" and model == self.models["model"]:
            return magpie_steps.CompletionsEngine(model=model, base_urls=list(self.base_urls))
        return magpie_steps.TransformersEngine(model=model)

    def reward_model(self) -> dict[str, Any]:
        """Return the settings of a `RewardScorer`'s reward model."""
        return {"model": self.models["reward_model"]}

    def judges(self) -> list[Any]:
        """Return the steps that judge rows: labels, language, rewards, neighbours, the recipe."""
        if self.recipe is None:
            return []
        tagger, embedding = self.models["tagger_model"], self.models["embedding_model"]
        return [
            magpie_steps.RuleTagger()
            if tagger == RULES
            else magpie_steps.InstructionTagger(llm=self.engine("tagger_model"), seed=self.seed),
            magpie_steps.LanguageTagger(),
            *(
                [magpie_steps.RewardScorer(reward_model=self.reward_model())]
                if self.models["reward_model"]
                else []
            ),
            magpie_steps.NeighbourDistance(
                embedder={} if embedding == MINILM else {"model": embedding},
                store_dir=str(self.store_dir),
            ),
            magpie_steps.ApplyRecipe(recipe=self.recipe.as_dict()),
        ]

    @property
    def remarks(self) -> list[str]:
        """What has to be known about the labels, after the run."""
        if self.recipe is None:
            return []
        by_index = search_remark(self.store_dir)
        return [
            *([RULES_REMARK] if self.models["tagger_model"] == RULES else []),
            *([] if self.models["reward_model"] else [REWARDS_REMARK]),
            *([by_index] if by_index else []),
        ]


@dataclass(frozen=True)
class Job:
    """A dataset that a script makes.

    Attributes:
        name: The dataset's name, also of its default output folder under ``data``.
        build: Returns the pipeline of a run.
        settings: What the rows depend on besides models, seed and number, for the card.
        models: The flags in `MODELS` that it takes; "tagger_model" and "embedding_model" as well if
            it has a recipe.
        recipe: The recipe that chooses its rows unless another is asked for, "" if none does.
        mix: How often each system prompt is drawn, by key; empty without system prompts.
        exports: The kept rows in trainers' formats, see `write_repository`.
        num_rows: Rows by default.
    """

    name: str
    build: Callable[[Run], "Pipeline"]
    settings: Mapping[str, Any]
    models: tuple[str, ...] = ("model",)
    recipe: str = ""
    mix: Mapping[str, float] = field(default_factory=dict)
    exports: tuple[str, ...] = ()
    num_rows: int = 200

    @property
    def script(self) -> str:
        """The script's name, for error lines."""
        return self.name.replace("-", "_")

    def settings_of(self, run: Run) -> dict[str, Any]:
        """Return what the rows depend on; more rows of the same settings extend a dataset.

        A recipe chooses among rows and is not part of it.
        """
        models = {flag: shown_model(model) for flag, model in run.models.items()}
        return {**models, "seed": run.seed, **self.settings}

    def main(self, description: str | None, arguments: Sequence[str] | None = None) -> int:
        """Run the job; return the exit code: 0, 1 if rows are missing, 2 if it cannot start."""
        try:
            run = self._parse(description or "", arguments)
            _check(run)
        except (OSError, ValueError) as error:
            return self._fail(error, code=2)
        journal = run.work_dir / "journal.sqlite"
        try:
            check_folder(run.output_dir)
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
        if self.recipe:
            parser.add_argument(
                "--tagger-model",
                help="hub id or folder of what labels instructions (default: the model itself, or"
                " rules for the embedded one)",
            )
            parser.add_argument(
                "--embedding-model",
                default=MINILM,
                help="hub id or folder of what embeds instructions (default: %(default)s)",
            )
            parser.add_argument(
                "--recipe",
                default=self.recipe,
                help="which rows are kept: a recipe's name or a YAML file (default: %(default)s);"
                " `magpie-steps filter --list` shows them",
            )
        parser.add_argument("--license", help="the dataset's licence, a Hub id like cc-by-4.0")
        parser.add_argument("--dry-run", action="store_true", help="run without a model")
        args = parser.parse_args(arguments)
        kind = _engine_kind(SCRIPTED if args.dry_run else args.engine, args.base_url)
        models = _models(args, self.models, judged=bool(self.recipe), scripted=kind == SCRIPTED)
        return Run(
            num_rows=args.num_rows,
            seed=args.seed,
            output_dir=args.output_dir,
            engine_kind=kind,
            base_urls=tuple(args.base_url),
            models=models,
            recipe=_recipe(args.recipe, models) if self.recipe else None,
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
            remarks=run.remarks,
            license=run.license,
        )
        write_repository(run.output_dir, rows, summary, record, self.exports, run.recipe)
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


def _models(
    args: argparse.Namespace, flags: Sequence[str], *, judged: bool, scripted: bool
) -> dict[str, str]:
    """Return the model of each flag."""
    models = {flag: _model(flag, getattr(args, flag), scripted) for flag in flags}
    if judged:
        own = models["model"]
        real = not scripted and own != str(model_path(MODELS["model"]))
        models["tagger_model"] = args.tagger_model or (own if real else RULES)
        # The miniature reward model knows nothing of another model's texts.
        models["reward_model"] = args.reward_model or ("" if real else models["reward_model"])
        models["embedding_model"] = args.embedding_model
    return models


def _model(flag: str, given: str | None, scripted: bool) -> str:
    """Return the model of a flag; a reward model has no scripted stand-in and needs none."""
    if scripted and flag != "reward_model":
        return SCRIPTED
    return given or str(model_path(MODELS[flag]))


def shown_model(model: str) -> str:
    """Return a model's name without its place on this machine."""
    folder = Path(model).expanduser()
    return folder.resolve().name if model and folder.is_dir() else model


def _recipe(given: str, models: Mapping[str, str]) -> Recipe:
    """Return a recipe that the job's rows have the columns for.

    Raises:
        ValueError: There is no such recipe, or it needs what the job does not write.
        OSError: Its file cannot be read.
    """
    recipe = recipe_given(given)
    if not models["reward_model"]:
        recipe = recipe.without("instruct_reward")
    written = {name for step in JUDGED_BY for name in columns.written_by(step)} - UNJUDGED
    if missing := sorted(set(recipe.columns) - written):
        fitting = [each.name for each in RECIPES.values() if written.issuperset(each.columns)]
        raise ValueError(
            f"the recipe {recipe.name} needs {', '.join(missing)}, which this job does not write;"
            f" these recipes work: {', '.join(fitting)}"
        )
    return recipe


def _check(run: Run) -> None:
    """Refuse what cannot work, before anything is started."""
    for flag, value, least in (("num-rows", run.num_rows, 1), ("seed", run.seed, 0)):
        if value < least:
            raise ValueError(f"--{flag} is {value}; it must be at least {least}")
    for flag, model in run.models.items():
        if model not in ("", SCRIPTED, RULES, MINILM):
            check_model(model, needs_template=flag not in ("base_model", "embedding_model"))
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
