"""Comparisons, number sequences, word problems, odd ones out, days of the week."""

from random import Random

from magpie_steps.embedded.dialogues.facts import CLASS_OF_WORD, DAYS, NAMES, WORD_CLASSES
from magpie_steps.embedded.dialogues.grammar import Drawn, Family, FollowUp, Number, Pool, Values
from magpie_steps.embedded.dialogues.judging import names_only
from magpie_steps.embedded.dialogues.numbers import says

_NAME = Pool(NAMES)
_ITEMS = Pool(tuple("apples books cards coins marbles pencils shells stamps stickers toys".split()))


def _holder(values: Values) -> str:
    """The first of the chain has most of the quality, the last has least."""
    return values["x"] if values["most"] == "most" else values["z"]


def _three_people(values: Values) -> bool:
    return len({values["x"], values["y"], values["z"]}) == 3


def _more(values: Values) -> int:
    return int(values["a"]) + int(values["b"])


def _left(values: Values) -> int:
    return int(values["a"]) - int(values["b"])


def _strangers(values: Values) -> list[str]:
    """The words that are not of the class."""
    words = values["words"].split(", ")
    return [word for word in words if CLASS_OF_WORD.get(word) != values["class"]]


def _odd_one(values: Values) -> str:
    return _strangers(values)[0]


def _has_one_odd(values: Values) -> bool:
    return len(_strangers(values)) == 1 and _odd_one(values) in CLASS_OF_WORD


def _weekday(values: Values) -> str:
    return DAYS[(DAYS.index(values["day"]) + int(values["n"])) % 7]


def _draw_odd_words(rng: Random) -> str:
    many, one = rng.sample(list(WORD_CLASSES), 2)
    words = [*rng.sample(WORD_CLASSES[many], 3), rng.choice(WORD_CLASSES[one])]
    rng.shuffle(words)
    return ", ".join(words)


def _draw_sequence(rng: Random) -> str:
    start, step = rng.randint(1, 40), rng.choice((1, 2, 5, 10))
    return ", ".join(str(start + i * step) for i in range(3))


def _terms(values: Values) -> list[int]:
    return [int(term) for term in values["sequence"].split(", ")]


def _step(values: Values) -> int:
    _, second, third = _terms(values)
    return third - second


def _next_term(values: Values) -> int:
    return _terms(values)[-1] + _step(values)


def _is_arithmetic(values: Values) -> bool:
    first, second, third = _terms(values)
    return 0 < second - first == third - second <= 10 and first <= 60


FAMILIES = (
    Family(
        name="who_has_most",
        category="reasoning",
        phrasings=(
            "I think {x} is more {quality} than {y}, and {y} is more {quality} than {z}."
            " Who is the {most} {quality}?",
            "We know that {y} is more {quality} than {z} and {x} is more {quality} than {y}."
            " Who is the {most} {quality}?",
            "If {x} is more {quality} than {y} and {y} is more {quality} than {z},"
            " who is the {most} {quality}?",
        ),
        slots={
            "x": _NAME,
            "y": _NAME,
            "z": _NAME,
            "quality": Pool(("clever", "strong", "careful", "patient", "curious", "cheerful")),
            "most": Pool(("most", "least")),
        },
        answer=lambda values, _: f"The {values['most']} {values['quality']} is {_holder(values)}.",
        is_correct=lambda values, answer: names_only(
            answer, _holder(values), [values["x"], values["y"], values["z"]]
        ),
        valid=_three_people,
        follow_ups=(FollowUp("And who is the {most} {quality}?"),),
    ),
    Family(
        name="gaining",
        category="reasoning",
        phrasings=(
            "{x} has {a} {items} and {gets} {b} more. How many {items} does {x} have now?",
            "{x} has {a} {items}. Then {x} {gets} {b} more {items}. How many are there now?",
        ),
        slots={
            "x": _NAME,
            "a": Number(10, 60),
            "b": Number(2, 9),
            "items": _ITEMS,
            "gets": Pool(("gets", "buys", "finds")),
        },
        answer=lambda values, _: (
            f"{values['a']} + {values['b']} = {_more(values)},"
            f" so {values['x']} has {_more(values)} {values['items']} now."
        ),
        is_correct=says(_more),
        follow_ups=(FollowUp("What if it is {b} instead?"),),
    ),
    Family(
        name="losing",
        category="reasoning",
        phrasings=(
            "{x} has {a} {items} and {loses} {b} of them. How many {items} are left?",
            "{x} has {a} {items}. Then {x} {loses} {b} of them."
            " How many {items} does {x} have now?",
        ),
        slots={
            "x": _NAME,
            "a": Number(10, 60),
            "b": Number(2, 9),
            "items": _ITEMS,
            "loses": Pool(("loses", "sells", "gives away")),
        },
        answer=lambda values, _: (
            f"{values['a']} - {values['b']} = {_left(values)},"
            f" so {values['x']} has {_left(values)} {values['items']} now."
        ),
        is_correct=says(_left),
        follow_ups=(FollowUp("What if it is {b} instead?"),),
    ),
    Family(
        name="odd_one_out",
        category="reasoning",
        phrasings=(
            "Which word is not one of the {class}: {words}?",
            "These are {class}, but one word does not belong: {words}. Which one?",
            "Find the odd one out among these {class}: {words}.",
        ),
        slots={
            "class": Pool(tuple(WORD_CLASSES)),
            "words": Drawn(r"\w+(?:, \w+){3}", _draw_odd_words),
        },
        answer=lambda values, _: f"All but the {_odd_one(values)} are {values['class']}.",
        is_correct=lambda values, answer: names_only(
            answer, _odd_one(values), values["words"].split(", ")
        ),
        valid=_has_one_odd,
        follow_ups=(FollowUp("And among these {class}: {words}?"),),
    ),
    Family(
        name="weekday",
        category="reasoning",
        phrasings=(
            "Today is {day}. What day is it in {n} days?",
            "If today is {day}, what day comes {n} days later?",
        ),
        slots={"day": Pool(DAYS), "n": Number(2, 6)},
        answer=lambda values, _: f"{values['n']} days after {values['day']} is {_weekday(values)}.",
        is_correct=lambda values, answer: answer.rstrip(". ").endswith(_weekday(values)),
        follow_ups=(FollowUp("And in {n} days?"),),
        holds_out=False,
    ),
    Family(
        name="next_number",
        category="reasoning",
        phrasings=(
            "What comes next: {sequence}?",
            "Which number comes after {sequence}?",
            "Continue the sequence {sequence}.",
        ),
        slots={"sequence": Drawn(r"\d+(?:, \d+){2}", _draw_sequence)},
        answer=lambda values, _: (
            f"It goes up by {_step(values)}, so the next number is {_next_term(values)}."
        ),
        is_correct=says(_next_term),
        valid=_is_arithmetic,
        statement=lambda values, _: f"{values['sequence']}, {_next_term(values)}",
        follow_ups=(FollowUp("And what comes after {sequence}?"),),
    ),
)
