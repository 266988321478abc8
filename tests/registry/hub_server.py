"""A Hugging Face Hub on loopback: enough of its HTTP protocol for the real client, and its faults.

    with HubServer() as hub:
        hub.users["hf_token"] = "zoe"
        HubRemote(reference, endpoint=hub.url, token="hf_token").push(...)

Large files are served from a second origin, as by the Hub's CDN, so that a test can see whether a
token leaves the endpoint. `hub.faults` says which requests fail, how, and how often. Written from
the documented behaviour of the Hub and from what huggingface_hub sends and expects.

With `hub.xet = "local:///folder"` it offers xet as well: hf_xet takes a folder for its storage.
Nobody tells the server what lies in there, as the storage tells the Hub, so a test names the bytes
that it is going to push with `hub.await_xet(data)`; with the commit, the server fetches them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Fault:
    """Requests that go wrong.

    Args:
        method, path: regular expressions of the requests that are meant.
        times: how many of them.
        status: answer this instead of doing anything.
        headers: of that answer.
        cut: "before" anything is done, "after" it is done, or in the "middle" of the body.
        corrupt: change one byte of the body.
        delay: wait this many seconds first.
    """

    method: str
    path: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: str | None = None
    corrupt: bool = False
    delay: float = 0.0
    body: bytes = b'{"error": "made to fail"}'
    action: Any = None
    """Called when the fault strikes: something happens on the server at just this moment."""
    lies: dict[str, str] = field(default_factory=dict)
    """Headers of the sound answer that are replaced."""
    raw: Any = None
    """Called with the connection's file, in place of all of the answer."""


