"""Wrong answers that look like right ones, for training and testing the reward model."""

import re
from random import Random

from magpie_steps.embedded.dialogues.conversations import BY_CATEGORY, Turn, draw_turn

MAX_TRIES = 100


def corrupt(turn: Turn, rng: Random) -> str:
    """An answer to the turn's instruction that its judge refuses, near to the right one.

    Raises:
        ValueError: The turn has no judge (thanks), or no wrong answer was found.
    """
    if turn.family is None:
        raise ValueError(f"{turn.instruction!r} has no wrong answers")
    for _ in range(MAX_TRIES):
        wrong = rng.choice(_CORRUPTIONS)(turn, rng)
        if wrong != turn.response and not turn.family.is_correct(turn.values, wrong):
            return wrong
    raise ValueError(f"no wrong answer to {turn.instruction!r} in {MAX_TRIES} tries")


def _change_number(turn: Turn, rng: Random) -> str:
    """Move one number of the answer by 1 to 10, most often the last: a miscalculation."""
    numbers = list(re.finditer(r"\d+", turn.response))
    if not numbers:
        return turn.response
    match = numbers[-1] if rng.random() < 0.7 else rng.choice(numbers)
    changed = max(0, int(match.group()) + rng.choice((-10, -2, -1, 1, 2, 10)))
    return f"{turn.response[: match.start()]}{changed}{turn.response[match.end() :]}"


def _answer_another(turn: Turn, rng: Random) -> str:
    """The right answer to another question of the same family."""
    assert turn.family is not None
    return turn.family.answer(turn.family.draw(rng), rng)


def _answer_elsewhere(turn: Turn, rng: Random) -> str:
    """The right answer to a question of any category."""
    return draw_turn(rng, rng.choice(list(BY_CATEGORY))).response


def _answer_with_one_change(turn: Turn, rng: Random) -> str:
    """The right answer had one slot of the question been another."""
    assert turn.family is not None
    key = rng.choice(list(turn.values))
    values = {**turn.values, key: turn.family.draw(rng)[key]}
    return turn.family.answer(values, rng) if turn.family.accepts(values) else turn.response


def _drop_end(turn: Turn, rng: Random) -> str:
    """Lose the last line or the last words."""
    lines = turn.response.split("\n")
    if len(lines) > 1:
        return "\n".join(lines[:-1])
    words = turn.response.split(" ")
    return " ".join(words[: max(1, len(words) - rng.randint(1, 3))])


def _swap_words(turn: Turn, rng: Random) -> str:
    """Exchange two neighbouring words."""
    words = turn.response.split(" ")
    if len(words) < 2:
        return turn.response
    i = rng.randrange(len(words) - 1)
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


_CORRUPTIONS = (
    _change_number,
    _change_number,
    _answer_another,
    _answer_elsewhere,
    _answer_with_one_change,
    _answer_with_one_change,
    _drop_end,
    _swap_words,
)
