"""A shared folder as a remote."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from pe_toolkit.card import verify_card
from pe_toolkit.errors import CardError, UsageError
from pe_toolkit.registry.references import local, parse
from pe_toolkit.registry.remotes import admit, open_remote, receive, save
from pe_toolkit.registry.remotes.base import PushOptions
from pe_toolkit.registry.remotes.errors import ConflictError, RemoteError, RemoteMissingError
from pe_toolkit.registry.remotes.folder import FolderRemote
from pe_toolkit.registry.store import Store
from pe_toolkit.registry.upkeep import LOOKED_SECONDS
from tests.registry.cards import make_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    made = tmp_path / "shared cards"  # a space: it is %20 in the URL
    made.mkdir()
    return made


def push(url: str, card: Path, **options: object) -> object:
    return FolderRemote(url).push(card, PushOptions(**options))  # type: ignore[arg-type]


def files(shared: Path) -> list[str]:
    return sorted(str(p.relative_to(shared)) for p in shared.rglob("*.safetensors"))


def test_push_and_pull_keep_every_byte(folder: Path, shared: Path) -> None:
    card = make_card(folder)
    done = push(shared.as_uri(), card)
    assert done.committed
    assert done.reference == f"{shared.as_uri()}/wave@1.0.0"
    assert files(shared) == ["wave/1.0.0.safetensors"]
    for text in (
        f"{shared.as_uri()}/wave",
        done.reference,
        f"{shared.as_uri()}/wave@{done.digest}",
    ):
        pulled = FolderRemote(text).pull()
        assert pulled.path.read_bytes() == card.read_bytes()
        assert pulled.digest == done.digest
        assert pulled.origin == done.reference
        assert pulled.name == "wave"
    assert parse(done.reference) == parse(pulled.origin)


def test_pushing_again_changes_nothing(folder: Path, shared: Path) -> None:
    card = make_card(folder)
    push(shared.as_uri(), card)
    before = (shared / "wave" / "1.0.0.safetensors").stat()
    done = push(f"{shared.as_uri()}/wave", card)
    assert not done.committed
    assert (shared / "wave" / "1.0.0.safetensors").stat().st_ino == before.st_ino


def test_a_name_may_be_given_once_it_is_a_folder_of_cards(folder: Path, shared: Path) -> None:
    push(shared.as_uri(), make_card(folder))
    push(f"{shared.as_uri()}/tide", make_card(folder, seed=1))
    assert files(shared) == ["tide/1.0.0.safetensors", "wave/1.0.0.safetensors"]


def test_a_version_is_never_replaced(folder: Path, shared: Path) -> None:
    card, other = make_card(folder), make_card(folder, seed=1)
    push(shared.as_uri(), card)
    with pytest.raises(ConflictError, match="another card"):
        push(shared.as_uri(), other)
    assert (shared / "wave" / "1.0.0.safetensors").read_bytes() == card.read_bytes()
    done = push(shared.as_uri(), other, force=True)
    assert done.files == {"wave/1.0.0.safetensors": "changed"}
    assert (shared / "wave" / "1.0.0.safetensors").read_bytes() == other.read_bytes()


def test_without_a_version_the_highest_release(folder: Path, shared: Path) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1"):
        push(shared.as_uri(), make_card(folder, version=version))
    url = f"{shared.as_uri()}/wave"
    assert FolderRemote(url).pull().origin == f"{url}@1.10.0"
    assert FolderRemote(f"{url}@2.0.0-rc.1").pull().origin == f"{url}@2.0.0-rc.1"
    with pytest.raises(RemoteMissingError) as error:
        FolderRemote(f"{url}@3.0.0").pull()
    assert error.value.hint is not None
    assert "1.10.0" in error.value.hint


def test_a_card_goes_by_the_name_that_it_was_given(folder: Path, shared: Path) -> None:
    card = make_card(folder, name="Zoë's first try")
    push(shared.as_uri(), card, name="wave")
    push(shared.as_uri(), card)
    push(f"{shared.as_uri()}/tide", card, name="wave")  # the address says more
    assert files(shared) == [
        f"{name}/1.0.0.safetensors" for name in ("tide", "wave", "zoe-s-first-try")
    ]


def test_what_a_folder_is_asked_in_vain(folder: Path, shared: Path) -> None:
    card = make_card(folder)
    for option, why in (("private", "permissions"), ("message", "history"), ("preview", "pages")):
        with pytest.raises(UsageError, match=f"no --{option} with a folder") as caught:
            push(shared.as_uri(), card, **{option: card})
        assert why in str(caught.value.hint)


def test_a_folder_that_is_not_there(folder: Path, shared: Path) -> None:
    card = make_card(folder)
    with pytest.raises(RemoteMissingError) as caught:
        push(f"{shared.as_uri()}/a/b", card)
    assert caught.value.hint == f"Make it first: mkdir -p '{shared}/a/b'"
    with pytest.raises(RemoteMissingError) as caught:
        push(f"{shared.as_uri()}/wave", card)
    assert str(caught.value.hint).startswith(f"Make it first: mkdir '{shared}/wave'. ")
    assert str(caught.value.hint).endswith(f"push the first one to {shared.as_uri()}")
    push(shared.as_uri(), card)
    push(f"{shared.as_uri()}/tide", card)  # now cards lie in it: a name
    with pytest.raises(RemoteMissingError) as caught:
        FolderRemote(f"{shared.as_uri()}/nothing").pull()
    assert caught.value.hint == "There is tide, wave."


@pytest.mark.parametrize("tag", ["1.0.0", "v1.0.0"])
def test_a_tag_must_be_the_version(folder: Path, shared: Path, tag: str) -> None:
    push(shared.as_uri(), make_card(folder), tag=tag)
    with pytest.raises(UsageError, match=r"v2\.0\.0"):
        push(shared.as_uri(), make_card(folder, version="2.0.0"), tag=tag)


def test_dry_run_writes_nothing(folder: Path, shared: Path) -> None:
    done = push(shared.as_uri(), make_card(folder), dry_run=True)
    assert done.committed
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize("option", [{"private": True}, {"message": "x"}, {"preview": Path("x")}])
def test_what_a_folder_cannot_do_is_refused(
    folder: Path, shared: Path, option: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="with a folder"):
        push(shared.as_uri(), make_card(folder), **option)


def test_a_folder_that_is_not_there_is_not_made(folder: Path, shared: Path) -> None:
    with pytest.raises(RemoteMissingError, match="there is none"):
        push(f"{shared.as_uri()}/a/b", make_card(folder))
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["file://host/share", "file:relative", "file:///a/../b/wave", "file:///a?x", "file:///a%00"],
)
def test_strange_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        FolderRemote(url)


def test_the_folder_itself_is_no_card(folder: Path, shared: Path) -> None:
    push(shared.as_uri(), make_card(folder))
    with pytest.raises(UsageError) as error:
        FolderRemote(shared.as_uri()).pull()
    assert error.value.hint is not None
    assert "wave" in error.value.hint


def test_a_damaged_card_never_becomes_visible(folder: Path, shared: Path, tmp_path: Path) -> None:
    push(shared.as_uri(), make_card(folder))
    path = shared / "wave" / "1.0.0.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    damaged = FolderRemote(f"{shared.as_uri()}/wave")
    pulled = damaged.pull()
    with pytest.raises(CardError):
        receive(damaged)
    with pytest.raises(CardError):
        save(pulled, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    assert Store().entries() == []


def test_a_named_pipe_or_link_does_no_harm(folder: Path, shared: Path) -> None:
    push(shared.as_uri(), make_card(folder))
    (shared / "trap").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(shared / "trap" / "1.0.0.safetensors")
        with pytest.raises(Exception, match="Expected a file"):
            FolderRemote(f"{shared.as_uri()}/trap").pull()
    found = FolderRemote(shared.as_uri()).search([], backbone=None, author=None, limit=10)
    assert [card.reference for card in found] == [f"{shared.as_uri()}/wave@1.0.0"]


def test_parallel_pushers_of_one_version_one_wins(folder: Path, shared: Path) -> None:
    cards = [make_card(folder, seed=n) for n in range(6)]
    outcomes: list[str] = []

    def work(card: Path) -> None:
        try:
            push(shared.as_uri(), card)
            outcomes.append("won")
        except ConflictError:
            outcomes.append("lost")

    threads = [threading.Thread(target=work, args=(card,)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 5 + ["won"]
    verify_card(shared / "wave" / "1.0.0.safetensors")
    assert [p.name for p in (shared / "wave").iterdir()] == ["1.0.0.safetensors"]


def test_search_looks_at_words_backbone_and_author(folder: Path, shared: Path) -> None:
    push(shared.as_uri(), make_card(folder, author="Zoë"))
    push(shared.as_uri(), make_card(folder, name="tide", author="Bob"))
    remote = FolderRemote(shared.as_uri())

    def names(*words: str, **wishes: str | None) -> list[str]:
        options = {"backbone": None, "author": None} | wishes
        found = remote.search(words, limit=10, **options)  # type: ignore[arg-type]
        return [card.reference.rpartition("/")[2] for card in found]

    assert names() == ["tide@1.0.0", "wave@1.0.0"]
    assert names("TIDE") == ["tide@1.0.0"]
    assert names("red", "circle") == ["tide@1.0.0", "wave@1.0.0"]
    assert names("nothing-of-the-kind") == []
    assert names(author="zoë") == ["wave@1.0.0"]
    assert names(backbone="bundled") == ["tide@1.0.0", "wave@1.0.0"]
    assert names(backbone="cogvideox-5b") == []
    assert len(remote.search([], backbone=None, author=None, limit=1)) == 1


def test_what_a_command_is_given_is_kept_without_a_name(folder: Path, shared: Path) -> None:
    card = make_card(folder)
    push(shared.as_uri(), card)
    reference = parse(f"{shared.as_uri()}/wave")
    entry = admit(open_remote(reference).pull())
    assert entry.name == ""
    assert entry.path.read_bytes() == card.read_bytes()
    assert Store().entries() == []
    assert admit(open_remote(reference).pull()) == entry
    os.chmod(entry.path, 0o600)
    entry.path.write_bytes(b"damaged")
    assert admit(open_remote(reference).pull()).path.read_bytes() == card.read_bytes()
    pulled, named = receive(open_remote(reference))
    assert (named.name, named.version, named.origin) == ("wave", "1.0.0", pulled.origin)
    assert admit(pulled) == named  # it keeps the name that it has


def test_what_was_looked_at_is_there_on_a_disk_that_cannot_be_written_to(
    folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(shared.as_uri(), make_card(folder))
    entry = admit(open_remote(parse(f"{shared.as_uri()}/wave")).pull())

    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "utime", read_only)
    assert Store().held(entry.digest) == entry


def test_looking_changes_no_name(folder: Path, shared: Path) -> None:
    push(shared.as_uri(), make_card(folder, version="9.0.0"))
    mine = Store().add(make_card(folder, seed=5))
    admit(open_remote(parse(f"{shared.as_uri()}/wave")).pull())
    assert Store().resolve(local("wave")) == mine
    assert Store().entries() == [mine]
    Store().index.path.unlink()
    Store().rebuild()  # nor does a new index
    assert [e.digest for e in Store().entries()] == [mine.digest]


def test_gc_keeps_what_was_looked_at_for_two_weeks(folder: Path, shared: Path) -> None:
    push(shared.as_uri(), make_card(folder))
    pulled = open_remote(parse(f"{shared.as_uri()}/wave")).pull()
    path = admit(pulled).path
    done = Store().gc()
    assert (done.files, done.looked) == (0, 1)
    old = path.stat().st_mtime - LOOKED_SECONDS - 10
    os.utime(path, (old, old))
    assert Store().gc(dry_run=True).files == 1
    admit(pulled)  # looked at again
    assert Store().gc().looked == 1
    os.utime(path, (old, old))
    done = Store().gc()
    assert (done.files, done.looked) == (1, 0)
    assert not path.exists()


def test_only_references_to_a_remote_open_one() -> None:
    for text in ("wave", "./wave.safetensors"):
        with pytest.raises(UsageError, match="on a remote"):
            open_remote(parse(text))


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
@pytest.mark.parametrize("place", ["version", "card", "mark"])
def test_links_in_a_shared_folder_are_not_followed(
    place: str, folder: Path, shared: Path, tmp_path: Path
) -> None:
    """Who may write into the folder must not make others read or write elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    card, newer = make_card(folder), make_card(folder, version="1.1.0", seed=1)
    push(shared.as_uri(), card)
    if place == "version":
        (shared / "wave" / "1.1.0.safetensors").symlink_to(newer)
    elif place == "card":
        (shared / "wave").rename(outside / "wave")
        (shared / "wave").symlink_to(outside / "wave")
    else:
        (shared / ".pe-cards").unlink()
        (shared / ".pe-cards").symlink_to(outside / "mark")
    before = sorted(outside.rglob("*"))
    with pytest.raises(RemoteError, match="it is a link"):
        push(shared.as_uri(), newer, force=True)
    assert sorted(outside.rglob("*")) == before
    if place != "mark":
        with pytest.raises(RemoteError, match="it is a link"):
            open_remote(parse(f"{shared.as_uri()}/wave@1.1.0")).pull()
        found = FolderRemote(shared.as_uri()).search([], backbone=None, author=None, limit=9)
        assert [one.version for one in found] == ["1.0.0"] * (place == "version")


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_shared_folder_may_itself_be_a_link(folder: Path, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shared)
    push((tmp_path / "link").as_uri(), make_card(folder))
    assert open_remote(parse(f"{(tmp_path / 'link').as_uri()}/wave")).pull().name == "wave"


def test_two_names_stay_two(folder: Path, shared: Path) -> None:
    """`a--b` is a name, and not that of `a-b`."""
    for name, version in (("a-b", "1.0.0"), ("a--b", "1.1.0")):
        push(shared.as_uri(), make_card(folder, version=version), name=name)
    assert sorted(path.name for path in shared.iterdir() if path.is_dir()) == ["a--b", "a-b"]
    pulled = FolderRemote(f"{shared.as_uri()}/a-b").pull()
    assert pulled.origin == f"{shared.as_uri()}/a-b@1.0.0"
    names = [found.reference for found in FolderRemote(shared.as_uri()).search(
        [], backbone=None, author=None, limit=9)]  # fmt: skip
    assert len(names) == 2
