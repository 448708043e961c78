"""How long may a chat template, which is a stranger's code, run, and how much may it write?

Jinja's sandbox keeps a template from Python's inner parts, but not from looping for hours or from
filling the memory. Here each rendering has a budget of processor time, and an operation that could
make a huge value out of small ones is refused before it is done.
"""

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, MacroRef
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SECONDS = 0.5
"""Processor time of one rendering; real templates take less than a hundredth of it."""

MAX_SIZE = 50_000_000
"""Characters of a text that a template may make."""

MAX_ITEMS = 1_000_000
"""Items of a list, with those of the lists in it."""

_MAX_NUMBER = 10**15
"""The largest number that a template may multiply: a time in microseconds fits."""

_MAX_EXPONENT = 64

_GROWING_METHODS = frozenset(
    "center expandtabs format format_map join ljust replace rjust translate zfill".split()
)
_GROWING_FILTERS = ("batch", "center", "format", "indent", "join", "replace", "slice", "wordwrap")
"""What may return far more than it is given."""

_WIDTH = re.compile(r"\d{6,}")
"""In a format string: a width of 100,000 characters or more."""


class LimitError(Exception):
    """A template that takes too long or makes too much."""


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with limits on time and size; one may serve several threads."""

    # The other operators make nothing larger.
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        """Take the options of Jinja's environment."""
        super().__init__(**options)
        self.code_generator_class = _Generator
        self.concat = _join  # type: ignore[method-assign]
        self.countable = countable
        self._budget = threading.local()
        self._ticks = 0
        filters: dict[str, Any] = self.filters
        for name in _GROWING_FILTERS:
            filters[name] = _limited(filters[name])
        # It writes any number of paragraphs, and no chat template needs one.
        del self.globals["lipsum"]

    def start(self) -> None:
        """Give the next rendering on this thread its time."""
        self._budget.end = time.thread_time() + MAX_SECONDS

    @property
    def tick(self) -> None:
        """Compiled templates read this in each round of a loop and each call of a macro.

        Raises:
            LimitError: The rendering's time is over.
        """
        # The clock is a system call; threads may disturb one another's count, but not for long.
        self._ticks += 1
        if self._ticks % 32 == 0 and time.thread_time() > self._budget.end:
            raise LimitError(f"it still runs after {MAX_SECONDS:g} seconds")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method, unless it could return too much."""
        if getattr(__obj, "__name__", "") in _GROWING_METHODS:
            # Jinja puts a function of its own in the place of a text's `format`.
            owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
            _require_small(owner, *args, *kwargs.values())
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute, unless the result would be too large."""
        if operator == "%":
            if isinstance(left, str):
                _require_small(left, right)
        elif operator != "+":
            _require_small_number(operator, left, right)
        made = self.binop_table[operator](left, right)
        if type(made) is not str:
            return countable(made)
        if len(made) > MAX_SIZE:
            _refuse_size()
        return made


class _Generator(CodeGenerator):
    """Compiles loops and macros so that each round looks at the time; `~` and lists have limits."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        _add_tick(node)
        super().visit_For(node, frame)

    def macro_body(
        self, node: nodes.Macro | nodes.CallBlock, frame: Frame
    ) -> tuple[Frame, MacroRef]:
        _add_tick(node)
        return super().macro_body(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for each in node.nodes:
            self.write("str(")
            self.visit(each, frame)
            self.write("), ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self.write("environment.countable(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("environment.countable(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        is_value = node.ctx == "load"
        self.write("environment.countable(" if is_value else "")
        super().visit_Tuple(node, frame)
        self.write(")" if is_value else "")


def _add_tick(node: nodes.For | nodes.Macro | nodes.CallBlock) -> None:
    # The statement `environment.tick`, which reads the property and thereby runs it.
    tick = nodes.ExprStmt(nodes.EnvironmentAttribute("tick"), lineno=node.lineno)
    node.body = [tick, *node.body]


def _join(pieces: Iterable[str]) -> str:
    """Return `"".join(pieces)` if that is not too long."""
    if isinstance(pieces, tuple):
        # The operands of one `~`.
        if sum(map(len, pieces)) > MAX_SIZE:
            _refuse_size()
        return "".join(pieces)
    known, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_SIZE:
            _refuse_size()
        known.append(piece)
    return "".join(known)


def countable(value: Any) -> Any:
    """Return a value, unless it is a list of lists of lists without end, which none can print.

    Raises:
        LimitError: It holds too much, perhaps a few things many times.
    """
    if isinstance(value, (Mapping, list, tuple)):
        _extent(value)
    return value


def _limited(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that refuses what could make it return too much."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        # Some are given Jinja's context first, whose extent is 0.
        known = [list(each) if isinstance(each, Iterator) else each for each in args]
        _require_small(*known, *kwargs.values())
        return function(*known, **kwargs)

    return checked


def _require_small(*given: Any) -> None:
    """Check what is combined with one another: texts, lists, counts and widths."""
    for each in given:
        if isinstance(each, str) and ("%" in each or "{" in each) and _WIDTH.search(each):
            _refuse_size()
    large, second, *_ = [*sorted(map(_extent, given), reverse=True), 0, 0]
    if (large + 1) * (second + 1) > MAX_SIZE:
        _refuse_size()


def _extent(value: Any) -> int:
    """Return how much a value adds to a result that holds it, or how often it can repeat one."""
    size, items, waiting = 0, 0, [value]
    while waiting:
        each = waiting.pop()
        items += 1
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, int):
            size += abs(each)
        elif isinstance(each, Mapping):
            waiting.extend([*each.keys(), *each.values()])
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)
        if items + len(waiting) > MAX_ITEMS:
            _refuse_size()
    return size + items - 1


def _number(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _require_small_number(operator: str, left: Any, right: Any) -> None:
    """Check a product or power."""
    sizes = [len(each) if isinstance(each, Sized) else _number(each) for each in (left, right)]
    if isinstance(left, Sized) or isinstance(right, Sized):
        if sizes[0] * sizes[1] > MAX_SIZE:
            _refuse_size()
    elif max(sizes) > _MAX_NUMBER or (operator == "**" and sizes[1] > _MAX_EXPONENT):
        raise LimitError(
            f"it computes {left!r:.20} {operator} {right!r:.20}, which is far too large"
        )


def _refuse_size() -> NoReturn:
    raise LimitError(f"it makes more than {MAX_SIZE:,} characters or {MAX_ITEMS:,} items")
