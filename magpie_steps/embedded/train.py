"""Train the three embedded models from nothing: `python -m magpie_steps.embedded.train`.

Pretraining on documents gives tiny-base; tuning that on conversations gives tiny-instruct; a
ranking head on tiny-instruct, trained on pairs of right and wrong answers, gives tiny-reward.
Everything is drawn from seeded generators, so the same machine makes the same weights again.
A finished stage is kept: run the same command again after an interruption and it goes on with
the next one.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from magpie_steps.embedded.dialogues.conversations import (
    categories,
    conversations,
    documents,
    draw_system_message,
    draw_turn,
)
from magpie_steps.embedded.dialogues.corruption import corrupt
from magpie_steps.embedded.tokenizer import MAX_LENGTH, TURN_END, train_tokenizer

SEED = 20241
SEQUENCE_LENGTH = 256
BATCH_SEQUENCES = 16
PRETRAINING_TOKENS = 3_500_000
CHAT_TOKENS = 12_000_000
PRACTICE_TOKENS = 6_000_000
SETTLING_TOKENS = 2_000_000
REWARD_TOKENS = 4_000_000
MUON_RATE = 4e-3
"""Peak learning rate of the layers' matrices."""
ADAM_RATE = 1e-3
"""Peak learning rate of all else."""
REWARD_PAIRS = 32
SAVED_DTYPE = torch.float16
"""Half precision keeps the three models under 30 MB; engines compute in float32."""


@dataclass(frozen=True)
class Stage:
    """One run of the language-model loop.

    Attributes:
        name: For the progress lines.
        tokens: How long, in training tokens.
        cooldown_share: The share of the steps at the end in which the learning rate goes down.
        peak: The learning rates' peak as a share of the usual one.
    """

    name: str
    tokens: int
    cooldown_share: float
    peak: float = 1.0

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // (SEQUENCE_LENGTH * BATCH_SEQUENCES)

    def rate(self, step: int) -> float:
        """Learning rate as a share of the usual peak: up, stay, down in a line to nothing."""
        cooldown = self.cooldown_share * self.steps
        return self.peak * min(1.0, (step + 1) / 100, (self.steps - step) / cooldown)


PRETRAINING = Stage("pretraining", PRETRAINING_TOKENS, cooldown_share=0.2)
CHAT = Stage("chat", CHAT_TOKENS, cooldown_share=0.6)
PRACTICE = Stage("practice", PRACTICE_TOKENS, cooldown_share=0.8)
"""More conversations, with the learning rate up and down again: copying a word out of the question
into the answer is learnt late."""
SETTLING = Stage("settling", SETTLING_TOKENS, cooldown_share=1.0, peak=0.5)
"""The last conversations show all categories alike: that is how often the model then asks them."""
REWARD = Stage("reward", REWARD_TOKENS, cooldown_share=1.0, peak=0.5)
"""Run twice: the rate up and down again helps here too."""


