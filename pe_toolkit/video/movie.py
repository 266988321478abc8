"""Clips that FFmpeg reads (through PyAV): any container and codec, GIF and APNG included."""

from __future__ import annotations

import itertools
import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError

from pe_toolkit.errors import ClipError
from pe_toolkit.video import clock
from pe_toolkit.video import container as files
from pe_toolkit.video.names import shown
from pe_toolkit.video.picture import Picture, orient, over_black, square_pixels

# WebM keeps alpha in a second layer that only the libvpx decoders read.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Codecs whose key frames need nothing before them. Not GIF and APNG: each picture there is drawn
# over the one before, whatever the container says of keys.
_SEEKABLE = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video"}

# Frames: below, decoding on costs no more than a seek and what lies between the key and the frame.
_WORTH_A_SEEK = 24

# How wide a pixel may be, or how high: above, a picture of a small file would fill the memory.
# Anamorphic films have 2.
_WIDEST = 16

_NO_TIMES = 0x80
"""FFmpeg's flag of formats that hold no times (`AVFMT_NOTIMESTAMPS`)."""
_log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""Gets how many frames are decoded, and of how many."""


class MissingFramesError(Exception):
    """The frames that decode are not those that the container announced; plan again by decoding
    (`Movie.exact`).
    """


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    key: bool


class _Part(NamedTuple):
    start: int
    wanted: list[int]


class Movie:
    """The clip's video stream of a file, as a list of frame times and a way to get frames.

    The times come from the packets, which costs no decoding, and frames far in are reached by a
    seek. The decoder gives frames in the order in which they are shown, always; containers that
    keep no such times (AVI, ASF, MXF, raw streams) or wrong ones do not. So every decoded frame has
    to bear the time that is next. Where one does not, or is missing (truncated or damaged files),
    `exact=True` decodes everything once to learn which frames there really are, and counts them. So
    it does where the clock of an MPEG stream jumps; a jump is taken as one frame.

    Pixels that would be more than 16 times as wide as high, or as high as wide, are a fault of the
    file: they are taken as square, with a warning.

    Attributes:
        times: seconds from the first frame, increasing, one per frame.
        duration: seconds to the end of the last frame.

    Raises:
        ClipError: not a video, encrypted, no video stream, or nothing in it decodes.
    """

    def __init__(
        self,
        path: Path,
        *,
        exact: bool = False,
        stream: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.path = path
        self._damaged = False
        self._on_progress = on_progress
        self._stream = self._choose() if stream is None else stream
        with self._open() as (container, stream_):
            # The guess first: of raw streams the average is made up, and the codec knows best.
            raw = container.format.flags & _NO_TIMES and stream_.codec_context.framerate
            rate = float(raw or stream_.guessed_rate or stream_.average_rate or 25)
            base = float(stream_.time_base or 1 / rate)
            self._aspect = self._pixels(stream_)
            self._clock = base if container.format.name in clock.OWN_CLOCK else None
            packets, hidden = [], 0
            for p in self._packets(container, stream_):
                if p.is_discard:  # an edit list leaves it out
                    hidden += 1
                else:
                    packets.append(_Packet(p.pts, p.dts, p.duration or 0, p.is_keyframe))
            # AVI counts places without a picture, where the one before stays.
            announced = 0 if container.format.name == "avi" else stream_.frames - hidden
            jumps = self._clock and clock.jumps([p.dts for p in packets], self._clock).any()
            keys = None if self._damaged or jumps else _distinct(p.pts for p in packets)
            self._entries = [] if keys is None else _entries(stream_, packets)
        self._by_order = exact or not keys
        if self._by_order:
            self._entries = []
            keys, last = self._decoded(packets, announced)
        else:
            last = max(packets, key=lambda p: p.pts or 0).duration
        if keys is None:  # no times at all, or the same one several times
            keys, base, last = list(range(self._count)), 1 / rate, 0
        self._keys = sorted(keys)
        first = self._keys[0]
        self.times = [(key - first) * base for key in self._keys]
        steps = np.diff(self.times)
        hold = last * base if last else float(np.median(steps)) if len(steps) else 1 / rate
        self.duration = self.times[-1] + hold

    def _choose(self) -> int:
        index, moving = files.choose_stream(self.path)
        if len(moving) > 1:
            message = "'%s' holds %d video streams; stream %d is read"
            _log.warning(message, shown(self.path), len(moving), index)
        return index

    def _pixels(self, stream: Any) -> float:
        """How many times as wide as high a pixel is; 1 where the file says what cannot be meant."""
        aspect = float(stream.sample_aspect_ratio or 1)
        if 1 / _WIDEST <= aspect <= _WIDEST:
            return aspect
        message = "'%s' says that its pixels are %g times as wide as high; they are taken as square"
        _log.warning(message, shown(self.path), aspect)
        return 1.0

    def _decoded(self, packets: Sequence[_Packet], announced: int) -> tuple[list[int] | None, int]:
        """Decode everything: the times of the frames that come, None if there are none that can be
        trusted, and how long the last one holds.
        """
        with self._open() as (container, stream):
            frames = []
            for frame in self._decode(container, stream):
                frames.append((frame.pts, frame.duration or 0))
                self._report(len(frames), max(len(packets), len(frames)))
        if not frames:
            raise ClipError(
                f"Expected pictures in '{shown(self.path)}', but none could be decoded.",
                hint="The file is damaged or incomplete; export or download it again.",
            )
        if self._damaged or len(frames) < announced:
            message = "'%s' is damaged or cut off; %d frames of it can be read"
            _log.warning(message, shown(self.path), len(frames))
        self._count = len(frames)
        keys = _distinct(self._joined([pts for pts, _ in frames]))
        if keys is None and len(packets) == len(frames):  # AVI knows when a packet is decoded
            keys = _distinct(self._joined([p.dts for p in packets]))
        return keys, frames[-1][1]

    def _joined(self, times: Sequence[int | None]) -> Sequence[int | None]:
        """Times in the order of the file, without jumps of the clock of such a format."""
        if self._clock is None or not clock.jumps(times, self._clock).any():
            return times
        message = "the clock of '%s' jumps; each jump is taken as one frame"
        _log.warning(message, shown(self.path))
        return clock.joined(times, self._clock)

    def exact(self) -> Movie:
        """The same file, planned by decoding it."""
        return Movie(self.path, exact=True, stream=self._stream, on_progress=self._on_progress)

    def pictures(self, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """`(index, (H, W, 3) uint8 RGB)` of the wanted indices, upright, square pixels.

        Frames are decoded one by one and converted only where wanted, so that a long 4K clip
        never lies in memory. Long stretches of which nothing is wanted are left out by a seek; if
        that does not lead where it should, everything is decoded, and frames come a second time.

        Raises:
            MissingFramesError: the frames that come are not those of the plan.
        """
        order = sorted(wanted)
        parts = self._parts(order)
        try:
            yield from self._read(parts)
        except MissingFramesError:
            if len(parts) == 1 and parts[0].start == 0:
                raise
            yield from self._read([_Part(0, order)])

    def _parts(self, wanted: Sequence[int]) -> list[_Part]:
        """Stretches to decode, each from a frame that needs none before it."""
        parts: list[_Part] = []
        done = -1
        for index in wanted:
            place = bisect_right(self._entries, (self._keys[index], math.inf)) - 1
            entry = bisect_left(self._keys, self._entries[place][0]) if place >= 0 else 0
            if entry > done + _WORTH_A_SEEK:
                parts.append(_Part(entry, []))
            elif not parts:
                parts.append(_Part(0, []))
            parts[-1].wanted.append(index)
            done = index
        return parts

    def _read(self, parts: Sequence[_Part]) -> Iterator[tuple[int, Picture]]:
        total = sum(part.wanted[-1] + 1 - part.start for part in parts)
        done = 0
        with self._open() as (container, stream):
            turn: Any = None
            for part in parts:
                if part.start:
                    if turn is None:  # what the first frame states holds for all, see `_matrix`
                        turn = next((_matrix(f) for f in self._decode(container, stream)), None)
                    self._seek(container, stream, part.start)
                missing = set(part.wanted)
                for index, frame in self._numbered(container, stream, part.start):
                    matrix = _matrix(frame)
                    turn = turn if matrix is None else matrix
                    done += 1
                    self._report(done, total)
                    if index in missing:
                        missing.discard(index)
                        yield index, _upright(frame, self._aspect, turn)
                        if not missing:
                            break
                if missing:
                    raise MissingFramesError(f"{len(missing)} frames did not decode")

    def _seek(self, container: Any, stream: Any, start: int) -> None:
        entry = self._entries[bisect_left(self._entries, (self._keys[start], -math.inf))]
        try:
            container.seek(int(min(entry)), stream=stream)
        except FFmpegError as error:
            raise MissingFramesError(f"no way to frame {start}") from error

    def _numbered(self, container: Any, stream: Any, start: int) -> Iterator[tuple[int, Any]]:
        """Frames and their indices, from frame `start` on."""
        index = start
        for frame in self._decode(container, stream):
            if start and index == start and (frame.pts is None or frame.pts < self._keys[start]):
                continue  # from an earlier entry, or not decodable without it
            if index == len(self._keys):
                raise MissingFramesError("more frames came than there should be")
            if not self._by_order and frame.pts != self._keys[index]:
                raise MissingFramesError(f"frame {index} bears another time")
            yield index, frame
            index += 1

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """The container and its stream."""
        with files.opened(self.path) as container:
            yield container, files.use(container, self._stream)

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
                if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                    raise files.encrypted(self.path)
                self._damaged |= bool(packet.is_corrupt)
                yield packet

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

    def _report(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total)


def _upright(frame: Any, aspect: float, turn: Any) -> Picture:
    """A decoded frame as `(H, W, 3)` RGB: 8 bits, alpha over black, square pixels, turned."""
    if frame.format.name == "pal8" or any(c.is_alpha for c in frame.format.components):
        picture = over_black(frame.to_ndarray(format="rgba"))
    else:
        picture = frame.to_ndarray(format="rgb24")
    if abs(aspect - 1) > 1e-3:
        picture = square_pixels(picture, aspect)
    return orient(picture, turn)


def _matrix(frame: Any) -> Any:
    """The display matrix that a frame states, or None.

    It holds until a frame states another: MP4's comes with every frame, but the messages inside
    H.264 and HEVC come with key frames only, or with the first.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    return None if side is None else np.frombuffer(bytes(side), np.int32)


def _distinct(times: Any) -> list[int] | None:
    """All times, in the order given; None where one is missing or there twice."""
    times = list(times)
    return None if None in times or len(set(times)) < len(times) else times


def _entries(stream: Any, packets: Sequence[_Packet]) -> list[tuple[int, int]]:
    """Where decoding can begin: presentation and decoding time of key frames.

    None where times that only rise belong to a codec that reorders: they may be decoding times, and
    are known to be right only once everything before was decoded.
    """
    codec = stream.codec_context
    if not (codec.codec.intra_only or codec.codec.canonical_name in _SEEKABLE):
        return []
    rising = all((a.pts or 0) < (b.pts or 0) for a, b in itertools.pairwise(packets))
    if rising and codec.has_b_frames:
        return []
    return sorted(
        (p.pts, p.pts if p.dts is None else p.dts) for p in packets if p.key and p.pts is not None
    )
