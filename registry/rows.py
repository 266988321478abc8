"""The tables of the index, and a row of them: sealed when it is written, checked when it is read.

Every row bears the CRC of its own values, and the index the CRC of all rows, so that a changed
byte is found whatever it changes: no damaged row is shown, and no missing row goes unnoticed. The
tables have no index of SQLite: it could be out of step with its table, and a registry is small
enough to be read from end to end.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.references import NAME
from pe_toolkit.registry.semver import is_version

SCHEMA = 2
TABLES = {
    "cards": """CREATE TABLE cards (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    origin TEXT,
    added TEXT NOT NULL,
    removed TEXT,
    step INTEGER NOT NULL,
    facts TEXT NOT NULL,
    seal INTEGER NOT NULL
)""",
    "unnamed": "CREATE TABLE unnamed (digest TEXT NOT NULL, since INTEGER NOT NULL)",
    "state": "CREATE TABLE state (seal INTEGER NOT NULL)",
}
COLUMNS = "name, version, digest, size, origin, added, removed, step, facts"

DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_TEXTS = ("version", "variant", "kind", "grid", "author")
"""Facts that `pe list` shows."""


ERRORS = (sqlite3.Error, OverflowError, UnicodeDecodeError)
"""What comes of a damaged file, also of Python's own module, when a message that quotes the damage
is no text.
"""


class DamageError(ValueError):
    """A row, or a table, is not what was written."""


def create(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty index, inside a change."""
    for sql in TABLES.values():
        connection.execute(sql)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("INSERT INTO state VALUES (0)")
    seal_all(connection)


def check_tables(connection: sqlite3.Connection) -> None:
    """Raise DamageError unless the index has exactly our tables: no triggers, no views."""
    have = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    if sorted(have, key=str) != sorted((("table", *item) for item in TABLES.items()), key=str):
        raise DamageError("its tables are not those that pe makes")


def read(connection: sqlite3.Connection, folder: Path) -> list[Entry]:
    """Every row, removed ones included, each checked, and none missing.

    Args:
        folder: where the cards lie.

    Raises:
        DamageError: if a row is not what was written.
        sqlite3.Error: if SQLite itself finds damage.
    """
    check_tables(connection)
    rows = connection.execute(f"SELECT id, {COLUMNS}, seal FROM cards ORDER BY id").fetchall()
    if connection.execute("SELECT seal FROM state").fetchall() != [(_of_all(connection),)]:
        raise DamageError("rows are missing, or there are too many")
    entries = [_sealed(row, folder) for row in rows]
    there = [(entry.name, entry.version) for entry in entries if entry.removed is None]
    if len(set(there)) != len(there):
        raise DamageError("two cards have one name and version")
    return entries


