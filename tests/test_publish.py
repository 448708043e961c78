"""A folder goes to the Hub and comes back the same; what else is there is respected."""

import json
import re
from datetime import UTC, datetime

import hub_server
import pytest
from hub_server import ALICE, BOB, READER
from huggingface_hub import HfApi
from pushing import environment, files_of, loaded, pushed, row, rows_of, write_folder

from magpie_steps.publish import batches
from magpie_steps.publish.account import check_id, full_id, token_given
from magpie_steps.publish.patience import Patience, asked_seconds
from magpie_steps.publish.plan import (
    Changes,
    Stored,
    changes,
    check_replaceable,
    commits,
    identity,
    read_dataset,
)
from magpie_steps.publish.repository import Repository


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


def held(repo):
    return {path: repo.head.files[path].content for path in repo.names}


def pair(number):
    said = row(number)["messages"]
    return {"uuid": f"id-{number}", "prompt": said[0]["content"], "chosen": said, "rejected": said,
            "score_margin": float("nan")}  # fmt: skip


# There and back


def test_every_configuration_comes_back_row_for_row(hub, env, tmp_path):
    rows = [row(n) for n in range(25)]
    messages = [{"uuid": r["uuid"], "messages": r["messages"]} for r in rows]
    configs = {
        "data": rows,
        "filtered": [r for r in rows if r["keep"]],
        "removed": [r for r in rows if not r["keep"]],
        "sft": messages,
        "multi_turn": messages[:3],
        "preference": [pair(n) for n in range(4)],
        "kto": [{"prompt": r["messages"][:1], "label": r["keep"]} for r in rows],
        "embeddings": [{"uuid": r["uuid"], "embedding": [0.5, float("nan")]} for r in rows],
    }
    folder = write_folder(tmp_path / "d", configs, rows_per_file=7)
    (folder / "report.html").write_text("<p>report")
    (folder / "pipeline.yaml").write_text("a: 1\n")
    (folder / "figures").mkdir()
    (folder / "figures/lengths.png").write_bytes(b"\x89PNG")
    done = pushed(folder, "alice/d", env)
    assert done.code == 0, done.err
    assert held(hub.repos["alice/d"]) == files_of(folder)
    back = loaded("alice/d", tmp_path / "back", env, *configs)
    assert back == {name: rows_of(folder / name) for name in configs}


def test_result_and_progress_say_what_was_sent(hub, env, folder):
    done = pushed(folder, "alice/d", env)
    sizes = [len(content) for content in files_of(folder).values()]
    head = hub.repos["alice/d"].head
    url = f"{hub.url}/datasets/alice/d"
    assert done.result == {"url": url, "commit": head.id, "files": 5, "bytes": sum(sizes)}
    assert head.title.startswith("Upload with magpie-steps ")
    assert done.out.splitlines()[:-1] == [
        "alice/d: 5 files of 0.0 MB to send",
        "5 of 5 files, 0.0 of 0.0 MB",
        f"{url} is complete",
    ]
    assert done.err == ""


def test_pushing_twice_sends_and_commits_nothing(hub, env, folder):
    pushed(folder, "alice/d", env)
    commits_before = len(hub.repos["alice/d"].commits)
    hub.log.clear()
    done = pushed(folder, "alice/d", env)
    assert done.result == {
        "url": f"{hub.url}/datasets/alice/d", "commit": "", "files": 0, "bytes": 0
    }  # fmt: skip
    assert len(hub.repos["alice/d"].commits) == commits_before == 2
    assert not hub.asked("PUT", "")
    assert not hub.asked("POST", "preupload|commit|batch")
    assert "was up to date" in done.out


def test_smaller_update_leaves_nothing_stale_but_what_was_put_there_by_hand(hub, env, folder):
    (folder / "report.html").write_text("old")
    (folder / "figures").mkdir()
    (folder / "figures/old.png").write_bytes(b"old")
    pushed(folder, "alice/d", env)
    repo = hub.repos["alice/d"]
    repo.add("by hand", LICENSE=b"mine", **{"notes/train-1.parquet": b"mine", "a.png": b"mine"})
    for path in [*folder.rglob("*.parquet"), folder / "report.html", folder / "figures/old.png"]:
        path.unlink()
    write_folder(folder, {"data": [row(7)]}, settings={"model": "m", "seed": 0, "num_rows": 1})
    done = pushed(folder, "alice/d", env)
    assert done.code == 0, done.err
    mine = {"LICENSE": b"mine", "notes/train-1.parquet": b"mine", "a.png": b"mine"}
    assert held(repo) == {**files_of(folder), **mine}
    assert "data/train-00000-of-00001.parquet" in repo.names
    assert len(repo.commits) == 4
    assert done.result["files"] == 2  # the card is the same: one shard and run.json


