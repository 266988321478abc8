"""The signature beside a card in a shared folder: `wave/1.2.0.safetensors.sig`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pe_toolkit.errors import OutputError
from pe_toolkit.registry import signature_files, signatures
from pe_toolkit.registry.errors import SignatureError
from pe_toolkit.registry.remotes.errors import ConflictError
from pe_toolkit.shown import printable
from pe_toolkit.writing import write_atomically


def planned(
    card: Path, target: Path, signature: bytes | None, *, same: bool, force: bool
) -> str | None:
    """What becomes of the signature beside a card: "new", "changed", "unchanged" or "deleted"; None
    if there is none.

    Args:
        target: the card's place in the folder.
        same: the card that is to be there is there.

    Raises:
        ConflictError: if somebody else signed the same card, without `force`.
    """
    file = signature_files.beside(target)
    there = signature_files.read(file)
    if signature is None:
        if same:
            return "deleted" if there is not None and not _fits(card, there) else None
        return "deleted" if os.path.lexists(file) else None
    if there is None or not same:
        return "changed" if os.path.lexists(file) else "new"
    with contextlib.suppress(SignatureError):
        before = signatures.signer(card, there)
        if before == signatures.signer(card, signature):
            return "unchanged"
        if not force:
            raise ConflictError(
                f"Expected nobody else's signature of {printable(target.as_uri())}, but the key "
                f"{before} made one.",
                "Replace it with --force. Who needs both asks both to sign a copy of their own.",
            )
    return "changed"


def _fits(card: Path, signature: bytes) -> bool:
    """Whether it is one of this card, as far as can be told here. One that is not was left by a
    push that did not come to its end, when it put this card in the place of another."""
    try:
        signatures.signer(card, signature)
    except signatures.MissingToolError:
        return True
    except SignatureError:
        return False
    return True


def place(target: Path, signature: bytes | None, change: str | None) -> None:
    """Do what `planned` said, after the card is there: until then an old one fits nothing.

    Raises:
        OutputError: if it cannot be written.
    """
    file = signature_files.beside(target)
    if change == "deleted":
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"Expected to delete {printable(str(file))}, which fits another card, but: "
                f"{error.strerror or error}.",
                "Check the permissions of the folder.",
            ) from error
    elif signature is not None and change != "unchanged":
        write_atomically(file, [signature], force=True)
