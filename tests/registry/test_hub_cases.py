"""Faults that need more than one command: moved tags, huge READMEs, Ctrl-C, what search shows."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pe_toolkit.cli.main import cli
from pe_toolkit.registry.remotes.readme import MAX_README
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.faults import (
    ALWAYS,
    FRONT,
    HEAD,
    TAG,
    as_bob,
    gated,
    mend,
    missing,
    private,
    run,
    there,
)  # fmt: skip
from tests.registry.hub import QUIET, card, folder, hub, online
from tests.registry.hub_server import Fault, File, HubServer

__all__ = ["card", "folder", "hub", "online", "there"]
pytestmark = QUIET


def test_pull_of_a_tag_that_moved(hub: HubServer, there: bytes, folder: Path) -> None:
    assert run("pull", "zoe/wave@v1.0.0")[0] == 0
    first = Store().entries()[0]
    theirs = make_card(folder, seed=9).read_bytes()
    hub.put("zoe/wave", {"card.safetensors": theirs}, tag="v1.0.0")
    code, said = run("pull", "zoe/wave@v1.0.0")
    assert code == 2
    assert "Expected wave@1.0.0 to be free" in said
    assert "pe pull zoe/wave@v1.0.0 --as NAME" in said
    assert [(entry.reference, entry.digest) for entry in Store().entries()] == [
        (first.reference, first.digest)
    ]
    assert first.path.read_bytes() == there
    assert run("pull", "zoe/wave@v1.0.0", "--as", "theirs")[0] == 0
    assert {entry.path.read_bytes() for entry in Store().entries()} == {there, theirs}


def test_pull_while_somebody_pushes(hub: HubServer, there: bytes, folder: Path) -> None:
    """What comes is one of the two cards, with its own digest."""
    theirs = make_card(folder, seed=9).read_bytes()
    action = lambda: hub.put("zoe/wave", {"card.safetensors": theirs})  # noqa: E731
    hub.faults.append(Fault(*HEAD, action=action))
    code, said = run("pull", "zoe/wave")
    assert code == 0, said
    assert Store().entries()[0].path.read_bytes() == theirs


HUGE = {
    "text": (FRONT + b"x" * MAX_README, f"has {MAX_README + len(FRONT)} bytes"),
    "metadata": (
        FRONT.replace(b"\n---\n", b"\nmine: " + b"x" * 80_000 + b"\n---\nBy hand.\n"),
        "begins with 80026 bytes of metadata",
    ),
}


@pytest.mark.parametrize("what", HUGE)
def test_huge_readme(hub: HubServer, there: bytes, folder: Path, tmp_path: Path, what: str) -> None:
    huge, message = HUGE[what]
    hub.put("zoe/wave", {"README.md": huge})
    newer, out = make_card(folder, version="2.0.0", seed=1), tmp_path / "out.safetensors"
    code, said = run("push", newer, "zoe/wave")
    assert code == 0, said
    assert f"Warning: README.md {message}: it was left as it is. Make it shorter than" in said
    files = hub.repos["zoe/wave"].files
    assert files["README.md"] == File(huge, False)
    assert files["card.safetensors"].data == newer.read_bytes()
    assert run("pull", "zoe/wave", "-o", out) == (0, "")
    assert out.read_bytes() == newer.read_bytes()
    assert bool(hub.sent("GET|HEAD", "README")) == (what == "metadata")
    assert run("search", "wave") == (0, "")


def test_search_shows_what_may_be_seen(
    hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private, gated, missing: an answer like any other."""

    def found() -> str:
        result = CliRunner().invoke(cli, ["search", "wave"])
        assert result.exit_code == 0, result.output
        return result.stdout or result.stderr

    hub.put("zoe/wave", {"README.md": FRONT})
    private(hub, monkeypatch)
    assert found() == "zoe/wave  private\n"
    as_bob(hub, monkeypatch)
    assert found() == "Nothing found.\n"
    mend(hub, hub.repos["zoe/wave"])
    gated(hub, monkeypatch)
    assert found() == "zoe/wave  gated\n"
    missing(hub, monkeypatch)
    assert found() == "Nothing found.\n"


def test_the_tag_cannot_be_set(hub: HubServer, there: bytes, folder: Path) -> None:
    """The card is there; the same command again sets the tag, without another commit."""
    newer = make_card(folder, version="2.0.0", seed=1)
    words = ("push", newer, "zoe/wave", "--tag", "v2.0.0")
    hub.faults.append(Fault(*TAG, ALWAYS, status=503))
    code, said = run(*words)
    assert code == 1
    assert "the server answered 503, every time" in said
    repo = hub.repos["zoe/wave"]
    assert repo.files["card.safetensors"].data == newer.read_bytes()
    assert set(repo.tags) == {"v1.0.0"}
    hub.faults.clear()
    assert run(*words)[0] == 0
    assert len(repo.commits) == 3
    assert repo.tags["v2.0.0"] == repo.head


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 400}, {"cut": "before"}], ids=str)
def test_a_tag_that_is_moved_and_cannot_be_set(
    hub: HubServer, there: bytes, folder: Path, fault: dict[str, Any]
) -> None:
    """The Hub cannot move a tag: between taking it off and setting it there is none."""
    other = make_card(folder, seed=1)
    words = ("push", other, "zoe/wave", "--tag", "v1.0.0")
    hub.faults.append(Fault(*TAG, ALWAYS, **fault))
    code, said = run(*words, "--force")
    assert code == 1
    assert "the tag v1.0.0 is gone" in said
    assert "Hint: Run the command again" in said
    repo = hub.repos["zoe/wave"]
    assert repo.tags == {}
    assert repo.files["card.safetensors"].data == other.read_bytes()
    hub.faults.clear()
    assert run(*words)[0] == 0
    assert repo.tags == {"v1.0.0": repo.head}
    assert len(repo.commits) == 3


def test_ctrl_c_while_a_tag_is_moved(
    hub: HubServer, there: bytes, folder: Path, request: pytest.FixtureRequest
) -> None:
    main = threading.main_thread().ident
    assert main is not None
    # Background jobs of a shell begin with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stop = lambda: signal.pthread_kill(main, signal.SIGINT)  # noqa: E731
    hub.faults.append(Fault(*TAG, action=stop, cut="before"))
    other = make_card(folder, seed=1)
    code, said = run("push", other, "zoe/wave", "--tag", "v1.0.0", "--force")
    assert code == 130, said
    assert "The tag v1.0.0 is gone" in said
    assert "Run the command again to set it" in said
    assert hub.repos["zoe/wave"].tags == {}
    assert run("push", other, "zoe/wave", "--tag", "v1.0.0")[0] == 0
    assert hub.repos["zoe/wave"].tags == {"v1.0.0": hub.repos["zoe/wave"].head}
