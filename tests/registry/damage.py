"""Changes of an index that no pe makes, and what every command does with them.

Each command runs on a copy of a registry whose index was changed. It must do what it does with the
sound index, or end in an error that changes nothing; then a rebuild must bring every card back. No
file of a card is touched by any of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from pe_toolkit.cli.main import cli
from pe_toolkit.registry.references import local
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("list",),
    ("list", "--removed"),
    ("show", "card-1"),
    ("verify", "--all"),
    ("lock", "card-1", "-f", "LOCK"),
    ("gc", "--dry-run"),
    ("add", "NEW", "new"),
    ("tag", "card-1", "other"),
    ("rm", "card-2"),
    ("rm", "--undo"),
    ("gc",),
)


@dataclass
class Ward:
    """A registry to be damaged, and what the commands do while it is sound."""

    root: Path
    new: Path
    """A card that is not in it."""
    sound: dict[tuple[str, ...], tuple[str, object]]
    """Command -> what it prints, and the state that it leaves."""


def ward(folder: Path, cards: int = 5) -> Ward:
    """A registry with some cards, a second name, a removed card, and a file that no row names."""
    sources = folder / "sources"
    sources.mkdir()
    store = Store(folder / "registry")
    for seed in range(cards):
        store.add(make_card(sources, f"card {seed}", seed=seed))
    store.tag(local("card-0"), local("second"))
    store.remove(local(f"card-{cards - 1}"))
    new = make_card(sources, "new", seed=cards)
    made = Ward(store.root, new, {})
    for words in COMMANDS:
        with _copy(made, folder / "sound") as copy:
            said = _run(copy, made, words)
            assert said[0] == 0, said
            made.sound[words] = (said[1], state(copy))
    return made


def judge(made: Ward, folder: Path, changed: bytes, commands: Sequence[tuple[str, ...]]) -> str:
    """Run commands on registries with the changed index, and rebuild it.

    Returns:
        "right" if every command did what it does with the sound index, else "refused".

    Raises:
        AssertionError: if anything else happened.
    """
    verdict = "right"
    for words in commands:
        with _copy(made, folder / "damaged") as copy:
            index = Store(copy).index.path
            index.write_bytes(changed)
            files = _files(copy)
            code, out, err = _run(copy, made, words)
            assert "Unexpected" not in err, (words, err)
            assert "Traceback" not in err, (words, err)
            if code == 0:
                assert out == made.sound[words][0], (words, out, err)
                assert state(copy) == made.sound[words][1], (words, out)
            else:
                verdict = "refused"
                assert "Hint: " in err, (words, err)
                assert index.read_bytes() == changed, words
                assert _files(copy) == files, words
    with _copy(made, folder / "damaged") as copy:
        Store(copy).index.path.write_bytes(changed)
        files = _files(copy)
        code, out, err = _run(copy, made, ("verify", "--all", "--rebuild"))
        assert "Unexpected" not in err, err
        assert _files(copy) == files
        if code == 2:
            assert "it is sound" in err, err
            assert verdict == "right", err
        else:
            assert code == 0, (out, err)
        store = Store(copy)
        there = {entry.digest for entry in store.entries()}
        every = {digest for digest, _ in store.objects.all()}
        removed = {entry.digest for entry in store.entries(removed=True)}
        assert there | removed == every, (there, removed)
        assert [error for _, error in store.verify_all() if error] == []
        store.add(made.new)
        store.gc()
        assert {entry.digest for entry in store.entries()} >= there
    return verdict


def bytes_changed(index: bytes, rng: random.Random) -> Iterator[bytes]:
    """The index with one byte changed, without end."""
    while True:
        at = rng.randrange(len(index))
        other = bytearray(index)
        other[at] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
        yield bytes(other)


def tables_changed(path: Path, scratch: Path, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """The index after a statement of SQL, and the statement, without end."""
    while True:
        shutil.copyfile(path, scratch)
        sql = _statement(rng)
        connection = sqlite3.connect(scratch, isolation_level=None)
        try:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(sql)
            if "journal_mode" in sql:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.IntegrityError:
            continue
        finally:
            connection.close()
        yield sql, scratch.read_bytes()


def _statement(rng: random.Random) -> str:
    columns = ("name", "version", "digest", "size", "origin", "added", "removed", "step", "facts",
               "seal", "id")  # fmt: skip
    values = ("NULL", "'x'", "''", "-1", "7", "x'00ff'", "1e300", "'card-1'", "'1.0.0'", "'[]'",
              "'{}'", "x'80' || 'x'", "'sha256:' || hex(zeroblob(32))", "9223372036854775807",
              "CAST(x'ff' AS TEXT)", "(SELECT digest FROM cards WHERE id = 2)")  # fmt: skip
    row = f"WHERE id = {rng.randrange(1, 7)}"
    return rng.choice(
        (
            *[f"UPDATE cards SET {rng.choice(columns)} = {rng.choice(values)} {row}"] * 8,
            f"UPDATE cards SET {rng.choice(columns)} = {rng.choice(values)}",
            f"DELETE FROM cards {row}",
            "DELETE FROM cards",
            f"INSERT INTO cards SELECT id + 100, {', '.join(columns[:-1])} FROM cards {row}",
            f"DROP TABLE {rng.choice(('cards', 'state', 'unnamed'))}",
            f"DELETE FROM {rng.choice(('cards', 'state'))}",
            f"UPDATE state SET seal = {rng.choice(values)}",
            f"INSERT INTO state VALUES ({rng.randrange(9)})",
            f"INSERT INTO unnamed VALUES ({rng.choice(values)}, {rng.choice(values)})",
            f"ALTER TABLE cards RENAME COLUMN {columns[rng.randrange(9)]} TO other",
            "ALTER TABLE cards ADD COLUMN more TEXT",
            "CREATE INDEX one ON cards (name)",
            "CREATE VIEW v AS SELECT * FROM cards",
            "CREATE TRIGGER t AFTER INSERT ON cards BEGIN DELETE FROM cards; END",
            "CREATE TRIGGER t AFTER UPDATE ON cards BEGIN DELETE FROM cards; END",
            f"PRAGMA user_version = {rng.choice((-1, 0, 1, 3, 2**31 - 1))}",
            "PRAGMA journal_mode = WAL",
            "PRAGMA application_id = 7",
            "VACUUM",
            "UPDATE sqlite_master SET sql = replace(sql, 'facts', 'fakes') WHERE name = 'cards'",
            f"UPDATE sqlite_master SET rootpage = {rng.randrange(9)} WHERE name = 'cards'",
        )
    )


def state(root: Path) -> object:
    """What a registry holds, apart from times."""
    store = Store(root)
    rows = [
        (str(e.reference), e.digest, e.removed is not None, dict(e.facts))
        for e in store.entries() + store.entries(removed=True)
    ]
    return rows, sorted(digest for digest, _ in store.objects.all())


def tally(verdicts: Sequence[str]) -> dict[str, int]:
    """How many of each."""
    return dict(Counter(verdicts))


@contextlib.contextmanager
def _copy(made: Ward, to: Path) -> Iterator[Path]:
    """A copy of a registry, for the time of a block."""
    shutil.copytree(made.root, to)
    try:
        yield to
    finally:
        shutil.rmtree(to)


def _run(root: Path, made: Ward, words: tuple[str, ...]) -> tuple[int, str, str]:
    lock = root.parent / "pe.lock"
    lock.unlink(missing_ok=True)
    full = [{"NEW": str(made.new), "LOCK": str(lock)}.get(word, word) for word in words]
    done = CliRunner(env={"PE_HOME": str(root)}).invoke(cli, full)
    return done.exit_code, done.stdout, done.stderr


def _files(root: Path) -> dict[str, tuple[int, str]]:
    """Every file of a card: its time and its bytes."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (root / "objects").rglob("*")
        if os.path.isfile(path)
    }
