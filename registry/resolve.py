"""From what the user wrote to a file: the one function behind every CARD argument."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.references import (
    LocalReference,
    PathReference,
    Reference,
    RemoteReference,
    parse,
)
from pe_toolkit.registry.store import Store


@dataclass(frozen=True)
class Found:
    """A card's file, and what the registry knows about it."""

    reference: Reference
    path: Path
    entry: Entry | None
    """None for a path."""


def find(text: str) -> Found:
    """The card that `text` names, in any form that `references.parse` knows.

    A path is taken as it is, whether or not it exists. A card of the local registry is compared
    with its digest. A card on a remote is fetched into the local registry first.

    Raises:
        UsageError: if `text` has none of the forms.
        RegistryError: if the local registry has no such card, or its file is damaged.
        PeError: whatever the remote raises.
    """
    reference = parse(text)
    if isinstance(reference, PathReference):
        return Found(reference, reference.path, None)
    if isinstance(reference, LocalReference):
        store = Store()
        entry = store.check(store.resolve(reference))
    else:
        entry = fetch(reference)
    return Found(reference, entry.path, entry)


def card_path(text: str) -> Path:
    """The file of a card; as `find`."""
    return find(text).path


def fetch(reference: RemoteReference) -> Entry:
    """Bring a card from its remote into the local registry, verified."""
    from pe_toolkit.registry import remotes

    entry: Entry = remotes.fetch(reference)
    return entry
