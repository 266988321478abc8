"""Where signatures lie: beside a card that is a file, and in a folder of the local registry.

    card.safetensors.sig
    root/signatures/<64 hex>-<16 hex>.sig

A card may have several, by several people. None is believed here: `signatures` checks them.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from pe_toolkit.registry import objects
from pe_toolkit.registry.home import home

SUFFIX = ".sig"
MAX_BYTES = 16 << 10
"""Of a signature: an RSA key of 16384 bits makes one of 6 kB."""
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}", re.ASCII)
"""What names a key: SHA-256 of it, as `ssh-keygen -l` shows it."""
_NAME = re.compile(r"([0-9a-f]{64})-[0-9a-f]{16}\.sig", re.ASCII)
_HEAD = b"-----BEGIN SSH SIGNATURE-----"


def kept(digest: str, root: Path | None = None) -> list[bytes]:
    """The signatures of a card that the local registry keeps; not checked yet.

    Args:
        digest: `sha256:` and 64 hex digits of the card's file.
        root: of the registry. Default: the user's.
    """
    folder = (root or home()) / "signatures"
    paths = sorted(folder.glob(f"{digest.removeprefix('sha256:')}-*{SUFFIX}"))
    return [data for path in paths if (data := read(path)) is not None]


def listed(root: Path) -> list[tuple[str, Path]]:
    """The digest of its card and the path of every signature that is kept. Files of other names
    are not ours.
    """
    folder = root / "signatures"
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = ((_NAME.fullmatch(name), folder / name) for name in names)
    return [(f"sha256:{match[1]}", path) for match, path in found if match]


def of(digest: str, came: bytes | None) -> list[bytes]:
    """The signature that came with a card, if one did, and those that are kept."""
    return ([came] if came is not None else []) + kept(digest)


def keep(digest: str, signature: bytes | None, root: Path | None = None) -> None:
    """Keep a signature of a card beside the local registry; others of it stay.

    Raises:
        OutputError: if it cannot be written.
    """
    from pe_toolkit.writing import write_atomically

    if signature is None:
        return
    folder = (root or home()) / "signatures"
    # By its bytes, because without ssh-keygen nobody knows whose it is.
    name = f"{digest.removeprefix('sha256:')}-{hashlib.sha256(signature).hexdigest()[:16]}{SUFFIX}"
    if read(folder / name) != signature:
        with objects.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, [signature], force=True)


def beside(card: Path) -> Path:
    """Where the signature of a card that is a file lies."""
    return card.with_name(card.name + SUFFIX)


def read(path: Path) -> bytes | None:
    """A file, if it looks like a signature; None if there is none."""
    try:
        if objects.no_file(path):  # a named pipe would wait for ever
            return None
        with open(path, "rb") as stream:
            return sound(stream.read(MAX_BYTES + 1))
    except (OSError, ValueError):
        return None


def sound(data: bytes) -> bytes | None:
    """`data`, if it looks like a signature."""
    return data if data.startswith(_HEAD) and len(data) <= MAX_BYTES else None
