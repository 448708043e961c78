"""What is sent of a row: texts that do nothing, blind answers, suggestions, metadata."""

import json
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_rows import PLANNING, chat, review_row, several_turns

from magpie_steps.review.answers import blinded, comparable, is_uncompared, named, unblinded
from magpie_steps.review.display import BUBBLE_LENGTH, bubbles, folded, inert, side_by_side
from magpie_steps.review.records import record, shown
from magpie_steps.review.settings import (
    ANSWER_NAMES,
    DROP,
    HUMAN_ISSUES,
    KEEP,
    PROPERTIES,
    RANKING,
    Layout,
)
from magpie_steps.review.suggestions import agent_name
from magpie_steps.review.sync import as_item

NASTY = (
    "<script>alert(1)</script> ![x](http://e.com/x) `a` </div>\n\n# h \u202e $x$ &lt; | \x00\r\nz"
)


class Texts(HTMLParser):
    """Reads HTML as a browser does: its texts and its elements."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.texts, self.elements = [], Counter()
        self.feed(markup)
        self.close()

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cf"])))
def test_a_text_is_shown_as_it_is_and_is_no_markup(text):
    found = Texts(f"<p>{inert(text)}</p>")
    assert "".join(found.texts) == text
    assert found.elements == {"p": 1}
    assert "\n" not in inert(text)


def test_what_cannot_be_seen_is_written_out():
    assert inert("a\u202eb\x1b\x00\u2028") == "a\\u202eb\\u001b\\u0000\\u2028"
    assert inert("a\n\tb\r\nc") == "a&#10;&#9;b&#10;c"
    assert inert("half \ud800 a pair \U0001f600") == "half \ufffd a pair \U0001f600"


@pytest.mark.parametrize(
    "text", ["a" * 50_000, "<&>" * 20_000, "&" * 19_999, "x" * 20_000, "é\n" * 9000]
)
def test_a_long_text_becomes_several_messages_and_loses_nothing(text):
    found = bubbles([{"role": "user", "content": text}])
    assert max(len(each["content"]) for each in found) <= BUBBLE_LENGTH
    assert {each["role"] for each in found} == {"user"}
    texts = [Texts(each["content"]) for each in found]
    assert "".join("".join(each.texts) for each in texts) == text
    assert all(each.elements == {"div": 1} for each in texts)


def test_markup_of_our_own_has_no_empty_line_in_which_markdown_would_begin():
    for markup in (
        side_by_side({"A": NASTY, "B": NASTY}),
        folded(NASTY, {NASTY: NASTY}),
        bubbles([{"role": "user", "content": NASTY}])[0]["content"],
    ):
        assert "\n" not in markup
        assert set(Texts(markup).elements) <= {"div", "b", "details", "summary"}


def test_a_conversation_is_shown_without_its_system_prompt():
    seen = shown(several_turns(1))
    texts = ["".join(Texts(message["content"]).texts) for message in seen.conversation]
    assert texts == ["Plan a trip.", "Go to Rome.", "How long?", "Three days."]
    assert [message["role"] for message in seen.conversation] == ["user", "assistant"] * 2
    assert seen.system == PLANNING
    assert seen.answers == seen.order == ""


def test_compared_answers_are_shown_once_and_without_the_conversation_that_would_tell():
    row = review_row(3)
    seen = shown(row, seed=1)
    assert row["response"] not in json.dumps(seen.conversation)
    places = unblinded(seen.order)
    assert sorted(places) == ["A", "B"]
    texts = Texts(seen.answers).texts
    assert texts == ["A", row[places["A"]], "B", row[places["B"]]]


def test_nothing_that_annotators_see_tells_answers_apart():
    """The record with the answers exchanged looks the same but for the order."""
    row = review_row(3, response_finish_reason="length")
    sent = record(row, 0, 2)
    layout = Layout(answers=2)
    seen = {p.name for p in PROPERTIES if not layout.hides(p)}
    exchanged = {
        **row,
        "response": row["base_response"],
        "base_response": row["response"],
        "messages": chat(row["instruction"], row["base_response"]),
        "response_length": 7,
        "instruct_reward": row["base_reward"],
        "base_reward": row["instruct_reward"],
        "reward_difference": -row["reward_difference"],
    }
    seeds = range(20)
    other = next(
        found
        for found in (record(exchanged, seed, 2) for seed in seeds)
        if found.fields["answers"] == sent.fields["answers"]
    )
    assert other.fields == sent.fields
    assert other.suggestions == sent.suggestions
    assert other.metadata["answer_order"] != sent.metadata["answer_order"]
    visible = [
        {name: value for name, value in found.metadata.items() if name in seen}
        for found in (sent, other)
    ]
    assert visible[0] == visible[1]


def test_the_order_is_by_chance_and_depends_on_seed_and_row_alone():
    answers = {"response": "a", "base_response": "b"}
    first = [next(iter(blinded(answers, 0, f"u{n}"))) for n in range(2000)]
    # 3.3 standard deviations of a fair coin: a false alarm in a thousand runs, but seeds are fixed.
    assert abs(first.count("response") - 1000) < 75
    other = [next(iter(blinded(answers, 1, f"u{n}"))) for n in range(2000)]
    assert first != other
    turned = dict(reversed(answers.items()))
    assert [list(blinded(turned, 0, f"u{n}")) for n in range(9)] == [
        list(blinded(answers, 0, f"u{n}")) for n in range(9)
    ]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, ["response", "base_response"]),
        ({"base_response": " "}, []),
        ({"base_response": None}, []),
        ({"base_response": 7}, []),
        ({"base_response": "Use sorted(list_3).\n"}, []),
        ({"responses": ["a"]}, ["response", "base_response"]),
        ({"responses": ["a", "b"]}, ["responses 0", "responses 1"]),
        ({"responses": ["a", "", "a ", "b"]}, ["responses 0", "responses 3"]),
        ({"messages": chat("a", "b", "c", "d")}, []),
        ({"messages": chat("a", "b", "c")}, ["response", "base_response"]),
    ],
)
def test_which_answers_are_compared(changes, places):
    row = review_row(3, **changes)
    assert list(comparable(row, row["messages"])) == places


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (several_turns(1), True),
        (several_turns(1, base_response=""), False),
        (several_turns(1, base_response="", responses=["a", "b"]), True),
        (review_row(1), False),
    ],
)
def test_several_turns_with_several_answers_are_known_as_not_compared(row, expected):
    assert is_uncompared(row, row["messages"]) is expected
    assert not (expected and comparable(row, row["messages"]))


def test_what_to_judge_where_answers_are_compared():
    """Reviewers cannot know which answer is the row's."""
    alone, comparing = Layout(), Layout(answers=2)
    assert "at least one answer is right" not in alone.guidelines
    assert "at least one answer is right" in comparing.guidelines
    assert "better than all of them" in comparing.guidelines
    told = {question.name: question.description for question in comparing.questions}
    plain = {question.name: question.description for question in alone.questions}
    assert {name for name in plain if told[name] != plain[name]} == {
        *("human_keep", "human_issues", "human_response")
    }
    assert "at least one of them right?" in told["human_keep"]
    assert "the question or with all of them" in told["human_issues"]
    assert list(told) == ["human_keep", "human_ranking", *list(plain)[1:]]


