"""Greetings, single words in another language, opposites."""

from magpie_steps.embedded.dialogues.facts import LANGUAGES, NAMES, OPPOSITES, TRANSLATIONS
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Pool, Values
from magpie_steps.embedded.dialogues.judging import has_word, names_only

_PARTS_OF_DAY = ("morning", "afternoon", "evening")
_BOTH_WAYS = {**OPPOSITES, **{opposite: word for word, opposite in OPPOSITES.items()}}


def _translated(values: Values) -> str:
    return TRANSLATIONS[values["word"]][LANGUAGES.index(values["language"])]


FAMILIES = (
    Family(
        name="greeting",
        category="others",
        phrasings=(
            "Good {part}, my name is {name}.",
            "Good {part}! I am {name}.",
            "Hello, {name} here. Have a nice {part}!",
        ),
        slots={"part": Pool(_PARTS_OF_DAY), "name": Pool(NAMES)},
        answer=lambda values, _: f"Good {values['part']}, {values['name']}! Nice to meet you.",
        is_correct=lambda values, answer: (
            has_word(answer, values["name"]) and has_word(answer, values["part"])
        ),
    ),
    Family(
        name="thanks",
        category="others",
        phrasings=(
            "Thank you for your help with my {what}!",
            "Thanks, my {what} is done.",
            "I am happy, my {what} went well!",
        ),
        slots={
            "what": Pool(
                tuple("homework letter garden essay trip cake test dinner speech move".split())
            )
        },
        answer=lambda values, _: f"I am glad that your {values['what']} went well.",
        is_correct=lambda values, answer: has_word(answer, values["what"]),
        holds_out=False,
    ),
    Family(
        name="translation",
        category="others",
        phrasings=(
            'How do you say "{word}" in {language}?',
            'Translate "{word}" into {language}.',
            'What is the {language} word for "{word}"?',
        ),
        slots={"word": Pool(tuple(TRANSLATIONS)), "language": Pool(LANGUAGES)},
        answer=lambda values, _: (
            f'"{values["word"]}" is "{_translated(values)}" in {values["language"]}.'
        ),
        is_correct=lambda values, answer: f'"{_translated(values)}"' in answer,
        follow_ups=(FollowUp("And in {language}?"), FollowUp('And "{word}"?')),
        holds_out=False,
    ),
    Family(
        name="opposite",
        category="others",
        phrasings=(
            'What is the opposite of "{word}"?',
            'Which word means the opposite of "{word}"?',
            'Give me the opposite of "{word}".',
        ),
        slots={"word": Pool(tuple(_BOTH_WAYS))},
        answer=lambda values, _: (
            f'The opposite of "{values["word"]}" is "{_BOTH_WAYS[values["word"]]}".'
        ),
        is_correct=lambda values, answer: names_only(
            answer.replace(f'"{values["word"]}"', "", 1), _BOTH_WAYS[values["word"]], _BOTH_WAYS
        ),
        follow_ups=(FollowUp('And of "{word}"?'),),
        holds_out=False,
    ),
)
