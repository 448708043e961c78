"""What does it cost to find all neighbours, beside faiss, and how does the cost grow?

It matters because every row is compared with every other: at a million rows this is the dearest
step that needs no model. The rows are seeded vectors of length 1 around topics, as embeddings are,
15 % of them copies of others, half exact and half within a small distance. Each search runs in a
process of its own: CPU seconds of the search alone, and the most memory that the process had, the
vectors and the libraries included. faiss `IndexFlatL2` with k = 500, as in the paper's script, runs
for a sample of the rows, and its CPU seconds are extrapolated to all of them; both use all cores.

    python benchmarks/neighbours.py --rows 100000 --dim 768
    python benchmarks/neighbours.py --rows 100000 --dim 768 --curve 50000 100000 200000

The second form also shows how exact and approximate search of float16 vectors grow with the rows,
with the approximate one's recall, and extrapolates to a million. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD = 0.05
PAPER_K = 500
COPIES = 0.15
TOPIC_ROWS = 100
GIB_IN_KIB = 2**20
MILLION = 1_000_000

Figures = dict[str, Any]
Vectors = np.ndarray[Any, np.dtype[Any]]


def main() -> int:
    """Measure in new processes, print a table and a line of JSON."""
    args = parse_args()
    if args.here:
        vectors = np.load(args.vectors, mmap_mode="r", allow_pickle=False)
        print(json.dumps(SEARCHES[args.here](vectors, args)))
        return 0
    from figures import report

    lines, figures = measure_once(args)
    if args.curve:
        more, figures["curve"] = measure_curve(args)
        lines += more
    names = ("rows", "dim", "queries", "seed", "curve", "curve_dim")
    report(lines, {name: getattr(args, name) for name in names}, figures)
    return 0


def measure_once(args: argparse.Namespace) -> tuple[list[tuple[str, str]], Figures]:
    """Return what our exact search and faiss cost for the same rows."""
    vectors = make_vectors(args.rows, args.dim, args.seed)
    ours, faiss = measure_elsewhere(args, vectors, ["exact", "faiss"])
    ratio = faiss["cpu_seconds"] / ours["cpu_seconds"]
    lines = [
        ("our exact search", f"{ours['cpu_seconds']:.1f} CPU-s, {ours['seconds']:.1f} s"),
        ("its most memory", f"{ours['peak_gib']:.2f} GiB"),
        ("faiss IndexFlatL2, k = 500", f"{faiss['cpu_seconds']:.1f} CPU-s, extrapolated"),
        ("faiss to ours", f"{ratio:.1f}"),
    ]
    return lines, {"exact": ours, "faiss": faiss, "ratio": round(ratio, 2)}


def measure_curve(args: argparse.Namespace) -> tuple[list[tuple[str, str]], Figures]:
    """Return what both searches cost for several numbers of rows, and for a million by the last."""
    points = []
    for rows in args.curve:
        vectors = make_vectors(rows, args.curve_dim, args.seed).astype(np.float16)
        exact, approximate = measure_elsewhere(args, vectors, ["exact", "approximate"])
        points.append({"rows": rows, "exact": exact, "approximate": approximate})
    lines = [
        (f"{point['rows']:,} rows, {which}", words(point[which]))
        for point in points
        for which in ("exact", "approximate")
    ]
    million = {which: at_a_million(points, which) for which in ("exact", "approximate")}
    lines += [(f"{MILLION:,} rows, {k}, extrapolated", words(v)) for k, v in million.items()]
    return lines, {"points": points, "million": million}


def at_a_million(points: list[Figures], which: str) -> Figures:
    """Return what a million rows would cost, by the last point, and by the last two the memory.

    Exact: all pairs. Approximate: each row meets the centres of 4 sqrt(n) cells and the rows of a
    fixed number of cells, sqrt(n) / 4 each. The memory's part that is quadratic is bounded.
    """
    before, last = points[-2:] if len(points) > 1 else (points[0], points[0])
    scale = MILLION / last["rows"]
    cpu = last[which]["cpu_seconds"] * scale ** (2.0 if which == "exact" else 1.5)
    more = last[which]["peak_gib"] - before[which]["peak_gib"]
    per_row = more / max(last["rows"] - before["rows"], 1)
    peak = last[which]["peak_gib"] + per_row * (MILLION - last["rows"])
    return {"cpu_seconds": round(cpu), "peak_gib": round(peak, 2)}


def words(cost: Figures) -> str:
    """Return a search's cost in words."""
    text = f"{cost['cpu_seconds']:.1f} CPU-s, {cost['peak_gib']:.2f} GiB"
    if "recall" in cost:
        text += (
            f", recall nearest {cost['recall']['nearest']:.3f} near {cost['recall']['near']:.3f}"
        )
    return text