def test_a_system_prompt_is_shown_by_its_text():
    row = review_row(1, system_prompt_key="math")
    found = record(row, 0, 2, {"math": f"Do sums. {NASTY}"})
    texts = Texts(found.fields["provenance"]).texts
    assert texts[texts.index("system prompt") + 1].startswith("Do sums. <script>")
    assert "Do sums" not in record(row, 0, 2, {"coding": "Do sums."}).fields["provenance"]
    own = record(several_turns(1), 0, 2, {"planning": "Else."}).fields["provenance"]
    assert PLANNING in own
    assert "Else." not in own


def test_more_answers_than_names_are_refused():
    with pytest.raises(ValueError, match=r"27 answers to compare.*at most 26: sample fewer"):
        named({str(n): str(n) for n in range(27)})
    assert "".join(named({str(n): "" for n in range(26)})) == ANSWER_NAMES


def test_a_removed_row_is_shown_as_the_model_wrote_it():
    row = review_row(
        5, instruction="", response="", base_response="", messages=[], instruction_raw="<|eot|>"
    )
    assert Texts(shown(row).conversation[0]["content"]).texts == ["<|eot|>"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uuid": ""}, "no_uuid"),
        ({"uuid": None}, "no_uuid"),
        ({"uuid": "half \ud800"}, "no_uuid"),
        ({"instruction": None, "messages": None, "instruction_raw": None}, "no_text"),
        ({"instruction": " \n", "messages": [], "instruction_raw": ""}, "no_text"),
        ({"messages": chat(*["a"] * 501)}, "too_long"),
    ],
)
def test_rows_that_cannot_be_reviewed_have_a_reason(changes, reason):
    assert record(review_row(1, **changes), 0, 2) == reason


@pytest.mark.parametrize("messages", [None, [], "x", [1], [{"role": "user"}], chat("a", "b")[::-1]])
def test_messages_that_are_no_conversation_give_way_to_instruction_and_response(messages):
    row = review_row(1, messages=messages, base_response="")
    texts = ["".join(Texts(m["content"]).texts) for m in shown(row).conversation]
    assert texts == [row["instruction"], row["response"]]