def main() -> None:
    """Train what is not there yet and write the three model folders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base = _once(arguments.output_dir / "tiny-base", train_base)
    stages = arguments.output_dir / "stages"
    chat = _once(stages / "chat", lambda to: train_chat(base, to, CHAT, SEED))
    skilled = _once(stages / "practice", lambda to: train_chat(chat, to, PRACTICE, SEED + 1))
    instruct = _once(
        arguments.output_dir / "tiny-instruct",
        lambda to: train_chat(skilled, to, SETTLING, SEED + 2, practice=False),
    )
    judge = _once(stages / "reward", lambda to: train_reward(instruct, to, SEED))
    _once(arguments.output_dir / "tiny-reward", lambda to: train_reward(judge, to, SEED + 1))


def _once(folder: Path, train: Callable[[Path], None]) -> Path:
    """Train into a temporary folder and rename it, so that a folder that exists is whole."""
    if (folder / "model.safetensors").exists():
        print(f"{folder} is there, left as it is", flush=True)
        return folder
    temporary = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    train(temporary)
    temporary.rename(folder)
    return folder


def train_base(folder: Path) -> None:
    """Pretrain on documents."""
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(_tokenizer_texts())
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    end = tokenizer.pad_token
    texts = (f"{tokenizer.bos_token}{text}{end}" for text in documents(SEED))
    _train_language_model(model, tokenizer, texts, PRETRAINING)
    _save(model, tokenizer, folder, ends=[end])


def train_chat(
    start: Path, folder: Path, stage: Stage, seed: int, *, practice: bool = True
) -> None:
    """Tune a model on conversations; user turns count in the loss like answers."""
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
    texts = (
        tokenizer.apply_chat_template(messages, tokenize=False)
        for messages in conversations(seed, practice=practice)
    )
    _train_language_model(model, tokenizer, texts, stage)
    _save(model, tokenizer, folder, ends=[TURN_END, tokenizer.pad_token])


def train_reward(start: Path, folder: Path, seed: int) -> None:
    """Teach a one-number head to score the right answer above the wrong one (Bradley-Terry)."""
    torch.manual_seed(SEED + 2)
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = LlamaForSequenceClassification.from_pretrained(start, dtype=torch.float32, num_labels=1)
    optimizers = _optimizers(model)
    pairs = reward_pairs(tokenizer, seed)
    progress = Progress(REWARD.name, REWARD.steps)
    model.train()
    for step in range(REWARD.steps):
        chosen, rejected = zip(*islice(pairs, REWARD_PAIRS), strict=True)
        batch = tokenizer(
            [*chosen, *rejected],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        hidden = model.model(**batch).last_hidden_state
        loss = _reward_loss(model.score(hidden).squeeze(-1), **batch)
        _update(model, optimizers, loss, REWARD.rate(step))
        progress.show(step, loss.item(), batch["input_ids"].numel())
    # A fresh one: padding while training is written into a tokenizer's own file.
    _save(model, AutoTokenizer.from_pretrained(start), folder, ends=None)


def _reward_loss(
    scores: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor:
    """Rank the ends of right answers above those of wrong ones, and tell where wrong ones err.

    The second part looks at every place from the first difference on, not at the end alone: a
    mistake is learnt where it stands.

    Args:
        scores: For every place the head's number; right answers, then as many wrong ones.
        input_ids: The texts, padded on the right.
        attention_mask: 1 on texts, 0 on padding.
    """
    right, wrong = scores.chunk(2)
    ids, mask = input_ids.chunk(2), attention_mask.bool().chunk(2)
    differ = (ids[0] != ids[1]).cumsum(1) > 0
    ends = [part.sum(1, keepdim=True) - 1 for part in mask]
    margin = right.gather(1, ends[0]) - wrong.gather(1, ends[1])
    places = torch.cat([right[differ & mask[0]], -wrong[differ & mask[1]]])
    log_sigmoid = torch.nn.functional.logsigmoid
    return -log_sigmoid(margin).mean() - log_sigmoid(places).mean()


def reward_pairs(
    tokenizer: PreTrainedTokenizerFast, seed: int, *, held_out: bool = False
) -> Iterator[tuple[str, str]]:
    """Endless pairs of rendered conversations: right answer, wrong answer."""
    rng = Random(f"rewards:{seed}:{held_out}")
    keys = categories(held_out=held_out)
    while True:
        category = rng.choice(keys)
        turn = draw_turn(rng, category, held_out=held_out)
        before = [
            *draw_system_message(rng, category),
            {"role": "user", "content": turn.instruction},
        ]
        chosen, rejected = (
            tokenizer.apply_chat_template(
                [*before, {"role": "assistant", "content": answer}], tokenize=False
            )
            for answer in (turn.response, corrupt(turn, rng))
        )
        yield chosen, rejected


class Progress:
    """Prints step, loss, tokens per second and time left, every few seconds."""

    def __init__(self, name: str, steps: int) -> None:
        """Start the clock."""
        self.name, self.steps, self.tokens = name, steps, 0
        self.start = self.last = time.monotonic()

    def show(self, step: int, loss: float, tokens: int) -> None:
        """Count a step's tokens; print a line at most every ten seconds and always the last."""
        self.tokens += tokens
        now = time.monotonic()
        if now - self.last < 10 and step + 1 < self.steps:
            return
        self.last = now
        done = step + 1
        speed = self.tokens / (now - self.start)
        left = (self.steps - done) * (now - self.start) / done
        print(
            f"{self.name} {done}/{self.steps} loss {loss:.3f}"
            f" {speed:,.0f} tokens/s {left:.0f} s left",
            flush=True,
        )


def _tokenizer_texts() -> Iterator[str]:
    yield from islice(documents(SEED), 10_000)
    for messages in islice(conversations(SEED), 10_000):
        for message in messages:
            yield f"{message['role']}\n\n"
            yield message["content"]


def _train_language_model(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterator[str],
    stage: Stage,
) -> None:
    optimizers = _optimizers(model)
    compiled = torch.compile(model)
    batches = _batches(tokenizer, texts)
    progress = Progress(stage.name, stage.steps)
    model.train()
    for step in range(stage.steps):
        ids = next(batches)
        mask = _own_text_mask(ids, tokenizer.bos_token_id)
        loss = compiled(input_ids=ids, labels=ids, attention_mask=mask, use_cache=False).loss
        _update(model, optimizers, loss, stage.rate(step))
        progress.show(step, loss.item(), ids.numel())


def _own_text_mask(ids: torch.Tensor, bos: int) -> torch.Tensor:
    """Which positions see which: those before them that belong to the same text.

    As it will be in use. A model that sees the texts packed before its own learns to use the
    question at hand far more slowly.
    """
    text = (ids == bos).cumsum(1)
    same = text.unsqueeze(2) == text.unsqueeze(1)
    return (same & torch.ones_like(same[0]).tril()).unsqueeze(1)


def _optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for all else."""
    layers = [name for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    matrices = [p for name, p in model.named_parameters() if name in layers]
    others = [p for name, p in model.named_parameters() if name not in layers]
    return [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _update(
    model: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    loss: torch.Tensor,
    rate: float,
) -> None:
    """Take one step at a share of the usual learning rates."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, peak in zip(optimizers, (MUON_RATE, ADAM_RATE), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * rate
        optimizer.step()
        optimizer.zero_grad()


def _batches(tokenizer: PreTrainedTokenizerFast, texts: Iterator[str]) -> Iterator[torch.Tensor]:
    """Pack texts one behind the other; each sequence begins with the start of a text."""
    sequences: list[list[int]] = []
    current: list[int] = []
    while True:
        for ids in tokenizer(list(islice(texts, 256)), add_special_tokens=False)["input_ids"]:
            current += ids
            if len(current) >= SEQUENCE_LENGTH:
                sequences.append(current[:SEQUENCE_LENGTH])
                current = []
        while len(sequences) >= BATCH_SEQUENCES:
            yield torch.tensor(sequences[:BATCH_SEQUENCES])
            del sequences[:BATCH_SEQUENCES]


def _save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    ends: list[str] | None,
) -> None:
    model.to(SAVED_DTYPE)
    if ends:
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.convert_tokens_to_ids(ends),
            pad_token_id=tokenizer.pad_token_id,
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
