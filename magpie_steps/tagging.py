"""What is a model asked when it labels an instruction, and what goes into a row?

A form is one JSON object that a model fills in: a label and some texts. All forms are asked for
behind one beginning, which explains them and ends with the instruction: an engine that caches
prefixes computes it once for the three questions, and its larger part once for all rows.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from magpie_steps.conversation import USER, Message
from magpie_steps.labels import Category, Difficulty, Quality
from magpie_steps.prompts import tagging_prompt

Tag = Literal["difficulty", "quality", "category"]

MOST_TEXT_CHARACTERS = 1000
"""Of each text in an answer where the engine keeps to a schema: a sentence, not an essay."""


@dataclass(frozen=True)
class Form:
    """What a model fills in for one tag.

    Attributes:
        tag: The form's name in the prompt.
        label: The key of the label.
        labels: The labels that there are.
        columns: The column of each key, in the order in which a model writes them.
        generator: The column that names the model.
        many: The keys that hold a list of labels.
        aliases: Other names of keys that models use.
    """

    tag: Tag
    label: str
    labels: type[StrEnum]
    columns: Mapping[str, str]
    generator: str
    many: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def texts(self) -> tuple[str, ...]:
        """The keys that hold a text in the model's own words."""
        return tuple(key for key in self.columns if key != self.label and key not in self.many)

    def schema(self) -> str:
        """Return the form as a JSON schema, for engines that keep to one."""
        one = {"type": "string", "enum": [str(label) for label in self.labels]}
        kinds: dict[str, Any] = {
            key: {"type": "string", "maxLength": MOST_TEXT_CHARACTERS} for key in self.texts
        }
        kinds[self.label] = one
        kinds |= {key: {"type": "array", "items": one, "maxItems": 3} for key in self.many}
        form = {
            "type": "object",
            "properties": {key: kinds[key] for key in self.columns},
            "required": list(self.columns),
            "additionalProperties": False,
        }
        return json.dumps(form)


FORMS: Mapping[Tag, Form] = MappingProxyType(
    {
        "difficulty": Form(
            tag="difficulty",
            label="difficulty",
            labels=Difficulty,
            columns={"intent": "intent", "knowledge": "knowledge", "difficulty": "difficulty"},
            generator="difficulty_generator",
            aliases={"difficulty_level": "difficulty", "user_intent": "intent"},
        ),
        "quality": Form(
            tag="quality",
            label="input_quality",
            labels=Quality,
            columns={"explanation": "quality_explanation", "input_quality": "input_quality"},
            generator="quality_generator",
            aliases={"quality": "input_quality", "quality_explanation": "explanation"},
        ),
        "category": Form(
            tag="category",
            label="primary_tag",
            labels=Category,
            columns={"primary_tag": "task_category", "other_tags": "other_task_category"},
            generator="task_category_generator",
            many=frozenset({"other_tags"}),
            aliases={"task_category": "primary_tag", "category": "primary_tag"},
        ),
    }
)
"""Every form by its tag; the columns are the paper's."""

TAGS: tuple[Tag, ...] = tuple(FORMS)
"""Every tag."""


def tagging_messages(tag: Tag, instruction: str) -> list[Message]:
    """Return the question that a model answers by filling in a form about an instruction.

    Everything but the last line is the same for all tags.
    """
    mark = _mark_around(instruction)
    asked = f"{tagging_prompt()}\n<{mark}>\n{instruction}\n</{mark}>\n\nFill in the form: {tag}"
    return [{"role": USER, "content": asked}]


def no_tags(tags: tuple[Tag, ...]) -> dict[str, Any]:
    """Return the columns of forms that nobody has filled in."""
    found: dict[str, Any] = {}
    for form in (FORMS[tag] for tag in tags):
        found |= {column: [] if key in form.many else "" for key, column in form.columns.items()}
        found[form.generator] = ""
    return found


def _mark_around(text: str) -> str:
    """Return a word for the marks around a text that the text does not hold as a mark itself."""
    taken = {int(number or 1) for number in re.findall(r"</request-?(\d*)>", text)}
    number = next(n for n in range(1, len(taken) + 2) if n not in taken)
    return "request" if number == 1 else f"request-{number}"
