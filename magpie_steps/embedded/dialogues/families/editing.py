"""Replacing, removing and reordering words, changing the tense."""

from collections.abc import Callable
from random import Random

from magpie_steps.embedded.dialogues.facts import ADJECTIVES, ANIMALS, PAST_TENSE, PLACES, THINGS
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Pool, Several, Values

_SENTENCE = "The {adjective} {animal} {verb} the {thing} in the {place}."
_SLOTS = {
    "adjective": Pool(ADJECTIVES),
    "animal": Pool(tuple(ANIMALS)),
    "verb": Pool(tuple(PAST_TENSE)),
    "thing": Pool(THINGS),
    "place": Pool(PLACES),
}
_WORDS = Several(Pool(THINGS), 3, 4, " ")


def _is(result: Callable[[Values], str]) -> Callable[[Values, str], bool]:
    return lambda values, answer: answer.strip() == result(values)


def _gives(result: Callable[[Values], str]) -> Callable[[Values, Random], str]:
    return lambda values, _: result(values)


def _replaced(values: Values) -> str:
    return _SENTENCE.format(**{**values, "thing": values["other"]})


def _without_adjective(values: Values) -> str:
    return _SENTENCE.format(**values).replace(f"{values['adjective']} ", "", 1)


def _in_past(values: Values) -> str:
    return _SENTENCE.format(**{**values, "verb": PAST_TENSE[values["verb"]]})


def _reversed(values: Values) -> str:
    return " ".join(reversed(values["words"].split(" ")))


def _with_commas(values: Values) -> str:
    return values["words"].replace(" ", ", ")


FAMILIES = (
    Family(
        name="replace_word",
        category="editing",
        phrasings=(
            f"Replace the word {{thing}} with {{other}} in this sentence: {_SENTENCE}",
            f"Change the {{thing}} to a {{other}}: {_SENTENCE}",
        ),
        slots={**_SLOTS, "other": Pool(THINGS)},
        answer=_gives(_replaced),
        is_correct=_is(_replaced),
        valid=lambda values: values["thing"] != values["other"],
        follow_ups=(FollowUp("Use {other} instead."),),
    ),
    Family(
        name="remove_word",
        category="editing",
        phrasings=(
            f"Remove the word {{adjective}} from this sentence: {_SENTENCE}",
            f"Delete the word {{adjective}} here: {_SENTENCE}",
        ),
        slots=_SLOTS,
        answer=_gives(_without_adjective),
        is_correct=_is(_without_adjective),
    ),
    Family(
        name="past_tense",
        category="editing",
        phrasings=(
            f"Change this sentence to the past tense: {_SENTENCE}",
            f"Rewrite in the past tense: {_SENTENCE}",
        ),
        slots=_SLOTS,
        answer=_gives(_in_past),
        is_correct=_is(_in_past),
        follow_ups=(FollowUp(f"Now this one: {_SENTENCE}"),),
    ),
    Family(
        name="reverse_words",
        category="editing",
        phrasings=(
            "Reverse the order of these words: {words}",
            "Write these words backwards: {words}",
        ),
        slots={"words": _WORDS},
        answer=_gives(_reversed),
        is_correct=_is(_reversed),
        statement=lambda values, answer: f"{values['words']} backwards is {answer}.",
        follow_ups=(FollowUp("Now these: {words}"),),
    ),
    Family(
        name="join_words",
        category="editing",
        phrasings=(
            "Put commas between these words: {words}",
            "Make a comma separated list: {words}",
        ),
        slots={"words": _WORDS},
        answer=_gives(_with_commas),
        is_correct=_is(_with_commas),
        follow_ups=(FollowUp("Now these: {words}"),),
    ),
)
