"""The fault list from the command line: right message, right exit code, right state afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from pe_toolkit.card import verify_card
from pe_toolkit.cli.main import cli
from pe_toolkit.registry.remotes import hub as hub_module
from pe_toolkit.registry.remotes.retry import Backoff
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online"]
pytestmark = QUIET
ALWAYS = 1000
Break = Callable[[HubServer, pytest.MonkeyPatch], None]


def faulty(*faults: Fault) -> Break:
    return lambda hub, patch: hub.faults.extend(faults)


def hidden(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.repos["zoe/wave"].private = True
    patch.delenv("HF_TOKEN")


def gated(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.repos["zoe/wave"].gated = True
    patch.delenv("HF_TOKEN")


def missing(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    del hub.repos["zoe/wave"]


def expired(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.expired.add(TOKEN)


def offline(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


def rival(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    action = lambda: hub.put("zoe/wave", {"NOTES.md": b"theirs"})  # noqa: E731
    hub.faults.append(Fault("POST", "/validate-yaml", action=action))


def moved(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    repo = hub.repos["zoe/wave"]
    repo.tags["v2.0.0"] = repo.head


HEAD, GET, COMMIT = ("HEAD", "/resolve/"), ("GET", "/download/"), ("POST", "/commit/")
PULL = [
    ("private", hidden, "is private"),
    ("gated", gated, "terms"),
    ("missing", missing, "does not exist"),
    ("expired token", expired, "wrong or expired"),
    ("429", faulty(Fault(*HEAD, ALWAYS, status=429)), "429"),
    ("500", faulty(Fault(*HEAD, ALWAYS, status=500)), "500"),
    ("503 of the storage", faulty(Fault(*GET, ALWAYS, status=503)), "503"),
    ("cut before", faulty(Fault(*HEAD, ALWAYS, cut="before")), "the connection was cut"),
    ("cut in the middle", faulty(Fault(*GET, ALWAYS, cut="middle")), "the connection was cut"),
    ("corrupted bytes", faulty(Fault(*GET, ALWAYS, corrupt=True)), "twice others came"),
    ("slow server", faulty(Fault(*HEAD, ALWAYS, delay=0.6)), "does not answer"),
    ("offline", offline, "not in the cache"),
]
PUSH = [
    ("expired token", expired, "wrong or expired"),
    ("429", faulty(Fault(*COMMIT, ALWAYS, status=429)), "429"),
    ("500", faulty(Fault(*COMMIT, ALWAYS, status=500)), "500"),
    ("503 of the storage", faulty(Fault("PUT", "/upload/", ALWAYS, status=503)), "503"),
    ("cut before", faulty(Fault(*COMMIT, ALWAYS, cut="before")), "the connection was cut"),
    ("slow server", faulty(Fault("POST", "/validate-yaml", ALWAYS, delay=0.6)), "does not answer"),
    ("parallel pusher", rival, "somebody else pushed meanwhile"),
    ("moved tag", moved, "marks another card"),
    ("offline", offline, "offline mode"),
]


@pytest.fixture
def there(hub: HubServer, card: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """zoe/wave holds a card; commands ask this Hub, with short waits. The bytes of that card."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_module, "Backoff", lambda: Backoff(2, 0.01, 0.02, 2))
    hub.put("zoe/wave", {"card.safetensors": card.read_bytes()}, tag="v1.0.0")
    return card.read_bytes()


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert TOKEN not in result.output
    assert "Traceback" not in result.output
    return result.exit_code, result.stderr


@pytest.mark.parametrize(("name", "breaks", "message"), PULL, ids=[row[0] for row in PULL])
def test_pull(
    hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    name: str, breaks: Break, message: str,
) -> None:  # fmt: skip
    out = tmp_path / "out.safetensors"
    mine = Store().add(make_card(tmp_path / "cards", name="mine", seed=7))
    breaks(hub, monkeypatch)
    if name == "slow server":
        monkeypatch.setattr(hub_module, "SECONDS", 0.3)
    for words in (("pull", "zoe/wave"), ("pull", "zoe/wave", "-o", out)):
        code, said = run(*words)
        assert code == 1, said
        assert message in said
        assert "Hint: " in said
    assert not out.exists()
    assert [entry.reference for entry in Store().entries()] == [mine.reference]
    verify_card(mine.path)


@pytest.mark.parametrize(("name", "breaks", "message"), PUSH, ids=[row[0] for row in PUSH])
def test_push(
    hub: HubServer, there: bytes, monkeypatch: pytest.MonkeyPatch, folder: Path,
    name: str, breaks: Break, message: str,
) -> None:  # fmt: skip
    newer = make_card(folder, version="2.0.0", seed=1)
    words = ("push", newer, "zoe/wave", "--tag", "v2.0.0")
    with monkeypatch.context() as patch:
        breaks(hub, patch)
        if name == "slow server":
            patch.setattr(hub_module, "SECONDS", 0.3)
        code, said = run(*words)
        assert code == 1, said
        assert message in said
        assert "Hint: " in said
    repo = hub.repos["zoe/wave"]
    assert repo.files["card.safetensors"].data == there
    assert repo.commits[repo.tags["v1.0.0"]]["card.safetensors"].data == there
    # And when the fault is over, the next command works.
    hub.faults.clear()
    hub.expired.clear()
    code, said = run(*words, *(["--force"] if name == "moved tag" else []))
    assert code == 0, said
    assert repo.files["card.safetensors"].data == newer.read_bytes()
    assert repo.tags["v2.0.0"] == repo.head