def test_only_changed_files_are_sent(hub, env, folder):
    pushed(folder, "alice/d", env)
    hub.log.clear()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Another card\n")
    done = pushed(folder, "alice/d", env)
    assert done.result["files"] == 1
    assert not hub.asked("PUT", "")


def test_change_of_one_byte_is_noticed(hub, env, folder):
    pushed(folder, "alice/d", env)
    shard = folder / "data/train-00001-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    done = pushed(folder, "alice/d", env)
    assert done.result["files"] == 1
    assert held(hub.repos["alice/d"]) == files_of(folder)


def test_same_content_in_two_places_is_sent_once(hub, env, tmp_path):
    """With nothing removed, all rows and the kept rows are the same files."""
    rows = [row(n) for n in range(6)]
    folder = write_folder(tmp_path / "d", {"data": rows, "filtered": rows}, rows_per_file=3)
    assert pushed(folder, "alice/d", env).code == 0
    assert len(hub.asked("PUT", "_large")) == 2
    assert held(hub.repos["alice/d"]) == files_of(folder)


def test_hidden_files_and_work_folders_stay_at_home(hub, env, folder):
    for name in (".env", ".cache/token", "data/.train.tmp", "x.work/journal.sqlite"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("private")
    (folder / "notes.txt").write_text("public")
    pushed(folder, "alice/d", env)
    names = hub.repos["alice/d"].names
    assert "notes.txt" in names
    assert not [name for name in names if "private" in str(held(hub.repos["alice/d"])[name])]
    assert len(names) == 6


def test_ignore_file_in_the_repository_keeps_nothing_out(hub, env, folder):
    shard = "data/train-00001-of-00003.parquet"
    pushed(folder, "alice/d", env)
    hub.repos["alice/d"].add("by hand", **{".gitignore": shard.encode(), shard: None})
    assert pushed(folder, "alice/d", env).code == 0
    assert shard in hub.repos["alice/d"].names


def test_many_files_take_several_commits_with_the_card_last(hub, env, tmp_path):
    """Not one commit, but what is there is known as ours at once, and complete with the card."""
    folder = write_folder(tmp_path / "d", {"data": [row(n) for n in range(12)]}, rows_per_file=1)
    hub.make("alice/d", **{"old.csv": b"x"})
    few = {"magpie_steps.publish:CHANGES_PER_COMMIT": 5}
    done = pushed(folder, "alice/d", env, replace=True, **few)
    repo = hub.repos["alice/d"]
    assert held(repo) == files_of(folder)
    made = repo.commits[2:]
    assert [len(c.files) - 2 for c in made] == [5, 10, 13, 13]
    assert "run.json" in made[0].files
    assert ["README.md" in c.files for c in made] == [False, False, False, True]
    assert ["old.csv" in c.files for c in made] == [True, True, True, False]
    assert done.result["commit"] == repo.head.id


# Who and where


def test_private_unless_public(hub, env, folder):
    assert pushed(folder, "alice/d", env).code == 0
    assert pushed(folder, "alice/e", env, public=True).code == 0
    assert hub.repos["alice/d"].private
    assert not hub.repos["alice/e"].private


@pytest.mark.parametrize(
    ("private", "public", "said"),
    [(False, False, "is public on the Hub, not private"), (True, True, "is private on the Hub")],
)
def test_visibility_of_a_repository_is_never_ignored(hub, env, folder, private, public, said):
    repo = hub.make("alice/d", private=private)
    done = pushed(folder, "alice/d", env, public=public)
    assert (done.code, repo.names) == (2, set())
    assert said in done.err
    assert f"{hub.url}/datasets/alice/d/settings" in done.err
    assert not hub.asked("POST", "preupload|commit")


def test_public_repository_is_updated_with_public(hub, env, folder):
    hub.make("alice/d", private=False)
    assert pushed(folder, "alice/d", env, public=True).code == 0
    assert held(hub.repos["alice/d"]) == files_of(folder)


@pytest.mark.parametrize(
    ("given", "full"), [("d", "alice/d"), ("acme/d", "acme/d"), ("alice/D_1.x-y", "alice/D_1.x-y")]
)
def test_name_is_completed_with_the_token_s_user(hub, env, folder, given, full):
    assert pushed(folder, given, env).result["url"] == f"{hub.url}/datasets/{full}"
    assert hub.repos[full].names


@pytest.mark.parametrize("given", ["", "a/b/c", "a b", "a--b", "-a", "a/", "é!", "a..b", "a.git"])
def test_what_is_no_repository_id_is_told(given):
    with pytest.raises(ValueError, match=r"is no repository id .*; give NAME or OWNER/NAME"):
        check_id(given)


def test_wrong_request_is_refused_before_anything_is_asked(hub, env, folder):
    assert pushed(folder, "a/b/c", env).code == 2
    assert pushed(folder / "data", "d", env).code == 2
    assert not hub.log


@pytest.mark.parametrize(
    ("token", "repo_id", "said"),
    [
        ("", "d", "there is no token for the Hub; run `hf auth login` or set HF_TOKEN"),
        ("hf_SECRETunknown", "d", "refuses the token"),
        (READER, "d", "the token of alice may only read"),
        (BOB, "alice/d", "the token of bob has no right to write to alice/d; give a name of bob"),
        (ALICE, "lookers/d", "no right to write to lookers/d; give a name of alice or acme"),
        ("hf_SECRET odd", "d", "the token has characters that no token has"),
        ("hf_SECRETé", "d", "the token has characters that no token has"),
    ],
)
def test_token_that_may_not_write_is_told_in_one_line(hub, tmp_path, folder, token, repo_id, said):
    done = pushed(folder, repo_id, environment(hub.url, tmp_path / "home", token))
    assert done.code in (2, 3)
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not hub.repos


@pytest.mark.parametrize("private", [True, False])
def test_other_user_s_dataset_is_not_written_to(hub, tmp_path, folder, private):
    repo = hub.make("alice/d", private=private)
    env = environment(hub.url, tmp_path / "home", BOB)
    assert pushed(folder, "alice/d", env, public=not private).code == 2
    assert not repo.names


def test_token_of_a_login_or_an_argument_is_used(hub, tmp_path, folder):
    env = environment(hub.url, tmp_path / "home", "")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/token").write_text(f"{ALICE}\n")
    assert pushed(folder, "d", env).result["url"].endswith("/alice/d")
    assert pushed(folder, "e", env, token=BOB).result["url"].endswith("/bob/e")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "hub.example"}, "HF_ENDPOINT is 'hub.example', which is no address"),
    ],
)
def test_setting_that_forbids_a_push_is_named(env, folder, setting, said):
    done = pushed(folder, "d", {**env, **setting})
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


