"""Whatever a file holds, what reads it does its work or says in one line what is wrong."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from distilabel.errors import DistilabelUserError
from fuzzing import fuzz, texts, values
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.cli import main
from magpie_steps.embedded import model_path
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.prompt_sets import prompts_of
from magpie_steps.recipe_files import MOST_BYTES, recipe_given
from magpie_steps.recipes import RECIPES

pytestmark = pytest.mark.timeout(300)


def works_or_names(path: Path, call: Callable[[], object]) -> None:
    """Check that a call returns, or that its error names the file."""
    try:
        call()
    except ValueError as error:
        said = str(error)
    else:
        said = str(path)
    assert str(path) in said


# Recipes

LAUGHS = ", ".join(
    f"&a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'] * 9)}]" for n in range(10)
)
"""A few lines that stand for a billion values."""

MERGES = "\n".join(
    [
        "a0: &a0 {x: 1}",
        *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)),
    ]
)
RULES = "name: mine\nrules: []\n"
REFUSED = {
    "laughs as the recipe": f"[{LAUGHS}]",
    "laughs as its name": f"name: [{LAUGHS}]\nrules: []",
    "laughs as a rule": f"name: x\nrules: [{{kind: one_of, values: [{LAUGHS}]}}]",
    "laughs as a level": (
        f"name: x\nrules: [{{kind: level_at_least, column: difficulty, least: [{LAUGHS}]}}]"
    ),
    "merges": MERGES,
    "holds itself": "name: x\nrules: &a [*a]",
    "is itself": "&a [*a]",
    "nested deeply": "[" * 3000,
    "nested deeply and closed": f"name: x\nrules: {'[' * 2000}{']' * 2000}",
    "no bool": "!!bool abc",
    "no number": "name: x\nlongest: !!int ''\nrules: []",
    "no time": "!!timestamp abc",
    "no date": "name: 2001-99-99\nrules: []",
    "half a pair": f'{RULES}description: "\\ud800"',
    "half a pair in a rule": 'name: x\nrules: [{kind: not_ending_with, ending: "\\ud800"}]',
    "a name twice": f"{RULES}name: other",
    "a huge number": f"{RULES}longest: 1{'0' * 400}",
    "an endless number": f"{RULES}longest: {'9' * 5000}",
    "a key that is a list": f"{RULES}? [a]\n: b",
    "code": "!!python/object/apply:os.system ['true']",
    "two documents": f"{RULES}---\n{RULES}",
    "too large": f"{RULES}description: {'x ' * MOST_BYTES}",
    "nothing": "",
    "a control character": "name: \0",
    "a quote of it all": f"name: [{', '.join('abcdefghij' * 300)}]\nrules: []",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(REFUSED[name], encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.yaml") as told:
        recipe_given(str(path))
    assert len(str(told.value)) < len(str(path)) + 1000


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for content in (b"name: \xff", "name: é".encode("latin-1"), RULES.encode("utf-16")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mine\.yaml: it is not UTF-8"):
            recipe_given(str(path))


def test_anchors_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    text = "\ufeffname: mine\nrules:\n- &safe {kind: is_true, column: safe}\nlongest: 9\nshares:\n"
    path.write_text(f"{text}- {{rule: *safe, share: 1}}\n", encoding="utf-8")
    assert recipe_given(str(path)).quotas() == [9]


KEYS = st.sampled_from(
    [
        *("name", "rules", "longest", "shares", "source", "description", "kind", "column", "least"),
        *("bound", "below", "values", "ending", "except_category", "rule", "share", "x"),
    ]
)
WORDS = st.sampled_from(
    [
        *("one_of", "number_above", "level_at_least", "is_true", "fewer_newlines", "not_repeated"),
        *("not_ending_with", "safe", "language", "difficulty", "instruct_reward", "good", "easy"),
    ]
)
NEAR = st.recursive(
    WORDS | texts | st.integers() | st.floats() | st.booleans() | st.none() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@fuzz(60)
@given(data=NEAR | st.dictionaries(KEYS, NEAR), broken=texts, at=st.integers(0, 10**6))
def test_any_yaml_is_a_recipe_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: Any, broken: str, at: int
) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)
    at %= len(text) + 1
    path = tmp_path_factory.mktemp("fuzz") / "mine.yaml"
    for each in (text, text[:at] + broken + text[at:], text[:at]):
        path.write_text(each, encoding="utf-8", errors="surrogatepass")
        works_or_names(path, lambda: recipe_given(str(path)).demands())


@fuzz(60)
@given(
    changes=st.dictionaries(KEYS, NEAR, min_size=1, max_size=2), name=st.sampled_from([*RECIPES])
)
def test_a_recipe_with_wrong_parts_is_one_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], name: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "mine.yaml"
    data = {**RECIPES[name].as_dict(), **changes}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    works_or_names(path, lambda: recipe_given(str(path)).quotas())


# Datasets

ROWS = [
    {
        "uuid": f"id-{n}",
        "instruction": f"What is {n}?",
        "response": f"It is {n}.",
        "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}],
        "instruct_reward": -9.0 - n,
        "input_quality": "good",
        "difficulty": "easy",
        "min_similar_uuid": "",
        "min_neighbor_distance": 1.0,
        "keep": n > 0,
        "drop_reason": "" if n else "engine_error",
        "response_length": 9,
    }
    for n in range(6)
]
TABLE = pa.Table.from_pylist(ROWS)
KINDS: dict[str, Any] = {
    "int64": pa.array(range(6)),
    "uint64": pa.array([2**64 - 1] * 6, pa.uint64()),
    "decimal": pa.array([1] * 6, pa.decimal128(5)),
    "timestamp": pa.array([0] * 6, pa.timestamp("s")),
    "null": pa.nulls(6),
    "bool": pa.array([True, None] * 3),
    "string": pa.array(["a", None] * 3),
    "string_view": pa.array(["a", None] * 3, pa.string_view()),
    "large_string": pa.array(["a"] * 6, pa.large_string()),
    "dictionary": pa.array(["a"] * 6).dictionary_encode(),
    "binary": pa.array([b"\xff"] * 6),
    "no UTF-8": pa.array([b"\xff"] * 6).view(pa.string()),
    "list": pa.array([[1]] * 6),
    "list of views": pa.array([["a"]] * 6, pa.list_(pa.string_view())),
    "struct": pa.array([{"a": 1}] * 6),
    "messages": pa.array([[{"role": "user", "content": None}]] * 6),
    "numbers as messages": pa.array([[{"role": 1, "content": 2.0}]] * 6),
    "map": pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64())),
    "half": pa.array([1.0] * 6, pa.float16()),
}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> int:
    """Run a command; check that it ends well or says one line."""
    code = main([str(each) for each in arguments])
    said = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert said.count("\n") == (code > 0)
    assert said.startswith("magpie-steps: error: ") == (code > 0)
    return code


def every_command(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """Filter and export a dataset; return the exit codes."""
    codes = []
    for command in (
        ("filter", path, "--recipe", "pro-card"),
        ("filter", path, "--recipe", "air"),
        ("export", path, "--schema", "magpie-align"),
        ("export", path, "--schema", "magpie-ultra", "--all"),
    ):
        out = tmp_path / "out"
        codes.append(run(capsys, *command, "--output-dir", out))
        shutil.rmtree(out, ignore_errors=True)
    works_or_names(path, lambda: list(prompts_of(str(path))))
    return codes


def put(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def replaced(column: str, values: Any) -> pa.Table:
    place = TABLE.schema.get_field_index(column)
    return TABLE.set_column(place, column, values)


@pytest.mark.parametrize("column", TABLE.schema.names)
def test_a_column_of_any_type_is_read_or_refused(
    column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, array in KINDS.items():
        path = put(tmp_path / f"{kind}.parquet", replaced(column, array))
        every_command(path, tmp_path, capsys)


def test_texts_as_polars_writes_them_are_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrow cannot choose rows of its views, which ended in a traceback."""
    views = TABLE.cast(
        pa.schema(
            f.with_type(pa.string_view()) if pa.types.is_string(f.type) else f for f in TABLE.schema
        )
    )
    plain = put(tmp_path / "plain.parquet", TABLE)
    path = put(tmp_path / "views.parquet", views)
    for name, given_path in (("a", plain), ("b", path)):
        run(capsys, "filter", given_path, "--recipe", "pro-card", "--output-dir", tmp_path / name)
    assert pq.read_table(tmp_path / "a/filtered") == pq.read_table(tmp_path / "b/filtered")


