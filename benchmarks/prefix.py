"""What does it bring that the common beginning of prompts is computed once?

It matters where prompts are long and alike: each turn of a conversation begins with all turns
before it, and taggers ask several questions about one instruction. A first turn without a system
prompt has almost nothing to share. Measured are, with vLLM's prefix caching and without,

- conversations: three turns behind a long system prompt, written by `ConversationGenerator`;
- taggers: three questions at the end of three prompts that hold one long instruction, asked at
  once, as three taggers on one engine would.

    python benchmarks/prefix.py                           # vLLM, twice loaded
    python benchmarks/prefix.py --engine transformers     # shares always, so only with

Nothing is journaled, every round has new rows, and loading is not counted. Prompt tokens are those
that were asked for, cached ones those of them that the engine did not compute. The last line is one
JSON object.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from itertools import count
from typing import Any

from figures import quiet, report, say, spread
from kept_engines import Kept, fields_for, kept

import magpie_steps
from magpie_steps.embedded import model_path
from magpie_steps.engines.base import Sampling

BLOCK_TOKENS = 32
"""Whole blocks are shared: the smaller, the more. vLLM takes 16 tokens on a GPU and 128 on a CPU,
where 32 is the least."""

SYSTEM_PROMPT = (
    "You are a patient tutor. The user will engage in a conversation of several rounds with you,"
    " asks an initial question and then follows up with questions that belong to it. "
    "User inputs are short and name what they are about: a number, a word, a place or a person. "
    "Answer what was asked, in one sentence, without a list and without a heading. "
    "If something is not clear, say what you take it to mean and go on."
)
CASE = (
    "Case {number}: {name} has {number} tickets for the fair and would like to share them with the"
    " neighbours. There are four of them, and each brings a friend. The fair opens at nine and"
    " closes at six; a ticket is good for two hours, and nobody wants to go alone. {name} also has"
    " to be home by five to feed the cat, and the bus leaves every twenty minutes. Who goes when?"
)
NAMES = ("Mina", "Omar", "Jun", "Freya", "Tariq", "Ines", "Pavel", "Aiko")
QUESTIONS = (
    "How difficult is this request?",
    "How well is this request put?",
    "What kind of request is this?",
)


@dataclass(frozen=True)
class Measured:
    """What a load took."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: float


Loads = dict[str, list[Measured]]
"""By load, one for each round."""


def main() -> int:
    """Measure, print a table and a line of JSON."""
    args = parse_args()
    quiet()
    found = {name: measure(args, fields) for name, fields in variants(args).items()}
    figures = {
        load: {variant: figures_of(loads[load]) for variant, loads in found.items()}
        for load in ("conversations", "taggers")
    }
    lines = [line for load, numbers in figures.items() for line in lines_of(load, numbers)]
    gains = {load: gain_of(numbers) for load, numbers in figures.items() if "without" in numbers}
    lines += [(f"{load}: with is faster by", f"{gain:.2f}x") for load, gain in gains.items()]
    report(lines, vars(args), {**figures, "times_as_fast": gains})
    return 0


def variants(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the engine's fields with prefix caching and without."""
    fields = fields_for(args.engine, args.model or str(model_path("tiny-instruct")))
    if args.engine == "transformers":
        return {"with": fields}
    fields["engine_args"] = {**fields.get("engine_args", {}), "block_size": BLOCK_TOKENS}
    return {
        "without": {**fields, "enable_prefix_caching": False},
        "with": {**fields, "enable_prefix_caching": True},
    }


def measure(args: argparse.Namespace, fields: dict[str, Any]) -> Loads:
    """Return what both loads take on a new engine, after a short one that warms it up."""
    engine = kept(args.engine, **fields)
    engine.load()
    found: Loads = {"conversations": [], "taggers": []}
    cases = count(1)
    try:
        conversations(engine, 4, seed=args.rounds)
        for number in range(args.rounds):
            found["conversations"].append(conversations(engine, args.num_rows, seed=number))
            found["taggers"].append(taggers(engine, [next(cases) for _ in range(args.num_rows)]))
            for load, runs in found.items():
                say(f"{load}: {runs[-1]}")
    finally:
        engine.end()
    return found


def conversations(engine: Kept, num_rows: int, seed: int) -> Measured:
    """Write conversations of three turns behind a long system prompt."""
    step = magpie_steps.ConversationGenerator(
        llm=engine,
        num_rows=num_rows,
        seed=seed,
        n_turns=3,
        system_prompts={"tutor": SYSTEM_PROMPT},
    )
    step.load()
    start = time.perf_counter()
    rows = sum(len(batch) for batch, _ in step.process())
    seconds = time.perf_counter() - start
    step.unload()
    if rows != num_rows:
        raise RuntimeError(f"the step wrote {rows} rows instead of {num_rows}")
    return _measured(engine, seconds)


def taggers(engine: Kept, cases: list[int]) -> Measured:
    """Ask three questions about each of the cases; all cases are asked about at once."""
    engine.load()  # for new counters
    start = time.perf_counter()
    asyncio.run(_ask_all(engine, cases))
    seconds = time.perf_counter() - start
    engine.unload()
    return _measured(engine, seconds)


async def _ask_all(engine: Kept, cases: list[int]) -> None:
    template = engine.template
    sampling = Sampling(
        max_new_tokens=16,
        temperature=0.0,
        stop_token_ids=tuple(template.assistant_stop_token_ids),
        stop_strings=tuple(template.assistant_stop_strings),
    )
    prompts = [
        template.response_prompt_ids([{"role": "user", "content": f"{_case(case)}\n\n{question}"}])
        for case in cases
        for question in QUESTIONS
    ]
    await asyncio.gather(*(engine.complete(prompt, sampling) for prompt in prompts))


def _case(number: int) -> str:
    return CASE.format(number=number, name=NAMES[number % len(NAMES)])


def _measured(engine: Kept, seconds: float) -> Measured:
    stats = engine.stats
    return Measured(stats.prompt_tokens, stats.cached_tokens, stats.completion_tokens, seconds)


def figures_of(runs: list[Measured]) -> dict[str, Any]:
    """Return a load's figures over all rounds."""
    prompt, cached = sum(r.prompt_tokens for r in runs), sum(r.cached_tokens for r in runs)
    return {
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "cached_share": round(cached / prompt, 4),
        "completion_tokens": sum(r.completion_tokens for r in runs),
        "seconds": spread([r.seconds for r in runs], 2),
        "tokens_per_second": spread([r.completion_tokens / r.seconds for r in runs]),
    }


def lines_of(load: str, by_variant: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a load's lines of the table."""
    lines = []
    for variant, numbers in by_variant.items():
        lines += [
            (f"{load}, {variant}: prompt tokens", f"{numbers['prompt_tokens']:,}"),
            ("  cached", f"{numbers['cached_tokens']:,} ({numbers['cached_share']:.0%})"),
            ("  seconds", f"{numbers['seconds']['median']:.2f}"),
            ("  tokens/s out", f"{numbers['tokens_per_second']['median']:,.0f}"),
        ]
    return lines


def gain_of(by_variant: dict[str, Any]) -> float:
    """Return how many times as fast a load is with prefix caching."""
    medians = {name: numbers["seconds"]["median"] for name, numbers in by_variant.items()}
    return round(float(medians["without"] / medians["with"]), 3)


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--model", help="hub id or folder (default: the embedded tiny-instruct)")
    parser.add_argument("--num-rows", type=int, default=200, help="rows of each load and round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
