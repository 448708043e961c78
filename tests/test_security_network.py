"""Whom do engines and reviews talk to, and who may talk to the servers that we start?"""

import asyncio
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from completions_server import running
from distilabel.errors import DistilabelUserError
from pushing import environment, row, write_folder

from magpie_steps.embedded import model_path
from magpie_steps.engines.addresses import check_address, proxy_for
from magpie_steps.engines.completions import CompletionsEngine
from magpie_steps.engines.http_client import HttpClient, ServerError, UntrustedError
from magpie_steps.engines.served import ServedEngine, servers_for
from magpie_steps.engines.server import HOST, PORT
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.engines.vllm import VLLMEngine

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("completions_server.py")
MODEL = str(model_path("tiny-instruct"))
KEY = "sk-SECRET0123456789"


@contextmanager
def listening(
    answer: Any = None, *, status: int = 200, location: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Run a server that answers everything so; give its port and the requests that reach it."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(
                {"line": self.requestline, **{k.lower(): v for k, v in self.headers.items()}}
            )
            body = json.dumps({"data": []} if answer is None else answer).encode()
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_CONNECT = do

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(url: str, **settings: Any) -> Any:
    async def ask() -> Any:
        return await HttpClient([url], max_retries=0, **settings).get(url, "/models")

    return asyncio.run(ask())


