"""A picture or video beside a card, which the Hub plays on its page."""

from __future__ import annotations

from pathlib import Path

from pe_toolkit.errors import UsageError
from pe_toolkit.shown import printable

MAX_BYTES = 50_000_000
KINDS = {
    ".mp4": (4, b"ftyp"),
    ".webm": (0, b"\x1aE\xdf\xa3"),
    ".gif": (0, b"GIF8"),
    ".png": (0, b"\x89PNG"),
    ".webp": (8, b"WEBP"),
    ".jpg": (0, b"\xff\xd8\xff"),
}
"""Ending -> where which bytes must stand."""
NAMES = tuple(f"preview{suffix}" for suffix in KINDS)
"""What a preview is called in the repository. The name of the user's file stays with the user."""


def read_preview(path: Path) -> tuple[str, bytes]:
    """Its name in the repository, and its bytes.

    Raises:
        UsageError: if it is no such file, too large, or not what its ending says.
    """
    suffix = path.suffix.lower()
    where = printable(str(path))
    if suffix not in KINDS:
        raise UsageError(
            f"Expected a preview that ends in {', '.join(KINDS)}, got {where}.",
            "`pe apply CARD --prompt ... -o preview.mp4` makes one.",
        )
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"Expected a preview of at most {MAX_BYTES} bytes, got {size}.")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Expected to read the preview {where}, but: {error.strerror or error}."
        ) from error
    offset, magic = KINDS[suffix]
    if data[offset : offset + len(magic)] != magic:
        raise UsageError(f"Expected {where} to be a {suffix} file, but its content is not.")
    return f"preview{suffix}", data
