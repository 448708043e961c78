"""What do the documents say that comes from the result?

Each part stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``, as in the README.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from magpie_steps.markup import code, table
from magpie_steps.readme import filled
from paper.ablation import ERROR, PAPER, TEMPERATURES, TOP_PS
from paper.comparing import comparisons
from paper.drawing import DRAWINGS
from paper.plan import BASE_PAIRS, FILTERED, PAIRS, PAPER_DPO, PAPER_SFT, RAW, SIZES
from paper.result import (
    KINDS,
    LARGEST,
    ON_GPU,
    REFERENCES,
    RESULT,
    Figures,
    kind,
    largest,
    read,
    shown,
    spread_text,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "paper_in_miniature.md"
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"

PAPER_WINS = {RAW: 49.65, FILTERED: 52.12, f"{FILTERED}+{PAIRS}": 78.52, "instruct": 50.0}
"""Length-controlled win rates against Llama-3-8B-Instruct on AlpacaEval 2, of 300,000 rows of
Magpie-Pro and 100,000 pairs (the paper's table 1)."""

HEADER = [
    "model",
    "trained on",
    "right answers, %",
    "wins against tiny-instruct, %",
    "wins against tiny-base, %",
]


def renewed(path: Path, result: Figures) -> str:
    """Return a document's text with its parts as the result has them.

    Raises:
        ValueError: If it lacks the markers of a part.
    """
    made = readme_parts(result) if path.name == README.name else parts(result)
    return filled(path.read_text(encoding="utf-8"), made)


def parts(result: Figures) -> dict[str, str]:
    """Return the parts of `docs/paper_in_miniature.md` by name."""
    return {
        "run": run_text(result),
        "pools": pools_table(result["figures"]["pools"]),
        "settings": settings_table(result["settings"]),
        "models": models_table(result, shown(result["figures"]["models"]), in_paper=True),
        "models-figure": _image("images", "paper-in-miniature.svg"),
        "claims": claims_table(result),
        "not-reproduced": not_reproduced(result),
        "decoding-figure": _image("images", "paper-in-miniature-decoding.svg"),
        "decoding": decoding_table(result["figures"]["decoding"]),
        "gpu": gpu_text(read(ON_GPU)),
    }


def readme_parts(result: Figures) -> dict[str, str]:
    """Return the README's part: what came out in one sentence, the largest sets, the figures."""
    tested = comparisons(result)
    failed = [each.name for each in tested if not each.holds]
    verdict = f"Of {len(tested)} comparisons {len(tested) - len(failed)} [hold]({_place(README)})"
    verdict += f"; not these: {', '.join(failed)}." if failed else "."
    models = models_table(result, largest(result["figures"]["models"]))
    images = [_image("docs/images", name) for name in DRAWINGS]
    return {"miniature": "\n\n".join([verdict, models, *images])}


def run_text(result: Figures) -> str:
    """Return what was run, how large, and what it took."""
    settings, efforts = result["settings"], result["figures"]["trainings"].values()
    devices = " and ".join(sorted({each["device"] for each in efforts}))
    minutes = sum(each["seconds"] for each in efforts) / 60
    rows = ", ".join(f"{size * settings['unit']:,}" for size in SIZES)
    return (
        f"- Sets of {rows} rows; {settings['questions']:,} held-out questions; seeds of the largest"
        f" raw and filtered sets: {settings['seeds']}, of the others: {settings['side_seeds']};"
        f" instructions of each way to sample: {settings['ablation']:,}.\n"
        f"- {len(efforts)} trainings, which add up to {minutes:.0f} minutes, some at the same time,"
        f" on: {devices}.\n"
        f"- {_stages(result['figures']['seconds'])}\n"
        f"- The [result]({_place(DOCUMENT)}) was printed by {code(result['command'])} on"
        f" {result['machine'].get('cpu', 'a CPU')}, with {_versions(result['versions'])}."
    )


def pools_table(pools: Figures) -> str:
    """Return what the sets are drawn from."""
    header = ["pool", "rows", "distinct questions", "rows that ask something held out"]
    names = ("rows", "distinct_questions", "held_out_questions")
    lines = (
        [POOLS[pool], *(f"{found[name]:,}" for name in names)] for pool, found in pools.items()
    )
    return table(header, lines, numbers=True)


POOLS = {**KINDS, PAIRS: "pairs of five answers", BASE_PAIRS: "pairs with the base model"}


def settings_table(settings: Figures) -> str:
    """Return how TRL's trainers were set, beside the paper's settings."""
    columns = [settings["sft"], asdict(PAPER_SFT), settings["dpo"], asdict(PAPER_DPO)]
    lines = (
        [name.replace("_", " "), *(_setting(each[name]) for each in columns)]
        for name in settings["sft"]
        if name not in ("per_device", "beta")
    )
    beta = ["beta", "", "", *(_setting(each["beta"]) for each in columns[2:])]
    header = ["setting", "SFT here", "in the paper", "DPO here", "in the paper"]
    return table(header, [*lines, beta], numbers=True)


def models_table(result: Figures, names: list[str], in_paper: bool = False) -> str:
    """Return how good models are: mean and standard deviation over the seeds.

    Args:
        result: The result.
        names: The models, in order.
        in_paper: Whether the paper's win rates stand beside ours.
    """
    lines = (_model(result["figures"], name, in_paper) for name in names)
    header = [*HEADER, *(["such wins in the paper, %"] if in_paper else [])]
    return table(header, lines, numbers=True)


def claims_table(result: Figures) -> str:
    """Return all comparisons with their verdicts."""
    lines = (
        [
            each.claim + (" (not in the paper)" if each.ours else ""),
            each.found,
            "yes" if each.holds else "**no**",
        ]
        for each in comparisons(result)
    )
    return table(["claim", "here", "holds"], lines)


def not_reproduced(result: Figures) -> str:
    """Return the comparisons that do not hold, or that there is none."""
    failed = [each for each in comparisons(result) if not each.holds]
    if not failed:
        return "Everything in the table came out as claimed."
    return "\n".join(f"- Not so here: {each.claim}. Found: {each.found}." for each in failed)


def decoding_table(measured: Figures) -> str:
    """Return every figure of the decoding ablation with its standard error, the paper's beside."""
    ours = [name for name in measured if not name.endswith(ERROR)]
    header = ["T", "top_p"]
    for name in ours:
        header += [name.replace("_", " "), *(["in the paper"] if name in PAPER else [])]
    lines = (
        [f"{temperature:g}", f"{top_p:g}", *_decoded(measured, ours, row, column)]
        for row, temperature in enumerate(TEMPERATURES)
        for column, top_p in enumerate(TOP_PS)
    )
    return table(header, lines, numbers=True)


def gpu_text(on_gpu: Figures) -> str:
    """Return what models came to that were trained on a GPU, and how fast."""
    settings, efforts = on_gpu["settings"], on_gpu["figures"]["trainings"]
    order = shown({name.rpartition("-")[0] for name in efforts})
    table_lines = (
        [
            KINDS[kind(name)],
            _rows(efforts, name),
            f"{efforts[f'{name}-0']['steps']:,}",
            f"{efforts[f'{name}-0']['seconds']:.0f}",
            f"{on_gpu['figures']['correct'][f'{name}-0']:.1f}",
        ]
        for name in order
    )
    told = (
        f"On {on_gpu['machine']['gpu']}, {settings['jobs']} models at the same time,"
        f" {len(efforts)} models were trained for {settings['sft']['epochs']:g} epochs and asked in"
        f" {settings['stopped_after_seconds']} seconds:"
    )
    header = ["model", "trained on", "steps", "seconds", "right answers, %"]
    return f"{told}\n\n{table(header, table_lines, numbers=True)}"


def _decoded(measured: Figures, names: list[str], row: int, column: int) -> Iterator[str]:
    for name in names:
        value, error = (measured[key][row][column] for key in (name, f"{name}{ERROR}"))
        digits = 1 if error > 0.1 else 3
        yield f"{value:.{digits}f} ± {error:.{digits}f}"
        if name in PAPER:
            yield f"{PAPER[name][row][column]:.3f}"


def _model(figures: Figures, name: str, in_paper: bool) -> list[str]:
    found = figures["models"][name]
    measures = ("correct", "wins_against_instruct", "wins_against_base")
    wins = PAPER_WINS.get(kind(name)) if name in REFERENCES or name.endswith(LARGEST) else None
    return [
        KINDS[kind(name)],
        _rows(figures["trainings"], name),
        *(spread_text(found[measure]) for measure in measures),
        *([f"{wins:g}" if wins else ""] if in_paper else []),
    ]


def _rows(trainings: Figures, name: str) -> str:
    """Return how many rows, or pairs after them, the models of one kind and size learnt from."""
    rows = [each["rows"] for key, each in trainings.items() if key.rpartition("-")[0] == name]
    return f"{rows[0]:,} {'pairs' if '+' in name else 'rows'}" if rows else ""


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def _stages(seconds: Figures) -> str:
    """Return how long a run took."""
    made, trained = (math.ceil(seconds[stage] / 60) for stage in ("generate", "train"))
    return f"{made} minutes to write the data, {trained} to train."


def _place(document: Path) -> str:
    """Return where the committed result lies as seen from a document."""
    return "../" * (len(document.relative_to(ROOT).parts) - 1) + f"{RESULT.relative_to(ROOT)}"


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in ("torch", "transformers") if name in found)


def _image(folder: str, name: str) -> str:
    return f"![{DRAWINGS[name][1]}]({folder}/{name})"
