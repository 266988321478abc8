"""Pinning a card: what a reference means now, for `pe.lock`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.card.reader import verify_card
from pe_toolkit.registry import lockfile, signature_files, signatures
from pe_toolkit.registry.locksigner import check_signatures
from pe_toolkit.registry.locktext import Pin
from pe_toolkit.registry.remotes.errors import UnreachableError
from pe_toolkit.registry.resolve import find
from pe_toolkit.shown import printable

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pulled, Tell
    from pe_toolkit.registry.signatures import Who


def pin(
    text: str,
    folder: Path,
    *,
    tell: Tell | None = None,
    signed_by: Who | None = None,
    before: Pin | None = None,
) -> Pin:
    """Pin what a reference means now.

    Args:
        text: a card in any form.
        folder: where the lock file lies.
        tell: as for `find`.
        signed_by: who must have signed it; the pin says so from now on.
        before: its pin until now. Whoever signed that card must have signed this one as well,
            unless `signed_by` names somebody else.

    Raises:
        UnreachableError: if the remote cannot be asked: a copy of an earlier time is not what the
            reference means now.
        SignatureError: if it is not signed by whom it must be.
        PeError: if there is no such card, or it is not sound.
    """
    signer = before.signer if before is not None else None

    def accept(card: Path, signed: Sequence[bytes]) -> None:
        nonlocal signer
        if signed_by is not None:
            signer = signatures.check(card, signed, signed_by).fingerprint
        elif before is not None:
            check_signatures(before, card, signed)

    def came(pulled: Pulled) -> None:  # before it is kept
        accept(pulled.path, signature_files.of(pulled.digest, pulled.signature))

    found = find(text, tell=tell, pinned=False, accept=came)
    if found.outdated:
        assert found.pulled is not None
        raise UnreachableError(
            f"Expected to ask what {found.reference} is now, but there is only the copy in the "
            "cache, which may be older.",
            "Try again with a connection. To pin that copy all the same, name it exactly: "
            f"pe lock {printable(found.pulled.origin)}",
        )
    info = verify_card(found.path)
    accept(found.path, found.signatures())
    name = lockfile.pinned_name(text, folder)
    origin = found.entry.origin if found.entry else None
    if found.pulled is not None:  # the same bytes may have come from elsewhere before
        origin = found.pulled.origin
    version = found.entry.version if found.entry else info.spec.version
    return Pin(name, info.sha256, info.size_bytes, version, origin, signer)
