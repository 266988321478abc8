"""Results on disk: whole or not at all."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, ImageChops
from PIL.GifImagePlugin import getdata, getheader

from pe_toolkit.errors import OutputError, OutputExistsError, UsageError
from pe_toolkit.video.picture import Picture
from pe_toolkit.writing import write_atomically

VIDEO_SUFFIXES = (".mp4", ".gif")
IMAGE_SUFFIXES = (".png",)
SLOWEST = 0.01
"""Frames a second: a GIF cannot show a picture for much longer than 100 seconds."""
CRF = 18
"""Of H.264: nobody sees a difference."""


def check_output(path: Path | str, force: bool = False, *, suffixes: tuple[str, ...] = ()) -> Path:
    """Find out before any work whether a result could be written.

    Args:
        path: where the result will go.
        force: whether an existing file may be replaced.
        suffixes: the lower-case endings that are possible; none means any.

    Returns:
        `path` as a `Path`.

    Raises:
        UsageError: another ending.
        OutputExistsError: the file is there and `force` is not set.
        OutputError: the folder is missing or not writable, or `path` is no ordinary file.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(
            f"Expected an output ending in {' or '.join(suffixes)}, got '{path.name}'.",
            hint=f"Supported endings: {', '.join(suffixes)}.",
        )
    parent = path.parent
    try:
        if path.exists() and not path.is_file():  # never replace a folder or a device
            raise OutputError(
                f"Expected a place for a file, but '{path}' is a folder or a device.",
                hint="Give the name of a file.",
            )
        if os.path.lexists(path) and not force:  # also a link that leads nowhere
            raise OutputExistsError(
                f"Expected a new file, but '{path}' is already there.",
                hint="Use --force to replace it, or choose another name.",
            )
        if not parent.is_dir():
            raise OutputError(
                f"Expected the folder '{parent}', but it does not exist.",
                hint=f"Create it first: mkdir -p '{parent}'",
            )
    except OSError as error:  # a name too long, or a folder that may not be entered
        raise OutputError(
            f"Expected to write '{path}', but: {error.strerror or error}.",
            hint="Choose another name or folder.",
        ) from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"Expected a writable folder, but '{parent}' is not.",
            hint="Choose another folder, or change its permissions.",
        )
    return path


def write_atomic(path: Path | str, data: bytes, *, force: bool = False) -> Path:
    """Write `data` so that `path` holds all of it or is left as it was.

    Raises:
        OutputExistsError, OutputError: see `check_output`; the disk is full.
    """
    path = check_output(path, force)
    write_atomically(path, [data], force=force)
    return path


