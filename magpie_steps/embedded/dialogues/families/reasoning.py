"""Comparisons, number sequences, word problems, odd ones out, days of the week."""

from random import Random

from magpie_steps.embedded.dialogues.facts import CLASS_OF_WORD, DAYS, NAMES, WORD_CLASSES
from magpie_steps.embedded.dialogues.grammar import Drawn, Family, FollowUp, Number, Pool, Values
from magpie_steps.embedded.dialogues.judging import last_number, names_only

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


def _classes(values: Values) -> list[str]:
    return [CLASS_OF_WORD.get(word, "") for word in values["words"].split(", ")]


def _odd_one(values: Values) -> str:
    classes = _classes(values)
    return next(
        word
        for word, name in zip(values["words"].split(", "), classes, strict=True)
        if classes.count(name) == 1
    )


def _has_one_odd(values: Values) -> bool:
    classes = _classes(values)
    return "" not in classes and sorted(map(classes.count, set(classes))) == [1, 3]


def _weekday(values: Values) -> str:
    return DAYS[(DAYS.index(values["day"]) + int(values["n"])) % 7]


def _draw_odd_words(rng: Random) -> str:
    many, one = rng.sample(list(WORD_CLASSES), 2)
    words = [*rng.sample(WORD_CLASSES[many], 3), rng.choice(WORD_CLASSES[one])]
    rng.shuffle(words)
    return ", ".join(words)


def _draw_sequence(rng: Random) -> str:
    start, step = rng.randint(1, 60), rng.randint(1, 10)
    return ", ".join(str(start + i * step) for i in range(3))


def _terms(values: Values) -> list[int]:
    return [int(term) for term in values["sequence"].split(", ")]


def _next_term(values: Values) -> int:
    _, second, third = _terms(values)
    return 2 * third - second


def _is_arithmetic(values: Values) -> bool:
    first, second, third = _terms(values)
    return 0 < second - first == third - second <= 10 and first <= 60


FAMILIES = (
    Family(
        name="who_has_most",
        category="reasoning",
        phrasings=(
            "{x} is more {quality} than {y}. {y} is more {quality} than {z}."
            " Who is the {most} {quality}?",
            "{y} is more {quality} than {z}, and {x} is more {quality} than {y}."
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
        answer=lambda values, _: f"{_holder(values)} is the {values['most']} {values['quality']}.",
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
            "a": Number(2, 50),
            "b": Number(2, 20),
            "items": _ITEMS,
            "gets": Pool(("gets", "buys", "finds")),
        },
        answer=lambda values, _: f"{values['x']} has {_more(values)} {values['items']} now.",
        is_correct=lambda values, answer: last_number(answer) == _more(values),
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
            "a": Number(2, 50),
            "b": Number(2, 20),
            "items": _ITEMS,
            "loses": Pool(("loses", "sells", "gives away")),
        },
        answer=lambda values, _: f"{values['x']} has {_left(values)} {values['items']} now.",
        is_correct=lambda values, answer: last_number(answer) == _left(values),
        valid=lambda values: _left(values) > 0,
        follow_ups=(FollowUp("What if it is {b} instead?"),),
    ),
    Family(
        name="odd_one_out",
        category="reasoning",
        phrasings=(
            "Which word does not belong: {words}?",
            "Find the odd one out: {words}.",
            "One of these words is different from the others: {words}. Which one?",
        ),
        slots={"words": Drawn(r"\w+(?:, \w+){3}", _draw_odd_words)},
        answer=lambda values, _: f"{_odd_one(values)} does not belong to the others.",
        is_correct=lambda values, answer: names_only(
            answer, _odd_one(values), values["words"].split(", ")
        ),
        valid=_has_one_odd,
        follow_ups=(FollowUp("And in {words}?"),),
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
        answer=lambda values, _: f"The next number is {_next_term(values)}.",
        is_correct=lambda values, answer: last_number(answer) == _next_term(values),
        valid=_is_arithmetic,
        statement=lambda values, _: f"{values['sequence']}, {_next_term(values)}",
        follow_ups=(FollowUp("And what comes after {sequence}?"),),
    ),
)
