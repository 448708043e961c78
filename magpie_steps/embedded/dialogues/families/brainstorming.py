"""Lists of ideas and names."""

from random import Random

from magpie_steps.embedded.dialogues.facts import (
    ADJECTIVES,
    CLASS_OF_WORD,
    IDEAS,
    PET_NAMES,
    PETS,
    WORD_CLASSES,
)
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Number, Pool, Values
from magpie_steps.embedded.dialogues.judging import as_numbered_lines, lists_different, some_of

_COUNT = Number(2, 5)


def _ideas(values: Values, rng: Random) -> str:
    return as_numbered_lines(some_of(IDEAS[values["topic"]], int(values["n"]), rng))


def _are_ideas(values: Values, answer: str) -> bool:
    return lists_different(answer, int(values["n"]), IDEAS[values["topic"]])


def _pet_names(values: Values, rng: Random) -> str:
    return as_numbered_lines(some_of(PET_NAMES, int(values["n"]), rng))


def _are_pet_names(values: Values, answer: str) -> bool:
    return lists_different(answer, int(values["n"]), PET_NAMES)


def _words(values: Values, rng: Random) -> str:
    return as_numbered_lines(some_of(WORD_CLASSES[values["class"]], int(values["n"]), rng))


def _are_words(values: Values, answer: str) -> bool:
    words = [word for word, name in CLASS_OF_WORD.items() if name == values["class"]]
    return lists_different(answer, int(values["n"]), words)


FAMILIES = (
    Family(
        name="ideas",
        category="brainstorming",
        phrasings=(
            "Give me {n} ideas for {topic}.",
            "I need {n} ideas for {topic}.",
            "Can you think of {n} ideas for {topic}?",
            "Brainstorm {n} ideas for {topic}.",
        ),
        slots={"n": _COUNT, "topic": Pool(tuple(IDEAS))},
        answer=_ideas,
        is_correct=_are_ideas,
        follow_ups=(FollowUp("Now {n} ideas for {topic}."), FollowUp("Make it {n} ideas.")),
    ),
    Family(
        name="pet_names",
        category="brainstorming",
        phrasings=(
            "Suggest {n} names for my {adjective} {pet}.",
            "What are {n} good names for a {adjective} {pet}?",
            "I have a {adjective} {pet}. Give me {n} names for it.",
        ),
        slots={"n": _COUNT, "adjective": Pool(ADJECTIVES), "pet": Pool(PETS)},
        answer=_pet_names,
        is_correct=_are_pet_names,
        follow_ups=(FollowUp("And {n} names for my {pet}?"),),
    ),
    Family(
        name="word_list",
        category="brainstorming",
        phrasings=("List {n} {class}.", "Name {n} {class}.", "Can you list {n} {class}?"),
        slots={"n": _COUNT, "class": Pool(tuple(WORD_CLASSES))},
        answer=_words,
        is_correct=_are_words,
        follow_ups=(FollowUp("Now {n} {class}."),),
        holds_out=False,
    ),
)