def write_video(
    path: Path | str,
    frames: Picture,
    fps: float,
    *,
    force: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write frames as H.264 MP4 (8 bits, 4:2:0, BT.709, crf 18) or as GIF, by the ending of `path`.

    The same frames give the same bytes. An odd width or height is made even in MP4 by repeating the
    last column or row. GIF knows only delays in hundredths of a second: the delays are rounded so
    that the total time stays right, and rates above 50, which browsers ignore, are slowed to 50. A
    GIF plays for ever and has 256 colours in every frame: pictures of no more are kept as they are.

    Args:
        path: ends in `.mp4` or `.gif`.
        frames: `(F, H, W, 3)` uint8 RGB.
        fps: frames a second.
        force: whether to replace an existing file.
        metadata: names and texts to keep in an MP4 (QuickTime metadata keys, as `ffprobe`,
            `exiftool` and PyAV's `container.metadata` show them); a GIF keeps none.

    Raises:
        UsageError: another ending, frames of another shape or type, a rate below `SLOWEST`.
        OutputExistsError: the file is there and `force` is not set.
        OutputError: the folder is missing or not writable, the disk is full, the encoder failed.
    """
    path = check_output(path, force, suffixes=VIDEO_SUFFIXES)
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise UsageError(
            f"Expected frames (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.",
        )
    if not (math.isfinite(fps) and fps >= SLOWEST):
        raise UsageError(f"Expected at least {SLOWEST} frames a second, got {fps}.")
    if path.suffix.lower() == ".gif":
        return write_atomic(path, _gif(frames, fps), force=force)
    return write_atomic(path, encode_mp4(frames, fps, metadata=metadata), force=force)


def write_image(path: Path | str, image: Picture, force: bool = False) -> Path:
    """Write `(H, W, 3)` uint8 RGB as PNG.

    Raises:
        UsageError: another ending, shape or type.
        OutputExistsError, OutputError: see `check_output`.
    """
    path = check_output(path, force, suffixes=IMAGE_SUFFIXES)
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise UsageError(f"Expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return write_atomic(path, buffer.getvalue(), force=force)


def encode_mp4(
    frames: Picture, fps: float, *, metadata: Mapping[str, str] | None = None, crf: int = CRF
) -> bytes:
    """An MP4 as `write_video` writes it, in memory: small as it is, errors of the disk come from
    one place.

    Args:
        frames: `(F, H, W, 3)` uint8 RGB.
        fps: frames a second, positive.
        metadata: as in `write_video`.
        crf: quality of H.264, from 0 (all there is) to 51; 28 is small and still clear.

    Raises:
        OutputError: the encoder failed.
    """
    even = ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0))
    frames = np.pad(frames, even, mode="edge")
    buffer = io.BytesIO()
    try:
        # Bytes must not depend on the date, the number of cores or chance. x264's SIMD code gives
        # varying bytes for the same frames (measured: a quarter of the encodes at 100x68 differed,
        # with one thread and bit-exact flags; none with asm=0). It costs about a second for 49
        # frames of 720x480.
        options = {"fflags": "+bitexact"}
        names = {key: _text(value) for key, value in (metadata or {}).items()}
        if names:
            options["movflags"] = "use_metadata_tags"  # without it, unknown names are left out
        with av.open(buffer, "w", format="mp4", options=options) as container:
            container.metadata.update(names)
            stream: Any = container.add_stream(
                "libx264", rate=Fraction(float(fps)).limit_denominator(1001)
            )
            stream.width, stream.height = frames.shape[2], frames.shape[1]
            stream.pix_fmt = "yuv420p"
            stream.options = {
                "crf": str(crf),
                "flags": "+bitexact",
                "threads": "1",
                "x264-params": "asm=0",
            }
            codec = stream.codec_context
            codec.colorspace = codec.color_primaries = codec.color_trc = 1  # BT.709
            codec.color_range = 1  # limited
            for array in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
                yuv = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                container.mux(stream.encode(yuv))
            container.mux(stream.encode(None))
    except FFmpegError as error:
        raise OutputError(
            f"Expected to encode {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, but"
            f" the H.264 encoder failed ({error}).",
            hint="Try another size, or write a .gif.",
        ) from error
    return buffer.getvalue()


def _text(value: str) -> str:
    """Valid Unicode without the zero that ends a text in C."""
    return value.replace("\0", " ").encode("utf-8", "backslashreplace").decode("utf-8")


def _gif(frames: Picture, fps: float) -> bytes:
    fps = min(fps, 50.0)
    ends = [round((i + 1) * 100 / fps) * 10 for i in range(len(frames))]  # milliseconds
    delays = cast(list[int], np.diff([0, *ends]).tolist())
    # By counts alone a small thing gets the colour of what is behind it: let the colours move to
    # what they stand for, until few pixels change theirs.
    few = max(1, frames[0].size // 900)
    images = [Image.fromarray(frame).quantize(256, kmeans=few) for frame in frames]
    # Not `save_all`: it leaves out what equals the frame before, and so has fewer frames.
    parts, before = [*getheader(images[0], info={"loop": 0})[0]], None
    for image, delay in zip(images, delays, strict=True):
        shown = image.convert("RGB")
        changed = (0, 0, *image.size)
        if before is not None:
            changed = ImageChops.difference(shown, before).getbbox() or (0, 0, 1, 1)
        own = before is not None  # a palette; that of the first is everybody's
        part = image.crop(changed)
        parts += getdata(part, changed[:2], duration=delay, include_color_table=own)
        before = shown
    return b"".join([*parts, b";"])
