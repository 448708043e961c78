"""What reviewers say together, and how far they agree."""

import json
import warnings
from math import isnan

import numpy as np
import pytest
from review_rows import review_row
from sklearn.metrics import cohen_kappa_score

from magpie_steps.review.agreement import alpha, confusion
from magpie_steps.review.pull import human_pair
from magpie_steps.review.records import shown
from magpie_steps.review.section import review_section
from magpie_steps.review.tally import Tally
from magpie_steps.review.verdicts import (
    VERDICT_TYPES,
    Answered,
    answered,
    leading,
    pairwise_agreement,
    ranking_text,
    verdict_of,
)

LEVELS = ["very easy", "easy", "medium", "hard", "very hard"]


def said(order="", **answers):
    """Return a record that reviewers answered."""
    return Answered("u", "key", order, answers)


def ranks(**by_name):
    return [{"value": name, "rank": rank} for name, rank in by_name.items()]


def krippendorff_by_hand(table, distance):
    """Alpha by its definition: one minus observed over expected disagreement."""
    units = [list(row.values()) for row in table if len(row) > 1]
    values = [value for unit in units for value in unit]
    observed = sum(
        sum(distance(a, b) for a in unit for b in unit) / (len(unit) - 1) for unit in units
    )
    expected = sum(distance(a, b) for a in values for b in values) / (len(values) - 1)
    return 1 - observed / expected


def test_alpha_is_the_published_one():
    """Krippendorff's own example: four observers, twelve units, alpha 0.743 nominal."""
    data = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    lines = [line.split() for line in data]
    table = [
        {str(who): line[n] for who, line in enumerate(lines) if line[n] != "."} for n in range(12)
    ]
    assert alpha(table) == pytest.approx(0.743, abs=0.0005)
    assert alpha(table, ["1", "2", "3", "4", "5"]) == pytest.approx(0.815, abs=0.0005)
    assert alpha(table) == pytest.approx(krippendorff_by_hand(table, lambda a, b: a != b), abs=1e-6)


def test_alpha_of_levels_counts_how_far_they_are_apart():
    near = [{"a": "easy", "b": "medium"}, {"a": "hard", "b": "hard"}, {"a": "easy", "b": "easy"}]
    far = [{"a": "easy", "b": "hard"}, {"a": "hard", "b": "hard"}, {"a": "easy", "b": "easy"}]
    assert alpha(near, LEVELS) > alpha(far, LEVELS)


