"""What do the rows of a record batch hold, as plain arrays, whatever schema they have?

A value of a wrong type, a missing one, NaN, infinity and what is too large to reckon with are all
the same: not given. Only instructions and responses of a wrong type are refused.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from magpie_steps.conversation import ASSISTANT, USER
from magpie_steps.filtering.origins import as_flags, as_numbers, as_texts, computed
from magpie_steps.report.paper import LLAMA_GUARD_2
from magpie_steps.report.several import Answers, Values
from magpie_steps.report.talks import Talk, fields, flat
from magpie_steps.report.tallies import Floats
from magpie_steps.row_schemas import CONVERSATIONS, OURS, Origin, Schema, schema_of
from magpie_steps.safety import read_verdict

LABELS = ("task_category", "difficulty", "input_quality", "language")
COPIED = (
    "turns",
    "instruct_reward",
    "base_reward",
    "reward_difference",
    "min_neighbor_distance",
    "repeat_count",
    "chosen_score",
    "rejected_score",
    "score_margin",
)
NUMBERS = (
    "instruction_characters",
    "response_characters",
    "instruction_tokens",
    "response_tokens",
    "turn_tokens",
    "responses",
    *COPIED,
)
"""What is counted in numbers; turn_tokens are those of the first turn's two texts together,
responses the number of those that were sampled."""

SEVERAL = ("responses_characters", "responses_tokens", "responses_rewards")
"""What is counted of each sampled response, of which a row has several."""

BYTES_PER_TOKEN = 4
"""UTF-8 bytes that are taken for a token where tokens are not recorded: a rule of thumb for English
text and the tokenizers of today's models; that of other languages may be far off."""

LARGEST = 1e100
"""Numbers beyond are taken for none; their squares would be."""

