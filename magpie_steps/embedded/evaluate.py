"""Measure the embedded models: `python -m magpie_steps.embedded.evaluate`.

Instructions are drawn from tiny-instruct's bare pre-query ids at temperature 1. Answers are greedy
and judged on questions whose operands training never showed. Both come through the same engine as
a pipeline's rows.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from magpie_steps.dataflow import flow
from magpie_steps.embedded import model_path
from magpie_steps.embedded.dialogues.checker import category_of, is_correct_answer, is_well_formed
from magpie_steps.embedded.dialogues.conversations import BY_CATEGORY, Turn, categories, draw_turn
from magpie_steps.embedded.train import reward_pairs
from magpie_steps.engines.base import Completion, Engine, Sampling
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.prompts import category_prompts
from magpie_steps.seeds import call_seed

SEED = 7
MAX_NEW_TOKENS = 128
REWARD_BATCH = 50

PLAIN_PROMPTS = {
    "raw": "{instruction}\n",
    "solved_exercise": "Question: {instruction}\nAnswer:",
}
"""Ways to ask a model that knows no chat: the bare question, and the look of its own documents."""


@dataclass(frozen=True)
class Job:
    """One completion to ask for."""

    prompt_ids: Sequence[int]
    sampling: Sampling


def main() -> None:
    """Print every figure as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models-dir", type=Path, default=model_path("tiny-instruct").parent)
    parser.add_argument("--instructions", type=int, default=1000, help="unsteered instructions")
    parser.add_argument("--steered", type=int, default=50, help="instructions a category")
    parser.add_argument("--questions", type=int, default=600, help="held-out questions to answer")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs for the reward model")
    arguments = parser.parse_args()
    folder = arguments.models_dir
    instruct = _load(folder / "tiny-instruct")
    figures = {
        "instructions": measure_instructions(instruct, arguments.instructions),
        "steered": measure_steering(instruct, arguments.steered),
        "answers": measure_answers(instruct, arguments.questions),
    }
    instruct.unload()
    base = _load(folder / "tiny-base")
    figures["base_answers"] = measure_base_answers(base, folder / "tiny-base", arguments.questions)
    base.unload()
    figures["reward"] = measure_reward(folder / "tiny-reward", arguments.pairs)
    print(json.dumps(figures, indent=2))


def measure_instructions(engine: Engine, count: int) -> dict[str, Any]:
    """Shares of well-formed and of distinct instructions, and how many each category has."""
    texts = draw_instructions(engine, count, system=None)
    categories = Counter(category_of(text) for text in texts)
    return {
        "count": count,
        "well_formed": sum(map(is_well_formed, texts)) / count,
        "distinct": len(set(texts)) / count,
        "categories": {str(key): categories[key] for key in (*BY_CATEGORY, None)},
    }


def measure_steering(engine: Engine, count: int) -> dict[str, float]:
    """For each category's system prompt the share of instructions that are of that category."""
    return {
        key: sum(category_of(text) == key for text in draw_instructions(engine, count, prompt))
        / count
        for key, prompt in category_prompts().items()
    }


def draw_instructions(engine: Engine, count: int, system: str | None) -> list[str]:
    """Draw instructions at temperature 1 from a pre-query prompt."""
    template = engine.template
    prompt = template.pre_query_ids((), system)
    jobs = [
        Job(
            prompt.ids,
            Sampling(
                max_new_tokens=MAX_NEW_TOKENS,
                stop_token_ids=template.stop_token_ids,
                stop_strings=template.stop_strings,
                seed=call_seed(SEED, row, f"instruction:{system}", 0, 0),
            ),
        )
        for row in range(count)
    ]
    return [template.clean_query(done.text, prompt.healed_suffix) for done in _run(engine, jobs)]


def held_out_questions(count: int) -> list[Turn]:
    """Questions with operands or combinations that training never showed, all categories alike."""
    rng = Random(f"held-out:{SEED}")
    keys = categories(held_out=True)
    return [draw_turn(rng, keys[i % len(keys)], held_out=True) for i in range(count)]


def measure_answers(engine: Engine, count: int) -> dict[str, Any]:
    """Share of correct greedy answers through the chat template, in all and by family."""
    turns = held_out_questions(count)
    prompts = [
        engine.template.response_prompt_ids([{"role": "user", "content": turn.instruction}])
        for turn in turns
    ]
    return _judge(turns, [done.text for done in _greedy(engine, prompts)])


def measure_base_answers(base: Engine, folder: Path, count: int) -> dict[str, Any]:
    """The same for a base model, asked as chat and as plain text; the headline is its best."""
    turns = held_out_questions(count)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    figures: dict[str, Any] = {"chat": measure_answers(base, count)["correct"]}
    for name, form in PLAIN_PROMPTS.items():
        prompts = [
            tokenizer(form.format(instruction=turn.instruction))["input_ids"] for turn in turns
        ]
        texts = [done.text.split("\n\n")[0] for done in _greedy(base, prompts)]
        figures[name] = _judge(turns, texts)["correct"]
    return {"correct": max(figures.values()), **figures}


def measure_reward(folder: Path, count: int) -> dict[str, float]:
    """Share of fresh pairs in which the right answer scores above the wrong one.

    Once over all categories, once with nothing but questions whose operands training never showed.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    shares = {"pairs": float(count)}
    for name, held_out in (("ranked_right", False), ("ranked_right_held_out", True)):
        pairs = list(islice(reward_pairs(tokenizer, SEED, held_out=held_out), count))
        right = _scores(model, tokenizer, [pair[0] for pair in pairs])
        wrong = _scores(model, tokenizer, [pair[1] for pair in pairs])
        shares[name] = float((right > wrong).float().mean())
    return shares


def _scores(model: torch.nn.Module, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    scores = []
    for start in range(0, len(texts), REWARD_BATCH):
        batch = tokenizer(
            texts[start : start + REWARD_BATCH],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            scores.append(model(**batch).logits.squeeze(-1))
    return torch.cat(scores)


def _judge(turns: Sequence[Turn], texts: Iterable[str]) -> dict[str, Any]:
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for turn, text in zip(turns, texts, strict=True):
        assert turn.family is not None
        asked[turn.family.name] += 1
        right[turn.family.name] += bool(is_correct_answer(turn.instruction, text.strip()))
    return {
        "count": len(turns),
        "correct": sum(right.values()) / len(turns),
        "by_family": {name: f"{right[name]}/{asked[name]}" for name in sorted(asked)},
    }


def _greedy(engine: Engine, prompts: Iterable[Sequence[int]]) -> list[Completion]:
    template = engine.template
    sampling = Sampling(
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=0,
        stop_token_ids=template.assistant_stop_token_ids,
        stop_strings=template.assistant_stop_strings,
    )
    return _run(engine, [Job(prompt, sampling) for prompt in prompts])


def _run(engine: Engine, jobs: Iterable[Job]) -> list[Completion]:
    def give_up(_: Job, error: Exception) -> Completion:
        raise error

    async def work(job: Job) -> Completion:
        return await engine.complete(job.prompt_ids, job.sampling)

    return list(flow(jobs, work, window=64, on_error=give_up))


def _load(folder: Path) -> Engine:
    engine = TransformersEngine(model=str(folder))
    engine.load()
    return engine


if __name__ == "__main__":
    main()
