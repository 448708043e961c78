import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reported_rows
from hypothesis import given
from hypothesis import strategies as st
from reported_rows import pair_row, row, write_rows, write_table

from magpie_steps.labels import Category, Difficulty
from magpie_steps.report import binning, counting, tallies
from magpie_steps.report.counting import statistics_of
from magpie_steps.report.funnel import stages

ROWS = [row(number) for number in range(200)]
NAN = float("nan")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return statistics_of("ours", write_rows(tmp_path_factory.mktemp("rows"), ROWS))


def table_of(folder, **arrays):
    return statistics_of("set", write_table(folder, pa.table(arrays)))


def kept_rows():
    return [each for each in ROWS if each["keep"]]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("instruction_tokens", "instruction_tokens"),
        ("response_tokens", "response_tokens"),
        ("instruct_reward", "instruct_reward"),
        ("base_reward", "base_reward"),
        ("reward_difference", "reward_difference"),
        ("min_neighbor_distance", "min_neighbor_distance"),
        ("repeat_count", "repeat_count"),
        ("turns", "turns"),
    ],
)
def test_numbers_are_those_of_the_rows(found, name, column):
    for group, rows in ((found.all, ROWS), (found.kept, kept_rows())):
        values = np.array([each[column] for each in rows], float)
        numbers = group.numbers[name]
        assert (numbers.given, numbers.not_given) == (len(rows), 0)
        assert numbers.mean == pytest.approx(values.mean(), abs=1e-12)
        assert numbers.deviation == pytest.approx(values.std(), abs=1e-12)
        assert (numbers.least, numbers.most) == (values.min(), values.max())
        assert numbers.total == pytest.approx(values.sum())
        assert group.quantiles[name] == pytest.approx(
            np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        )
        histogram = group.histograms[name]
        assert sum(histogram.counts) == len(rows)
        assert len(histogram.edges) == len(histogram.counts) + 1


def test_lengths_in_characters_are_those_of_the_texts(found):
    for text in ("instruction", "response"):
        lengths = [len(each[text]) for each in ROWS]
        assert found.all.numbers[f"{text}_characters"].mean == pytest.approx(np.mean(lengths))
    together = [each["instruction_tokens"] + each["response_tokens"] for each in ROWS]
    assert found.all.numbers["turn_tokens"].mean == pytest.approx(np.mean(together))


def test_labels_are_counted_in_the_order_of_their_scale(found):
    difficulty = found.all.labels["difficulty"]
    assert list(difficulty.counts) == list(map(str, Difficulty))
    assert difficulty.counts == Counter(each["difficulty"] for each in ROWS)
    kept = found.kept.labels["difficulty"]
    assert kept.counts == {
        level: sum(each["difficulty"] == level for each in kept_rows()) for level in Difficulty
    }
    assert list(found.all.labels["task_category"].counts) == list(map(str, Category))
    assert found.all.labels["language"].counts == {"EN": 134, "DE": 66}
    assert found.all.labels["safety"].counts == {"safe": 180, "unsafe": 20}
    assert found.all.hazards == {"hate": 20, "privacy": 20}
    assert difficulty.share("medium") == 0.2


def test_rows_go_through_the_stages_to_the_kept_ones(found):
    assert found.rows == 200
    assert found.kept.rows == found.final.rows == 160
    assert found.dropped == {"recipe_quality": 20, "instruction_truncated": 20}
    assert [(stage.name, stage.left) for stage in stages(found)] == [
        ("generated", 200),
        ("with instruction", 180),
        ("chosen by recipe", 160),
        ("kept", 160),
    ]


def test_every_drop_reason_belongs_to_a_stage(tmp_path):
    from magpie_steps.reasons import DROP_REASONS

    rows = [row(n, keep=False, drop_reason=r) for n, r in enumerate(DROP_REASONS)]
    found = statistics_of("x", write_rows(tmp_path, [*rows, row(0)]))
    left = [stage.left for stage in stages(found)]
    assert left == sorted(left, reverse=True)
    assert left[-1] == left[-2] == 1
    others = next(stage.left for stage in stages(found) if stage.name == "without faults")
    assert len(rows) + 1 - others == sum(r == "engine_error" for r in DROP_REASONS)


