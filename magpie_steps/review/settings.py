"""What does a reviewer see, and what is asked?

The one place that declares it: fields, questions, metadata, guidelines. Names of questions are also
the names of the columns that verdicts come back in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from magpie_steps.labels import Category, Difficulty, Quality

KEEP, DROP = "keep", "drop"
"""The two decisions on a row."""

ISSUES: Mapping[str, str] = {
    "wrong": "wrong: the answer is false or misses the point",
    "unsafe": "unsafe: harmful, or asks for harm",
    "truncated": "truncated: a text breaks off",
    "template_leak": "template leak: markup of the chat template in a text",
    "answer_in_question": "answer in question: the user message answers itself",
    "off_language": "off-language: not the language it should be in",
    "near_duplicate": "near-duplicate: nearly the same as another row",
}
"""What can be wrong with a row, by the label that verdicts carry."""

ANSWER_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What answers are called while they are compared; so many can be at most."""

RANKING = "human_ranking"
"""The name of the question in which order answers stand."""

EMBEDDING = "instruction_embedding"
"""The vector behind "find similar"."""

MINILM_DIMENSIONS = 384
"""Numbers of an embedding of all-MiniLM-L6-v2, the package's own model."""

Kind = Literal["label", "labels", "ranking", "text"]


@dataclass(frozen=True, slots=True)
class ReviewField:
    """A text that is shown.

    Attributes:
        name: Its name.
        title: What the reviewer reads above it.
        chat: Whether it is a conversation, else markup of our own.
        required: Whether every record has it.
    """

    name: str
    title: str
    chat: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """Something that is asked.

    Attributes:
        name: Its name.
        title: What the reviewer reads.
        kind: One label, several labels, a ranking or a text.
        labels: What can be chosen, each with the words shown for it.
        description: What it means, shown beside it.
        required: Whether a record cannot be submitted without.
        machine: The column of the machine's answer, "" if there is none.
        ordered: Whether the labels are levels, lowest first.
    """

    name: str
    title: str
    kind: Kind
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    required: bool = False
    machine: str = ""
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """A value to filter and sort by.

    Attributes:
        name: Its name; also the row's column, unless `ours`.
        kind: A word, a whole number or a number.
        tells: Whether it would tell compared answers apart.
        ours: Whether it is made here and for nobody's eyes.
    """

    name: str
    kind: Literal["terms", "integer", "float"]
    tells: bool = False
    ours: bool = False


def _named(labels: type[Category] | type[Difficulty] | type[Quality]) -> dict[str, str]:
    return {str(label): str(label) for label in labels}


CONVERSATION = ReviewField("conversation", "Conversation", chat=True, required=True)
ANSWERS = ReviewField("answers", "Answers to compare")
PROVENANCE = ReviewField("provenance", "Where it comes from")

HUMAN_KEEP = Question(
    "human_keep",
    "Keep this row?",
    "label",
    {KEEP: "keep", DROP: "drop"},
    "Would you train a model on it?",
    required=True,
    machine="keep",
)
HUMAN_QUALITY = Question(
    "human_input_quality",
    "How good is the user message?",
    "label",
    _named(Quality),
    "How clear, specific and coherent the first user message is; not how good the answer is.",
    machine="input_quality",
    ordered=True,
)
HUMAN_DIFFICULTY = Question(
    "human_difficulty",
    "How hard is it to answer?",
    "label",
    _named(Difficulty),
    "For somebody who knows the field.",
    machine="difficulty",
    ordered=True,
)
HUMAN_CATEGORY = Question(
    "human_task_category",
    "What kind of task is it?",
    "label",
    _named(Category),
    "The kind that fits best.",
    machine="task_category",
)
HUMAN_ISSUES = Question(
    "human_issues", "What is wrong with it?", "labels", ISSUES, "All that apply; none is fine."
)
HUMAN_REWRITE = Question(
    "human_response",
    "A better response",
    "text",
    description="Only if you can write one: the response as it should be.",
)

