"""Names of files as text, and files that only name another."""

from __future__ import annotations

import os
from pathlib import Path

from pe_toolkit.errors import ClipError

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"


def shown(path: Path) -> str:
    """The name of a file as valid Unicode: on Linux a name is bytes of any kind, and neither a card
    nor JSON can hold those that mean nothing.
    """
    return os.fsencode(path.name or path).decode("utf-8", "replace")  # `.` and `/` have no name


def refuse_pointer(head: bytes, name: str, wanted: str) -> None:
    """Refuse the small text that Git keeps in place of a large file.

    Raises:
        ClipError: `head`, the first bytes of a file, are those of such a pointer.
    """
    for begin, kind, fetch in (
        (_LFS, "a Git LFS pointer", "git lfs pull"),
        (_ANNEX, "a git-annex pointer", "git annex get"),
    ):
        if head.startswith(begin):
            raise ClipError(
                f"Expected {wanted}, but '{name}' is {kind}: the file itself was never fetched.",
                hint=f"Run `{fetch}` in its repository, or download the file itself.",
            )
