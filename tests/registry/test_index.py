"""A damaged index is an error that leads to a rebuild, and a rebuild loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from pe_toolkit.errors import OutputError, UsageError
from pe_toolkit.registry import rows, upkeep
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError
from pe_toolkit.registry.references import local
from pe_toolkit.registry.store import Store
from tests.registry import damage
from tests.registry.cards import make_card

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "registry", timeout=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cards"
    made.mkdir()
    return made


def named(store: Store, folder: Path, *names: str) -> list[Entry]:
    return [store.add(make_card(folder, seed=seed), name) for seed, name in enumerate(names)]


def age(store: Store, seconds: float) -> None:
    """Let all the unnamed cards have been seen that much earlier."""
    with store.index.writing() as change:
        for digest in change.unnamed:
            change.unnamed[digest] -= int(seconds)


def lose_row(store: Store, entry: Entry) -> None:
    with store.index.writing() as change:
        change.remove([there for there in change.entries if there.digest == entry.digest], "")
        change.forget()


def test_changed_bytes_of_the_index(tmp_path: Path) -> None:
    made = damage.ward(tmp_path)
    index, rng = made.root / "index.sqlite3", random.Random(7)
    at = index.read_bytes().index(b'"variant"')
    in_a_row = bytearray(index.read_bytes())
    in_a_row[at + 1] ^= 1
    # In the name of a table: Python cannot read what SQLite says of it.
    at = index.read_bytes().index(b"tablestate") + len("table")
    in_a_name = bytearray(index.read_bytes())
    in_a_name[at + 1] = 0xD5
    changes = [
        bytes(in_a_row),
        bytes(in_a_name),
        *islice(damage.bytes_changed(index.read_bytes(), rng), 6),
    ]
    verdicts = [damage.judge(made, tmp_path, change, damage.COMMANDS) for change in changes]
    assert verdicts[:2] == ["refused", "refused"]


def test_changed_tables_of_the_index(tmp_path: Path) -> None:
    made = damage.ward(tmp_path)
    index, rng = made.root / "index.sqlite3", random.Random(11)
    for _, change in islice(damage.tables_changed(index, tmp_path / "scratch", rng), 8):
        damage.judge(made, tmp_path, change, damage.COMMANDS)


def test_a_changed_row_is_refused_before_anything_is_removed(store: Store, folder: Path) -> None:
    named(store, folder, "a", "b")
    connection = sqlite3.connect(store.index.path, isolation_level=None)
    connection.execute("UPDATE cards SET facts = replace(facts, '{', '[') WHERE name = 'b'")
    connection.close()
    before = store.index.path.read_bytes()
    for action in (lambda: store.remove(local("a")), store.entries, store.gc, store.restore):
        with pytest.raises(RegistryError, match="row 2 is not what was written") as caught:
            action()
        assert "pe verify --all --rebuild" in (caught.value.hint or "")
    assert store.index.path.read_bytes() == before
    store.rebuild()
    # What could be read keeps its name, the other has the one that it bears itself.
    assert [e.name for e in store.entries()] == ["a", "wave"]


def test_reading_sees_no_half_of_a_change(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process commits between two of the queries that a reader makes."""
    named(store, folder, "a", "b")
    real, tried = rows._of_all, []

    def late(connection: sqlite3.Connection) -> int:
        if not tried:
            tried.append(True)
            with contextlib.suppress(RegistryBusyError):
                Store(store.root, timeout=0.2).remove(local("b"))
        return real(connection)

    monkeypatch.setattr(rows, "_of_all", late)
    assert [entry.name for entry in store.entries()] == ["a", "b"]
    assert tried


def test_a_rebuild_keeps_names_origins_and_what_was_removed(store: Store, folder: Path) -> None:
    store.add(make_card(folder, seed=1), "mine", origin="hf://zoe/wave@abc")
    store.add(make_card(folder, seed=2), "gone")
    store.remove(local("gone"))
    before = store.entries() + store.entries(removed=True)
    with open(store.index.path, "ab") as stream:
        stream.write(bytes(5000))
    data = bytearray(store.index.path.read_bytes())
    data[18] = data[19] = 2  # a write-ahead log
    store.index.path.write_bytes(data)
    with pytest.raises(RegistryError):
        store.entries()
    assert store.rebuild().named == ()
    assert store.entries() + store.entries(removed=True) == before
    assert [entry.name for entry in store.restore()] == ["gone"]


