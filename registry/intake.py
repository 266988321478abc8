"""A card on its way into the local registry: copied while it is checked, in one reading.

What the registry keeps are the very bytes that were checked, whatever happens to the file that
they came from. The copy gets a name only by `keep`; else it is discarded.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pe_toolkit.errors import PeError
from pe_toolkit.registry import naming, objects
from pe_toolkit.registry.entry import Entry, facts
from pe_toolkit.registry.references import slug

if TYPE_CHECKING:
    from pe_toolkit.card import CardInfo
    from pe_toolkit.registry.store import Store


class Intake:
    """Takes one card into a store; use it in a `with` block.

    Raises in every method: OutputError (disk full, no permission).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._staged: tuple[Path, CardInfo] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._discard()

    @property
    def digest(self) -> str | None:
        """`sha256:` and 64 hex digits of what was checked last and found sound."""
        return f"sha256:{self._staged[1].sha256}" if self._staged else None

    def check(self, source: Path) -> CardInfo:
        """Check a card completely, and copy it. What was checked before is forgotten.

        Raises:
            CardError: if it is not sound.
        """
        self._discard()
        with objects.disk_errors(self._store.root):
            self._staged = self._store.objects.stage(source)
        return self._staged[1]

    def keep(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        origin: str | None = None,
        force: bool = False,
    ) -> Entry:
        """Give the card that was checked its name and version; the rest as `Store.add`.

        Raises:
            UsageError: if `name` or `version` is malformed.
            OutputExistsError: if name and version belong to other bytes, without `force`.
        """
        assert self._staged is not None
        staged, info = self._staged
        target = naming.target(name or slug(info.spec.name), version or info.spec.version)
        entry = Entry(
            target.name, target.version or "", f"sha256:{info.sha256}", self._store.objects.folder,
            info.size_bytes, origin, utc_now(), None, facts(info.spec),
        )  # fmt: skip
        kept, published = self._store.objects, False
        with objects.disk_errors(self._store.root):
            try:
                with self._store.index.writing() as change:
                    there = self._store.claim(change, entry, force=force)
                    published = not kept.path(entry.digest).exists()
                    if origin is not None and there is None:
                        kept.note_origin(entry.digest, origin)
                    kept.publish(staged, entry.digest)  # also mends a damaged object
                    if there is None:
                        change.insert(entry)
            except BaseException:
                if published:
                    self._take_back(entry.digest)
                raise
        return there or entry

    def _take_back(self, digest: str) -> None:
        """The index could not be written (a full disk): the file goes, unless somebody else added
        the same card meanwhile."""
        with contextlib.suppress(PeError, OSError), self._store.index.writing() as change:
            if digest not in change.digests():
                self._store.objects.delete(self._store.objects.path(digest))

    def lay_by(self) -> Entry:
        """Keep the card that was checked without a name: it was only looked at."""
        assert self._staged is not None
        staged, info = self._staged
        with objects.disk_errors(self._store.root):
            self._store.looked.publish(staged, f"sha256:{info.sha256}")
        return self._store.nameless(f"sha256:{info.sha256}", info.size_bytes)

    def _discard(self) -> None:
        if self._staged is not None:
            objects.discard(self._staged[0])
            self._staged = None


def utc_now() -> str:
    """The present, fine enough to tell which of two cards was removed last."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
