"""Who must have signed a card, as its pin in a lock file says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.registry import signature_files, signatures
from pe_toolkit.registry.errors import SignatureError
from pe_toolkit.registry.locktext import FILE, Pin, word
from pe_toolkit.shown import printable

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pulled


def check_signer(pin: Pin, pulled: Pulled) -> None:
    """A card came for a reference whose pin may say who signs it.

    Raises:
        SignatureError: if that one did not.
    """
    check_signatures(pin, pulled.path, signature_files.of(pulled.digest, pulled.signature))


def is_signed(pin: Pin, card: Path, found: Sequence[bytes]) -> bool:
    """Whether a card is signed by whom its pin says, or need not be."""
    try:
        check_signatures(pin, card, found)
    except SignatureError:
        return False
    return True


def check_signatures(pin: Pin, card: Path, found: Sequence[bytes]) -> None:
    """One of the signatures of a card is by whom its pin says, if it says that.

    Raises:
        SignatureError: if none is.
    """
    if pin.signer is None:
        return
    try:
        signatures.check(card, found, signatures.Who(pin.signer, fingerprint=pin.signer))
    except signatures.MissingToolError:
        raise
    except SignatureError as error:
        raise SignatureError(
            f"{printable(pin.card)}: {error.message}",
            f"{FILE} says whose signature it has. If another one, or none, is wanted: pe lock "
            f"--remove {word(pin.card)}, then pe lock {word(pin.card)}",
        ) from error
