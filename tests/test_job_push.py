"""A dataset's script brings what it made to the Hub."""

import subprocess
import sys
from pathlib import Path

import hub_server
import pytest
from hub_server import ALICE
from pushing import ROOT, SECRET, environment, files_of, loaded, rows_of

from magpie_steps.repository import configs_in

SCRIPT = ROOT / "pipelines" / "magpie_pro.py"
CLI = ["-m", "magpie_steps.cli"]


@pytest.fixture(scope="module")
def hub():
    with hub_server.serve() as running:
        yield running


@pytest.fixture
def env(hub, tmp_path):
    return environment(hub.url, tmp_path / "home", ALICE, OMP_NUM_THREADS="1")


def run(command, folder, env):
    """Run a command in a folder; the token is in nothing that it says or writes there."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert SECRET not in done.stdout + done.stderr
    for path in (path for path in Path(folder).rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    return done


def job(folder, env, *flags):
    return run([SCRIPT, "--dry-run", "--num-rows", 30, *flags], folder, env)


@pytest.mark.slow
def test_what_it_made_comes_back_from_the_hub(hub, env, tmp_path):
    work = tmp_path / "here"
    work.mkdir()
    flags = ["--recipe", "pro-filter5", "--with-embeddings", "--hub-repo-id", "first"]
    done = job(work, env, *flags)
    assert done.returncode == 0, done.stderr
    output = work / "data" / "magpie-pro"
    repo = hub.repos["alice/first"]
    assert repo.private
    assert {path: repo.head.files[path].content for path in repo.names} == files_of(output)
    configs = {each.folder: each.rows for each in configs_in(output)}
    assert configs["data"] == configs["embeddings"] == 30
    assert {"filtered", "removed"} <= set(configs)
    back = loaded("alice/first", tmp_path / "back", env, *configs)
    assert back == {name: rows_of(output / name) for name in configs}
    # The same command again: rows are the same, so only the run's own account is new.
    hub.log.clear()
    assert job(work, env, *flags).returncode == 0
    assert not [asked for asked in hub.asked("PUT", "") if "parquet" in str(asked)]


@pytest.mark.slow
def test_a_push_that_fails_loses_nothing_and_says_how_to_go_on(hub, env, tmp_path):
    unknown = {**env, "HF_TOKEN": f"{SECRET}nobody"}
    done = job(tmp_path, unknown, "--hub-repo-id", "alice/second", "--public")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    command = "magpie-steps push data/magpie-pro alice/second --public"
    assert line.endswith(f"nothing is lost: `{command}` goes on")
    assert "Traceback" not in done.stderr
    assert "alice/second" not in hub.repos
    again = run([*CLI, *command.split()[1:]], tmp_path, env)
    assert again.returncode == 0, again.stderr
    assert not hub.repos["alice/second"].private


@pytest.mark.parametrize(
    ("flags", "token", "message"),
    [
        (("--hub-repo-id", "a/b/c"), ALICE, "'a/b/c' is no repository id"),
        (("--hub-repo-id", "a"), "", "there is no token for the Hub; run `hf auth login`"),
        (("--public",), ALICE, "--public is about a repository on the Hub"),
    ],
)
def test_what_cannot_be_pushed_is_told_before_anything_is_generated(
    flags, token, message, hub, tmp_path
):
    env = environment(hub.url, tmp_path / "home", token)
    done = job(tmp_path, env, *flags)
    assert done.returncode == 2
    assert done.stderr.startswith(f"magpie_pro: error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_none_of_ours_is_one_line(env, tmp_path):
    (tmp_path / "thesis").mkdir()
    done = run([*CLI, "push", "thesis", "alice/x"], tmp_path, env)
    assert done.returncode == 2
    assert done.stderr.startswith("magpie-steps: error: thesis is no dataset repository")
    assert len(done.stderr.splitlines()) == 1
