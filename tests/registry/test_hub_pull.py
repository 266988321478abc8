"""`pull` with the real client against a Hub on loopback: nothing unsound becomes visible."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from pe_toolkit.card import verify_card
from pe_toolkit.errors import CardError
from pe_toolkit.registry.remotes import admit, receive, save
from pe_toolkit.registry.remotes.errors import (
    AccessError,
    RemoteError,
    RemoteMissingError,
    UnreachableError,
)
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online, remote
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online"]
pytestmark = QUIET
DOWNLOAD, RESOLVE = "/download/", "/resolve/"


@pytest.fixture
def there(hub: HubServer, card: Path) -> str:
    """zoe/wave is on the Hub, tagged v1.0.0; its commit."""
    return hub.put("zoe/wave", {"card.safetensors": card.read_bytes()}, tag="v1.0.0")


def nothing_kept() -> bool:
    blobs = list(Path(constants.HF_HUB_CACHE).rglob("*"))
    return not [path for path in blobs if path.is_file() and path.suffix in ("", ".safetensors")
                and "blobs" in path.parts]  # fmt: skip


@pytest.mark.parametrize("revision", ["", "@main", "@v1.0.0", "@1.0.0", "@COMMIT"])
def test_pull_keeps_every_byte(hub: HubServer, card: Path, there: str, revision: str) -> None:
    pulled = remote(hub, "zoe/wave" + revision.replace("COMMIT", there), token=None).pull()
    assert pulled.path.read_bytes() == card.read_bytes()
    assert pulled.digest == f"sha256:{verify_card(card).sha256}"
    assert pulled.origin == f"hf://zoe/wave@{there}"
    assert not pulled.offline
    _, entry = receive(remote(hub, "zoe/wave" + revision.replace("COMMIT", there), token=None))
    assert (entry.name, entry.version, entry.origin) == ("wave", "1.0.0", pulled.origin)
    assert entry.path.read_bytes() == card.read_bytes()


def test_pulling_again_downloads_nothing(hub: HubServer, there: str) -> None:
    remote(hub).pull()
    hub.requests.clear()
    remote(hub).pull()
    assert {r.method for r in hub.requests} == {"HEAD"}


def test_main_moves_and_is_followed(hub: HubServer, there: str, folder: Path) -> None:
    remote(hub).pull()
    newer = make_card(folder, version="1.1.0").read_bytes()
    hub.put("zoe/wave", {"card.safetensors": newer})
    assert remote(hub).pull().path.read_bytes() == newer


def test_a_tag_that_was_moved_is_followed_and_is_another_card(
    hub: HubServer, there: str, folder: Path
) -> None:
    """Who wants the same bytes for ever pins the digest: `pe lock`."""
    _, before = receive(remote(hub, "zoe/wave@v1.0.0"))
    other = make_card(folder, seed=1).read_bytes()
    hub.put("zoe/wave", {"card.safetensors": other}, tag="v1.0.0")
    pulled = remote(hub, "zoe/wave@v1.0.0").pull()
    assert pulled.path.read_bytes() == other
    with pytest.raises(Exception, match="another card"):
        receive(remote(hub, "zoe/wave@v1.0.0"))  # pulled before, and its name is taken
    assert Store().resolve(before.reference).digest == before.digest


def test_it_moves_while_we_look(hub: HubServer, there: str, folder: Path) -> None:
    newer = make_card(folder, version="1.1.0").read_bytes()
    push = lambda: hub.put("zoe/wave", {"card.safetensors": newer})  # noqa: E731
    hub.faults += [Fault("HEAD", RESOLVE, 1), Fault("HEAD", RESOLVE, 1, action=push)]
    pulled = remote(hub).pull()  # what was announced, of that commit
    assert pulled.origin == f"hf://zoe/wave@{there}"
    assert pulled.digest == f"sha256:{verify_card(pulled.path).sha256}"
    assert remote(hub).pull().path.read_bytes() == newer


def test_a_pull_that_fails_leaves_the_copy_of_the_last_one(
    hub: HubServer, card: Path, there: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client says that a branch has moved before the bytes have come."""
    remote(hub).pull()
    hub.put("zoe/wave", {"card.safetensors": make_card(folder, version="1.1.0").read_bytes()})
    hub.faults.append(Fault("GET", DOWNLOAD, times=100, status=403))
    with pytest.raises(AccessError):
        remote(hub).pull()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = remote(hub).pull()
    assert offline.path.read_bytes() == card.read_bytes()
    assert offline.offline
    assert offline.origin == f"hf://zoe/wave@{there}"


