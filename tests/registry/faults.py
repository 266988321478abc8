"""The fault list: ways in which a Hub, the way to it, or the right to use it may be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from pe_toolkit.cli.main import cli
from pe_toolkit.registry.remotes import hub as hub_module
from pe_toolkit.registry.remotes.retry import Backoff
from tests.registry.hub import TOKEN
from tests.registry.hub_server import Fault, HubServer, Repo

ALWAYS = 1000
BOB = "hf_bob_secret_token"
NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there."""
HEAD, GET = ("HEAD", "/resolve/"), ("GET", "/download/")
LOOK, COMMIT, UPLOAD = ("GET", "/api/models/zoe"), ("POST", "/commit/"), ("PUT", "/upload/")
CHECK, TAG, README = ("POST", "/validate-yaml"), ("POST", "/tag/"), ("GET", "/resolve/.*README")
SEARCH = ("GET", "/api/models$")
FRONT = b"---\ntags: [motion-card]\n---\n"
NOTES = b"---\nlanguage: en\n---\nBy hand.\n"
Break = Callable[[HubServer, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Row:
    """A fault, and what comes of it: part of the message, part of the hint, the exit code."""

    name: str
    breaks: Break
    said: str
    hint: str
    code: int = 1

    def __str__(self) -> str:
        return self.name


def fine(name: str, breaks: Break, said: str = "") -> Row:
    """A fault that the command gets over; what it says meanwhile."""
    return Row(name, breaks, said, "", 0)


def faulty(*faults: Fault) -> Break:
    """Requests go wrong."""
    # Copies: a fault counts down, and a row may be used by more than one test.
    return lambda hub, patch: hub.faults.extend(Fault(**vars(fault)) for fault in faults)


def every(place: tuple[str, str], **what: object) -> Break:
    """All requests to `place` go wrong."""
    return faulty(Fault(*place, ALWAYS, **what))  # type: ignore[arg-type]


def once(place: tuple[str, str], **what: object) -> Break:
    """The next request to `place` goes wrong."""
    return faulty(Fault(*place, 1, **what))  # type: ignore[arg-type]


def slow(place: tuple[str, str]) -> Break:
    """The server needs longer than we wait."""

    def breaks(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(hub_module, "SECONDS", 0.2)
        hub.faults.append(Fault(*place, ALWAYS, delay=0.4))

    return breaks


def logged_out(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("HF_TOKEN")


def as_bob(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.users[BOB] = "bob"
    patch.setenv("HF_TOKEN", BOB)


def private(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.repos["zoe/wave"].private = True


def gated(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.repos["zoe/wave"].gated = True


def missing(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    del hub.repos["zoe/wave"]


def expired(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.expired.add(TOKEN)


def readonly(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    hub.readonly.add(TOKEN)


def odd(token: str) -> Break:
    """A token that no header can carry."""
    return lambda hub, patch: patch.setenv("HF_TOKEN", token)


def offline(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


def no_server(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    ask(NOWHERE, patch)


def rival(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    action = lambda: hub.put("zoe/wave", {"NOTES.md": b"theirs"})  # noqa: E731
    hub.faults.append(Fault("POST", "/validate-yaml", action=action))


def moved(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    repo = hub.repos["zoe/wave"]
    repo.tags["v2.0.0"] = repo.head


def both(*breaks: Break) -> Break:
    """All of them at a time."""

    def broken(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
        for one in breaks:
            one(hub, patch)

    return broken


def ask(url: str, patch: pytest.MonkeyPatch) -> None:
    """Commands ask this server."""
    patch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def there(hub: HubServer, card: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """zoe/wave holds a card; commands ask this Hub, with short waits. The bytes of that card."""
    ask(hub.url, monkeypatch)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_module, "Backoff", lambda: Backoff(2, 0.01, 0.02, 2))
    files = {"card.safetensors": card.read_bytes(), "README.md": NOTES}
    hub.put("zoe/wave", files, tag="v1.0.0")
    return card.read_bytes()


def run(*words: object) -> tuple[int, str]:
    """A command of `pe`: its exit code, and what it says on stderr."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    for token in (TOKEN, BOB, "hf_s"):  # the odd ones begin so
        assert token not in result.output
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.stdout == ""
    return result.exit_code, result.stderr


def mend(hub: HubServer, repo: Repo) -> None:
    """All faults are over, and zoe/wave is `repo` again."""
    hub.faults.clear()
    hub.expired.clear()
    hub.readonly.clear()
    repo.private = repo.gated = False
    hub.repos["zoe/wave"] = repo
