"""What the tests of the Hub share: a server, clients with short waits, and the network allowed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.utils._xet import abort_xet_session

from pe_toolkit.registry.references import HubReference, parse
from pe_toolkit.registry.remotes.hub import HubRemote
from pe_toolkit.registry.remotes.retry import Backoff
from tests.registry.cards import make_card
from tests.registry.hub_server import HubServer

# The client hands files to its HTTP library in a way that the library calls deprecated.
QUIET = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
TOKEN = "hf_zoe_secret_token"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client may use the network (loopback), without xet; see `with_xet`."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # Waits of the client itself: it repeats uploads and downloads after 1, 2, 4 ... seconds.
    for module in ("utils._http", "file_download"):
        hurried = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
        monkeypatch.setattr(f"huggingface_hub.{module}.time", hurried)


@pytest.fixture
def hub(online: None) -> Iterator[HubServer]:
    """A Hub with the user zoe, who has a token."""
    with HubServer() as server:
        server.users[TOKEN] = "zoe"
        yield server


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client tells the server about the machine, as for everybody who did not turn it off, and
    has a list of agents that another server sent: none.
    """
    listed = tmp_path / "agents.json"
    listed.write_text("[1, 2]")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(listed), raising=False)


@pytest.fixture
def with_xet(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client has xet, as it is for everybody who did not turn it off."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    abort_xet_session()  # each test has a home of its own, which is read when xet starts
    yield
    abort_xet_session()


@pytest.fixture
def storage(hub: HubServer, with_xet: None, card: Path, tmp_path: Path) -> Path:
    """The folder that is the xet storage of the Hub; it offers xet for the card."""
    made = tmp_path / "storage"
    made.mkdir()
    hub.xet = f"local://{made}"
    hub.await_xet(card.read_bytes())
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the cards of a test lie."""
    made = tmp_path / "cards"
    made.mkdir()
    return made


@pytest.fixture
def card(folder: Path) -> Path:
    """A sound card, wave 1.0.0."""
    return make_card(folder)


def remote(
    hub: HubServer,
    text: str = "zoe/wave",
    *,
    token: str | None = TOKEN,
    tries: int = 3,
    timeout: float = 5,
    said: list[str] | None = None,
) -> HubRemote:
    """A client of the test server."""
    reference = parse(text)
    assert isinstance(reference, HubReference)
    made = HubRemote(
        reference, endpoint=hub.url, token=token, timeout=timeout,
        backoff=Backoff(tries, 0.01, 0.02, 2),
        tell=said.append if said is not None else lambda text: None,
    )  # fmt: skip
    if token is None:
        assert made.token is None
    return made
