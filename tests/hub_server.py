"""A Hub on this machine: what a push of a dataset and `load_dataset` ask of one, and its bad days.

A test sees its insides, every state that a reader could have seen. Large files go by LFS, not Xet.
"""

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from urllib.parse import parse_qs, unquote, urlsplit

ALICE, BOB, READER = "hf_SECRETalice123", "hf_SECRETbob456", "hf_SECRETreader789"
USERS = {  # token -> user, the token's role, organisations with the user's role there
    ALICE: ("alice", "write", [("acme", "admin"), ("lookers", "read")]),
    BOB: ("bob", "write", []),
    READER: ("alice", "read", []),
}
LARGE = (".parquet", ".png")  # stored apart from git
ATTRIBUTES = b"*.parquet filter=lfs\n*.png filter=lfs\n"


@dataclass
class File:
    content: bytes
    large: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def blob(self) -> str:
        held = f"oid sha256:{self.sha256}\n".encode() if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def id(self) -> str:
        return self.sha256 if self.large else self.blob


@dataclass
class Commit:
    title: str
    files: dict[str, File]
    id: str = field(default_factory=lambda: secrets.token_hex(20))


@dataclass
class Repo:
    private: bool
    commits: list[Commit]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    @property
    def names(self) -> set[str]:
        return set(self.head.files) - {".gitattributes"}

    def add(self, title: str, **files: bytes | None) -> None:
        """Commit as somebody else would: files by path, None for one to delete."""
        given = {path: File(text or b"", path.endswith(LARGE)) for path, text in files.items()}
        whole = {**self.head.files, **given}
        held = {path: file for path, file in whole.items() if files.get(path, b"") is not None}
        self.commits.append(Commit(title, held))


@dataclass
class Fault:
    """What goes wrong with requests."""

    path: str  # a pattern
    method: str
    status: int = 0  # answered instead of doing the work, 0 for none
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"error": "a bad day"}'
    drop: str = ""  # "before" or "after" the work: the connection ends without an answer
    do: Callable[[], object] = lambda: None  # called first
    times: int = 1  # how many requests it hits
    skip: int = 0  # how many go well before

    def hits(self, method: str, path: str) -> bool:
        if not self.times or self.method != method or not re.search(self.path, path):
            return False
        self.skip -= 1
        self.times -= self.skip < 0
        return self.skip < 0


@dataclass
class Asked:
    method: str
    path: str
    seconds: float = field(default_factory=time.monotonic)


@dataclass
class Hub:
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[Asked] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def make(self, repo_id: str, private: bool = True, **files: bytes) -> Repo:
        repo = Repo(private, [Commit("initial commit", {".gitattributes": File(ATTRIBUTES)})])
        self.repos[repo_id] = repo
        if files:
            repo.add("by hand", **files)
        return repo

    def asked(self, method: str, pattern: str) -> list[Asked]:
        return [a for a in self.log if a.method == method and re.search(pattern, a.path)]


