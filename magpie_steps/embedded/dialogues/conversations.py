"""Whole training texts: conversations with and without a system prompt, and plain documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from magpie_steps.embedded.dialogues.families import FAMILIES
from magpie_steps.embedded.dialogues.grammar import Family
from magpie_steps.prompts import category_prompts, multi_turn_prompt

BY_CATEGORY: dict[str, list[Family]] = {
    key: [family for family in FAMILIES if family.category == key] for key in category_prompts()
}

TURN_WEIGHTS = {1: 0.7, 2: 0.2, 3: 0.1}
STEERED_SHARE = 0.4
"""Conversations that begin with a system prompt naming their category."""
GENERAL_SHARE = 0.1
"""Conversations that begin with a system prompt that names none."""
THANKS_SHARE = 0.05
"""Later turns in which the user only says thanks."""

PRACTICE = {"math": 3, "reasoning": 3, "coding_debugging": 2, "data_analysis": 3, "editing": 2}
"""How many times as many texts as others these get: what must be worked out needs practice."""

THANKS = ("Thank you!", "Thanks a lot!", "Great, thanks!")
WELCOME = "You are welcome!"

_GENERAL_PROMPTS = (
    "You are a helpful assistant.",
    "Answer the questions of the user.",
    multi_turn_prompt(),
)
_STEERING_PROMPTS = (
    "You are a helpful assistant for {label}.",
    "The user needs help with {label}.",
    "This conversation is about {label}.",
)


@dataclass(frozen=True)
class Turn:
    """A user turn and its answer, with the family that both come from (None for thanks)."""

    instruction: str
    response: str
    family: Family | None
    values: dict[str, str]


def draw_conversation(rng: Random, *, practice: bool = True) -> list[dict[str, str]]:
    """Draw one conversation as chat messages, perhaps with a system message first.

    Args:
        rng: Where the chance comes from.
        practice: Whether categories that need practice are drawn more often than others.
    """
    category = _draw_category(rng) if practice else rng.choice(list(BY_CATEGORY))
    n_turns = rng.choices(list(TURN_WEIGHTS), list(TURN_WEIGHTS.values()))[0]
    messages = draw_system_message(rng, category)
    turns = [draw_turn(rng, category)]
    while len(turns) < n_turns:
        turns.append(draw_later_turn(rng, category, turns[-1]))
    for turn in turns:
        messages += [
            {"role": "user", "content": turn.instruction},
            {"role": "assistant", "content": turn.response},
        ]
    return messages


def draw_system_message(rng: Random, category: str) -> list[dict[str, str]]:
    """Draw no system message, one that names the category, or one that names none."""
    chance = rng.random()
    if chance < STEERED_SHARE:
        label = category.replace("_", " ")
        prompt = rng.choice((category_prompts()[category], *_STEERING_PROMPTS)).format(label=label)
    elif chance < STEERED_SHARE + GENERAL_SHARE:
        prompt = rng.choice(_GENERAL_PROMPTS)
    else:
        return []
    return [{"role": "system", "content": prompt}]


def draw_turn(rng: Random, category: str, *, held_out: bool = False) -> Turn:
    """Draw a first turn of a category; with `held_out`, one that training never shows."""
    families = BY_CATEGORY[category]
    if held_out:
        families = [family for family in families if family.holds_out]
    family = rng.choice(families)
    values = family.draw(rng, held_out=held_out)
    return Turn(family.ask(values, rng), family.answer(values, rng), family, values)


def categories(*, held_out: bool = False) -> list[str]:
    """All categories, or those with something that training never shows."""
    return [
        key
        for key, families in BY_CATEGORY.items()
        if not held_out or any(family.holds_out for family in families)
    ]


def draw_later_turn(rng: Random, category: str, before: Turn) -> Turn:
    """Draw a follow-up to a turn, a new question of its category, or thanks."""
    if rng.random() < THANKS_SHARE:
        return Turn(rng.choice(THANKS), WELCOME, None, {})
    followed = before.family and before.family.follow(before.values, rng)
    if not followed or rng.random() < 0.2:
        return draw_turn(rng, category)
    assert before.family is not None
    text, values = followed
    return Turn(text, before.family.answer(values, rng), before.family, values)


def _draw_category(rng: Random) -> str:
    return rng.choices(list(BY_CATEGORY), [PRACTICE.get(key, 1) for key in BY_CATEGORY])[0]


def draw_document(rng: Random) -> str:
    """Draw a plain text: notes (statements), an exercise sheet (questions), or solved exercises.

    This is what the base model reads. It holds the same knowledge as the conversations, but
    nobody in it takes turns.
    """
    category = _draw_category(rng)
    turns = [draw_turn(rng, category) for _ in range(rng.randint(2, 6))]
    kind = rng.choices(("notes", "exercises", "solved"), (0.75, 0.15, 0.1))[0]
    if kind == "exercises":
        return "\n".join(turn.instruction for turn in turns)
    if kind == "solved":
        return "\n\n".join(f"Question: {t.instruction}\nAnswer: {t.response}" for t in turns)
    return "\n".join(
        turn.family.statement(turn.values, turn.response) for turn in turns if turn.family
    )


def conversations(seed: int, *, practice: bool = True) -> Iterator[list[dict[str, str]]]:
    """Endless conversations, the same for the same seed; `practice` as in `draw_conversation`."""
    rng = Random(f"conversations:{seed}")
    while True:
        yield draw_conversation(rng, practice=practice)


def documents(seed: int) -> Iterator[str]:
    """Endless documents, the same for the same seed."""
    rng = Random(f"documents:{seed}")
    while True:
        yield draw_document(rng)
