"""One picture from a file."""

from __future__ import annotations

from pathlib import Path

from pe_toolkit.errors import ClipError
from pe_toolkit.video.picture import Picture, from_pillow


def read_image(path: Path) -> Picture:
    """The picture in a file: uint8 RGB `(H, W, 3)`.

    Raises:
        ClipError: it cannot be read as a picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return from_pillow(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ClipError(
            f"Expected a picture, got {path.name}: {' '.join(str(error).split())}",
            "Use a PNG, JPEG or WebP file.",
        ) from error
