"""Rows to report on, and the files and pages that come of them."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from magpie_steps import columns
from magpie_steps.shards import arrow_schema

HOSTILE = (
    "<script>document.title='run';fetch('http://example.com/x')</script>",
    "</details></table></div></section><h1>Mine</h1><img src=http://example.com/i.png onerror=1>",
    "---\nlicense: mine\n---\n| a | b |\n|---|---|\n# heading\n```\n````",
    "$x^{2$ \\frac{1}{$ $$",
    "\u202etxet sdrawkcab\u2066 \x00\x07\x1b[31m \u2028 \ufeff",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &amp; \"quoted\" 'too'",
    "x" * 50_000,
    "汉字 العربية עברית 😀",
    "",
)
"""Texts that try to become part of a page."""

LEVELS = ("very easy", "easy", "medium", "hard", "very hard")
QUALITIES = ("very poor", "poor", "average", "good", "excellent")
CATEGORIES = ("Math", "Planning", "Creative writing", "Information seeking")


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Return a row of ours with every label; every fifth is not kept."""
    kept = number % 5 != 4
    return {
        **columns.empty_row(),
        "uuid": f"id-{number}",
        "row": number,
        "model": "m",
        "instruction": f"Write {number} words about trees.",
        "response": "Trees are tall. " * (1 + number % 7),
        "messages": [
            {"role": "user", "content": f"Write {number} words about trees."},
            {"role": "assistant", "content": "Trees are tall."},
        ],
        "turns": 1,
        "gen_input_configs": {
            **columns.empty_row()["gen_input_configs"],
            "temperature": 1.0 + 0.1 * (number % 2),
            "top_p": 1.0,
        },
        "instruction_tokens": 6 + number % 3,
        "response_tokens": 5 * (1 + number % 7),
        "task_category": CATEGORIES[number % 4],
        "difficulty": LEVELS[number % 5],
        "input_quality": QUALITIES[number % 5],
        "language": ("EN", "EN", "DE")[number % 3],
        "safe": number % 10 != 0,
        "unsafe_categories": [] if number % 10 else ["hate", "privacy"],
        "guard_raw": "safe" if number % 10 else "unsafe\nS9,S6",
        "instruct_reward": float(number % 8),
        "base_reward": float(number % 3) - 4,
        "reward_difference": float(number % 8) - (float(number % 3) - 4),
        "min_neighbor_distance": (number % 11) / 10,
        "repeat_count": int(number % 11 == 0),
        "keep": kept,
        "drop_reason": "" if kept else ("recipe_quality", "instruction_truncated")[number % 2],
        **changes,
    }


def pair_row(number: int, **changes: Any) -> dict[str, Any]:
    """Return a row with several responses instead of one and the pair that they make.

    Each has 4 or 5; the last one's reward is missing in every third row.
    """
    rewards = [float((number * 7 + n * n) % 11) for n in range(4 + number % 2)]
    if number % 3 == 0:
        rewards[-1] = float("nan")
    found = row(
        number,
        responses=[f"Tree {n}. " * (1 + (number + n) % 4) for n in range(len(rewards))],
        responses_tokens=[3 + (number + n) % 9 for n in range(len(rewards))],
        responses_rewards=rewards,
        chosen_score=max(rewards[:-1]),
        rejected_score=min(rewards[:-1]),
        score_margin=max(rewards[:-1]) - min(rewards[:-1]),
    )
    alone = ("response", "response_tokens", "response_length", "messages", "turns")
    return {name: value for name, value in found.items() if name not in alone} | changes


def write_rows(folder: Path, rows: list[dict[str, Any]], group: int = 50) -> list[Path]:
    """Write rows of ours to a parquet file; return it in a list."""
    types = {column.name: column.type for column in columns.COLUMNS}
    names = [name for name in types if not rows or name in rows[0]]
    table = pa.Table.from_pylist(rows, arrow_schema({name: types[name] for name in names}))
    return write_table(folder, table, group)


def write_table(folder: Path, table: pa.Table, group: int = 50) -> list[Path]:
    """Write a table to a parquet file; return it in a list."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train-00000-of-00001.parquet"
    pq.write_table(table, path, row_group_size=group)
    return [path]


class Outline(HTMLParser):
    """What a page is made of, without its texts.

    Attributes:
        headings: The headings with their level.
        tags: Every tag, in order.
        text: All texts, joined.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if re.fullmatch(r"h[1-6]", self.tags[-1] if self.tags else ""):
            self.headings.append(f"{self.tags[-1]} {data}")
        self.text += data
