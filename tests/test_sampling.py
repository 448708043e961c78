"""What a completion is asked for with: its bounds, its constraints and its key in the journal."""

from dataclasses import replace
from typing import Any

import pytest

from magpie_steps.engines.base import Structure as FromBase
from magpie_steps.engines.sampling import (
    CONSTRAINTS,
    MAX_BIAS,
    Completion,
    Sampling,
    Structure,
    completion_key,
)
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.steps.conversation import ConversationGenerator

SET: dict[str, Any] = {
    "logit_bias": {7: 1.5},
    "allowed_token_ids": (7, 8),
    "bad_words": ("never",),
    "first_token_not": (9,),
    "structure": Structure("regex", "a+"),
}
"""A value for each constraint."""


# Structure


@pytest.mark.parametrize(
    ("kind", "value"), [("json", '{"type": "object"}'), ("regex", "a|b"), ("choice", ("a", "b"))]
)
def test_a_structure_is_a_value_that_can_be_compared_and_hashed(kind: Any, value: Any) -> None:
    assert Structure(kind, value).value == value
    assert hash(Structure(kind, value)) == hash(Structure(kind, value))
    assert Structure(kind, value) != Structure("regex", "c")
    assert FromBase is Structure


def test_choices_come_as_any_sequence_of_texts_or_as_one_text() -> None:
    assert Structure("choice", ["yes", "no"]).value == ("yes", "no")  # type: ignore[arg-type]
    assert Structure("choice", "yes").value == ("yes",)


@pytest.mark.parametrize("kind", ["", "JSON", "grammar", None])
def test_a_structure_of_an_unknown_kind_names_the_kinds(kind: Any) -> None:
    wanted = rf"Structure\.kind is {kind!r}; it must be json, regex or choice"
    with pytest.raises(ValueError, match=wanted):
        Structure(kind, "a")


@pytest.mark.parametrize(
    ("kind", "value"),
    [("json", ""), ("regex", ""), ("choice", ()), ("json", ("a",)), ("json", {"type": "object"})],
)
def test_a_structures_value_must_be_of_its_kind(kind: Any, value: Any) -> None:
    """A schema goes in as JSON text: a dict cannot be hashed, and its order would be in the key."""
    with pytest.raises(ValueError, match=r"Structure\.value is .*; it must be a text, or texts"):
        Structure(kind, value)


# Constraints


@pytest.mark.parametrize(
    "wrong",
    [
        {"logit_bias": {3: 100.5}},
        {"logit_bias": {3: -101}},
        {"logit_bias": {3: float("nan")}},
        {"logit_bias": {3: float("inf")}},
        {"logit_bias": ((3, 1.0), (4, 1000.0))},
    ],
)
def test_a_bias_out_of_range_names_field_value_and_range(wrong: dict[str, Any]) -> None:
    wanted = r"Sampling\.logit_bias is \(\(3, .*; it must be .* bias in \[-100, 100\]"
    with pytest.raises(ValueError, match=wanted):
        Sampling(**wrong)


def test_an_empty_bad_word_would_ban_everything() -> None:
    wanted = r"Sampling\.bad_words is \('a', ''\); it must be non-empty texts"
    with pytest.raises(ValueError, match=wanted):
        Sampling(bad_words=("a", ""))


def test_the_largest_biases_are_fine() -> None:
    bias = {1: MAX_BIAS, 2: -MAX_BIAS}
    assert dict(Sampling(logit_bias=bias).logit_bias) == bias  # type: ignore[arg-type]


def test_a_bias_is_the_same_as_a_dict_in_any_order_and_as_pairs() -> None:
    one = Sampling(logit_bias={9: 2, 3: -1})  # type: ignore[arg-type]
    other = Sampling(logit_bias=((3, -1.0), (9, 2.0)))
    assert one == other
    assert one.logit_bias == ((3, -1.0), (9, 2.0))
    assert completion_key("a", (1,), one) == completion_key("a", (1,), other)


