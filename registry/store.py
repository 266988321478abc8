"""The local registry: cards by name and version, in one folder, without a server.

    root/index.sqlite3                          names and versions -> digests
    root/objects/sha256/ab/<64 hex>.safetensors the cards
    root/tmp/                                   cards on their way in

Order is what makes it safe. A card is checked, copied and synced (`intake.py`) before the index is
locked; its file gets its place and its name under the lock; `gc` deletes files under the same lock,
and only those that no row names. So a row never names a missing file, whichever process dies when,
and a file without a row is at worst garbage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pe_toolkit.errors import OutputExistsError, PeError, UsageError
from pe_toolkit.registry import naming, objects, semver, upkeep
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.home import home
from pe_toolkit.registry.index import Index, Transaction
from pe_toolkit.registry.intake import Intake, utc_now
from pe_toolkit.registry.references import LocalReference
from pe_toolkit.registry.upkeep import Collected, Rebuilt

TIMEOUT = 30.0
"""Seconds to wait for another process."""


class Store:
    """The local registry in a folder; safe to use from many processes at once.

    Args:
        root: the folder, made when the first card comes. Default: `PE_HOME`, else the platform's.
        timeout: seconds to wait for another process.

    Every method may raise RegistryBusyError (another process is at work for too long),
    RegistryError (the index is damaged) and OutputError (disk full, no permission).
    """

    def __init__(self, root: Path | None = None, *, timeout: float = TIMEOUT) -> None:
        self.root = home() if root is None else Path(root)
        self.objects = objects.Objects(self.root)
        self.index = Index(self.root, timeout, self.objects.any)

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
        target = naming.target(new.name, new.version or old.version)
        entry = Entry(
            target.name, target.version or "", old.digest, old.folder, old.size,
            old.origin, utc_now(), None, old.facts,
        )  # fmt: skip
        with objects.disk_errors(self.root), self.index.writing() as change:
            if old.digest not in change.digests():  # removed and collected since
                raise naming.missing(self.index, reference)
            there = self.claim(change, entry, force=force)
            if there is None:
                change.insert(entry)
        return there or entry

    def resolve(self, reference: LocalReference) -> Entry:
        """The card that a reference means; without a version, the highest release.

        Raises:
            RegistryError: if there is none; the hint has similar names, or the versions.
            UsageError: if a digest fits several cards.
        """
        return self._choose(reference, self._named(reference))

    def by_digest(self, digest: str) -> Entry:
        """The card with these bytes, whatever its name.

        Args:
            digest: `sha256:` and 64 hex digits.

        Raises:
            RegistryError: if there is none.
        """
        rows = self.index.rows("digest = ? AND removed IS NULL ORDER BY id", (digest,))
        if not rows:
            raise RegistryError(
                f"Expected a card with {digest} in the local registry, but there is none.",
                "Fetch or add it: pe pull OWNER/NAME, pe add CARD",
            )
        return self._entry(rows[0])

    def entries(self, words: Sequence[str] = (), *, removed: bool = False) -> list[Entry]:
        """The cards that contain every one of `words`, sorted by name and version.

        Args:
            words: looked for, without case, in name, version, author, license, backbone, kind,
                prompts and origin.
            removed: those that `restore` can bring back instead.
        """
        rows = self.index.rows(f"removed IS {'NOT ' * removed}NULL")
        found = [self._entry(row) for row in rows]
        wanted = [word.casefold() for word in words]
        if wanted:
            found = [e for e in found if all(w in naming.searched(e) for w in wanted)]
        return sorted(found, key=lambda e: (e.name, semver.order(e.version), e.removed or ""))

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
                    raise naming.missing(self.index, reference)
            with self.index.writing() as change:
                chosen: dict[int, Sequence[Any]] = {}
                for reference in references:
                    chosen |= self._chosen(change, reference, every=every)
                change.mark(list(chosen), utc_now())
        return [self._entry(row) for row in chosen.values()]

    def _chosen(
        self, change: Transaction, reference: LocalReference, *, every: bool
    ) -> dict[int, Sequence[Any]]:
        """Row id -> row of the cards to remove."""
        rows: dict[int, Sequence[Any]] = {
            row[0]: row[1:]
            for row in change.rows("name = ? AND removed IS NULL", (reference.name,))
            if naming.fits(reference, row[1:])
        }
        if not rows:
            raise naming.missing(self.index, reference)
        if len(rows) > 1 and not every:
            versions = naming.versions(row[1] for row in rows.values())
            one = next(iter(rows.values()))[1]
            raise UsageError(
                f"Expected one card, but {reference} has {len(rows)} versions: {versions}.",
                f"Name one, as {reference.name}@{one}, or take them all with --all.",
            )
        return rows

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
                raise naming.nothing_to_restore(wanted[0])
            with self.index.writing() as change:
                removed = change.rows("removed IS NOT NULL")
                chosen = {
                    row[0]: row for one in wanted for row in naming.last_removed(one, removed)
                }
                taken: set[tuple[str, str]] = set()
                for row in chosen.values():
                    name, version = row[1], row[2]
                    query = "name = ? AND version = ? AND removed IS NULL"
                    if there := change.rows(query, (name, version)):
                        if there[0][3] == row[3]:
                            raise OutputExistsError(
                                f"Expected {name}@{version} to be gone, but the same card is there "
                                "again already.",
                                "Leave it out: nothing of it has to be brought back.",
                            )
                        raise OutputExistsError(
                            f"Expected {name}@{version} to be free, but another card has it.",
                            # By its digest: what was removed last is then the other one.
                            f"Give that one another name first: pe tag {name}@{version} NEW, "
                            f"then pe rm {name}@{version}, "
                            f"then pe rm --undo {name}@{row[3][:19]}",
                        )
                    if (name, version) in taken:
                        raise UsageError(
                            f"Expected one card to bring back as {name}@{version}, got two.",
                            "Bring back one, give it another name with pe tag, then the other.",
                        )
                    taken.add((name, version))
                change.mark(list(chosen), None)
        return [self._entry(row[1:]) for row in chosen.values()]

    def gc(self, *, dry_run: bool = False) -> Collected:
        """Delete what was removed, for ever, and the files that no card needs.

        Safe beside any other process: a card that is being added is never deleted.
        """
        return upkeep.collect(self.index, self.objects, dry_run=dry_run)

    def verify_all(self) -> Iterator[tuple[Entry, PeError | None]]:
        """Check every card completely; each with what is wrong with it, or None."""
        known: dict[str, PeError | None] = {}
        for entry in self.entries():
            if entry.digest not in known:
                known[entry.digest] = upkeep.fault(entry)
            yield entry, known[entry.digest]

    def rebuild(self) -> Rebuilt:
        """Make a new index from the cards themselves, each under its own name and version.

        For a damaged or lost index, while no other process uses the registry. Names that were
        given by hand are lost; cards are not, and the old index is kept beside the new one.

        Raises:
            UsageError: if the index is sound.
        """
        if not self.index.damaged():
            raise UsageError(
                "Expected a damaged index, but this one is sound.", "There is nothing to rebuild."
            )
        with objects.disk_errors(self.root):
            aside = self.index.start_again(utc_now().replace(":", ""))
        return Rebuilt(aside, upkeep.readd(self, self.objects))

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
        query = "name = ? AND version = ? AND removed IS NULL"
        for row in change.rows(query, (entry.name, entry.version)):
            if row[3] == entry.digest:
                return self._entry(row[1:])
            if not force:
                raise OutputExistsError(
                    f"Expected {entry.name}@{entry.version} to be free, but it is another card "
                    f"({row[3][:19]}, this one is {entry.digest[:19]}).",
                    "Give this one another name or version (NAME@1.2.0), or use --force; "
                    "the other can then be brought back by `pe rm --undo` until `pe gc`.",
                )
            change.mark([row[0]], utc_now())
        return None

    def _named(self, reference: LocalReference) -> list[Entry]:
        rows = self.index.rows("name = ? AND removed IS NULL", (reference.name,))
        return [self._entry(row) for row in rows if naming.fits(reference, row)]

    def _choose(self, reference: LocalReference, found: list[Entry]) -> Entry:
        if not found:
            raise naming.missing(self.index, reference)
        if len({e.digest for e in found}) > 1 and reference.digest:
            raise UsageError(
                f"Expected one card, but {reference} fits {len(found)}.", "Give more hex digits."
            )
        return max(found, key=lambda e: (semver.is_release(e.version), semver.order(e.version)))

    def _entry(self, row: Sequence[Any]) -> Entry:
        name, version, digest, size, origin, added, removed, text = row
        return Entry(
            name, version, digest, self.objects.folder, size, origin, added, removed,
            json.loads(text),
        )  # fmt: skip
