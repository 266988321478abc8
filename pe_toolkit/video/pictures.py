"""Clips that Pillow reads: folders of images, and animated WebP and AVIF (see `sources`)."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pe_toolkit.errors import ClipError
from pe_toolkit.shown import printable
from pe_toolkit.video.names import refuse_pointer, shown
from pe_toolkit.video.picture import Picture, from_pillow

IMAGE_FOLDER_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
IMAGE_FOLDER_FPS = 16.0
_VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif")
"""Endings by which a folder of videos is told from one of images."""
_DEFAULT_DELAY_MS = 100  # what browsers and FFmpeg show for a delay of 0

# What Pillow raises for damaged files: OSError (cut off), SyntaxError (broken PNG), ValueError and
# EOFError (broken frame tables), DecompressionBombError (a header that claims a giant picture).
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def _reason(error: Exception) -> str:
    """Why, without the full path that Pillow and the system put into their messages."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return getattr(error, "strerror", None) or str(error)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `frame2.png` before `frame10.png`."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _no_images(folder: Path) -> str:
    """What to do with a folder without images."""
    endings = sorted(f.suffix for f in folder.iterdir() if f.suffix.lower() in _VIDEOS)
    if endings:
        these = f"{shlex.quote(printable(str(folder)))}/*{endings[0]}"
        return f"It holds videos. Name one of them, or all for many cards: pe train {these} -o DIR"
    return f"Images are files ending in {', '.join(IMAGE_FOLDER_SUFFIXES)}."


class ImageFolder:
    """The images of a folder in natural order, `fps` of them a second.

    Raises:
        ClipError: no image in the folder.
    """

    def __init__(self, folder: Path, fps: float | None) -> None:
        self.files = sorted(
            (
                f
                for f in folder.iterdir()
                if f.suffix.lower() in IMAGE_FOLDER_SUFFIXES
                and not f.name.startswith(".")
                and f.is_file()
            ),
            key=lambda f: (natural_key(f.name), f.name),
        )
        if not self.files:
            raise ClipError(
                f"Expected images in the folder '{shown(folder)}', found none.",
                hint=_no_images(folder),
            )
        rate = fps or IMAGE_FOLDER_FPS
        self.times = [i / rate for i in range(len(self.files))]
        self.duration = len(self.files) / rate

    def digest(self) -> str:
        """SHA-256 over name, size and bytes of every image in order."""
        total = hashlib.sha256()
        for file in self.files:
            data = file.read_bytes()
            total.update(f"{file.name}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
            total.update(data)
        return total.hexdigest()

    def pictures(self, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """`(index, (H, W, 3) uint8 RGB)` of the wanted indices, ascending.

        Raises:
            ClipError: an image is damaged.
        """
        for index in sorted(wanted):
            file = self.files[index]
            try:
                with Image.open(file) as image:
                    picture = from_pillow(image)
            except DAMAGED as error:
                with file.open("rb") as opened:
                    refuse_pointer(opened.read(512), shown(file), "an image")
                raise ClipError(
                    f"Expected an image, but '{shown(file)}' in the folder cannot be read"
                    f" ({_reason(error)}).",
                    hint="Repair or remove that file.",
                ) from error
            yield index, picture


class AnimatedImage:
    """An animated image that Pillow can step through; delays are honoured.

    Raises:
        ClipError: Pillow cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.times: list[float] = []
        self.duration = 0.0
        try:
            with Image.open(path) as image:
                for index in range(getattr(image, "n_frames", 1)):
                    image.seek(index)
                    image.load()  # WebP knows a frame's delay only once it is decoded
                    self.times.append(self.duration)
                    delay = image.info.get("duration") or _DEFAULT_DELAY_MS
                    self.duration += float(delay) / 1000
        except DAMAGED as error:
            raise ClipError(
                f"Expected an animated image, but '{shown(path)}' is damaged ({_reason(error)}).",
                hint="Export it again, or convert it to MP4.",
            ) from error

    def pictures(self, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """`(index, (H, W, 3) uint8 RGB)` of the wanted indices, ascending."""
        with Image.open(self.path) as image:
            for index in sorted(wanted):
                image.seek(index)
                yield index, from_pillow(image)
