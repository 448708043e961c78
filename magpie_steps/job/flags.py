"""What does a dataset's script take on its command line?"""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_steps import columns
from magpie_steps.cluster.session import check_address as check_ray
from magpie_steps.embedded import EMBEDDER
from magpie_steps.engines.preflight import INSTALL_VLLM, check_model, has_vllm
from magpie_steps.job.prompting import add_prompting, prompting_asked_for
from magpie_steps.job.reproduction import command_line
from magpie_steps.job.run import MODELS, PACKAGES, RULES, SCRIPTED, Run
from magpie_steps.prompt_sets import prompts_of
from magpie_steps.publish import check_ready
from magpie_steps.recipe_files import recipe_given
from magpie_steps.recipes import RECIPES, Recipe
from magpie_steps.review.dataset import check_target
from magpie_steps.review.settings import MINILM_DIMENSIONS
from magpie_steps.run_shard import Shard

if TYPE_CHECKING:
    from magpie_steps.job import Job

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

ENGINES = ("auto", "transformers", "vllm", "server", "completions", "scripted")
"""What can write: a model in this process, one in a server that is started for the run or that is
there already, or none."""

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
"""There if the driver of an NVIDIA or AMD GPU is."""


NOT_OF_ROWS = frozenset(
    {
        *("output_dir", "license", "with_embeddings"),
        *("hub_repo_id", "public", "argilla_dataset", "argilla_sample"),
        *("argilla_workspace", "argilla_uncertain"),
        *("ray", "replicas", "tensor_parallel_size"),
    }
)
"""Flags that rows do not depend on."""


def run_asked_for(job: "Job", description: str, arguments: Sequence[str] | None) -> Run:
    """Return what a job's command line asks for.

    Args:
        job: The job.
        description: What it makes, for ``--help``.
        arguments: The command line, None for the process's own.

    Raises:
        ValueError: It asks for what does not exist or does not go together.
        OSError: A file that it names cannot be read.
    """
    parser = _parser(job, description)
    args = parser.parse_args(arguments)
    asked = SCRIPTED if args.dry_run else args.engine
    kind = _engine_kind(asked, args.base_url, on_ray=args.ray is not None)
    models = _models(args, job.models, judged=bool(job.recipe), scripted=kind == SCRIPTED)
    script = f"pipelines/{job.script}.py"
    shard = Shard.parsed(args.shard, args.num_rows) if args.shard is not None else None
    run = Run(
        num_rows=len(shard.rows) if shard else args.num_rows,
        seed=args.seed,
        output_dir=args.output_dir,
        engine_kind=kind,
        command=command_line(script, parser, args, without=NOT_OF_ROWS),
        models=models,
        base_urls=tuple(args.base_url),
        recipe=_recipe(args.recipe, models) if job.recipe else None,
        evaluation_sets=tuple(args.decontaminate) if job.recipe else (),
        license=args.license,
        with_embeddings=bool(job.recipe) and args.with_embeddings,
        hub_repo_id=args.hub_repo_id,
        public=args.public,
        argilla_dataset=args.argilla_dataset,
        argilla_sample=args.argilla_sample,
        argilla_workspace=args.argilla_workspace,
        argilla_uncertain=args.argilla_uncertain,
        prompting=prompting_asked_for(args),
        shard=shard,
        trust_remote_code=args.trust_remote_code,
        ray=args.ray,
        replicas=args.replicas,
        tensor_parallel_size=args.tensor_parallel_size,
    )
    _check(run)
    return run


def _parser(job: "Job", description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{job.script}.py", description=description)
    for flag in job.models:
        parser.add_argument(
            f"--{flag.replace('_', '-')}",
            help=f"hub id or folder (default: the embedded {MODELS[flag]})",
        )
    _add_engine(parser)
    parser.add_argument(
        "--num-rows",
        type=int,
        default=job.num_rows,
        help="rows to generate (default: %(default)s)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="generate only part I, from 0, of N of the rows; `magpie-steps merge` joins them",
    )
    parser.add_argument("--seed", type=int, default=0, help="the run's seed (default: 0)")
    parser.add_argument(
        "--output-dir", type=_folder, default=Path("data") / job.name, help="default: %(default)s"
    )
    if job.recipe:
        _add_judgement(parser, job.recipe)
    _add_publishing(parser)
    return parser


def _add_engine(parser: argparse.ArgumentParser) -> None:
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
        help="a server that has the model already, such as http://localhost:8000/v1; may be given"
        " several times",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="run on this Ray cluster, such as auto or 10.0.0.1:6379; without an address the one of"
        " RAY_ADDRESS or of the submitted job, else a new one on this machine",
    )
    parser.add_argument(
        "--replicas",
        type=int,
        default=1,
        metavar="N",
        help="with --ray: servers of each model (default: 1)",
    )
    parser.add_argument(
        "--tensor-parallel-size",
        type=int,
        default=1,
        metavar="N",
        help="GPUs that share a model, for --engine server and vllm (default: 1)",
    )
    parser.add_argument("--dry-run", action="store_true", help="run without a model")
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="let code that comes with the models run, with your rights",
    )
    add_prompting(parser)