def test_lists_make_a_hashable_sampling() -> None:
    given: dict[str, Any] = {
        "logit_bias": [[7, 1.5]],
        "allowed_token_ids": [7, 8],
        "bad_words": ["never"],
        "first_token_not": [9],
        "structure": SET["structure"],
    }
    assert hash(Sampling(**given)) == hash(Sampling(**SET))
    assert Sampling(**given) == Sampling(**SET)


def test_a_sampling_names_the_constraints_that_are_set() -> None:
    assert Sampling(stop_token_ids=(1,), stop_strings=("a",), seed=3).constraints == ()
    assert {*SET} == {*CONSTRAINTS}
    for name, value in SET.items():
        assert Sampling(**{name: value}).constraints == (name,)
    assert Sampling(**SET).constraints == CONSTRAINTS


def test_a_completion_says_nothing_of_a_cache_unless_its_engine_does() -> None:
    assert Completion("", (), "length", None, 1, 0).cached_tokens == 0


# The journal's key


@pytest.mark.parametrize(
    ("fingerprint", "prompt", "sampling", "key"),
    [
        (
            "scripted-1/0/([], [])/0.0",
            (0, 1, 20),
            Sampling(
                max_new_tokens=64,
                temperature=0.7,
                top_p=0.9,
                top_k=40,
                min_p=0.05,
                stop_token_ids=(2, 3),
                stop_strings=("\n",),
                seed=7,
            ),
            "21dbab1a074c800c541573e4e2cb79a947ac34229efc26a80d5c4c91fd6db0ab",
        ),
        (
            "a",
            (1, 2),
            Sampling(),
            "3ca72bcd3e49493b9b00e3a4516bd084468ac6335ff37e8c2c757632956e8869",
        ),
        (
            "m",
            (151_644,),
            Sampling(temperature=0, seed=5, stop_strings=("<|im_end|>",)),
            "0f7939edf78e7f4c4a99b641e9eabab2043beb2dcdc221d8b7d2579e38bfdcff",
        ),
    ],
)
def test_a_key_without_constraints_is_what_it_was_before_there_were_any(
    fingerprint: str, prompt: tuple[int, ...], sampling: Sampling, key: str
) -> None:
    """Made by commit b68556c, which knew no constraints: its journals must still be replayed."""
    assert completion_key(fingerprint, prompt, sampling).hex() == key


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_each_constraint_has_keys_of_its_own(temperature: float) -> None:
    """Greedy too: a constraint changes which token is the likeliest."""
    base = Sampling(temperature=temperature)
    changed: list[dict[str, Any]] = [
        *({name: value} for name, value in SET.items()),
        {"logit_bias": {7: 2.5}},
        {"logit_bias": {8: 1.5}},
        {"allowed_token_ids": (7,)},
        {"bad_words": ("never", "ever")},
        {"bad_words": ("never ever",)},
        {"first_token_not": (7, 8)},
        {"structure": Structure("json", "a+")},
        {"structure": Structure("choice", "a+")},
        SET,
    ]
    keys = {completion_key("a", (1,), replace(base, **each)) for each in changed}
    assert len(keys | {completion_key("a", (1,), base)}) == len(changed) + 1


# Row ids


@pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")
def test_rows_keep_their_ids_when_sampling_learns_something_new() -> None:
    """A new field of `Sampling` gave all rows other ids; these two were made by commit b68556c.

    A row's id is made, among others, of its samplings' texts.
    """
    step = ConversationGenerator(name="step", llm=ScriptedEngine(), num_rows=2, seed=7)
    step.load()
    ((rows, _),) = step.process()
    step.unload()
    assert [row["uuid"] for row in rows] == [
        "d328cdeb-f703-5b64-829c-c14da84f456e",
        "190869e4-1e48-5057-ace6-5411d435b4de",
    ]


def test_a_samplings_text_shows_the_constraints_that_are_set() -> None:
    assert "logit_bias" not in repr(Sampling())
    assert repr(Sampling(first_token_not=(3,), seed=4)).endswith("seed=4, first_token_not=(3,))")
    assert eval(repr(Sampling(**SET))) == Sampling(**SET)
