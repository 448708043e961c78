"""What a dataset repeats and what it tells of people, counted over parquet files."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from magpie_steps.report import contamination as module
from magpie_steps.report.contamination import (
    EXAMPLES,
    NEAR,
    SHOWN_CHARACTERS,
    Contamination,
    contamination,
    shortened,
)

PROMPT = "Natalia sold clips to 48 of her friends in April and then half as many in May."
MOST = " ".join(PROMPT.split()[:9])
HALF = " ".join(PROMPT.split()[:8])
REWORDED = "In April, Natalia sold clips to 48 friends of hers; then in May she sold half as many."


def dataset(path, instructions, *, keep=None, responses=None):
    keep = keep or [True] * len(instructions)
    columns = {
        "instruction": pa.array(instructions, pa.string()),
        "response": pa.array(responses or ["Sure."] * len(instructions), pa.string()),
        "keep": keep,
        "drop_reason": ["" if each else "too_bad" for each in keep],
    }
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def prompts(path, texts):
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    return str(path)


def test_rows_that_repeat_prompts_are_counted_by_set(tmp_path):
    rows = [PROMPT, f"So: {PROMPT}", MOST, HALF, None, "", PROMPT.upper(), "Hello there"]
    keep = [True, False, True, True, True, True, False, True]
    path = dataset(tmp_path / "a.parquet", rows, keep=keep)
    exam = prompts(tmp_path / "exam.jsonl", ["Hi?", PROMPT, None])
    public = prompts(tmp_path / "public.jsonl", ["hello THERE!"])
    found = contamination([path], [], evaluation=[exam], known=[public])
    assert (found.rows, found.without) == (8, 2)
    first, second = found.sets
    assert (first.name, first.known, first.prompts, first.empty) == ("exam", False, 2, 1)
    assert (first.rows, first.kept, first.equal, first.complete) == (4, 2, 2, True)
    assert (second.name, second.known, second.rows, second.equal) == ("public", True, 1, 1)
    assert second.examples[0].prompt == "hello THERE!"


def test_examples_are_those_that_repeat_most_with_their_prompts(tmp_path):
    long = f"{PROMPT} " + "tell me more about all of this please " * 30
    path = dataset(tmp_path / "a.parquet", [MOST, HALF, long, PROMPT, "x", PROMPT])
    (found,) = contamination(
        [path], [], evaluation=[prompts(tmp_path / "exam.jsonl", ["-", PROMPT])]
    ).sets
    assert [each.row for each in found.examples] == [2, 3, 5]
    assert len(found.examples) == EXAMPLES < found.rows
    assert all(each.prompt == PROMPT and each.share == 1.0 for each in found.examples)
    assert len(found.examples[0].instruction) == SHOWN_CHARACTERS + 1


def test_rows_are_numbered_over_all_files(tmp_path):
    paths = [dataset(tmp_path / f"{n}.parquet", ["a", "b", "c", "d"]) for n in range(2)]
    last = dataset(tmp_path / "2.parquet", ["e", PROMPT])
    exam = prompts(tmp_path / "exam.jsonl", [PROMPT])
    found = contamination([*paths, last], [], evaluation=[exam])
    assert found.rows == 10
    assert found.sets[0].examples[0].row == 9


def test_embeddings_find_what_is_said_in_other_words(tmp_path):
    """The share is that of a plain count over all pairs of unit vectors."""
    from magpie_steps.engines.embedder import Embedder

    sample = [PROMPT, REWORDED, "What is the capital of France?", ""]
    asked = [PROMPT, "Name a prime number.", " "]
    path = dataset(tmp_path / "a.parquet", sample)
    exam = prompts(tmp_path / "exam.jsonl", asked)
    found = contamination([path], sample, evaluation=[exam]).sets[0]
    embedder = Embedder()
    embedder.load()
    ours, theirs = embedder.embed(sample), embedder.embed(asked)
    nearest = [max(float(np.dot(one, two)) for two in theirs) for one in ours]
    assert found.near.rows == sum(each >= NEAR for each in nearest)
    assert (found.near.of_rows, found.near.of_prompts) == (4, 3)
    assert found.near.rows >= 1
    assert found.rows == 1


def test_only_the_first_of_a_large_set_are_compared_and_a_sample_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_PROMPTS", 20)
    monkeypatch.setattr(module, "SAMPLE", 5)
    texts = [f"prompt number {number}" for number in range(50)]
    path = dataset(tmp_path / "a.parquet", ["prompt number 19", "prompt number 20"])
    exam = prompts(tmp_path / "exam.jsonl", texts)
    one, two, other = (
        contamination([path], texts, evaluation=[exam], seed=seed).sets[0] for seed in (0, 0, 1)
    )
    assert (one.prompts, one.complete, one.rows) == (20, False, 1)
    assert (one.near.of_rows, one.near.of_prompts) == (5, 5)
    assert one == two
    assert other.prompts == 20


def test_a_sample_of_prompts_is_even(tmp_path, monkeypatch):
    """Each of 20 prompts is in a sample of 5 with probability 1/4, whatever its place."""
    monkeypatch.setattr(module, "SAMPLE", 5)
    exam = prompts(tmp_path / "exam.jsonl", [str(number) for number in range(20)])
    counts = np.zeros(20)
    for seed in range(400):
        source = module._Source(exam, seed)
        assert len(list(source.prompts())) == 20
        assert len(set(source.sample)) == 5
        counts[[int(each) for each in source.sample]] += 1
    # Binomial(400, 1/4) has a deviation of 8.7; five of them are passed once in 90,000 runs.
    assert np.abs(counts - 100).max() < 44


def test_a_set_that_is_given_as_both_is_an_evaluation_set(tmp_path):
    path = dataset(tmp_path / "a.parquet", ["Hi?"])
    exam = prompts(tmp_path / "exam.jsonl", ["Hi?"])
    (found,) = contamination([path], [], evaluation=[exam], known=[exam]).sets
    assert not found.known


def test_personal_data_are_counted_by_rows_and_shown_masked(tmp_path):
    told = ["mail jane@acme.com or bob@acme.com", "call (415) 867-5309", "user@example.com", None]
    answered = ["write to eve@acme.io", "No.", None, "eve@acme.io"]
    path = dataset(tmp_path / "a.parquet", told, responses=answered)
    found = contamination([path], [])
    assert found.sets == ()
    email, phone = found.personal_data
    assert (email.kind, email.instructions, email.responses) == ("email", 1, 2)
    assert (phone.kind, phone.instructions, phone.responses) == ("phone", 1, 0)
    assert email.examples == ("ja…om", "bo…om", "e…o")
    shown = str(found)
    assert not any(secret in shown for secret in ("jane@", "acme", "867-5309", "eve@"))


@pytest.mark.parametrize("values", [[None, None], ["", " \n"]])
def test_a_dataset_without_texts_has_nothing_to_repeat(values, tmp_path):
    path = dataset(tmp_path / "a.parquet", values, responses=values)
    exam = prompts(tmp_path / "exam.jsonl", [PROMPT])
    found = contamination([path], [], evaluation=[exam])
    assert (found.rows, found.without, found.sets[0].rows) == (2, 2, 0)
    assert found.personal_data == ()


def test_other_schemas_are_read_too(tmp_path):
    said = [[{"from": "human", "value": PROMPT}, {"from": "gpt", "value": "bob@acme.com"}]]
    pq.write_table(pa.table({"conversations": said}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"input": [PROMPT], "output": ["x"]}), tmp_path / "b.parquet")
    exam = prompts(tmp_path / "exam.jsonl", [PROMPT])
    for name, emails in (("a", 1), ("b", 0)):
        found = contamination([tmp_path / f"{name}.parquet"], [], evaluation=[exam])
        assert found.sets[0].equal == 1
        assert sum(each.responses for each in found.personal_data) == emails


def test_hostile_texts_are_values_like_others(tmp_path):
    hostile = ["<script>alert(1)</script>", "\u202e</details>", "---\nlicense: mit\n---", "|" * 999]
    path = dataset(tmp_path / "a.parquet", [*hostile, "x" * 50_000], responses=["a@" * 25_000] * 5)
    exam = prompts(tmp_path / "exam.jsonl", hostile)
    found = contamination([path], hostile, evaluation=[exam])
    assert isinstance(found, Contamination)
    assert found.rows == 5


def test_what_cannot_be_read_is_told(tmp_path):
    path = dataset(tmp_path / "a.parquet", ["Hi?"])
    (tmp_path / "exam.jsonl").write_text('{"body": "x"}')
    with pytest.raises(ValueError, match="its columns are body"):
        contamination([path], [], evaluation=[str(tmp_path / "exam.jsonl")])
    with pytest.raises(FileNotFoundError, match="nothing"):
        contamination([path], [], known=[str(tmp_path / "nothing.jsonl")])


def test_shortened_texts_are_one_line():
    assert shortened(" a\n\n b\t c ") == "a b c"
    assert shortened("a " * 5000) == ("a " * 100)[:SHOWN_CHARACTERS] + "…"


def test_examples_show_no_personal_data(tmp_path):
    asked = f"{PROMPT} Mail jane.roe@acme.com or call (415) 867-5309 and user@example.com"
    spaced = f"{' ' * 1990}{asked}"
    path = dataset(tmp_path / "a.parquet", [asked, spaced])
    (found,) = contamination(
        [path], [], evaluation=[prompts(tmp_path / "exam.jsonl", [asked])]
    ).sets
    assert len(found.examples) == 2
    for example in found.examples:
        for text in (example.instruction, example.prompt):
            assert text.startswith(PROMPT)
            assert "ja…om" in text
            assert "(4…09" in text
            assert "user@example.com" in text
            assert not any(secret in text for secret in ("jane.roe", "acme", "867"))


def test_personal_data_are_looked_for_in_every_response(tmp_path):
    columns = {
        "instruction": ["Hi?", "Ho?", None],
        "keep": [True] * 3,
        "drop_reason": [""] * 3,
        "responses": [["Yes.", "Ask eve@acme.io", "or bob@acme.com"], [], None],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (email,) = contamination([tmp_path / "a.parquet"], []).personal_data
    assert (email.instructions, email.responses) == (0, 1)
    assert email.examples == ("e…o", "bo…om")
