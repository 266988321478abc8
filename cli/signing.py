"""Options about signatures, for the commands that make, ask for and show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import parameters
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.registry.signatures import Who

signed_by_option = click.option(
    "--signed-by", metavar="WHO",
    help="Refuse a card that WHO did not sign: SHA256:..., a public key (zoe.pub), or a name.",
)  # fmt: skip
signers_option = click.option(
    "--signers", type=parameters.PATH, metavar="FILE",
    help="OpenSSH's list of allowed signers, for a name. Default: allowed_signers in PE_HOME.",
)  # fmt: skip


def wanted(signed_by: str | None, signers: Path | None) -> Who | None:
    """Whose signature was asked for; None if none was.

    Raises:
        UsageError: if `signed_by` names nobody.
    """
    if signed_by is None:
        if signers is not None:
            raise UsageError("Expected --signed-by NAME beside --signers.")
        return None
    from pe_toolkit.registry import signatures

    return signatures.who(signed_by, signers)


def key_of(sign: bool, key: Path | None) -> Path | None:
    """The key that a card is to be signed with; None if it is not.

    Raises:
        UsageError: if there is none.
    """
    if not sign:
        if key is not None:
            raise UsageError("Expected --sign beside --key.")
        return None
    from pe_toolkit.registry import signatures

    return key or signatures.default_key()


def described(card: Path, found: list[bytes]) -> list[str]:
    """The keys that signed a card, or what is wrong with a signature, one text each."""
    if not found:
        return []
    from pe_toolkit.registry import signatures
    from pe_toolkit.registry.errors import SignatureError

    texts = []
    for signature in found:
        try:
            texts.append(str(signatures.signer(card, signature)))
        except signatures.MissingToolError:
            texts.append("not checked: ssh-keygen is not there")
        except SignatureError:
            texts.append("not sound: it fits other bytes, or was changed")
    return list(dict.fromkeys(texts))
