"""Small Python: what it prints, functions to write, bugs to fix."""

import ast
import warnings
from collections.abc import Callable
from random import Random

from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Number, Pool, Values
from magpie_steps.embedded.dialogues.numbers import NUMBER_LIST, numbers_of, says

_FUNCTION = Pool(
    tuple("calc change compute convert count step update work shift apply move run score".split())
)
_VERB_SIGNS = {"adds": "+", "subtracts": "-"}
_BUILTINS: dict[str, Callable[[list[int]], int]] = {"max": max, "min": min, "len": len}
_TASK_SIGNS = {"adds": "+", "subtracts": "-", "multiplies": "*"}


def _same_code(result: Callable[[Values], str]) -> Callable[[Values, str], bool]:
    return lambda values, answer: _parse(answer) == _parse(result(values))


def _parse(code: str) -> str | None:
    """The code's syntax tree as text, so that spaces do not count; None for no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks about odd code are not our concern
            return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _function(values: Values) -> str:
    sign = _VERB_SIGNS[values["verb"]]
    return f"def {values['name']}(x):\n    return x {sign} {values['n']}"


def _fixed(values: Values) -> str:
    sign = _TASK_SIGNS[values["task"]]
    return f"def {values['name']}(a, b):\n    return a {sign} b"


def _printed_sum(values: Values) -> int:
    a, b = int(values["a"]), int(values["b"])
    return a + b if values["sign"] == "+" else a - b


def _builtin(values: Values) -> int:
    return _BUILTINS[values["builtin"]](numbers_of(values))


def _prints(result: Callable[[Values], int]) -> Callable[[Values, Random], str]:
    return lambda values, _: f"It prints {result(values)}."


FAMILIES = (
    Family(
        name="print_sum",
        category="coding_debugging",
        phrasings=(
            "What does print({a} {sign} {b}) output in Python?",
            "What does this code print?\nx = {a}\ny = {b}\nprint(x {sign} y)",
            "What is the output?\na = {a}\nprint(a {sign} {b})",
        ),
        slots={"a": Number(10, 60), "b": Number(2, 9), "sign": Pool(("+", "-"))},
        answer=lambda values, _: (
            f"{values['a']} {values['sign']} {values['b']} = {_printed_sum(values)},"
            f" so it prints {_printed_sum(values)}."
        ),
        is_correct=says(_printed_sum),
        statement=lambda values, _: (
            f"print({values['a']} {values['sign']} {values['b']}) prints {_printed_sum(values)}."
        ),
        follow_ups=(FollowUp("And print({a} {sign} {b})?"),),
    ),
    Family(
        name="print_builtin",
        category="coding_debugging",
        phrasings=(
            "What does print({builtin}([{numbers}])) output?",
            "What does this code print?\nx = [{numbers}]\nprint({builtin}(x))",
        ),
        slots={"numbers": NUMBER_LIST, "builtin": Pool(tuple(_BUILTINS))},
        answer=_prints(_builtin),
        is_correct=says(_builtin),
        statement=lambda values, _: (
            f"print({values['builtin']}([{values['numbers']}])) prints {_builtin(values)}."
        ),
        follow_ups=(FollowUp("And print({builtin}([{numbers}]))?"),),
    ),
    Family(
        name="print_item",
        category="coding_debugging",
        phrasings=(
            "What does this code print?\nx = [{numbers}]\nprint(x[{i}])",
            "What is x[{i}] in Python if x = [{numbers}]?",
        ),
        slots={"numbers": NUMBER_LIST, "i": Number(0, 2)},
        answer=_prints(lambda values: numbers_of(values)[int(values["i"])]),
        is_correct=says(lambda values: numbers_of(values)[int(values["i"])]),
        statement=lambda values, answer: (
            f"x = [{values['numbers']}]\nprint(x[{values['i']}])\n# {answer}"
        ),
        follow_ups=(FollowUp("And x[{i}]?"),),
    ),
    Family(
        name="write_function",
        category="coding_debugging",
        phrasings=(
            "Write a Python function {name} that {verb} {n}.",
            "I need a function called {name}. It {verb} {n}.",
        ),
        slots={"name": _FUNCTION, "verb": Pool(tuple(_VERB_SIGNS)), "n": Number(1, 99)},
        answer=lambda values, _: _function(values),
        is_correct=_same_code(_function),
        follow_ups=(
            FollowUp("Now one that {verb} {n}."),
            FollowUp("Call it {name} instead."),
        ),
    ),
    Family(
        name="fix_bug",
        category="coding_debugging",
        phrasings=(
            "This function {task} two numbers but has a bug. Fix it:\n"
            "def {name}(a, b):\n    return a {wrong} b",
            "Debug this code. It {task} a and b:\ndef {name}(a, b):\n    return a {wrong} b",
        ),
        slots={
            "name": _FUNCTION,
            "task": Pool(tuple(_TASK_SIGNS)),
            "wrong": Pool(("+", "-", "*", "/", "%")),
        },
        answer=lambda values, _: _fixed(values),
        is_correct=_same_code(_fixed),
        valid=lambda values: _TASK_SIGNS[values["task"]] != values["wrong"],
    ),
)
