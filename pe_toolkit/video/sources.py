"""What a path is: a folder of images, an animated image, or a file for FFmpeg."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from PIL import Image, features

from pe_toolkit.errors import ClipError
from pe_toolkit.video.movie import Movie, OnProgress
from pe_toolkit.video.names import refuse_pointer, shown
from pe_toolkit.video.picture import Picture
from pe_toolkit.video.pictures import DAMAGED, AnimatedImage, ImageFolder


class Source(Protocol):
    """Frame times in seconds from the first, and a way to get frames."""

    times: list[float]
    duration: float

    def pictures(self, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]: ...


def open_source(
    path: Path, fps: float | None, on_progress: OnProgress | None = None
) -> tuple[Source, str]:
    """The source behind a path, and its digest.

    Args:
        fps: rate of the images of a folder; None for the default.
        on_progress: gets how many frames are decoded, and of how many, while that takes long.

    Raises:
        ClipError: missing, empty, not readable, a pointer to a file, no clip.
    """
    name = shown(path)
    try:
        if path.is_dir():
            folder = ImageFolder(path, fps)
            return folder, folder.digest()
        if not path.exists():
            raise ClipError(
                f"Expected a clip, but '{name}' does not exist.",
                hint="Check the path; names with spaces need quotes.",
            )
        if not path.is_file():  # opening a pipe or a device would wait for ever
            raise ClipError(
                f"Expected a file or a folder, but '{name}' is neither.",
                hint="Write what comes out of a pipe or device into a file first.",
            )
        with path.open("rb") as file:
            head = file.read(512)
            if not head:
                raise ClipError(
                    f"Expected a clip, but '{name}' is empty (0 bytes).",
                    hint="Download or export it again.",
                )
            refuse_pointer(head, name, "a clip")
        with ThreadPoolExecutor(1) as beside:  # a second for each gigabyte of a long clip
            found = beside.submit(_digest, path)
            source: Source
            if _for_pillow(path, head):
                source = AnimatedImage(path)
            else:
                source = Movie(path, on_progress=on_progress)
            return source, found.result()
    except OSError as error:
        raise ClipError(
            f"Expected a readable clip, but '{name}' cannot be opened ({error.strerror}).",
            hint="Check that you may read the file and its folder.",
        ) from error


def digest(path: Path) -> str:
    """The digest of a clip, as `Clip.sha256` has it, without decoding it.

    Raises:
        ClipError: a folder that holds no images.
        OSError: it cannot be read.
    """
    return ImageFolder(path, None).digest() if path.is_dir() else _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _for_pillow(path: Path, head: bytes) -> bool:
    """WebP, which FFmpeg cannot decode when it is animated, and AVIF with alpha, which FFmpeg takes
    for a second video. Pillow rounds times to milliseconds, so AVIF without is left to FFmpeg.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[4:8] != b"ftyp" or head[8:12] not in (b"avif", b"avis") or not features.check("avif"):
        return False
    try:
        with Image.open(path) as image:
            return image.has_transparency_data
    except DAMAGED:
        return False
