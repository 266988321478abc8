"""Keeping a registry sound: collecting garbage, and checking cards."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from pe_toolkit.errors import CardError, CardVersionError, OutputError, PeError
from pe_toolkit.registry import objects, signature_files
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.index import Index
from pe_toolkit.registry.objects import Objects
from pe_toolkit.shown import printable

LOOKED_SECONDS = 14 * 24 * 3600
"""How long `gc` keeps a card that was only looked at, from the last time."""
UNNAMED_SECONDS = 14 * 24 * 3600
"""How long `gc` keeps a sound card that no row names, from when it first sees it. Nobody removed
it: it is what a killed command, a lost index or a slip left behind."""


@dataclass(frozen=True)
class Unnamed:
    """A sound card that no name leads to."""

    path: Path
    seconds: int
    """For how long `gc` still keeps it."""


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
    unnamed: tuple[Unnamed, ...] = ()
    """Sound cards without a name that are kept for now."""
    looked: int = 0
    """Cards that were only looked at, and are kept for now."""


def collect(index: Index, store: Objects, looked: Objects, *, dry_run: bool) -> Collected:
    """`Store.gc`."""
    with objects.disk_errors(index.root):
        if dry_run:
            done, doomed = _would_collect(index, store)
        else:
            done, doomed = _collect(index, store), set()
        files, size, stay = _collect_looked(store, looked, dry_run=dry_run)
        signed = _collect_signatures(index, store, stay, doomed, dry_run=dry_run)
    files, size = done.files + files + signed[0], done.bytes + size + signed[1]
    return replace(done, files=files, bytes=size, looked=len(stay))


def _collect_looked(store: Objects, looked: Objects, *, dry_run: bool) -> tuple[int, int, set[str]]:
    """Files and bytes that go, and the digests of those that stay."""
    there = list(looked.all())
    if not there:  # a registry that is not there is not made
        return 0, 0, set()
    now, files, size, stay = store.clock(), 0, 0, set()
    for digest, path in there:
        with contextlib.suppress(FileNotFoundError):  # another `gc`
            found = path.lstat()
            if found.st_mtime + LOOKED_SECONDS > now:
                stay.add(digest)
            elif dry_run or looked.delete(path):
                files, size = files + 1, size + found.st_size
    return files, size, stay


def _collect_signatures(
    index: Index, store: Objects, looked: set[str], doomed: set[str], *, dry_run: bool
) -> tuple[int, int]:
    """Signatures of cards that are not here any more: how many, and their bytes.

    Args:
        looked: digests of the cards without a name that stay.
        doomed: digests that go when this is no dry run.
    """
    there = signature_files.listed(index.root)
    if not there:
        return 0, 0
    files = size = 0
    with contextlib.ExitStack() as stack:
        if dry_run or not index.path.exists():
            needed = {entry.digest for entry in index.entries()}
        else:  # who brings a card gives it its place under the lock, and only then keeps signatures
            needed = stack.enter_context(index.writing()).digests()
        needed = (needed | {digest for digest, _ in store.all()}) - doomed | looked
        for digest, path in there:
            if digest not in needed:
                with contextlib.suppress(FileNotFoundError):  # another `gc`
                    count = path.lstat().st_size
                    if dry_run or objects.delete(path):
                        files, size = files + 1, size + count
    return files, size


def _collect(index: Index, store: Objects) -> Collected:
    if not index.path.exists():
        index.entries()  # raises if it was lost
        return Collected(0, 0, 0)
    with index.writing() as change:
        known = change.digests()
        gone = change.forget()
        # Said before they are deleted: they are not to come back if we are killed meanwhile.
        doomed = {entry.digest for entry in gone} - change.digests()
        change.unnamed.update(dict.fromkeys(doomed, 0))
    looked = _look(store, known)  # reads files: not under the lock
    files = size = kept = 0
    now = store.clock()
    # Only now that no row can bring them back may files go; under the lock again, because an
    # add gives its file a place and a name under it.
    with index.writing() as change:
        plan = _plan(store, change.digests(), change.unnamed, looked, now)
        change.unnamed.clear()
        change.unnamed.update(plan.unnamed)
        for digest, path in plan.delete:
            count = path.lstat().st_size
            if store.delete(path):
                files, size = files + 1, size + count
            else:
                kept += 1
                change.unnamed[digest] = 0
    for path in store.abandoned(now):
        objects.delete(path)
    return Collected(len(gone), files, size, kept, plan.spared, plan.listed(store, now))


@dataclass(frozen=True)
class _Plan:
    """What is to be done with the files that no row names."""

    delete: list[tuple[str, Path]]
    unnamed: dict[str, int]
    """Digest -> since when, of the sound ones that stay."""
    spared: int

    def listed(self, store: Objects, now: float) -> tuple[Unnamed, ...]:
        return tuple(
            Unnamed(store.path(digest), round(since + UNNAMED_SECONDS - now))
            for digest, since in sorted(self.unnamed.items())
            if since
        )


def _plan(
    store: Objects, needed: set[str], unnamed: dict[str, int], looked: dict[str, str], now: float
) -> _Plan:
    delete, stay, spared = [], {}, 0
    for digest, path in store.all():
        if digest in needed:
            continue
        since = unnamed.get(digest)
        state = looked.get(digest)
        if since == 0 or state == "damaged":
            delete.append((digest, path))
        elif state == "unreadable":
            spared += 1
        elif since is not None and since + UNNAMED_SECONDS <= now and state == "sound":
            delete.append((digest, path))
        else:  # a clock that was put back must not make it older, nor keep it for ever
            stay[digest] = min(since or int(now), int(now))
    return _Plan(delete, stay, spared)


def _would_collect(index: Index, store: Objects) -> tuple[Collected, set[str]]:
    """What `_collect` would do, and the digests that would go."""
    entries = index.entries()
    needed = {entry.digest for entry in entries if entry.removed is None}
    gone = {entry.digest for entry in entries if entry.removed is not None} - needed
    looked = _look(store, needed | gone)
    unnamed = index.unnamed() | dict.fromkeys(gone, 0)
    now = store.clock()
    plan = _plan(store, needed, unnamed, looked, now)
    sizes = [path.lstat().st_size for _, path in plan.delete]
    cards = sum(entry.removed is not None for entry in entries)
    doomed = {digest for digest, _ in plan.delete} | gone
    return Collected(
        cards, len(sizes), sum(sizes), spared=plan.spared, unnamed=plan.listed(store, now)
    ), doomed


def _look(store: Objects, known: set[str]) -> dict[str, str]:
    """Digest -> "sound", "damaged" or "unreadable", of the files that no row has named."""
    from pe_toolkit.card import verify_card

    found = {}
    for digest, path in store.all():
        if digest in known:
            continue
        try:
            verify_card(path)
        except CardError as error:
            # Another `gc` may have deleted it meanwhile; a link into nothing is still there.
            if os.path.lexists(path):
                spared = may_be_sound(digest, path, error)
                found[digest] = "unreadable" if spared else "damaged"
        else:
            found[digest] = "sound"
    return found


def may_be_sound(digest: str, path: Path, error: CardError) -> bool:
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
        if isinstance(error.__cause__, PermissionError):
            return _denied(entry.path)
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
    except PermissionError as error:
        raise _denied(entry.path) from error
    except OSError as error:
        raise _unsound(entry, str(error.strerror or error)) from error
    if found != entry.digest:
        raise _unsound(entry, f"its file has {found}")


def _digest(path: Path) -> str:
    import hashlib  # here, because `pe list` has to start fast

    with open(path, "rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _denied(path: Path) -> OutputError:
    return OutputError(
        f"Expected to read {printable(str(path))}, but permission was denied.",
        "The card may well be sound. Change the permissions of the file and of its folders.",
    )


def _unsound(entry: Entry, what: str) -> RegistryError:
    known = entry.origin is not None and "://" in entry.origin
    again = f"pe pull {entry.origin}" if known else "pe add CARD, from its file"
    name = f"{entry.reference} with " if entry.name else ""
    return RegistryError(
        f"Expected the card {name}{entry.digest}, but: {what}.",
        f"The file in the registry was damaged or deleted. Fetch it again: {again}",
    )
