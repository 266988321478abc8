"""Making a new index of what the old one still says, and of the cards themselves.

The new index is written beside the old one, and takes its place in one rename when it is complete:
whatever kills the process, and however full the disk is, there is the old index or the new one,
and no card is touched.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.errors import CardError, UsageError
from pe_toolkit.registry import naming, objects, rows
from pe_toolkit.registry.entry import Entry, facts
from pe_toolkit.registry.index import Index
from pe_toolkit.registry.intake import utc_now
from pe_toolkit.registry.objects import Objects
from pe_toolkit.registry.references import slug
from pe_toolkit.registry.upkeep import may_be_sound

if TYPE_CHECKING:
    from pe_toolkit.card import CardInfo


@dataclass(frozen=True)
class Left:
    """A file that got no name in a new index."""

    path: Path
    error: CardError
    kept: bool
    """Only we cannot read it, and `gc` leaves it; else it is damaged, and the next `gc` deletes it.
    """


@dataclass(frozen=True)
class Rebuilt:
    """What `rebuild` did."""

    aside: Path | None
    """Where the old index lies, if there was one."""
    named: tuple[Entry, ...]
    """Cards that the old index did not name, or no longer could: under the names they bear."""
    left: tuple[Left, ...]


def rebuild(index: Index, files: Objects) -> Rebuilt:
    """`Store.rebuild`."""
    with objects.disk_errors(index.root), index.set_aside() as (old, usable):
        # Looked at under the lock: another rebuild may just have ended.
        if usable and not index.damaged() and not _without_a_row(index, files):
            raise UsageError(
                "Expected a damaged index, or cards that it does not name, but it is sound and "
                "names every card.",
                "There is nothing to rebuild.",
            )
        kept = [] if old is None else rows.salvage(old, files.folder)
        doomed = {} if old is None else _doomed(old)
        kept, left, sound = _look(files, kept, doomed)
        named = _named(files, kept, sound, doomed)
        new = files.temporary_path()
        with objects.discarded_on_error(new):
            index.build(new, [*kept, *named], doomed)
            if os.name == "nt" and old is not None:
                old.close()  # what is open there cannot be replaced
            aside = index.put(new, utc_now().replace(":", ""))
        objects.sync_folder(index.root)
    return Rebuilt(aside, tuple(named), tuple(left))


def _without_a_row(index: Index, files: Objects) -> bool:
    known = {entry.digest for entry in index.entries()} | {
        digest for digest, since in index.unnamed().items() if since == 0
    }
    return any(digest not in known for digest, _ in files.all())


def _doomed(old: sqlite3.Connection) -> dict[str, int]:
    """Digests of cards that were removed for ever, and whose files `gc` had no time to delete."""
    try:
        found = old.execute("SELECT digest FROM unnamed WHERE since = 0").fetchall()
    except rows.ERRORS:
        return {}
    return {
        digest: 0
        for (digest,) in found
        if isinstance(digest, str) and rows.DIGEST.fullmatch(digest)
    }


def _look(
    files: Objects, kept: list[Entry], doomed: dict[str, int]
) -> tuple[list[Entry], list[Left], dict[str, CardInfo]]:
    """Check every file.

    Returns:
        The rows of the old index that stay; the files that get no name; digest -> sound card.
    """
    from pe_toolkit.card import verify_card

    left: list[Left] = []
    sound: dict[str, CardInfo] = {}
    for digest, path in list(files.all()):
        try:
            info = verify_card(path)
        except CardError as error:
            left.append(Left(path, error, may_be_sound(digest, path, error)))
            continue
        found = f"sha256:{info.sha256}"
        if found != digest and not files.path(found).exists():  # under the digest of another
            staged, info = files.stage(path)
            files.publish(staged, found)
        sound[found] = info
    stay, taken = [], set()
    for entry in kept:
        name = (entry.name, entry.version)
        if entry.removed is None and name not in taken:
            taken.add(name)  # also of a card whose file is gone or damaged: it can be fetched again
            stay.append(entry)
        elif entry.removed is not None and entry.path.exists():
            stay.append(entry)
    named = {entry.digest for entry in stay}
    return stay, [item for item in left if files.digest(item.path) not in named], sound


def _named(
    files: Objects, kept: Iterable[Entry], sound: dict[str, CardInfo], doomed: dict[str, int]
) -> list[Entry]:
    """Rows for the sound cards that have none, under the names and versions that they bear."""
    known = {entry.digest for entry in kept} | doomed.keys()
    taken = {(entry.name, entry.version) for entry in kept if entry.removed is None}
    made = []
    for digest, info in sound.items():
        if digest in known:
            continue
        target = naming.target(slug(info.spec.name), info.spec.version)
        if (target.name, target.version) in taken:  # tell them apart by their bytes
            target = naming.target(f"{target.name[:80]}-{digest[7:19]}", info.spec.version)
        entry = Entry(
            target.name, target.version or "", digest, files.folder, info.size_bytes,
            files.origin(digest), utc_now(), None, facts(info.spec),
        )  # fmt: skip
        taken.add((entry.name, entry.version))
        made.append(entry)
    return made
