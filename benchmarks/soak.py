"""Does a long run with faults everywhere lose a row, or hold more and more of the machine?

The main job's whole pipeline writes scripted rows. One user turn in a hundred is spoiled in one of
the ways that the sanitiser knows, so is one response in a hundred, and one completion in a hundred
raises. Every row has to be there once, in order, as the first step alone writes it without a
pipeline, kept or dropped for a reason; the rows that the engine failed on are as many as its
failures. No process may gain files or threads while it works, nor may one, a file or a thread be
left after it.

    python benchmarks/soak.py                    # 100,000 rows, about ten minutes
    python benchmarks/soak.py --rows 2000

Memory is looked at twice a second; a process that works on rows one by one may take at most a
twentieth more in the last third of its time than in the middle third, if the run is long enough for
its start not to count. Steps that compare all rows with each other hold them, and so does the main
process until they get them; libraries start their threads when the comparing begins. The embedding
model and the reward model are smaller stand-ins, as even the embedded ones would take an hour.

The last line is one JSON object.
"""

import argparse
import contextlib
import gc
import importlib
import io
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from figures import quiet, report
from process_watch import Holding, ProcessWatch, growth, holding

import magpie_steps
from magpie_steps.engines.scripted_text import RESPONSE_SPOILABLE, SPOILABLE
from magpie_steps.job import Job
from magpie_steps.job.flags import run_asked_for
from magpie_steps.provenance import Work, generated_so_far
from magpie_steps.reasons import ENGINE_ERROR
from magpie_steps.stored_rows import StoredRows
from magpie_steps.summary import Summary

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"

WARM_UP_ROWS = 20

SMALLEST = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
"""The stand-in for the reward model."""

MOST_GROWTH = 1.05
"""Memory in the last third to the middle one, of a process that works on rows one by one."""

MOST_MORE = 2
"""Files, or threads, in the last third beyond those of the middle one: a moment's own."""

ROWS_OF_LONG_RUN = 50_000
"""In a shorter run the middle third is the start: models are loaded, libraries used first."""

MOST_MORE_AT_FIRST = 10
"""Files, or threads, of a shorter run: those, but not one for each of its batches."""

SAME = ("uuid", "row", "instruction", "response", "messages", "instruction_rejections")
"""Columns that no later step touches."""


def main() -> int:
    """Run the pipeline, check its rows, print a table and a line of JSON."""
    args = parse_args()
    quiet()
    sys.path.insert(0, str(PIPELINES))
    with tempfile.TemporaryDirectory() as scratch:
        figures = soak(args, Path(scratch))
    report(lines_of(figures), vars(args), figures)
    return 1 if figures["problems"] else 0


