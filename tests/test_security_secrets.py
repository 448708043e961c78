"""No token, key or password is ever said or written, whatever goes wrong and whoever repeats it."""

import asyncio
import http.server
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hub_server
import pytest
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline

from magpie_steps import CompletionsEngine, ConversationGenerator, ServedEngine
from magpie_steps.cli import main
from magpie_steps.embedded import model_path
from magpie_steps.engines.http_client import HttpClient, ServerError
from magpie_steps.job.reproduction import pipeline_yaml
from magpie_steps.redaction import redacted

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = str(ROOT / "pipelines" / "magpie_pro.py")
MODEL = str(model_path("tiny-instruct"))

SECRET = re.compile(rb"SECRET\w+")
"""What every planted secret has in it, and nothing else."""

SECRETS = {
    "OPENAI_API_KEY": "sk-SECRETopenai0123456789",
    "ARGILLA_API_KEY": "ar.SECRETargilla0123456789",
    "HF_TOKEN": hub_server.ALICE,
    "HTTP_PROXY_PASSWORD": "SECRETproxy0123456789",
}
USER_URL = "http://me:SECRETurl0123456789@127.0.0.1:9/v1"

STATUSES = [400, 401, 403, 404, 422, 429, 500, 503]


@contextmanager
def repeating(**statuses: int) -> Iterator[str]:
    """Run a server that answers with all headers that it was sent.

    Args:
        statuses: The status by the last part of the path; 200 without one.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = statuses.get(self.path.rpartition("/")[2], 200)
            sent = dict(self.headers.items())
            body = json.dumps(
                {
                    "error": {"message": f"you sent {sent}", "headers": sent},
                    **({} if status >= 400 else {"username": "me"}),
                }
                if status >= 400 or "models" not in self.path
                else {"data": [{"id": "tiny-instruct", "max_model_len": 512}]}
            ).encode()
            self.send_response(status, f"you sent {sent}"[:200].replace("\n", " "))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_HEAD = do_PUT = do

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def leaked(*texts: str) -> list[bytes]:
    return [found for text in texts for found in SECRET.findall(text.encode())]


def leaked_files(*folders: Path) -> list[str]:
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [f"{path}: {found}" for path in paths if (found := SECRET.findall(path.read_bytes()))]


def run(
    *command: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with all secrets planted, and look for them in all that it says and writes."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env={
            **os.environ,
            "HF_HOME": str(home / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        },
    )
    assert not leaked(done.stdout, done.stderr), done.stdout + done.stderr
    assert not leaked_files(folder)
    return done


# The words themselves


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at http://me:pw@host/v1?x and ftp://tok@h", "at http://***@host/v1?x and ftp://***@h"),
        ("{'Authorization': 'Bearer abcdefghijk'}", "{'Authorization': 'Bearer ***'}"),
        ("authorization: basic dXNlcjpwYXNz==", "authorization: basic ***"),
        (f"x{SECRETS['HF_TOKEN']}x", "x***x"),
        (f"token={SECRETS['OPENAI_API_KEY']}&", "token=***&"),
        ("given by hand", "given by ***"),
        ("mail me@host and a/b@main", "mail me@host and a/b@main"),
        ("the basic idea of a bearer of news", "the basic idea of a bearer of news"),
        ("http://host/v1 answers", "http://host/v1 answers"),
        ("", ""),
    ],
)
def test_secrets_are_taken_out_of_a_text_and_nothing_else(text: str, said: str):
    assert redacted(text, "hand", "") == said


def test_the_longer_of_two_secrets_is_hidden_whole():
    assert redacted("abcdef-ghij", "abcdef", "abcdef-ghij") == "***"


@pytest.mark.parametrize("shown", [12, 20, 38, 39])
def test_the_beginning_of_a_secret_is_hidden_too(shown: int):
    secret = "sk-proj-0123456789abcdefghijklmnopqrstu"
    text = f"wrong key {secret[:shown]}... and {secret[:shown]}"
    assert redacted(text, secret) == "wrong key ***... and ***"


def test_a_text_that_begins_as_a_secret_by_chance_is_none():
    secret = "sk-proj-0123456789abcdefghijklmnopqrstu"
    assert redacted(f"keys are like {secret[:11]}...", secret) == "keys are like sk-proj-012..."
    assert redacted("abababababababababababab!", "ab" * 10) == "***abab!"


def test_short_and_other_variables_are_no_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", "on")
    monkeypatch.setenv("TOKENIZERS_CHOICE", "fast-ones-please")
    assert redacted("on: fast-ones-please") == "on: fast-ones-please"


# A server that repeats what it is sent


@pytest.mark.parametrize("status", STATUSES)
def test_a_server_that_repeats_the_key_does_not_get_it_into_an_error(
    status: int, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    errors = []
    for statuses in ({"models": status, "completions": status}, {"completions": status}, {}):
        with repeating(**statuses) as url:
            engine = CompletionsEngine(model=MODEL, base_urls=[f"{url}/v1"], max_retries=0)
            with pytest.raises(Exception, match=r"\S") as raised:
                engine.load()
            errors.append("".join(traceback.format_exception(raised.value)))
            assert not leaked(repr(engine), str(engine), str(engine.dump()), repr(raised.value))
    assert not leaked(*errors, caplog.text)


def test_a_key_never_gets_into_rows():
    async def ask(url: str) -> Any:
        return await HttpClient([url], max_retries=0).post("/completions", {})

    with repeating() as url, pytest.raises(ServerError, match="the key itself") as raised:
        asyncio.run(ask(f"{url}/v1"))
    assert not leaked(str(raised.value))


def test_a_client_shows_no_key():
    client = HttpClient(["http://127.0.0.1:9/v1"], key="SECRETgiven0123456789")
    assert not leaked(repr(client), str(client))


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401])
def test_a_job_whose_server_repeats_the_key(status: int, tmp_path: Path):
    with repeating(models=status, completions=status) as url:
        done = run(
            *(PIPELINE, "--model", MODEL, "--base-url", f"{url}/v1", "--num-rows", "4"),
            folder=tmp_path,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "from magpie_steps import CompletionsEngine",
        "from magpie_steps.engines.reward import RewardModel",
        "from magpie_steps.engines.embedder import Embedder",
    ],
)
def test_an_error_that_nobody_catches_shows_no_variables(first: str, tmp_path: Path):
    """With distilabel imported every local variable was printed, keys among them."""
    code = (
        "import os\n"
        f"{first}\n"
        "def fail(key, headers):\n"
        "    raise RuntimeError('nobody catches it')\n"
        "key = os.environ['OPENAI_API_KEY']\n"
        "fail(key, {'Authorization': 'Bearer ' + key})\n"
    )
    done = run("-c", code, folder=tmp_path)
    assert "nobody catches it" in done.stderr


# Keys in the wrong place


def test_an_address_with_a_password_is_refused_by_a_job(tmp_path: Path):
    done = run(PIPELINE, "--model", MODEL, "--base-url", USER_URL, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "which would be shown" in done.stderr


@pytest.mark.parametrize(
    "key", ["sk-SECRET0123456789", "hf_SECRET0123456789", "SECRET key", "secret_key", ""]
)
def test_a_key_given_for_its_variables_name_is_refused_and_not_shown(key: str):
    with pytest.raises(ValueError, match="no name of an environment variable") as raised:
        CompletionsEngine(model=MODEL, api_key_variable=key)
    assert not leaked(str(raised.value))


def test_no_dump_of_a_pipeline_holds_a_key(tmp_path: Path):
    own = ServedEngine(model=MODEL)
    other = CompletionsEngine(model=MODEL, api_key_variable="OPENAI_API_KEY")
    for engine in (own, other):
        with Pipeline(name="secrets") as pipeline:
            ConversationGenerator(llm=engine, num_rows=2)
        pipeline.save(tmp_path / "own.yaml")
        pipeline.save(tmp_path / "own.json", format="json")
        assert not leaked(pipeline_yaml(pipeline, {}), repr(engine), str(pipeline.dump()))
        assert not SECRET.search(pickle.dumps(engine))
    assert not leaked_files(tmp_path)


@pytest.mark.parametrize("command", [[PIPELINE], ["-m", "magpie_steps.cli"]])
def test_help_shows_no_key(command: list[str], tmp_path: Path):
    assert run(*command, "--help", folder=tmp_path).returncode == 0


def test_the_help_of_reviews_shows_no_key(tmp_path: Path):
    for verb in ("push", "status", "pull"):
        done = run("-m", "magpie_steps.cli", "review", verb, "--help", folder=tmp_path)
        assert "ARGILLA_API_KEY" in done.stdout


# A whole run


@pytest.mark.slow
def test_a_run_and_its_push_leave_no_secret_anywhere(tmp_path: Path):
    """Card, run.json, pipeline.yaml, report, rows, journal, logs, the libraries' own caches."""
    told = json.dumps({"error": f"the token {hub_server.ALICE} is having a bad day"})
    sent = {"X-Error-Message": f"Bearer {hub_server.ALICE}"}
    with hub_server.serve() as hub:
        for method, path in (("GET", "whoami"), ("POST", "preupload"), ("POST", "commit")):
            hub.faults.append(hub_server.Fault(path, method, 503, sent, told))
        online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        done = run(
            *(PIPELINE, "--dry-run", "--num-rows", "40", "--output-dir", "data"),
            *("--hub-repo-id", "alice/data"),
            folder=tmp_path,
            environment=online,
        )
        assert done.returncode == 0, done.stderr
        assert "***" in done.stdout  # the Hub's words were repeated, without the token
        held = [file.content for repo in hub.repos.values() for file in repo.head.files.values()]
        assert len(held) > 5
        assert not [content for content in held if SECRET.search(content)]
        hub.faults.append(hub_server.Fault(".", "GET", 400, sent, told, times=9))
        failed = run(
            *("-m", "magpie_steps.cli", "push", "data", "alice/data"),
            folder=tmp_path,
            environment=online,
        )
        assert failed.returncode == 1
        assert "***" in failed.stderr
    written = {path.name for path in (tmp_path / "data").iterdir()}
    assert {"README.md", "run.json", "pipeline.yaml", "report.html"} <= written


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 500])
def test_a_hub_that_repeats_the_token_when_something_is_fetched(status: int, tmp_path: Path):
    told = json.dumps({"error": f"{hub_server.ALICE} may not"})
    sent = {"X-Error-Message": f"{hub_server.ALICE} may not"}
    with hub_server.serve() as hub:
        hub.faults.append(hub_server.Fault(".", "GET", status, sent, told, times=99))
        hub.faults.append(hub_server.Fault(".", "HEAD", status, sent, told, times=99))
        online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        code = (
            "from magpie_steps.engines.transformers import TransformersEngine as E\n"
            "E(model='alice/model').load()"
        )
        assert run("-c", code, folder=tmp_path, environment=online).returncode == 1
        for command in (
            ["report", "alice/data"],
            ["filter", "alice/data", "--recipe", "default"],
        ):
            done = run(*("-m", "magpie_steps.cli", *command), folder=tmp_path, environment=online)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1


# Argilla


@pytest.mark.parametrize("status", STATUSES)
def test_an_argilla_server_that_repeats_the_key(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")
    for statuses in ({"me": status}, {"workspaces": status}):
        with repeating(**statuses) as url:
            monkeypatch.setenv("ARGILLA_API_URL", url)
            assert main(["review", "status", "name"]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert not leaked(said.out, said.err)


def test_the_key_of_an_argilla_server_is_in_none_of_its_texts(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")
    from magpie_steps.review.client import Server

    monkeypatch.delenv("ARGILLA_API_KEY")
    with repeating(workspaces=422) as url, Server(url, "SECRETgiven0123456789") as server:
        with pytest.raises(ValueError, match=r"\*\*\*") as raised:
            server.workspace(None)
        trace = "".join(traceback.format_exception(raised.value))
        assert not leaked(repr(server), str(server), str(raised.value), trace)


def test_nothing_that_is_refused_is_repeated_with_its_secret():
    for bad in (USER_URL, USER_URL.replace("http", "ftp")):
        with pytest.raises((ValueError, DistilabelUserError)) as raised:
            CompletionsEngine(model=MODEL, base_urls=[bad])
        assert not leaked(str(raised.value), repr(raised.value))
