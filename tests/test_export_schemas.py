"""Whether exports look to a reader as the published datasets do."""

import json
import math
import re

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from magpie_steps import columns, shards
from magpie_steps.conversation import turn_columns
from magpie_steps.export_schemas import default_folder, export_dataset
from magpie_steps.filtering import filter_files
from magpie_steps.recipes import Recipe
from magpie_steps.row_schemas import MAGPIE_ALIGN, MAGPIE_ULTRA, schema_of
from magpie_steps.rules import IsTrue, LevelAtLeast, NotRepeated, NumberAbove, NumberAtLeast, OneOf
from magpie_steps.shards import ShardWriter

ALIGN = [
    ("uuid", "string"),
    ("model", "string"),
    (
        "gen_input_configs",
        "struct<temperature: double, top_p: double, input_generator: string, seed: null,"
        " pre_query_template: string>",
    ),
    ("instruction", "string"),
    ("response", "string"),
    ("conversations", "list<element: struct<from: string, value: string>>"),
    ("task_category", "string"),
    ("other_task_category", "list<element: string>"),
    ("task_category_generator", "string"),
    ("difficulty", "string"),
    ("intent", "string"),
    ("knowledge", "string"),
    ("difficulty_generator", "string"),
    ("input_quality", "string"),
    ("quality_explanation", "string"),
    ("quality_generator", "string"),
    ("llama_guard_2", "string"),
    ("reward_model", "string"),
    ("instruct_reward", "double"),
    ("min_neighbor_distance", "double"),
    ("repeat_count", "int64"),
    ("min_similar_uuid", "string"),
    ("instruction_length", "int64"),
    ("response_length", "int64"),
    ("language", "string"),
]
"""The columns of Magpie-Align's cards, from Qwen2 on."""

ULTRA = [
    ("model_name_response_base", "string"),
    ("instruction", "string"),
    ("response", "string"),
    ("response_base", "string"),
    ("intent", "string"),
    ("knowledge", "string"),
    ("difficulty", "string"),
    ("model_name_difficulty", "string"),
    ("explanation", "string"),
    ("quality", "string"),
    ("model_name_quality", "string"),
    ("primary_tag", "string"),
    ("other_tags", "list<element: string>"),
    ("model_name_classification", "string"),
    ("embedding", "list<element: double>"),
    ("model_name_embeddings", "string"),
    ("score", "double"),
    ("score_base", "double"),
    ("distilabel_metadata", "struct<raw_output_chat_generation_0: string>"),
    ("nn_indices", "list<element: int64>"),
    ("nn_scores", "list<element: double>"),
    ("messages", "list<element: struct<content: string, role: string>>"),
    ("guard", "string"),
    ("model_name_guard", "string"),
    ("safe", "bool"),
    ("hazard_category", "string"),
    ("score_difference", "double"),
]
"""The columns of Magpie Ultra v0.1's card."""


def messages(*texts, system=""):
    roles = ["user", "assistant"] * len(texts)
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [*([{"role": "system", "content": system}] if system else []), *said]


def row(number, **changes):
    return {
        **columns.empty_row(),
        "uuid": f"id-{number}",
        "model": "m",
        "instruction": f"Ask {number}?",
        "response": "Answer.",
        "messages": messages(f"Ask {number}?", "Answer."),
        "keep": True,
        **changes,
    }


GUARD_2, GUARD_3 = "meta-llama/Meta-Llama-Guard-2-8B", "meta-llama/Llama-Guard-3-8B"