def insert(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write a row, sealed; `entry.id` 0 takes the next number."""
    values = values_of(entry)
    next_one = "SELECT ifnull(max(id), 0) + 1 FROM cards"
    number = entry.id or connection.execute(next_one).fetchone()[0]
    parse(number, values, entry.folder)  # what cannot be read is not written
    marks = ", ".join("?" * (len(values) + 2))
    connection.execute(
        f"INSERT OR REPLACE INTO cards (id, {COLUMNS}, seal) VALUES ({marks})",
        (number, *values, seal((number, *values))),
    )


def values_of(entry: Entry) -> tuple[Any, ...]:
    """The values of `COLUMNS`."""
    return (
        entry.name, entry.version, entry.digest, entry.size, entry.origin, entry.added,
        entry.removed, entry.step, json.dumps(dict(entry.facts)),
    )  # fmt: skip


def seal(values: Sequence[Any]) -> int:
    """CRC of the values of a row, its number in front."""
    return zlib.crc32(json.dumps(values).encode("ascii"))


def seal_all(connection: sqlite3.Connection) -> None:
    """Seal the index as a whole: the last thing in a change."""
    connection.execute("UPDATE state SET seal = ?", (_of_all(connection),))


def _of_all(connection: sqlite3.Connection) -> int:
    seals = connection.execute("SELECT seal FROM cards ORDER BY id").fetchall()
    unnamed = connection.execute("SELECT digest, since FROM unnamed ORDER BY digest").fetchall()
    try:
        return seal((seals, unnamed))
    except TypeError as error:  # a blob
        raise DamageError("a value has the wrong type") from error


def _sealed(row: Sequence[Any], folder: Path) -> Entry:
    try:
        right = seal(row[:-1]) == row[-1]
    except TypeError:  # a blob
        right = False
    if not right:
        raise DamageError(f"row {row[0]} is not what was written")
    # It was looked at before it was sealed: 10,000 rows have to be read fast.
    name, version, digest, size, origin, added, removed, step, text = row[1:-1]
    facts = json.loads(text)
    return Entry(name, version, digest, folder, size, origin, added, removed, facts, step, row[0])


def parse(number: int, values: Sequence[Any], folder: Path) -> Entry:
    """An entry from the values of `COLUMNS`.

    Raises:
        DamageError: if they are no card.
    """
    name, version, digest, size, origin, added, removed, step, text = values
    texts = (name, version, digest, added, text)
    facts: Any = None
    if isinstance(text, str):
        with contextlib.suppress(ValueError, RecursionError):
            facts = json.loads(text)
    sound = (
        all(isinstance(value, str) for value in texts)
        and all(value is None or isinstance(value, str) for value in (origin, removed))
        and type(size) is int
        and type(step) is int
        and NAME.fullmatch(name) is not None
        and is_version(version)
        and DIGEST.fullmatch(digest) is not None
        and isinstance(facts, dict)
        and all(isinstance(facts.get(key), str) for key in _TEXTS)
        and isinstance(facts.get("form", ""), str | None)
    )
    if not sound:
        raise DamageError(f"row {number} is no card")
    return Entry(name, version, digest, folder, size, origin, added, removed, facts, step, number)


def salvage(connection: sqlite3.Connection, folder: Path) -> list[Entry]:
    """What can still be read of a damaged index of any version that we know: the rows whose seal
    is right, or that are cards, if their version has no seals. From both ends, because SQLite
    stops at a damaged page.
    """
    found: dict[int, Entry] = {}
    for columns, has_seals in ((f"{COLUMNS}, seal", True), (OLD_COLUMNS, False)):
        for direction in ("ASC", "DESC"):
            try:
                rows = connection.execute(
                    f"SELECT id, {columns} FROM cards ORDER BY id {direction}"
                )
                for row in rows:
                    try:
                        if has_seals:
                            entry = _sealed(row, folder)
                        else:
                            entry = parse(row[0], row[1:], folder)
                    except DamageError:
                        continue
                    if has_seals or entry.path.exists():  # else the digest may be the damage
                        found.setdefault(entry.id, entry)
            except ERRORS:
                pass
        if found:
            break
    return [found[number] for number in sorted(found)]


OLD_COLUMNS = (
    "name, version, digest, size, origin, added, removed, "
    "CASE WHEN removed IS NULL THEN 0 ELSE 1 END, facts"
)
"""Version 1 knew only when a card was removed, and had no seals."""


def upgrade(connection: sqlite3.Connection, folder: Path) -> list[Entry]:
    """The rows of version 1, the steps of removal by their time.

    Raises:
        DamageError: as `read`, as far as that version lets it be told.
    """
    have = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    if have != {"cards", "one_card"}:
        raise DamageError("its tables are not those that pe makes")
    rows = connection.execute(f"SELECT id, {OLD_COLUMNS} FROM cards ORDER BY id").fetchall()
    entries = [parse(row[0], row[1:], folder) for row in rows]
    times = sorted({entry.removed for entry in entries if entry.removed is not None})
    steps = {time: step for step, time in enumerate(times, 1)}
    return [replace(e, step=steps[e.removed]) if e.removed is not None else e for e in entries]
