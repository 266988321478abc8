"""Clips in and out: read a reference as RGB frames, check that it moves, write videos and images.

Everything here works on `uint8` numpy arrays `(F, H, W, 3)`, RGB; nothing imports torch.
"""

from __future__ import annotations

from pe_toolkit.video.clip import Clip, read_clip, read_frames
from pe_toolkit.video.moving import motion_level, require_motion
from pe_toolkit.video.output import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    check_output,
    encode_mp4,
    write_atomic,
    write_image,
    write_video,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Clip",
    "check_output",
    "encode_mp4",
    "motion_level",
    "read_clip",
    "read_frames",
    "require_motion",
    "write_atomic",
    "write_image",
    "write_video",
]