_READ = (
    *("instruction", "response", "messages", "response_length"),
    *("instruction_tokens", "response_tokens", *COPIED, *LABELS),
    *("safe", "unsafe_categories", "guard_raw", "gen_input_configs", "tag_failures"),
    *("keep", "drop_reason"),
)
_OURS_ALONE = (
    *("responses", "responses_tokens", "responses_rewards"),
    *("chosen_score", "rejected_score", "score_margin"),
)
"""What is read as well, which no other schema has and no recipe asks for."""


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Words of which a row can have several.

    Attributes:
        rows: The place of each word's row in the batch.
        words: The words.
    """

    rows: NDArray[np.int64]
    words: Sequence[str]

    def of(self, mask: NDArray[np.bool_]) -> Iterable[str]:
        """Return the words of those rows that a mask has."""
        return (word for row, word in zip(self.rows, self.words, strict=True) if mask[row])


@dataclass(frozen=True, slots=True)
class Reading:
    """A batch's rows.

    Attributes:
        rows: Their number.
        instruction: The first user messages, an Arrow array of texts.
        response: The answers to them, an Arrow array of texts.
        answers: The sampled responses, of which a row can have several.
        numbers: Values by name in `NUMBERS`, NaN where not given; only what the dataset has.
        several: Values by name in `SEVERAL`; only what the dataset has.
        labels: Arrow arrays of texts by name in `LABELS` and "safety", null where not given.
        hazards: What unsafe rows fall into.
        failures: Which labels taggers could not give and why, such as "quality: unknown_label".
        temperature: At which the instruction was sampled, NaN where not given.
        top_p: The share of the probability that it was sampled from, NaN where not given.
        keep: Whether rows are kept, None if the dataset does not say.
        reasons: Why they are not, an Arrow array of texts, None if the dataset does not say.
    """

    rows: int
    instruction: Any
    response: Any
    answers: Answers
    numbers: Mapping[str, Floats]
    several: Mapping[str, Values]
    labels: Mapping[str, Any]
    hazards: Occurrences
    failures: Occurrences
    temperature: Floats
    top_p: Floats
    keep: NDArray[np.bool_] | None
    reasons: Any


class Reader:
    """Reads the batches of a dataset.

    Args:
        present: The dataset's columns.

    Attributes:
        schema: Its schema.
        columns: Those of its columns that are read.
        tokens_recorded: Whether it says how many tokens each of its texts has.

    Raises:
        ValueError: If it has neither instructions nor conversations.
    """

    def __init__(self, present: Sequence[str]) -> None:
        self.schema = _schema(present)
        found = {name: self.schema.origin(name, present) for name in _READ}
        if self.schema is OURS:
            found |= {name: Origin((name,)) for name in _OURS_ALONE if name in present}
        self._origins = {name: origin for name, origin in found.items() if origin is not None}
        read = [column for origin in self._origins.values() for column in origin.columns]
        self.columns = list(dict.fromkeys(read))
        texts = _texts_in(self._origins)
        self.tokens_recorded = {f"{text}_tokens" for text in texts} <= self._origins.keys()
        self._rows = 0

    def read(self, batch: Any) -> Reading:
        """Return what the next batch's rows hold."""
        arrays = computed(self._origins, batch, self._rows)
        self._rows += len(batch)
        size = len(batch)
        talk = Talk.of(arrays["messages"]) if "messages" in arrays else None
        instruction, response = (
            _texts(arrays, name, talk, speaker, size)
            for name, speaker in (("instruction", USER), ("response", ASSISTANT))
        )
        nothing = pa.nulls(size, pa.list_(pa.string()))
        answers = Answers.of(arrays.get("responses", nothing))
        temperature, top_p = (_setting(arrays, name, size) for name in ("temperature", "top_p"))
        marked = self.schema is OURS and pa.types.is_boolean(arrays["keep"].type)
        return Reading(
            rows=size,
            instruction=instruction,
            response=response,
            answers=answers,
            numbers=self._numbers(arrays, instruction, response, talk, answers),
            several=self._several(arrays, answers),
            labels=_labels(arrays),
            hazards=_hazards(arrays),
            failures=_failures(arrays),
            temperature=temperature,
            top_p=top_p,
            keep=_keep(arrays["keep"]) if marked else None,
            reasons=as_texts(arrays["drop_reason"]) if marked else None,
        )

    def _numbers(
        self,
        arrays: Mapping[str, Any],
        instruction: Any,
        response: Any,
        talk: Talk | None,
        answers: Answers,
    ) -> dict[str, Floats]:
        found = {name: _finite(as_numbers(arrays[name])) for name in COPIED if name in arrays}
        for name, text in (("instruction", instruction), ("response", response)):
            found[f"{name}_characters"] = _positive(as_numbers(pc.utf8_length(text)))
            found[f"{name}_tokens"] = self._tokens(arrays, name, text)
        if talk is None and "response" not in arrays and "response_length" in arrays:
            found["response_characters"] = _positive(as_numbers(arrays["response_length"]))
        found["turn_tokens"] = found["instruction_tokens"] + found["response_tokens"]
        if talk is not None:
            found.setdefault("turns", talk.answers())
        if "turns" in found:
            found["turns"] = _positive(found["turns"])
        if "responses" in arrays:
            found["responses"] = answers.counts()
        if {"instruct_reward", "base_reward"} <= found.keys():
            difference = found["instruct_reward"] - found["base_reward"]
            found.setdefault("reward_difference", difference)
        return found

    def _tokens(self, arrays: Mapping[str, Any], name: str, text: Any) -> Floats:
        if self.tokens_recorded and f"{name}_tokens" in arrays:
            return _positive(as_numbers(arrays[f"{name}_tokens"]))
        return _estimated(text)

    def _several(self, arrays: Mapping[str, Any], answers: Answers) -> dict[str, Values]:
        found = {}
        if "responses" in arrays:
            length = _positive(as_numbers(pc.utf8_length(answers.texts)))
            found["responses_characters"] = Values(answers.rows, length)
            found["responses_tokens"] = Values(answers.rows, _estimated(answers.texts))
        if self.tokens_recorded and "responses_tokens" in arrays:
            recorded = Values.of(arrays["responses_tokens"])
            found["responses_tokens"] = Values(recorded.rows, _positive(recorded.values))
        if "responses_rewards" in arrays:
            rewards = Values.of(arrays["responses_rewards"])
            found["responses_rewards"] = Values(rewards.rows, _finite(rewards.values))
        return found


def decoded(texts: Any) -> list[str]:
    """Return an Arrow array of texts as a list, "" for null; what is no UTF-8 is replaced."""
    return [
        (each or b"").decode("utf-8", "replace") for each in texts.cast(pa.binary()).to_pylist()
    ]


def _schema(present: Sequence[str]) -> Schema:
    try:
        return schema_of(present)
    except ValueError:
        if CONVERSATIONS.origin("messages", present) is None:
            raise
        return CONVERSATIONS