@pytest.mark.parametrize("damage_", ["gone", "row"])
def test_a_rebuild_makes_no_stranger_s_card_ours(store: Store, folder: Path, damage_: str) -> None:
    mine = store.add(make_card(folder, "orbit", "1.0.0"))
    theirs = store.add(make_card(folder, "orbit", "9.0.0"), origin="hf://evil/orbit@" + "a" * 40)
    if damage_ == "gone":
        store.index.path.unlink()
    else:
        data = bytearray(store.index.path.read_bytes())
        at = data.index(b"hf://evil")
        data[at] ^= 1
        store.index.path.write_bytes(data)
    store.rebuild()
    assert [entry.source for entry in store.entries()] == ["", "hf://evil/orbit"]
    with pytest.raises(UsageError, match="one source"):
        store.resolve(local("orbit"))
    note = theirs.path.with_suffix(".origin")
    note.write_bytes(b"\xff")
    store.index.path.unlink()
    store.rebuild()
    assert [entry.source for entry in store.entries()] == ["", "unknown"]
    store.remove(local("orbit@9.0.0"))
    store.gc()
    assert not note.exists()
    assert store.resolve(local("orbit")).digest == mine.digest


@posix
@pytest.mark.parametrize("ending", ["", "-journal"])
@pytest.mark.parametrize("kind", ["a named pipe", "a folder"])
def test_what_lies_at_the_place_of_the_index_and_is_no_file(
    store: Store, folder: Path, ending: str, kind: str
) -> None:
    store.add(make_card(folder, seed=1), "mine", origin="hf://zoe/wave@abc")
    place = store.index.path.with_name(store.index.path.name + ending)
    place.unlink(missing_ok=True)
    if kind == "a folder":
        place.mkdir()
        (place / "precious").touch()
    else:
        os.mkfifo(place)
    # SQLite opens a pipe and waits, deaf to signals: only another process can tell.
    listed = subprocess.run(
        [sys.executable, "-m", "pe_toolkit", "list"],
        env=os.environ | {"PE_HOME": str(store.root)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert listed.returncode == 1
    said = " ".join(listed.stderr.split())
    assert f"{place.name} is {kind}" in said
    assert "pe verify --all --rebuild" in said
    store.rebuild()
    (entry,) = store.entries()
    assert entry.origin == "hf://zoe/wave@abc"
    assert entry.name == ("mine" if ending else "wave")
    if kind == "a folder":
        assert len(list(store.root.glob("*/precious"))) == 1  # set aside


@posix
def test_a_named_pipe_as_lock_file_is_waited_for_like_any_other(store: Store, folder: Path) -> None:
    named(store, folder, "a")
    (store.root / "index.nolocks").touch()
    os.mkfifo(store.root / "index.lock")
    hasty = Store(store.root, timeout=0.1)
    with pytest.raises(RegistryBusyError, match="keeps it locked"):
        hasty.entries()


def test_rebuild_runs_if_there_are_cards_without_a_row(store: Store, folder: Path) -> None:
    """As an interrupted rebuild of an old pe-toolkit left it: a sound index that is empty."""
    lost = named(store, folder, "a", "b", "c")
    for entry in lost[1:]:
        lose_row(store, entry)
    collected = store.gc()
    assert (collected.files, len(collected.unnamed)) == (0, 2)
    rebuilt = store.rebuild()
    assert {entry.digest for entry in rebuilt.named} == {entry.digest for entry in lost[1:]}
    assert {entry.digest for entry in store.entries()} == {entry.digest for entry in lost}
    assert store.gc().unnamed == ()
    with pytest.raises(UsageError, match="names every card"):
        store.rebuild()


def test_gc_keeps_a_sound_card_without_a_name_for_two_weeks(store: Store, folder: Path) -> None:
    (entry,) = named(store, folder, "a")
    data = entry.path.read_bytes()
    store.remove(local("a"))
    store.gc()
    entry.path.write_bytes(data)
    os.utime(entry.path, (0, 0))  # old, but seen just now
    for _ in range(2):
        done = store.gc()
        assert (done.files, [card.path for card in done.unnamed]) == (0, [entry.path])
    age(store, upkeep.UNNAMED_SECONDS - 60)
    assert store.gc(dry_run=True).unnamed[0].seconds <= 60
    assert entry.path.exists()
    age(store, 120)
    assert store.gc(dry_run=True).files == 1
    assert store.gc().files == 1
    assert not entry.path.exists()


def test_a_clock_that_was_put_back_makes_nothing_older(store: Store, folder: Path) -> None:
    (entry,) = named(store, folder, "a")
    data = entry.path.read_bytes()
    store.remove(local("a"))
    store.gc()
    entry.path.write_bytes(data)
    store.gc()
    age(store, -86400)  # seen tomorrow
    (card,) = store.gc().unnamed
    assert card.seconds <= upkeep.UNNAMED_SECONDS
    age(store, upkeep.UNNAMED_SECONDS)
    assert store.gc().files == 1


def test_cards_that_gc_had_no_time_to_delete_do_not_come_back(store: Store, folder: Path) -> None:
    kept, gone = named(store, folder, "kept", "gone")
    store.remove(local("gone"))
    with store.index.writing() as change:  # the first half of a `gc` that is killed then
        change.forget()
        change.unnamed[gone.digest] = 0
    with pytest.raises(UsageError, match="sound"):
        store.rebuild()
    store.index.path.write_bytes(store.index.path.read_bytes()[:-1])
    store.rebuild()
    assert store.entries() == [kept]
    assert store.gc().files == 1


def test_undo_goes_by_the_order_and_not_by_the_clock(store: Store, folder: Path) -> None:
    named(store, folder, "first", "second")
    times = iter(("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"))  # a clock that was put back
    for name in ("first", "second"):
        with store.index.writing() as change:
            change.remove(change.named(name), next(times))
    assert [entry.name for entry in store.restore()] == ["second"]
    assert [entry.name for entry in store.restore()] == ["first"]


def test_a_temporary_file_is_as_old_as_the_disk_says(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(store, folder, "a")
    fresh = store.root / "tmp" / f"add-{'0' * 16}.tmp"
    fresh.touch()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)  # ours is a day ahead of the server's
    store.gc()
    assert fresh.exists()


@pytest.mark.parametrize("removed", [False, True])
def test_an_index_of_version_1(store: Store, folder: Path, removed: bool) -> None:
    """As pe-toolkit 0.1 made it: no seals, a unique index, removal by time alone."""
    entries = named(store, folder, "a", "b", "c")
    store.index.path.unlink()
    connection = sqlite3.connect(store.index.path, isolation_level=None)
    connection.execute(
        """CREATE TABLE cards (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    origin TEXT,
    added TEXT NOT NULL,
    removed TEXT,
    facts TEXT NOT NULL
)"""
    )
    connection.execute(
        "CREATE UNIQUE INDEX one_card ON cards (name, version) WHERE removed IS NULL"
    )
    connection.execute("PRAGMA user_version = 1")
    for entry, when in zip(entries, (None, "2026-01-01", "2026-01-02"), strict=True):
        connection.execute(
            "INSERT INTO cards (name, version, digest, size, origin, added, removed, facts) "
            "VALUES (?, ?, ?, ?, NULL, ?, ?, ?)",
            (entry.name, entry.version, entry.digest, entry.size, entry.added, when,
             json.dumps(dict(entry.facts))),
        )  # fmt: skip
    connection.close()
    assert [e.name for e in store.entries()] == ["a"]  # reading changes nothing
    assert len(store.entries(removed=True)) == 2
    if removed:  # by a rebuild
        data = bytearray(store.index.path.read_bytes())
        at = data.index(b'"variant"')
        data[at : at + 4] = b"####"
        store.index.path.write_bytes(data)
        with pytest.raises(RegistryError):
            store.entries()
        store.rebuild()
    else:
        assert [e.name for e in store.restore()] == ["c"]
        assert [e.name for e in store.restore()] == ["b"]
    connection = sqlite3.connect(store.index.path)
    assert connection.execute("PRAGMA user_version").fetchone() == (rows.SCHEMA,)
    connection.close()
    found = {e.digest for e in store.entries() + store.entries(removed=True)}
    assert found == {entry.digest for entry in entries}


def test_a_writer_that_waited_for_a_rebuild_writes_into_the_new_index(
    store: Store, folder: Path
) -> None:
    named(store, folder, "a")
    code = (
        "import sys; from pathlib import Path; from pe_toolkit.registry.store import Store; "
        "Store(Path(sys.argv[1])).add(Path(sys.argv[2]), 'late')"
    )
    path = make_card(folder, seed=9)
    with store.index.set_aside() as (old, locked):
        assert old is not None
        assert locked
        run = subprocess.Popen([sys.executable, "-c", code, str(store.root), str(path)], cwd=ROOT)
        while not list((store.root / "tmp").iterdir()):  # it has checked and copied, and waits
            time.sleep(0.02)
        time.sleep(0.3)
        new = store.objects.temporary_path()
        store.index.build(new, rows.salvage(old, store.objects.folder), {})
        store.index.put(new, "test")
    assert run.wait(60) == 0
    assert [e.name for e in store.entries()] == ["a", "late"]


@posix
def test_a_rebuild_on_a_full_disk_leaves_everything(store: Store, folder: Path) -> None:
    """No file may outgrow 8 kB: the new index of many cards does not fit."""
    entries = named(store, folder, *(f"card-{n}" for n in range(12)))
    store.index.path.write_bytes(os.urandom(3000))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)); "
        "from pe_toolkit.cli.main import main; sys.argv[0] = 'pe'; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "verify", "--all", "--rebuild"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PE_HOME": str(store.root)},
    )  # fmt: skip
    assert run.returncode == 1, run.stdout
    assert run.stderr.startswith("Error: Expected to"), run.stderr
    assert "Unexpected" not in run.stderr
    assert not list((store.root / "tmp").iterdir())
    with pytest.raises(RegistryError):
        store.gc()
    store.rebuild()
    assert {e.digest for e in store.entries()} == {e.digest for e in entries}
    assert store.gc().files == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_registry_that_we_may_not_read(store: Store, folder: Path) -> None:
    named(store, folder, "a")
    os.chmod(store.root / "objects" / "sha256", 0)
    store.index.path.unlink()
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            store.entries()
    finally:
        os.chmod(store.root / "objects" / "sha256", 0o755)