FULL = row(
    0,
    gen_input_configs={
        "temperature": 1.0,
        "top_p": 0.995,
        "min_p": 0.0,
        "top_k": 0,
        "max_new_tokens": 512,
        "seed": 7,
        "pre_query_template": "<|user|>\n",
        "input_generator": "m",
    },
    gen_base_configs={**columns.empty_row()["gen_base_configs"], "base_generator": "base"},
    base_response="So so.",
    task_category="Math",
    other_task_category=["Reasoning"],
    task_category_generator="tagger",
    difficulty="hard",
    intent="to know",
    knowledge="sums",
    difficulty_generator="tagger",
    input_quality="good",
    quality_explanation="clear",
    quality_generator="tagger",
    safe=False,
    unsafe_categories=["privacy"],
    guard_raw="\n\nunsafe\nS7,S2",
    guard_generator=GUARD_2,
    language="EN",
    min_neighbor_distance=0.25,
    repeat_count=0,
    reward_model="rm",
    instruct_reward=-1.5,
    base_reward=-2.0,
    reward_difference=0.5,
)


def write(folder, rows, types):
    with ShardWriter(folder, types) as writer:
        for each in rows:
            writer.write(each)


def dataset(folder, *rows, card=""):
    """Write rows as a run does, and a card if one is given."""
    turns = max(len(each["messages"]) // 2 for each in rows) if rows else 1
    names = [*columns.NAMES, *turn_columns((), turns)]
    types = {name: columns.described(name).type for name in names}
    whole = [{**each, **turn_columns(list(filter(None, each["messages"])), turns)} for each in rows]
    write(folder / "data", whole, types)
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return str(folder)


def exported(tmp_path, schema, *rows, **options):
    export_dataset(dataset(tmp_path / "run", *rows), schema, tmp_path / "out", **options)
    return pq.read_table(tmp_path / "out" / "data").to_pylist()


def file_schema(folder):
    return pq.read_schema(next((folder / "data").glob("*.parquet")))


# Columns


@pytest.mark.parametrize(("name", "published"), [("magpie-align", ALIGN), ("magpie-ultra", ULTRA)])
@pytest.mark.parametrize("rows", [[FULL], [row(1)], [FULL, row(1)]])
def test_columns_and_types_are_the_published_ones_in_their_order(tmp_path, name, published, rows):
    exported(tmp_path, name, *rows)
    schema = file_schema(tmp_path / "out")
    assert [(field.name, str(field.type)) for field in schema] == published


def test_there_are_25_columns_of_magpie_align():
    assert len(ALIGN) == 25


@pytest.mark.parametrize(("name", "published"), [("magpie-align", ALIGN), ("magpie-ultra", ULTRA)])
def test_a_dataset_with_few_columns_has_the_published_ones_all_the_same(tmp_path, name, published):
    names = ("uuid", "instruction", "keep", "drop_reason")
    types = {each: columns.described(each).type for each in names}
    write(tmp_path / "run" / "data", [row(0)], types)
    export_dataset(str(tmp_path / "run"), name, tmp_path / "out")
    assert [(f.name, str(f.type)) for f in file_schema(tmp_path / "out")] == published
    (only,) = pq.read_table(tmp_path / "out" / "data").to_pylist()
    known = {name: value for name, value in only.items() if value is not None}
    conversation = {
        "magpie-align": {"conversations": [{"from": "human", "value": "Ask 0?"}]},
        "magpie-ultra": {"messages": [{"content": "Ask 0?", "role": "user"}]},
    }[name]
    lengths = {"instruction_length": 6, "response_length": 0} if name == "magpie-align" else {}
    ids = {"uuid": "id-0"} if name == "magpie-align" else {}
    assert known == {**ids, "instruction": "Ask 0?", **conversation, **lengths}


# Values


def test_a_full_row_in_magpie_aligns_columns(tmp_path):
    (found,) = exported(tmp_path, "magpie-align", FULL)
    assert found == {
        "uuid": "id-0",
        "model": "m",
        "gen_input_configs": {
            "temperature": 1.0,
            "top_p": 0.995,
            "input_generator": "m",
            "seed": None,
            "pre_query_template": "<|user|>\n",
        },
        "instruction": "Ask 0?",
        "response": "Answer.",
        "conversations": [
            {"from": "human", "value": "Ask 0?"},
            {"from": "gpt", "value": "Answer."},
        ],
        "task_category": "Math",
        "other_task_category": ["Reasoning"],
        "task_category_generator": "tagger",
        "difficulty": "hard",
        "intent": "to know",
        "knowledge": "sums",
        "difficulty_generator": "tagger",
        "input_quality": "good",
        "quality_explanation": "clear",
        "quality_generator": "tagger",
        "llama_guard_2": "unsafe\nS7,S2",
        "reward_model": "rm",
        "instruct_reward": -1.5,
        "min_neighbor_distance": 0.25,
        "repeat_count": 0,
        "min_similar_uuid": None,
        "instruction_length": 6,
        "response_length": 7,
        "language": "EN",
    }


def test_a_full_row_in_magpie_ultras_columns(tmp_path):
    (found,) = exported(tmp_path, "magpie-ultra", FULL)
    assert found == {
        "model_name_response_base": "base",
        "instruction": "Ask 0?",
        "response": "Answer.",
        "response_base": "So so.",
        "intent": "to know",
        "knowledge": "sums",
        "difficulty": "hard",
        "model_name_difficulty": "tagger",
        "explanation": "clear",
        "quality": "good",
        "model_name_quality": "tagger",
        "primary_tag": "Math",
        "other_tags": ["Reasoning"],
        "model_name_classification": "tagger",
        "embedding": None,
        "model_name_embeddings": None,
        "score": -1.5,
        "score_base": -2.0,
        "distilabel_metadata": {"raw_output_chat_generation_0": "\n\nunsafe\nS7,S2"},
        "nn_indices": None,
        "nn_scores": None,
        "messages": [
            {"content": "Ask 0?", "role": "user"},
            {"content": "Answer.", "role": "assistant"},
        ],
        "guard": "\n\nunsafe\nS7,S2",
        "model_name_guard": GUARD_2,
        "safe": False,
        "hazard_category": None,
        "score_difference": 0.5,
    }


def test_what_a_row_has_not_is_null(tmp_path):
    (found,) = exported(tmp_path, "magpie-align", row(1))
    texts = ("uuid", "model", "instruction", "response", "conversations")
    lengths = ("instruction_length", "response_length")
    configs = found.pop("gen_input_configs")
    assert set(configs.values()) == {None}
    assert {name for name, value in found.items() if value is not None} == {*texts, *lengths}


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_is_null(tmp_path, reward):
    (found,) = exported(tmp_path, "magpie-align", row(0, instruct_reward=reward))
    assert found["instruct_reward"] is None
    (found,) = exported(tmp_path, "magpie-ultra", row(0, base_reward=reward))
    assert found["score_base"] is None


def test_a_count_of_repeats_needs_a_comparison(tmp_path):
    rows = [row(0, repeat_count=0, min_neighbor_distance=0.0), row(1, repeat_count=0)]
    found = exported(tmp_path, "magpie-align", *rows)
    assert [each["repeat_count"] for each in found] == [0, None]


def test_no_other_categories_are_an_empty_list_of_a_row_with_a_category(tmp_path):
    found = exported(tmp_path, "magpie-align", row(0, task_category="Math"), row(1))
    assert [each["other_task_category"] for each in found] == [[], None]


@pytest.mark.parametrize(
    ("answer", "verdict", "safe", "hazard"),
    [
        ("safe", "safe", True, None),
        ("\n\nSafe", "safe", True, None),
        ("unsafe\nS1", "unsafe\nS1", False, "S1"),
        ("\n\nunsafe\nS10,S2\n", "unsafe\nS10,S2", False, "S10"),
        ("unsafe", "unsafe", False, None),
        ("I cannot tell", None, None, None),
        ("", None, None, None),
    ],
)
def test_verdicts_are_written_as_llama_guard_writes_them(tmp_path, answer, verdict, safe, hazard):
    judged = row(0, guard_raw=answer, guard_generator=GUARD_2)
    (found,) = exported(tmp_path / "a", "magpie-align", judged)
    assert found["llama_guard_2"] == verdict
    judged = row(0, guard_raw=answer, guard_generator=GUARD_3)
    (found,) = exported(tmp_path / "u", "magpie-ultra", judged)
    assert (found["safe"], found["hazard_category"]) == (safe, hazard)
    assert found["guard"] == (answer or None)


@pytest.mark.parametrize(
    ("guard", "release"),
    [
        (GUARD_2, 2),
        ("META-LLAMA/meta-llama-guard-2-8b", 2),
        ("Meta-Llama-Guard-2-8B", 2),
        ("Llama-Guard-2", 2),
        ("/models/Llama-Guard-2-8B/", 2),
        (GUARD_3, 3),
        ("meta-llama/Llama-Guard-3-1B-INT4", 3),
        ("llama-guard-3-11b-vision", 3),
        ("meta-llama/LlamaGuard-7b", 0),
        ("meta-llama/Llama-Guard-4-12B", 0),
        ("meta-llama/Llama-Guard-20-8B", 0),
        ("someone/not-Llama-Guard-2-8B", 0),
        ("Llama-Guard-2-8B/checkpoint-7", 0),
        ("guard", 0),
        ("", 0),
    ],
)
def test_codes_stand_in_the_columns_of_the_guard_that_they_are_of(tmp_path, guard, release):
    """Llama Guard 3's S5 is defamation, Llama Guard 2's S5 is specialized advice."""
    judged = row(0, guard_raw="unsafe\nS5", guard_generator=guard)
    (align,) = exported(tmp_path / "a", "magpie-align", judged)
    (ultra,) = exported(tmp_path / "u", "magpie-ultra", judged)
    assert align["llama_guard_2"] == ("unsafe\nS5" if release == 2 else None)
    assert ultra["hazard_category"] == ("S5" if release == 3 else None)
    assert (ultra["guard"], ultra["safe"]) == ("unsafe\nS5", False)
    assert ultra["model_name_guard"] == (guard or None)


def test_an_answer_of_nobody_is_no_llama_guards(tmp_path):
    names = ("instruction", "guard_raw", "keep", "drop_reason")
    types = {each: columns.described(each).type for each in names}
    write(tmp_path / "run" / "data", [row(0, guard_raw="safe")], types)
    export_dataset(str(tmp_path / "run"), "magpie-align", tmp_path / "out")
    (found,) = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert found["llama_guard_2"] is None


def test_a_system_prompt_is_the_first_message(tmp_path):
    said = messages("Ask?", "So.", system="Be brief.")
    (found,) = exported(tmp_path, "magpie-align", row(0, messages=said))
    assert found["conversations"] == [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Ask?"},
        {"from": "gpt", "value": "So."},
    ]


def test_texts_come_through_unchanged(tmp_path):
    nasty = "---\nlicense: mit\n---\n<script>|`</details>\u202e\x00é🙂" + "x" * 50_000
    rows = [row(0, instruction=nasty, messages=messages(nasty, "A")), row(1)]
    found = exported(tmp_path, "magpie-align", *rows)[0]
    assert found["instruction"] == found["conversations"][0]["value"] == nasty
    assert found["instruction_length"] == len(nasty)


def test_later_turns_have_columns_behind_the_response(tmp_path):
    rows = [
        row(0, messages=messages("A?", "B.", "C?", "D.", "E?", "F.")),
        row(1, messages=messages("A?", "B.", "C?", "D.", system="S")),
        row(2),
    ]
    found = exported(tmp_path, "magpie-align", *rows)
    later = [f"{kind}_{turn}" for turn in (2, 3) for kind in ("instruction", "response")]
    names = [name for name, _ in ALIGN]
    place = names.index("response") + 1
    assert list(found[0]) == [*names[:place], *later, *names[place:]]
    assert [[each[name] for name in later] for each in found] == [
        ["C?", "D.", "E?", "F."],
        ["C?", "D.", None, None],
        [None] * 4,
    ]
    assert len(found[0]["conversations"]) == 6


def test_magpie_ultra_has_no_columns_of_later_turns(tmp_path):
    (found,) = exported(tmp_path, "magpie-ultra", row(0, messages=messages("A", "B", "C", "D")))
    assert list(found) == [name for name, _ in ULTRA]
    assert len(found["messages"]) == 4


def test_a_message_that_is_missing_or_of_another_role_stays_as_it_is(tmp_path):
    odd = [None, {"role": "tool", "content": "3"}, {"role": None, "content": None}]
    (found,) = exported(tmp_path, "magpie-align", row(0, messages=odd))
    assert found["conversations"] == [
        None,
        {"from": "tool", "value": "3"},
        {"from": None, "value": None},
    ]


# Rows


def test_rows_that_are_not_kept_are_left_out_and_counted(tmp_path):
    rows = [
        row(0),
        row(1, keep=False, drop_reason="recipe_quality"),
        row(2, keep=False, drop_reason="recipe_quality"),
        row(3, keep=False, drop_reason=""),
        row(4),
    ]
    source = dataset(tmp_path / "run", *rows)
    counts = export_dataset(source, "magpie-align", tmp_path / "out")
    assert (counts.read, counts.written) == (5, 2)
    assert counts.left_out == {"recipe_quality": 2, "no_reason_given": 1}
    found = pq.read_table(tmp_path / "out" / "data").column("uuid").to_pylist()
    assert found == ["id-0", "id-4"]
    assert ("rows written", "2") in counts.lines()
    counts = export_dataset(source, "magpie-align", tmp_path / "out", kept_only=False)
    assert (counts.read, counts.written, counts.left_out) == (5, 5, {})


@pytest.mark.parametrize("name", ["magpie-align", "magpie-ultra"])
def test_rows_are_the_same_whatever_the_batches(tmp_path, monkeypatch, name):
    rows = [FULL, row(1), row(2, guard_raw="safe", messages=[]), row(3, keep=False)] * 20
    whole = exported(tmp_path / "a", name, *rows)
    monkeypatch.setattr("magpie_steps.filtering.files.BATCH_ROWS", 7)
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 25)
    assert exported(tmp_path / "b", name, *rows) == whole
    assert len(list((tmp_path / "b" / "out" / "data").iterdir())) == 3