def _add_judgement(parser: argparse.ArgumentParser, recipe: str) -> None:
    parser.add_argument(
        "--tagger-model",
        help="hub id or folder of what labels instructions (default: the model itself, or rules for"
        " the embedded one)",
    )
    parser.add_argument(
        "--embedding-model",
        default=EMBEDDER,
        help="hub id or folder of what embeds instructions (default: %(default)s)",
    )
    parser.add_argument(
        "--decontaminate",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder with the prompts of a benchmark; rows that overlap it are not kept;"
        " may be given several times",
    )
    parser.add_argument(
        "--recipe",
        default=recipe,
        help="which rows are kept: a recipe's name or a YAML file (default: %(default)s);"
        " `magpie-steps filter --list` shows them",
    )
    parser.add_argument(
        "--with-embeddings",
        action="store_true",
        help="publish the instructions' embeddings as a configuration of their own",
    )


def _add_publishing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--license",
        default="",
        help="the dataset's licence, a Hub id like cc-by-4.0 (default: what the models' asks for)",
    )
    parser.add_argument(
        "--hub-repo-id",
        default="",
        metavar="NAME",
        help="push the dataset to this repository of the Hub, private unless --public",
    )
    parser.add_argument("--public", action="store_true", help="let everyone see it on the Hub")
    parser.add_argument(
        "--argilla-dataset",
        default="",
        metavar="NAME",
        help="send a sample of the rows to this dataset in Argilla, for people to review; server"
        " and key are those of ARGILLA_API_URL and ARGILLA_API_KEY",
    )
    parser.add_argument(
        "--argilla-sample",
        type=int,
        default=1000,
        metavar="N",
        help="rows of the sample (default: %(default)s)",
    )
    parser.add_argument(
        "--argilla-workspace",
        default="",
        metavar="NAME",
        help="the workspace of that dataset (default: the only one, else default)",
    )
    parser.add_argument(
        "--argilla-uncertain",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="part of the sample that the machine is least sure of (default: %(default)s)",
    )


def _folder(text: str) -> Path:
    """Return a folder that has a name: "." and ".." have one only in their place."""
    path = Path(text).expanduser()
    # Unlike Path.resolve, this takes links that lead in a circle.
    return path if path.name not in ("", "..") else Path(os.path.realpath(path))


def _engine_kind(asked: str, base_urls: Sequence[str], *, on_ray: bool) -> str:
    """Return the engine that writes, with nothing left to choose."""
    if asked != "auto":
        return asked
    if base_urls:
        return "completions"
    # Looked for without importing torch or vLLM: both take seconds, and torch would use the GPU in
    # this process.
    # This machine tells nothing of a cluster's others, which have vLLM for their GPUs' sake.
    gpu = on_ray or any(Path(device).exists() for device in GPU_DEVICES)
    return "server" if gpu and has_vllm() else "transformers"


def _models(
    args: argparse.Namespace, flags: Sequence[str], *, judged: bool, scripted: bool
) -> dict[str, str]:
    """Return the model of each flag."""
    models = {flag: _model(flag, getattr(args, flag), scripted) for flag in flags}
    if judged:
        own = models["model"]
        real = not scripted and own != MODELS["model"]
        models["tagger_model"] = args.tagger_model or (own if real else RULES)
        # The miniature reward model knows nothing of another model's texts.
        models["reward_model"] = args.reward_model or ("" if real else models["reward_model"])
        models["embedding_model"] = args.embedding_model
    return models


