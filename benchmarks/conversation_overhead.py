"""What do templates, sanitising, retries and row order cost on top of the engine's own work?

It matters because each later turn is rendered, checked and tokenised before the engine sees it, and
an engine that waits for that stands idle. Compared are `ConversationGenerator` with conversations
of three turns on the embedded model, and the very same requests given to the same engine by as many
workers with nothing else around them: no templates, no checks, no rows.

    python benchmarks/conversation_overhead.py            # 1,000 conversations, minutes
    python benchmarks/conversation_overhead.py --num-rows 100 --rounds 1

Both run without a journal, each on a freshly loaded engine, in turns. The last line is one JSON
object; the ratio is ours / bare, from the medians.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import PrivateAttr

import magpie_steps
from magpie_steps.embedded import model_path
from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.provenance import versions
from magpie_steps.summary import table

Request = tuple[tuple[int, ...], Sampling]


@dataclass
class Measured:
    """One run: its seconds, and the new tokens that it made."""

    seconds: float
    tokens: int


class Recorder(TransformersEngine):
    """Remembers every request, by the worker that made it."""

    _asked: dict[str, list[Request]] = PrivateAttr(default_factory=dict)

    @property
    def asked(self) -> dict[str, list[Request]]:
        """Requests by worker, each worker's in order."""
        return self._asked

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Note the request, then complete it."""
        task = asyncio.current_task()
        name = task.get_name() if task else ""
        self._asked.setdefault(name, []).append((tuple(prompt_ids), sampling))
        return await super().complete(prompt_ids, sampling)


def main() -> int:
    """Measure, print a table and a line of JSON."""
    args = parse_args()
    warnings.simplefilter("ignore")
    recorder = Recorder(model=str(model_path("tiny-instruct")))
    generate(recorder, args)
    conversations = list(split(recorder))
    ours, bare = [], []
    for _ in range(args.rounds):
        ours.append(generate(TransformersEngine(model=recorder.model), args))
        bare.append(feed(TransformersEngine(model=recorder.model), conversations, args))
        if ours[-1].tokens != bare[-1].tokens:
            raise RuntimeError(f"ours made {ours[-1].tokens} tokens, bare {bare[-1].tokens}")
        print(f"ours {ours[-1].seconds:.1f} s, bare {bare[-1].seconds:.1f} s", file=sys.stderr)
    ratio = median(ours) / median(bare)
    lines = [("ours", f"{median(ours):.1f} s"), ("bare", f"{median(bare):.1f} s")]
    print(table([*lines, ("ours / bare", f"{ratio:.3f}")]))
    content = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "versions": versions(),
        "conversations": args.num_rows,
        "turns": args.turns,
        "requests": sum(map(len, conversations)),
        "tokens": ours[0].tokens,
        "seconds": {
            "ours": [round(each.seconds, 2) for each in ours],
            "bare": [round(each.seconds, 2) for each in bare],
        },
        "ratio": round(ratio, 4),
    }
    print(json.dumps(content))
    return 0


def generate(engine: TransformersEngine, args: argparse.Namespace) -> Measured:
    """Write conversations with our step; loading is not counted."""
    step = magpie_steps.ConversationGenerator(
        llm=engine, num_rows=args.num_rows, n_turns=args.turns, max_in_flight=args.rows_in_flight
    )
    step.load()
    start = time.perf_counter()
    rows = sum(len(batch) for batch, _ in step.process())
    seconds = time.perf_counter() - start
    tokens = engine.stats.completion_tokens
    step.unload()
    if rows != args.num_rows:
        raise RuntimeError(f"the step wrote {rows} rows instead of {args.num_rows}")
    return Measured(seconds, tokens)


def split(recorder: Recorder) -> Iterator[list[Request]]:
    """Return each conversation's requests: a worker's next one begins with the first prompt again.

    A first turn that was tried again begins with it too; that leaves one request by itself.
    """
    for requests in recorder.asked.values():
        first = requests[0][0]
        begins = [i for i, (prompt, _) in enumerate(requests) if prompt == first]
        for start, stop in zip(begins, [*begins[1:], len(requests)], strict=True):
            yield requests[start:stop]


def feed(
    engine: TransformersEngine, conversations: list[list[Request]], args: argparse.Namespace
) -> Measured:
    """Give the requests to the engine, each conversation's one behind the other."""
    engine.load()
    start = time.perf_counter()
    asyncio.run(_feed(engine, iter(conversations), args.rows_in_flight))
    seconds = time.perf_counter() - start
    tokens = engine.stats.completion_tokens
    engine.unload()
    return Measured(seconds, tokens)


async def _feed(
    engine: TransformersEngine, conversations: Iterator[list[Request]], workers: int
) -> None:
    async def work() -> None:
        for requests in conversations:
            for prompt_ids, sampling in requests:
                await engine.complete(prompt_ids, sampling)

    await asyncio.gather(*(work() for _ in range(workers)))


def median(runs: list[Measured]) -> float:
    """Return the median of the runs' seconds."""
    return statistics.median(each.seconds for each in runs)


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--num-rows", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows-in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