def measure_elsewhere(
    args: argparse.Namespace, vectors: Vectors, searches: list[str]
) -> list[Figures]:
    """Return what each search costs for the same vectors, each in a new process."""
    from figures import last_line, say

    measured = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, vectors)
        for search in searches:
            flags = ["--here", search, "--vectors", str(path), "--queries", str(args.queries)]
            command = [sys.executable, __file__, *flags]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            measured.append(last_line(done.stdout))
            say(f"{len(vectors):,} x {vectors.shape[1]}, {search}: {measured[-1]}")
    return measured


def make_vectors(rows: int, dim: int, seed: int) -> Vectors:
    """Return vectors of length 1 around topics, some of them copies of others, (rows, dim)."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((max(rows // TOPIC_ROWS, 1), dim), dtype=np.float32)
    vectors = rng.standard_normal((rows, dim), dtype=np.float32)
    vectors += 0.6 * topics[rng.integers(len(topics), size=rows)]
    copies = rng.choice(rows, int(COPIES * rows), replace=False)
    vectors[copies] = vectors[rng.integers(rows, size=len(copies))]
    near = copies[: len(copies) // 2]
    vectors[near] += 0.1 * rng.standard_normal((len(near), dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def search_exactly(vectors: Any, args: argparse.Namespace) -> Figures:
    """Return the cost of our exact search."""
    from magpie_steps.neighbours.exact import find_neighbours

    found, cost = costed(lambda: find_neighbours(vectors, THRESHOLD))
    return {**cost, "near_pairs": int(found.count.sum()) // 2}


def search_approximately(vectors: Any, args: argparse.Namespace) -> Figures:
    """Return the cost of our approximate search, with its recall, whose measuring it includes."""
    from dataclasses import asdict

    from magpie_steps.neighbours.approximate import find_approximately

    found, cost = costed(lambda: find_approximately(vectors, THRESHOLD))
    assert found.recall is not None
    return {**cost, "recall": asdict(found.recall)}


def search_with_faiss(vectors: Any, args: argparse.Namespace) -> Figures:
    """Return the cost of faiss's flat index, of its search for all rows by a sample's."""
    import faiss

    index = faiss.IndexFlatL2(vectors.shape[1])
    _, built = costed(lambda: index.add(vectors))
    queries = vectors[: args.queries]
    _, searched = costed(lambda: index.search(queries, min(PAPER_K, len(vectors))))
    scale = len(vectors) / len(queries)
    return {
        "cpu_seconds": round(built["cpu_seconds"] + searched["cpu_seconds"] * scale, 2),
        "version": faiss.__version__,
        "queries": len(queries),
        "sample_cpu_seconds": searched["cpu_seconds"],
        "peak_gib": searched["peak_gib"],
    }


SEARCHES = {
    "exact": search_exactly,
    "approximate": search_approximately,
    "faiss": search_with_faiss,
}


def costed(work: Callable[[], Any]) -> tuple[Any, Figures]:
    """Return what the work gives, and what it cost in seconds and, with all before it, memory."""
    before, start = os.times(), time.perf_counter()
    found = work()
    seconds, after = time.perf_counter() - start, os.times()
    # Not getrusage's: that begins with what the process that started this one had.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / GIB_IN_KIB
    cpu = after.user + after.system - before.user - before.system
    cost = {"cpu_seconds": round(cpu, 2), "seconds": round(seconds, 2), "peak_gib": round(peak, 3)}
    return found, cost


def parse_args() -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--queries", type=int, default=2048, help="rows that faiss searches for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curve", type=int, nargs="+", help="numbers of rows")
    parser.add_argument("--curve-dim", type=int, default=384)
    parser.add_argument("--here", choices=sorted(SEARCHES), help=argparse.SUPPRESS)
    parser.add_argument("--vectors", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
