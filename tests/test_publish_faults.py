"""A Hub on its bad days: a push ends complete, or with one line, and never half done."""

import signal
import threading
import time
from contextlib import suppress
from functools import partial

import hub_server
import pytest
from hub_server import ALICE, Fault
from pushing import environment, files_of, finished, pushed, row, started, write_folder

from magpie_steps.publish.client import open_client

ID = "alice/d"
STAGES = {
    "whoami": ("GET", "/api/whoami-v2"),
    "card": ("POST", "/api/validate-yaml"),
    "info": ("GET", "/api/datasets/alice/d$"),
    "create": ("POST", "/api/repos/create"),
    "tree": ("GET", "/tree/"),
    "modes": ("POST", "/preupload/"),
    "large": ("POST", "/objects/batch"),
    "content": ("PUT", "/_large/"),
    "commit": ("POST", "/commit/main"),
}
"""Every request of a first push."""


@pytest.fixture
def hub():
    with hub_server.serve() as running:
        yield running


@pytest.fixture
def env(hub, tmp_path):
    return environment(hub.url, tmp_path / "home", ALICE)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "d", {"data": [row(n) for n in range(9)]}, rows_per_file=4)


def fault(stage, **what):
    method, path = STAGES[stage]
    return Fault(path, method, **what)


def asked(hub, stage):
    return hub.asked(*STAGES[stage])


def held(repo, commit=None):
    files = (commit or repo.head).files
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def assert_whole(hub, folder, commits=1):
    """Assert that a reader saw nothing and then everything, and how often it changed."""
    repo = hub.repos[ID]
    seen = [held(repo, commit) for commit in repo.commits]
    assert [each for each in seen if each not in ({}, files_of(folder))] == []
    assert held(repo) == files_of(folder)
    assert len(repo.commits) == 1 + commits


def assert_one_line(done, code, *said):
    assert done.code == code, done
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for text in said:
        assert text in done.err


# What passes


@pytest.mark.parametrize(
    "what",
    [
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 429, "headers": {"RateLimit": '"api";r=0;t=0'}},
        {"status": 500},
        {"status": 503, "body": "<html>busy</html>", "headers": {"Content-Type": "text/html"}},
        {"status": 408},
        {"drop": "before"},
        {"drop": "after"},
    ],
    ids=["429", "limit", "500", "503", "408", "before", "after"],
)
def test_a_bad_day_at_every_stage_ends_well(hub, env, folder, what):
    hub.faults = [fault(stage, **what) for stage in STAGES]
    done = pushed(folder, ID, env)
    assert done.code == 0, done.err
    assert not [each for each in hub.faults if each.times]
    assert_whole(hub, folder)
    assert done.result["commit"] == hub.repos[ID].head.id
    assert done.result["files"] == 5
    assert done.err == ""


def test_retries_are_told(hub, env, folder):
    hub.faults = [fault("commit", status=503, times=2)]
    lines = pushed(folder, ID, env).out.splitlines()
    told = [line for line in lines if "trying again" in line]
    assert [line.split("; ")[0] for line in told] == [f"{hub.url} answers 503: a bad day"] * 2
    assert [line.rpartition("(")[2] for line in told] == ["try 2 of 6)", "try 3 of 6)"]


def test_the_hub_s_own_wait_is_kept(hub, env, folder):
    hub.faults = [
        fault("modes", status=429, headers={"Retry-After": "1"}),
        fault("commit", status=429, headers={"RateLimit": '"api";r=0;t=1'}),
    ]
    assert pushed(folder, ID, env).code == 0
    for stage in ("modes", "commit"):
        first, second = asked(hub, stage)
        assert 1 <= second.seconds - first.seconds < 10


