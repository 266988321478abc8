"""What a training would read of a clip, without the training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.motion.apart import Apart, taken_apart
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import consistent_mask
from pe_toolkit.motion.moves import Moves
from pe_toolkit.motion.path import mean_path, one_path
from pe_toolkit.training.config import TrainConfig
from pe_toolkit.training.prepare import prepare
from pe_toolkit.training.reference import read_reference
from pe_toolkit.video import Clip


@dataclass(frozen=True)
class Look:
    """The motion that was read.

    Attributes:
        flow: as a training has it, with the mask of what it compares.
        matched: `(F, F, H, W)` bool: found again on the way back, moving or not.
        path: `(F, 2)` (dx, dy) in patches: the one path that explains the most, relative to the
            first frame (`motion.path.mean_path`).
        share: how much of what moves it explains, at most 1 (`motion.path.one_path`).
        moves: camera and subjects, as a card keeps them.
        apart: which displacements belong to which of them.
    """

    flow: AttentionMotionFlow
    matched: NDArray[np.bool_]
    path: NDArray[np.float32]
    share: float
    moves: Moves
    apart: Apart


def look(
    adapter: Backbone,
    clip: Clip,
    config: TrainConfig | None = None,
    *,
    image: NDArray[np.uint8] | None = None,
) -> Look:
    """Read the motion of a clip as `train` would: one encoding and one pass of the transformer.

    Args:
        adapter, clip, config, image: as in `train`. Nothing of `config` counts but how the
            reference is read and its mask.

    Raises:
        UsageError, MotionError, BackboneError, UnsupportedError: as `train`. A mask that keeps
            nothing is no error here.
    """
    run = prepare(adapter, clip, config or TrainConfig(), image)
    with adapter.frozen(), adapter.sent_away():
        silence = adapter.encode_text([""])
        reference = read_reference(run, silence)
    flow = reference.flow
    matched = consistent_mask(flow.displacement).numpy()
    moves = reference.moves
    path, share = mean_path(flow).numpy(), one_path(flow)
    return Look(flow, matched, path, share, moves, taken_apart(flow, moves))
