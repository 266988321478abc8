"""One picture from a file."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pe_toolkit.errors import ClipError, PeError
from pe_toolkit.video.clip import read_clip
from pe_toolkit.video.names import refuse_pointer, shown
from pe_toolkit.video.picture import Picture, from_pillow


def read_image(path: Path) -> Picture:
    """The picture in a file, or the first one of a clip: uint8 RGB `(H, W, 3)`.

    Raises:
        ClipError: it cannot be read as a picture.
    """
    from PIL import Image

    name = shown(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ClipError(
            f"Expected a picture, but '{name}' is no file.", "Name a PNG, JPEG or WebP file."
        )
    try:
        with path.open("rb") as file:
            refuse_pointer(file.read(512), name, "a picture")
        with Image.open(path) as image:
            return from_pillow(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        with contextlib.suppress(PeError):
            first: Picture = read_clip(path, frames=2, fps="native").frames[0]
            return first
        raise ClipError(
            f"Expected a picture, got {name}: {' '.join(str(error).split())}",
            "Use a PNG, JPEG or WebP file, or a video, of which the first frame is taken.",
        ) from error