def soak(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run the pipeline and write the output folder; return what was found."""
    models = write_embedder(scratch / "embedder"), write_reward_model(scratch / "reward")
    # Libraries open files at their first use and keep them.
    run_once(WARM_UP_ROWS, 0.0, scratch / "warm-up", *models)
    gc.collect()
    before, threads = holding(), threading.active_count()
    with ProcessWatch() as watch:
        found = run_once(args.rows, args.fault_share, scratch / "out", *models)
    counts = found.summary.as_dict()
    processes, left = by_process(found, watch), left_behind(before, threads, watch)
    all_rows = {"main", *(name for name in found.pipeline.dag if compares_all(found, name))}
    return {
        "problems": [
            *problems_of_rows(found, counts),
            *problems_of_processes(processes, all_rows, long=args.rows >= ROWS_OF_LONG_RUN),
            *(f"{n} {name} are left" for name, n in left.items() if n),
        ],
        "counts": {name: counts[name] for name in ("generated", "kept", "dropped", "rejected")},
        "engine": {"generated": found.work.completions, "failed": failures(found.work)},
        "seconds": {name: round(value, 1) for name, value in found.seconds.items()},
        "processes": processes,
        "left": left,
    }


@dataclass
class Found:
    """What a run has left.

    Attributes:
        pipeline: The pipeline.
        rows: Its rows, mapped into memory.
        summary: Their counts.
        work: What its engine did.
        ended: When it had made its rows, on the monotonic clock.
        seconds: How long it took to make them, and to write the output folder.
    """

    pipeline: "Pipeline"
    rows: StoredRows
    summary: Summary
    work: Work
    ended: float
    seconds: dict[str, float]

    @property
    def generator(self) -> Any:
        """The first step."""
        return self.pipeline.dag.get_step("conversation_generator_0")["step"]


def run_once(rows: int, fault_share: float, folder: Path, embedder: Path, reward: Path) -> Found:
    """Run the pipeline and write the output folder, as the job does it."""
    job: Job = importlib.import_module("magpie_pro").JOB
    flags = [
        *("--dry-run", "--num-rows", str(rows), "--output-dir", str(folder)),
        *("--embedding-model", str(embedder), "--reward-model", str(reward)),
    ]
    run = run_asked_for(job, "", flags)
    pipeline = job.build(run)
    pipeline.dag.get_step("conversation_generator_0")["step"].llm = faulty_engine(fault_share)
    start = time.monotonic()
    result = magpie_steps.run_pipeline(pipeline, work_dir=run.work_dir, expected_rows=rows)
    ended = time.monotonic()
    work = generated_so_far(run.work_dir / "journal.sqlite")
    with contextlib.redirect_stdout(io.StringIO()):
        summary = job._write(run, pipeline, result, work)
    seconds = {"run": ended - start, "output": time.monotonic() - ended}
    return Found(pipeline, StoredRows(result.dataset), summary, work, ended, seconds)


def faulty_engine(share: float) -> "magpie_steps.ScriptedEngine":
    """Return an engine that spoils texts and raises, each for this share of its completions."""
    return magpie_steps.ScriptedEngine(
        bad_fraction={reason: share / len(SPOILABLE) for reason in SPOILABLE},
        bad_response_fraction={
            reason: share / len(RESPONSE_SPOILABLE) for reason in RESPONSE_SPOILABLE
        },
        failure_fraction=share,
    )


def write_reward_model(folder: Path) -> Path:
    """Write a reward model of the embedded one's kind, with one narrow layer of random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from magpie_steps.embedded import model_path

    torch.manual_seed(0)
    shutil.copytree(model_path("tiny-reward"), folder)
    config = AutoConfig.from_pretrained(folder)
    config.update(SMALLEST)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def write_embedder(folder: Path) -> Path:
    """Write an embedding model that is instant: the mean of a random vector for each token."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    from magpie_steps.embedded import model_path

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_path("tiny-instruct"))
    words = StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=64)
    SentenceTransformer(modules=[words]).save(str(folder), create_model_card=False)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def problems_of_rows(found: Found, counts: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the rows."""
    generator = found.generator
    different = sum(not same for same in comparisons(found.rows, alone(generator)))
    failed, failing = counts["dropped"].get(ENGINE_ERROR, 0), failures(found.work)
    checks = {
        "rows are missing": counts["generated"] == generator.num_rows == len(found.rows),
        f"{different} rows are not as the first step alone writes them": not different,
        "kept and removed rows do not add up": counts["generated"]
        == counts["kept"] + sum(counts["dropped"].values()),
        "a row was dropped without a reason": "" not in counts["dropped"],
        f"{failed} rows failed of {failing} failures": failed == failing,
    }
    return [problem for problem, well in checks.items() if not well]


def problems_of_processes(
    processes: Mapping[str, Mapping[str, float]], all_rows: Collection[str], *, long: bool
) -> list[str]:
    """Return what the processes gained while they worked.

    Args:
        processes: What each gained, by step, as `growth` tells it.
        all_rows: Those that hold all rows: their memory may grow, and their threads with it.
        long: Whether the run was long enough to judge the others' memory.
    """
    more = MOST_MORE if long else MOST_MORE_AT_FIRST
    most: dict[str, float] = {"files_more": more}
    of_single_rows = most | {"threads_more": more}
    if long:
        of_single_rows["last_third_to_middle"] = MOST_GROWTH
    return [
        f"{name}: {what} {held[what]}, at most {limit}"
        for name, held in processes.items()
        for what, limit in (most if name in all_rows else of_single_rows).items()
        if held[what] > limit
    ]


def compares_all(found: Found, name: str) -> bool:
    """Return whether a step gets all rows at once."""
    return bool(found.pipeline.dag.get_step(name)["step"].is_global)


def alone(generator: Any) -> Iterable[Mapping[str, Any]]:
    """Yield the rows as the first step writes them in this process, without pipeline or journal."""
    generator.llm.use_journal(None)
    generator.load()
    try:
        for batch, _ in generator.process():
            yield from batch
    finally:
        generator.unload()


def comparisons(
    rows: Iterable[Mapping[str, Any]], expected: Iterable[Mapping[str, Any]]
) -> Iterable[bool]:
    """Yield for each row whether it is the expected one."""
    nothing: Mapping[str, Any] = {}
    for row, wanted in zip_longest(rows, expected, fillvalue=nothing):
        yield all(row.get(name) == wanted.get(name) for name in SAME) and (
            bool(wanted.get("keep")) or row.get("drop_reason") == wanted.get("drop_reason")
        )


def failures(work: Work) -> int:
    """Return how often the engine has failed."""
    return int(sum(engine["failed"] for engine in work.engines))


def by_process(found: Found, watch: ProcessWatch) -> dict[str, Any]:
    """Return what each process held while the rows were made, by its step."""
    names = ["main", *found.pipeline.dag]
    return {
        name: growth([sample for sample in samples if sample.at < found.ended])
        for name, samples in zip(names, watch.seen.values(), strict=False)
    }


def left_behind(before: Holding, threads: int, watch: ProcessWatch) -> dict[str, int]:
    """Return what is still there after the run that was not before."""
    gc.collect()  # the last rows' files and the ended processes' pipes
    after = holding()
    return {
        "processes": len(psutil.Process().children(recursive=True)),
        "zombies": len(watch.zombies),
        "files": after.files - before.files,
        "threads": threading.active_count() - threads,
    }


def lines_of(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the table."""
    counts = figures["counts"]
    dropped = Counter(counts["dropped"])
    return [
        ("rows generated", f"{counts['generated']:,}"),
        ("rows kept", f"{counts['kept']:,}"),
        *((f"  {reason}", f"{n:,}") for reason, n in dropped.most_common()),
        *(
            (f"{name}, last third to middle", f"{p['last_third_to_middle']:.3f}")
            for name, p in figures["processes"].items()
        ),
        *((f"{name} left", str(n)) for name, n in figures["left"].items()),
        ("problems", "; ".join(figures["problems"]) or "none"),
    ]


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--fault-share", type=float, default=0.01)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
