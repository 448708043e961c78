"""A real Argilla server for tests: the one that the environment names, or one set up here."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx", reason="needs Argilla: pip install 'magpie-steps[argilla]'")

SCRIPT = Path(__file__).resolve().parents[2] / "shared" / "servers" / "argilla.sh"
FOLDER = Path(tempfile.gettempdir()) / "argilla-test"
URL = f"http://127.0.0.1:{os.environ.get('ARGILLA_PORT', '6910')}"
OWNER, PASSWORD = "owner", "12345678"


class ArgillaServer:
    """A server, with an owner's key; `ours` if tests may stop it."""

    def __init__(self, url: str, key: str, ours: bool) -> None:
        self.url, self.key, self.ours = url, key, ours
        self.http = httpx.Client(base_url=url, headers={"X-Argilla-Api-Key": key}, timeout=60)
        self._made: list[str] = []
        self._people: list[Annotator] = []

    @property
    def access(self) -> dict[str, str]:
        """What push, status and pull need to reach it."""
        return {"api_url": self.url, "api_key": self.key}

    def ask(self, verb, path, **request):
        answer = self.http.request(verb, f"/api/v1{path}", **request)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def workspace(self) -> str:
        """Return the name of a new workspace."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        self._made.append(self.ask("POST", "/workspaces", json={"name": name})["id"])
        return name

    def workspace_id(self, name):
        found = self.ask("GET", "/me/workspaces")["items"]
        return next(each["id"] for each in found if each["name"] == name)

    def dataset_id(self, name, workspace):
        place = self.workspace_id(workspace)
        found = self.ask("GET", "/me/datasets", params={"workspace_id": place})["items"]
        return next(each["id"] for each in found if each["name"] == name)

    def records(self, name, workspace, *include):
        """Return all records of a dataset."""
        path = f"/datasets/{self.dataset_id(name, workspace)}/records"
        found, total = [], 1
        while len(found) < total:
            params = {"limit": 500, "offset": len(found), "include": include}
            page = self.ask("GET", path, params=params)
            found, total = [*found, *page["items"]], page["total"]
        return found

    def annotator(self, workspace) -> "Annotator":
        """Return a new annotator of a workspace."""
        name = f"reviewer-{uuid.uuid4().hex[:8]}"
        user = {"first_name": name, "username": name, "password": PASSWORD, "role": "annotator"}
        made = self.ask("POST", "/users", json=user)
        place = self.workspace_id(workspace)
        self.ask("POST", f"/workspaces/{place}/users", json={"user_id": made["id"]})
        person = Annotator(self.url, name, made["id"])
        self._people.append(person)
        return person

    def clean(self):
        """Delete what tests made, and let go of the server."""
        for place in self._made:
            for each in self.ask("GET", "/me/datasets", params={"workspace_id": place})["items"]:
                self.ask("DELETE", f"/datasets/{each['id']}")
            self.http.delete(f"/api/v1/workspaces/{place}")
        for person in self._people:
            self.ask("DELETE", f"/users/{person.id}")
            person.http.close()
        self.http.close()

    def kill(self):
        """Kill the server as a crash would."""
        pid = int((FOLDER / "run" / "argilla.pid").read_text())
        os.kill(pid, signal.SIGKILL)

    def restart(self):
        stop()
        _script("up")


class Annotator:
    """Somebody who answers records, as the pages do."""

    def __init__(self, url, name, user_id):
        login = {"username": name, "password": PASSWORD}
        token = httpx.post(f"{url}/api/v1/token", data=login, timeout=60).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        self.name = name
        self.id = user_id
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60)

    @property
    def key(self):
        return self.http.get("/api/v1/me").json()["api_key"]

    def answer(self, record, status="submitted", **values):
        given = {name: {"value": value} for name, value in values.items()}
        body = {"status": status, "values": given}
        answer = self.http.post(f"/api/v1/records/{record['id']}/responses", json=body)
        assert answer.status_code == 201, answer.text

    def sees(self, dataset_id):
        """Return the records as its pages get them."""
        path = f"/api/v1/me/datasets/{dataset_id}/records/search"
        return self.http.post(path, json={}, params={"limit": 100}).json()["items"]

    def properties(self, dataset_id):
        path = f"/api/v1/me/datasets/{dataset_id}/metadata-properties"
        return [each["name"] for each in self.http.get(path).json()["items"]]


class FlakyProxy:
    """Stands before a server and, at chosen requests, drops the connection once they are done."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.drop: set[int] = set()
        self.puts = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listening.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client):
        with client, socket.create_connection(self._server) as server:
            dropping = threading.Event()
            threading.Thread(
                target=self._back, args=(server, client, dropping), daemon=True
            ).start()
            while data := _received(client):
                if data.startswith(b"PUT"):
                    self.puts += 1
                    if self.puts in self.drop:
                        dropping.set()
                try:
                    server.sendall(data)
                except OSError:
                    return

    def _back(self, server, client, dropping):
        while data := _received(server):
            if dropping.is_set():
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(data)


def _received(connection):
    try:
        return connection.recv(65536)
    except OSError:
        return b""


@contextmanager
def running_server():
    """Give a server and stop it if it did not run before; skip the test where there is none."""
    url, key = os.environ.get("ARGILLA_API_URL", ""), os.environ.get("ARGILLA_API_KEY", "")
    started = False
    if not (url and key):
        url, key = URL, "owner.apikey"
        _skip_without_setup()
        started = not answers(url)
        if started:
            _script("up")
    server = ArgillaServer(url, key, ours=url == URL and (FOLDER / "run" / "argilla.pid").is_file())
    try:
        yield server
        server.clean()
    finally:
        if started:
            stop()


def _skip_without_setup() -> None:
    if not SCRIPT.is_file():
        pytest.skip("no Argilla server: set ARGILLA_API_URL and ARGILLA_API_KEY")
    if not (FOLDER / "venv" / "bin" / "uvicorn").is_file() or not shutil.which("redis-server"):
        pytest.skip(f"no Argilla server: `{SCRIPT} up` sets one up")


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v1/version", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def stop() -> None:
    """Stop the server and what it needs, and wait until all of it has ended."""
    pids = [int(path.read_text()) for path in (FOLDER / "run").glob("*.pid")]
    _script("down")
    deadline = time.monotonic() + 30
    while any(map(_runs, pids)):
        assert time.monotonic() < deadline, "the Argilla server does not stop"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _script(verb: str) -> None:
    with tempfile.TemporaryFile() as said:
        # Not a pipe: what the script starts would keep it open.
        done = subprocess.run([SCRIPT, verb], stdout=said, stderr=said, timeout=240, check=False)
        said.seek(0)
        assert done.returncode == 0, said.read().decode()
