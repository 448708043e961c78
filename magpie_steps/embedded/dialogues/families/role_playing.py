"""Characters that greet, ask and describe, each with its own first words."""

from collections.abc import Callable
from random import Random

from magpie_steps.embedded.dialogues.facts import NAMES, PLACES, ROLES, THINGS
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Pool, Values
from magpie_steps.embedded.dialogues.judging import has_word

_ROLE = Pool(tuple(ROLES))
_OPENINGS = (
    "Pretend you are a {{role}} and {}.",
    "You are a {{role}}. {}.",
    "Act as a {{role}} and {}.",
    "Speak like a {{role}} and {}.",
)


def _openings(act: str) -> tuple[str, ...]:
    capital = act[0].upper() + act[1:]
    return tuple(opening.format(capital if ". {}" in opening else act) for opening in _OPENINGS)


def _says(line: str) -> Callable[[Values, Random], str]:
    return lambda values, _: f"{ROLES[values['role']]} {line.format(**values)}"


def _in_character(*keys: str) -> Callable[[Values, str], bool]:
    return lambda values, answer: (
        answer.startswith(ROLES[values["role"]])
        and all(has_word(answer, values[key]) for key in keys)
    )


FAMILIES = (
    Family(
        name="role_greets",
        category="role_playing",
        phrasings=_openings("greet {name}"),
        slots={"role": _ROLE, "name": Pool(NAMES)},
        answer=_says("Good day to you, {name}, I am the {role} of this land."),
        is_correct=_in_character("name"),
        follow_ups=(FollowUp("Now greet {name}."),),
    ),
    Family(
        name="role_asks",
        category="role_playing",
        phrasings=_openings("ask {name} for a {thing}"),
        slots={"role": _ROLE, "name": Pool(NAMES), "thing": Pool(THINGS)},
        answer=_says("Dear {name}, would you give me your {thing}?"),
        is_correct=_in_character("name", "thing"),
        follow_ups=(FollowUp("Now ask for a {thing}."),),
    ),
    Family(
        name="role_describes",
        category="role_playing",
        phrasings=_openings("describe the {place}"),
        slots={"role": _ROLE, "place": Pool(PLACES)},
        answer=_says("I know the {place} well, it is full of wonders."),
        is_correct=_in_character("place"),
        follow_ups=(FollowUp("Now describe the {place}."),),
    ),
    Family(
        name="role_searches",
        category="role_playing",
        phrasings=_openings("tell me where your {thing} is"),
        slots={"role": _ROLE, "thing": Pool(THINGS)},
        answer=_says("My {thing} is a secret, but I keep it close to me."),
        is_correct=_in_character("thing"),
        follow_ups=(FollowUp("And where is your {thing}?"),),
    ),
)
