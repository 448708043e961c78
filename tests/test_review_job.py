"""What a job checks about a review before it generates anything, and which command it names."""

import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from magpie_steps.job import Job
from magpie_steps.job.flags import run_asked_for
from magpie_steps.review.client import Server
from magpie_steps.review.dataset import create_dataset
from magpie_steps.review.settings import MINILM_DIMENSIONS, PROPERTIES, Layout

pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")

JOB = Job(
    name="magpie-test",
    build=lambda run: None,
    settings={"max_attempts": 2},
    models=("model", "reward_model"),
    recipe="pro",
)
KEY = "very.secret.key"
DATASETS = "/api/v1/me/datasets"
TYPES = {"label": "label_selection", "labels": "multi_label_selection"}


def told(dataset=None, layout=None, role="owner", workspaces=("default", "ours")):
    """Return what a server says: a user, workspaces and a dataset with the parts of a layout."""
    found = {
        "/api/v1/me": {"username": "me", "role": role},
        "/api/v1/me/workspaces": {"items": [{"name": name, "id": name} for name in workspaces]},
        DATASETS: {"items": [{"id": "d", **dataset}] if dataset else []},
    }
    parts = layout or Layout(dimensions=MINILM_DIMENSIONS)
    lists = {
        "/api/v1/datasets/d/fields": [
            {"name": f.name, "settings": {"type": "chat" if f.chat else "text"}}
            for f in parts.fields
        ],
        "/api/v1/datasets/d/questions": [
            {
                "name": q.name,
                "id": q.name,
                "settings": {
                    "type": TYPES.get(q.kind, q.kind),
                    "options": [{"value": label} for label in q.labels],
                },
            }
            for q in parts.questions
        ],
        "/api/v1/me/datasets/d/metadata-properties": [
            {"name": p.name, "settings": {"type": p.kind}} for p in PROPERTIES
        ],
        "/api/v1/datasets/d/vectors-settings": [
            {"name": "instruction_embedding", "dimensions": parts.dimensions}
        ],
    }
    return {**found, **{path: {"items": items} for path, items in lists.items()}}


