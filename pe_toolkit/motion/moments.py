"""Which frames of a clip a latent frame stands for."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pe_toolkit.grid import frames_per_latent


def pictures_of(frames: NDArray[np.uint8], latent: int) -> Tensor:
    """uint8 RGB `(N, H, W, 3)` -> `(latent, H, W)` float32 grey values, one per latent frame."""
    chosen = [frames[[a, b]].mean(0).mean(-1) for a, b in frames_of(len(frames), latent)]
    return torch.from_numpy(np.stack(chosen)).float()


def frames_of(count: int, latent: int) -> list[tuple[int, int]]:
    """Which two of `count` frames stand for each of `latent` latent frames: the middle of those
    that the VAE made it from (`grid.frames_per_latent`).
    """
    if latent == 1:
        return [(0, 0)]
    first, ratio = frames_per_latent(count, latent)
    others = [first + (k - 1) * ratio + (ratio - 1) / 2 for k in range(1, latent)]
    centres = [(first - 1) / 2, *others]
    return [(math.floor(c), math.ceil(c)) for c in centres]