def test_a_file_with_any_fault_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = put(tmp_path / "whole.parquet", TABLE).read_bytes()
    chance = random.Random(0)
    faulty = [whole[:n] for n in (0, 4, len(whole) // 2, len(whole) - 1)]
    for flips in (1, 3, 30) * 8:
        changed = bytearray(whole)
        for _ in range(flips):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        faulty.append(bytes(changed))
    for number, content in enumerate(faulty):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(content)
        every_command(path, tmp_path, capsys)


def test_a_page_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    from magpie_steps.filtering.files import batches

    path = put(tmp_path / "mine.parquet", TABLE)
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"mine\.parquet is no parquet file: .*again$"):
        list(batches([path]))


@pytest.mark.parametrize(
    "tables",
    [
        [TABLE.slice(0, 0)],
        [pa.table({})],
        [pa.table({"a": [1]})],
        [TABLE, pa.table({"a": [1]})],
        [TABLE, TABLE.select(TABLE.schema.names[::-1])],
        [TABLE, replaced("keep", KINDS["string"])],
        [pa.table([TABLE["uuid"], TABLE["uuid"]], names=["instruction", "instruction"])],
    ],
    ids=["no rows", "no columns", "others", "two kinds", "another order", "types", "a name twice"],
)
def test_datasets_without_what_is_needed_are_refused(
    tables: list[pa.Table], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, table in enumerate(tables):
        put(tmp_path / "in" / f"{number}.parquet", table)
    assert all(every_command(tmp_path / "in", tmp_path, capsys))


@pytest.mark.parametrize(
    "front",
    [
        "x: !!bool abc",
        "x: !!int ''",
        "- a",
        "configs: &a [*a]",
        "configs: [{data_files: [[[a]]], config_name: {}}]",
        "license: [1, {a: b}]\nlanguage: 5\ntags: {a: 1}",
        "[" * 500,
    ],
)
def test_a_card_with_any_front_matter(
    front: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "in" / "a.parquet", TABLE)
    (tmp_path / "in" / "README.md").write_text(f"---\n{front}\n---\n")
    every_command(tmp_path / "in", tmp_path, capsys)


@fuzz(60)
@given(
    content=st.lists(values, max_size=3),
    cut=st.integers(0, 200),
    kind=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet"]),
)
def test_prompts_of_any_file_are_some_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: list[Any], cut: int, kind: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"mine{kind}"
    lines = "\n".join(json.dumps({"prompt": each}, default=str, skipkeys=True) for each in content)
    path.write_text(lines[: max(len(lines) - cut, 0)], encoding="utf-8")
    works_or_names(path, lambda: "".join(prompts_of(str(path))))


# Models

SOURCE = model_path("tiny-instruct")


def changed(name: str, **changes: Any) -> str:
    """Return a file of JSON with some values changed."""
    return json.dumps({**json.loads((SOURCE / name).read_text()), **changes})


def half(name: str) -> bytes:
    content = (SOURCE / name).read_bytes()
    return content[: len(content) // 2]


FAULTY: dict[str, dict[str, str | bytes | None]] = {
    **{f"half of {n}": {n: half(n)} for n in ("tokenizer.json", "config.json")},
    **{
        f"{what} as {n}": {n: text}
        for n in (
            "tokenizer.json",
            "tokenizer_config.json",
            "config.json",
            "generation_config.json",
        )
        for what, text in (("nothing", ""), ("a list", "[]"), ("bytes", b"\xff\0"))
    },
    "no config": {"config.json": None},
    "no vocabulary": {"tokenizer.json": changed("tokenizer.json", model={"type": "BPE"})},
    "no such model": {"tokenizer.json": changed("tokenizer.json", model={"type": "X"})},
    "no tokens": {"tokenizer.json": changed("tokenizer.json", added_tokens=[{"id": "a"}])},
    "a number as a token": {"tokenizer_config.json": changed("tokenizer_config.json", eos_token=5)},
    "a text as a length": {
        "tokenizer_config.json": changed("tokenizer_config.json", model_max_length="x")
    },
    "another class": {"config.json": changed("config.json", model_type="bert")},
    "no class": {"config.json": changed("config.json", model_type="nope")},
    "a text as a size": {"config.json": changed("config.json", hidden_size="big")},
    "a size below 0": {"config.json": changed("config.json", vocab_size=-1)},
    "a length below 0": {"config.json": changed("config.json", max_position_embeddings=-3)},
    "no type": {"config.json": changed("config.json", dtype="float99")},
    "an end that is no token": {"generation_config.json": '{"eos_token_id": [null, "a"]}'},
    "an end that is half": {"generation_config.json": '{"eos_token_id": 1.5}'},
    "nested deeply": {"generation_config.json": "[" * 100_000},
    "no template": {"chat_template.jinja": b"\xff\xfe"},
    "a list as a template": {
        "chat_template.jinja": None,
        "tokenizer_config.json": changed("tokenizer_config.json", chat_template=["a"]),
    },
    "a number as a template": {
        "chat_template.jinja": None,
        "tokenizer_config.json": changed("tokenizer_config.json", chat_template=5),
    },
    "numbers as templates": {
        "chat_template.jinja": None,
        "tokenizer_config.json": changed(
            "tokenizer_config.json", chat_template=[{"name": 5, "template": 7}]
        ),
    },
    "half of the weights": {"model.safetensors": half("model.safetensors")},
    "empty weights": {"model.safetensors": b""},
    "tokens that are a list": {"added_tokens.json": "[]"},
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_model_that_cannot_be_read_says_which_file(
    name: str, tmp_path: Path, load: Callable[[Path], object]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SOURCE, folder)
    for file, content in FAULTY[name].items():
        path = folder / file
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DistilabelUserError) as told:
        load(folder)
    said = str(told.value)
    assert "\n" not in said
    assert len(said) < 2 * len(str(folder)) + 700
    assert any(file in said for file in FAULTY[name]), said


def test_a_token_of_a_million_characters_is_one(
    tmp_path: Path, load: Callable[[Path], object]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SOURCE, folder)
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    huge = {**tokens[-1], "id": 10**6, "content": "x" * 10**6}
    text = changed("tokenizer.json", added_tokens=[*tokens, huge])
    (folder / "tokenizer.json").write_text(text)
    load(folder)


@pytest.fixture
def load() -> Callable[[Path], object]:
    """What loads a model and derives its template."""

    def loaded(folder: Path) -> object:
        engine = TransformersEngine(model=str(folder))
        try:
            engine.load()
            return engine.template.pre_query_ids()
        finally:
            engine.unload()

    return loaded
