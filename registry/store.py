"""The local registry: cards by name and version, in one folder, without a server.

    root/index.sqlite3                          names and versions -> digests
    root/objects/sha256/ab/<64 hex>.safetensors the cards
    root/looked/sha256/...                      cards that were only looked at: without a name
    root/tmp/                                   cards on their way in

Order is what makes it safe. A card is checked, copied and synced (`intake.py`) before the index is
locked; its file gets its place and its name under the lock; `gc` deletes files under the same lock,
and only those that no row names. So a row never names a missing file, whichever process dies when,
and a file without a row is at worst garbage.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pe_toolkit.errors import OutputExistsError, PeError, UsageError
from pe_toolkit.registry import naming, objects, rebuilding, semver, upkeep
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.home import check_length, home
from pe_toolkit.registry.index import Index
from pe_toolkit.registry.intake import Intake, utc_now
from pe_toolkit.registry.rebuilding import Rebuilt
from pe_toolkit.registry.references import LocalReference
from pe_toolkit.registry.transaction import Transaction
from pe_toolkit.registry.upkeep import Collected

TIMEOUT = 30.0
"""Seconds to wait for another process."""


class Store:
    """The local registry in a folder; safe to use from many processes at once.

    Args:
        root: the folder, made when the first card comes. Default: `PE_HOME`, else the platform's.
        timeout: seconds to wait for another process.

    Every method may raise RegistryBusyError (another process is at work for too long),
    RegistryError (the index is damaged) and OutputError (disk full, no permission).

    Raises:
        UsageError: if the path of the folder is too long.
    """

    def __init__(self, root: Path | None = None, *, timeout: float = TIMEOUT) -> None:
        self.root = home() if root is None else Path(root)
        check_length(self.root)
        self.objects = objects.Objects(self.root)
        self.looked = objects.Objects(self.root, "looked")
        self.index = Index(self.root, self.objects.folder, timeout, self.objects.any)

    def add(
        self,
        source: Path,
        name: str | None = None,
        version: str | None = None,
        *,
        origin: str | None = None,
        force: bool = False,
    ) -> Entry:
        """Check a card completely, and keep a copy of it.

        Args:
            source: the card's file; it is only read.
            name: default: the name in the card, in safe letters.
            version: default: the version in the card.
            origin: where it came from, if not from a file.
            force: take name and version from another card, which can be brought back until `gc`.

        Returns:
            The card in the registry; the one that was there if name, version and bytes are equal.

        Raises:
            CardError: if the card is not sound.
            UsageError: if `name` or `version` is malformed.
            OutputExistsError: if name and version belong to other bytes, without `force`.
        """
        with Intake(self) as intake:
            intake.check(Path(source))
            return intake.keep(name, version, origin=origin, force=force)

    def tag(self, reference: LocalReference, new: LocalReference, *, force: bool = False) -> Entry:
        """Give a card another name, version, or both; it keeps the ones it has.

        Args:
            new: without a version, that of the card.

        Raises:
            RegistryError: if there is no such card.
            OutputExistsError: if the new name belongs to other bytes, without `force`.
        """
        old = self.resolve(reference)
        target = naming.target(new.name, new.digest or new.version or old.version)
        entry = Entry(
            target.name, target.version or "", old.digest, old.folder, old.size,
            old.origin, utc_now(), None, old.facts,
        )  # fmt: skip
        with objects.disk_errors(self.root), self.index.writing() as change:
            if old.digest not in change.digests():  # removed and collected since
                raise naming.missing(change.entries, reference)
            there = self.claim(change, entry, force=force)
            if there is None:
                change.insert(entry)
        return there or entry

    def resolve(self, reference: LocalReference) -> Entry:
        """The card that a reference means; without a version, the highest release.

        Raises:
            RegistryError: if there is none; the hint has similar names, or the versions.
            UsageError: if a digest fits several cards, or if a name alone belongs to cards from
                several sources, which never mix.
        """
        entries = self.index.entries()
        found = [e for e in entries if e.removed is None and naming.fits(reference, e)]
        if not found:
            raise naming.missing(entries, reference)
        if len({e.digest for e in found}) > 1 and reference.digest:
            raise UsageError(
                f"Expected one card, but {reference} fits {len(found)}.", "Give more hex digits."
            )
        if reference.version is None and reference.digest is None:
            naming.check_source(reference.name, found)
        return naming.highest(found)

    def by_digest(self, digest: str) -> Entry:
        """The card with these bytes, whatever its name, also one that was only looked at.

        Args:
            digest: `sha256:` and 64 hex digits.

        Raises:
            RegistryError: if there is none.
        """
        for entry in self.index.entries():
            if entry.digest == digest and entry.removed is None:
                return entry
        with objects.disk_errors(self.root, "read"):
            if (path := self.looked.path(digest)).exists():
                return self.nameless(digest, path.stat().st_size)
        raise RegistryError(
            f"Expected a card with {digest} in the local registry, but there is none.",
            "Fetch or add it: pe pull OWNER/NAME, pe add CARD",
        )

    def held(self, digest: str) -> Entry | None:
        """The card with these bytes, compared with them; None if it is not here.

        Raises:
            RegistryError: if it has a name, and its file is damaged.
        """
        try:
            entry = self.by_digest(digest)
        except RegistryError:
            self.index.entries()  # raises if that was the index
            return None
        if entry.name:
            return self.check(entry)
        try:
            self.check(entry)
        except PeError:
            return None  # it will be fetched again
        with contextlib.suppress(OSError):  # a disk that cannot be written to
            os.utime(entry.path)  # looked at just now: `gc` keeps it
        return entry

    def nameless(self, digest: str, size: int) -> Entry:
        """The entry of a card that was only looked at."""
        return Entry("", "", digest, self.looked.folder, size)

    def entries(self, words: Sequence[str] = (), *, removed: bool = False) -> list[Entry]:
        """The cards that contain every one of `words`, sorted by name and version.

        Args:
            words: looked for, without case, in name, version, author, license, backbone, kind,
                prompts and origin.
            removed: those that `restore` can bring back instead.
        """
        found = [e for e in self.index.entries() if (e.removed is not None) == removed]
        wanted = [word.casefold() for word in words]
        if wanted:
            found = [e for e in found if all(w in naming.searched(e) for w in wanted)]
        return sorted(found, key=lambda e: (e.name, semver.order(e.version), e.step))

    def remove(self, *references: LocalReference, every: bool = False) -> list[Entry]:
        """Remove cards, all or none; `restore` brings them back until `gc`.

        Args:
            every: all versions, for references that name none.

        Raises:
            RegistryError: if one is not there.
            UsageError: if a reference fits several versions, without `every`.
        """
        with objects.disk_errors(self.root):
            for reference in references[:1]:
                if not self.index.path.exists():
                    raise naming.missing(self.index.entries(), reference)
            with self.index.writing() as change:
                chosen: dict[int, Entry] = {}
                for reference in references:
                    chosen |= _to_remove(change.entries, reference, every=every)
                change.remove(list(chosen.values()), utc_now())
        return list(chosen.values())

    def restore(self, *references: LocalReference) -> list[Entry]:
        """Bring back what was removed last, all or nothing: of each name or version, or at all.

        Raises:
            RegistryError: if there is nothing to bring back for one of them.
            OutputExistsError: if name and version belong to another card by now.
            UsageError: if two of them would get the same name and version.
        """
        wanted = references or (None,)
        with objects.disk_errors(self.root):
            if not self.index.path.exists():
                self.index.entries()  # raises if it was lost
                raise naming.nothing_to_restore(wanted[0])
            with self.index.writing() as change:
                chosen = {
                    e.id: e for one in wanted for e in naming.last_removed(one, change.entries)
                }
                taken: set[tuple[str, str]] = set()
                for entry in chosen.values():
                    for there in change.named(entry.name, entry.version):
                        raise naming.cannot_come_back(entry, there)
                    if (entry.name, entry.version) in taken:
                        raise UsageError(
                            f"Expected one card to bring back as {entry.reference}, got two.",
                            "Bring back one, give it another name with pe tag, then the other.",
                        )
                    taken.add((entry.name, entry.version))
                change.restore(list(chosen.values()))
        return [replace(entry, removed=None) for entry in chosen.values()]

    def gc(self, *, dry_run: bool = False) -> Collected:
        """Delete what was removed, for ever, and the files that no card needs.

        Safe beside any other process: a card that is being added is never deleted.
        """
        return upkeep.collect(self.index, self.objects, self.looked, dry_run=dry_run)

    def verify_all(self) -> Iterator[tuple[Entry, PeError | None]]:
        """Check every card completely; each with what is wrong with it, or None."""
        known: dict[str, PeError | None] = {}
        for entry in self.entries():
            if entry.digest not in known:
                known[entry.digest] = upkeep.fault(entry)
            yield entry, known[entry.digest]

    def rebuild(self) -> Rebuilt:
        """Make a new index, and let it take the place of the old one when it is complete.

        What can still be read of the old one stays as it is: names, origins, what was removed.
        Every other card gets the name and version that it bears itself. The old index is kept
        beside the new one. Others wait meanwhile, as far as the old index can still be locked.

        Raises:
            UsageError: if the index is sound, and names every card.
        """
        return rebuilding.rebuild(self.index, self.objects)

    def check(self, entry: Entry) -> Entry:
        """`entry`, if the bytes on the disk are still those of its digest.

        Raises:
            RegistryError: if they are not, or are gone.
        """
        upkeep.check_bytes(entry)
        return entry

    def claim(self, change: Transaction, entry: Entry, *, force: bool) -> Entry | None:
        """Inside a change: make sure that name and version are free.

        Returns:
            The entry that is there, if it has the same bytes.
        """
        for there in change.named(entry.name, entry.version):
            if there.digest == entry.digest:
                return there
            if not force:
                raise OutputExistsError(
                    f"Expected {entry.reference} to be free, but it is another card "
                    f"(file {there.digest[:19]}, this one {entry.digest[:19]}).",
                    "Give this one another name or version (NAME@1.2.0), or use --force; "
                    "the other can then be brought back by `pe rm --undo` until `pe gc`.",
                )
            change.remove([there], utc_now())
        return None


def _to_remove(
    entries: Sequence[Entry], reference: LocalReference, *, every: bool
) -> dict[int, Entry]:
    """Row id -> the cards to remove."""
    found = {e.id: e for e in entries if e.removed is None and naming.fits(reference, e)}
    if not found:
        raise naming.missing(entries, reference)
    if len(found) > 1 and not every:
        versions = naming.versions(entry.version for entry in found.values())
        one = next(iter(found.values())).version
        raise UsageError(
            f"Expected one card, but {reference} has {len(found)} versions: {versions}.",
            f"Name one, as {reference.name}@{one}, or take them all with --all.",
        )
    return found