def test_sampling_settings_stand_apart(found):
    assert [(each.temperature, each.top_p, each.rows) for each in found.settings] == [
        (1.0, 1.0, 100),
        (1.1, 1.0, 100),
    ]
    even = ROWS[::2]
    ranks = {level: rank for rank, level in enumerate(reported_rows.LEVELS, 1)}
    assert found.settings[0].difficulty == pytest.approx(
        np.mean([ranks[each["difficulty"]] for each in even])
    )
    assert found.settings[0].quality == found.settings[0].difficulty
    assert found.settings[0].distance == pytest.approx(
        np.mean([each["min_neighbor_distance"] for each in even])
    )


def test_examples_are_kept_rows_and_removed_ones_say_why(found):
    kept = {each["instruction"] for each in kept_rows()}
    assert len(found.examples) == 160
    assert {each.instruction for each in found.examples} == kept
    assert [each.instruction for each in found.examples] != [
        each["instruction"] for each in kept_rows()
    ]
    assert len(found.removed) == counting.SHOWN_REMOVED
    assert {each.reason for each in found.removed} <= {"recipe_quality", "instruction_truncated"}
    assert all(each.labels["language"] in ("EN", "DE") for each in found.examples)
    assert len(found.in_english) == sum(each["language"] == "EN" for each in kept_rows())


def test_what_is_not_given_is_counted_and_nothing_else_happens(tmp_path):
    """Null, NaN, infinity, an absurd number, an empty text and a wrong type are all not given."""
    values = [1.0, None, NAN, math.inf, -math.inf, 1e300, 3.0]
    found = table_of(
        tmp_path,
        instruction=["a", None, "", "b", "c", "d", "e"],
        response=pa.nulls(7),
        instruct_reward=values,
        base_reward=["1", "2", "3", "4", "5", "6", "7"],
        min_neighbor_distance=pa.array([[1.0]] * 7),
        repeat_count=pa.array([True] * 7),
        difficulty=["easy", None, "", "  ", "[easy]", "Easy", "hard"],
        input_quality=pa.array([1] * 7),
        task_category=pa.array(["Math"] * 7).dictionary_encode(),
        language=pa.nulls(7),
        gen_input_configs=["text"] * 7,
        messages=["no list"] * 7,
    )
    numbers, labels = found.all.numbers, found.all.labels
    assert (numbers["instruct_reward"].given, numbers["instruct_reward"].not_given) == (2, 5)
    assert numbers["instruct_reward"].mean == 2
    for name in ("base_reward", "min_neighbor_distance", "repeat_count", "response_tokens"):
        assert (numbers[name].given, numbers[name].not_given) == (0, 7)
    assert (numbers["instruction_characters"].given, numbers["turns"].given) == (5, 0)
    assert (labels["difficulty"].given, labels["difficulty"].unknown) == (2, 2)
    assert labels["difficulty"].not_given == 3
    assert labels["input_quality"].not_given == labels["language"].not_given == 7
    assert labels["task_category"].counts["Math"] == 7
    assert found.settings == ()
    assert found.kept is None
    assert len(found.examples) == 5


@pytest.mark.parametrize("flag", ["yes", None, 1])
def test_rows_that_do_not_say_whether_they_are_kept_count_as_kept(tmp_path, flag):
    table = pa.table({"instruction": ["a"], "keep": [flag], "drop_reason": [""]})
    if flag is None:
        table = table.set_column(1, "keep", pa.array([None], pa.bool_()))
    found = statistics_of("x", write_table(tmp_path, table))
    assert found.final.rows == 1
    assert (found.kept is None) == (flag is not None)


