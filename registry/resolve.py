"""From what the user wrote to a file: the one function behind every CARD argument."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.registry import signature_files
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import CopyWarning
from pe_toolkit.registry.references import (
    LocalReference,
    PathReference,
    Reference,
    RemoteReference,
    parse,
)

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pulled, Tell


@dataclass(frozen=True)
class Found:
    """A card's file, and what the registry knows about it."""

    reference: Reference
    path: Path
    entry: Entry | None
    """None for a path, and for a card that was only looked at: it has no name here."""
    pulled: Pulled | None = None
    """What came from the remote, if one was asked."""
    origin: str | None = None
    """Where it came from; None for a file."""
    digest: str | None = None
    """`sha256:` and 64 hex digits; None for a path."""

    def signatures(self) -> list[bytes]:
        """The signatures that lie beside the card, not checked yet; see `signatures.check`."""
        if self.digest is not None:
            return signature_files.kept(self.digest)
        beside = signature_files.read(signature_files.beside(self.path))
        return [beside] if beside is not None else []

    @property
    def outdated(self) -> bool:
        """It may be: the remote could not be asked, and the reference may mean another card now."""
        pulled = self.pulled
        return pulled is not None and pulled.offline and pulled.origin != str(self.reference)


def find(
    text: str,
    *,
    tell: Tell | None = None,
    pinned: bool = True,
    accept: Callable[[Pulled], None] | None = None,
) -> Found:
    """The card that `text` names, in any form that `references.parse` knows.

    A path is taken as it is, whether or not it exists. A card of the local registry is compared
    with its digest. A card on a remote is fetched first and kept without a name; if a `pe.lock` in
    the current folder pins this reference, only the card that it pins is taken, and without asking
    the remote if it is here.

    Args:
        tell: told about repetitions, and about a copy of an earlier time. Default: a CopyWarning
            for the latter, nothing for the former.
        pinned: honour `pe.lock`.
        accept: called with what came from a remote, before it is kept; may raise.

    Raises:
        UsageError: if `text` has none of the forms.
        RegistryError: if the local registry has no such card, its file is damaged, `pe.lock` pins
            another card, or `pe.lock` cannot be read.
        SignatureError: if `pe.lock` says who signed it, and that is not so.
        PeError: whatever the remote raises.
    """
    reference = parse(text)
    if isinstance(reference, PathReference):
        return Found(reference, reference.path, None)
    if isinstance(reference, LocalReference):
        from pe_toolkit.registry.store import Store  # not for a path: `pe show` starts fast

        store = Store()
        entry = store.check(store.resolve(reference))
        return Found(reference, entry.path, entry, origin=entry.origin, digest=entry.digest)
    return _on_remote(reference, tell, accept, pinned=pinned)


def card_path(text: str) -> Path:
    """The file of a card; as `find`."""
    return find(text).path


def _on_remote(
    reference: RemoteReference,
    tell: Tell | None,
    accept: Callable[[Pulled], None] | None,
    *,
    pinned: bool,
) -> Found:
    from pe_toolkit.registry import lockfile, locksigner, remotes
    from pe_toolkit.registry.store import Store

    pin = lockfile.pinned(reference) if pinned else None
    if pin is not None and (entry := Store().held(f"sha256:{pin.sha256}")) is not None:
        here = Found(
            reference, entry.path, _if_named(entry), None, entry.origin or pin.origin, entry.digest
        )
        if locksigner.is_signed(pin, here.path, here.signatures()):
            return here
    said: list[str] = []
    pulled = remotes.open_remote(reference, tell=tell or said.append).pull()
    if pin is not None:
        lockfile.compare(pin, pulled)  # before it is kept
        locksigner.check_signer(pin, pulled)
    if accept is not None:
        accept(pulled)
    entry = remotes.admit(pulled)
    found = Found(reference, entry.path, _if_named(entry), pulled, pulled.origin, entry.digest)
    if found.outdated and tell is None:
        text = said[-1] if said else "This is the copy in the cache, which may be older."
        # The caller of `pe_toolkit.load` and `push_to_hub`: they come here through `card_path`, and
        # a function that tells paths from names.
        warnings.warn(f"{reference}: {text}", CopyWarning, stacklevel=6)
    return found


def _if_named(entry: Entry) -> Entry | None:
    return entry if entry.name else None
