"""Goals and worries, answered with tips that fit them."""

from random import Random

from magpie_steps.embedded.dialogues.facts import ALL_TIPS, GOALS, JOBS, NAMES
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Pool, Values
from magpie_steps.embedded.dialogues.judging import has_word

_GOAL = Pool(tuple(GOALS))
_PRESENTS = {
    "child": ("a puzzle", "a ball", "a picture book"),
    "mother": ("flowers", "a scarf", "a photo album"),
    "father": ("a tool box", "a wallet", "a watch"),
    "teacher": ("a pen", "a thank you card", "a mug"),
    "neighbor": ("a cake", "a plant", "some fruit"),
    "boss": ("a notebook", "good coffee", "a desk lamp"),
}
_ALL_PRESENTS = tuple(present for presents in _PRESENTS.values() for present in presents)


def _two_tips(values: Values, rng: Random) -> str:
    first, second = rng.sample(GOALS[values["goal"]], 2)
    return f"You could {first} and {second}."


def _are_tips(values: Values, answer: str) -> bool:
    named = {tip for tip in ALL_TIPS if has_word(answer, tip)}
    return len(named) >= 2 and named <= set(GOALS[values["goal"]])


def _present(values: Values, rng: Random) -> str:
    return f"I would give {values['name']} {rng.choice(_PRESENTS[values['person']])}."


def _is_present(values: Values, answer: str) -> bool:
    named = {present for present in _ALL_PRESENTS if has_word(answer, present)}
    return bool(named) and named <= set(_PRESENTS[values["person"]])


FAMILIES = (
    Family(
        name="reach_goal",
        category="advice_seeking",
        phrasings=(
            "I am a {job} and I want to {goal}. What should I do?",
            "How can a {job} {goal}?",
            "As a {job}, how do I {goal}?",
            "My friend is a {job} and wants to {goal}. Do you have any advice?",
        ),
        slots={"job": Pool(JOBS), "goal": _GOAL},
        answer=_two_tips,
        is_correct=_are_tips,
        follow_ups=(FollowUp("And how can I {goal}?"),),
    ),
    Family(
        name="friend_goal",
        category="advice_seeking",
        phrasings=(
            "{name} wants to {goal}. What advice would you give?",
            "What should {name} do to {goal}?",
        ),
        slots={"name": Pool(NAMES), "goal": _GOAL},
        answer=_two_tips,
        is_correct=_are_tips,
        follow_ups=(FollowUp("And to {goal}?"),),
    ),
    Family(
        name="choose_present",
        category="advice_seeking",
        phrasings=(
            "What should I give my {person} {name}?",
            "My {person} {name} has a birthday. What should I bring?",
            "I need a present for {name}, my {person}. What do you suggest?",
        ),
        slots={"person": Pool(tuple(_PRESENTS)), "name": Pool(NAMES)},
        answer=_present,
        is_correct=_is_present,
    ),
)