def test_no_rows_at_all_make_empty_statistics(tmp_path):
    found = statistics_of("x", write_rows(tmp_path, []))
    assert (found.rows, found.final.rows, found.sampled, found.examples) == (0, 0, 0, ())
    assert found.all.number("turn_tokens").given == 0
    assert math.isnan(found.all.median("turn_tokens"))


def test_bytes_that_are_no_text_are_replaced(tmp_path):
    broken = pa.array([b"ab\xff", b"\xed\xa0\x80"]).view(pa.string())
    found = table_of(
        tmp_path, instruction=broken, response=broken, language=broken, difficulty=broken
    )
    assert {each.instruction for each in found.examples} == {"ab\ufffd", "\ufffd" * 3}
    assert found.all.labels["language"].given == 2


def test_without_recorded_tokens_they_are_estimated(tmp_path):
    found = table_of(tmp_path, instruction=["abcde", "日本"], response=["abcd", "x" * 41])
    assert not found.tokens_recorded
    assert found.all.numbers["instruction_tokens"].total == 2 + 2
    assert found.all.numbers["response_tokens"].total == 1 + 11


def test_the_first_llama_3_sets_are_read_by_their_own_names(tmp_path):
    found = table_of(
        tmp_path,
        uuid=["1", "2", "3", "4"],
        input=["How?", "Why?", "What?", "Who?"],
        output=["So.", "Because.", "That.", "He."],
        conversations=[
            [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * turns
            for turns in (1, 2, 3, 2)
        ],
        gen_input_config=[{"temperature": 1.0, "top_p": 0.99}] * 4,
        llama_guard_2=["safe", "unsafe\nS9,S2", None, " unsafe \n S6"],
        instruct_reward=[1.0, 2.0, 3.0, 4.0],
        base_reward=[0.0, 0.0, 1.0, None],
        reward_difference=[1.0, 2.0, 2.0, None],
        input_quality=["good"] * 4,
    )
    assert found.schema == "Magpie-Align's first Llama-3 datasets"
    assert found.all.numbers["instruction_characters"].total == len("How?Why?What?Who?")
    assert found.all.numbers["turns"].mean == 2
    assert found.all.labels["safety"].counts == {"safe": 1, "unsafe": 2}
    assert found.all.labels["safety"].not_given == 1
    assert found.all.hazards == {"hate": 1, "non_violent_crimes": 1, "privacy": 1}
    assert found.all.numbers["reward_difference"].given == 3
    assert [(each.top_p, each.quality) for each in found.settings] == [(0.99, 4.0)]


def test_ultra_is_read_from_its_conversations_and_scores(tmp_path):
    found = table_of(
        tmp_path,
        instruction=["a", "b"],
        conversation=[
            [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "first"},
                {"role": "user", "content": "more"},
                {"role": "assistant", "content": "second!"},
            ],
            [],
        ],
        quality=["good", "poor"],
        difficulty=["easy", "hard"],
        primary_tag=["Math", "Planning"],
        score=[0.2, 0.1],
        score_base=[0.1, 0.3],
        safe=[True, None],
        nn_scores=[[0.9], [0.5]],
    )
    assert found.schema == "Magpie Ultra"
    assert found.all.numbers["turns"].given == 1
    assert found.all.numbers["turns"].most == 2
    assert found.all.numbers["response_characters"].most == len("first")
    assert found.all.numbers["reward_difference"].mean == pytest.approx(-0.05)
    assert found.all.numbers["min_neighbor_distance"].most == pytest.approx(1.0)
    assert found.all.labels["safety"].counts == {"safe": 1, "unsafe": 0}
    assert found.all.labels["safety"].not_given == 1
    by_instruction = {each.instruction: each for each in found.examples}
    assert by_instruction["a"].response == "first"