def test_a_copy_in_the_cache_that_changed_is_not_taken_offline(
    hub: HubServer, there: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = remote(hub).pull()
    pulled.path.resolve().write_bytes(make_card(folder, seed=8).read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RemoteError, match="in the cache to be as it came") as error:
        remote(hub).pull()
    assert "Pull it again with a connection" in str(error.value.hint)


# Rights


def test_private(hub: HubServer, there: str) -> None:
    hub.repos["zoe/wave"].private = True
    assert remote(hub).pull().origin == f"hf://zoe/wave@{there}"
    with pytest.raises(RemoteMissingError, match="is private") as error:
        remote(hub, token=None).pull()
    assert "hf auth login" in str(error.value.hint)
    hub.users["hf_other"] = "bob"
    with pytest.raises(RemoteMissingError, match="is private") as error:
        remote(hub, token="hf_other").pull()
    assert "token must have access" in str(error.value.hint)


@pytest.mark.parametrize("token", [None, "hf_other"])
def test_gated(hub: HubServer, there: str, token: str | None) -> None:
    hub.users["hf_other"] = "bob"
    hub.repos["zoe/wave"].gated = True
    with pytest.raises(AccessError, match="terms") as error:
        remote(hub, token=token).pull()
    assert f"{hub.url}/zoe/wave" in str(error.value.hint)
    assert ("hf auth login" in str(error.value.hint)) == (token is None)
    hub.repos["zoe/wave"].readers.add("bob")  # the terms were accepted
    if token:
        remote(hub, token=token).pull()


def test_an_expired_token(hub: HubServer, there: str) -> None:
    hub.expired.add(TOKEN)
    with pytest.raises(AccessError, match="wrong or expired") as error:
        remote(hub).pull()
    assert TOKEN not in error.value.message + str(error.value.hint)
    assert "hf auth login" in str(error.value.hint)


def test_what_is_in_the_cache_is_not_shown_to_who_lost_access(hub: HubServer, there: str) -> None:
    """The client would silently take the copy in the cache; the user must learn of the change."""
    remote(hub).pull()
    hub.repos["zoe/wave"].private = True
    with pytest.raises(RemoteMissingError):
        remote(hub, token=None).pull()


def test_missing(hub: HubServer) -> None:
    with pytest.raises(RemoteMissingError, match="does not exist"):
        remote(hub, "zoe/nothing").pull()


def test_missing_revision(hub: HubServer, there: str) -> None:
    for revision in ("v9.9.9", "9.9.9", "0" * 40):
        with pytest.raises(RemoteMissingError, match="tag, branch or commit"):
            remote(hub, f"zoe/wave@{revision}").pull()


def test_a_repository_without_a_card(hub: HubServer) -> None:
    hub.put("zoe/model", {"model.safetensors": b"x"})
    with pytest.raises(RemoteMissingError, match=r"card\.safetensors"):
        remote(hub, "zoe/model").pull()


# What passes


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize(("method", "path"), [("HEAD", RESOLVE), ("GET", DOWNLOAD)])
def test_a_status_that_passes(
    hub: HubServer, card: Path, there: str, method: str, path: str, status: int
) -> None:
    hub.faults.append(Fault(method, path, times=2, status=status))
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    assert hub.faults[0].times == 0


@pytest.mark.parametrize(
    ("method", "path", "cut"),
    [("HEAD", RESOLVE, "before"), ("HEAD", RESOLVE, "after"), ("GET", DOWNLOAD, "before"),
     ("GET", DOWNLOAD, "after"), ("GET", DOWNLOAD, "middle")],
)  # fmt: skip
def test_a_cut_connection(
    hub: HubServer, card: Path, there: str, method: str, path: str, cut: str
) -> None:
    hub.faults.append(Fault(method, path, cut=cut))
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()
    assert hub.faults[0].times == 0


def test_a_broken_transfer_is_resumed(hub: HubServer, folder: Path) -> None:
    """Of a card of the usual size: the client's own steps of 10 MB would start it anew."""
    data = make_card(folder, width=65_000).read_bytes()
    hub.put("zoe/wave", {"card.safetensors": data})
    hub.faults.append(Fault("GET", DOWNLOAD, cut="middle"))
    before = constants.DOWNLOAD_CHUNK_SIZE
    assert remote(hub).pull().path.read_bytes() == data
    first, second = hub.sent("GET", DOWNLOAD)
    assert first.range is None
    assert 2 << 20 < len(data) < 4 << 20
    assert second.range == f"bytes={1 << 20}-"
    assert before == constants.DOWNLOAD_CHUNK_SIZE


@pytest.mark.parametrize("status", [500, 503])
def test_what_does_not_pass(hub: HubServer, there: str, status: int) -> None:
    hub.faults.append(Fault("HEAD", RESOLVE, times=1000, status=status))
    with pytest.raises(UnreachableError, match=str(status)):
        remote(hub).pull()
    assert nothing_kept()


def test_a_slow_server_is_given_up(
    hub: HubServer, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.append(Fault("HEAD", RESOLVE, times=100, delay=0.5))
    with pytest.raises(UnreachableError, match="does not answer"):
        remote(hub, timeout=0.1, tries=2).pull()


def test_a_slow_download_is_waited_for(
    hub: HubServer, card: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults.append(Fault("GET", DOWNLOAD, delay=0.4))
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()


# What is not what it should be


def test_bytes_that_change_on_the_way_once(hub: HubServer, card: Path, there: str) -> None:
    said: list[str] = []
    hub.faults.append(Fault("GET", DOWNLOAD, corrupt=True))
    pulled = remote(hub, said=said).pull()
    assert pulled.path.read_bytes() == card.read_bytes()
    assert said == ["Other bytes came than the Hub announced; fetching them again."]


def test_bytes_that_change_on_the_way_never_reach_the_registry(
    hub: HubServer, card: Path, there: str
) -> None:
    hub.faults.append(Fault("GET", DOWNLOAD, corrupt=True))
    pulled, entry = receive(remote(hub))
    assert entry.digest == pulled.digest == f"sha256:{verify_card(card).sha256}"
    assert entry.path.read_bytes() == card.read_bytes()
    assert not list((Store().root / "tmp").iterdir())


def test_a_cache_that_changes_after_it_was_checked(
    hub: HubServer, card: Path, there: str, folder: Path, tmp_path: Path
) -> None:
    """Another sound card in its place is not the one that the Hub announced."""
    pulled = remote(hub).pull()
    pulled.path.resolve().write_bytes(make_card(folder, seed=8).read_bytes())
    for take in (admit, lambda pulled: save(pulled, tmp_path / "out.safetensors")):
        with pytest.raises(CardError, match="changed since it was fetched"):
            take(pulled)
    assert Store().entries() == []
    assert Store().held(pulled.digest) is None
    assert not (tmp_path / "out.safetensors").exists()


def test_bytes_that_change_on_the_way_always(hub: HubServer, there: str) -> None:
    hub.faults.append(Fault("GET", DOWNLOAD, times=100, corrupt=True))
    with pytest.raises(RemoteError, match="twice others came"):
        remote(hub).pull()
    assert nothing_kept()
    hub.faults.clear()
    remote(hub).pull()


def test_a_cache_that_was_damaged_is_mended(hub: HubServer, card: Path, there: str) -> None:
    path = remote(hub).pull().path
    path.resolve().write_bytes(b"damaged by hand")
    assert remote(hub).pull().path.read_bytes() == card.read_bytes()


@pytest.mark.parametrize("lfs", [True, False])
def test_what_is_no_card_is_not_kept(hub: HubServer, card: Path, tmp_path: Path, lfs: bool) -> None:
    """The bytes are those that the owner put there; but they are not sound."""
    data = bytearray(card.read_bytes())
    data[-3] ^= 1
    hub.put("zoe/wave", {"card.safetensors": bytes(data)})
    if not lfs:
        file = hub.repos["zoe/wave"].files["card.safetensors"]
        object.__setattr__(file, "lfs", False)
    pulled = remote(hub).pull()
    for take in (admit, lambda pulled: save(pulled, tmp_path / "out.safetensors")):
        with pytest.raises(CardError) as caught:
            take(pulled)
        assert caught.value.message.startswith(f"{pulled.origin}: Expected the digest")
        assert caught.value.hint == "Nothing was kept. It lies there like this: tell its owner."
    assert Store().entries() == []
    assert Store().held(pulled.digest) is None
    assert not (tmp_path / "out.safetensors").exists()


def test_a_pickle_is_refused(hub: HubServer) -> None:
    hub.put("zoe/wave", {"card.safetensors": b"\x80\x04cos\nsystem\n."})
    with pytest.raises(CardError, match="pickle"):
        receive(remote(hub))


def test_an_announced_size_beyond_all_bounds_downloads_nothing(hub: HubServer, there: str) -> None:
    headers = {
        "X-Repo-Commit": there, "X-Linked-ETag": '"' + "a" * 64 + '"',
        "X-Linked-Size": str(1 << 45), "Location": f"{hub.cdn}/download/x",
    }  # fmt: skip
    hub.faults.append(Fault("HEAD", RESOLVE, status=302, headers=headers))
    with pytest.raises(RemoteError, match="at most"):
        remote(hub).pull()
    assert not hub.sent("GET", DOWNLOAD)


# Without a connection


def test_offline_takes_the_cache(
    hub: HubServer, card: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote(hub).pull()
    remote(hub, "zoe/wave@1.0.0").pull()
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for text in ("zoe/wave", "zoe/wave@1.0.0", "zoe/wave@v1.0.0", f"zoe/wave@{there}"):
        said: list[str] = []
        pulled = remote(hub, text, said=said).pull()
        assert pulled.offline
        assert pulled.path.read_bytes() == card.read_bytes()
        assert pulled.digest == f"sha256:{verify_card(card).sha256}"
        assert "cache" in said[0]
    assert hub.requests == []


def test_offline_with_an_empty_cache(
    hub: HubServer, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="not in the cache"):
        remote(hub).pull()


def test_a_server_that_is_gone_leaves_the_cache(hub: HubServer, card: Path, there: str) -> None:
    remote(hub).pull()
    hub.faults.append(Fault("HEAD", RESOLVE, times=100, cut="before"))
    said: list[str] = []
    pulled = remote(hub, said=said).pull()
    assert pulled.offline
    assert pulled.path.read_bytes() == card.read_bytes()
    assert "may be older" in said[-1]


def test_no_network_at_all_takes_the_cache_at_once(
    hub: HubServer, card: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote(hub).pull()
    gone = "http://127.0.0.1:9"  # nothing listens there
    said: list[str] = []
    client = remote(hub, said=said)
    client.endpoint = gone
    assert client.pull().path.read_bytes() == card.read_bytes()
    assert said == [
        f"Expected to pull from {gone}/zoe/wave, but there is no connection to the server. "
        "This is the copy in the cache, which may be older."
    ]
    other = remote(hub, "zoe/other", said=said)
    other.endpoint = gone
    monkeypatch.setenv("HF_ENDPOINT", gone)
    with pytest.raises(UnreachableError, match="no connection to the server") as caught:
        other.pull()
    assert caught.value.hint == "Check the network, and HF_ENDPOINT."
    assert len(said) == 3  # with nothing at hand it is tried again


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_a_network_that_swallows_connections_is_tried_once(
    hub: HubServer, card: Path, there: str
) -> None:
    remote(hub).pull()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # nobody accepts them, and the queue is full
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        said: list[str] = []
        client = remote(hub, said=said, timeout=0.2)
        client.endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert client.pull().path.read_bytes() == card.read_bytes()
    assert len(said) == 1
    assert "there is no connection to the server. This is the copy in the cache" in said[0]


def test_a_token_of_the_environment_counts_before_the_one_logged_in(
    hub: HubServer, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.expired.add(TOKEN)
    for value, hint in ((TOKEN, "HF_TOKEN is set"), ("", "hf auth login")):
        monkeypatch.setenv("HF_TOKEN", value)
        with pytest.raises(AccessError) as caught:
            remote(hub).pull()
        assert hint in str(caught.value.hint)


def test_offline_push_says_so(hub: HubServer, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pe_toolkit.registry.remotes.base import PushOptions

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="offline mode is on"):
        remote(hub).push(card, PushOptions())