class Refusal(Exception):
    def __init__(self, status: int, text: str, code: str = "") -> None:
        self.status, self.text, self.code = status, text, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None: ...

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.hub.lock:
            self.hub.log.append(Asked(self.command, self.path))
            fault = next((f for f in self.hub.faults if f.hits(self.command, self.path)), None)
        if fault:
            fault.do()
            if fault.status:
                return self.send(fault.status, fault.body.encode(), fault.headers)
            if fault.drop == "before":
                return self.drop()
        self.muted = bool(fault and fault.drop)
        try:
            self.route(url.path)
        except Refusal as error:
            told = {"X-Error-Code": error.code, "X-Error-Message": error.text}
            self.send(error.status, {"error": error.text}, told)
        return self.drop() if self.muted else None

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(SHUT_RDWR)

    def send(self, status: int, body: object = b"", headers: dict[str, str] | None = None) -> None:
        if getattr(self, "muted", False):
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**sent, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def route(self, path: str) -> None:
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split("/"):
                # As on the Hub, the place that large files go to knows no token.
                self.user = None if name.startswith("large_") else self.user_of_token()
                parts = {key: unquote(value or "") for key, value in match.groupdict().items()}
                with self.hub.lock:
                    return getattr(self, name)(**parts)
        raise Refusal(404, f"there is no {self.command} {path}")

    def user_of_token(self) -> tuple[str, str, list[tuple[str, str]]] | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return USERS.get(token)

    def may_write(self, owner: str) -> bool:
        user, role, orgs = self.user
        return role == "write" and (owner == user or (owner, "admin") in orgs)

    def repo(self, repo_id: str, write: bool = False) -> Repo:
        repo, owner = self.hub.repos.get(repo_id), repo_id.split("/")[0]
        seen = self.user and owner in (self.user[0], *(org for org, _ in self.user[2]))
        if repo is None or (repo.private and not seen):
            raise Refusal(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if write and not (self.user and self.may_write(owner)):
            raise Refusal(403, "you have no right to write here")
        return repo

    def at(self, repo_id: str, revision: str) -> Commit:
        repo = self.repo(repo_id)
        commits = {commit.id: commit for commit in repo.commits} | {"main": repo.head}
        if revision and revision not in commits:
            raise Refusal(404, "no such revision", "RevisionNotFound")
        return commits[revision or "main"]

    def whoami(self) -> None:
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        name, role, orgs = self.user
        listed = [{"name": org, "roleInOrg": theirs} for org, theirs in orgs]
        self.send(200, {"name": name, "orgs": listed, "auth": {"accessToken": {"role": role}}})

    def create(self) -> None:
        asked = json.loads(self.body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if not self.may_write(asked["organization"]):
            raise Refusal(403, f"you have no right to create {repo_id}")
        if repo_id in self.hub.repos:
            raise Refusal(409, "You already created this dataset repo")
        # Without a word about it, a repository is public.
        self.hub.make(repo_id, private=asked.get("visibility") == "private")
        self.send(200, {"url": f"{self.hub.url}/datasets/{repo_id}", "id": repo_id})

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        bad = not content.startswith("---\n") or "license: unheard-of" in content
        errors = [{"message": '"license" must be one of [mit, other]'}] if bad else []
        doubts = [{"message": "an odd\nsize"}] if "size_categories: odd" in content else []
        self.send(400 if bad else 200, {"errors": errors, "warnings": doubts})

    def info(self, repo_id: str, revision: str = "") -> None:
        commit, repo = self.at(repo_id, revision), self.repo(repo_id)
        self.send(200, {"id": repo_id, "sha": commit.id, "private": repo.private})

    def tree(self, repo_id: str, revision: str, folder: str = "") -> None:
        start, found = f"{folder}/" if folder else "", {}
        files = self.at(repo_id, revision).files
        for path, file in sorted(files.items()):
            inner = path.removeprefix(start).split("/") if path.startswith(start) else []
            for depth in range(1, len(inner)):
                name = start + "/".join(inner[:depth])
                found[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
            if inner:
                found[path] = entry(path, file)
        if folder and not found:
            raise Refusal(404, "no such folder", "EntryNotFound")
        deep = self.query.get("recursive") == "true"
        shown = [e for name, e in found.items() if deep or "/" not in name.removeprefix(start)]
        first, length = int(self.query.get("cursor", 0)), 50  # short, to have several pages
        address = f"{self.hub.url}{urlsplit(self.path).path}?recursive={deep}".lower()
        link = {"Link": f'<{address}&cursor={first + length}>; rel="next"'}
        self.send(200, shown[first : first + length], link if shown[first + length :] else {})

    def preupload(self, repo_id: str, revision: str) -> None:
        files, asked = self.repo(repo_id, write=True).head.files, json.loads(self.body)
        hosted = files.get(".gitignore", File(b"")).content.decode()
        ignored = asked.get("gitIgnore", hosted).splitlines()
        said = []
        for file in asked["files"]:
            path, held = file["path"], files.get(file["path"])
            mode = "lfs" if path.endswith(LARGE) else "regular"
            skipped, oid = path in ignored, held and held.id
            said.append({"path": path, "uploadMode": mode, "shouldIgnore": skipped, "oid": oid})
        self.send(200, {"files": said})

    def batch(self, repo_id: str) -> None:
        self.repo(repo_id, write=True)
        objects = []
        for each in json.loads(self.body)["objects"]:
            todo = {"actions": {"upload": {"href": f"{self.hub.url}/_large/{each['oid']}"}}}
            objects.append({**each, **({} if each["oid"] in self.hub.large else todo)})
        self.send(200, {"transfer": "basic", "objects": objects})

    def large_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "this is another content")
        self.hub.large[oid] = self.body
        self.send(200)

    def commit(self, repo_id: str, revision: str) -> None:
        repo = self.repo(repo_id, write=True)
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit", repo.head.id) != repo.head.id:
            raise Refusal(412, "A commit has happened since.")
        files = dict(repo.head.files)
        for line in lines:
            path = line["value"]["path"]
            if line["key"] == "deletedFile":
                if files.pop(path, None) is None:
                    raise Refusal(404, "there is no such file", "EntryNotFound")
            elif line["key"] == "lfsFile":
                if line["value"]["oid"] not in self.hub.large:
                    raise Refusal(400, f"{path} was never sent")
                files[path] = File(self.hub.large[line["value"]["oid"]], large=True)
            else:
                files[path] = File(base64.b64decode(line["value"]["content"]))
        repo.commits.append(Commit(header["value"]["summary"], files))
        url = f"{self.hub.url}/datasets/{repo_id}/commit/{repo.head.id}"
        self.send(200, {"commitOid": repo.head.id, "commitUrl": url})

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        commit = self.at(repo_id, revision)
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        file = commit.files[path]
        self.send(200, file.content, {"X-Repo-Commit": commit.id, "ETag": f'"{file.id}"'})


def entry(path: str, file: File) -> dict[str, object]:
    size = len(file.content)
    said = {"type": "file", "path": path, "oid": file.blob, "size": size}
    lfs = {"lfs": {"oid": file.sha256, "size": size, "pointerSize": 130}}
    return {**said, **(lfs if file.large else {})}


ID, REVISION = r"(?P<repo_id>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"/api/datasets/{ID}(?:/revision/{REVISION})?", "info"),
    ("GET", rf"/api/datasets/{ID}/tree/{REVISION}(?:/(?P<folder>.+))?", "tree"),
    ("POST", rf"/api/datasets/{ID}/preupload/{REVISION}", "preupload"),
    ("POST", rf"/api/datasets/{ID}/commit/{REVISION}", "commit"),
    ("POST", rf"/datasets/{ID}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/_large/(?P<oid>[0-9a-f]{64})", "large_put"),
    ("GET/HEAD", rf"/datasets/{ID}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a Hub until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
