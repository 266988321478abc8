"""What can be done to the index while it is locked."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from pe_toolkit.registry import rows
from pe_toolkit.registry.entry import Entry


class Transaction:
    """What can be done to the index inside `Index.writing`."""

    def __init__(
        self, connection: sqlite3.Connection, entries: list[Entry], unnamed: dict[str, int]
    ) -> None:
        self._connection = connection
        self._rows = {entry.id: entry for entry in entries}
        self._last = max(self._rows, default=0)
        self.unnamed = unnamed
        """Digests of files that no row names -> since when, in seconds since 1970 by the clock of
        the disk; 0 for those that were removed, and that `gc` is about to delete. To be changed."""

    @property
    def entries(self) -> list[Entry]:
        """Every row, removed ones included, as the change has left it so far."""
        return list(self._rows.values())

    def named(self, name: str, version: str | None = None) -> list[Entry]:
        """The cards of that name, and version, that are there."""
        return [
            entry
            for entry in self._rows.values()
            if entry.removed is None and entry.name == name and version in (None, entry.version)
        ]

    def insert(self, entry: Entry) -> None:
        """Add one row."""
        self._last += 1
        self._put(replace(entry, id=self._last, step=0, removed=None))
        self.unnamed.pop(entry.digest, None)

    def remove(self, entries: Sequence[Entry], time: str) -> None:
        """Remove rows in one step, so that they can come back.

        Args:
            time: now, for people. What was removed last is told by the steps, not by a clock.
        """
        step = max((entry.step for entry in self.entries), default=0) + 1
        for entry in entries:
            self._put(replace(entry, removed=time, step=step))

    def restore(self, entries: Sequence[Entry]) -> None:
        """Bring removed rows back."""
        for entry in entries:
            self._put(replace(entry, removed=None, step=0))

    def forget(self) -> list[Entry]:
        """Delete all removed rows for ever."""
        gone = [entry for entry in self.entries if entry.removed is not None]
        self._connection.execute("DELETE FROM cards WHERE removed IS NOT NULL")
        for entry in gone:
            del self._rows[entry.id]
        return gone

    def digests(self) -> set[str]:
        """Digests of every row, removed ones included: what must stay."""
        return {entry.digest for entry in self.entries}

    def close(self) -> None:
        """Write what is pending, and seal the index."""
        self._connection.execute("DELETE FROM unnamed")
        self._connection.executemany("INSERT INTO unnamed VALUES (?, ?)", self.unnamed.items())
        rows.seal_all(self._connection)

    def _put(self, entry: Entry) -> None:
        rows.insert(self._connection, entry)
        self._rows[entry.id] = entry
