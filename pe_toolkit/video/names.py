"""Names of files as text, and files that only name another."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from pe_toolkit.errors import ClipError
from pe_toolkit.shown import printable

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
_MOST, _MOST_BYTES = 80, 160
"""Of a name: systems take 255 bytes, some of which are for what is put around it."""


def shown(path: Path) -> str:
    """The name of a file as valid Unicode: on Linux a name is bytes of any kind, and neither a card
    nor JSON can hold those that mean nothing.
    """
    return os.fsencode(path.name or path).decode("utf-8", "replace")  # `.` and `/` have no name


def file_name(text: str) -> str:
    """`text` as the name of a file, without a suffix, that no system is surprised by: letters,
    marks and digits of any script, `.`, `_` and `-`; everything else becomes `_`. At most 80
    characters and 160 bytes; `motion` if nothing is left.
    """
    composed = unicodedata.normalize("NFC", text)  # one name, however a system spells its accents
    safe = "".join(c if _kept(c) else "_" for c in composed)[:_MOST].lstrip(".-")
    return safe.encode()[:_MOST_BYTES].decode("utf-8", "ignore") or "motion"


def _kept(char: str) -> bool:
    """Marks are in, as a word of Hindi is none without them; letters that look like nothing are
    out.
    """
    return char in "._-" or (unicodedata.category(char)[0] in "LMN" and printable(char) == char)


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