def _texts_in(names: Collection[str]) -> set[str]:
    """Return which texts a dataset has whose tokens can be counted."""
    answered = {"response"} if {"response", "messages", "response_length"} & set(names) else set()
    return {"instruction"} | answered | ({"responses"} & set(names))


def _texts(arrays: Mapping[str, Any], name: str, talk: Talk | None, speaker: str, size: int) -> Any:
    """Return texts from their own column, else from conversations."""
    if name in arrays:
        return as_texts(arrays[name])
    return talk.first(speaker) if talk is not None else pa.nulls(size, pa.string())


def _keep(flags: Any) -> NDArray[np.bool_]:
    """Return which rows are kept; one that does not say is."""
    kept: NDArray[np.bool_] = flags.fill_null(True).to_numpy(zero_copy_only=False)
    return kept


def _finite(values: Floats) -> Floats:
    return np.where(np.abs(values) <= LARGEST, values, np.nan)


def _positive(values: Floats) -> Floats:
    """Return the values with NaN for 0: an empty text is none."""
    return np.where((values > 0) & (values <= LARGEST), values, np.nan)


def _estimated(texts: Any) -> Floats:
    """Return how many tokens texts have, about."""
    return _positive(np.ceil(as_numbers(pc.binary_length(texts)) / BYTES_PER_TOKEN))


def _labels(arrays: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _given(as_texts(arrays[name])) for name in LABELS if name in arrays}
    if "safe" in arrays:
        found["safety"] = _safety(arrays)
    return found


def _given(texts: Any) -> Any:
    """Return texts with null for what holds only white space."""
    trimmed = pc.ascii_trim_whitespace(texts)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _safety(arrays: Mapping[str, Any]) -> Any:
    """Return "safe", "unsafe", or null without a verdict, which a flag does not tell apart."""
    flag = arrays["safe"]
    safe = as_flags(flag)
    if "guard_raw" in arrays:
        codes, verdicts = _verdicts(arrays["guard_raw"])
        unsafe = np.array([not (v.safe or v.reason) for v in verdicts], bool)[codes]
    else:
        unsafe = ~safe & as_flags(pc.is_valid(flag)) & pa.types.is_boolean(flag.type)
    words = pa.array(["safe", "unsafe"])
    return words.take(pa.array(np.where(safe, 0, 1), mask=~(safe | unsafe)))


def _verdicts(raw: Any) -> tuple[NDArray[np.int64], list[Any]]:
    """Return for each row the place of its verdict, then the verdicts."""
    texts = as_texts(raw).fill_null("").dictionary_encode()
    verdicts = [read_verdict(text, LLAMA_GUARD_2) for text in decoded(texts.dictionary)]
    return texts.indices.to_numpy(zero_copy_only=False), verdicts


def _hazards(arrays: Mapping[str, Any]) -> Occurrences:
    if "unsafe_categories" in arrays:
        rows, words = flat(arrays["unsafe_categories"])
        return _occurrences(rows, as_texts(words))
    if "guard_raw" in arrays:
        codes, verdicts = _verdicts(arrays["guard_raw"])
        found = [(row, word) for row, n in enumerate(codes) for word in verdicts[n].categories]
        return Occurrences(np.array([row for row, _ in found], int), [word for _, word in found])
    return Occurrences(np.empty(0, np.int64), [])


def _failures(arrays: Mapping[str, Any]) -> Occurrences:
    if "tag_failures" not in arrays:
        return Occurrences(np.empty(0, np.int64), [])
    rows, items = flat(arrays["tag_failures"])
    if not (pa.types.is_struct(items.type) and {"tag", "reason"} <= set(fields(items.type))):
        return Occurrences(np.empty(0, np.int64), [])
    tags, reasons = (as_texts(pc.struct_field(items, name)) for name in ("tag", "reason"))
    return _occurrences(rows, pc.binary_join_element_wise(tags, reasons, ": "))


def _occurrences(rows: NDArray[np.int64], words: Any) -> Occurrences:
    given = as_flags(pc.is_valid(words))
    return Occurrences(rows[given], decoded(words.filter(pa.array(given))))


def _setting(arrays: Mapping[str, Any], name: str, size: int) -> Floats:
    """Return a field of the sampling settings."""
    configs = arrays.get("gen_input_configs")
    if configs is None or not pa.types.is_struct(configs.type):
        return np.full(size, np.nan)
    if name not in fields(configs.type):
        return np.full(size, np.nan)
    return _finite(as_numbers(pc.struct_field(configs, name)))
