"""Prompts of given datasets, whatever their form, and clear words for what cannot be read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from magpie_steps.prompt_sets import COLUMNS, named, prompt_of, prompts_of

ASKED = ["What is 2 + 3?", "Wie spät ist es?", "写一首诗"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(path, column, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: values, "answer": ["x"] * len(values)}), path)
    return str(path)


@pytest.mark.parametrize("column", [*COLUMNS[:5], "input", "text", "Question", "PROMPT"])
def test_prompts_are_read_from_every_kind_of_file(column, tmp_path):
    rows = [{column: text, "answer": "x"} for text in ASKED]
    files = [
        table(tmp_path / "a.parquet", column, ASKED),
        write(tmp_path / "a.jsonl", lines(rows)),
        write(tmp_path / "a.json", json.dumps(rows, indent=1)),
        write(tmp_path / "lines.json", lines(rows)),
        write(tmp_path / "a.csv", f"answer,{column}\n" + "".join(f'x,"{t}"\n' for t in ASKED)),
        write(tmp_path / "a.tsv", f"answer\t{column}\n" + "".join(f"x\t{t}\n" for t in ASKED)),
    ]
    assert [list(prompts_of(path)) for path in files] == [ASKED] * len(files)


def test_a_text_file_has_a_prompt_a_line_and_a_list_may_hold_texts(tmp_path):
    text = write(tmp_path / "a.txt", "\ufeff" + "\n\n".join(ASKED) + "\n")
    assert [prompt.strip() for prompt in prompts_of(text)] == ASKED
    assert list(prompts_of(write(tmp_path / "a.json", json.dumps(ASKED)))) == ASKED


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}],
        [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello!"}],
        [{"content": "Hi?"}],
        ["Hi?", "And then?"],
        [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}],
        [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Hi?"}, 7]}],
        [
            {"role": "system", "content": [{"text": "Be brief."}]},
            {"role": "user", "content": "Hi?"},
        ],
    ],
)
@pytest.mark.parametrize("column", ["prompt", "conversations", "conversation", "messages", "turns"])
def test_of_a_conversation_the_first_user_message_counts(column, value):
    assert prompt_of({column: value}) == "Hi?"


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"prompt": None},
        {"prompt": 7},
        {"prompt": float("nan")},
        {"prompt": " \n"},
        {"messages": []},
        {"messages": [None, 3, {"role": "assistant", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"text": 3}, None]}]},
        {"messages": [{"role": "user", "content": {"text": "Hi?"}}]},
        {"messages": {"role": "user", "content": "Hi?"}},
        {"other": "Hi?"},
        {None: ["a"]},
    ],
)
def test_rows_without_a_prompt_have_an_empty_one(row):
    assert prompt_of(row) == ""


def test_an_empty_column_gives_way_to_the_next_one():
    assert prompt_of({"instruction": "", "prompt": None, "question": "Why?"}) == "Why?"


def test_a_row_without_a_prompt_keeps_its_number(tmp_path):
    path = write(tmp_path / "a.jsonl", lines([{"prompt": "Hi?"}, {"prompt": None}, {"x": 1}]))
    assert list(prompts_of(path)) == ["Hi?", "", ""]


def test_a_folder_is_read_whole_its_parquet_files_first(tmp_path):
    write(tmp_path / "set" / "b.jsonl", lines([{"prompt": "b"}]))
    write(tmp_path / "set" / "a.csv", "prompt\na\n")
    write(tmp_path / "set" / "README.md", "# Not read\n")
    assert list(prompts_of(str(tmp_path / "set"))) == ["a", "b"]
    table(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", "question", ["c", "d"])
    assert list(prompts_of(str(tmp_path / "set"))) == ["c", "d"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"prompt": "Hi?"}\n{"prompt": ', "cannot be read as jsonl"),
        ("a.json", "[1, 2", "cannot be read as json"),
        ("a.json", '{\n"prompt": "Hi?"\n}', "cannot be read as json"),
        ("a.parquet", "PAR1", "cannot be read as parquet"),
        ("a.xlsx", "x", "give a file that ends in .parquet, .jsonl"),
        ("a.jsonl", '{"id": 1, "body": "Hi?"}', "its columns are id, body; rename the one"),
        ("a.csv", "", "its columns are none"),
        ("a.jsonl", '{"prompt": " "}', "has no prompts"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_file_and_a_remedy(name, text, words, tmp_path):
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match=words) as error:
        list(prompts_of(path))
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_a_parquet_file_without_prompts_tells_its_columns(tmp_path):
    path = table(tmp_path / "a.parquet", "body", ["Hi?"])
    with pytest.raises(ValueError, match="its columns are body, answer"):
        list(prompts_of(path))


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00Hi")
    with pytest.raises(ValueError, match=r"a\.txt cannot be read as txt"):
        list(prompts_of(str(tmp_path / "a.txt")))


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl"):
        list(prompts_of(str(tmp_path / "nothing.jsonl")))
    with pytest.raises(FileNotFoundError, match="has no files that end in"):
        list(prompts_of(str(tmp_path)))


def test_names_are_as_short_as_they_differ(tmp_path):
    gsm, mmlu = (write(tmp_path / name / "test.jsonl", "") for name in ("gsm", "mmlu"))
    other, folder = write(tmp_path / "quiz.v1.csv", ""), tmp_path / "set-1.0"
    folder.mkdir()
    found = named([gsm, mmlu, other, str(folder), "openai/gsm8k", gsm])
    assert found == {
        "gsm/test": gsm,
        "mmlu/test": mmlu,
        "quiz.v1": other,
        "set-1.0": str(folder),
        "openai/gsm8k": "openai/gsm8k",
    }
    assert named([]) == {}
