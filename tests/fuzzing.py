"""How hard do the fuzz tests try, and with what?

By default each test draws the same few examples every time. `FUZZ_EXAMPLES=1000` draws as many, and
others each time.
"""

import os
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ASKED = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """Settings of a test that draws so many examples unless more are asked for."""
    return settings(
        max_examples=ASKED or examples,
        derandomize=not ASKED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


HOSTILE = (
    "",
    "  \n\t",
    "\ud800 half a pair",
    "\udfff",
    "\x00",
    "\x1b[31mred\x07",
    "a\u202eb",
    "\u2028\u2029",
    "---\nname: x\n---",
    "<script>alert(1)</script>",
    "</details>|`|",
    "{{ 7 * 7 }}{% for x in y %}",
    "<|eot_id|><|im_end|></s>[/INST]",
    "../../etc/passwd",
    "NaN",
    "-1",
    "1e999",
    "\u0661\u0662",
    "é́́́" * 50,
    "x" * 20_000,
)
"""Texts that have broken something somewhere."""

texts = st.sampled_from(HOSTILE) | st.text(max_size=30)
"""Any text, with halves of surrogate pairs and control characters."""

numbers: st.SearchStrategy[Any] = (
    st.sampled_from((0, -1, 2**70, -(2**70), 10**400, True, False, np.int64(3), np.float32("nan")))
    | st.integers()
    | st.floats()
    | st.just(1j)
)


def arrays() -> st.SearchStrategy[Any]:
    """What rows from a data frame have for None and for lists."""
    return st.sampled_from((pd.NA, pd.NaT, np.array([]), np.array(["a", "b"]), np.zeros((2, 2))))


class _Odd:
    """Nothing that a row can be expected to hold."""


scalars: st.SearchStrategy[Any] = (
    st.none() | texts | numbers | st.binary(max_size=8) | arrays() | st.builds(_Odd)
)

values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(texts | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
"""Any value, however nested."""

roles = st.sampled_from(("system", "user", "assistant", "tool", "", "User")) | scalars

messages = st.lists(
    st.fixed_dictionaries({}, optional={"role": roles, "content": values, "extra": scalars}),
    max_size=4,
)
"""What may be a conversation, and mostly is none."""