@pytest.mark.parametrize("stage", ["whoami", "large", "commit"])
def test_a_wait_of_an_hour_is_told_instead_of_taken(hub, env, folder, stage):
    hub.faults = [fault(stage, status=429, headers={"Retry-After": "3600"})]
    started_at = time.monotonic()
    assert_one_line(pushed(folder, ID, env), 3, f"{hub.url} asks to wait 3600 seconds")
    assert time.monotonic() - started_at < 30


@pytest.mark.parametrize("stage", ["whoami", "create", "content", "commit"])
def test_a_hub_that_stays_busy_is_given_up(hub, env, folder, stage):
    hub.faults = [fault(stage, status=503, times=1000)]
    done = pushed(folder, ID, env)
    again = "6 times; the same push, started again, goes on from here"
    assert_one_line(done, 3, f"{hub.url} answers 503: a bad day", again)
    # Files are sent by several threads; one that meets a failure ends the others' work.
    assert len(asked(hub, stage)) == 6 or stage == "content"
    assert not [repo for repo in hub.repos.values() if repo.names]
    hub.faults = []
    assert pushed(folder, ID, env).code == 0
    assert_whole(hub, folder)


def test_nothing_listens(env, folder):
    with hub_server.serve() as gone:
        url = gone.url
    done = pushed(folder, ID, {**env, "HF_ENDPOINT": url})
    assert_one_line(done, 3, f"{url} fails: ", "Connection refused", "6 times")


def test_a_silent_hub_is_not_waited_for_without_end(hub, env, folder):
    silent = {"magpie_steps.publish.client:TIMEOUT_SECONDS": 0.3}
    hub.faults = [fault(stage, do=partial(time.sleep, 1)) for stage in ("whoami", "commit")]
    assert pushed(folder, ID, env, **silent).code == 0
    assert_whole(hub, folder)
    hub.faults = [fault("whoami", do=partial(time.sleep, 1), times=1000)]
    assert_one_line(pushed(folder, ID, env, **silent), 3, f"{hub.url} fails: ", "timed out")


@pytest.mark.parametrize("body", ["<html>Sign in to the hotel's network</html>", ""])
def test_something_else_answers(hub, env, folder, body):
    hub.faults = [fault("whoami", status=200, body=body, times=1000)]
    assert_one_line(pushed(folder, ID, env), 3, f"{hub.url} fails: ")
    hub.faults = [fault("whoami", status=200, body='{"welcome": true}')]
    assert_one_line(pushed(folder, ID, env), 2, "what answers at HF_ENDPOINT is no Hub")


# What does not pass

REFUSALS = [400, 401, 403, 404, 413]


@pytest.mark.parametrize(
    ("stage", "status"),
    [("info", 404), ("modes", 403), ("content", 403), *(("commit", n) for n in REFUSALS)],
)
def test_a_refusal_is_told_at_once(hub, env, folder, stage, status):
    hub.make(ID)
    hub.faults = [fault(stage, status=status, times=1000, body=f'{{"error": "no {ALICE}"}}')]
    done = pushed(folder, ID, env)
    assert_one_line(done, 3, "refuses the token" if status == 401 else f"answers {status}: no ***")
    assert "trying again" not in done.out
    assert not hub.repos[ID].names


