"""A server that lies, floods or stalls: it is bounded, it chooses no path, and nothing is kept."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from huggingface_hub import constants, get_session

from pe_toolkit.errors import PeError
from pe_toolkit.registry.remotes import hub_pull
from pe_toolkit.registry.remotes.base import PushOptions
from pe_toolkit.registry.remotes.errors import RemoteError, UnreachableError
from pe_toolkit.registry.remotes.hub import HubRemote
from pe_toolkit.registry.remotes.hub_guard import MOST_JSON, guarded
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online, remote, telling
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online", "telling"]
pytestmark = QUIET
DOWNLOAD, RESOLVE = "/download/", "/resolve/"
NAMES = [
    "../../../../evil", "/tmp/evil", "..", "evil", "a" * 39, "A" * 40, "a" * 41, "g" * 64,
    "a" * 38 + "/a", "é" * 40,
]  # fmt: skip


@pytest.fixture
def there(hub: HubServer, card: Path) -> str:
    """zoe/wave is on the Hub; its commit."""
    return hub.put("zoe/wave", {"card.safetensors": card.read_bytes()})


def files() -> set[Path]:
    """Every file of the client's cache and around it, apart from the cache's own book-keeping."""
    cache = Path(constants.HF_HUB_CACHE)
    found = {path for path in cache.parents[1].rglob("*") if not path.is_dir()}
    main = cache / "models--zoe--wave" / "refs" / "main"  # which commit it is, no more
    found -= {cache / "CACHEDIR.TAG", main} if _is_commit(main) else {cache / "CACHEDIR.TAG"}
    return {path for path in found if ".locks" not in path.parts}


def _is_commit(path: Path) -> bool:
    return path.is_file() and re.fullmatch(r"[0-9a-f]{40}", path.read_text()) is not None


def refused(hub: HubServer, kind: type[PeError] = RemoteError, timeout: float = 5) -> str:
    """Pulling is refused, and leaves nothing behind; the message."""
    before = files()
    with pytest.raises(kind) as caught:
        remote(hub, timeout=timeout).pull()
    assert files() == before
    assert Store().entries() == []
    return caught.value.message


@pytest.mark.parametrize("skipped", [0, 1], ids=["our look", "the client's"])
@pytest.mark.parametrize("header", ["ETag", "X-Repo-Commit"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_server_becomes_no_path(
    hub: HubServer, there: str, header: str, name: str, skipped: int
) -> None:
    hub.faults.append(Fault("HEAD", RESOLVE, times=skipped))
    value = name.encode().decode("latin-1") if header == "X-Repo-Commit" else f'"{name}"'
    lies = {"X-Linked-ETag": value, header: value} if header == "ETag" else {header: value}
    hub.faults.append(Fault("HEAD", RESOLVE, times=9, lies=lies))
    message = refused(hub)
    assert "hex digits" in message
    assert not hub.sent("GET", DOWNLOAD)


def test_a_commit_of_the_server_becomes_no_path_of_a_push(
    hub: HubServer, card: Path, there: str
) -> None:
    body = json.dumps({"id": "zoe/wave", "sha": "../../../evil", "siblings": []}).encode()
    hub.faults.append(Fault("GET", "/api/models/zoe/wave$", times=9, status=200, body=body))
    before = files()
    with pytest.raises(RemoteError, match="Expected the name of a commit"):
        remote(hub).push(card, PushOptions())
    assert files() == before
    assert not hub.sent("POST", "commit")


def test_a_list_of_agents_that_is_none_stops_nothing(
    hub: HubServer, telling: None, card: Path, there: str
) -> None:
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    remote(hub).push(card, PushOptions())
    assert not hub.sent("GET", "/api/agent-harnesses")


def test_a_server_whose_answers_are_no_objects(hub: HubServer, telling: None, card: Path) -> None:
    listed = Path(constants.AGENT_HARNESSES_PATH)
    listed.unlink()
    hub.faults.append(Fault("GET", "/api/", times=99, status=200, body=b"[1, 2]"))
    with pytest.raises(RemoteError, match="Expected to push to") as caught:
        remote(hub).push(card, PushOptions())
    assert "Is it a Hugging Face Hub?" in str(caught.value.hint)
    assert not listed.exists()  # it would be believed for a day, of other servers too


def flood(sent: list[int], head: bytes) -> Callable[[BinaryIO], None]:
    """Send zeros for as long as somebody takes them, a gigabyte at most."""

    def write(file: BinaryIO) -> None:
        file.write(head)
        for _ in range(1 << 10):
            file.write(bytes(1 << 20))
            file.flush()
            sent[0] += 1 << 20

    return write


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Length: 1073741824\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 1073741824\r\n\r\n",
        b"HTTP/1.1 404 No\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 302 Here\r\nLocation: /x\r\nContent-Length: 1073741824\r\n\r\n",
    ],
    ids=["no length", "another length", "a part", "error", "no card", "redirect"],
)
def test_the_announced_size_is_enforced_while_it_comes(
    hub: HubServer, there: str, head: bytes
) -> None:
    sent = [0]
    hub.faults.append(Fault("GET", DOWNLOAD, times=99, raw=flood(sent, head)))
    start = time.monotonic()
    refused(hub, PeError)
    assert time.monotonic() - start < 5
    time.sleep(0.05)
    assert sent[0] < 64 << 20  # of several attempts, each what the kernel keeps for us


def test_a_rest_that_is_longer_than_the_rest(
    hub: HubServer, card: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_pull, "STEP", 50)
    data, sent = card.read_bytes(), [0]
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    rest = (
        f"HTTP/1.1 206 Partial\r\nContent-Range: bytes 100-{len(data) - 1}/{len(data)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    hub.faults.append(Fault("GET", DOWNLOAD, raw=lambda file: file.write(head + data[:100])))
    hub.faults.append(Fault("GET", DOWNLOAD, times=99, raw=flood(sent, rest)))
    assert f"at most {len(data) - 100} bytes" in refused(hub)


def drip(head: bytes) -> Callable[[BinaryIO], None]:
    """One byte every 50 ms, for half a minute."""

    def write(file: BinaryIO) -> None:
        file.write(head)
        for _ in range(600):
            file.write(b"x")
            file.flush()
            time.sleep(0.05)

    return write


STATUS, HEADER = b"", b"HTTP/1.1 200 OK\r\nA: "
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "path", "head"),
    [
        ("HEAD", RESOLVE, STATUS), ("HEAD", RESOLVE, HEADER),
        ("GET", DOWNLOAD, STATUS), ("GET", DOWNLOAD, HEADER), ("GET", DOWNLOAD, BODY),
    ],
    ids=["look, status", "look, header", "status", "header", "body"],
)  # fmt: skip
def test_a_server_that_sends_a_byte_in_time_for_ever(
    hub: HubServer, there: str, head: bytes, method: str, path: str
) -> None:
    hub.faults.append(Fault(method, path, times=99, raw=drip(head)))
    start = time.monotonic()
    message = refused(hub, UnreachableError, timeout=0.3)
    assert "but the server is slower" in message
    assert time.monotonic() - start < 3


def test_a_connection_that_is_used_again_is_hung_up_too(hub: HubServer, there: str) -> None:
    remote(hub).pull()  # the connections are open now
    hub.faults.append(Fault("HEAD", RESOLVE, times=99, raw=drip(b"HTTP/1.1 200 OK\r\nA: ")))
    said: list[str] = []
    start = time.monotonic()
    assert remote(hub, timeout=0.3, said=said).pull().offline
    assert time.monotonic() - start < 3
    assert "the server is slower. This is the copy in the cache" in said[-1]


@pytest.mark.parametrize("packed", [True, False])
def test_a_large_answer_does_not_fill_the_memory(hub: HubServer, packed: bool) -> None:
    bomb = b"[" + b"[]," * (MOST_JSON * 8) + b"[]]"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(bomb, 1) if packed else bomb
    assert (len(body) < MOST_JSON) == packed
    hub.faults.append(Fault("GET", "/api/models", times=9, status=200, body=body, headers=headers))
    tracemalloc.start()
    try:
        with pytest.raises(RemoteError, match=r"compressed|at most \d+ bytes"):
            HubRemote(endpoint=hub.url, timeout=5).search([], backbone=None, author=None, limit=3)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("where", ["snapshot", "blob"])
def test_a_link_in_the_cache_costs_nobody_a_file(
    hub: HubServer, card: Path, there: str, tmp_path: Path, where: str
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    pointer = remote(hub).pull().path
    link = pointer if where == "snapshot" else pointer.resolve()
    link.unlink()
    link.symlink_to(mine)
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    assert mine.read_text() == "mine"


def test_a_folder_of_the_cache_that_is_a_link(
    hub: HubServer, there: str, tmp_path: Path, folder: Path
) -> None:
    pointer = remote(hub).pull().path
    elsewhere = tmp_path / "elsewhere"
    pointer.parent.rename(elsewhere)
    pointer.parent.symlink_to(elsewhere)
    (elsewhere / "card.safetensors").unlink()
    (elsewhere / "card.safetensors").write_text("mine")
    hub.faults.append(Fault("GET", DOWNLOAD, times=9, status=403))
    with pytest.raises(PeError):
        remote(hub).pull()
    assert (elsewhere / "card.safetensors").read_text() == "mine"


def test_the_token_stays_with_its_endpoint(hub: HubServer, folder: Path) -> None:
    hub.verifies = hub.cdn
    remote(hub).push(make_card(folder), PushOptions())
    asked = hub.sent("POST", "/verify$")
    assert [(request.origin, request.token) for request in asked] == [("cdn", None)]
    hub.verifies = None
    remote(hub).push(make_card(folder, seed=7), PushOptions())
    asked = hub.sent("POST", "/verify$")
    assert [(request.origin, request.token) for request in asked[1:]] == [("hub", TOKEN)]


@pytest.mark.parametrize("kind", ["a foreign server", "no hash"])
def test_xet_of_another_server_is_not_used(
    hub: HubServer, card: Path, there: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    route = f"{hub.cdn if kind == 'a foreign server' else hub.url}/xet-token"
    lies = {
        "X-Xet-Hash": "a" * 64 if kind == "a foreign server" else "../../evil",
        "Link": f'<{route}>; rel="xet-auth"',
    }
    hub.faults.append(Fault("HEAD", RESOLVE, times=9, lies=lies))
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    assert not hub.sent("GET", "xet-token")


def test_requests_of_others_are_left_alone(hub: HubServer) -> None:
    body = b"x" * 10_000
    hub.faults.append(Fault("GET", "/mine", times=9, status=200, body=body))
    got = []

    def other() -> None:
        got.append(get_session().get(f"{hub.url}/mine").content)

    with guarded(hub.url, TOKEN, most=10):
        with pytest.raises(RemoteError, match="at most 10 bytes"):
            get_session().get(f"{hub.url}/mine")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert got == [body]
    assert get_session().get(f"{hub.url}/mine").content == body