def post(url: str, **settings: Any) -> Any:
    async def ask() -> Any:
        return await HttpClient([url], **{"max_retries": 0, **settings}).post("/completions", {})

    return asyncio.run(ask())


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def with_certificate(authority: trustme.CA, name: str) -> Iterator[tuple[int, list[Any]]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    with listening(tls=context) as found:
        yield found


def test_an_unknown_certificate_is_refused_and_it_is_said_how_to_trust_it(authority):
    with with_certificate(authority, "localhost") as (port, asked):
        url = f"https://localhost:{port}/v1"
        engine = CompletionsEngine(model=MODEL, base_urls=[url])
        with pytest.raises(DistilabelUserError) as raised:
            engine.load()
        # At once: what cannot be trusted now cannot be at the next try.
        with pytest.raises(UntrustedError, match="cannot be trusted"):
            post(url, max_retries=6)
    said = str(raised.value)
    assert said.startswith(f"{url} shows a certificate that cannot be trusted (")
    assert "set SSL_CERT_FILE to a file with that authority's" in said
    assert not asked


def load_elsewhere(url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask in a process of its own, as an authority is read once, at the start."""
    code = (
        "import asyncio, sys\n"
        "from magpie_steps.engines.http_client import HttpClient\n"
        "async def ask():\n"
        "    return await HttpClient([sys.argv[1]], max_retries=0).get(sys.argv[1], '/models')\n"
        "print(asyncio.run(ask()))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, url],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_an_authority_of_ones_own_is_trusted_for_its_names_only(authority, tmp_path: Path):
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    with with_certificate(authority, "localhost") as (port, _):
        found = load_elsewhere(f"https://localhost:{port}/v1", SSL_CERT_FILE=str(pem))
        assert (found.returncode, found.stdout) == (0, "{'data': []}\n"), found.stderr
        # The same server by a name that its certificate does not have.
        other = load_elsewhere(f"https://127.0.0.1:{port}/v1", SSL_CERT_FILE=str(pem))
        assert other.returncode == 1
        assert "UntrustedError" in other.stderr
        assert "mismatch" in other.stderr


def test_a_certificate_of_argillas_server_is_verified(authority):
    pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")
    from magpie_steps.review.client import Server, ServerAway

    with (
        with_certificate(authority, "localhost") as (port, asked),
        pytest.raises(ServerAway, match=r"certificate cannot be trusted.*SSL_CERT_FILE"),
    ):
        Server(f"https://localhost:{port}", KEY)
    assert not asked


def test_the_hubs_certificate_is_verified_and_not_asked_for_again(authority, tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"data": [row(1)]})
    load = "from magpie_steps.engines.model_files import find_model as f; f('a/b', None, False)"
    with with_certificate(authority, "localhost") as (port, asked):
        url = f"https://localhost:{port}"
        for command in (
            ["-m", "magpie_steps.cli", "push", str(folder), "alice/data"],
            ["-m", "magpie_steps.cli", "report", "alice/data"],
            ["-c", load],
        ):
            done = subprocess.run(
                [sys.executable, *command],
                capture_output=True,
                text=True,
                timeout=100,
                env=environment(url, tmp_path / "home", "hf_SECRETalice123", HF_HUB_OFFLINE="0"),
            )
            assert done.returncode in (1, 2)
            said = " ".join(done.stderr.split())
            assert "set SSL_CERT_FILE to a file with that authority's" in said
            assert "trying again" not in done.stdout
    assert not asked


def test_nothing_here_turns_verification_off():
    """Where a certificate is not looked at, one of these words stands."""
    words = ("verify=False", "ssl=False", "CERT_NONE", "check_hostname", "_create_unverified")
    for path in [*ROOT.glob("magpie_steps/**/*.py"), *ROOT.glob("pipelines/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path


# Proxies


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    with listening() as (port, asked):
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pass-word@127.0.0.1:{port}")
        monkeypatch.setenv("http_proxy", f"http://user:pass-word@127.0.0.1:{port}")
        assert get("http://models.example/v1") == {"data": []}
        assert post("http://models.example/v1") == {"data": []}
    assert [each["line"].split()[1] for each in asked] == [
        "http://models.example/v1/models",
        "http://models.example/v1/completions",
    ]
    assert all(each["proxy-authorization"] == "Basic dXNlcjpwYXNzLXdvcmQ=" for each in asked)


def test_a_tls_connection_goes_through_the_proxy_unseen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with listening(status=403) as (port, asked):
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")  # also without its scheme
        with pytest.raises(ConnectionError, match="does not answer") as raised:
            get("https://models.example/v1")
    assert [each["line"].split()[:2] for each in asked] == [["CONNECT", "models.example:443"]]
    assert KEY not in json.dumps(asked) + str(raised.value)


def test_a_proxys_password_is_not_said(monkeypatch: pytest.MonkeyPatch):
    for proxy in ("http://user:pass-word@127.0.0.1:9", "http://user:pass-word@[::bad"):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises((ConnectionError, ValueError)) as raised:
            post("http://models.example/v1")
        assert "pass-word" not in str(raised.value)


def test_servers_on_this_machine_are_asked_directly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for host in ("127.0.0.1", "127.8.9.1", "localhost", "a.localhost", "[::1]"):
        assert proxy_for(f"http://{host}:8000/v1") is None
    with listening() as (port, _):
        assert get(f"http://127.0.0.1:{port}/v1") == {"data": []}


def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "models.example,.inside")
    assert proxy_for("http://models.example/v1") is None
    assert proxy_for("http://a.inside/v1") is None
    assert proxy_for("http://elsewhere.example/v1") == "http://proxy:3128"
    assert proxy_for("https://elsewhere.example/v1") is None


# Whom the key reaches


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", [get, post])
def test_the_key_does_not_follow_a_redirect_to_another_server(
    ask: Any, status: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        listening() as (other, asked_there),
        listening(status=status, location=f"http://127.0.0.1:{other}/v1") as (port, asked_here),
        suppress(ServerError, ValueError),  # that it is not followed at all is fine too
    ):
        ask(f"http://127.0.0.1:{port}/v1")
    assert asked_here[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(asked_there)


def test_a_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password pass-word\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with listening() as (port, asked):
        get(f"http://127.0.0.1:{port}/v1")
    assert "authorization" not in asked[0]


@pytest.mark.parametrize(
    "url",
    [
        *("http://user:pass-word@host/v1", "https://pass-word@host/v1", "user:pass-word@host"),
        *("http://host/v1?key=pass-word", "http://host/v1#pass-word"),
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(url: str):
    with pytest.raises(ValueError, match="which would be shown") as raised:
        check_address(url)
    assert "pass-word" not in str(raised.value)
    with pytest.raises(ValueError, match="which would be shown") as of_engine:
        CompletionsEngine(model=MODEL, base_urls=[url])
    assert "pass-word" not in str(of_engine.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000", "ftp://host/v1", "file:///etc/passwd", "http://", "http://:80/v1"),
        *("http://host:port/v1", "http://host:99999/v1", "http://[::1/v1", "http://ho\nst/v1"),
    ],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ValueError, match="is no address of a server; give addresses such as"):
        check_address(url)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://a.example", "http://[::1]:1"])
def test_addresses_are_taken(url: str):
    check_address(url)


# Servers that we start


class Served(ServedEngine):
    """An engine whose server is not vLLM but the tests' own."""

    def command(self) -> list[str]:
        return [sys.executable, str(SCRIPT), "--host", HOST, "--port", PORT]


@pytest.fixture
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magpie_steps.engines.vllm_api.require_vllm", lambda say: "0")


@pytest.mark.slow
def test_a_started_server_listens_here_alone_and_wants_a_key_of_its_own(
    without_vllm: None, monkeypatch: pytest.MonkeyPatch
):
    # Neither a key that is around nor a proxy has a say.
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with servers_for([Served(model=MODEL)]) as (server,):
        process = psutil.Process(server.pid)
        sockets = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert {each.laddr.ip for each in sockets} == {"127.0.0.1"}
        key = server.address.key
        assert len(key) >= 43  # 256 bits
        assert key != KEY
        for wrong in ("", "x" * len(key), KEY):
            with pytest.raises(ServerError, match="401"):
                get(server.address.url, key=wrong, key_variable="NO_SUCH_VARIABLE")
        assert get(server.address.url, key=key)["data"]
        # Its log and state are its owner's alone, and hold no key.
        folder = server.address.state_file.parent
        assert folder.stat().st_mode & 0o077 == 0
        assert not [path for path in folder.iterdir() if key.encode() in path.read_bytes()]
        for address in _other_addresses():
            port = int(server.address.url.split(":")[2].split("/")[0])
            with socket.socket() as probe:
                assert probe.connect_ex((address, port)) != 0
    assert not folder.exists()


def _other_addresses() -> set[str]:
    """The addresses by which other machines know this one, if there are any."""
    found = (each for some in psutil.net_if_addrs().values() for each in some)
    known = {each.address for each in found if each.family == socket.AF_INET}
    return {address for address in known if not address.startswith("127.")}


def test_each_server_has_another_key(without_vllm: None):
    servers = [Served(model=MODEL).make_server(["true"]) for _ in range(2)]
    try:
        assert servers[0].address.key != servers[1].address.key
    finally:
        for server in servers:
            server.stop()


def test_vllms_command_says_where_to_listen_and_holds_no_key(without_vllm: None):
    command = ServedEngine(model=MODEL).command()
    assert command[command.index("--host") + 1] == HOST
    assert not [part for part in command if "key" in part.lower()]


@pytest.mark.parametrize("name", ["host", "port", "api_key", "api-key", "hf_token"])
def test_no_argument_opens_a_server_or_writes_a_key_down(name: str):
    for kind in (ServedEngine, VLLMEngine):
        with pytest.raises(ValueError, match=f"engine_args may not have {name}") as raised:
            kind(model=MODEL, engine_args={name: "0.0.0.0-SECRET"})
        assert "SECRET" not in str(raised.value)


def test_a_key_that_cannot_be_sent_is_told_without_showing_it(monkeypatch: pytest.MonkeyPatch):
    engine = TransformersEngine(model=MODEL)
    engine.load()
    with running(engine, key=KEY) as server:
        for key in (f"{KEY}\nX: y", f"{KEY}\x00", f"{KEY}é"):
            if "\x00" in key:
                continue  # no environment holds it
            monkeypatch.setenv("OPENAI_API_KEY", key)
            with pytest.raises(DistilabelUserError, match="has characters that no key has") as told:
                CompletionsEngine(model=MODEL, base_urls=[server.url]).load()
            assert KEY not in str(told.value)
        monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")  # as a file of secrets may end
        client = CompletionsEngine(model=MODEL, base_urls=[server.url])
        client.load()
        client.unload()
    engine.unload()
