"""What is known of the installed packages is told, and so is that nobody could be asked."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
AUDIT = ROOT / ".ci" / "audit.py"

pytest.importorskip("pip_audit", reason="needs pip-audit: pip install 'magpie-steps[dev]'")


def advisory(package: str, **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "999.1"}]
    affected = {"package": {"name": package, "ecosystem": "PyPI"}}
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    return {
        "id": "GHSA-test",
        "summary": "bad",
        "affected": [{**affected, "ranges": ranges}],
        **more,
    }


@contextmanager
def advising(**known: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a service like OSV that knows one advisory each of some packages."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(query)
            found = known.get(query["package"]["name"])
            body = json.dumps({"vulns": [found]} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", asked
    finally:
        server.shutdown()
        server.server_close()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(AUDIT), "osv"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PIP_AUDIT_OSV_URL": url},
    )


def test_packages_without_advisories_pass_and_are_counted():
    with advising() as (url, asked):
        done = audit(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"osv knows {len(asked)} of {len(asked)} packages, 0 of its advisories" in done.stdout
    versions = {query["package"]["name"]: query["version"] for query in asked}
    assert {"torch", "transformers", "distilabel", "aiohttp"} <= versions.keys()
    assert versions["distilabel"] == "1.5.3"
    assert "+" not in versions["torch"]  # no database has a build's local part
    assert "magpie-steps" not in versions


def test_an_advisory_fails_the_audit_and_names_the_package_and_the_remedy():
    with advising(aiohttp=advisory("aiohttp", aliases=["CVE-0000-1"])) as (url, _):
        done = audit(url)
    assert done.returncode == 1
    assert "CVE-0000-1, GHSA-test, mended in 999.1" in done.stdout
    assert "1 of its advisories concern us" in done.stdout


def test_that_nobody_can_be_asked_is_said_and_does_not_fail():
    done = audit("http://127.0.0.1:9/v1/query")
    assert done.returncode == 0
    assert "audit: osv cannot be asked: " in done.stdout
    assert "audit: skipped: no service with advisories can be reached" in done.stdout
    assert "0 of its advisories" not in done.stdout


@pytest.fixture
def module() -> Any:
    spec = spec_from_file_location("audit", AUDIT)
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("accepted", ["GHSA-test", "CVE-0000-1"])
def test_what_was_accepted_is_told_with_its_reason(
    module: Any, accepted: str, capsys: pytest.CaptureFixture[str]
):
    vulns = [{"id": "GHSA-test", "aliases": ["CVE-0000-1"], "fix_versions": []}]
    known = [{"name": "a", "version": "1", "vulns": vulns}]
    assert module.verdict("osv", known, 1) == 1
    assert "mended in no release" in capsys.readouterr().out
    module.ACCEPTED[accepted] = "never called"
    assert module.verdict("osv", known, 1) == 0
    assert "accepted: never called" in capsys.readouterr().out


def test_every_accepted_advisory_has_a_reason(module: Any):
    assert all(len(reason) > 20 for reason in module.ACCEPTED.values())


def test_bandit_finds_what_is_planted(tmp_path: Path):
    """The settings leave the rules on that matter: each of these lines is a finding."""
    bandit = [
        sys.executable,
        "-m",
        "bandit",
        "--quiet",
        "--configfile",
        str(ROOT / "pyproject.toml"),
    ]
    planted = {
        "B301": "import pickle\npickle.loads(b'')\n",
        "B602": "import subprocess\nsubprocess.run('ls', shell=True)\n",
        "B605": "import os\nos.system('ls ' + name)\n",
        "B307": "eval('1')\n",
        "B102": "exec('1')\n",
        "B506": "import yaml\nyaml.load('a', Loader=yaml.Loader)\n",
        "B501": "import requests\nrequests.get('https://x', verify=False, timeout=1)\n",
        "B614": "import torch\ntorch.load('x')\n",
        "B202": "import tarfile\ntarfile.open('x').extractall('y')\n",
        "B324": "import hashlib\nhashlib.md5(b'')\n",
    }
    for rule, code in planted.items():
        (tmp_path / f"{rule}.py").write_text(code)
    done = subprocess.run(
        [*bandit, "--recursive", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert not [rule for rule in planted if f"[{rule}:" not in done.stdout]
