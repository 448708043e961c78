"""Runs the steps that write something to each row, without a pipeline."""

from typing import Any

BAD_ROWS = [
    ({"instruction": None}, "no_instruction"),
    ({"instruction": ""}, "no_instruction"),
    ({"instruction": " \n"}, "no_instruction"),
    ({"instruction": 7}, "no_instruction"),
    ({}, "no_instruction"),
    ({"instruction": "Hi?", "keep": False, "drop_reason": "too_bad"}, "too_bad"),
    ({"messages": [{"role": "assistant", "content": "Hi"}]}, "bad_messages"),
    ({"messages": [{"role": "user", "content": None}]}, "bad_messages"),
]
"""Rows that ask nothing, and their reasons."""


def process(step: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows as the step writes them; it must yield once."""
    step.load()
    try:
        (written,) = list(step.process(rows))
        return written
    finally:
        step.unload()
