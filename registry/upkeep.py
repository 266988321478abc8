"""Keeping a registry sound: collecting garbage, checking cards, making a lost index anew."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.errors import CardError, CardVersionError, OutputExistsError, PeError
from pe_toolkit.registry import objects
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.index import Index
from pe_toolkit.registry.objects import Objects
from pe_toolkit.registry.references import slug

if TYPE_CHECKING:
    from pe_toolkit.registry.store import Store


@dataclass(frozen=True)
class Collected:
    """What `collect` did, or would do."""

    cards: int
    """Removed cards that can no longer be brought back."""
    files: int
    bytes: int
    kept: int = 0
    """Files that could not be deleted, because a program has them open (Windows)."""
    spared: int = 0
    """Files that nobody removed and that may be sound cards, although they cannot be read here."""


def collect(index: Index, store: Objects, *, dry_run: bool) -> Collected:
    """`Store.gc`."""
    with objects.disk_errors(index.root):
        if dry_run:
            return _would_collect(index, store)
        if not index.path.exists():
            index.rows()  # raises if it was lost
            return Collected(0, 0, 0)
        with index.writing() as change:
            known = change.digests()
            cards = change.forget()
        spared = _spared(store, known)  # reads files: not under the lock
        # Only now that no row can bring them back may files go; under the lock again, because an
        # add gives its file a place and a name under it.
        files = size = kept = 0
        with index.writing() as change:
            needed = change.digests()
            for digest, path in store.all():
                if digest in needed or digest in spared:
                    continue
                count = path.lstat().st_size
                if objects.delete(path):
                    files, size = files + 1, size + count
                else:
                    kept += 1
        for path in store.abandoned():
            objects.delete(path)
    return Collected(cards, files, size, kept, len(spared))


def _would_collect(index: Index, store: Objects) -> Collected:
    rows = index.rows()
    needed = {row[2] for row in rows if row[6] is None}
    spared = _spared(store, {row[2] for row in rows})
    stay = needed | spared
    sizes = [path.lstat().st_size for digest, path in store.all() if digest not in stay]
    cards = sum(row[6] is not None for row in rows)
    return Collected(cards, len(sizes), sum(sizes), spared=len(spared))


def _spared(store: Objects, known: set[str]) -> set[str]:
    """Digests of files that no row has named, and that only we may be unable to read."""
    from pe_toolkit.card import verify_card

    spared = set()
    for digest, path in store.all():
        if digest in known:
            continue
        try:
            verify_card(path)
        except CardError as error:
            # Another `gc` may have deleted it meanwhile; a link into nothing is still there.
            if _may_be_sound(digest, path, error) and os.path.lexists(path):
                spared.add(digest)
    return spared


def _may_be_sound(digest: str, path: Path, error: CardError) -> bool:
    """Whether `error` speaks of this pe-toolkit, or of the disk, rather than of the card."""
    if isinstance(error, CardVersionError) or isinstance(error.__cause__, OSError):
        return True
    try:
        return _digest(path) == digest  # still what was checked once, and then added
    except OSError:
        return True


def fault(entry: Entry) -> PeError | None:
    """What is wrong with a card's file, checked completely."""
    from pe_toolkit.card import verify_card

    try:
        info = verify_card(entry.path)
    except CardVersionError as error:
        return error  # sound, but of a newer pe-toolkit
    except CardError as error:
        return _unsound(entry, error.message.rstrip("."))
    if f"sha256:{info.sha256}" != entry.digest:
        return _unsound(entry, f"its file has sha256:{info.sha256}")
    return None


def check_bytes(entry: Entry) -> None:
    """Compare a card's file with its digest.

    Raises:
        RegistryError: if it is another, or gone.
    """
    try:
        found = _digest(entry.path)
    except OSError as error:
        raise _unsound(entry, str(error.strerror or error)) from error
    if found != entry.digest:
        raise _unsound(entry, f"its file has {found}")


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
    """What `Store.rebuild` did."""

    aside: Path | None
    """Where the old index lies, if there was one."""
    left: tuple[Left, ...]


def readd(store: Store, files: Objects) -> tuple[Left, ...]:
    """Add every sound object to an empty index, under the name in the card; the others."""
    from pe_toolkit.card import read_info

    left = []
    for digest, path in list(files.all()):
        try:
            store.add(path)
        except OutputExistsError:  # two cards of one name: tell them apart by their bytes
            store.add(path, f"{slug(read_info(path).spec.name)[:80]}-{path.stem[:12]}")
        except CardError as error:
            left.append(Left(path, error, _may_be_sound(digest, path, error)))
    return tuple(left)


def _digest(path: Path) -> str:
    import hashlib  # here, because `pe list` has to start fast

    with open(path, "rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _unsound(entry: Entry, what: str) -> RegistryError:
    again = f"pe pull {entry.origin}" if entry.origin else "pe add CARD, from its file"
    return RegistryError(
        f"Expected the card {entry.reference} with {entry.digest}, but: {what}.",
        f"The file in the registry was damaged or deleted. Fetch it again: {again}",
    )