def test_lengths_that_are_recorded_stand_in_for_texts_that_are_not(tmp_path):
    found = table_of(
        tmp_path,
        instruction=["a", "b"],
        keep=[True, True],
        drop_reason=["", ""],
        response_length=[7, 0],
    )
    numbers = found.all.numbers["response_characters"]
    assert (numbers.given, numbers.not_given, numbers.mean) == (1, 1, 7)
    assert found.all.numbers["response_tokens"].given == 0


def test_a_dataset_may_have_its_texts_in_conversations_alone(tmp_path):
    talk = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes."}]
    found = table_of(tmp_path, uuid=["1", "2"], conversations=[talk, None])
    assert found.schema == "conversations alone"
    assert [each.instruction for each in found.examples] == ["Hello?"]
    assert found.all.numbers["response_characters"].total == len("Yes.")


@pytest.mark.parametrize("names", [["text"], ["uuid"]])
def test_other_columns_are_refused_with_what_is_missing(tmp_path, names):
    with pytest.raises(ValueError, match="no schema that is known"):
        table_of(tmp_path, **{name: ["a"] for name in names})


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("none")
    with pytest.raises(ValueError, match=r"a\.parquet is no parquet file"):
        statistics_of("x", [path])


def test_samples_do_not_depend_on_the_parts_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "NUMBERS_SAMPLE", 30)
    monkeypatch.setattr(counting, "TEXTS_SAMPLE", 20)
    results = []
    for group in (7, 1000):
        paths = write_rows(tmp_path / str(group), ROWS, group)
        with monkeypatch.context() as patch:
            patch.setattr("magpie_steps.filtering.files.BATCH_ROWS", group)
            results.append(statistics_of("x", paths))
    first, second = results
    assert first.sampled == 30
    assert len(first.examples) == 20
    assert first.examples == second.examples
    assert first.all.histograms == second.all.histograms
    assert first.all.labels == second.all.labels
    assert sum(first.all.histograms["instruct_reward"].counts) == 30
    assert first.all.numbers["instruct_reward"].mean == pytest.approx(
        np.mean([each["instruct_reward"] for each in ROWS])
    )


def test_a_sample_is_fair():
    """Each of 100 rows stays in about a tenth of 2,000 samples; fails by chance once in 10^6."""
    stayed = np.zeros(100)
    for seed in range(2000):
        chance, sample = np.random.default_rng(seed), tallies.Sample(10)
        for start in range(0, 100, 25):
            keys = chance.random(25)
            places = sample.places(keys)
            sample.add(keys[places], (start + places)[:, None])
        stayed[sample.end(1)[:, 0]] += 1
    assert stayed.sum() == 20_000
    assert abs(stayed - 200).max() < 5.5 * math.sqrt(2000 * 0.1 * 0.9)


def test_too_many_labels_are_counted_together(tmp_path, monkeypatch):
    monkeypatch.setattr(tallies, "MOST_LABELS", 3)
    rows = [row(n, language=f"L{n}", keep=False, drop_reason=f"r{n}") for n in range(10)]
    found = statistics_of("x", write_rows(tmp_path, rows))
    assert (found.all.labels["language"].given, found.all.labels["language"].unknown) == (3, 7)
    assert found.dropped["(others)"] == 7
    assert sum(found.dropped.values()) == 10
    assert [stage.left for stage in stages(found)] == [10, 0, 0]


def test_long_texts_and_labels_are_cut(tmp_path):
    long = "y" * 50_000
    found = statistics_of("x", write_rows(tmp_path, [row(0, instruction=long, language=long)]))
    assert len(found.examples[0].instruction) == counting.TEXT_CHARACTERS + 1
    assert max(map(len, found.all.labels["language"].counts)) == counting.LABEL_CHARACTERS
    assert found.all.numbers["instruction_characters"].most == 50_000


