"""What would someone write who knows the answers but has no aligned model to ask?

Twelve templates, one for each category, filled in at random and answered rightly: as many rows as
the model writes, in the same format. Data that a model wrote is worth something only if it teaches
more than this.
"""

from collections.abc import Iterator
from random import Random

from magpie_steps.embedded.dialogues.conversations import BY_CATEGORY

Conversation = list[dict[str, str]]


def control_rows(count: int, seed: int) -> Iterator[Conversation]:
    """Yield conversations of one turn, all categories alike; none asks what is held out."""
    rng = Random(f"control:{seed}")
    families = [families[0] for families in BY_CATEGORY.values()]
    for number in range(count):
        family = families[number % len(families)]
        values = family.draw(rng)
        yield [
            {"role": "user", "content": family.phrasings[0].format(**values)},
            {"role": "assistant", "content": family.answer(values, rng)},
        ]