@pytest.mark.parametrize("scheme", ["http://", "https://", ""])
def test_a_password_in_the_hub_s_address_is_refused_and_not_shown(env, folder, scheme):
    done = pushed(folder, "d", {**env, "HF_ENDPOINT": f"{scheme}me:pa55@hub.example"})
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "HF_ENDPOINT has a name or a password in it" in done.err
    assert "pa55" not in done.out + done.err


def test_card_that_is_not_utf_8_is_named(hub, env, folder):
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\n# \xff\n")
    done = pushed(folder, "d", env)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{folder / 'README.md'} is not UTF-8: " in done.err
    assert not hub.repos


# What is there already


def test_empty_repository_is_filled(hub, env, folder):
    hub.make("alice/d")
    assert pushed(folder, "alice/d", env).code == 0
    assert held(hub.repos["alice/d"]) == files_of(folder)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"README.md": b"# mine"}, "'README.md', and no run.json of this dataset"),
        ({"a.csv": b"1", "b.csv": b"2"}, "'a.csv' and 1 more, and no run.json"),
        ({"run.json": b'{"title": "t"}'}, "'run.json', and no run.json of this dataset"),
        ({"run.json": b"\xff\x00"}, "'run.json', and no run.json of this dataset"),
        ({"run.json": b"[" * 100_000}, "'run.json', and no run.json of this dataset"),
        (
            {"run.json": b'{"title": "x\\u001b[2J", "settings": {"model": "m", "seed": 0}}'},
            r'by its run.json, title is "x\u001b[2J" there, "t" here',
        ),
        (
            {"run.json": b'{"title": "t", "settings": {"model": "n", "seed": 1, "top_p": 1.0}}'},
            'by its run.json, model is "n" there, "m" here, seed is 1 there, 0 here, top_p',
        ),
        ({"filter.json": b'{"dataset": "d", "recipe": {}}'}, "'filter.json', and no run.json"),
    ],
)
def test_repository_of_other_content_is_refused_or_replaced(hub, env, folder, there, said):
    repo = hub.make("alice/d", **there)
    done = pushed(folder, "alice/d", env)
    assert (done.code, held(repo)) == (2, there)
    assert f"alice/d holds something else: {said}" in done.err
    assert "--replace (replace=True)" in done.err
    assert done.err.count("\n") == 1
    assert pushed(folder, "alice/d", env, replace=True).code == 0
    assert held(repo) == files_of(folder)
    assert ".gitattributes" in repo.head.files
    assert len(repo.commits) == 3


