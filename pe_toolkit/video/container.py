"""A file that FFmpeg opens (through PyAV): its one stream that is the clip, and what else it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from pe_toolkit.errors import ClipError
from pe_toolkit.video.moving import MOTIONLESS, motion_level
from pe_toolkit.video.names import shown
from pe_toolkit.video.picture import resize

# Demuxers that take text for pictures, or that open other files named inside the file.
_NOT_A_CLIP = {"tty", "bin", "xbin", "adf", "idf", "hls", "concat", "dash", "sdp", "webvtt"}
# What containers call a track that they encrypted: Common Encryption, and Apple's.
_ENCRYPTED_TAGS = {"encv", "drmi"}
_SUPPORTED = "Give a video (MP4, MOV, MKV, WebM, ...), a GIF, or a folder of images."
_LOOK = 25  # frames of a stream that are looked at, to see whether anything moves in it
_BUFFER = 1 << 20  # bytes read at once: a long clip is read through for its times


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The container; FFmpeg gets an open file, never a name to interpret.

    A name would let `a%03d.png` mean a pattern and `x:y.mp4` a protocol; the empty protocol list
    keeps playlists from opening anything else.

    Raises:
        ClipError: not a video.
    """
    options = {"protocol_whitelist": "none"}
    try:
        with (
            path.open("rb") as file,
            av.open(
                file, options=options, metadata_errors="replace", buffer_size=_BUFFER
            ) as container,
        ):
            if set(container.format.name.split(",")) & _NOT_A_CLIP:
                raise ClipError(
                    f"Expected a video, but '{shown(path)}' looks like text or a playlist"
                    f" (read as '{container.format.name}').",
                    hint=_SUPPORTED,
                )
            yield container
    except (FFmpegError, UnicodeError) as error:
        raise _not_a_video(path, error) from error


def use(container: Any, index: int) -> Any:
    """The stream at `index`, decoded on all cores."""
    stream = container.streams[index]
    stream.thread_type = "AUTO"
    return stream


def choose_stream(path: Path) -> tuple[int, list[int]]:
    """Index of the video stream that is the clip, and those of all that could have been.

    Cover pictures are no videos. Of several streams, one that moves comes before a still picture,
    then the one that the file marks as default, then the larger, then the first.

    Raises:
        ClipError: no video stream, or one that cannot be decoded.
    """
    with opened(path) as container:
        streams = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not streams:
            sound = " It holds sound only." if container.streams.audio else ""
            raise ClipError(
                f"Expected a video stream in '{shown(path)}', found none.{sound}", hint=_SUPPORTED
            )
        known = [s for s in streams if s.codec_context is not None]
        if any(_is_encrypted(s) for s in streams):
            raise encrypted(path)
        if not known:
            raise ClipError(
                f"Expected a known codec in '{shown(path)}', but FFmpeg has no decoder for it.",
                hint="Convert the clip to H.264 MP4.",
            )
        rank = {
            s.index: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index)
            for s in known
        }
    moving = _moving(path, list(rank)) if len(rank) > 1 else {}
    ordered = sorted(rank, key=lambda i: (moving.get(i, 0), rank[i]), reverse=True)
    return ordered[0], [i for i in ordered if moving.get(i)]


def encrypted(path: Path) -> ClipError:
    """What is said of a clip that needs a key."""
    return ClipError(
        f"Expected a clip that can be decoded, but '{shown(path)}' is encrypted (DRM).",
        hint="Use a copy without protection: there is no way to give a key.",
    )


def _is_encrypted(stream: Any) -> bool:
    codec = stream.codec_context
    tag = "" if codec is None else codec.codec_tag
    return tag in _ENCRYPTED_TAGS or "enc_key_id" in stream.metadata  # WebM


def _moving(path: Path, indices: list[int]) -> dict[int, int]:
    """How far each stream moves: 0 one picture, 1 several alike, 2 pictures that differ."""
    shown: dict[int, int] = dict.fromkeys(indices, 0)
    with opened(path) as container:
        try:
            for packet in container.demux([container.streams[i] for i in indices]):
                if packet.size and not packet.is_discard:
                    shown[packet.stream_index] += 1
                if min(shown.values()) > 1:
                    break
        except FFmpegError:
            pass  # damaged further on: what came before tells enough
    several = [i for i in indices if shown[i] > 1]
    if len(several) < 2:
        return {i: int(i in several) for i in indices}
    return {i: 1 + _differ(path, i) if i in several else 0 for i in indices}


def _differ(path: Path, index: int) -> bool:
    """Whether the first pictures of a stream differ."""
    import numpy as np

    pictures = []
    with opened(path) as container:
        stream = use(container, index)
        try:
            for frame in container.decode(stream):
                picture = frame.to_ndarray(format="rgb24")
                pictures.append(resize(picture, (64, 64), "stretch"))
                if len(pictures) == _LOOK:
                    break
        except FFmpegError:
            pass
    return len(pictures) > 1 and motion_level(np.stack(pictures)) >= MOTIONLESS


def _not_a_video(path: Path, error: Exception) -> ClipError:
    with path.open("rb") as file:
        head = file.read(4096)
    if b"ftyp" in head[:16] and b"moov" not in head:
        return ClipError(
            f"Expected a complete video, but '{shown(path)}' has no index ('moov'): it is"
            " truncated.",
            hint="Download or copy the file again; a recording that broke off needs repair.",
        )
    if b'"pe_card"' in head:  # a key of the header (`card.header`), which is not here
        return ClipError(
            f"Expected a video, but '{shown(path)}' is a motion card.",
            hint="Give the clip that it is to be made of. `pe apply` makes videos with a card, `pe "
            "edit` another card.",
        )
    reason = getattr(error, "strerror", None) or str(error)
    return ClipError(
        f"Expected a video, but '{shown(path)}' is not one, or is damaged ({reason}).",
        hint=_SUPPORTED,
    )
