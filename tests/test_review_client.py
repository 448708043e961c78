"""What a server's answers mean to a user, without an Argilla server."""

import http.server
import threading
from contextlib import contextmanager

import pytest
from review_rows import review_row, write_dataset

from magpie_steps.review import client
from magpie_steps.review.client import Server, ServerAway
from magpie_steps.review.layouts import differences, signature, signature_of
from magpie_steps.review.push import push
from magpie_steps.review.settings import KEEP, Layout
from magpie_steps.review.status import Status

pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")

KEY = "very.secret.key"
ME = '{"username": "me"}'


@contextmanager
def answering(*answers):
    """Run a server that gives these answers in turn, the last one again and again."""
    waiting = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, text = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "text", "kind", "words"),
    [
        (200, "<html>hello</html>", ValueError, "is no Argilla server; give the address of one"),
        (200, "{}", ValueError, "is no Argilla server"),
        (200, "[]", ValueError, "is no Argilla server"),
        (200, "7", ValueError, "is no Argilla server"),
        (404, "nothing here", ValueError, "is no Argilla server"),
        (401, "{}", PermissionError, "does not know the key; copy it from My settings"),
        (403, "{}", PermissionError, "does not let you do this"),
        (302, "", ValueError, "refuses this"),
        (500, "oh\nno", ServerAway, r"does not answer \(error 500: oh no\)"),
        (502, "x" * 5000, ServerAway, "error 502"),
    ],
)
def test_what_does_not_answer_as_argilla_is_one_clear_line(status, text, kind, words):
    with answering((status, text)) as url, pytest.raises(kind, match=words) as raised:
        Server(url, KEY)
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 600
    assert KEY not in said


@pytest.mark.parametrize(
    ("status", "kind"), [(422, ValueError), (403, PermissionError), (503, ServerAway)]
)
def test_later_answers_are_told_too(status, kind):
    with answering((200, ME), (status, "why")) as url, Server(url, KEY) as server:
        with pytest.raises(kind, match="why"):
            server.ask("GET", "/x")
        assert KEY not in repr(server)


@pytest.mark.parametrize(
    ("items", "name", "words"),
    [
        ("", None, "no workspace 'default' for you.*it has none"),
        ('{"name": "a"}, {"name": "b"}', None, "it has 'a', 'b'; choose one by"),
        ('{"name": "a"}', "b", "no workspace 'b' for you"),
    ],
)
def test_workspaces_that_are_not_there(items, name, words):
    told = pytest.raises(ValueError, match=words)
    answers = (200, ME), (200, f'{{"items": [{items}]}}')
    with answering(*answers) as url, Server(url, KEY) as server, told:
        server.workspace(name)


@pytest.mark.parametrize(
    ("items", "name", "found"),
    [
        ('{"name": "a"}', None, "a"),
        ('{"name": "a"}, {"name": "default"}', None, "default"),
        ('{"name": "a"}, {"name": "b"}', "b", "b"),
    ],
)
def test_the_workspace_that_is_meant(items, name, found):
    with answering((200, ME), (200, f'{{"items": [{items}]}}')) as url, Server(url, KEY) as server:
        assert server.workspace(name) == {"name": found}


def test_address_and_key_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    with pytest.raises(ValueError, match="needs a key; give it as ARGILLA_API_KEY"):
        Server("http://127.0.0.1:9")
    with answering((200, ME)) as url:
        monkeypatch.setenv("ARGILLA_API_URL", f" {url}/ ")
        monkeypatch.setenv("ARGILLA_API_KEY", KEY)
        with Server() as server:
            assert server.url == url


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost:69l0", "http://[::1", "http://", "https://:6900", "localhost:6900"),
        *("http://a b", "http://h:0", "http://h:99999", "http://a..b", f"http://{'a' * 70}"),
        *("ftp://h", "http://h?x=1", "http://h#x", "http://h\x07", "http://\u2603.net"),
    ],
)
def test_what_is_no_address_is_one_clear_line(url):
    with pytest.raises(ValueError, match="is no address of an Argilla server; give one") as raised:
        Server(url, KEY)
    assert str(raised.value).isprintable()


def test_errors_name_no_flags_since_jobs_have_others():
    said = []
    for url, key in (("http://h:x", KEY), ("http://127.0.0.1:9", ""), ("http://127.0.0.1:9", KEY)):
        with pytest.raises((ValueError, OSError)) as raised:
            Server(url, key)
        said.append(str(raised.value))
    with answering((200, "{}")) as url, pytest.raises(ValueError, match="is no") as raised:
        Server(url, KEY)
    said.append(str(raised.value))
    assert not any("--argilla-api" in line for line in said)
    assert all("ARGILLA_API_" in line for line in said)


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'magpie-steps\[argilla\]'"):
        Server("http://127.0.0.1:9", KEY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample": 0}, "0 rows; give at least 1"),
        ({"min_submitted": 0}, "min_submitted is 0"),
        ({"removed_share": 2.0}, "removed_share is 2.0"),
    ],
)
def test_wrong_settings_are_told_before_a_server_is_asked(tmp_path, changes, words):
    folder = write_dataset(tmp_path, [review_row(1)])
    settings = {"sample": 3, "api_url": "http://127.0.0.1:9", "api_key": KEY, **changes}
    with pytest.raises(ValueError, match=words):
        push(folder, "x", settings.pop("sample"), **settings)


def test_settings_are_compared_by_what_records_need():
    layout = Layout(answers=2, dimensions=4)
    fields = [
        {"name": "conversation", "settings": {"type": "chat"}},
        {"name": "answers", "settings": {"type": "text"}},
        {"name": "extra", "settings": {"type": "text"}},
    ]
    keep = {"type": "label_selection", "options": [{"value": KEEP}]}
    found = signature_of(fields, [{"name": "human_keep", "settings": keep}], [], [])
    told = differences(signature(layout), found)
    assert "it lacks field provenance (text)" in told
    assert "it has besides field extra (text)" in told
    assert (
        "question human_keep is label_selection of keep, not label_selection of keep, drop" in told
    )
    assert differences(signature(layout), signature(Layout(2, 4, 5))) == ""


def test_status_in_words():
    found = Status("u", 1200, 3, {"ann": {"submitted": 1000, "discarded": 0, "draft": 2}})
    assert found.lines() == [
        ("records", "1,200"),
        ("completed", "3"),
        ("  by ann", "1,000 submitted, 2 draft"),
    ]
