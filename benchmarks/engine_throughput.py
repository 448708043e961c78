"""How many tokens a second does TransformersEngine write, against transformers' own ways?

It matters because the embedded models run in this engine on a laptop's CPU. The model is a 4-layer,
256-wide Llama with random weights. In the columns with a plain number every row writes the same
number of tokens, which suits static batches best; in the last one lengths vary, as they do in a
dataset. All three run in this process, in turns, with the same number of threads.

    python benchmarks/engine_throughput.py [--rows-in-flight 1 8 64] [--new-tokens 64] [--threads 1]

Prints a table and then one line of JSON.
"""

import argparse
import asyncio
import json
import logging
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from magpie_steps.engines.base import Sampling
from magpie_steps.engines.transformers import TransformersEngine

VOCABULARY = 1280
PROMPT = list(range(10, 30))  # as long as a pre-query prompt with a short system prompt

Lengths = list[int]
"""The new tokens of every row."""

Run = Callable[[int, Lengths], None]
"""Work through rows with so many in flight."""

Speeds = dict[str, dict[str, dict[str, float]]]
"""By engine and by load: tokens per second (median, least, most) and per second of CPU."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and the JSON line."""
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder))
        results = measure_all(Path(folder), args)
    print_table(results)
    print(
        json.dumps(
            {
                "benchmark": "engine_throughput",
                "machine": {"cpu": platform.processor(), "threads": args.threads},
                "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
                "new_tokens": args.new_tokens,
                "prompt_tokens": len(PROMPT),
                "repeats": args.repeats,
                "tokens_per_second": results,
            }
        )
    )


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows-in-flight", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args(arguments)


def save_model(folder: Path) -> None:
    """Save a small Llama with random weights and a tokenizer that nobody uses."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def loads(args: argparse.Namespace) -> dict[str, tuple[int, Lengths]]:
    """Rows in flight and the rows' lengths, by name; the last load has rows of varied lengths."""
    made = {
        str(flying): (flying, [args.new_tokens] * max(4, 3 * flying))
        for flying in args.rows_in_flight
    }
    most = max(args.rows_in_flight)
    chance = random.Random(0)
    varied = [chance.randint(8, 2 * args.new_tokens - 8) for _ in range(4 * most)]
    return {**made, f"{most} varied": (most, varied)}


def measure_all(folder: Path, args: argparse.Namespace) -> Speeds:
    """Measure every engine under every load, in turns, so that the machine's moods meet all."""
    engine = TransformersEngine(
        model=str(folder), max_rows_in_flight=max(args.rows_in_flight), threads=args.threads
    )
    engine.load()
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    ways: dict[str, Run] = {
        "TransformersEngine": partial(run_engine, engine),
        "generate, static batches": partial(run_static, model),
        "transformers' manager": partial(run_manager, model),
    }
    results: Speeds = {name: {} for name in ways}
    for load, (flying, lengths) in loads(args).items():
        wall: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            for name, run in ways.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                run(flying, lengths)
                wall[name].append(sum(lengths) / (time.perf_counter() - start))
                cpu[name].append(sum(lengths) / (time.process_time() - cpu_start))
        for name in ways:
            results[name][load] = {
                "median": round(statistics.median(wall[name]), 1),
                "least": round(min(wall[name]), 1),
                "most": round(max(wall[name]), 1),
                "per_cpu_second": round(statistics.median(cpu[name]), 1),
            }
    engine.unload()
    return results


def run_engine(engine: TransformersEngine, flying: int, lengths: Lengths) -> None:
    """Each row is sampled with its own seed."""

    async def run() -> None:
        slots = asyncio.Semaphore(flying)

        async def one(seed: int, length: int) -> None:
            async with slots:
                done = await engine.complete(PROMPT, Sampling(max_new_tokens=length, seed=seed))
                assert done.completion_tokens == length

        await asyncio.gather(*(one(seed, length) for seed, length in enumerate(lengths)))

    asyncio.run(run())


def run_static(model: Any, flying: int, lengths: Lengths) -> None:
    """One batch after the other, each as long as its longest row; no seed per row."""
    for first in range(0, len(lengths), flying):
        batch = lengths[first : first + flying]
        ids = torch.tensor([PROMPT] * len(batch))
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            max_new_tokens=max(batch),
            pad_token_id=0,
        )


def run_manager(model: Any, flying: int, lengths: Lengths) -> None:
    """Continuous batching, its start included; one seed for all rows."""
    settings = GenerationConfig(do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=0)
    batching = ContinuousBatchingConfig(
        max_requests_per_batch=flying, num_blocks=256, max_batch_tokens=512
    )
    with model.continuous_batching_context_manager(
        generation_config=settings, continuous_batching_config=batching
    ) as manager:
        sent = done = 0
        while done < len(lengths):
            while sent < len(lengths) and sent - done < flying:
                manager.add_request(PROMPT, request_id=str(sent), max_new_tokens=lengths[sent])
                sent += 1
            wait_for(manager, 1)
            done += 1


def wait_for(manager: Any, count: int) -> None:
    """Wait until so many requests are finished."""
    while count:
        result = manager.get_result(timeout=60)
        count -= result is not None and result.is_finished()


def print_table(results: Speeds) -> None:
    """Print the medians."""
    names = [*next(iter(results.values()))]
    print("New tokens per second, by rows in flight (median; in brackets per second of CPU)")
    print(f"{'':26}" + "".join(f"{name:>16}" for name in names))
    for engine, speeds in results.items():
        cells = (f"{s['median']:.0f} ({s['per_cpu_second']:.0f})" for s in speeds.values())
        print(f"{engine:26}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
