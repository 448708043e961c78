"""Reviews against a real Argilla server."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import krippendorff
import numpy as np
import pyarrow.parquet as pq
import pytest
from argilla_server import FlakyProxy, running_server
from review_rows import PLANNING, chat, review_row, several_turns, write_dataset

from magpie_steps.review import sync
from magpie_steps.review.client import Server, ServerAway
from magpie_steps.review.dataset import ReviewDataset, find_dataset, open_dataset
from magpie_steps.review.pull import pull
from magpie_steps.review.push import push
from magpie_steps.review.settings import PROPERTIES, Layout
from magpie_steps.review.status import status

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "03_review.ipynb"
SCRIPT = ROOT / "pipelines" / "magpie_pro.py"

pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")
pytestmark = pytest.mark.argilla


@pytest.fixture(scope="module")
def server():
    with running_server() as found:
        yield found


@pytest.fixture
def workspace(server):
    return server.workspace()


@pytest.mark.slow
def test_a_thousand_rows_pushed_twice_are_a_thousand_records(server, workspace, tmp_path):
    folder = write_dataset(tmp_path, map(review_row, range(1300)))
    said = []
    access = {**server.access, "workspace": workspace, "say": said.append}
    first = push(folder, "twice", 1000, **access)
    assert (first.records, first.sent, first.others) == (1000, 1000, 0)
    before = server.records("twice", workspace)
    again = push(folder, "twice", 1000, **access)
    assert (again.records, again.sent) == (1000, 0)
    after = server.records("twice", workspace)
    assert len({record["external_id"] for record in after}) == len(after) == 1000
    assert [record["updated_at"] for record in after] == [r["updated_at"] for r in before]
    assert sum(record["metadata"]["keep"] == "drop" for record in after) == 200
    assert said == [
        "1,000 of 1,300 rows are in the sample",
        "500 records sent so far",
        "1,000 records sent so far",
        "1,000 records sent",
        "1,000 of 1,300 rows are in the sample",
    ]
    assert status("twice", workspace=workspace, **server.access).total == 1000


def test_settings_filters_sorting_and_suggestions(server, workspace, tmp_path, request):
    import argilla as rg

    rows = [review_row(n) for n in range(40)]
    folder = write_dataset(tmp_path, rows)
    push(folder, "all", 40, workspace=workspace, **server.access)
    client = rg.Argilla(**server.access)
    request.addfinalizer(client.http_client.close)
    dataset = next(each for each in client.workspaces(workspace).datasets if each.name == "all")
    dataset.get()
    assert [field.name for field in dataset.settings.fields] == [
        "conversation",
        "answers",
        "provenance",
    ]
    assert [question.name for question in dataset.settings.questions] == [
        "human_keep",
        "human_ranking",
        "human_input_quality",
        "human_difficulty",
        "human_task_category",
        "human_issues",
        "human_response",
    ]
    assert {each.name for each in dataset.settings.metadata} >= {
        *("uuid", "model", "task_category", "difficulty", "input_quality", "language"),
        *("instruct_reward", "reward_difference", "min_neighbor_distance"),
        *("instruction_length", "response_length", "keep", "drop_reason"),
    }
    assert dataset.settings.distribution.min_submitted == 1
    assert "Keep this row?" in dataset.settings.guidelines

    hard = rg.Query(filter=[("metadata.difficulty", "==", "hard"), ("metadata.keep", "==", "keep")])
    found = {record.id for record in dataset.records(hard)}
    assert found == {r["uuid"] for r in rows if r["difficulty"] == "hard" and r["keep"]} != set()
    high = rg.Query(filter=[("metadata.instruct_reward", ">=", 1.0)])
    found = {record.id for record in dataset.records(high)}
    assert found == {row["uuid"] for row in rows if row["instruct_reward"] >= 1.0} != set()
    scope = {"entity": "metadata", "metadata_property": "instruct_reward"}
    path = f"/datasets/{dataset.id}/records/search"
    body = {"sort": [{"scope": scope, "order": "desc"}]}
    items = server.ask("POST", path, json=body, params={"limit": 40})["items"]
    rewards = [item["record"]["metadata"]["instruct_reward"] for item in items]
    assert rewards == sorted((row["instruct_reward"] for row in rows), reverse=True)

    by_uuid = {row["uuid"]: row for row in rows}
    for record in dataset.records(with_vectors=True):
        row = by_uuid[record.id]
        suggested = record.suggestions
        assert suggested["human_keep"].value == ("keep" if row["keep"] else "drop")
        assert suggested["human_keep"].agent == "filter"
        assert suggested["human_input_quality"].value == row["input_quality"]
        assert suggested["human_difficulty"].agent == "rules"
        assert suggested["human_task_category"].value == row["task_category"]
        order = record.metadata["answer_order"].split(",")
        best = "response" if row["reward_difference"] > 0 else "base_response"
        assert suggested["human_ranking"].value[0] == "AB"[order.index(best)]
        assert suggested["human_ranking"].agent == "tiny-reward"
        assert suggested["human_ranking"].score[0] == pytest.approx(
            1 / (1 + np.exp(-abs(row["reward_difference"]))), abs=1e-4
        )
        assert len(record.vectors["instruction_embedding"]) == 4


def test_annotators_do_not_see_what_tells_answers_apart(server, workspace, tmp_path):
    folder = write_dataset(tmp_path, map(review_row, range(10)))
    push(folder, "blind", 10, workspace=workspace, **server.access)
    annotator = server.annotator(workspace)
    dataset = server.dataset_id("blind", workspace)
    hidden = {"answer_order", "fingerprint", "instruct_reward", "reward_difference"}
    hidden |= {"response_length"}
    items = annotator.sees(dataset)
    assert len(items) == 10
    for item in items:
        assert not hidden & set(item["record"]["metadata"])
    assert set(annotator.properties(dataset)) == {p.name for p in PROPERTIES} - hidden


def test_two_reviewers_and_what_comes_back(server, workspace, tmp_path, caplog, capfd):
    """Planted answers: alpha, confusion tables, precision and pairs against their own counts."""
    caplog.set_level(logging.DEBUG)
    rows = [review_row(n) for n in range(30)]
    folder = write_dataset(tmp_path, rows)
    access = {**server.access, "workspace": workspace}
    push(folder, "two", 30, min_submitted=2, **access)
    people = [server.annotator(workspace), server.annotator(workspace)]
    by_uuid = {row["uuid"]: row for row in rows}
    records = server.records("two", workspace)
    levels = ["very poor", "poor", "average", "good", "excellent"]
    planted = {}
    for record in records:
        n = by_uuid[record["external_id"]]["row"]
        order = record["metadata"]["answer_order"].split(",")
        better = "base_response" if n % 4 == 0 else "response"
        ranking = [{"value": "AB"[order.index(p)], "rank": 1 + (p != better)} for p in order]
        for who, person in enumerate(people):
            keep = "drop" if n % 3 == 0 or (who and n % 10 == 1) else "keep"
            quality = levels[min(n % 5 + (who and n % 2), 4)]
            planted[who, n] = keep, quality
            person.answer(
                record,
                human_keep=keep,
                human_input_quality=quality,
                human_ranking=ranking,
                human_issues=["wrong", *(["unsafe"] if who else [])],
                **({"human_response": "Better."} if n == 3 and not who else {}),
            )
    pulled = pull(folder, "two", **access)
    review = json.loads((folder / "review.json").read_text())
    assert review == pulled.review
    assert (review["rows"], review["verdicts"], review["annotators"]) == (30, 60, 2)

    coded = [[{"keep": 0, "drop": 1}[planted[who, n][0]] for n in range(30)] for who in (0, 1)]
    expected = krippendorff.alpha(reliability_data=coded, level_of_measurement="nominal")
    assert review["agreement"]["human_keep"]["alpha"] == pytest.approx(expected, abs=1e-6)
    coded = [[levels.index(planted[who, n][1]) for n in range(30)] for who in (0, 1)]
    expected = krippendorff.alpha(reliability_data=coded, level_of_measurement="ordinal")
    assert review["agreement"]["human_input_quality"]["alpha"] == pytest.approx(expected, abs=1e-6)
    assert review["agreement"]["human_ranking"] == {"shared": 30, "alpha": 1.0, "scale": "nominal"}

    agreed = {n: planted[0, n][0] for n in range(30) if planted[0, n][0] == planted[1, n][0]}
    kept = [n for n in agreed if n % 5]
    assert review["filter"]["kept"] == len(kept)
    assert review["filter"]["kept_confirmed"] == sum(agreed[n] == "keep" for n in kept)
    assert review["filter"]["undecided"] == 30 - len(agreed)
    assert review["issues"] == {"wrong": 30}

    found = {row["row"]: row for row in pq.read_table(folder / "reviewed").to_pylist()}
    assert len(found) == 30
    for n, row in found.items():
        assert row["annotators"] == 2
        assert row["machine_keep"] == bool(n % 5)
        assert row["human_keep"] == agreed.get(n, "")
        assert row["keep"] == (agreed[n] == "keep" if n in agreed else bool(n % 5))
        assert row["agreement"] == (1.0 if n in agreed else 0.0)
        assert row["human_issues"] == ["wrong"]
        assert row["human_response"] == (["Better."] if n == 3 else [])
        assert len(row["verdicts"]) == 9
    assert found[3]["drop_reason"] == "dropped_in_review"
    assert found[5]["drop_reason"] == ""
    assert found[15]["drop_reason"] == "recipe_reward"
    names = {v["annotator"] for row in found.values() for v in row["verdicts"]}
    assert names == {"annotator-1", "annotator-2"}

    pairs = pq.read_table(folder / "reviewed_preference").to_pylist()
    assert len(pairs) == 30
    for pair in pairs:
        row = by_uuid[pair["uuid"]]
        better, worse = "response", "base_response"
        if row["row"] % 4 == 0:
            better, worse = worse, better
        assert pair["chosen"] == [{"role": "assistant", "content": row[better]}]
        assert pair["rejected"] == [{"role": "assistant", "content": row[worse]}]
        assert pair["prompt"] == chat(row["instruction"])
        assert (pair["chosen_from"], pair["chosen_rank"], pair["annotators"]) == (better, 1.0, 2)

    how_far = status("two", **access)
    assert (how_far.total, how_far.completed) == (30, 30)
    assert {n["submitted"] for n in how_far.reviewers.values()} == {30}
    assert set(how_far.reviewers) == {person.name for person in people}

    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    said = "".join([caplog.text, *capfd.readouterr(), repr(pulled), repr(how_far)])
    assert server.key.encode() not in written
    assert server.key not in said
    assert not any(person.name.encode() in written for person in people)


def test_answered_records_stay_as_they_were_shown(server, workspace, tmp_path):
    """Another seed would turn their order around, and the verdict with it."""
    rows = [review_row(n) for n in range(8)]
    folder = write_dataset(tmp_path, rows)
    access = {**server.access, "workspace": workspace}
    push(folder, "stays", 8, **access)
    person = server.annotator(workspace)
    before = {r["external_id"]: r for r in server.records("stays", workspace)}
    judged = before[rows[1]["uuid"]]
    ranking = [{"value": "A", "rank": 1}, {"value": "B", "rank": 2}]
    person.answer(judged, human_keep="keep", human_ranking=ranking)
    seeds = range(1, 50)
    other = next(s for s in seeds if push(folder, "stays", 8, seed=s, **access).kept_as_answered)
    after = {r["external_id"]: r for r in server.records("stays", workspace)}
    assert after[judged["external_id"]]["fields"] == judged["fields"]
    assert other
    assert len(after) == 8
    pull(folder, "stays", **access)
    (pair,) = pq.read_table(folder / "reviewed_preference").to_pylist()
    assert pair["chosen_from"] == judged["metadata"]["answer_order"].split(",")[0]


def test_only_changed_rows_are_sent_and_lost_suggestions_go(server, workspace, tmp_path):
    access = {**server.access, "workspace": workspace}
    push(write_dataset(tmp_path, map(review_row, range(8))), "change", 8, **access)
    untagged = review_row(2, difficulty="")
    rows = [untagged if n == 2 else review_row(n) for n in range(8)]
    again = push(write_dataset(tmp_path, rows), "change", 8, **access)
    assert (again.records, again.sent) == (8, 1)
    with Server(**server.access) as asked:
        questions = open_dataset(asked, "change", workspace).questions
    for record in server.records("change", workspace, "suggestions"):
        asked = {each["question_id"] for each in record["suggestions"]}
        is_there = questions["human_difficulty"] in asked
        assert is_there == (record["external_id"] != untagged["uuid"])


def test_verdicts_on_rows_that_changed_or_went_are_counted(server, workspace, tmp_path):
    access = {**server.access, "workspace": workspace}
    push(write_dataset(tmp_path, map(review_row, range(6))), "gone", 6, **access)
    person, other = server.annotator(workspace), server.annotator(workspace)
    for record in server.records("gone", workspace):
        person.answer(record, human_keep="keep")
    other.answer(record, status="discarded")
    rows = [review_row(n, instruction="Other?", messages=chat("Other?")) for n in (1,)]
    rows += [review_row(n) for n in (2, 3, 4)]
    folder = write_dataset(tmp_path, rows)
    review = pull(folder, "gone", **access).review
    assert review["rows"] == 3
    assert review["left_out"] == {
        "answers_discarded": 1,
        "row_changed_since": 1,
        "not_in_the_dataset": 2,
    }


def test_drafts_do_not_count_and_a_later_pull_replaces(server, workspace, tmp_path):
    folder = write_dataset(tmp_path, map(review_row, range(4)))
    access = {**server.access, "workspace": workspace}
    push(folder, "draft", 4, **access)
    assert pull(folder, "draft", **access).review["rows"] == 0
    assert not (folder / "reviewed").exists()
    person = server.annotator(workspace)
    first, second = server.records("draft", workspace)[:2]
    person.answer(first, status="draft", human_keep="drop")
    person.answer(second, human_keep="drop")
    assert pull(folder, "draft", **access).review["verdicts"] == 1
    (row,) = pq.read_table(folder / "reviewed").to_pylist()
    assert row["uuid"] == second["external_id"]
    assert not (folder / "reviewed_preference").exists()


def test_several_turns_and_several_responses(server, workspace, tmp_path):
    sampled = review_row(
        3, responses=["one", "two", "two", "three"], responses_rewards=[0.1, 0.5, 0.5, -1.0]
    )
    folder = write_dataset(tmp_path, [several_turns(1), review_row(2), sampled])
    pushed = push(folder, "mixed", 3, workspace=workspace, **server.access)
    assert ("several turns, not compared", "1") in pushed.lines()
    fewer = write_dataset(tmp_path / "fewer", [several_turns(1), review_row(2), review_row(4)])
    again = push(fewer, "mixed", 3, workspace=workspace, **server.access)
    assert (again.records, again.sent, again.others) == (3, 1, 1)
    found = {r["external_id"]: r for r in server.records("mixed", workspace)}
    turns, pair, many = (found[row["uuid"]] for row in (several_turns(1), review_row(2), sampled))
    roles = [message["role"] for message in turns["fields"]["conversation"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert PLANNING in turns["fields"]["provenance"]
    assert "answers" not in turns["fields"]
    assert [message["role"] for message in pair["fields"]["conversation"]] == ["user"]
    assert sorted(many["metadata"]["answer_order"].split(",")) == [
        "responses 0",
        "responses 1",
        "responses 3",
    ]


def test_embeddings_of_the_packages_own_model(server, workspace, tmp_path):
    folder = write_dataset(tmp_path, map(review_row, range(3)), embedded=False)
    push(folder, "own", 3, workspace=workspace, **server.access)
    for record in server.records("own", workspace, "vectors"):
        assert len(record["vectors"]["instruction_embedding"]) == 384


def test_hostile_rows_arrive(server, workspace, tmp_path):
    nasty = [
        "<script>alert(1)</script>" * 10,
        "![x](http://example.com/x.png)\n\n<img src=x onerror=alert(1)>",
        "\u202eevil\u202c \x00\x1b[31m",
        "word <b> & " * 5000,
        "# a\n\n```\n</div></details>\n",
        "\\u005c $x$ {{ record }}",
    ]
    rows = [
        review_row(n, instruction=t, response=t, base_response=t + "!", messages=chat(t, t))
        for n, t in enumerate(nasty)
    ]
    rows.append(review_row(90, uuid=""))
    rows.append(review_row(91, instruction="", response="", messages=[], instruction_raw=" "))
    folder = write_dataset(tmp_path, [*rows, rows[0]])
    pushed = push(folder, "hostile", 50, workspace=workspace, **server.access)
    assert pushed.records == len(nasty)
    assert pushed.left_out == {"no_uuid": 1, "no_text": 1, "repeated_uuid": 1}
    for record in server.records("hostile", workspace):
        for message in record["fields"]["conversation"]:
            assert len(message["content"]) <= 20_000
        text = json.dumps(record["fields"])
        assert "<script" not in text
        assert "<img" not in text
        assert "<b> " not in text


def test_a_lost_connection_is_mended(server, workspace, tmp_path, monkeypatch):
    """Connections drop once the server has done the work, so that nobody knows whether it has."""
    monkeypatch.setattr(sync, "PAUSES", (0.1,) * 5)
    folder = write_dataset(tmp_path, map(review_row, range(250)))
    proxy = FlakyProxy(server.url)
    proxy.drop = {2}
    said = []
    pushed = push(
        folder,
        "flaky",
        250,
        workspace=workspace,
        api_url=proxy.url,
        api_key=server.key,
        say=said.append,
    )
    proxy.close()
    assert pushed.records == 250
    ids = [record["external_id"] for record in server.records("flaky", workspace)]
    assert sorted(ids) == sorted(review_row(n)["uuid"] for n in range(250))
    assert any("does not answer" in line for line in said)
    assert not any(server.key in line for line in said)


@pytest.mark.slow
def test_a_killed_server_is_mended_by_the_same_command(server, workspace, tmp_path, monkeypatch):
    if not server.ours:
        pytest.skip("the Argilla server is not ours to kill")
    monkeypatch.setattr(sync, "PAUSES", (0.1,) * 5)
    folder = write_dataset(tmp_path, map(review_row, range(600)))
    access = {**server.access, "workspace": workspace}
    failed = []

    def pushing():
        try:
            push(folder, "killed", 600, **access)
        except ServerAway as error:
            failed.append(str(error))

    thread = threading.Thread(target=pushing)
    thread.start()
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        with Server(**server.access) as asked:
            found = find_dataset(asked, "killed", workspace)
            if found and found.count() >= 100:
                break
        time.sleep(0.1)
    server.kill()
    thread.join(120)
    (line,) = failed
    assert "does not answer" in line
    assert "\n" not in line
    assert server.key not in line
    server.restart()
    before = len(server.records("killed", workspace))
    assert 100 <= before < 600
    again = push(folder, "killed", 600, **access)
    assert (again.records, again.sent, again.others) == (600, 600 - before, 0)
    ids = [record["external_id"] for record in server.records("killed", workspace)]
    assert sorted(ids) == sorted(review_row(n)["uuid"] for n in range(600))
    assert status("killed", **access).total == 600


def test_a_dataset_that_was_never_finished_is_made_anew(server, workspace, tmp_path):
    body = {"name": "half", "workspace_id": server.workspace_id(workspace)}
    server.ask("POST", "/datasets", json=body)
    folder = write_dataset(tmp_path, map(review_row, range(3)))
    assert push(folder, "half", 3, workspace=workspace, **server.access).records == 3


def test_what_a_killed_push_began_is_made_anew(server, workspace, tmp_path):
    body = {"name": "half", "workspace_id": server.workspace_id(workspace)}
    begun = server.ask("POST", "/datasets", json={**body, "guidelines": Layout(2).guidelines})
    field = {"name": "answers", "title": "Answers to compare", "required": False}
    settings = {"type": "text", "use_markdown": True}
    server.ask("POST", f"/datasets/{begun['id']}/fields", json={**field, "settings": settings})
    folder = write_dataset(tmp_path, map(review_row, range(3)))
    assert push(folder, "half", 3, workspace=workspace, **server.access).records == 3
    assert server.dataset_id("half", workspace) != begun["id"]


def test_what_somebody_else_has_begun_stays(server, workspace, tmp_path):
    body = {"name": "theirs", "workspace_id": server.workspace_id(workspace)}
    begun = server.ask("POST", "/datasets", json={**body, "guidelines": "Rate cats."})
    field = {"name": "cat", "title": "Cat", "required": True, "settings": {"type": "text"}}
    server.ask("POST", f"/datasets/{begun['id']}/fields", json=field)
    folder = write_dataset(tmp_path, map(review_row, range(3)))
    with pytest.raises(ValueError, match=r"other settings: it is not published yet, and it has be"):
        push(folder, "theirs", 3, workspace=workspace, **server.access)
    assert server.dataset_id("theirs", workspace) == begun["id"]
    (kept,) = server.ask("GET", f"/datasets/{begun['id']}/fields")["items"]
    assert kept["name"] == "cat"


@pytest.mark.slow
def test_a_job_sends_its_sample_to_a_workspace(server, workspace, tmp_path):
    command = [sys.executable, str(SCRIPT), "--dry-run", "--num-rows", "20"]
    command += ["--argilla-dataset", "of-a-job", "--argilla-sample", "5"]
    command += ["--argilla-workspace", workspace, "--argilla-uncertain", "0.5"]
    access = {"ARGILLA_API_URL": server.url, "ARGILLA_API_KEY": server.key}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **access},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(server.records("of-a-job", workspace)) == 5
    assert server.key not in done.stdout + done.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert server.key.encode() not in written


def test_records_that_the_search_does_not_know_are_indexed_again(
    server, workspace, tmp_path, monkeypatch
):
    """As after a push during which the search engine was away: only its count tells."""
    folder = write_dataset(tmp_path, map(review_row, range(5)))
    access = {**server.access, "workspace": workspace}
    push(folder, "index", 5, **access)
    before = server.records("index", workspace, "suggestions")
    said = []
    monkeypatch.setattr(ReviewDataset, "progress", lambda _: {"total": 3})
    push(folder, "index", 5, say=said.append, **access)
    assert said[1:] == ["the server's search does not know all of 5 records; indexing again"]
    after = server.records("index", workspace, "suggestions")
    assert [{**r, "updated_at": 0} for r in after] == [{**r, "updated_at": 0} for r in before]


def test_what_cannot_work_is_one_clear_line(server, workspace, tmp_path):
    folder = write_dataset(tmp_path, map(review_row, range(6)))
    access = {**server.access, "workspace": workspace}
    push(folder, "taken", 6, **access)
    other = write_dataset(
        tmp_path / "k",
        [review_row(1, responses=["a", "b", "c"], responses_rewards=[1.0, 2.0, 3.0])],
    )
    cases = [
        (folder, "x", {"api_url": "http://127.0.0.1:9"}, ServerAway, "does not answer"),
        (folder, "x", {"api_url": "127.0.0.1:9"}, ValueError, "no address"),
        (folder, "x", {"api_url": "http://a:secret@h"}, ValueError, "has a user in it"),
        (folder, "x", {"api_key": "wrong.key"}, PermissionError, "does not know the key"),
        (folder, "x", {"api_key": "wr\u00f6ng\nkey"}, ValueError, "characters that no key has"),
        (folder, "x", {"workspace": "nowhere"}, ValueError, "no workspace 'nowhere'"),
        (folder, "a/b", {}, ValueError, "no name for an Argilla dataset"),
        (
            other,
            "taken",
            {},
            ValueError,
            "has other settings: question human_ranking is ranking of",
        ),
    ]
    for place, name, changes, kind, words in cases:
        with pytest.raises(kind, match=words) as raised:
            push(place, name, 3, **{**access, **changes})
        said = str(raised.value)
        assert "\n" not in said
        assert len(said) < 600
        assert "wrong.key" not in said
        assert "secret" not in said
        assert server.key not in said
    with pytest.raises(ValueError, match=r"no dataset 'never'.*review push"):
        pull(folder, "never", **access)
    annotator = {**access, "api_key": server.annotator(workspace).key}
    with pytest.raises(PermissionError, match="does not let you do this"):
        push(folder, "x", 3, **annotator)


def test_more_reviewers_can_be_asked_for_later(server, workspace, tmp_path):
    folder = write_dataset(tmp_path, map(review_row, range(3)))
    access = {**server.access, "workspace": workspace}
    push(folder, "more", 3, **access)
    push(folder, "more", 3, min_submitted=2, **access)
    dataset = server.dataset_id("more", workspace)
    assert server.ask("GET", f"/datasets/{dataset}")["distribution"]["min_submitted"] == 2
    push(folder, "more", 3, **access)
    assert server.ask("GET", f"/datasets/{dataset}")["distribution"]["min_submitted"] == 2


@pytest.mark.slow
def test_the_notebook_runs(server, workspace, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("MAGPIE_DATASET", str(write_dataset(tmp_path, map(review_row, range(60)))))
    monkeypatch.setenv("ARGILLA_DATASET", "notebook")
    monkeypatch.setenv("ARGILLA_WORKSPACE", workspace)
    monkeypatch.setenv("ARGILLA_API_URL", server.url)
    monkeypatch.setenv("ARGILLA_API_KEY", server.key)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=120).execute()
    assert "50 records sent" in nbformat.writes(notebook)
    assert len(server.records("notebook", workspace)) == 50
