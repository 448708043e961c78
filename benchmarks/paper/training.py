"""What becomes of the base model when TRL trains it on a set?

Everything here needs nothing but the pools, the questions and TRL: this half of a run can be taken
to another machine.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pyarrow.parquet as pq
import torch
import transformers
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, Trainer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from magpie_steps.shards import write_text
from paper.answering import CHAT, PLAIN, answers
from paper.plan import PREFERENCES, Chain, Folders, Plan, Training
from paper.workers import workers

MARKED_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' }}\
{% if message.role == 'assistant' %}\
{% generation %}{{ message.content | trim }}{{ '<|eot_id|>' }}{% endgeneration %}\
{% else %}{{ message.content | trim }}{{ '<|eot_id|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
"""The embedded models' chat template with marks around what an assistant says. TRL needs them to
train on nothing else; for well-known models of the Hub it has such templates itself."""


COMPILED_FROM = 1000
"""Steps that are worth the half minute in which PyTorch compiles a model."""


class BatchesOfOneLength(Sampler[int]):
    """Rows in batches of about one length, the batches in random order, another in each epoch.

    Transformers' "group_by_length" goes from long rows to short ones, fifty batches at a time.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        """Take the rows' lengths, the rows of a batch and what draws the order."""
        self._lengths, self._batch, self._random = lengths, batch, Random(seed)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Go through all rows once; a batch that is not full comes last."""
        rows = list(range(len(self)))
        self._random.shuffle(rows)  # among rows of one length
        rows.sort(key=self._lengths.__getitem__)
        full = len(rows) - len(rows) % self._batch
        batches = [rows[start : start + self._batch] for start in range(0, full, self._batch)]
        self._random.shuffle(batches)
        for batch in (*batches, rows[full:]):
            yield from batch


class SmallModelTrainer(SFTTrainer):
    """SFTTrainer for small models on short rows.

    It leaves the loss to the model: TRL's own goes through the vocabulary in parts, to save a GPU's
    memory, which for a small vocabulary on a CPU takes half of a step. It pads little. And it lets
    every weight decay, those of norms too: 82 to 83 % right in the place of 80 to 81 %.
    """

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model's loss."""
        return Trainer.compute_loss(self, *args, **kwargs)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Return all."""
        return [name for name, _ in model.named_parameters()]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> BatchesOfOneLength:
        lengths = [len(ids) for ids in (train_dataset or self.train_dataset)["input_ids"]]
        return BatchesOfOneLength(lengths, self.args.train_batch_size, self.args.seed)


def train_all(plan: Plan, folders: Folders, jobs: int) -> None:
    """Train what has no answers yet, in several processes, and ask the two reference models.

    Args:
        plan: What is trained.
        folders: Where everything lies.
        jobs: Processes; several share the cores evenly.
    """
    with workers(jobs) as pool:
        waiting = [pool.submit(ask_references, plan, folders)] if plan.is_miniature else []
        waiting += [pool.submit(train_chain, plan, folders, chain) for chain in plan.chains]
        for each in waiting:
            each.result()


def ask_references(plan: Plan, folders: Folders) -> None:
    """Ask the aligned model as chat, and the base model in each way that it might understand."""
    disable_progress_bars()
    for name, model, forms in (
        ("instruct", plan.model, (CHAT,)),
        ("base", plan.base_model, (CHAT, *PLAIN)),
    ):
        for form in forms:
            path = folders.answers(f"{name}@{form}")
            if not path.exists():
                network, tokenizer = _loaded(model)
                _ask(network.to(plan.device), tokenizer, path, folders, form=form)


def train_chain(plan: Plan, folders: Folders, chain: Chain) -> None:
    """Train on a chain's set and on its pairs; what has answers is not trained again."""
    disable_progress_bars()
    missing = [p for p in chain.preferences if not _answered(folders, chain.preferred_name(p))]
    needed = bool(missing) and not folders.trained(chain.name).exists()
    if needed or not _answered(folders, chain.name):
        _imitate(plan, folders, chain)
    for pairs in missing:
        _prefer(plan, folders, chain, pairs)


def sft_config(
    training: Training, device: str, seed: int, rows: int, compiled: bool = False
) -> SFTConfig:
    """Return how TRL trains on conversations. Only answers count in the loss, as in the paper."""
    return SFTConfig(
        **_common(training, device, seed, rows),
        max_length=training.max_length,
        assistant_only_loss=True,
        torch_compile=compiled,
    )


def dpo_config(training: Training, device: str, seed: int, pairs: int) -> DPOConfig:
    """Return how TRL trains on preference pairs."""
    return DPOConfig(
        **_common(training, device, seed, pairs),
        max_length=training.max_length,
        beta=training.beta,
    )


