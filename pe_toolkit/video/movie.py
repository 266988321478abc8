"""Clips that FFmpeg reads (through PyAV): any container and codec, GIF and APNG included."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from pe_toolkit.errors import ClipError
from pe_toolkit.video.picture import Picture, orient, over_black, square_pixels

# Demuxers that take text for pictures, or that open other files named inside the file.
_NOT_A_CLIP = {"tty", "bin", "xbin", "adf", "idf", "hls", "concat", "dash", "sdp", "webvtt"}
# WebM keeps alpha in a second layer that only the libvpx decoders read.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_SUPPORTED = "Give a video (MP4, MOV, MKV, WebM, ...), a GIF, or a folder of images."

_log = logging.getLogger(__name__)


class MissingFramesError(Exception):
    """Frames that the container announced do not decode; plan again with `exact=True`."""


class Movie:
    """The first moving video stream of a file, as a list of frame times and a way to get frames.

    The times come from the packets, which costs no decoding. Where a container promises frames
    that the decoder never delivers (truncated or damaged files, streams without timestamps),
    `exact=True` decodes everything once to learn which frames there really are.

    Attributes:
        times: seconds from the first frame, increasing, one per frame.
        duration: seconds to the end of the last frame.

    Raises:
        ClipError: not a video, no video stream, or nothing in it decodes.
    """

    def __init__(self, path: Path, *, exact: bool = False) -> None:
        self.path = path
        self._damaged = False
        with self._open() as (container, stream):
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            base = float(stream.time_base or 1 / rate)
            self._keys: list[int] = []
            last: int | None = None
            announced = stream.frames
            if not exact:
                self._keys, last = self._from_packets(container, stream)
        self._by_order = exact or not self._keys
        if self._by_order:
            with self._open() as (container, stream):
                frames = [(f.pts, f.duration) for f in self._decode(container, stream)]
            if not frames:
                raise ClipError(
                    f"Expected pictures in '{path.name}', but none could be decoded.",
                    hint="The file is damaged or incomplete; export or download it again.",
                )
            if self._damaged or len(frames) < announced:
                message = "'%s' is damaged or cut off; %d frames of it can be read"
                _log.warning(message, path.name, len(frames))
            self._keys = [pts if pts is not None else 0 for pts, _ in frames]
            last = frames[-1][1]
            if any(b <= a for a, b in zip(self._keys, self._keys[1:], strict=False)):
                self._keys, base, last = list(range(len(frames))), 1 / rate, None
        first = self._keys[0]
        self.times = [(key - first) * base for key in self._keys]
        steps = np.diff(self.times)
        hold = last * base if last else float(np.median(steps)) if len(steps) else 1 / rate
        self.duration = self.times[-1] + hold

    def exact(self) -> Movie:
        """The same file, planned by decoding it."""
        return Movie(self.path, exact=True)

    def pictures(self, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """`(index, (H, W, 3) uint8 RGB)` of the wanted indices, upright, square pixels.

        Frames are decoded one by one and converted only where wanted, so that a long 4K clip
        never lies in memory. Decoding stops after the last wanted frame.

        Raises:
            MissingFramesError: a wanted frame did not decode.
        """
        index_of = {key: index for index, key in enumerate(self._keys)}
        missing = set(wanted)
        with self._open() as (container, stream):
            aspect = float(stream.sample_aspect_ratio or 1) or 1.0
            for order, frame in enumerate(self._decode(container, stream)):
                index = order if self._by_order else index_of.get(frame.pts, -1)
                if index not in missing:
                    continue
                missing.discard(index)
                yield index, _upright(frame, aspect)
                if not missing:
                    return
        raise MissingFramesError(f"{len(missing)} frames did not decode")

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """The container and its stream; FFmpeg gets an open file, never a name to interpret.

        A name would let `a%03d.png` mean a pattern and `x:y.mp4` a protocol; the empty protocol
        list keeps playlists from opening anything else.
        """
        # `av` types streams as a union that mypy cannot narrow here, hence Any.
        try:
            with self.path.open("rb") as file:
                options = {"protocol_whitelist": "none"}
                with av.open(file, options=options, metadata_errors="replace") as container:
                    yield container, self._stream(container)
        except (FFmpegError, UnicodeError) as error:
            raise self._not_a_video(error) from error

    def _not_a_video(self, error: Exception) -> ClipError:
        with self.path.open("rb") as file:
            head = file.read(4096)
        if b"ftyp" in head[:16] and b"moov" not in head:
            return ClipError(
                f"Expected a complete video, but '{self.path.name}' has no index ('moov'): it is"
                " truncated.",
                hint="Download or copy the file again; a recording that broke off needs repair.",
            )
        reason = getattr(error, "strerror", None) or str(error)
        return ClipError(
            f"Expected a video, but '{self.path.name}' is not one, or is damaged ({reason}).",
            hint=_SUPPORTED,
        )

    def _stream(self, container: Any) -> Any:
        if set(container.format.name.split(",")) & _NOT_A_CLIP:
            raise ClipError(
                f"Expected a video, but '{self.path.name}' looks like text or a playlist"
                f" (read as '{container.format.name}').",
                hint=_SUPPORTED,
            )
        streams = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not streams:
            sound = " It holds sound only." if container.streams.audio else ""
            raise ClipError(
                f"Expected a video stream in '{self.path.name}', found none.{sound}",
                hint=_SUPPORTED,
            )
        stream = streams[0]
        if stream.codec_context is None:
            raise ClipError(
                f"Expected a known codec in '{self.path.name}', but FFmpeg has no decoder for it.",
                hint="Convert the clip to H.264 MP4.",
            )
        stream.thread_type = "AUTO"
        return stream

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Packets up to the end, or up to the point where the container breaks."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self._damaged = True
                return
            if packet is None:
                return
            if packet.size:  # an empty packet only asks for a flush, which _decode does itself
                self._damaged |= bool(packet.is_corrupt)
                yield packet

    def _from_packets(self, container: Any, stream: Any) -> tuple[list[int], int | None]:
        """Sorted presentation times of the shown packets; empty where they cannot be trusted."""
        shown = [p for p in self._packets(container, stream) if not p.is_discard]
        times = [p.pts for p in shown]
        if self._damaged or None in times or len(set(times)) < len(times):
            return [], None
        last = max(shown, key=lambda p: int(p.pts), default=None)
        return sorted(times), last.duration if last is not None else None

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """Frames in presentation order; packets and frames that are damaged are left out."""
        codec = stream.codec_context
        tags = {key.casefold(): value for key, value in stream.metadata.items()}
        if tags.get("alpha_mode") == "1" and codec.name in _ALPHA_DECODERS:
            codec = av.CodecContext.create(_ALPHA_DECODERS[codec.name], "r")
        for packet in itertools.chain(self._packets(container, stream), [None]):
            try:
                frames = codec.decode(packet)
            except FFmpegError:
                self._damaged = True
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damaged = True
                else:
                    yield frame


def _upright(frame: Any, aspect: float) -> Picture:
    """A decoded frame as `(H, W, 3)` RGB: 8 bits, alpha over black, square pixels, turned."""
    if frame.format.name == "pal8" or any(c.is_alpha for c in frame.format.components):
        picture = over_black(frame.to_ndarray(format="rgba"))
    else:
        picture = frame.to_ndarray(format="rgb24")
    if abs(aspect - 1) > 1e-3:
        picture = square_pixels(picture, aspect)
    side = frame.side_data.get("DISPLAYMATRIX")
    return orient(picture, None if side is None else np.frombuffer(bytes(side), np.int32))
