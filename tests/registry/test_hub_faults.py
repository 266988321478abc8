"""The fault list from the command line: right message, right exit code, right state afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from pe_toolkit.card import verify_card
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.faults import (
    CHECK,
    COMMIT,
    FRONT,
    GET,
    HEAD,
    LOOK,
    README,
    SEARCH,
    TAG,
    UPLOAD,
    Row,
    as_bob,
    both,
    every,
    expired,
    fine,
    gated,
    logged_out,
    mend,
    missing,
    moved,
    no_server,
    odd,
    offline,
    once,
    private,
    readonly,
    rival,
    run,
    slow,
    there,
)  # fmt: skip
from tests.registry.hub import QUIET, card, folder, hub, online
from tests.registry.hub_server import HubServer

__all__ = ["card", "folder", "hub", "online", "there"]
pytestmark = QUIET

ODD = odd("hf_s\u00e9cret")
LATER, NETWORK, RIGHT = "Try again later", "Check the network", "write access"
CUT, WRONG = "the connection was cut, every time", "yours was refused: it is wrong or expired"
ASKED = {"status": 429, "headers": {"Retry-After": "3600"}}
DIGEST = {"status": 400, "body": b"<Error>BadDigest</Error>"}

PULLS = [
    Row("private", both(private, logged_out), "does not exist, or is private", "hf auth login"),
    Row("private, of others", both(private, as_bob), "or is private", "your token must have"),
    Row("gated", both(gated, logged_out), "terms to be accepted", "hf auth login"),
    Row("gated, logged in", both(gated, as_bob), "terms to be accepted", "Accept them at"),
    Row("missing", missing, "does not exist", "Check the name"),
    Row("expired token", expired, WRONG, "HF_TOKEN is set"),
    Row("odd token", ODD, "characters that no token has", "HF_TOKEN is set"),
    Row("403", every(HEAD, status=403), "the right to pull", "what your token may"),
    Row("429", every(HEAD, status=429), "the server answered 429, every time", LATER),
    Row("429 for an hour", every(HEAD, **ASKED), "answered 429", "to wait 3600 seconds"),
    Row("500", every(HEAD, status=500), "the server answered 500, every time", LATER),
    Row("503", every(HEAD, status=503), "the server answered 503, every time", LATER),
    Row("503 of the storage", every(GET, status=503), "answered 503, every time", LATER),
    Row("cut before", every(HEAD, cut="before"), CUT, LATER),
    Row("cut after", every(HEAD, cut="after"), CUT, LATER),
    Row("cut in the middle", every(GET, cut="middle"), CUT, LATER),
    Row("corrupted bytes", every(GET, corrupt=True), "twice others came", "Nothing was kept"),
    Row("slow server", slow(HEAD), "the server does not answer, every time", LATER),
    Row("offline", offline, "not in the cache", "Unset HF_HUB_OFFLINE"),
    Row("no server", no_server, "there is no connection to the server", NETWORK),
]
PUSHES = [
    Row("private, of others", as_bob, "the right to push", RIGHT),
    Row("private, hidden", both(private, as_bob), "the right to push", RIGHT),
    Row("gated, of others", both(gated, as_bob), "the right to push", RIGHT),
    Row("missing, of others", both(missing, as_bob), "the right to push", RIGHT),
    Row("no token", logged_out, "there is none", "hf auth login"),
    Row("read-only token", readonly, "the right to push", RIGHT),
    Row("expired token", expired, WRONG, "HF_TOKEN is set"),
    Row("odd token", ODD, "characters that no token has", "HF_TOKEN is set"),
    Row("429", every(COMMIT, status=429), "the server answered 429, every time", LATER),
    Row("429 for an hour", every(LOOK, **ASKED), "answered 429", "to wait 3600 seconds"),
    Row("500", every(COMMIT, status=500), "the server answered 500, every time", LATER),
    Row("503", every(LOOK, status=503), "the server answered 503, every time", LATER),
    Row("503 of the storage", every(UPLOAD, status=503), "503", LATER),
    Row("cut before", every(COMMIT, cut="before"), CUT, LATER),
    Row("cut in the upload", every(UPLOAD, cut="before"), "the connection was cut", LATER),
    Row("cut in the answer", every(LOOK, cut="middle"), CUT, LATER),
    Row("corrupted bytes", every(UPLOAD, **DIGEST), "answered 400", "changed on the way"),
    Row("corrupted README", every(README, corrupt=True), "twice others came", "Try again"),
    Row("slow server", slow(CHECK), "the server does not answer", LATER),
    Row("parallel pusher", rival, "somebody else pushed meanwhile", "run the command again"),
    Row("moved tag", moved, "marks another card", "--force"),
    Row("offline", offline, "offline mode", "Unset HF_HUB_OFFLINE"),
    Row("no server", no_server, "there is no connection to the server", NETWORK),
]
SEARCHES = [
    Row("expired token", expired, WRONG, "HF_TOKEN is set"),
    Row("odd token", ODD, "characters that no token has", "HF_TOKEN is set"),
    Row("429", every(SEARCH, status=429), "the server answered 429, every time", LATER),
    Row("429 for an hour", every(SEARCH, **ASKED), "answered 429", "to wait 3600 seconds"),
    Row("500", every(SEARCH, status=500), "the server answered 500, every time", LATER),
    Row("503", every(SEARCH, status=503), "the server answered 503, every time", LATER),
    Row("cut before", every(SEARCH, cut="before"), CUT, LATER),
    Row("cut after", every(SEARCH, cut="after"), CUT, LATER),
    Row("cut in the middle", every(SEARCH, cut="middle"), CUT, LATER),
    Row("corrupted bytes", every(SEARCH, status=200, body=b'[{"id": "z\xff'), "no sound", LATER),
    Row("slow server", slow(SEARCH), "the server does not answer, every time", LATER),
    Row("offline", offline, "offline mode", "Unset HF_HUB_OFFLINE"),
    Row("no server", no_server, "there is no connection to the server", NETWORK),
]
# What passes, or hurts nobody: the command works, and may say something.
GOES_ON = [
    fine("pull, 429 once", once(HEAD, status=429), "answered 429; trying again"),
    fine("pull, 503 once", once(HEAD, status=503), "answered 503; trying again"),
    fine("pull, cut before once", once(HEAD, cut="before"), "cut; trying again"),
    fine("pull, cut after once", once(HEAD, cut="after"), "cut; trying again"),
    fine("pull, cut in the middle once", once(GET, cut="middle"), ""),
    fine("pull, corrupted bytes once", once(GET, corrupt=True), "fetching them again"),
    fine("push, 429 once", once(COMMIT, status=429), "answered 429; trying again"),
    fine("push, 500 once", once(COMMIT, status=500), "answered 500; trying again"),
    fine("push, 503 of the storage once", once(UPLOAD, status=503), ""),
    fine("push, cut in the upload once", once(UPLOAD, cut="before"), ""),
    fine("push, commit cut before once", once(COMMIT, cut="before"), "cut; trying again"),
    fine("push, commit cut after", every(COMMIT, cut="after"), "cut; trying again"),
    fine("push, tag cut before once", once(TAG, cut="before"), "cut; trying again"),
    fine("push, tag cut after", every(TAG, cut="after"), "cut; trying again"),
    fine("push, corrupted README once", once(README, corrupt=True), "fetching it again"),
    fine("search, 503 once", once(SEARCH, status=503), "answered 503; trying again"),
    fine("search, cut once", once(SEARCH, cut="middle"), "cut; trying again"),
]


def check(row: Row, code: int, said: str) -> None:
    """The right message, hint and exit code."""
    assert code == row.code, said
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    hints = [line for line in said.splitlines() if line.startswith("Hint: ")]
    assert len(errors) == len(hints) == 1, said
    assert row.said in errors[0]
    assert row.hint in hints[0]


def on_the_hub(hub: HubServer) -> dict[str, Any]:
    """Everything that a push could change."""
    return {
        name: (dict(repo.commits), dict(repo.tags), repo.private)
        for name, repo in hub.repos.items()
    }


def in_the_cache() -> list[bytes]:
    """What the client keeps: whole files only, other programs trust them."""
    blobs = Path(constants.HF_HUB_CACHE).rglob("blobs/*")
    return [blob.read_bytes() for blob in blobs if blob.suffix != ".incomplete"]


def in_the_registry() -> set[Path]:
    """The files of the local registry, left-overs as well."""
    return set(Store().root.rglob("*"))


def test_the_list_is_complete() -> None:
    """Every fault that makes sense for a command is tried with it."""
    passing = ["429", "500", "503", "cut before", "corrupted bytes", "slow server"]
    common = [*passing, "expired token", "offline", "no server"]
    wanted = {
        "pull": ["private", "gated", "missing", "cut in the middle", "cut after"],
        "push": [f"{kind}, of others" for kind in ("private", "gated", "missing")],
        "search": ["cut in the middle"],
    }
    wanted["push"] += ["cut in the upload", "parallel pusher", "moved tag"]
    for command, rows in (("pull", PULLS), ("push", PUSHES), ("search", SEARCHES)):
        names = [row.name for row in rows]
        assert len(set(names)) == len(names)
        assert {*common, *wanted[command]} <= set(names)


@pytest.mark.parametrize("row", PULLS, ids=str)
def test_pull(
    hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, row: Row
) -> None:
    out = tmp_path / "out.safetensors"
    mine = Store().add(make_card(tmp_path / "cards", name="mine", seed=7))
    repo, before = hub.repos["zoe/wave"], in_the_registry()
    with monkeypatch.context() as patch:
        row.breaks(hub, patch)
        for words in (("pull", "zoe/wave"), ("pull", "zoe/wave", "-o", out)):
            check(row, *run(*words))
    assert not out.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "cards"]
    assert [entry.reference for entry in Store().entries()] == [mine.reference]
    assert in_the_registry() == before
    verify_card(mine.path)
    assert all(data == there for data in in_the_cache())
    # And when the fault is over, the same command works.
    mend(hub, repo)
    assert run("pull", "zoe/wave", "-o", out)[0] == 0
    assert out.read_bytes() == there


@pytest.mark.parametrize("row", PUSHES, ids=str)
def test_push(
    hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch, folder: Path, row: Row
) -> None:
    newer = make_card(folder, version="2.0.0", seed=1)
    words = ("push", newer, "zoe/wave", "--tag", "v2.0.0")
    repo = hub.repos["zoe/wave"]
    with monkeypatch.context() as patch:
        row.breaks(hub, patch)
        before = on_the_hub(hub)
        check(row, *run(*words))
        if row.breaks is rival:
            assert repo.files.pop("NOTES.md").data == b"theirs"
            repo.commits.popitem()
        assert on_the_hub(hub) == before
    # And when the fault is over, the same command works.
    mend(hub, repo)
    code, said = run(*words, *(["--force"] if row.breaks is moved else []))
    assert code == 0, said
    assert repo.files["card.safetensors"].data == newer.read_bytes()
    assert repo.files["README.md"].data.endswith(b"\nBy hand.\n")
    assert repo.commits[repo.tags["v1.0.0"]]["card.safetensors"].data == there
    assert repo.tags["v2.0.0"] == repo.head


@pytest.mark.parametrize("row", SEARCHES, ids=str)
def test_search(hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    hub.put("zoe/wave", {"README.md": FRONT})
    before = on_the_hub(hub)
    with monkeypatch.context() as patch:
        row.breaks(hub, patch)
        check(row, *run("search", "wave"))
    assert Store().entries() == []
    assert on_the_hub(hub) == before
    mend(hub, hub.repos["zoe/wave"])
    assert run("search", "wave") == (0, "")


@pytest.mark.parametrize("row", GOES_ON, ids=str)
def test_what_passes_costs_nothing(
    hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch, folder: Path, row: Row
) -> None:
    repo, newer = hub.repos["zoe/wave"], make_card(folder, version="2.0.0", seed=1)
    row.breaks(hub, monkeypatch)
    command = row.name.partition(",")[0]
    words = {"pull": ["zoe/wave"], "push": [newer, "zoe/wave", "--tag", "v2.0.0"], "search": []}
    code, said = run(command, *words[command])
    assert code == row.code == 0, said
    assert row.said in said
    assert "Error" not in said
    assert any(fault.times in (0, 998, 999) for fault in hub.faults)  # it struck
    if command == "pull":
        assert Store().resolve(Store().entries()[0].reference).path.read_bytes() == there
        assert in_the_cache() == [there]
    elif command == "push":
        assert len(repo.commits) == 3  # one more
        assert repo.files["card.safetensors"].data == newer.read_bytes()
        assert repo.tags["v2.0.0"] == repo.head