@dataclass(frozen=True)
class File:
    """A file in a commit."""

    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def blob_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def oid(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass
class Repo:
    """A repository: commits, newest last, and tags."""

    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    proposals: dict[str, dict[str, File]] = field(default_factory=dict)
    """Commits of pull requests, on no branch: the Hub hands them out by name and as refs/pr/N."""

    @property
    def head(self) -> str:
        return next(reversed(self.commits))

    @property
    def files(self) -> dict[str, File]:
        return self.commits[self.head]

    def commit(self, files: dict[str, File], title: str) -> str:
        """Add a commit with all of `files`."""
        self.titles.append(title)
        text = f"{title} {len(self.commits)} {sorted((k, f.oid) for k, f in files.items())}"
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        return oid

    def find(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit, or of the beginning of one, as git has it."""
        if revision == "main":
            return self.head
        if revision.startswith("refs/pr/"):
            return next(iter(self.proposals), None)
        begins = re.fullmatch("[0-9a-f]{7,40}", revision) is not None
        commits = [*self.commits, *self.proposals]
        known = next((c for c in commits if begins and c.startswith(revision)), None)
        return self.tags.get(revision) or known

    def at(self, commit: str) -> dict[str, File]:
        """The files of a commit."""
        return self.commits.get(commit) or self.proposals[commit]


@dataclass(frozen=True)
class Request:
    """A request that came."""

    origin: str
    method: str
    path: str
    token: str | None
    range: str | None


class Refusal(Exception):  # noqa: N818
    """An answer that is not 200."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HubServer:
    """The server; use it in a `with` block."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.expired: set[str] = set()
        self.readonly: set[str] = set()
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.verifies: str | None = None
        """The server that is to be told of an upload, if not this one."""
        self.xet: str | None = None
        """Address of the xet storage that is offered."""
        self.xet_hashes: dict[str, tuple[str, int]] = {}
        """SHA-256 -> xet hash and size of what may lie in the storage."""
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self._servers = [_Server(self, name) for name in ("hub", "cdn")]
        self.url, self.cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in self._servers)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def create(self, name: str, *, private: bool = False) -> Repo:
        """A repository as the Hub makes it: one commit with `.gitattributes`."""
        repo = self.repos[name] = Repo(private=private)
        repo.commit({".gitattributes": File(b"*.safetensors filter=lfs\n", False)}, "initial")
        return repo

    def put(self, name: str, files: dict[str, bytes], tag: str | None = None) -> str:
        """Commit files from the server's side, as somebody else would."""
        repo = self.repos.get(name) or self.create(name)
        new = {path: File(data, path.endswith(".safetensors")) for path, data in files.items()}
        commit = repo.commit(repo.files | new, "by somebody else")
        if tag:
            repo.tags[tag] = commit
        return commit

    def propose(self, name: str, files: dict[str, bytes]) -> str:
        """A pull request to a repository, by anybody; returns its commit."""
        repo = self.repos[name]
        new = {path: File(data, path.endswith(".safetensors")) for path, data in files.items()}
        commit = hashlib.sha1(f"proposal {len(repo.proposals)} to {name}".encode()).hexdigest()
        repo.proposals[commit] = repo.files | new
        return commit

    def await_xet(self, data: bytes) -> None:
        """These bytes are going to be uploaded by xet."""
        import hf_xet

        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            found = hf_xet.hash_files([file.name])[0].hash
        self.xet_hashes[hashlib.sha256(data).hexdigest()] = (found, len(data))

    def from_xet(self, sha256: str) -> bytes | None:
        """Bytes that lie in the storage, or None."""
        import hf_xet

        if self.xet is None or sha256 not in self.xet_hashes:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "out"
            try:
                with hf_xet.XetSession().new_file_download_group(endpoint=self.xet) as group:
                    group.start_download_file(
                        hf_xet.XetFileInfo(*self.xet_hashes[sha256]), str(path)
                    )
            except Exception:
                return None
            return path.read_bytes()

    def sent(self, method: str, path: str) -> list[Request]:
        """The requests that came, of this method and path (regular expressions)."""
        return [
            r for r in self.requests if re.fullmatch(method, r.method) and re.search(path, r.path)
        ]

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request; it is used up by that."""
        with self.lock:
            for fault in self.faults:
                if fault.times and re.fullmatch(fault.method, method) and re.search(
                    fault.path, path
                ):  # fmt: skip
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: HubServer, name: str) -> None:
        self.hub, self.name = hub, name
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece: two would wait for each other on loopback
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def setup(self) -> None:
        super().setup()
        self.hub = self.server.hub

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        self.where, self.query = unquote(parts.path), parse_qs(parts.query)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunks()
        auth = self.headers.get("Authorization", "")
        self.token = auth.removeprefix("Bearer ") or None
        self.hub.requests.append(
            Request(
                self.server.name, self.command, self.where, self.token, self.headers.get("Range")
            )
        )
        self.fault = self.hub.fault(self.command, self.where)
        if self.fault is not None:
            time.sleep(self.fault.delay)
            if self.fault.action is not None:
                self.fault.action()
            if self.fault.cut == "before":
                self.close_connection = True
                return
            if self.fault.raw is not None:
                self.close_connection = True
                self.fault.raw(self.wfile)
                return
            if self.fault.status is not None:
                self.answer(self.fault.status, self.fault.body, self.fault.headers)
                return
        try:
            with self.hub.lock:
                status, body, headers = self.route()
        except Refusal as no:
            headers = {"X-Error-Code": no.code} if no.code else {}
            if no.message:
                headers["X-Error-Message"] = no.message
            status, body = no.status, json.dumps({"error": no.message or no.code}).encode()
        if self.fault is not None and self.fault.cut == "after":
            self.close_connection = True
            return
        self.answer(status, body, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return b""
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        fault = self.fault
        if fault is not None and fault.corrupt and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.send_response(status)
        for key, value in (headers | (fault.lies if fault is not None else {})).items():
            self.send_header(key, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.cut == "middle":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)

    # What the Hub does

    def route(self) -> tuple[int, bytes, dict[str, str]]:
        if self.server.name == "cdn":
            return self.from_cdn()
        self.user = self.authenticate()
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, self.where)
            if method == self.command and match:
                result = getattr(self, handler)(*match.groups())
                if isinstance(result, tuple):
                    return result
                return 200, json.dumps(result).encode(), {"Content-Type": "application/json"}
        raise Refusal(404, "", f"no such route: {self.command} {self.where}")

    def authenticate(self) -> str | None:
        if self.token is None:
            return None
        if self.token in self.hub.expired or self.token not in self.hub.users:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return self.hub.users[self.token]

    def repo(self, name: str, *, write: bool = False, content: bool = False) -> Repo:
        name = self.spelled(name)
        repo = self.hub.repos.get(name)
        owner = name.partition("/")[0]
        visible = repo is not None and (
            not repo.private or self.user == owner or self.user in repo.readers
        )
        if repo is None or not visible:
            # The Hub does not tell a stranger whether a repository exists.
            raise Refusal(404 if self.user else 401, "RepoNotFound", "Repository not found")
        if content and repo.gated and self.user != owner and self.user not in repo.readers:
            message = f"Access to model {name} is restricted."
            raise Refusal(403 if self.user else 401, "GatedRepo", message)
        if write:
            self.need_write(owner)
        return repo

    def spelled(self, name: str) -> str:
        """The name of a repository in its own spelling: case does not count."""
        own = {known.casefold(): known for known in self.hub.repos}
        return own.get(name.casefold(), name)

    def need_write(self, owner: str) -> None:
        if self.user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if self.user != owner or self.token in self.hub.readonly:
            raise Refusal(403, "", f"You don't have the rights to write under {owner!r}")

    def revision(self, repo: Repo, revision: str) -> str:
        commit = repo.find(revision)
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def create(self) -> Any:
        wish = json.loads(self.body)
        owner = wish.get("organization") or self.user
        self.need_write(str(owner))
        name = f"{owner}/{wish['name']}"
        if name in self.hub.repos:
            answer = {
                "error": "You already created this model repo",
                "url": f"{self.hub.url}/{name}",
            }
            return 409, json.dumps(answer).encode(), {}
        self.hub.create(name, private=wish.get("visibility") == "private")
        return {"url": f"{self.hub.url}/{name}"}

    def info(self, name: str, revision: str = "main") -> Any:
        repo, name = self.repo(name), self.spelled(name)
        commit = self.revision(repo, revision)
        siblings = []
        for path, file in repo.at(commit).items():
            entry: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                entry |= {"size": len(file.data), "blobId": file.blob_id}
                if file.lfs:
                    entry["lfs"] = {
                        "sha256": file.sha256,
                        "size": len(file.data),
                        "pointerSize": 130,
                    }
            siblings.append(entry)
        return {
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": repo.private,
            "gated": "auto" if repo.gated else False,
            "siblings": siblings,
            "author": name.partition("/")[0],
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }

    def history(self, name: str, revision: str) -> Any:
        commits = list(self.repo(name).commits)
        commits = commits[: commits.index(self.revision(self.repo(name), revision)) + 1]
        when = "2026-01-31T12:00:00.000Z"
        return [
            {"id": oid, "title": "", "message": "", "date": when, "authors": []}
            for oid in reversed(commits)
        ]

    def refs(self, name: str) -> Any:
        repo = self.repo(name)
        return {
            "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}],
            "tags": [
                {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
                for tag, commit in repo.tags.items()
            ],
            "converts": [],
        }

    def preupload(self, name: str, revision: str) -> Any:
        repo = self.repo(name, write=True)
        files = []
        for wish in json.loads(self.body)["files"]:
            there = repo.files.get(wish["path"])
            lfs = wish["path"].endswith((".safetensors", ".mp4", ".gif", ".png"))
            files.append(
                {
                    "path": wish["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": False,
                    "oid": there.oid if there else None,
                }
            )
        return {"files": files}

    def batch(self, name: str) -> Any:
        self.repo(name, write=True)
        objects = []
        for wish in json.loads(self.body)["objects"]:
            entry = {"oid": wish["oid"], "size": wish["size"]}
            if wish["oid"] not in self.hub.objects:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.cdn}/upload/{wish['oid']}", "header": {}},
                    "verify": {"href": f"{self.hub.verifies or self.hub.url}/{name}/verify"},
                }
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def xet_token(self, name: str, kind: str, revision: str) -> tuple[int, bytes, dict[str, str]]:
        self.repo(name, write=kind == "write", content=kind == "read")
        if self.hub.xet is None:
            raise Refusal(404, "", "no xet here")
        until = int(time.time()) + 3600
        answer = {"accessToken": "xet-token", "exp": until, "casUrl": self.hub.xet}
        headers = {
            "X-Xet-Cas-Url": self.hub.xet,
            "X-Xet-Access-Token": "xet-token",
            "X-Xet-Token-Expiration": str(until),
        }
        return 200, json.dumps(answer).encode(), headers

    def verify(self, name: str) -> Any:
        wish = json.loads(self.body)
        if len(self.hub.objects.get(wish["oid"], b"")) != wish["size"]:
            raise Refusal(422, "", "the object did not arrive")
        return {}

    def validate(self) -> Any:
        import yaml

        text = json.loads(self.body)["content"]
        try:
            if text.startswith("---\n"):
                front = yaml.safe_load(text.split("\n---\n")[0])
                assert isinstance(front, dict)
        except (yaml.YAMLError, AssertionError) as error:
            raise Refusal(400, "", "invalid YAML") from error
        return {"errors": [], "warnings": []}

    def commit(self, name: str, revision: str) -> Any:
        repo = self.repo(name, write=True)
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit", repo.head) != repo.head:
            raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(repo.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:  # not by LFS
                    data = self.hub.from_xet(value["oid"])
                    self.hub.objects |= {} if data is None else {value["oid"]: data}
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, "", "LFS pointer to an object that was never uploaded")
                files[value["path"]] = File(self.hub.objects[value["oid"]], True)
            else:
                del files[value["path"]]
        oid = repo.commit(files, header["summary"])
        return {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid}

    def tag(self, name: str, revision: str) -> Any:
        repo = self.repo(name, write=True)
        tag, commit = json.loads(self.body)["tag"], self.revision(repo, revision)
        if tag in repo.tags:
            raise Refusal(409, "", "Tag reference exists already")
        repo.tags[tag] = commit
        return {}

    def untag(self, name: str, tag: str) -> Any:
        if self.repo(name, write=True).tags.pop(tag, None) is None:
            raise Refusal(404, "RevisionNotFound", "no such tag")
        return {}

    def resolve(self, name: str, revision: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        repo = self.repo(name, content=True)
        commit = self.revision(repo, revision)
        file = repo.at(commit).get(path)
        if file is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        if not file.lfs:
            length = {"Content-Length": str(len(file.data))} if self.command == "HEAD" else {}
            return 200, file.data, headers | length
        self.hub.objects[file.sha256] = file.data
        headers |= {
            "X-Linked-ETag": f'"{file.oid}"',
            "X-Linked-Size": str(len(file.data)),
            "Location": f"{self.hub.cdn}/download/{file.sha256}",
        }
        if self.hub.xet is not None and file.sha256 in self.hub.xet_hashes:
            where = f"{self.hub.url}/api/models/{name}/xet-read-token/{commit}"
            headers["X-Xet-Hash"] = self.hub.xet_hashes[file.sha256][0]
            headers["Link"] = f'<{where}>; rel="xet-auth"'
        return 302, b"", headers

    def models(self) -> Any:
        import yaml

        found = []
        for name, repo in self.hub.repos.items():
            if repo.private and self.user != name.partition("/")[0]:
                continue
            front: dict[str, Any] = {}
            text = repo.files.get("README.md", File(b"", False)).data.decode("utf-8", "replace")
            if text.startswith("---\n"):
                front = yaml.safe_load(text.split("\n---\n")[0]) or {}
            tags = list(front.get("tags", []))
            if "base_model" in front:
                tags.append(f"base_model:{front['base_model']}")
            words = " ".join(self.query.get("search", [])).lower().split()
            author = self.query.get("author", [""])[0]
            if not all(wish in tags for wish in self.query.get("filter", [])):
                continue
            if not all(word in name.lower() for word in words):
                continue
            if author and author != name.partition("/")[0]:
                continue
            found.append(
                {
                    "id": name,
                    "author": name.partition("/")[0],
                    "tags": tags,
                    "cardData": front,
                    "downloads": 7,
                    "likes": 1,
                    "siblings": [{"rfilename": path} for path in repo.files],
                    "private": repo.private,
                    "gated": "auto" if repo.gated else False,
                    "lastModified": "2026-01-31T12:00:00.000Z",
                }
            )
        return found[: int(self.query["limit"][0])]

    def from_cdn(self) -> tuple[int, bytes, dict[str, str]]:
        if self.where.endswith("/verify"):
            return 200, b"{}", {}
        verb, _, oid = self.where[1:].partition("/")
        if self.command == "PUT" and verb == "upload":
            if hashlib.sha256(self.body).hexdigest() != oid:
                raise Refusal(400, "", "the bytes are not those of the digest")
            self.hub.objects[oid] = self.body
            return 200, b"", {}
        if oid not in self.hub.objects:
            raise Refusal(404, "", "no such object")
        data = self.hub.objects[oid]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted is None:
            return 200, data, {}
        start = int(wanted[1])
        return 206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}


_ID = r"([^/]+/[^/]+)"
ROUTES = (
    ("POST", "/api/repos/create", "create"),
    ("GET", "/api/models", "models"),
    ("GET", f"/api/models/{_ID}", "info"),
    ("GET", f"/api/models/{_ID}/revision/(.+)", "info"),
    ("GET", f"/api/models/{_ID}/commits/(.+)", "history"),
    ("GET", f"/api/models/{_ID}/refs", "refs"),
    ("POST", f"/api/models/{_ID}/preupload/(.+)", "preupload"),
    ("GET", f"/api/models/{_ID}/xet-(read|write)-token/(.+)", "xet_token"),
    ("POST", f"/{_ID}.git/info/lfs/objects/batch", "batch"),
    ("POST", f"/{_ID}/verify", "verify"),
    ("POST", "/api/validate-yaml", "validate"),
    ("POST", f"/api/models/{_ID}/commit/(.+)", "commit"),
    ("POST", f"/api/models/{_ID}/tag/(.+)", "tag"),
    ("DELETE", f"/api/models/{_ID}/tag/(.+)", "untag"),
    ("HEAD", f"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
    ("GET", f"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
)
