"""The local registry: what is added is there, what is removed comes back, nothing else moves."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from pe_toolkit.card import verify_card
from pe_toolkit.card.reader import CheckedBytes
from pe_toolkit.errors import CardError, OutputError, OutputExistsError, UsageError
from pe_toolkit.registry import home as home_module
from pe_toolkit.registry import signature_files
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError
from pe_toolkit.registry.home import LONGEST, home
from pe_toolkit.registry.intake import Intake
from pe_toolkit.registry.naming import change_of_meaning
from pe_toolkit.registry.objects import ABANDONED_SECONDS
from pe_toolkit.registry.references import LocalReference, local
from pe_toolkit.registry.store import Store
from pe_toolkit.registry.transaction import Transaction
from tests.registry.cards import GOLDEN, make_card

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "registry", timeout=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cards"
    made.mkdir()
    return made


def files(store: Store) -> set[str]:
    return {p.stem for p in (store.root / "objects").rglob("*.safetensors")}


def forget(store: Store, entry: Entry) -> None:
    """Lose the row of a card, and nothing else."""
    with store.index.writing() as change:
        change.remove([there for there in change.entries if there.digest == entry.digest], "")
        change.forget()


def test_add_keeps_a_checked_copy(store: Store, folder: Path) -> None:
    path = make_card(folder, "My Wave", "1.2.0")
    entry = store.add(path)
    assert (entry.name, entry.version) == ("my-wave", "1.2.0")
    assert entry.path.read_bytes() == path.read_bytes()
    assert entry.digest == f"sha256:{verify_card(path).sha256}"
    assert entry.size == path.stat().st_size
    assert entry.facts["name"] == "My Wave"
    path.unlink()
    assert store.entries() == [entry]
    assert store.resolve(local("my-wave")) == entry
    assert not list((store.root / "tmp").iterdir())


def test_a_new_registry_is_empty_and_reading_makes_nothing(store: Store) -> None:
    assert store.entries() == []
    assert store.gc().files == 0
    assert list(store.verify_all()) == []
    with pytest.raises(RegistryError):
        store.resolve(local("wave"))
    with pytest.raises(RegistryError):
        store.remove(local("wave"))
    with pytest.raises(RegistryError):
        store.restore()
    assert not store.root.exists()


def test_the_same_again_changes_nothing(store: Store, folder: Path) -> None:
    path = make_card(folder)
    first = store.add(path)
    assert store.add(path) == first
    assert store.entries() == [first]


def test_a_taken_name_is_refused_and_force_can_be_undone(store: Store, folder: Path) -> None:
    first = store.add(make_card(folder, seed=1))
    other = make_card(folder, seed=2)
    with pytest.raises(OutputExistsError, match="another card"):
        store.add(other)
    assert store.resolve(local("wave")).digest == first.digest
    second = store.add(other, force=True)
    assert store.resolve(local("wave")).digest == second.digest
    with pytest.raises(OutputExistsError):
        store.restore()
    store.tag(local("wave"), local("newer"))
    store.remove(local("wave"))
    store.restore(LocalReference("wave", digest=first.digest))
    assert store.resolve(local("wave")).digest == first.digest


def test_following_the_hints_brings_a_displaced_card_back(store: Store, folder: Path) -> None:
    first = store.add(make_card(folder, seed=1))
    second = store.add(make_card(folder, seed=2), force=True)
    with pytest.raises(OutputExistsError) as caught:
        store.restore()
    store.tag(local("wave"), local("new"))
    store.remove(local("wave@1.0.0"))
    reference = caught.value.hint.rpartition("pe rm --undo ")[2]
    assert [entry.digest for entry in store.restore(local(reference))] == [first.digest]
    assert store.resolve(local("wave")).digest == first.digest
    assert store.resolve(local("new")).digest == second.digest


def test_one_object_for_many_names(store: Store, folder: Path) -> None:
    path = make_card(folder)
    store.add(path)
    store.add(path, "other", "3.0.0")
    store.tag(local("wave"), local("third"))
    assert [str(e.reference) for e in store.entries()] == [
        "other@3.0.0", "third@1.0.0", "wave@1.0.0",
    ]  # fmt: skip
    assert len(files(store)) == 1


def test_a_bad_card_leaves_nothing(store: Store, folder: Path) -> None:
    path = make_card(folder)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CardError):
        store.add(path)
    assert store.entries() == []
    assert not files(store)


@pytest.mark.parametrize(
    ("name", "version"),
    [("../x", None), ("a b", None), ("", "1"), ("x", "1.0"), ("x", "sha256:" + "a" * 64)],
)
def test_bad_names_are_refused(store: Store, folder: Path, name: str, version: str | None) -> None:
    with pytest.raises(UsageError):
        store.add(make_card(folder), name, version or "1.0.0")
    if name == "":
        with pytest.raises(UsageError):
            store.add(make_card(folder), "x", "1")
    assert store.entries() == []


def test_no_path_comes_from_a_name(store: Store, folder: Path) -> None:
    entry = store.add(make_card(folder, "../../../etc/passwd"))
    assert entry.name == "etc-passwd"
    outside = [p for p in folder.parent.rglob("*passwd*")]
    assert outside == []


def test_resolve(store: Store, folder: Path) -> None:
    for seed, version in enumerate(("0.9.0", "1.10.0", "1.9.0", "2.0.0-rc.1")):
        store.add(make_card(folder, version=version, seed=seed))
    assert store.resolve(local("wave")).version == "1.10.0"
    assert store.resolve(local("wave@2.0.0-rc.1")).version == "2.0.0-rc.1"
    one = store.resolve(local("wave@0.9.0"))
    assert store.resolve(LocalReference("wave", digest=one.digest[:15])) == one
    assert [e.version for e in store.entries()] == ["0.9.0", "1.9.0", "1.10.0", "2.0.0-rc.1"]
    with pytest.raises(RegistryError) as caught:
        store.resolve(local("wave@3.0.0"))
    assert "2.0.0-rc.1, 1.10.0, 1.9.0, 0.9.0" in (caught.value.hint or "")
    with pytest.raises(RegistryError) as caught:
        store.resolve(local("wavee"))
    assert "Did you mean wave?" in (caught.value.hint or "")
    assert store.by_digest(one.digest) == one
    with pytest.raises(RegistryError):
        store.by_digest("sha256:" + "0" * 64)


def test_only_pre_releases(store: Store, folder: Path) -> None:
    for seed, version in enumerate(("1.0.0-rc.2", "1.0.0-rc.10")):
        store.add(make_card(folder, version=version, seed=seed))
    assert store.resolve(local("wave")).version == "1.0.0-rc.10"


def test_words_filter(store: Store, folder: Path) -> None:
    store.add(make_card(folder, "wave", author="Zoë"))
    store.add(make_card(folder, "orbit", author="Ann", seed=1), origin="hf://ann/orbit@abc")
    assert [e.name for e in store.entries(["ZOË"])] == ["wave"]
    assert [e.name for e in store.entries(["rotary", "hf://"])] == ["orbit"]
    assert [e.name for e in store.entries(["red circle"])] == ["orbit", "wave"]
    assert store.entries(["ann", "zoë"]) == []


def test_gc_prunes_the_signatures_of_cards_that_are_gone(store: Store, folder: Path) -> None:
    digests = [store.add(make_card(folder, seed=seed), f"card-{seed}").digest for seed in range(3)]
    ours = [store.root / "signatures" / name for name in ("notes.txt", f"{'a' * 64}-b.sig")]
    for digest in digests:
        for signer in (b"zoe", b"eve"):
            data = b"-----BEGIN SSH SIGNATURE-----" + signer
            signature_files.keep(digest, data, store.root)
    for path in ours:
        path.touch()
    store.remove(local("card-0"))
    store.tag(local("card-1"), local("other"))
    store.remove(local("card-1"))  # its bytes have another name
    stray = f"sha256:{'c' * 64}"  # of a card that is here no more
    signature_files.keep(stray, b"-----BEGIN SSH SIGNATURE-----", store.root)
    told = store.gc(dry_run=True)
    assert len(signature_files.kept(digests[0], store.root)) == 2
    done = store.gc()
    assert (done.cards, done.files) == (told.cards, told.files) == (2, 1 + 2 + 1)
    assert done.bytes == told.bytes
    left = [len(signature_files.kept(digest, store.root)) for digest in [*digests, stray]]
    assert left == [0, 2, 2, 0]
    assert all(path.exists() for path in ours)
    assert store.gc().files == 0


def test_remove_undo_gc(store: Store, folder: Path) -> None:
    for seed, version in enumerate(("1.0.0", "2.0.0")):
        store.add(make_card(folder, version=version, seed=seed))
    with pytest.raises(UsageError, match="2 versions"):
        store.remove(local("wave"))
    gone = store.remove(local("wave"), every=True)
    assert [e.version for e in gone] == ["1.0.0", "2.0.0"]
    assert store.entries() == []
    assert len(store.entries(removed=True)) == 2
    with pytest.raises(RegistryError) as caught:
        store.resolve(local("wave"))
    assert caught.value.hint == "It was removed: pe rm --undo wave"
    assert [e.version for e in store.restore()] == ["1.0.0", "2.0.0"]
    store.remove(local("wave@1.0.0"))
    assert store.gc(dry_run=True).files == 1
    assert len(files(store)) == 2
    done = store.gc()
    assert (done.cards, done.files) == (1, 1)
    assert done.bytes > 2000
    assert len(files(store)) == 1
    with pytest.raises(RegistryError):
        store.restore()
    assert [e.version for e in store.entries()] == ["2.0.0"]
    assert all(error is None for _, error in store.verify_all())


def test_remove_is_all_or_nothing(store: Store, folder: Path) -> None:
    store.add(make_card(folder))
    with pytest.raises(RegistryError):
        store.remove(local("wave"), local("typo"))
    assert len(store.entries()) == 1


def test_gc_keeps_a_file_that_another_name_needs(store: Store, folder: Path) -> None:
    path = make_card(folder)
    store.add(path)
    store.add(path, "other")
    store.remove(local("wave"))
    assert store.gc().files == 0
    assert store.check(store.resolve(local("other")))


def test_gc_leaves_strangers_and_fresh_temporary_files(store: Store, folder: Path) -> None:
    store.add(make_card(folder))
    stranger = store.root / "objects" / "sha256" / "aa" / "notes.txt"
    stranger.parent.mkdir(exist_ok=True)
    stranger.touch()
    fresh = store.root / "tmp" / f"add-{'0' * 16}.tmp"
    old = store.root / "tmp" / f"add-{'1' * 16}.tmp"
    fresh.touch()
    old.touch()
    long_ago = time.time() - ABANDONED_SECONDS - 10
    os.utime(old, (long_ago, long_ago))
    store.gc()
    assert stranger.exists()
    assert fresh.exists()
    assert not old.exists()


def test_damage_is_found_and_mended(store: Store, folder: Path) -> None:
    path = make_card(folder)
    entry = store.add(path)
    os.chmod(entry.path, 0o600)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    entry.path.write_bytes(raw)
    ((_, error),) = store.verify_all()
    assert isinstance(error, RegistryError)
    assert "the content is not what was written" in error.message
    with pytest.raises(RegistryError, match="its file has sha256:"):
        store.check(entry)
    entry.path.unlink()
    with pytest.raises(RegistryError, match="No such file"):
        store.check(entry)
    assert store.add(path) == entry
    assert [error for _, error in store.verify_all()] == [None]


def test_a_swapped_card_is_found(store: Store, folder: Path) -> None:
    """A sound card in the place of another: its own digest is right, its name is not."""
    entry = store.add(make_card(folder, seed=1))
    os.chmod(entry.path, 0o600)
    entry.path.write_bytes(make_card(folder, seed=2).read_bytes())
    ((_, error),) = store.verify_all()
    assert isinstance(error, RegistryError)


@posix
def test_objects_are_read_only(store: Store, folder: Path) -> None:
    assert not store.add(make_card(folder)).path.stat().st_mode & 0o222


def test_what_is_kept_is_what_was_checked(store: Store, folder: Path) -> None:
    """The file becomes another sound card between the check and the moment it gets its name."""
    path, other = make_card(folder, seed=1), make_card(folder, seed=2)
    checked = path.read_bytes()
    with Intake(store) as intake:
        info = intake.check(path)
        path.write_bytes(other.read_bytes())
        entry = intake.keep()
    assert entry.digest == f"sha256:{info.sha256}"
    assert entry.path.read_bytes() == checked
    assert not list((store.root / "tmp").iterdir())


def test_a_file_that_is_cut_off_while_it_is_copied(store: Store, folder: Path) -> None:
    path = make_card(folder, width=5000)
    pieces = iter(CheckedBytes(path))
    next(pieces)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CardError, match="cut off"):
        list(pieces)
    with pytest.raises(CardError):
        store.add(path)
    assert not store.root.exists()  # not even a folder for what is no card


def test_a_card_that_is_not_kept_is_discarded(store: Store, folder: Path) -> None:
    with Intake(store) as intake:
        intake.check(make_card(folder, seed=1))
        intake.check(make_card(folder, seed=2))
        assert len(list((store.root / "tmp").iterdir())) == 1
    assert not list((store.root / "tmp").iterdir())
    assert store.entries() == []


def test_busy(store: Store, folder: Path) -> None:
    path = make_card(folder)
    store.add(path)
    holder = sqlite3.connect(store.index.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(RegistryBusyError, match="another pe process"):
        Store(store.root, timeout=0.3).add(path, "other")
    assert 0.2 < time.monotonic() - began < 3
    assert not list((store.root / "tmp").iterdir())
    assert len(store.entries()) == 1  # readers go on
    holder.execute("ROLLBACK")
    holder.close()
    store.add(path, "other")


def test_what_a_card_says_is_told_only_when_every_byte_was_checked(folder: Path) -> None:
    path = make_card(folder)
    card = CheckedBytes(path)
    pieces = iter(card)
    next(pieces)
    with pytest.raises(CardError, match="every byte"):
        _ = card.info
    list(pieces)
    assert card.info == verify_card(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CardError):
        list(card)
    with pytest.raises(CardError, match="every byte"):  # not what an earlier pass found
        _ = card.info


@posix
def test_gc_spares_what_it_cannot_read(store: Store, folder: Path) -> None:
    """Cards without a name that another process, or a newer one, may well be able to read."""
    damaged = store.add(make_card(folder, seed=1)).path
    orphan = store.add(make_card(folder, seed=2), "orphan")
    kept = [_intact_but_refused(store, "2.0")]
    kept.append(_intact_but_refused(store, "1.9"))
    unreadable = store.objects.path("sha256:" + "a" * 64)
    unreadable.parent.mkdir(parents=True, exist_ok=True)
    unreadable.symlink_to(unreadable)  # ELOOP; the superuser may read what has no permissions
    kept.append(unreadable)
    os.chmod(damaged, 0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    store.index.path.unlink()
    rebuilt = store.rebuild()
    assert {left.path: left.kept for left in rebuilt.left} == {
        **dict.fromkeys(kept, True),
        damaged: False,
    }
    assert len(store.entries()) == 1
    forget(store, orphan)  # as an `add` that was killed leaves its file
    for dry_run in (True, False):
        done = store.gc(dry_run=dry_run)
        assert (done.cards, done.files, done.spared) == (0, 1, 3)
        assert [card.path for card in done.unnamed] == [orphan.path]
    assert [path for _, path in store.objects.all()] == sorted([*kept, orphan.path])


@posix
def test_gc_deletes_what_was_removed_even_if_it_cannot_be_read(store: Store, folder: Path) -> None:
    path = store.add(make_card(folder)).path
    store.remove(local("wave"))
    path.unlink()
    path.symlink_to(path)
    assert store.gc(dry_run=True).files == 1
    done = store.gc()
    assert (done.cards, done.files, done.spared) == (1, 1, 0)
    assert not os.path.lexists(path)


def _intact_but_refused(store: Store, version: str) -> Path:
    """An object of another format version, under its own digest."""
    data = (GOLDEN / "rotary-angle.safetensors").read_bytes()
    changed = re.sub(rb'(format_version\\":\\")\d\.\d', rb"\g<1>" + version.encode(), data)
    assert changed != data
    path = store.objects.path("sha256:" + hashlib.sha256(changed).hexdigest())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize("damage", ["garbage", "gone", "empty"])
def test_a_lost_index_is_noticed_and_made_anew(store: Store, folder: Path, damage: str) -> None:
    for seed in range(3):
        store.add(make_card(folder, seed=seed), f"card-{seed}")
    if damage == "gone":
        store.index.path.unlink()
    else:
        store.index.path.write_bytes(b"" if damage == "empty" else os.urandom(5000))
    actions = (
        store.gc,
        store.entries,
        lambda: store.add(make_card(folder, seed=9)),
        store.gc,
        store.restore,
    )
    for action in actions:
        with pytest.raises(RegistryError) as caught:
            action()
        assert "pe verify --all --rebuild" in (caught.value.hint or "")
    assert len(files(store)) == 3
    aside = store.rebuild().aside
    assert (aside is not None) == (damage == "garbage")
    assert len(store.entries()) == 3
    assert [error for _, error in store.verify_all()] == [None] * 3
    with pytest.raises(UsageError, match="sound"):
        store.rebuild()


def test_a_newer_index_is_refused(store: Store, folder: Path) -> None:
    store.add(make_card(folder))
    connection = sqlite3.connect(store.index.path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(RegistryError, match="newer pe-toolkit"):
        store.entries()


def test_a_folder_that_cannot_be_made(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="registry"):
        Store(tmp_path / "file" / "registry").add(make_card(folder))


@posix
def test_a_read_only_registry_can_be_read(store: Store, folder: Path) -> None:
    store.add(make_card(folder))
    os.chmod(store.index.path, 0o444)
    os.chmod(store.root, 0o555)
    try:
        assert len(store.entries()) == 1
        assert store.check(store.resolve(local("wave")))
    finally:
        os.chmod(store.root, 0o755)


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PE_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    assert Store().root == tmp_path / "here"
    monkeypatch.delenv("PE_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "pe-toolkit"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert home() == Path.home() / ".local" / "share" / "pe-toolkit"
    monkeypatch.setattr(home_module.sys, "platform", "darwin")
    assert home() == Path.home() / "Library" / "Application Support" / "pe-toolkit"
    monkeypatch.setattr(home_module.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert home() == tmp_path / "local" / "pe-toolkit"


@posix
def test_a_path_that_is_too_long(tmp_path: Path, folder: Path) -> None:
    card = make_card(folder)
    deep = tmp_path.joinpath(*["d" * 90] * 6)
    fits = Path(str(deep)[:LONGEST].rstrip("/"))
    Store(fits).add(card)
    assert len(Store(fits).entries()) == 1
    for root in (Path(f"{fits}/{'d' * 90}"), tmp_path / ("e" * 300)):
        with pytest.raises(UsageError, match="Expected a path of the registry") as caught:
            Store(root)
        assert len(caught.value.message) < 300
        assert "PE_HOME" in (caught.value.hint or "")
    (tmp_path / "short").symlink_to(deep / ("d" * 90))  # SQLite follows links
    with pytest.raises(UsageError):
        Store(tmp_path / "short")


def test_several_come_back_in_one_step(store: Store, folder: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        store.add(make_card(folder, seed=number), name)
        store.remove(local(name))
    with pytest.raises(RegistryError, match="the card d among the removed"):
        store.restore(local("a"), local("d"))
    assert store.entries() == []  # a neither
    assert [e.name for e in store.restore(local("a"), local("b@1.0.0"), local("a"))] == ["a", "b"]
    assert [e.name for e in store.entries()] == ["a", "b"]
    assert [e.name for e in store.restore()] == ["c"]


def test_two_cards_cannot_come_back_under_one_name(store: Store, folder: Path) -> None:
    both = [store.add(make_card(folder, seed=seed), "wave", force=True) for seed in (1, 2)]
    store.remove(local("wave"))
    with pytest.raises(UsageError, match="got two"):
        store.restore(*(local(f"wave@{entry.digest}") for entry in both))
    assert store.entries() == []
    assert store.restore(local("wave"))[0].digest == both[1].digest


def test_what_is_there_again_has_not_to_come_back(store: Store, folder: Path) -> None:
    path = make_card(folder)
    store.add(path)
    store.remove(local("wave"))
    store.add(path)
    with pytest.raises(OutputExistsError, match="the same card is there again"):
        store.restore()


def test_an_index_that_cannot_be_written_leaves_no_file(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.add(make_card(folder))
    path, close = make_card(folder, seed=1, version="1.1.0"), Transaction.close

    def no_room() -> sqlite3.Error:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        return error

    full = [no_room()]

    def closing(self: Transaction) -> None:
        if full:
            raise full.pop()
        close(self)

    monkeypatch.setattr(Transaction, "close", closing)
    with pytest.raises(OutputError, match="disk is full"):
        store.add(path, origin="hf://a/b@c")
    assert files(store) == {first.digest[7:]}
    assert not list((store.root / "objects").rglob("*.origin"))
    assert store.add(path).path.exists()
    full.append(no_room())
    with pytest.raises(OutputError):
        store.add(path, "other")  # the same bytes have a name: they stay
    assert store.resolve(local("wave@1.1.0")).path.exists()


def test_a_registry_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(UsageError, match="got the file"):
        Store(tmp_path / "f")


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "lost"])
def test_a_registry_is_nothing_else(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Expected a folder for the registry, got") as caught:
        Store(tmp_path / kind)
    assert "PE_HOME" in (caught.value.hint or "")


def test_a_card_cannot_choose_its_digest(store: Store, folder: Path) -> None:
    store.add(make_card(folder))
    with pytest.raises(UsageError, match="Expected a version"):
        store.tag(local("wave"), local("fav@sha256:00000000"))


def test_words_are_looked_for_in_words(store: Store, folder: Path) -> None:
    entry = store.add(make_card(folder))
    for word in (entry.digest[7:12], "2026", "None", str(entry.size)):
        assert store.entries([word]) == [], word


def test_a_name_that_means_other_bytes_of_one_version(store: Store, folder: Path) -> None:
    store.add(make_card(folder))
    before = store.entries()
    new = store.add(make_card(folder, seed=1), force=True)
    said = change_of_meaning("wave", before, store.entries())
    assert said == (
        f"wave alone now means wave@1.0.0 with file {new.digest[:19]}, before "
        f"{before[0].digest[:19]}."
    )