def test_no_row_is_no_file_and_no_configuration(tmp_path):
    source = dataset(tmp_path / "run", row(0, keep=False, drop_reason="engine_error"))
    counts = export_dataset(source, "magpie-ultra", tmp_path / "out")
    assert (counts.read, counts.written) == (1, 0)
    assert not (tmp_path / "out" / "data").exists()
    assert DatasetCard.load(tmp_path / "out" / "README.md").data.configs == []


# The folder


@pytest.mark.parametrize(("name", "published"), [("magpie-align", ALIGN), ("magpie-ultra", ULTRA)])
def test_datasets_opens_the_folder(tmp_path, name, published):
    expected = exported(tmp_path, name, FULL, row(1))
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)
    assert loaded.column_names == [each for each, _ in published]
    assert loaded.to_list() == expected


@pytest.mark.parametrize(
    ("matter", "expected"),
    [
        ("license: llama3.1\nlanguage:\n- en\n", {"license": "llama3.1", "language": ["en"]}),
        (
            "license: other\nlicense_name: qwen\nlicense_link: https://x.y/z\n",
            {"license": "other", "license_name": "qwen", "license_link": "https://x.y/z"},
        ),
        ("pretty_name: none\n", {}),
    ],
)
def test_the_card_takes_the_licence_from_the_source(tmp_path, matter, expected):
    source = dataset(tmp_path / "run", row(0), card=f"---\n{matter}---\n# Title\n")
    export_dataset(source, "magpie-align", tmp_path / "out")
    found = DatasetCard.load(tmp_path / "out" / "README.md")
    names = ("license", "license_name", "license_link", "language")
    assert {k: v for k, v in found.data.to_dict().items() if k in names} == expected
    assert ("names no licence" in found.text) is not bool(expected)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("magpie-align", "`llama_guard_2` holds verdicts of Llama Guard 2 alone"),
        ("magpie-ultra", "`hazard_category` holds codes of Llama Guard 3 alone"),
    ],
)
def test_the_card_takes_what_the_licence_asks_for_and_says_whose_codes_there_are(
    tmp_path, schema, said
):
    asks = 'What the models wrote is under: [Llama](https://x.y/). It shows "Built with Llama".'
    matter = f"---\nlicense: llama3.1\n---\n# Title\n\n## Licence\n\n{asks}\n\n## Citation\n\nNo.\n"
    source = dataset(tmp_path / "run", row(0), card=matter)
    export_dataset(source, schema, tmp_path / "out")
    text = DatasetCard.load(tmp_path / "out" / "README.md").text
    assert text.endswith(f"## Licence\n\n> {asks}\n")
    assert said in text