@contextmanager
def serving(found):
    """Run a server that says this, by path, and notes what else it was asked to do."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(found.get(self.path.partition("?")[0], {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def run_of(monkeypatch, url, *flags):
    monkeypatch.setenv("ARGILLA_API_URL", url)
    monkeypatch.setenv("ARGILLA_API_KEY", KEY)
    return run_asked_for(JOB, "A test.", ["--dry-run", "--argilla-dataset", "mine", *flags])


@pytest.mark.parametrize(
    ("says", "flags"),
    [
        (told(), ()),
        (told(), ("--argilla-workspace", "ours", "--argilla-uncertain", "0.5")),
        (told({"name": "other", "status": "draft"}), ()),
        (told({"name": "mine", "status": "ready"}), ()),
        (told({"name": "mine", "status": "ready"}, Layout(5, MINILM_DIMENSIONS)), ()),
    ],
)
def test_a_review_that_can_be_sent_is_no_obstacle(monkeypatch, says, flags):
    with serving(says) as (url, asked):
        run = run_of(monkeypatch, url, *flags)
    assert (run.argilla_workspace, run.argilla_uncertain) == (("ours", 0.5) if flags else ("", 0.0))
    assert asked == []
    assert "argilla" not in run.command


@pytest.mark.parametrize(
    ("says", "flags", "words"),
    [
        (told(), ("--argilla-dataset", "a/b"), "'a/b' is no name for an Argilla dataset"),
        (told(), ("--argilla-workspace", "x"), "no workspace 'x'.*choose one by --argilla-wor"),
        (told(workspaces=("a", "b")), (), "no workspace 'default'.*it has 'a', 'b'"),
        (told(role="annotator"), (), "the key's user may only answer"),
        (
            told({"name": "mine", "status": "ready"}, Layout(dimensions=4)),
            (),
            "other settings: vector instruction_embedding is 4, not 384",
        ),
        (
            told({"name": "mine", "status": "draft", "guidelines": "Mine."}),
            (),
            "other settings: it is not published yet, and its guidelines are not those",
        ),
        (told(), ("--argilla-uncertain", "1.5"), "--argilla-uncertain is 1.5; give a part between"),
        (told(), ("--argilla-uncertain", "nan"), "--argilla-uncertain is nan"),
        (told(), ("--argilla-dataset", "", "--argilla-workspace", "w"), "workspace is about a da"),
        (told(), ("--argilla-dataset", "", "--argilla-uncertain", "1"), "uncertain is about a da"),
    ],
)
def test_what_cannot_be_sent_is_one_line_before_anything_is_generated(
    monkeypatch, says, flags, words
):
    with (
        serving(says) as (url, asked),
        pytest.raises((ValueError, PermissionError), match=words) as raised,
    ):
        run_of(monkeypatch, url, *flags)
    assert str(raised.value).isprintable()
    assert "--argilla-api" not in str(raised.value)
    assert KEY not in str(raised.value)
    assert asked == []


def test_the_command_after_a_failure_has_every_flag(monkeypatch, capsys):
    with serving(told()) as (url, _):
        flags = ("--argilla-workspace", "ours", "--argilla-uncertain", "0.5")
        run = run_of(monkeypatch, url, *flags, "--output-dir", "nowhere", "--argilla-sample", "9")
    assert JOB._send_to_review(run) == 1
    said = capsys.readouterr().err
    command = "magpie-steps review push nowhere mine --sample 9 --argilla-workspace ours"
    assert f"nothing is lost: `{command} --uncertain 0.5` goes on" in said
    assert len(said.splitlines()) == 1


OURS = Layout(2, MINILM_DIMENSIONS)


@pytest.mark.parametrize(
    ("guidelines", "layout", "words"),
    [
        ("Rate cats.", OURS, "its guidelines are not those of a review"),
        (None, OURS, "its guidelines are not those of a review"),
        (
            OURS.guidelines,
            Layout(3, MINILM_DIMENSIONS),
            "question human_ranking is ranking of A, B",
        ),
        (OURS.guidelines, Layout(2, 4), "vector instruction_embedding is 4, not 384"),
    ],
)
def test_an_unfinished_dataset_of_somebody_else_is_not_replaced(guidelines, layout, words):
    draft = {"name": "mine", "status": "draft", "guidelines": guidelines}
    with serving(told(draft, layout)) as (url, asked), Server(url, KEY) as server:
        with pytest.raises(ValueError, match=words) as raised:
            create_dataset(server, "mine", "ours", OURS)
        assert "other settings: it is not published yet, and" in str(raised.value)
    assert asked == []


def test_a_dataset_that_somebody_finished_meanwhile_is_not_replaced():
    ready = {"name": "mine", "status": "ready", "guidelines": OURS.guidelines}
    with (
        serving(told(ready, OURS)) as (url, asked),
        Server(url, KEY) as server,
        pytest.raises((ValueError, OSError)),
    ):
        create_dataset(server, "mine", "ours", OURS)
    assert asked == []


@pytest.mark.parametrize(
    ("guidelines", "parts"),
    [
        (None, ()),
        ("", ()),
        (OURS.guidelines, ()),
        (OURS.guidelines, ("fields",)),
        (OURS.guidelines, ("fields", "questions", "vectors-settings")),
    ],
)
def test_what_an_earlier_push_did_not_finish_is_replaced(guidelines, parts):
    draft = {"name": "mine", "status": "draft", "guidelines": guidelines}
    says = told(draft, OURS)
    for path in says:
        if "/d/" in path and Path(path).name not in parts:
            says[path] = {"items": []}
    with serving(says) as (url, asked), Server(url, KEY) as server:
        # What answers here makes no dataset; the real server does in other tests.
        with pytest.raises((ValueError, OSError)) as raised:
            create_dataset(server, "mine", "ours", OURS)
        assert "other settings" not in str(raised.value)
    assert asked == ["/api/v1/datasets/d"]