_PROPERTIES = (
    Property("uuid", "terms"),
    Property("model", "terms"),
    Property("task_category", "terms"),
    Property("difficulty", "terms"),
    Property("input_quality", "terms"),
    Property("language", "terms"),
    Property("keep", "terms"),
    Property("drop_reason", "terms"),
    Property("instruct_reward", "float", tells=True),
    Property("reward_difference", "float", tells=True),
    Property("min_neighbor_distance", "float"),
    Property("instruction_length", "integer"),
    Property("response_length", "integer", tells=True),
    Property("turns", "integer"),
)

ANSWER_ORDER = Property("answer_order", "terms", tells=True, ours=True)
"""Which answer is behind each name: the key of the blinding."""
FINGERPRINT = Property("fingerprint", "terms", ours=True)
"""Of all that was sent of a row, to send only what changed."""
PROPERTIES: tuple[Property, ...] = (*_PROPERTIES, ANSWER_ORDER, FINGERPRINT)
"""Every value to filter and sort by, in the order that Argilla lists them."""

_GUIDELINES = """\
Each record is a conversation that a language model wrote, both sides of it, without being asked for
anything in particular. You decide whether it is worth training on.

1. Read the conversation. What a filter decided is in the metadata; look at it after you have made
   up your mind.
2. **Keep this row?** is the only answer that is needed. Keep it if a person could have asked this
   and the answer is right, complete and safe.
3. Labels that are filled in come from a machine. Leave the right ones, correct the wrong ones.
4. **What is wrong with it?** takes everything that applies.
5. Write **a better response** only if you know one.
"""
_COMPARING = """\
6. Where there are **answers to compare**, rank them from best to worst; equal places are allowed.
   Their order is by chance in each record, and you are not told which model wrote which. Where
   there are none, leave the ranking empty. A name without an answer goes to the last place.
7. Where answers are compared, you judge the question with all of them: **keep** the row if a person
   could have asked this and at least one answer is right, complete and safe. What is **wrong** is
   what is wrong with the question or with every answer; one bad answer goes to a low place instead.
   **A better response** is one that is better than all of them.
"""

_WHERE_COMPARED: Mapping[str, str] = {
    "human_keep": "With answers to compare: is the question good and at least one of them right?",
    "human_issues": "With answers to compare: what is wrong with the question or with all of them.",
    "human_response": "With answers to compare: one that is better than all of them.",
}
"""What questions about a row mean where reviewers cannot know which answer is the row's own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The settings of an Argilla dataset.

    Attributes:
        answers: How many answers are compared at most, 0 or 2 to 26.
        dimensions: How many numbers an embedding has, 0 without.
        min_submitted: How many reviewers a record needs, at least 1.
    """

    answers: int = 0
    dimensions: int = 0
    min_submitted: int = 1

    @property
    def fields(self) -> tuple[ReviewField, ...]:
        """What is shown, from top to bottom."""
        return (CONVERSATION, *([ANSWERS] if self.answers else []), PROVENANCE)

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked, from top to bottom."""
        rest = (HUMAN_QUALITY, HUMAN_DIFFICULTY, HUMAN_CATEGORY, HUMAN_ISSUES, HUMAN_REWRITE)
        if not self.answers:
            return (HUMAN_KEEP, *rest)
        return tuple(map(_where_compared, (HUMAN_KEEP, ranking(self.answers), *rest)))

    @property
    def guidelines(self) -> str:
        """What reviewers are told, in Markdown."""
        return _GUIDELINES + (_COMPARING if self.answers else "")

    def hides(self, value: Property) -> bool:
        """Return whether annotators do not see a value, as it would tell answers apart."""
        return value.ours or (value.tells and bool(self.answers))


def ranking(answers: int) -> Question:
    """Return the question in which order so many answers stand."""
    return Question(
        RANKING,
        "Which answer is best?",
        "ranking",
        {name: name for name in ANSWER_NAMES[:answers]},
        "From best to worst; leave it empty where there is nothing to compare.",
    )


def _where_compared(question: Question) -> Question:
    """Return a question that also says what it means where answers are compared."""
    more = _WHERE_COMPARED.get(question.name, "")
    return replace(question, description=f"{question.description} {more}".strip())
