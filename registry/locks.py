"""Who may use the index: the locks of SQLite, or a lock file on disks whose locks do nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pe_toolkit.card.text import printable
from pe_toolkit.registry.errors import RegistryBusyError


@contextlib.contextmanager
def alone(path: Path, timeout: float) -> Iterator[bool]:
    """Whether others are locked out by a file, because the locks of the disk do nothing."""
    yield False


def busy(root: Path, timeout: float, who: str) -> RegistryBusyError:
    """The error for a registry that somebody else keeps locked."""
    return RegistryBusyError(
        f"Expected the registry {printable(str(root))} to be free within {timeout:g} s, but "
        f"{who} keeps it locked.",
        "Try again when it is done. A process that was killed keeps no lock.",
    )
