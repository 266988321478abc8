"""Where cards are shared: the Hugging Face Hub, and shared folders.

    open_remote(parse("owner/wave")).pull()

Adding a remote: one module with a class that is a `Remote` and a function `connect`, one line in
`_WHERE`, and one form in `pe_toolkit.registry.references`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from pe_toolkit.errors import OutputExistsError, UsageError
from pe_toolkit.registry.references import (
    FolderReference,
    HubReference,
    Reference,
    RemoteReference,
    parse,
    slug,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pe_toolkit.card import CardInfo
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.registry.remotes.base import Pulled, Remote, Tell

_WHERE = {HubReference: "hub", FolderReference: "folder"}
"""Kind of reference -> the module of its remote, imported when it is used."""
_LONGEST = 80


def open_remote(reference: Reference, *, tell: Tell | None = None) -> Remote:
    """The remote that a reference names, bound to it.

    Args:
        tell: told about repetitions, and about the use of a cache.

    Raises:
        UsageError: if it names no remote.
    """
    from pe_toolkit.registry.remotes.base import silent

    if not isinstance(reference, HubReference | FolderReference):
        raise UsageError(
            f"Expected a card on a remote, got {reference}.",
            "Write owner/name for the Hugging Face Hub, or file:///folder/name.",
        )
    module = import_module(f"{__name__}.{_WHERE[type(reference)]}")
    remote: Remote = module.connect(reference, tell=tell or silent)
    return remote


def search_remote(where: str | None = None, *, tell: Tell | None = None) -> Remote:
    """The remote to search: a `file://` folder, else the whole Hub.

    Raises:
        UsageError: if `where` is something else.
    """
    if where is None or where.rstrip("/") == "hf:":
        from pe_toolkit.registry.remotes.hub import HubRemote

        return HubRemote(tell=tell) if tell else HubRemote()
    reference = parse(where)
    if not isinstance(reference, FolderReference):
        raise UsageError(f"Expected file:///folder to search, got {where!r}.")
    return open_remote(reference, tell=tell)


def fetch(reference: RemoteReference, *, tell: Tell | None = None) -> Entry:
    """Bring a card from a remote into the local registry, if it is not there yet.

    For commands that are given a card on a remote: it never fails because a name is taken, but
    takes another name then (`pe pull` asks instead).

    Raises:
        RemoteError: if it cannot be fetched.
        CardError: if what came is not a sound card; nothing is kept then.
    """
    from pe_toolkit.registry.store import Store

    pulled = open_remote(reference, tell=tell).pull()
    store = Store()
    for entry in store.entries():
        if entry.digest == pulled.digest:
            return store.check(entry)
    try:
        return keep(pulled)
    except OutputExistsError:
        return keep(pulled, f"{slug(pulled.name)[:_LONGEST]}-{pulled.digest[7:19]}")


def keep(
    pulled: Pulled, name: str | None = None, version: str | None = None, *, force: bool = False
) -> Entry:
    """Check a card that came from a remote, and add it to the local registry.

    Args:
        name: default: what it is called on the remote.
        version: default: that of the card.
        force: as in `Store.add`.

    Raises:
        CardError: if it is not a sound card; nothing is kept then.
        OutputExistsError: if name and version belong to another card.
    """
    from pe_toolkit.registry.store import Store

    name = name or slug(pulled.name)
    return Store().add(
        pulled.path, name, version, origin=pulled.origin, force=force, info=pulled.info
    )


def save(pulled: Pulled, path: Path, *, force: bool = False) -> CardInfo:
    """Check a card that came from a remote, and write it to a file.

    Raises:
        CardError: if it is not a sound card; nothing is written then.
        OutputExistsError: if the file is there, without `force`.
        OutputError: if it cannot be written.
    """
    from pe_toolkit.card import verify_card
    from pe_toolkit.card.file import write_atomically

    info = pulled.info or verify_card(pulled.path)
    write_atomically(path, _same_bytes(pulled.path, info.sha256), force=force)
    return info


def _same_bytes(path: Path, sha256: str) -> Iterator[bytes]:
    """The bytes of a file; fails at the end, before they are visible anywhere, if others came."""
    from pe_toolkit.errors import CardError

    state = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            state.update(chunk)
            yield chunk
    if state.hexdigest() != sha256:
        raise CardError("Expected the card that was checked a moment ago, but its file changed.")