def test_a_repository_that_is_there_for_making_but_not_for_looking_is_given_up(hub, env, folder):
    hub.make(ID)
    hidden = {"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}, "times": 1000}
    hub.faults = [fault("info", **hidden)]
    assert_one_line(pushed(folder, ID, env), 3, "answers 409: You already created this dataset")
    assert len(asked(hub, "create")) == 6


def test_the_hub_s_text_is_one_plain_line(hub, env, folder):
    text = '{"error": "a\\nb \\u001b[2J \\u202e c %s"}' % ("d" * 10_000)
    hub.faults = [fault("commit", status=400, body=text)]
    done = pushed(folder, ID, env)
    assert_one_line(done, 3, f"{hub.url} answers 400: a b [2J  c ddd")
    assert len(done.err) < 400


def test_the_token_is_revoked_in_the_middle(hub, env, folder):
    hub.faults = [fault("content", do=partial(hub_server.USERS.pop, ALICE, None), skip=1)]
    user = hub_server.USERS[ALICE]
    try:
        done = pushed(folder, ID, env)
    finally:
        hub_server.USERS[ALICE] = user
    assert_one_line(done, 3, "refuses the token", "`hf auth login`")
    assert not hub.repos[ID].names
    assert pushed(folder, ID, env).code == 0
    assert_whole(hub, folder)


CONFLICT = '{"error": "Cannot create repo: another conflicting operation is in progress"}'


def test_another_repository_being_made_is_waited_for_but_not_for_ever(hub, env, folder):
    hub.faults = [fault("create", status=409, body=CONFLICT, times=2)]
    assert pushed(folder, ID, env).code == 0
    assert len(asked(hub, "create")) == 3
    hub.log.clear()
    hub.faults = [fault("create", status=409, body=CONFLICT, times=1000)]
    done = pushed(folder, "alice/e", env)
    assert_one_line(done, 3, "another conflicting operation is in progress, 6 times")
    assert len(asked(hub, "create")) == 6


# Conflicts and lost answers


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_without_another_s_commit_is_tried_again(hub, env, folder, status):
    hub.faults = [fault("commit", status=status)]
    assert pushed(folder, ID, env).code == 0
    assert_whole(hub, folder)


def test_another_s_commit_is_kept_and_built_upon(hub, env, folder):
    pushed(folder, ID, env)
    repo = hub.repos[ID]
    write_folder(folder, {"data": [row(n) for n in range(3)]}, rows_per_file=4)
    for path in list(folder.glob("data/*-of-00003.parquet")):
        path.unlink()
    meanwhile = partial(
        repo.add, "meanwhile", LICENSE=b"mine", **{"data/train-00000-of-00003.parquet": None}
    )
    hub.faults = [fault("commit", do=meanwhile)]
    done = pushed(folder, ID, env)
    assert done.code == 0, done.err
    assert held(repo) == {**files_of(folder), "LICENSE": b"mine"}
    assert [commit.title for commit in repo.commits[2:]] == ["meanwhile", repo.head.title]
    assert "answers 412" in done.out


def test_another_s_dataset_that_came_meanwhile_is_not_overwritten(hub, env, folder):
    repo = hub.make(ID)
    hub.faults = [fault("commit", do=partial(repo.add, "meanwhile", **{"a.csv": b"1"}))]
    assert_one_line(pushed(folder, ID, env), 2, "alice/d holds something else: 'a.csv'")
    assert held(repo) == {"a.csv": b"1"}


def test_a_repository_made_public_meanwhile_is_left_alone(hub, env, folder):
    repo = hub.make(ID)
    hub.faults = [
        fault("commit", status=503, do=partial(setattr, repo, "private", False)),
    ]
    assert_one_line(pushed(folder, ID, env), 2, "is public on the Hub, not private")
    assert not repo.names


def test_the_same_dataset_that_came_meanwhile_is_enough(hub, env, folder):
    repo = hub.make(ID)
    hub.faults = [fault("commit", do=partial(repo.add, "twin", **files_of(folder)))]
    assert pushed(folder, ID, env).code == 0
    assert [commit.title for commit in repo.commits] == ["initial commit", "twin"]


def test_two_pushes_at_once_both_end_well(hub, env, folder):
    processes = [started(folder, ID, env) for _ in range(2)]
    assert [finished(process, folder, env).code for process in processes] == [0, 0]
    assert held(hub.repos[ID]) == files_of(folder)
    assert_whole(hub, folder)


def test_a_lost_answer_makes_no_second_commit_nor_repository(hub, env, folder):
    hub.faults = [fault("create", drop="after"), fault("commit", drop="after")]
    done = pushed(folder, ID, env)
    assert_whole(hub, folder)
    assert len(asked(hub, "commit")) == len(asked(hub, "create")) == 1
    assert done.result["commit"] == hub.repos[ID].head.id
    assert hub.repos[ID].private


def test_several_commits_cut_short_are_gone_on_with(hub, env, tmp_path):
    folder = write_folder(tmp_path / "d", {"data": [row(n) for n in range(12)]}, rows_per_file=1)
    few = {"magpie_steps.publish:CHANGES_PER_COMMIT": 5}
    hub.faults = [fault("commit", status=403, skip=1)]
    assert pushed(folder, ID, env, **few).code == 3
    assert "README.md" not in hub.repos[ID].names
    assert pushed(folder, ID, env, **few).code == 0
    assert held(hub.repos[ID]) == files_of(folder)
    assert len(hub.asked("PUT", "")) == 12


# Cut short


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_push_cut_short_sends_only_the_rest_when_started_again(hub, env, tmp_path, number):
    folder = write_folder(tmp_path / "d", {"data": [row(n) for n in range(12)]}, rows_per_file=1)
    reached, gate = threading.Event(), threading.Event()

    def wait():
        reached.set()
        gate.wait(30)

    # huggingface_hub sends five files at once: let six through and hold all others.
    hub.faults = [fault("content", do=wait, status=503, skip=6, times=1000)]
    process = started(folder, ID, env)
    assert reached.wait(30)
    deadline = time.monotonic() + 10
    while len(hub.large) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(0.2)
    gate.set()
    assert finished(process, folder, env).code not in (0, 2, 3)
    assert not hub.repos[ID].names
    assert len(hub.large) == 6
    hub.log.clear()
    hub.faults = []
    assert pushed(folder, ID, env).code == 0
    assert len(asked(hub, "content")) == 6
    assert_whole(hub, folder)


def test_killed_while_the_commit_is_under_way(hub, env, folder):
    """The commit may be done although nobody was there to hear of it."""
    reached, gate = threading.Event(), threading.Event()

    def wait():
        reached.set()
        gate.wait(30)

    hub.faults = [fault("commit", do=wait)]
    process = started(folder, ID, env)
    assert reached.wait(30)
    process.kill()
    gate.set()
    finished(process, folder, env)
    deadline = time.monotonic() + 10
    while not hub.repos[ID].names and time.monotonic() < deadline:
        time.sleep(0.01)
    assert_whole(hub, folder)
    hub.log.clear()
    done = pushed(folder, ID, env)
    assert done.result["commit"] == ""
    assert not hub.asked("POST", "preupload|commit")


def test_an_update_cut_short_leaves_the_earlier_state(hub, env, folder):
    pushed(folder, ID, env)
    before = files_of(folder)
    for path in folder.glob("data/*"):
        path.unlink()
    write_folder(folder, {"data": [row(n) for n in range(20)]}, rows_per_file=4)
    hub.faults = [fault("content", status=403, skip=2, times=1000)]
    assert pushed(folder, ID, env).code == 3
    assert held(hub.repos[ID]) == before
    hub.faults = []
    assert pushed(folder, ID, env).code == 0
    assert held(hub.repos[ID]) == files_of(folder)
    assert len(hub.repos[ID].commits) == 3


def test_a_user_s_client_and_bars_are_put_back():
    import logging

    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import are_progress_bars_disabled
    from huggingface_hub.utils._http import default_client_factory

    made = []

    def factory():
        made.append(default_client_factory())
        return made[-1]

    level = logging.getLogger("huggingface_hub").level
    bars = are_progress_bars_disabled()
    set_client_factory(factory)
    try:
        with suppress(KeyboardInterrupt), open_client():
            assert get_session() is made[0]
            assert are_progress_bars_disabled()
            raise KeyboardInterrupt
        assert get_session() is made[1]
        assert made[1].event_hooks["response"] == []
    finally:
        set_client_factory(default_client_factory)
    assert are_progress_bars_disabled() == bars
    assert logging.getLogger("huggingface_hub").level == level