def test_a_card_that_cannot_be_read_is_an_error(tmp_path):
    source = dataset(tmp_path / "run", row(0), card="---\nlicense: [\n---\n")
    with pytest.raises(ValueError, match=r"README\.md is not valid YAML.*move the file away"):
        export_dataset(source, "magpie-align", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_card_and_the_record_say_what_was_exported(tmp_path):
    source = dataset(tmp_path / "run", row(0), row(1, keep=False, drop_reason="response_empty"))
    export_dataset(source, "magpie-ultra", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "argilla/magpie-ultra-v0.1" in text
    assert "| rows read | 2 |" in text
    assert "| rows written | 1 |" in text
    assert "| response_empty | 1 |" in text
    assert DatasetCard(text).data.size_categories == ["n<1K"]
    assert json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8")) == {
        "dataset": "run",
        "schema": "magpie-ultra",
        "kept_only": True,
        "counts": {"read": 2, "written": 1, "left_out": {"response_empty": 1}},
    }


def test_hostile_names_and_reasons_do_not_change_the_card(tmp_path):
    name = "x` <script>\u202e---"
    reason = "| a\n\n# Title\n---\n<script>"
    source = dataset(tmp_path / name, row(0), row(1, keep=False, drop_reason=reason))
    export_dataset(source, "magpie-align", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    body = DatasetCard(text).text
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert len(headings) == 3
    assert headings[1:] == ["## Counts", "## Licence"]
    outside_code = re.sub(r"`[^`]*`", "", body)
    assert "\u202e" not in body
    assert "<script>" not in outside_code
    assert "\n---" not in outside_code


def test_a_later_export_replaces_an_earlier_one_and_nothing_else(tmp_path):
    source = dataset(tmp_path / "run", row(0), row(1))
    export_dataset(source, "magpie-align", tmp_path / "out")
    export_dataset(source, "magpie-ultra", tmp_path / "out")
    assert file_schema(tmp_path / "out").names == [name for name, _ in ULTRA]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"no export\.json.*not an export's output"):
        export_dataset(source, "magpie-ultra", tmp_path / "mine")


def test_an_export_does_not_read_its_own_output(tmp_path):
    dataset(tmp_path / "run", row(0))
    (tmp_path / "run" / "export.json").write_text("{}")
    with pytest.raises(ValueError, match="the output folder; choose another folder"):
        export_dataset(str(tmp_path / "run"), "magpie-align", tmp_path / "run")


def test_an_export_goes_beside_the_dataset(tmp_path):
    source = dataset(tmp_path / "run", row(0))
    assert default_folder(source, "magpie-align") == tmp_path / "run-magpie-align"
    file = str(tmp_path / "run" / "data" / "train-00000-of-00001.parquet")
    assert default_folder(file, "x").name == "train-00000-of-00001-x"
    assert str(default_folder("someone/dataset", "magpie-ultra")) == "dataset-magpie-ultra"


# Mistakes


def test_an_unknown_schema_is_an_error_that_lists_them(tmp_path):
    source = dataset(tmp_path / "run", row(0))
    with pytest.raises(ValueError, match="no schema 'ultra'; there are magpie-align, magpie-ultra"):
        export_dataset(source, "ultra", tmp_path / "out")


@pytest.mark.parametrize("name", ["magpie-align", "magpie-ultra"])
def test_a_published_dataset_is_not_exported_again(tmp_path, name):
    exported(tmp_path, name, FULL)
    with pytest.raises(ValueError, match="only a dataset of magpie_steps is exported"):
        export_dataset(str(tmp_path / "out"), "magpie-align", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("instruct_reward", ["high"], "instruct_reward: it holds string, not numbers"),
        ("difficulty", [3], "difficulty: it holds int64, not texts"),
        ("messages", ["hi"], "messages: it holds string, not messages"),
        (
            "messages",
            [[{"from": "human", "value": "hi"}]],
            "messages: it holds list.*, not messages",
        ),
        (
            "messages",
            [{"role": "user", "content": "hi"}],
            "messages: it holds struct.*, not messages",
        ),
        ("other_task_category", [{"a": 1}], "other_task_category"),
    ],
)
def test_columns_of_other_types_are_refused(tmp_path, column, values, message):
    given = pa.table(
        {"instruction": ["a"], "keep": [True], "drop_reason": [""], column: pa.array(values)}
    )
    (tmp_path / "run").mkdir()
    pq.write_table(given, tmp_path / "run" / "a.parquet")
    with pytest.raises(ValueError, match=message):
        export_dataset(str(tmp_path / "run"), "magpie-align", tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()


# What this package makes of its own exports


@pytest.mark.parametrize(
    ("name", "expected"), [("magpie-align", MAGPIE_ALIGN), ("magpie-ultra", MAGPIE_ULTRA)]
)
def test_exports_are_recognised_and_filtered_like_the_rows(tmp_path, name, expected):
    rows = [
        {
            **FULL,
            "uuid": f"id-{i}",
            "difficulty": ("easy", "hard", "")[i % 3],
            "task_category": ("Math", "Editing")[i % 2],
            "instruct_reward": (math.nan, -20.0, 1.0, 3.0)[i % 4],
            "guard_raw": ("safe", "unsafe\nS1", "")[i % 3],
            "guard_generator": GUARD_2,
            "safe": i % 3 == 0,
            "min_neighbor_distance": 0.01 * i,
            "min_similar_uuid": ("", "id-3", f"id-{i}")[i % 3],
        }
        for i in range(24)
    ]
    source = dataset(tmp_path / "run", *rows)
    export_dataset(source, name, tmp_path / "out")
    paths = sorted((tmp_path / "out" / "data").iterdir())
    assert schema_of(pq.read_schema(paths[0]).names) is expected
    rules = [
        LevelAtLeast("difficulty", "easy"),
        NumberAtLeast("instruct_reward", 0.5),
        OneOf("task_category", ("Math",)),
        IsTrue("safe"),
    ]
    if expected is MAGPIE_ALIGN:  # Ultra's neighbours are row numbers, which our rows do not have
        rules += [NotRepeated(), NumberAbove("min_neighbor_distance", 0.05)]
    for rule in rules:
        recipe = Recipe("one", (rule,))
        ours = filter_files(sorted((tmp_path / "run" / "data").iterdir()), recipe, tmp_path / "a")
        theirs = filter_files(paths, recipe, tmp_path / "b")
        assert (theirs.kept, theirs.removed) == (ours.kept, ours.removed)
        assert 0 < ours.kept < 24