def test_metadata_hold_what_there_is():
    row = review_row(5, instruct_reward=float("nan"), language="", model="m" * 300, turns=2.0)
    found = record(row, 0, 2).metadata
    assert found["keep"] == DROP
    assert found["drop_reason"] == "recipe_reward"
    assert len(found["model"]) == 128
    assert found["turns"] == 2
    assert "instruct_reward" not in found
    assert "language" not in found
    assert found["uuid"] == row["uuid"]
    assert json.dumps(found, allow_nan=False)


def test_the_fingerprint_is_of_everything_that_is_sent():
    same = record(review_row(1), 0, 2).fingerprint
    assert record(review_row(1), 0, 2).fingerprint == same
    changes = (
        {"instruction": "Else?", "messages": chat("Else?")},
        {"base_response": "Else."},
        {"difficulty": ""},
        {"keep": False},
        {"model": "other"},
        {"intent": "said"},
        {"instruct_reward": 9.0},
    )
    others = {record(review_row(1, **change), 0, 2).fingerprint for change in changes}
    assert len(others | {same}) == len(changes) + 1
    assert record(review_row(1, row=9, guard_raw="x"), 0, 2).fingerprint == same


def suggested(row, answers=2):
    return {each.question: each for each in record(row, 0, answers).suggestions}


def test_suggestions_name_who_says_so():
    found = suggested(review_row(5, difficulty_generator="org/model+1"))
    assert (found["human_keep"].value, found["human_keep"].agent) == (DROP, "filter")
    assert found["human_difficulty"].agent == "org/model_1"
    assert found["human_input_quality"].value == "average"
    assert suggested(review_row(1))["human_keep"].value == KEEP


@pytest.mark.parametrize("label", ["", None, "Hard", "hardest", 3, ["hard"]])
def test_what_is_no_label_is_not_suggested(label):
    assert "human_difficulty" not in suggested(review_row(1, difficulty=label))


@pytest.mark.parametrize(
    ("changes", "issues"),
    [
        ({}, None),
        ({"drop_reason": "instruction_template_tokens"}, ("template_leak",)),
        ({"drop_reason": "instruction_answer_attached"}, ("answer_in_question",)),
        ({"drop_reason": "recipe_language"}, ("off_language",)),
        ({"drop_reason": "recipe_repeated"}, ("near_duplicate",)),
        ({"drop_reason": "recipe_safe"}, ("unsafe",)),
        ({"safe": False, "guard_generator": "guard"}, ("unsafe",)),
        ({"safe": False, "guard_generator": ""}, None),
        ({"response_finish_reason": "length"}, None),
        ({"response_finish_reason": "length", "base_response": ""}, ("truncated",)),
    ],
)
def test_issues_are_suggested_where_a_flag_says_so(changes, issues):
    found = suggested(review_row(1, **changes)).get(HUMAN_ISSUES.name)
    assert (found and found.value) == issues


def test_a_ranking_is_suggested_by_rewards():
    row = review_row(1, instruct_reward=2.0, base_reward=0.0)
    sent = record(row, 0, 3)
    found = {each.question: each for each in sent.suggestions}[RANKING]
    places = unblinded(sent.metadata["answer_order"])
    assert [places.get(name) for name in found.value] == ["response", "base_response", None]
    assert found.score == (0.8808, 0.1192, 0.0)
    for missing in (float("nan"), None, "2", float("inf")):
        assert RANKING not in suggested(review_row(1, base_reward=missing))
    many = review_row(1, responses=["a", "", "b"], responses_rewards=[0.0, 9.0, 0.0])
    assert suggested(many)[RANKING].score == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B"),
        ("<b>", "_b_"),
        ("", "unknown"),
        (None, "unknown"),
        ("é", "unknown"),
        ("x" * 300, "x" * 200),
    ],
)
def test_agents_have_names_that_the_server_takes(text, name):
    assert agent_name(text) == name


def test_an_item_is_what_the_server_takes():
    sent = record(review_row(1), 0, 2)
    questions = {each.question: each.question.upper() for each in sent.suggestions}
    item = as_item(sent, [1.0, 2.0], questions)
    assert item["external_id"] == sent.id
    assert item["vectors"] == {"instruction_embedding": [1.0, 2.0]}
    ranked = next(s for s in item["suggestions"] if s["question_id"] == RANKING.upper())
    assert [each["rank"] for each in ranked["value"]] == [1, 2]
    assert len(ranked["score"]) == 2
    label = next(s for s in item["suggestions"] if s["question_id"] == "HUMAN_KEEP")
    assert (label["value"], label["agent"], "score" in label) == (KEEP, "filter", False)
    assert as_item(sent, [], questions)["vectors"] == {}
