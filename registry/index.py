"""The index: names and versions -> digests, in one SQLite file.

SQLite gives what files alone do not: a change is there completely or not at all, whatever kills
the process, and 10,000 cards are listed in milliseconds. The rollback journal is used, not WAL,
which does not work on network file systems. Every operation has a connection of its own; the
write transaction is the lock of the whole registry (`locks.py` for disks whose locks do nothing).

Whatever is read was checked row by row before it is used, and before a change is committed
(`rows.py`): a damaged index is an error that leads to `Store.rebuild`, never a wrong answer.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pe_toolkit.card.migrations import UPGRADE
from pe_toolkit.errors import OutputError
from pe_toolkit.registry import locks, objects, rows
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError
from pe_toolkit.registry.transaction import Transaction
from pe_toolkit.shown import printable

FILE = "index.sqlite3"
REBUILD = "The cards themselves are safe. `pe verify --all --rebuild` makes a new index of them."
ODDS = ("-journal", "-wal", "-shm")
"""What SQLite may leave beside an index. Beside another index it would be played into that one."""

_SLICE_SECONDS = 0.1
"""SQLite waits in slices of this length, so that Ctrl-C works while we wait."""

T = TypeVar("T")


class Index:
    """The table of cards in the registry at `root`.

    Args:
        root: folder of the registry.
        folder: where its cards lie.
        timeout: seconds to wait for another process.
        has_cards: whether there are files of cards: then a missing index was lost, it is not new.
    """

    def __init__(
        self, root: Path, folder: Path, timeout: float, has_cards: Callable[[], bool]
    ) -> None:
        self.root = root
        self.path = root / FILE
        self.folder = folder
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
        with self._locked() as connection:
            new = _schema(connection) == 0
            if not new:
                with self._change(connection) as change:
                    yield change
            elif self._has_cards():
                raise self._lost()
            else:
                rows.create(connection)
        if new:  # in a change of its own: from now on, files without an index mean a lost one
            with self._locked() as connection, self._change(connection) as change:
                yield change

    def entries(self) -> list[Entry]:
        """Every row, removed ones included, in one consistent view; none without an index."""
        with objects.disk_errors(self.root, "read"):
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
            return self._view(connection, lambda: self._read(connection))

    def unnamed(self) -> dict[str, int]:
        """As `Transaction.unnamed`."""
        if not self.path.exists():
            return {}
        with self._open("rw") as connection:
            if self._patiently(lambda: _schema(connection)) < rows.SCHEMA:
                return {}
            return self._patiently(lambda: _unnamed(connection))

    def damaged(self) -> bool:
        """Whether the index cannot be used, by anything that any command does with it."""
        try:
            self.entries()
            self.unnamed()
            if not self.path.exists():
                return False
            with self._open("rw") as connection:
                return self._patiently(lambda: _faults(connection, "integrity_check")) != []
        except RegistryBusyError:
            raise
        except RegistryError:
            return True

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[tuple[sqlite3.Connection | None, bool]]:
        """Lock out others, as far as an index that may be damaged or lost can do that.

        Yields:
            A connection to the index that is there, if SQLite can use it at all, and whether it
            is locked, and could be before: one that cannot be is damaged.

        Raises:
            RegistryBusyError, OutputError: as `writing`.
        """
        with contextlib.ExitStack() as stack:
            odd = self._set_odds_aside()
            there = self.path.exists() and self.path.stat().st_size > 0
            connection, locked = None, not there
            if there:
                try:
                    connection, locked = stack.enter_context(self._locked()), True
                except RegistryBusyError:
                    raise
                except RegistryError:
                    with contextlib.suppress(RegistryError):
                        connection = stack.enter_context(self._open("ro"))
            try:
                yield connection, locked and not odd
            finally:  # nothing was changed: what a damaged file says to that is no matter
                with contextlib.suppress(RegistryError, *rows.ERRORS):
                    stack.close()

    def build(self, path: Path, entries: Sequence[Entry], unnamed: dict[str, int]) -> None:
        """Write a complete new index to `path`, synced; its journal is in memory.

        Raises:
            OutputError: if it cannot be written.
        """
        try:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = MEMORY")
                connection.execute("BEGIN")
                rows.create(connection)
                for entry in entries:
                    rows.insert(connection, entry)
                Transaction(connection, [], unnamed).close()
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OutputError(
                f"Expected to write the new index {printable(str(path))}, but: {error}.",
                "Free some space, and run the command again. The old index is as it was.",
            ) from error

    def put(self, new: Path, stamp: str) -> Path | None:
        """Let a new index take the place of what is there; where that lies now."""
        aside = self._beside(f".{stamp}.old")
        there = self.path.exists() and self.path.stat().st_size > 0
        if objects.no_file(self.path):
            os.rename(self.path, aside)
            there = True
        elif there:
            try:
                os.link(self.path, aside)
            except OSError:  # a file system without links
                import shutil

                shutil.copyfile(self.path, aside)
        for odd in ODDS:
            self._beside(odd).unlink(missing_ok=True)
        os.replace(new, self.path)
        return aside if there else None

    def _set_odds_aside(self) -> bool:
        """Let what lies at SQLite's places and is no file get out of its way; whether any did."""
        odds = [place for place in map(self._beside, ODDS) if objects.no_file(place)]
        for place in odds:
            os.rename(place, place.with_name(f"{place.name}.{time.time_ns()}.old"))
        return odds != []

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(FILE + ending)

    def _view(self, connection: sqlite3.Connection, action: Callable[[], T]) -> T:
        """What several queries find, with no change of another process between them."""

        def view() -> T:
            connection.execute("BEGIN")
            try:
                return action()
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

        return self._patiently(view)

    def _read(self, connection: sqlite3.Connection) -> list[Entry]:
        # Not by reading the header: to close the file would take the locks away that SQLite has.
        if connection.execute("PRAGMA journal_mode").fetchone() != ("delete",):
            raise self._unsound("it has another journal")
        try:
            if _schema(connection) == 1:
                return rows.upgrade(connection, self.folder)
            return rows.read(connection, self.folder)
        except rows.DamageError as error:
            raise self._unsound(str(error)) from error

    @contextlib.contextmanager
    def _change(self, connection: sqlite3.Connection) -> Iterator[Transaction]:
        if faults := _faults(connection, "quick_check"):
            raise self._unsound(faults[0])
        entries = self._read(connection)
        if _schema(connection) == 1:
            _upgrade(connection, entries)
        change = Transaction(connection, entries, _unnamed(connection))
        yield change
        change.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a write transaction that is committed if the block ends well."""
        self._check_locks()
        with contextlib.ExitStack() as stack:
            while True:
                before = _inode(self.path)
                opened = stack.enter_context(contextlib.ExitStack())
                connection = opened.enter_context(self._open("rwc"))
                self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))  # noqa: B023
                if before == _inode(self.path):
                    break
                opened.close()  # a rebuild has put another index in its place while we waited
            try:
                yield connection
                # Waits until nobody reads; a commit that is refused can be repeated.
                self._patiently(lambda: connection.execute("COMMIT"))
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise

    def _lost(self) -> RegistryError:
        return RegistryError(
            f"Expected the index {printable(str(self.path))}, but it is gone or empty, "
            "while there are cards.",
            REBUILD,
        )

    def _unsound(self, what: str) -> RegistryError:
        return RegistryError(
            f"Expected a sound index at {printable(str(self.path))}, but: {printable(what)}.",
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
                    if (fault := self._check_locks()) is not None:
                        raise RegistryError(
                            f"Expected a disk that locks files under {printable(str(self.root))}, "
                            f"but: {fault}.",
                            "Run the command again: a lock file takes their place from now on.",
                        ) from error
                    raise locks.busy(self.root, self.timeout, "another pe process") from error

    def _check_locks(self) -> str | None:
        name = f"{FILE}.{os.getpid()}-{threading.get_ident()}.probe"
        return locks.check(self.root, self.root / name)

    def _alone(self) -> contextlib.AbstractContextManager[bool]:
        return locks.alone(self.root, self.timeout)

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        for place in (self.path, *map(self._beside, ODDS)):
            if what := objects.no_file(place):  # SQLite would wait for ever for a named pipe
                raise self._unsound(f"{place.name} is {what}")
        try:
            with self._alone() as by_file:
                connection = sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode={mode}{'&nolock=1' * by_file}",
                    uri=True,
                    timeout=_SLICE_SECONDS,
                    isolation_level=None,
                )
                with contextlib.closing(connection):
                    connection.execute("PRAGMA trusted_schema = OFF")
                    yield connection
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except rows.ERRORS as error:
            raise self._unsound(str(error)) from error

    def _explained(self, error: sqlite3.Error) -> Exception:
        where = printable(str(self.path))
        kind = _kind(error)
        if kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
                    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):  # fmt: skip
            if denied := _denied(self.path):
                return OutputError(
                    f"Expected to use the index {where}, but permission was denied: {denied}.",
                    "Change the permissions, or set PE_HOME to a folder of your own.",
                )
            if kind == sqlite3.SQLITE_READONLY:  # only its own header says so
                return self._unsound(str(error))
            return OutputError(
                f"Expected to use the index {where}, but: {error}.",
                "Check its permissions and the free space, or set PE_HOME to another folder.",
            )
        return self._unsound(str(error))


def _upgrade(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Make the tables of this version of those of version 1, inside a change."""
    connection.execute("DROP TABLE cards")
    rows.create(connection)
    for entry in entries:
        rows.insert(connection, entry)
    rows.seal_all(connection)


def _unnamed(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT digest, since FROM unnamed").fetchall())


def _faults(connection: sqlite3.Connection, check: str) -> list[str]:
    found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}(1)").fetchall()]
    return [] if found == ["ok"] else found


def _schema(connection: sqlite3.Connection) -> int:
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if number > rows.SCHEMA or number < 0:
        raise RegistryError(
            f"Expected an index of version {rows.SCHEMA}, got {number}: a newer pe-toolkit made "
            "it, or it is damaged.",
            f"{UPGRADE} If there is none: pe verify --all --rebuild",
        )
    return number


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _denied(path: Path) -> str:
    """Of an index that SQLite cannot use: the file or folder that we may not use; "" if none."""
    there = os.path.exists(path)
    if there and not os.access(path, os.R_OK):
        return printable(str(path))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return printable(str(path.parent))
    return printable(str(path)) if there and not os.access(path, os.W_OK) else ""


def _kind(error: sqlite3.Error) -> int:
    """The primary result code; the rest of the number only says more about it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
