"""Real clips for the tests, written with PyAV and Pillow.

Every clip shows a square that moves to the right over a dark background, so that time and
orientation can be read back from the pixels: see `square_x`.
"""

from __future__ import annotations

import os
import struct
import tempfile
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frames = NDArray[np.uint8]

BACKGROUND = (40, 40, 60)
SQUARE = (230, 60, 40)


def moving_square(
    frames: int = 24, size: tuple[int, int] = (96, 64), side: int = 16, step: int = 3
) -> Frames:
    """`(F, H, W, 3)`: frame `i` has its square at x = `i * step`, a quarter down from the top."""
    width, height = size
    clip = np.empty((frames, height, width, 3), np.uint8)
    clip[:] = BACKGROUND
    top = height // 4
    for i in range(frames):
        clip[i, top : top + side, i * step : i * step + side] = SQUARE
    return clip


def redness(frame: Frames) -> NDArray[np.bool_]:
    """Where the square is."""
    red = frame.astype(int)
    mask: NDArray[np.bool_] = (red[..., 0] - red[..., 2]) > 80
    return mask


def square_x(frame: Frames) -> float:
    """Left edge of the square in pixels."""
    return float(np.nonzero(redness(frame).any(axis=0))[0].min())


def write_clip(
    path: Path,
    frames: Frames,
    *,
    fps: float = 24,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[float] | None = None,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Encode `(F, H, W, 3 or 4)` frames; `times` in seconds make the frame rate variable."""
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        if options:
            stream.options = options
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        layout = "rgba" if frames.shape[-1] == 4 else "rgb24"
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=layout)
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), round(times[i] * 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(
    path: Path, *sources: Path, times: bool = True, filters: str | None = None, **options: str
) -> Path:
    """The packets of all `sources` in one file; `times=False` keeps only the decoding times, as
    containers without presentation times do.
    """
    with av.open(str(path), "w", options=options) as out:
        opened = [av.open(str(source)) for source in sources]
        inputs = [container.streams.video[0] for container in opened]
        outputs = [out.add_stream_from_template(stream) for stream in inputs]
        for container, stream, target in zip(opened, inputs, outputs, strict=True):
            first: int | None = None
            change = av.BitStreamFilterContext(filters, stream) if filters else None
            for packet in container.demux(stream):
                if packet.size:
                    if not times:
                        first = packet.dts if first is None else first
                        packet.dts -= first
                        packet.pts = packet.dts
                    for done in change.filter(packet) if change else [packet]:
                        done.stream = target
                        out.mux(done)
            container.close()
    return path


def write_rotated(path: Path, source: Path, quarter_turns: int, *, mirror: bool = False) -> Path:
    """A copy of the MP4 `source` with a display matrix: mirror left to right, then turn clockwise.

    PyAV cannot write a display matrix, so the one in the track header is patched. A copy, because
    x264 does not give the same bytes twice.
    """
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns % 4]
    flip = -1 if mirror else 1
    matrix = [c * flip, s * flip, 0, -s, c, 0, 0, 0]
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4
    place += 4 + (20 if data[place] == 0 else 32) + 16
    old = struct.unpack(">9i", data[place : place + 36])
    assert old == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), "not the place of the matrix"
    data[place : place + 36] = struct.pack(">9i", *(v * 65536 for v in matrix), 1 << 30)
    path.write_bytes(data)
    return path


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """Sound and nothing else: WAV by the standard library, M4A by PyAV."""
    rate = 8000
    tone = np.sin(np.arange(int(rate * seconds)) / 5)
    samples = (tone * 8000).astype(np.int16)
    if path.suffix == ".wav":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.tobytes())
        return path
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=rate, layout="mono")
        for k in range(len(samples) // 1024):
            part = samples[None, k * 1024 : (k + 1) * 1024]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, k * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_animation(path: Path, frames: Frames, *, delay_ms: int | list[int] = 100) -> Path:
    """GIF, animated WebP or APNG, by the ending."""
    images = [Image.fromarray(frame) for frame in frames]
    extra: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    images[0].save(path, save_all=True, append_images=images[1:], duration=delay_ms, **extra)
    return path


def write_folder(folder: Path, frames: Frames, pattern: str = "frame{}.png") -> Path:
    """One image per frame, numbered from 1."""
    folder.mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / pattern.format(i + 1))
    return folder


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as a user without rights where the tests run as root, who may do everything."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    os.setresuid(nobody, nobody, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