@given(
    st.lists(
        st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(NAN)), max_size=20),
        min_size=1,
        max_size=6,
    )
)
def test_tallies_of_parts_are_those_of_the_whole(parts):
    tally = tallies.NumberTally()
    for part in parts:
        tally.add(np.array(part, float))
    whole = np.concatenate([np.array(part, float) for part in parts])
    finite = whole[np.isfinite(whole)]
    numbers = tally.end()
    assert (numbers.given, numbers.not_given) == (len(finite), len(whole) - len(finite))
    if len(finite):
        assert numbers.mean == pytest.approx(finite.mean(), abs=1e-6, rel=1e-9)
        assert numbers.deviation == pytest.approx(finite.std(), abs=1e-5, rel=1e-6)


@given(
    st.sampled_from(["instruction_tokens", "instruct_reward", "min_neighbor_distance"]),
    st.lists(st.floats(-1e100, 1e100), max_size=50),
)
def test_histograms_have_few_bars_and_lose_no_value(name, values):
    numbers = np.abs(values) if "tokens" in name else np.array(values, float)
    edges = binning.edges_for(name, numbers)
    assert 2 <= len(edges) <= 50
    assert all(low < high for low, high in pairwise(edges))
    assert sum(binning.histogram(numbers, edges).counts) == len(values)


@pytest.mark.parametrize(
    ("name", "values", "first", "last"),
    [
        ("instruction_tokens", range(1, 101), 0, 100),
        ("instruct_reward", np.linspace(-10, 10, 1001), -10, 10),
        ("instruct_reward", np.linspace(0.08, 0.17, 500), 0.08, 0.17),
        ("instruct_reward", [5.0, 5.0], 4.5, 5.5),
        ("min_neighbor_distance", [0.1], 0, 1.2),
        ("turns", [1, 2], 0.5, 10.5),
    ],
)
def test_edges_are_where_the_values_are(name, values, first, last):
    edges = binning.edges_for(name, np.array(list(values), float))
    step = edges[1] - edges[0]
    assert edges[0] == pytest.approx(first, abs=step)
    assert edges[-1] == pytest.approx(last, abs=step)


def test_a_few_extreme_values_do_not_squeeze_the_others(tmp_path):
    rows = [row(n, instruct_reward=1e12 if n == 3 else n % 10) for n in range(400)]
    found = statistics_of("x", write_rows(tmp_path, rows))
    histogram = found.all.histograms["instruct_reward"]
    assert sum(count > 0 for count in histogram.counts) >= 10
    assert sum(histogram.counts) == 400


def test_values_on_an_edge_are_above_it():
    found = binning.histogram(np.array([0.0, 1.0, 1.0, 2.0, 9.0, -5.0]), (0.0, 1.0, 2.0))
    assert found.counts == (2, 4)


def test_both_rewards_share_their_edges(found):
    histograms = found.all.histograms
    assert histograms["instruct_reward"].edges == histograms["base_reward"].edges


def test_only_needed_columns_are_read(tmp_path, monkeypatch):
    asked = []
    original = pq.ParquetFile.iter_batches

    def listening(self, *arguments, **options):
        asked.append(options["columns"])
        return original(self, *arguments, **options)

    table = pa.table({"instruction": ["a"], "response": ["b"], "embedding": [[1.0] * 384]})
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "iter_batches", listening)
        statistics_of("x", write_table(tmp_path, table))
    assert asked == [["instruction", "response"]]


# Several responses


PAIRS = [pair_row(number) for number in range(120)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return statistics_of("pairs", write_rows(tmp_path_factory.mktemp("pairs"), PAIRS))


def of_all(rows, name, value=float):
    return np.array([value(each) for row_ in rows for each in row_[name]])


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("responses_tokens", "responses_tokens", float),
        ("responses_characters", "responses", len),
        ("responses_rewards", "responses_rewards", float),
    ],
)
def test_of_several_responses_every_one_is_counted(pairs, name, column, value):
    kept = [each for each in PAIRS if each["keep"]]
    for group, rows in ((pairs.all, PAIRS), (pairs.kept, kept)):
        values = of_all(rows, column, value)
        finite = values[np.isfinite(values)]
        numbers = group.numbers[name]
        assert (numbers.given, numbers.not_given) == (len(finite), len(values) - len(finite))
        assert numbers.mean == pytest.approx(finite.mean())
        assert numbers.deviation == pytest.approx(finite.std())
        assert (numbers.least, numbers.most) == (finite.min(), finite.max())
        assert group.quantiles[name] == pytest.approx(
            np.quantile(finite, (0.05, 0.25, 0.5, 0.75, 0.95))
        )
        assert sum(group.histograms[name].counts) == len(finite)


