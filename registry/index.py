"""The index: names and versions -> digests, in one SQLite file.

SQLite gives what files alone do not: a change is there completely or not at all, whatever kills
the process, and 10,000 cards are listed in milliseconds. The rollback journal is used, not WAL,
which does not work on network file systems. Every operation has a connection of its own; the
write transaction is the lock of the whole registry.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pe_toolkit.card.text import printable
from pe_toolkit.errors import OutputError
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError

FILE = "index.sqlite3"
SCHEMA = 1

_TABLES = """
CREATE TABLE cards (
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
_UNIQUE = "CREATE UNIQUE INDEX one_card ON cards (name, version) WHERE removed IS NULL"
_COLUMNS = "name, version, digest, size, origin, added, removed, facts"
REBUILD = "The cards themselves are safe. `pe verify --all --rebuild` makes a new index of them."

_SLICE_SECONDS = 0.1
"""SQLite waits in slices of this length, so that Ctrl-C works while we wait."""

T = TypeVar("T")


class Index:
    """The table of cards in the registry at `root`.

    Args:
        root: folder of the registry.
        timeout: seconds to wait for another process.
        has_cards: whether there are files of cards: then a missing index was lost, it is not new.
    """

    def __init__(self, root: Path, timeout: float, has_cards: Callable[[], bool]) -> None:
        self.root = root
        self.path = root / FILE
        self.timeout = timeout
        self._has_cards = has_cards

    @contextlib.contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One change: all of it when the block ends well, else nothing. Locks out other writers.

        Raises:
            RegistryBusyError: if another process keeps the lock for too long.
            RegistryError: if the index is damaged, or made by a newer pe-toolkit.
            OutputError: if it cannot be written.
        """
        with self._open("rwc") as connection:
            with self._locked(connection):
                new = _schema(connection) == 0
                if new:
                    if self._has_cards():
                        raise self._lost()
                    _create(connection)
                else:
                    yield Transaction(connection)
            if new:  # in a change of its own: from now on, files without an index mean a lost one
                with self._locked(connection):
                    yield Transaction(connection)

    def rows(self, where: str = "1", values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows that fulfil an SQL condition, in one consistent view; none without an index."""
        if not self.path.exists() and not self._has_cards():
            return []
        if not self.path.exists():  # looked at again: the first card may have come meanwhile
            raise self._lost()
        with self._open("rw") as connection:
            if self._patiently(lambda: _schema(connection)) == 0:
                if not self._has_cards():
                    return []
                if self._patiently(lambda: _schema(connection)) == 0:
                    raise self._lost()
            query = f"SELECT {_COLUMNS} FROM cards WHERE {where}"
            return self._patiently(lambda: connection.execute(query, values).fetchall())

    def damaged(self) -> bool:
        """Whether the index cannot be used: unreadable, or lost while there are cards."""
        try:
            self.rows()
            if not self.path.exists():
                return False
            with self._open("rw") as connection:
                check = self._patiently(lambda: connection.execute("PRAGMA quick_check").fetchall())
        except RegistryBusyError:
            raise
        except RegistryError:
            return True
        return check != [("ok",)]

    def start_again(self, stamp: str) -> Path | None:
        """Put the index aside and make an empty one; where the old one lies now."""
        aside = None
        if self.path.exists() and self.path.stat().st_size:
            aside = self.path.with_name(f"{FILE}.{stamp}.old")
            self.path.replace(aside)
        self.path.with_name(f"{FILE}-journal").unlink(missing_ok=True)
        with self._open("rwc") as connection, self._locked(connection):
            _create(connection)
        return aside

    @contextlib.contextmanager
    def _locked(self, connection: sqlite3.Connection) -> Iterator[None]:
        self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            yield
            # Waits until nobody reads; a commit that is refused can be repeated.
            self._patiently(lambda: connection.execute("COMMIT"))
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _lost(self) -> RegistryError:
        return RegistryError(
            f"Expected the index {printable(str(self.path))}, but it is gone or empty, "
            "while there are cards.",
            REBUILD,
        )

    def _patiently(self, action: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if _kind(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                if time.monotonic() >= deadline:
                    raise RegistryBusyError(
                        f"Expected the registry {printable(str(self.path.parent))} to be free "
                        f"within {self.timeout:g} s, but another pe process keeps it locked.",
                        "Try again when it is done. A process that was killed keeps no lock.",
                    ) from error

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_SLICE_SECONDS,
                isolation_level=None,
            )
            with contextlib.closing(connection):
                connection.execute("PRAGMA trusted_schema = OFF")
                yield connection
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> Exception:
        where = printable(str(self.path))
        kind = _kind(error)
        if kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
                    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):  # fmt: skip
            return OutputError(
                f"Expected to use the index {where}, but: {error}.",
                "Check its permissions and the free space, or set PE_HOME to another folder.",
            )
        return RegistryError(
            f"Expected a sound index at {where}, but: {error}.",
            REBUILD,
        )


class Transaction:
    """What can be done to the index inside `Index.writing`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, where: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """As `Index.rows`, with the row's id in front."""
        query = f"SELECT id, {_COLUMNS} FROM cards WHERE {where}"
        return self._connection.execute(query, values).fetchall()

    def insert(self, entry: Entry) -> None:
        """Add one row."""
        self._connection.execute(
            f"INSERT INTO cards ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?)",
            (entry.name, entry.version, entry.digest, entry.size, entry.origin, entry.added,
             json.dumps(dict(entry.facts))),
        )  # fmt: skip

    def mark(self, ids: list[int], removed: str | None) -> None:
        """Remove rows, so that they can come back (`removed` is the time), or bring them back."""
        self._connection.executemany(
            "UPDATE cards SET removed = ? WHERE id = ?", [(removed, number) for number in ids]
        )

    def forget(self) -> int:
        """Delete all removed rows for ever; how many."""
        return self._connection.execute("DELETE FROM cards WHERE removed IS NOT NULL").rowcount

    def digests(self) -> set[str]:
        """Digests of every row, removed ones included: what must stay."""
        return {row[0] for row in self._connection.execute("SELECT DISTINCT digest FROM cards")}


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLES)
    connection.execute(_UNIQUE)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _schema(connection: sqlite3.Connection) -> int:
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if number > SCHEMA:
        raise RegistryError(
            f"Expected an index of version {SCHEMA}, got {number}: a newer pe-toolkit made it.",
            "Install a newer pe-toolkit: pip install --upgrade pe-toolkit",
        )
    return number


def _kind(error: sqlite3.Error) -> int:
    """The primary result code; the rest of the number only says more about it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