def _model(flag: str, given: str | None, scripted: bool) -> str:
    """Return the model of a flag; a reward model has no scripted stand-in and needs none."""
    if scripted and flag != "reward_model":
        return SCRIPTED
    return given or MODELS[flag]


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
    for flag, value, least in (
        ("num-rows", run.num_rows, 1),
        ("seed", run.seed, 0),
        ("argilla-sample", run.argilla_sample, 1),
        ("replicas", run.replicas, 1),
        ("tensor-parallel-size", run.tensor_parallel_size, 1),
    ):
        if value < least:
            raise ValueError(f"--{flag} is {value}; it must be at least {least}")
    _check_names(run)
    _check_targets(run)
    for each in run.evaluation_sets:
        any(prompts_of(each))  # raises if it has no prompts
    for flag, model in run.models.items():
        if model and model not in PACKAGES:
            own = run.prompting.chat_template if model == run.models["model"] else ""
            check_model(
                model,
                own or None,
                needs_template=flag not in ("base_model", "embedding_model"),
                trust_remote_code=run.trust_remote_code,
            )
    _check_engine(run)
    _check_prompting(run)


def _check_names(run: Run) -> None:
    """Refuse a folder that could not be written and opened by its name, and no licence at all."""
    folder = str(run.output_dir)
    if not folder.isprintable():  # first, as the other errors show it as it is
        raise ValueError(f"--output-dir is {folder!r}, which is no text; give another name")
    if not run.output_dir.name:
        raise ValueError(
            f"--output-dir is {folder}, which is no folder for a dataset; give another"
        )
    if found := set("*?[]") & set(folder):
        raise ValueError(
            f"--output-dir is {folder}: datasets takes {' '.join(sorted(found))} for a pattern;"
            " give another name"
        )
    # The Hub itself knows all licences that there are.
    if run.license and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", run.license):
        raise ValueError(
            f"--license is {run.license!r}, which is none of the Hub's ids; give one such as"
            " apache-2.0, cc-by-4.0, llama3.1 or other"
        )


def _check_targets(run: Run) -> None:
    """Refuse to begin if the rows could not be sent where they should go in the end."""
    if run.public and not run.hub_repo_id:
        raise ValueError("--public is about a repository on the Hub: name it with --hub-repo-id")
    if run.hub_repo_id:
        check_ready(run.hub_repo_id)
    _check_review(run)


def _check_review(run: Run) -> None:
    """Refuse a sample for people that could not be sent in the end."""
    if not 0 <= run.argilla_uncertain <= 1:
        raise ValueError(
            f"--argilla-uncertain is {run.argilla_uncertain}; give a part between 0 and 1"
        )
    if run.argilla_dataset:
        own = run.models.get("embedding_model", EMBEDDER) if run.with_embeddings else EMBEDDER
        dimensions = MINILM_DIMENSIONS if own == EMBEDDER else None
        check_target(run.argilla_dataset, run.argilla_workspace or None, dimensions)
    elif run.argilla_workspace or run.argilla_uncertain:
        flag = "workspace" if run.argilla_workspace else "uncertain"
        raise ValueError(
            f"--argilla-{flag} is about a dataset in Argilla: name it with --argilla-dataset"
        )


def _check_engine(run: Run) -> None:
    """Refuse an engine that is not there or that lacks what it needs."""
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
    if run.tensor_parallel_size > 1 and run.engine_kind not in ("vllm", "server"):
        raise ValueError(
            "--tensor-parallel-size is for --engine server and vllm, not for"
            f" {run.engine_kind}; leave one out"
        )
    _check_cluster(run)


def _check_cluster(run: Run) -> None:
    """Refuse an address that is none, and servers on a cluster without one."""
    if run.ray is not None:
        check_ray(run.ray)
    if run.replicas > 1 and (run.ray is None or run.engine_kind != "server"):
        raise ValueError(
            f"--replicas {run.replicas} is for servers on a cluster: give --ray and --engine server"
        )


def _check_prompting(run: Run) -> None:
    """Refuse variables that the chat template does not know, and a template that cannot serve."""
    options = run.prompting.template_options
    if not options:
        return
    if run.scripted:
        raise ValueError(
            "--chat-template and its variables are for a model, and a run without one has its own;"
            " leave them out"
        )
    from distilabel.errors import DistilabelUserError  # slow, and only for this

    from magpie_steps.engines.identity import template_of

    try:
        template_of(run.models["model"], run.trust_remote_code, **options)
    except DistilabelUserError as error:
        raise ValueError(str(error)) from error
