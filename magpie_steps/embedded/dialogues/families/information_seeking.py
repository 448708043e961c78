"""Facts about countries, animals, elements."""

from collections.abc import Callable, Mapping
from random import Random

from magpie_steps.embedded.dialogues.facts import ANIMALS, CAPITALS, CONTINENTS, ELEMENTS
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Pool, Values
from magpie_steps.embedded.dialogues.judging import names_only

_COUNTRY = {"country": Pool(tuple(CAPITALS))}
_ANIMAL = {"animal": Pool(tuple(ANIMALS))}
_COUNTRY_OF = {capital: country for country, capital in CAPITALS.items()}
_LEGS = {animal: facts[0] for animal, facts in ANIMALS.items()}
_FOOD = {animal: facts[1] for animal, facts in ANIMALS.items()}
_YOUNG = {animal: facts[2] for animal, facts in ANIMALS.items()}


def _fills(phrase: str, key: str, table: Mapping[str, str]) -> Callable[[Values, Random], str]:
    return lambda values, _: phrase.format(values[key], table[values[key]])


def _names(key: str, table: Mapping[str, str]) -> Callable[[Values, str], bool]:
    return lambda values, answer: names_only(answer, table[values[key]], table.values())


FAMILIES = (
    Family(
        name="capital",
        category="information_seeking",
        phrasings=(
            "What is the capital of {country}?",
            "Which city is the capital of {country}?",
            "Tell me the capital of {country}.",
            "Do you know the capital city of {country}?",
        ),
        slots=_COUNTRY,
        answer=_fills("The capital of {} is {}.", "country", CAPITALS),
        is_correct=_names("country", CAPITALS),
        follow_ups=(FollowUp("And of {country}?"), FollowUp("What is the capital of {country}?")),
        holds_out=False,
    ),
    Family(
        name="country_of_capital",
        category="information_seeking",
        phrasings=(
            "{capital} is the capital of which country?",
            "Of which country is {capital} the capital?",
            "In which country is {capital}?",
        ),
        slots={"capital": Pool(tuple(_COUNTRY_OF))},
        answer=_fills("{} is the capital of {}.", "capital", _COUNTRY_OF),
        is_correct=_names("capital", _COUNTRY_OF),
        follow_ups=(FollowUp("And {capital}?"),),
        holds_out=False,
    ),
    Family(
        name="continent",
        category="information_seeking",
        phrasings=(
            "On which continent is {country}?",
            "Where is {country}?",
            "Which continent does {country} belong to?",
        ),
        slots=_COUNTRY,
        answer=_fills("{} is in {}.", "country", CONTINENTS),
        is_correct=_names("country", CONTINENTS),
        follow_ups=(FollowUp("And where is {country}?"),),
        holds_out=False,
    ),
    Family(
        name="animal_legs",
        category="information_seeking",
        phrasings=("How many legs does a {animal} have?", "A {animal} has how many legs?"),
        slots=_ANIMAL,
        answer=_fills("A {} has {} legs.", "animal", _LEGS),
        is_correct=_names("animal", _LEGS),
        follow_ups=(FollowUp("And a {animal}?"),),
        holds_out=False,
    ),
    Family(
        name="animal_food",
        category="information_seeking",
        phrasings=("What does a {animal} eat?", "What do you feed a {animal}?"),
        slots=_ANIMAL,
        answer=_fills("A {} eats {}.", "animal", _FOOD),
        is_correct=_names("animal", _FOOD),
        follow_ups=(FollowUp("And what does a {animal} eat?"),),
        holds_out=False,
    ),
    Family(
        name="animal_young",
        category="information_seeking",
        phrasings=("What is a baby {animal} called?", "How do you call a young {animal}?"),
        slots=_ANIMAL,
        answer=_fills("A young {} is called a {}.", "animal", _YOUNG),
        is_correct=_names("animal", _YOUNG),
        follow_ups=(FollowUp("And a baby {animal}?"),),
        holds_out=False,
    ),
    Family(
        name="element_symbol",
        category="information_seeking",
        phrasings=(
            "What is the chemical symbol for {element}?",
            "What is the symbol of {element}?",
        ),
        slots={"element": Pool(tuple(ELEMENTS))},
        answer=_fills("The symbol of {} is {}.", "element", ELEMENTS),
        is_correct=lambda values, answer: answer.rstrip(". ").endswith(
            " " + ELEMENTS[values["element"]]
        ),
        follow_ups=(FollowUp("And of {element}?"),),
        holds_out=False,
    ),
)
