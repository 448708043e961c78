"""Whatever is typed behind a command, it works or says in one line why it does not."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import fuzz, texts
from hypothesis import example, given
from hypothesis import strategies as st

from magpie_steps.cli import main
from magpie_steps.job.flags import run_asked_for

PIPELINES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.py"))
COMMANDS = st.sampled_from(
    [
        *([each] for each in ("filter", "report", "export", "push", "review", "nonsense")),
        *(["review", verb] for verb in ("push", "status", "pull")),
        [],
    ]
)
FLAGS = st.sampled_from(
    [
        *("--recipe", "--output-dir", "--longest", "--list", "--schema", "--all", "--compare"),
        *("--decontaminate", "--known", "--sample", "--removed-share", "--uncertain", "--seed"),
        *("--min-submitted", "--argilla-workspace", "--argilla-api-url", "--argilla-api-key"),
        *("--public", "--replace", "--nonsense", "--", "-", "-x"),
    ]
)
VALUES = (
    st.sampled_from(
        [
            *(
                "pro",
                "pro-card",
                "magpie-align",
                "rows.parquet",
                "empty.parquet",
                "folder",
                "/dev/null",
            ),
            *(
                "0",
                "-1",
                "7",
                "1e9",
                "nan",
                "inf",
                "9" * 5000,
                "owner/name",
                "a/b/c",
                "~",
                "~nobody/x",
            ),
            *(
                "http://127.0.0.1:9",
                "https://user:secret@127.0.0.1:9",
                "http://",
                "file:///etc/passwd",
            ),
            *("recipe.yaml", "x" * 5000, "\ud800", "a\0b", "con\nfig"),
        ]
    )
    | texts
)
JOB_FLAGS = st.sampled_from(
    [
        *("--model", "--reward-model", "--base-model", "--tagger-model", "--embedding-model"),
        *("--engine", "--base-url", "--num-rows", "--seed", "--output-dir", "--decontaminate"),
        *("--recipe", "--license", "--argilla-sample", "--chat-template"),
        *("--chat-template-kwargs", "--response-template-kwargs", "--nonsense"),
    ]
)
JOB_VALUES = VALUES | st.sampled_from(
    [
        "auto",
        "completions",
        "scripted",
        "vllm",
        "tiny-instruct",
        "{}",
        "[]",
        '{"a": 1}',
        "null",
        "{",
    ]
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with some files, in which nobody has an account anywhere."""
    folder = tmp_path_factory.mktemp("flags")
    rows = [{"instruction": "Hi?", "response": "Yes.", "instruct_reward": 1.0}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    (folder / "empty.parquet").touch()
    (folder / "folder").mkdir()
    (folder / "recipe.yaml").write_text("name: x\nrules: &a [*a]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        for name in ("HF_TOKEN", "ARGILLA_API_URL", "ARGILLA_API_KEY"):
            patch.delenv(name, raising=False)
        yield folder


@fuzz(250)
@given(command=COMMANDS, words=st.lists(FLAGS | VALUES, max_size=6))
@example(command=["filter"], words=["rows.parquet", "--recipe=pro", f"--longest={10**400}"])
@example(command=["filter"], words=["rows.parquet", "--recipe", "recipe.yaml"])
def test_any_words_behind_a_command(
    capfd: pytest.CaptureFixture[str], command: list[str], words: list[str]
) -> None:
    capfd.readouterr()
    code = main([*command, *words])
    said = capfd.readouterr().err
    assert code in (0, 1, 2)
    assert said.count("\n") == (code > 0)
    assert "Traceback" not in said


def job_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.JOB


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
@fuzz(40)
@given(pairs=st.lists(st.tuples(JOB_FLAGS, JOB_VALUES), max_size=3))
def test_any_words_behind_a_pipeline(
    capfd: pytest.CaptureFixture[str], path: Path, pairs: list[tuple[str, str]]
) -> None:
    """Nothing is started: what cannot work is told before."""
    before = sorted(os.listdir())
    code = 2
    try:
        run_asked_for(job_of(path), "What it makes.", [f"{flag}={value}" for flag, value in pairs])
    except (ValueError, OSError) as error:
        told = str(error)
    except SystemExit as error:  # argparse itself says what it does not know
        told, code = capfd.readouterr().err, error.code
    else:
        told = "it would run"
    assert code == 2
    assert told
    assert "Traceback" not in told
    assert sorted(os.listdir()) == before
