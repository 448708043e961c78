"""Poems, stories, titles, slogans."""

from random import Random

from magpie_steps.embedded.dialogues.facts import (
    ADJECTIVES,
    ANIMALS,
    PLACES,
    SHOPS,
    THINGS,
    TOPICS,
)
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Pool, Values
from magpie_steps.embedded.dialogues.judging import has_word

_ADJECTIVE = Pool(ADJECTIVES)
_ANIMAL = Pool(tuple(ANIMALS))
_MOODS = ("happy", "quiet", "lonely", "cheerful", "dreamy")
_RHYMES = (
    ("sings a song for me", "It sets my spirit free"),
    ("shines so very bright", "It fills my heart with light"),
    ("is dancing in the air", "It blows away my care"),
    ("is calling out my name", "No other is the same"),
    ("will never go away", "It makes a better day"),
)


def _poem(values: Values, rng: Random) -> str:
    first, second = rng.choice(_RHYMES)
    return f"The {values['mood']} {values['topic']} {first},\n{second}."


def _is_poem(values: Values, answer: str) -> bool:
    lines = answer.strip().split("\n")
    return (
        len(lines) == 2
        and has_word(lines[0], f"{values['mood']} {values['topic']}")
        and any(first in lines[0] and second in lines[1] for first, second in _RHYMES)
    )


def _story(values: Values, rng: Random) -> str:
    hero = f"{values['adjective']} {values['animal']}"
    place = rng.choice(PLACES)
    return (
        f"Once upon a time, a {hero} found a {values['thing']} in the {place}."
        f" The {values['animal']} took the {values['thing']} home and was happy. The end."
    )


def _is_story(values: Values, answer: str) -> bool:
    return (
        answer.startswith("Once upon a time")
        and answer.rstrip().endswith("The end.")
        and has_word(answer, f"{values['adjective']} {values['animal']}")
        and has_word(answer, values["thing"])
    )


def _title(values: Values, _: Random) -> str:
    return f"The {values['adjective']} {values['animal']} of the {values['place']}"


def _is_title(values: Values, answer: str) -> bool:
    return len(answer) < 80 and all(has_word(answer, values[key]) for key in values)


def _slogan(values: Values, rng: Random) -> str:
    praise = rng.choice(("Better days", "More joy", "Big smiles"))
    return f"Our {values['goods']} for {values['who']}: {praise} every day!"


def _is_slogan(values: Values, answer: str) -> bool:
    return answer.endswith("!") and all(has_word(answer, values[key]) for key in ("goods", "who"))


FAMILIES = (
    Family(
        name="poem",
        category="creative_writing",
        phrasings=(
            "Write a two line poem about the {mood} {topic}.",
            "Please write a short rhyme about the {mood} {topic}.",
            "Can you write a poem about the {mood} {topic}?",
        ),
        slots={"mood": Pool(_MOODS), "topic": Pool(TOPICS)},
        answer=_poem,
        is_correct=_is_poem,
        follow_ups=(FollowUp("Now about the {mood} {topic}."),),
    ),
    Family(
        name="story",
        category="creative_writing",
        phrasings=(
            "Write a short story about a {adjective} {animal} and a {thing}.",
            "Tell me a story about a {adjective} {animal} that finds a {thing}.",
        ),
        slots={"adjective": _ADJECTIVE, "animal": _ANIMAL, "thing": Pool(THINGS)},
        answer=_story,
        is_correct=_is_story,
        follow_ups=(
            FollowUp("Now with a {adjective} {animal}."),
            FollowUp("Use a {thing} instead."),
        ),
    ),
    Family(
        name="title",
        category="creative_writing",
        phrasings=(
            "Give me a title for a story about a {adjective} {animal} in the {place}.",
            "Think of a book title with a {adjective} {animal} and a {place}.",
        ),
        slots={"adjective": _ADJECTIVE, "animal": _ANIMAL, "place": Pool(PLACES)},
        answer=_title,
        is_correct=_is_title,
        follow_ups=(FollowUp("And with a {place}?"),),
    ),
    Family(
        name="slogan",
        category="creative_writing",
        phrasings=(
            "Write a slogan for a shop that sells {goods} to {who}.",
            "I sell {goods} to {who}. Write me a slogan.",
        ),
        slots={
            "goods": Pool(SHOPS),
            "who": Pool(("families", "students", "children", "tourists", "neighbors", "artists")),
        },
        answer=_slogan,
        is_correct=_is_slogan,
        follow_ups=(FollowUp("Now for {goods}."),),
    ),
)