def _imitate(plan: Plan, folders: Folders, chain: Chain) -> None:
    """Train the base model on a set; keep the model if pairs go on from it."""
    rows = _drawn(folders.pool(chain.pool), plan.rows(chain.pool, chain.size), chain.seed)
    compiled = plan.is_miniature and _compiles(plan.sft, len(rows))
    config = sft_config(plan.sft, plan.device, chain.seed, len(rows), compiled)
    model, tokenizer = _loaded(plan.base_model)
    kind = SmallModelTrainer if plan.is_miniature else SFTTrainer
    tokenizer.chat_template = _template(plan)
    trainer = kind(
        model=model,
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
    )
    effort = _train(trainer, chain.name)
    torch.compiler.reset()  # else no more than eight models of a process are compiled
    if chain.preferences or not plan.is_miniature:
        _save(trainer, folders.trained(chain.name))
    _ask(model, tokenizer, folders.answers(chain.name), folders, effort)


def _template(plan: Plan) -> str:
    """Return the chat template to train in: base models often have none, so the aligned one's."""
    if plan.is_miniature:
        return MARKED_TEMPLATE
    return str(AutoTokenizer.from_pretrained(plan.model).chat_template)


def _prefer(plan: Plan, folders: Folders, chain: Chain, pairs: str) -> None:
    """Let a trained model go on with pairs, as many of each kind."""
    name = chain.preferred_name(pairs)
    as_many = min(pq.read_metadata(folders.pool(kind)).num_rows for kind in PREFERENCES)
    rows = _drawn(folders.pool(pairs), as_many, chain.seed)
    model, tokenizer = _loaded(str(folders.trained(chain.name)))
    config = dpo_config(plan.dpo, plan.device, chain.seed, len(rows))
    trainer = DPOTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    effort = _train(trainer, name)
    if not plan.is_miniature:
        _save(trainer, folders.trained(name))
    _ask(model, tokenizer, folders.answers(name), folders, effort)


def _compiles(training: Training, rows: int) -> bool:
    """Say whether PyTorch compiles a small model: it needs a C++ compiler, named as it expects."""
    has_compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    return has_compiler and _steps(training, rows) >= COMPILED_FROM


def _steps(training: Training, rows: int) -> int:
    return math.ceil(rows / training.batch * training.epochs)


def _common(training: Training, device: str, seed: int, rows: int) -> dict[str, Any]:
    steps = _steps(training, rows)
    warmup = training.warmup if training.warmup >= 1 else training.warmup * steps
    return {
        "output_dir": tempfile.gettempdir(),
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule,
        "num_train_epochs": training.epochs,
        "per_device_train_batch_size": training.per_device,
        "gradient_accumulation_steps": max(1, training.batch // training.per_device),
        "warmup_steps": round(min(warmup, steps / 10)),
        "weight_decay": training.weight_decay,
        "adam_beta2": training.beta2,
        "seed": seed,
        "bf16": True,
        "use_cpu": device == "cpu",
        "gradient_checkpointing": training.checkpointing,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def _train(trainer: SFTTrainer | DPOTrainer, name: str) -> dict[str, Any]:
    """Train; return what it took."""
    trainer.remove_callback(PrinterCallback)  # it prints what is printed below
    result = trainer.train()
    effort = {
        "rows": len(trainer.train_dataset),
        "steps": result.global_step,
        "seconds": round(result.metrics["train_runtime"], 1),
        "loss": round(result.training_loss, 4),
        "device": torch.cuda.get_device_name() if trainer.model.device.type == "cuda" else "cpu",
    }
    print(f"{name}: {effort}", flush=True)
    return effort


def _drawn(path: Path, count: int, seed: int) -> Dataset:
    rows = _whole(path)
    return rows.shuffle(seed).select(range(min(count, len(rows))))


def disable_progress_bars() -> None:
    """Leave standard output and error to what the benchmark itself says."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _whole(path: Path) -> Dataset:
    return Dataset(pq.read_table(path))


def _loaded(model: str) -> tuple[Any, Any]:
    # PyTorch's fused attention is slow on a CPU where heads are small: plain products take half.
    attention = None if torch.cuda.is_available() else "eager"
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation=attention
    )
    return network, AutoTokenizer.from_pretrained(model)


def _save(trainer: SFTTrainer | DPOTrainer, folder: Path) -> None:
    """Save a model and its tokenizer beside the folder's place, unless a run before did."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        trainer.save_model(str(partial))
        partial.rename(folder)


def _answered(folders: Folders, name: str) -> bool:
    return folders.answers(name).exists()


def _ask(
    model: Any,
    tokenizer: Any,
    path: Path,
    folders: Folders,
    effort: dict[str, Any] | None = None,
    form: str = CHAT,
) -> None:
    """Write a model's answers, and what its training took."""
    questions = json.loads(folders.questions.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"training": effort, "answers": answers(model, tokenizer, questions, form)}
    write_text(path, json.dumps(found))
