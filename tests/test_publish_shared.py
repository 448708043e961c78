"""The same pushes against other Hubs: a fuller local one, without and with Xet, or any by name.

``MAGPIE_TEST_HF_ENDPOINT`` and ``MAGPIE_TEST_HF_TOKEN`` name one; the test makes a private dataset
there and deletes it.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pushing import environment, finished, loaded, pushed, row, rows_of, started, write_folder

SERVER = Path(__file__).parents[2] / "shared/servers/hub_server.py"
TOKEN = "hf_SECRETshared"
ID = "alice/d"

RUN = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import hub_server
hub_server.USERS[sys.argv[2]] = ("alice", "write")
_, url, _ = hub_server.serve(0, sys.argv[3], cdn_port=0, xet=sys.argv[4] or None)
print(url, flush=True)
threading.Event().wait()
"""

needs_server = pytest.mark.skipif(not SERVER.is_file(), reason=f"there is no {SERVER}")


@dataclass
class Place:
    """A Hub and a folder to push there."""

    url: str
    env: dict[str, str]
    folder: Path
    xet: bool

    def commits(self) -> list[str]:
        return [each["title"] for each in self.get(f"/api/datasets/{ID}/commits/main")]

    def names(self) -> set[str]:
        tree = self.get(f"/api/datasets/{ID}/tree/main?recursive=true")
        return {each["path"] for each in tree if each["type"] == "file"} - {".gitattributes"}

    def get(self, path: str, content: Any = None, method: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        body = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)

    def set_faults(self, faults: list[dict[str, Any]]) -> None:
        self.get("/_ctl/faults", faults)

    def forget(self) -> None:
        self.get("/_ctl/log", method="DELETE")

    def log(self) -> list[dict[str, Any]]:
        return self.get("/_ctl/log")

    def sent(self) -> list[str]:
        """Return the contents that came in: LFS objects, or Xet's blocks of chunks."""
        marks = ("/_lfs/put/", "/xorbs/")
        return [each["p"] for each in self.log() if any(mark in each["p"] for mark in marks)]


@pytest.fixture(params=["", "own"], ids=["lfs", "xet"])
def place(request, tmp_path):
    xet = request.param
    for module in ("hf_xet", "lz4") if xet else ():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"a Hub with Xet needs {module}, which is not installed")
    arguments = [str(SERVER.parent), TOKEN, str(tmp_path / "hub"), xet]
    command = [sys.executable, "-c", RUN, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            home = tmp_path / "home"
            env = environment(url, home, TOKEN, HF_HUB_DISABLE_XET="0" if xet else "1")
            folder = write_folder(tmp_path / "d", configs(40), rows_per_file=15)
            (folder / "figures").mkdir()
            (folder / "figures/a.png").write_bytes(bytes(range(256)) * 4)
            yield Place(url, env, folder, bool(xet))
        finally:
            server.kill()


def configs(number):
    rows = [row(n) for n in range(number)]
    return {"data": rows, "filtered": rows[::2], "sft": [{"messages": r["messages"]} for r in rows]}


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@needs_server
def test_there_and_back_then_smaller_then_again(place, tmp_path):
    done = pushed(place.folder, ID, place.env)
    assert done.code == 0, done.err
    assert place.names() == files(place.folder)
    back = loaded(ID, tmp_path / "back", place.env, *configs(1))
    assert back == {name: rows_of(place.folder / name) for name in configs(1)}
    for path in place.folder.rglob("*.parquet"):
        path.unlink()
    write_folder(place.folder, configs(9), rows_per_file=15)
    assert pushed(place.folder, ID, place.env).code == 0
    assert place.names() == files(place.folder)
    back = loaded(ID, tmp_path / "smaller", place.env, *configs(1))
    assert back == {name: rows_of(place.folder / name) for name in configs(1)}
    place.forget()
    assert pushed(place.folder, ID, place.env).result["commit"] == ""
    assert place.sent() == []
    assert len(place.commits()) == 3


@needs_server
@pytest.mark.parametrize("fault", [{"status": 503}, {"drop": "before"}, {"drop": "after"}])
def test_a_bad_day_at_every_stage_ends_well(place, fault):
    stages = ["whoami", "validate-yaml", "repos/create", "/tree/", "/preupload/", "/commit/main"]
    stages += ["xet-write-token", "v1/shards", "/xorbs/"] if place.xet else ["/batch", "/_lfs/put/"]
    place.set_faults([{"path": stage, **fault} for stage in stages])
    done = pushed(place.folder, ID, place.env)
    assert done.code == 0, done.err
    failed = [each["p"] for each in place.log() if each["s"] in (503, -1, -2)]
    assert [stage for stage in stages if not any(stage in path for path in failed)] == []
    assert place.names() == files(place.folder)
    assert len(place.commits()) == 2


@needs_server
def test_a_push_that_is_refused_in_the_middle_shows_nothing(place):
    stage = "/xorbs/" if place.xet else "/_lfs/put/"
    place.set_faults([{"path": stage, "status": 403, "times": 1000}])
    done = pushed(place.folder, ID, place.env)
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert place.names() == set()
    place.set_faults([])
    assert pushed(place.folder, ID, place.env).code == 0
    assert place.names() == files(place.folder)


@needs_server
def test_a_killed_push_is_gone_on_with(place):
    """The commit is held back: all contents are there, and none is sent again."""
    count = len(files(place.folder))
    place.set_faults([{"path": "/commit/main", "delay": 3, "status": 503}])
    process = started(place.folder, ID, place.env)
    for line in process.stdout:
        if line.startswith(f"{count} of {count} files"):
            break
    time.sleep(0.3)
    process.kill()
    assert finished(process, place.folder, place.env).code == -signal.SIGKILL
    assert place.sent()
    assert place.names() == set()
    place.forget()
    assert pushed(place.folder, ID, place.env).code == 0
    assert place.names() == files(place.folder)
    assert place.sent() == []


def test_a_hub_by_name(tmp_path):
    url, token = (os.environ.get(f"MAGPIE_TEST_HF_{name}") for name in ("ENDPOINT", "TOKEN"))
    if not url or not token:
        pytest.skip("MAGPIE_TEST_HF_ENDPOINT and MAGPIE_TEST_HF_TOKEN name no Hub")
    env = environment(url, tmp_path / "home", token)
    env["HF_HUB_DISABLE_XET"] = os.environ.get("HF_HUB_DISABLE_XET", "0")
    folder = write_folder(tmp_path / "d", configs(40), rows_per_file=15)
    done = pushed(folder, f"magpie-steps-test-{uuid.uuid4().hex[:8]}", env)
    assert done.code == 0, done.err
    assert token not in done.out
    repo_id = done.result["url"].split("/datasets/")[1]
    try:
        back = loaded(repo_id, tmp_path / "back", env, *configs(1))
        assert back == {name: rows_of(folder / name) for name in configs(1)}
        assert pushed(folder, repo_id, env).result["commit"] == ""
    finally:
        code = "import sys, huggingface_hub as h; h.delete_repo(sys.argv[1], repo_type='dataset')"
        subprocess.run([sys.executable, "-c", code, repo_id], env=env, check=True, timeout=60)