@pytest.mark.parametrize(
    ("sign", "content", "other"),
    [
        ("filter.json", {"dataset": "d", "recipe": {"name": "pro"}}, {"recipe": {"name": "air"}}),
        ("export.json", {"dataset": "d", "schema": "magpie-align"}, {"dataset": "e"}),
    ],
)
def test_filtered_and_exported_datasets_are_known_again(hub, env, tmp_path, sign, content, other):
    folder = write_folder(tmp_path / "d", {"filtered": [row(1)]}, sign=sign, **content, counts=1)
    assert pushed(folder, "d", env).code == 0
    write_folder(folder, {"filtered": [row(1), row(2)]}, sign=sign, **content, counts=2)
    assert pushed(folder, "d", env).code == 0
    write_folder(folder, {"filtered": [row(3)]}, sign=sign, **{**content, **other})
    done = pushed(folder, "d", env)
    assert done.code == 2
    assert f"by its {sign}, {next(iter(other))} is " in done.err


@pytest.mark.parametrize("broken", ["README.md", "run.json", "all", "text", "list", "title"])
def test_folder_that_is_no_dataset_repository_is_refused(folder, broken):
    contents = {"text": "{", "list": "[]", "title": '{"settings": {}}'}
    if broken == "all":
        folder = folder / "data"
    elif broken in contents:
        (folder / "run.json").write_text(contents[broken])
    else:
        (folder / broken).unlink()
    with pytest.raises(ValueError, match=re.escape(str(folder))) as caught:
        read_dataset(folder)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path / 'nowhere'}"):
        read_dataset(tmp_path / "nowhere")


def test_file_name_that_would_lie_is_refused(folder):
    (folder / "a\u202egnp.exe").write_text("x")
    with pytest.raises(ValueError, match=r"'a\\u202egnp.exe' cannot be sent; rename the file"):
        read_dataset(folder)


def test_card_that_the_hub_would_refuse_is_told_before_anything_is_made(hub, env, folder):
    (folder / "README.md").write_text("---\nlicense: unheard-of\n---\n")
    done = pushed(folder, "d", env)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert 'the card is not valid: "license" must be one of' in done.err
    assert not hub.repos


def test_what_the_hub_doubts_of_the_card_is_said(hub, env, folder):
    (folder / "README.md").write_text("---\nlicense: mit\nsize_categories: odd\n---\n")
    done = pushed(folder, "d", env)
    assert (done.code, done.err) == (0, "")
    assert "of the card: an odd size\n" in done.out


# The parts


def test_identity_is_all_settings_but_the_number_of_rows():
    said = {"title": "t", "settings": {"seed": 0, "mix": {"b": 1, "a": None}, "num_rows": 5}}
    assert identity("run.json", json.dumps({**said, "counts": 3})) == {
        "title": '"t"',
        "seed": "0",
        "mix": '{"a": null, "b": 1}',
    }
    same = {"title": "t", "settings": {"mix": {"a": None, "b": 1}, "num_rows": 9, "seed": 0}}
    assert identity("run.json", json.dumps(same)) == identity("run.json", json.dumps(said))
    nan = '{"title": "t", "settings": {"p": NaN}}'
    assert identity("run.json", nan) == identity("run.json", nan)


