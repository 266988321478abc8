"""Keeping a registry sound: collecting garbage, checking cards, making a lost index anew."""

from __future__ import annotations

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


def collect(index: Index, store: Objects, *, dry_run: bool) -> Collected:
    """`Store.gc`."""
    with objects.disk_errors(index.root):
        if dry_run:
            return _would_collect(index, store)
        if not index.path.exists():
            index.rows()  # raises if it was lost
            return Collected(0, 0, 0)
        with index.writing() as change:
            cards = change.forget()
        # Only now that no row can bring them back may files go; under the lock again, because an
        # add gives its file a place and a name under it.
        files = size = kept = 0
        with index.writing() as change:
            needed = change.digests()
            for digest, path in store.all():
                if digest in needed:
                    continue
                count = path.stat().st_size
                if objects.delete(path):
                    files, size = files + 1, size + count
                else:
                    kept += 1
        for path in store.abandoned():
            objects.delete(path)
    return Collected(cards, files, size, kept)


def _would_collect(index: Index, store: Objects) -> Collected:
    rows = index.rows()
    needed = {row[2] for row in rows if row[6] is None}
    sizes = [path.stat().st_size for digest, path in store.all() if digest not in needed]
    return Collected(sum(row[6] is not None for row in rows), len(sizes), sum(sizes))


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
    import hashlib

    try:
        with open(entry.path, "rb") as stream:
            found = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        raise _unsound(entry, str(error.strerror or error)) from error
    if found != entry.digest:
        raise _unsound(entry, f"its file has {found}")


@dataclass(frozen=True)
class Rebuilt:
    """What `Store.rebuild` did."""

    aside: Path | None
    """Where the old index lies, if there was one."""
    damaged: tuple[Path, ...]
    """Files that hold no sound card: they have no name now, and the next `gc` deletes them."""


def readd(store: Store, files: Objects) -> tuple[Path, ...]:
    """Add every sound object to an empty index, under the name in the card; the damaged ones."""
    from pe_toolkit.card import read_info

    damaged = []
    for _, path in list(files.all()):
        try:
            store.add(path)
        except OutputExistsError:  # two cards of one name: tell them apart by their bytes
            store.add(path, f"{slug(read_info(path).spec.name)[:80]}-{path.stem[:12]}")
        except CardError:
            damaged.append(path)
    return tuple(damaged)


def _unsound(entry: Entry, what: str) -> RegistryError:
    again = f"pe pull {entry.origin}" if entry.origin else "pe add CARD, from its file"
    return RegistryError(
        f"Expected the card {entry.reference} with {entry.digest}, but: {what}.",
        f"The file in the registry was damaged or deleted. Fetch it again: {again}",
    )
