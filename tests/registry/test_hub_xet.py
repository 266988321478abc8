"""xet, with the real client: with a server that has none, with one whose storage is a folder here,
and with one whose storage is ill."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants
from huggingface_hub.utils._xet import abort_xet_session

from pe_toolkit.card import verify_card
from pe_toolkit.cli.main import cli
from pe_toolkit.registry.remotes.base import PushOptions
from pe_toolkit.registry.remotes.errors import RemoteMissingError
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online, remote, storage, with_xet
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online", "storage", "with_xet"]
pytestmark = QUIET
PLAIN = PushOptions()
DOWNLOAD = "/download/"


# A server without xet, as most mirrors are


def test_push_to_a_server_without_xet(
    hub: HubServer, with_xet: None, card: Path, tmp_path: Path
) -> None:
    remote(hub).push(card, PLAIN)
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()
    video = tmp_path / "out.mp4"
    video.write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 50)
    done = remote(hub).push(card, PushOptions(preview=video))  # nothing but bytes to upload
    assert done.files["preview.mp4"] == "new"
    assert hub.repos["zoe/wave"].files["preview.mp4"].data == video.read_bytes()
    assert not constants.HF_HUB_DISABLE_XET


# A server with xet


def test_push_and_pull_by_xet(hub: HubServer, storage: Path, card: Path) -> None:
    said: list[str] = []
    remote(hub, said=said).push(card, PushOptions(tag="v1.0.0"))
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()
    assert hub.sent("GET", "xet-write-token")
    assert not hub.sent("PUT|POST", "/upload/|/objects/batch")
    pulled = remote(hub, "zoe/wave@v1.0.0", said=said).pull()
    assert pulled.path.read_bytes() == card.read_bytes()
    assert pulled.digest == f"sha256:{verify_card(card).sha256}"
    assert hub.sent("GET", "xet-read-token")
    assert not hub.sent("GET", DOWNLOAD)
    assert said == []


def test_with_xet_turned_off(
    hub: HubServer, storage: Path, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    remote(hub).push(card, PLAIN)
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    assert hub.sent("PUT", "/upload/")
    assert hub.sent("GET", DOWNLOAD)
    assert not hub.sent(".*", "/xet-")


@pytest.fixture
def there(hub: HubServer, storage: Path, card: Path) -> Path:
    """The card is on the Hub, its bytes in the storage; these bytes, as files."""
    remote(hub).push(card, PLAIN)
    abort_xet_session()
    hub.requests.clear()
    return storage


def stored(storage: Path) -> Path:
    """The file in the storage that has the bytes of the card."""
    found = [path for path in storage.rglob("default.*") if path.suffix != ".tagset"]
    assert len(found) == 1
    found[0].chmod(0o644)
    return found[0]


def damage(storage: Path) -> None:
    """Change a byte in the middle."""
    data = bytearray(stored(storage).read_bytes())
    data[len(data) // 2] ^= 1
    stored(storage).write_bytes(data)


def shorten(storage: Path) -> None:
    """Lose the second half."""
    data = stored(storage).read_bytes()
    stored(storage).write_bytes(data[: len(data) // 2])


def kept() -> list[str]:
    """The files with bytes that anybody could take for a card: in the cache and in the registry."""
    found = [*Path(constants.HF_HUB_CACHE).rglob("*"), *Store().root.rglob("*.safetensors")]
    return [str(path) for path in found if path.is_file() and path.stat().st_size > 1000]


CHANGED = "Other bytes came than the Hub announced; fetching them again."
FAILED = "The xet storage failed ("
ILLS = pytest.mark.parametrize(("harm", "word"), [(damage, CHANGED), (shorten, FAILED)])


@ILLS
def test_damage_in_the_storage(
    hub: HubServer, there: Path, card: Path, harm: Callable[[Path], None], word: str
) -> None:
    """xet's own client does not always notice; then the other way is taken."""
    harm(there)
    said: list[str] = []
    assert remote(hub, said=said).pull().path.read_bytes() == card.read_bytes()
    assert len(said) == 1
    assert said[0].startswith(word)
    assert hub.sent("GET", DOWNLOAD)