@pytest.mark.parametrize(
    "table",
    [[], [{}], [{"a": "keep"}], [{"a": "keep", "b": "keep"}], [{"a": "keep"}, {"b": "drop"}]],
)
def test_alpha_is_not_defined_without_differing_shared_labels(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert alpha(table) is None


def test_confusion_counts_rows_by_both_labels():
    pairs = [("easy", "easy"), ("easy", "hard"), ("hard", "hard"), ("", "hard"), ("easy", "")]
    found = confusion(pairs, LEVELS)
    assert found.labels == ("easy", "hard")
    assert found.counts == ((1, 1), (0, 1))
    expected = cohen_kappa_score(["easy", "easy", "hard"], ["easy", "hard", "hard"])
    assert found.kappa == pytest.approx(expected, abs=1e-6)
    assert found.as_dict()["equal"] == pytest.approx(2 / 3, abs=1e-6)


def test_kappa_of_levels_is_weighted():
    rng = np.random.default_rng(0)
    machine, human = (rng.choice(LEVELS, 200).tolist() for _ in range(2))
    found = confusion(zip(machine, human, strict=True), LEVELS, ordered=True)
    expected = cohen_kappa_score(machine, human, labels=LEVELS, weights="linear")
    assert found.kappa == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("pairs", [[], [("", "")], [("easy", "easy")] * 3])
def test_kappa_is_not_defined_for_one_label(pairs):
    assert confusion(pairs, LEVELS).kappa is None


def test_the_leading_label():
    assert leading(["a", "b", "a"]) == "a"
    assert leading(["a", "b"]) == ""
    assert leading([]) == ""
    assert leading(["a"]) == "a"


def test_pairwise_agreement():
    assert isnan(pairwise_agreement([]))
    assert isnan(pairwise_agreement(["a"]))
    assert pairwise_agreement("aab") == pytest.approx(1 / 3)
    assert pairwise_agreement("aaa") == 1.0


def test_a_verdict_is_unblinded():
    found = verdict_of(
        said("base_response,response", p={"human_keep": "keep", "human_ranking": ranks(A=2, B=1)})
    )
    assert found.mean_ranks == {"response": 1.0, "base_response": 2.0}
    assert ranking_text(found.ranks["p"]) == "response > base_response"


def test_names_without_an_answer_do_not_count():
    given = ranks(A=1, B=3, C=2)
    found = verdict_of(said("response,base_response", p={"human_ranking": given}))
    assert found.mean_ranks == {"response": 1.0, "base_response": 3.0}
    assert verdict_of(said("", p={"human_ranking": given})).mean_ranks == {}


def test_rankings_of_several_are_averaged_and_ties_make_no_pair():
    row = review_row(3)
    first = {"human_ranking": ranks(A=1, B=2)}
    second = {"human_ranking": ranks(A=2, B=1)}
    order = "response,base_response"
    assert human_pair(row, verdict_of(said(order, p=first, q=second))) == {}
    assert human_pair(row, verdict_of(said(order, p={"human_ranking": ranks(A=1, B=1)}))) == {}
    assert human_pair(row, verdict_of(said(order, p={"human_keep": "keep"}))) == {}
    pair = human_pair(row, verdict_of(said(order, p=second, q=second, r=first)))
    assert pair["chosen"][0]["content"] == row["base_response"]
    assert (pair["chosen_rank"], pair["annotators"]) == (pytest.approx(4 / 3), 3)
    assert pair["prompt"] == [{"role": "user", "content": row["instruction"]}]


def test_issues_need_more_than_half():
    found = verdict_of(
        said(p={"human_issues": ["wrong"]}, q={"human_issues": ["wrong", "unsafe"]}, r={})
    )
    assert found.agreed_issues == ["wrong"]


@pytest.mark.parametrize(
    ("keep", "reason", "labels", "kept", "why"),
    [
        (True, "", ["keep"], True, ""),
        (True, "", ["drop"], False, "dropped_in_review"),
        (False, "recipe_reward", ["keep"], True, ""),
        (False, "recipe_reward", ["drop"], False, "recipe_reward"),
        (True, "", ["keep", "drop"], True, ""),
        (False, "recipe_reward", ["keep", "drop"], False, "recipe_reward"),
        (None, None, ["drop"], False, "dropped_in_review"),
    ],
)
def test_people_override_the_filter(keep, reason, labels, kept, why):
    answers = {f"p{n}": {"human_keep": label} for n, label in enumerate(labels)}
    row = review_row(1, keep=keep, drop_reason=reason)
    names = {who: who for who in answers}
    found = verdict_of(said(**answers)).columns(row, names)
    assert (found["keep"], found["drop_reason"]) == (kept, why)
    assert found["machine_keep"] is (keep is not False)
    assert set(found) == {*VERDICT_TYPES, "keep", "drop_reason"}


def test_a_record_of_the_server_is_read_back():
    row = review_row(2)
    seen = shown(row, 4)
    item = {
        "external_id": row["uuid"],
        "fields": {"conversation": list(seen.conversation), "answers": seen.answers},
        "metadata": {"answer_order": seen.order},
        "responses": [
            {"user_id": "p", "status": "submitted", "values": {"human_keep": {"value": "keep"}}},
            {"user_id": "q", "status": "draft", "values": {"human_keep": {"value": "drop"}}},
            {"user_id": "r", "status": "discarded", "values": None},
        ],
    }
    found = answered(item)
    assert found == Answered(row["uuid"], seen.key, seen.order, {"p": {"human_keep": "keep"}}, 1)
    bare = answered({"external_id": None, "fields": {}, "metadata": None, "responses": None})
    assert (bare.uuid, bare.answers) == ("", {})


def reviewed():
    """Ten rows: the machine keeps eight of them, people agree with six of these."""
    tally = Tally()
    for n in range(1, 11):
        row = review_row(n)
        drop = n in (1, 2, 5)
        answer = {
            "human_keep": "drop" if drop else "keep",
            "human_difficulty": row["difficulty"] if n % 2 else "hard",
            "human_issues": ["wrong"] if drop else [],
            "human_ranking": ranks(A=1, B=2),
        }
        tally.add(row, verdict_of(said("response,base_response", p=answer, q=answer)))
    return {"dataset": "d", **tally.as_dict(), "left_out": {}}


def test_the_filter_is_judged_by_people():
    found = reviewed()["filter"]
    assert (found["kept"], found["kept_confirmed"], found["precision"]) == (8, 6, 0.75)
    assert (found["removed"], found["removed_confirmed"]) == (2, 1)
    assert found["removed_rightly"] == 0.5
    assert reviewed()["rankings"] == {"response > base_response": 10}
    assert reviewed()["issues"] == {"wrong": 3}
    assert reviewed()["agreement"]["human_issues"] == {
        "shared": 10,
        "alpha": 1.0,
        "scale": "nominal",
    }


def test_nothing_reviewed_is_nothing_said():
    nothing = Tally().as_dict()
    assert nothing["rows"] == 0
    assert nothing["filter"]["precision"] is None
    assert review_section(nothing) == ""
    assert json.loads(json.dumps(nothing, allow_nan=False)) == nothing


def test_the_cards_section():
    text = review_section(json.loads(json.dumps(reviewed())))
    assert text.startswith("10 rows were judged by 2 people, 20 verdicts in all")
    assert "In 10 of the rows, answers were compared without telling which one" in text
    assert "| `human_issues` | 10 | nominal | 1.000 |" in text
    assert "| kept by the filter | 8 | 6 | 75.0% |" in text
    assert "| removed by the filter | 2 | 1 | 50.0% |" in text
    assert "| `human_keep` | 10 | nominal | 1.000 |" in text
    assert "`difficulty`: the same label in" in text
    assert "split" not in text


def test_only_compared_rows_have_verdicts_on_all_their_answers():
    tally = Tally()
    tally.add(review_row(1), verdict_of(said("", p={"human_keep": "keep"})))
    alone = {"dataset": "d", **tally.as_dict(), "left_out": {}}
    assert alone["compared"] == 0
    assert "answers were compared" not in review_section(alone)
    order = "response,base_response"
    tally.add(review_row(2), verdict_of(said(order, p={"human_keep": "keep"})))
    assert tally.as_dict()["compared"] == 1


def test_a_row_that_one_of_two_judged_is_not_shared():
    tally = Tally()
    answer = {"human_keep": "keep", "human_issues": ["wrong"]}
    tally.add(review_row(1), verdict_of(said(p=answer)))
    tally.add(review_row(2), verdict_of(said(p=answer, q=answer)))
    assert {name: each["shared"] for name, each in tally.as_dict()["agreement"].items()} == {
        "human_keep": 1,
        "human_input_quality": 0,
        "human_difficulty": 0,
        "human_task_category": 0,
        "human_issues": 1,
        "human_ranking": 0,
    }


def test_nothing_generated_can_break_the_section():
    review = reviewed()
    review["rankings"] = {"<script>|`# x": 3}
    review["issues"] = {"a\n# b": 1}
    text = review_section(review)
    assert "<script" not in text.replace("\\<script", "")
    assert not any(line.startswith("#") for line in text.splitlines())