@pytest.mark.parametrize("name", ["chosen_score", "rejected_score", "score_margin"])
def test_a_pairs_scores_are_numbers_of_the_row(pairs, name):
    values = np.array([each[name] for each in PAIRS])
    assert pairs.all.numbers[name].given == len(PAIRS)
    assert pairs.all.numbers[name].mean == pytest.approx(values.mean())


def test_both_scores_of_pairs_share_their_edges(pairs):
    chosen, rejected = (pairs.all.histograms[f"{n}_score"] for n in ("chosen", "rejected"))
    assert chosen.edges == rejected.edges


def test_how_many_responses_rows_have_is_told(pairs, found, tmp_path):
    assert pairs.a_row == "4 to 5 a row"
    assert found.a_row == ""
    even = statistics_of("x", write_rows(tmp_path, PAIRS[::2]))
    assert even.a_row == "4 a row"
    assert even.all.numbers["responses"].total == 4 * len(PAIRS[::2])


def test_recorded_tokens_count_without_a_single_response(pairs, tmp_path):
    assert pairs.tokens_recorded
    assert pairs.all.numbers["instruction_tokens"].mean == np.mean(
        [each["instruction_tokens"] for each in PAIRS]
    )
    rows = [{n: v for n, v in each.items() if n != "responses_tokens"} for each in PAIRS]
    without = statistics_of("x", write_rows(tmp_path, rows))
    assert not without.tokens_recorded
    about = [math.ceil(len(text) / 4) for text in of_all(rows, "responses", str)]
    assert without.all.numbers["responses_tokens"].mean == pytest.approx(np.mean(about))


def test_a_row_to_show_has_its_first_response_and_their_number(pairs):
    shown = {example.instruction: example for example in pairs.examples}
    for each in PAIRS:
        if each["keep"]:
            example = shown[each["instruction"]]
            assert example.response == each["responses"][0]
            assert example.sampled == len(each["responses"])


def test_which_responses_are_sampled_does_not_depend_on_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "NUMBERS_SAMPLE", 50)
    small, large = (
        statistics_of("x", write_rows(tmp_path / str(group), PAIRS, group)) for group in (7, 1000)
    )
    assert small.all.histograms == large.all.histograms
    assert sum(small.all.histograms["responses_tokens"].counts) == 50
    assert small.all.numbers["responses_tokens"].given == sum(len(e["responses"]) for e in PAIRS)


@pytest.mark.parametrize(
    "lists",
    [
        pa.array([None, [], [None], ["", None]], pa.list_(pa.string())),
        pa.array(["a", "b", "c", "d"]),
        pa.array([[1], [2, 3], [], None]),
        pa.nulls(4),
        pa.array([[{"a": 1}], [], [], []]),
    ],
)
def test_lists_of_something_else_are_no_responses(tmp_path, lists):
    found = table_of(
        tmp_path,
        instruction=["a", "b", "c", "d"],
        keep=[True] * 4,
        drop_reason=[""] * 4,
        responses=lists,
        responses_tokens=pa.array(["x"] * 4),
        responses_rewards=pa.array([[float("nan"), 1e300], None, [None], []]),
        score_margin=pa.array(["x"] * 4),
    )
    assert found.a_row == ""
    for name in ("responses_characters", "responses_tokens", "responses_rewards", "score_margin"):
        assert found.all.number(name).given == 0, name
