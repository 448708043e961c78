"""How long may a chat template, which is a stranger's code, run, and how much may it write?

Jinja's sandbox keeps a template from Python's inner parts, but not from looping for hours or from
filling the memory. Here renderings have a budget of processor time and size, and an operation that
could make a huge value out of small ones is refused before it is done.
"""

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from math import inf
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, MacroRef
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SECONDS = 0.5
"""Processor time of one rendering; real templates take less than a hundredth of it."""

MAX_SECONDS_TOGETHER = 1.0
"""Processor time of a template's probes together; the slowest of 415 real ones take a third."""

MAX_SIZE = 1_000_000
"""Characters or items of a value that a template makes, besides five times its messages."""

_MADE_TOGETHER = 50
"""All that a rendering makes, as a multiple of its largest value."""

_MAX_NUMBER = 10**15
"""The largest number that a template may multiply: a time in microseconds fits."""

_MAX_EXPONENT = 64

_GROWING_METHODS = frozenset(
    "center expandtabs format format_map join ljust replace rjust translate zfill".split()
)
_GROWING_FILTERS = frozenset(
    "batch center format indent join replace slice tojson wordwrap".split()
)
"""What may return far more than it is given."""

_WIDTH = re.compile(r"\d{6,}")
"""In a format string: a width of 100,000 characters or more."""

_LONG = 10_000
"""A value from which on an operation may take a time worth looking at."""


class LimitError(Exception):
    """A template that takes too long or makes too much."""


class _Budget(threading.local):
    """What is left on this thread of a rendering's time and size."""

    end = inf
    end_together = inf
    size = MAX_SIZE
    made = 0
    ticks = 0


_budget = _Budget()


@contextmanager
def rendered_together() -> Iterator[None]:
    """Give all renderings on this thread `MAX_SECONDS_TOGETHER` until the block ends."""
    _budget.end_together = time.thread_time() + MAX_SECONDS_TOGETHER
    try:
        yield
    finally:
        _budget.end_together = inf


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with limits on time and size; one may serve several threads."""

    # The other operators make nothing larger.
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        """Take the options of Jinja's environment."""
        super().__init__(**options)
        self.code_generator_class = _Generator
        self.concat = _join  # type: ignore[method-assign]
        self.allowed = _allowed
        # It writes any number of paragraphs, and no chat template needs one.
        del self.globals["lipsum"]

    def limit_filters(self) -> None:
        """Keep all filters that are there now to the limits."""
        filters: dict[str, Any] = self.filters
        for name, function in filters.items():
            filters[name] = limited(function, grows=name in _GROWING_FILTERS)

    def start(self, characters: int) -> None:
        """Give the next rendering on this thread its time and size.

        Args:
            characters: Those of the messages that are rendered.
        """
        _budget.end = min(time.thread_time() + MAX_SECONDS, _budget.end_together)
        _budget.size = MAX_SIZE + 5 * characters
        _budget.made = 0

    @property
    def tick(self) -> None:
        """Compiled templates read this in each round of a loop and each call of a macro.

        Raises:
            LimitError: The rendering's time is over.
        """
        # The clock is a system call.
        _budget.ticks += 1
        if _budget.ticks % 32 == 0:
            _look_at_clock()

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method, unless it could return too much."""
        if getattr(__obj, "__name__", "") in _GROWING_METHODS:
            # Jinja puts a function of its own in the place of a text's `format`.
            owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
            _require_small(owner, *args, *kwargs.values())
        return _allowed(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute, unless the result would be too large."""
        if operator == "%":
            if isinstance(left, str):
                _require_small(left, right)
        elif operator != "+":
            _require_small_number(operator, left, right)
        return _allowed(self.binop_table[operator](left, right))


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
        self.write("environment.allowed(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("environment.allowed(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        is_value = node.ctx == "load"
        self.write("environment.allowed(" if is_value else "")
        super().visit_Tuple(node, frame)
        self.write(")" if is_value else "")


def _add_tick(node: nodes.For | nodes.Macro | nodes.CallBlock) -> None:
    # The statement `environment.tick`, which reads the property and thereby runs it.
    tick = nodes.ExprStmt(nodes.EnvironmentAttribute("tick"), lineno=node.lineno)
    node.body = [tick, *node.body]


def limited(function: Callable[..., Any], *, grows: bool) -> Callable[..., Any]:
    """Return a filter or function that keeps to the limits.

    Args:
        function: The filter.
        grows: Whether it may return far more than it is given.
    """

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if grows:
            # Some are given Jinja's context first, whose extent is 0.
            args = tuple(list(each) if isinstance(each, Iterator) else each for each in args)
            _require_small(*args, *kwargs.values())
        return _allowed(function(*args, **kwargs))

    return checked


def _allowed(made: Any) -> Any:
    """Return a value that a template has made, unless it is too large or the time is over."""
    if type(made) is str:
        size = len(made)
    elif isinstance(made, (Mapping, list, tuple)):
        # A list of lists of lists may be long beyond measure.
        size = _extent(made, numbers=False)
    else:
        return made
    if size > _LONG:
        _look_at_clock()
    _budget.made += size
    if size > _budget.size or _budget.made > _MADE_TOGETHER * _budget.size:
        _refuse_size()
    return made


def _join(pieces: Iterable[str]) -> str:
    """Return `"".join(pieces)` if that is not too long."""
    if isinstance(pieces, tuple):
        # The operands of one `~`.
        if sum(map(len, pieces)) > _budget.size:
            _refuse_size()
        text: str = _allowed("".join(pieces))
        return text
    known, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > _budget.size:
            _refuse_size()
        known.append(piece)
    return "".join(known)


def _require_small(*given: Any) -> None:
    """Check what is combined with one another: texts, lists, counts and widths."""
    for each in given:
        if isinstance(each, str) and ("%" in each or "{" in each) and _WIDTH.search(each):
            _refuse_size()
    large, second, *_ = [*sorted(map(_extent, given), reverse=True), 0, 0]
    # Half of the letters may be replaced by nothing, or by as many again.
    if (large + 1) * (second + 1) > 50 * _budget.size:
        _refuse_size()


def _extent(value: Any, *, numbers: bool = True) -> int:
    """Return how much a value adds to a result that holds it, or how often it can repeat one.

    Args:
        value: Any value.
        numbers: Whether a number counts as what it says, such as a width.
    """
    size, items, waiting = 0, 0, [value]
    while waiting:
        each = waiting.pop()
        items += 1
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, int):
            size += abs(each) if numbers else 0
        elif isinstance(each, Mapping):
            waiting.extend([*each.keys(), *each.values()])
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)
        if items + len(waiting) > _budget.size:
            _refuse_size()
    return size + items - 1


def _require_small_number(operator: str, left: Any, right: Any) -> None:
    """Check a product or power."""
    sizes = [len(each) if isinstance(each, Sized) else _number(each) for each in (left, right)]
    if isinstance(left, Sized) or isinstance(right, Sized):
        if sizes[0] * sizes[1] > _budget.size:
            _refuse_size()
    elif max(sizes) > _MAX_NUMBER or (operator == "**" and sizes[1] > _MAX_EXPONENT):
        raise LimitError(f"it computes {left!r:.20} {operator} {right!r:.20}, which is too large")


def _number(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _look_at_clock() -> None:
    if time.thread_time() > _budget.end:
        raise LimitError("it takes too long, more than half a second of processor time")


def _refuse_size() -> NoReturn:
    raise LimitError(f"it makes more than {_budget.size:,} characters or items")