def test_changes_are_new_changed_and_gone_files(folder):
    import hashlib

    dataset = read_dataset(folder)
    card, shard = (folder / name for name in ("README.md", "data/train-00000-of-00003.parquet"))
    blob = hashlib.sha1(b"blob %d\0" % card.stat().st_size + card.read_bytes()).hexdigest()
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    stored = {
        "README.md": Stored(card.stat().st_size, blob),
        "data/train-00000-of-00003.parquet": Stored(shard.stat().st_size, "x", digest),
        "data/train-00001-of-00003.parquet": Stored(shard.stat().st_size, "x", "0" * 64),
        "run.json": Stored((folder / "run.json").stat().st_size, "0" * 40),
        ".gitattributes": Stored(1, "x"),
        "LICENSE": Stored(1, "x"),
        "data/train-00003-of-00004.parquet": Stored(1, "x"),
        "data/deep/train-00003-of-00004.parquet": Stored(1, "x"),
        "figures/a.png": Stored(1, "x"),
        "figures/a.svg": Stored(1, "x"),
        "report.html": Stored(1, "x"),
    }
    found = changes(dataset, stored, replace=False)
    assert found.added == [
        "data/train-00001-of-00003.parquet", "data/train-00002-of-00003.parquet", "run.json"
    ]  # fmt: skip
    assert found.deleted == ["data/train-00003-of-00004.parquet", "figures/a.png", "report.html"]
    whole = changes(dataset, stored, replace=True)
    assert set(whole.deleted) == stored.keys() - dataset.files.keys() - {".gitattributes"}


def test_commits_are_one_where_they_can_be():
    assert commits(Changes(), 3) == []
    assert commits(Changes(["a", "b"], ["c"]), 3) == [Changes(["a", "b"], ["c"])]
    wanted = Changes(["README.md", "a", "b", "run.json"], ["c"])
    assert commits(wanted, 2) == [
        Changes(["run.json", "a"]), Changes(["b"]), Changes(["README.md"], ["c"])
    ]  # fmt: skip
    assert commits(Changes(["a", "b", "c"]), 2) == [Changes(["a", "b"]), Changes(["c"])]
    assert commits(Changes([], ["a", "b", "c"]), 2) == [Changes([], ["a", "b", "c"])]


def test_empty_repository_is_anyone_s(folder):
    dataset = read_dataset(folder)
    check_replaceable(dataset, "a/b", [".gitattributes"], {})
    check_replaceable(dataset, "a/b", [], {})
    check_replaceable(dataset, "a/b", ["x"], dataset.identity)
    with pytest.raises(ValueError, match=r"a/b holds something else: 'x', and no run\.json"):
        check_replaceable(dataset, "a/b", ["x"], {})


def test_batches_keep_order_and_bounds(monkeypatch):
    monkeypatch.setattr("magpie_steps.publish.FILES_PER_BATCH", 3)
    monkeypatch.setattr("magpie_steps.publish.BYTES_PER_BATCH", 10)
    sizes = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 11, "f": 5, "g": 5, "h": 6}
    assert list(batches(list(sizes), sizes)) == [
        ["a", "b", "c"], ["d"], ["e"], ["f"], ["g"], ["h"]
    ]  # fmt: skip
    assert list(batches([], {})) == []


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=3;t=55'}, 0),
        ({"ratelimit": '"api";r=3;t=55', "retry-after": "2"}, 2),
    ],
)
def test_answers_say_how_long_to_wait(headers, seconds):
    assert asked_seconds(headers, NOW) == seconds


@pytest.mark.parametrize("kind", [NotImplementedError, RecursionError, KeyError])
def test_a_mistake_of_our_own_is_not_tried_again(kind):
    calls = []

    def broken():
        calls.append(1)
        raise kind("a bug")

    with pytest.raises(kind, match="a bug"):
        Patience("http://x", ALICE, print, pause_seconds=0)(broken)
    assert len(calls) == 1


def test_an_upload_that_fails_without_saying_of_which_kind_is_tried_again():
    calls = []

    def shaky():
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("Xet: connection reset")
        return "done"

    assert Patience("http://x", ALICE, print, pause_seconds=0)(shaky) == "done"


def test_no_object_shows_the_token():
    patience = Patience("http://x", ALICE, print)
    assert ALICE not in repr(patience)
    assert ALICE not in repr(Repository("a/d", HfApi(token=ALICE), patience))


def test_fine_grained_token_is_for_the_hub_to_judge():
    who = {"name": "alice", "auth": {"accessToken": {"role": "fineGrained"}}}
    assert full_id("acme/d", who) == "acme/d"
    assert full_id("d", {"name": "alice"}) == "alice/d"


def test_token_is_cleaned_of_nothing_but_refused(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_SECRETx")
    assert token_given(None) == "hf_SECRETx"
    assert token_given("hf_SECRETy") == "hf_SECRETy"
    with pytest.raises(ValueError, match="characters that no token has") as caught:
        token_given("hf_SECRET\nHost: x")
    assert "SECRET" not in str(caught.value)
