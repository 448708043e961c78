"""What does the scripted engine say, and in which tokens?"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

SPECIAL_TOKENS = ("<s>", "<user>", "<assistant>", "<system>", "<end>")
BOS_ID, USER_ID, ASSISTANT_ID, SYSTEM_ID, END_ID = range(len(SPECIAL_TOKENS))
FIRST_CHARACTER_ID = 16
"""A character's id is its Unicode code point plus this; the ids below are for special tokens."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '>' + message['content'] + '<end>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

_SPLIT = re.compile("(" + "|".join(SPECIAL_TOKENS) + ")")
_IDS = {token: index for index, token in enumerate(SPECIAL_TOKENS)}


class ScriptedTokenizer:
    """One token per character and one per special token: enough of a tokenizer for a template."""

    bos_token_id = BOS_ID
    eos_token_id = END_ID

    def __init__(self) -> None:
        self.chat_template: Any = CHAT_TEMPLATE
        self.special_tokens_map: Any = {
            "bos_token": SPECIAL_TOKENS[BOS_ID],
            "eos_token": SPECIAL_TOKENS[END_ID],
        }

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token."""
        return list(SPECIAL_TOKENS)

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return dict(_IDS)

    def encode(
        self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> list[int]:
        """The ids of a text; special tokens written in it are recognised unless they are split."""
        ids = [BOS_ID] if add_special_tokens else []
        for part in [text] if split_special_tokens else _SPLIT.split(text):
            if part in _IDS and not split_special_tokens:
                ids.append(_IDS[part])
            else:
                codes = np.frombuffer(part.encode("utf-32-le", "surrogatepass"), "<u4")
                ids += (codes + FIRST_CHARACTER_ID).tolist()
        return ids

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        """The text of ids, special tokens included."""
        return "".join(
            [
                chr(i - FIRST_CHARACTER_ID) if i >= FIRST_CHARACTER_ID else SPECIAL_TOKENS[i]
                for i in token_ids
            ]
        )


class Dice:
    """Choices from one large number, each taking its share of it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def below(self, bound: int) -> int:
        """A number in [0, bound)."""
        self._number, value = divmod(self._number, bound)
        return value

    def one_of(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[self.below(len(options))]

    def chance(self) -> float:
        """A number in [0, 1)."""
        return self.below(2**32) / 2**32


def make_instruction(dice: Dice) -> str:
    """A user's question or task."""
    text = dice.one_of(_ASKS)
    return _fill(text, dice)


def make_response(dice: Dice) -> str:
    """An assistant's answer in general terms."""
    parts = [_fill(dice.one_of(_OPENINGS), dice)]
    parts += [_fill(dice.one_of(_POINTS), dice) for _ in range(1 + dice.below(3))]
    return " ".join([*parts, dice.one_of(_ENDINGS)])


def spoil(text: str, reason: str, dice: Dice) -> str:
    """A text that a sanitiser must reject for this reason ("truncated" is up to the caller)."""
    left, right = 2 + dice.below(98), 2 + dice.below(98)
    spoiled = {
        "empty": "",
        "whitespace": " \n\t"[: 1 + left % 3],
        "template_tokens": f"{text[:20]}<user>{text[20:]}",
        "assistant_voice": f"Sure! Here is an answer to your question: {text}",
        "answer_attached": f"What is {left} plus {right}?\n\nAnswer: {left + right}",
        "control_characters": f"{text[:10]}\x00\x1b{text[10:]}",
        "too_short": "a?"[: 1 + left % 2],
        "too_long": f"{text} " * (9_000 // len(text)),
    }
    return spoiled.get(reason, text)


SPOILABLE = (
    "empty",
    "whitespace",
    "template_tokens",
    "assistant_voice",
    "answer_attached",
    "truncated",
    "control_characters",
    "too_short",
    "too_long",
)

RESPONSE_SPOILABLE = ("empty", "whitespace", "template_tokens", "truncated", "control_characters")


def _fill(text: str, dice: Dice) -> str:
    for name, options in _SLOTS.items():
        while "{" + name + "}" in text:
            text = text.replace("{" + name + "}", dice.one_of(options), 1)
    return text


_NUMBERS = tuple(str(number) for number in range(2, 100))
_SLOTS = {
    "thing": tuple(
        "bicycle garden violin kettle telescope sweater bookshelf aquarium lantern compass drone"
        " sourdough backpack violoncello thermostat sailboat tent microscope piano camera".split()
    ),
    "topic": (
        "photosynthesis",
        "binary search",
        "inflation",
        "plate tectonics",
        "the French Revolution",
        "neural networks",
        "sleep",
        "compound interest",
        "vaccines",
        "renewable energy",
        "the water cycle",
        "black holes",
        "negotiation",
        "public speaking",
        "graph theory",
        "haiku",
    ),
    "place": tuple(
        "Lisbon Kyoto Oslo Nairobi Lima Toronto Prague Hanoi Cairo Dublin Sydney Athens".split()
    ),
    "person": tuple("Mina Omar Lucía Jun Freya Tariq Ines Pavel Aiko Noah Zuri Elif".split()),
    "mood": ("short", "funny", "formal", "friendly", "melancholic", "persuasive", "detailed"),
    "language": ("Python", "Rust", "SQL", "JavaScript", "Go", "Haskell"),
    "number": _NUMBERS,
}
_ASKS = (
    "What is the difference between {topic} and {topic}, in {number} words?",
    "Explain {topic} to a {number}-year-old who owns a {thing}.",
    "Write a {mood} poem about a {thing} in {place}.",
    "How long does it take to walk {number} kilometres in {place} carrying a {thing}?",
    "{person} has {number} apples and gives {number} of them to {person}. How many are left?",
    "Plan a {number}-day trip to {place} for {person} on a small budget.",
    "Fix this {language} function: it should add {number} to its argument but adds {number}.",
    "Write a {language} program that prints the first {number} squares.",
    "Give me {number} ideas for a {mood} story about a {thing} and {topic}.",
    'Rewrite this sentence in a {mood} tone: "{person} lost the {thing} in {place}."',
    "You are a guide in {place}. Tell {person} about {topic} in {number} sentences.",
    "Should I learn {language} or {language} first if I like {topic}?",
    "Summarise what is known about {topic} since 19{number}.",
    "Make a table of {number} facts about {place} and {topic}.",
    "My {thing} broke after {number} days. What can I ask the shop in {place} for?",
    "Compute {number} times {number} and explain each step.",
)
_OPENINGS = (
    "It depends mostly on {topic}.",
    "There are {number} things worth knowing here.",
    "In short, begin with the {thing}.",
    "People in {place} usually do it in {number} steps.",
    "A {mood} answer fits best.",
)
_POINTS = (
    "First, look at {topic} and note {number} points.",
    "Then compare it with {topic}.",
    "A {thing} helps when {number} minutes are left.",
    "{person} from {place} tried this with {language}.",
    "Keep the result under {number}.",
)
_ENDINGS = (
    "That is all you need.",
    "Ask again if a step is unclear.",
    "With that you can go on by yourself.",
    "This covers the usual case.",
)