@ILLS
def test_damage_in_the_storage_and_on_the_other_way(
    hub: HubServer,
    there: Path,
    harm: Callable[[Path], None],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    harm(there)
    hub.faults.append(Fault("GET", DOWNLOAD, times=100, corrupt=True))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for more in ([], ["-o", str(tmp_path / "out.safetensors")]):
        result = CliRunner().invoke(cli, ["pull", "zoe/wave", *more])
        assert result.exit_code == 1
        assert word in result.stderr
        assert "twice others came: they are damaged on the way, or on the server" in result.stderr
        assert "Hint: Nothing was kept. Try again" in result.stderr
        assert TOKEN not in result.output
    assert kept() == []
    assert not (tmp_path / "out.safetensors").exists()


def test_other_bytes_than_announced_in_the_storage(
    hub: HubServer, there: Path, card: Path, folder: Path
) -> None:
    """The storage keeps its own word, but the Hub names the wrong file in it."""
    other = make_card(folder, seed=1)
    hub.await_xet(other.read_bytes())
    remote(hub, "zoe/other").push(other, PLAIN)
    ours, theirs = verify_card(card).sha256, verify_card(other).sha256
    hub.xet_hashes[ours] = hub.xet_hashes[theirs]
    said: list[str] = []
    assert remote(hub, said=said).pull().path.read_bytes() == card.read_bytes()
    assert said == [CHANGED]


# A storage that is ill


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("ill", ["silent", "refuses"])
def test_the_storage_does_not_answer(
    hub: HubServer, there: Path, card: Path, folder: Path, silent: str, ill: str
) -> None:
    hub.xet = silent if ill == "silent" else "http://127.0.0.1:9"
    said: list[str] = []
    before = time.monotonic()
    pulled = remote(hub, timeout=1, said=said).pull()
    assert pulled.path.read_bytes() == card.read_bytes()
    other = make_card(folder, seed=1)
    remote(hub, "zoe/other", timeout=1, said=said).push(other, PLAIN)
    assert hub.repos["zoe/other"].files["card.safetensors"].data == other.read_bytes()
    assert len(said) == 2
    for text in said:
        assert text.startswith("The xet storage did not finish within 1 s; going on without it")
    assert time.monotonic() - before < 30
    assert not constants.HF_HUB_DISABLE_XET


@pytest.mark.parametrize("status", [404, 503])
def test_the_storage_takes_nobody(
    hub: HubServer, there: Path, card: Path, folder: Path, status: int
) -> None:
    """The Hub gives no token to read; and none to write that xet's own client understands."""
    said: list[str] = []
    hub.faults.append(Fault("GET", "xet-read-token", times=100, status=status))
    assert remote(hub, said=said).pull().path.read_bytes() == card.read_bytes()
    assert said[0].startswith("The xet storage failed (")
    headers = {"X-Xet-Cas-Url": "http://127.0.0.1:9"}
    hub.faults[:] = [Fault("GET", "xet-write-token", 100, status=200, body=b"{}", headers=headers)]
    other = make_card(folder, seed=1)
    remote(hub, "zoe/other", said=said).push(other, PLAIN)
    assert hub.repos["zoe/other"].files["card.safetensors"].data == other.read_bytes()
    assert len(said) == 1


def test_what_is_not_the_fault_of_the_storage(hub: HubServer, there: Path) -> None:
    """Without the repository there is nothing to be had the other way either."""
    said: list[str] = []
    gone = lambda: hub.repos.pop("zoe/wave")  # noqa: E731
    hub.faults += [Fault("HEAD", "/resolve/"), Fault("HEAD", "/resolve/", action=gone)]
    with pytest.raises(RemoteMissingError):
        remote(hub, said=said).pull()
    assert not [text for text in said if "xet" in text]


def test_a_client_whose_transfers_cannot_be_ended_goes_without(
    hub: HubServer, storage: Path, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils._xet", None)
    remote(hub).push(card, PLAIN)
    assert hub.sent("PUT", "/upload/")
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    assert hub.sent("GET", DOWNLOAD)
