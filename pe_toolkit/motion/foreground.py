"""A clip's latents without what lies behind its things.

Before a camera that rests, a place of the background is the same in all frames that show it; where
no frame does, it is taken for the mean of the rest. What is left when that is taken away is where
the things are and when: its phase (`motion.phase`) says nothing of the background, which is left to
the noise of each generation (docs/experiments.md). The mean is taken of what no thing covers, not
the median over time: what hardly moves would be its own background.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.errors import UsageError


def foreground(latents: Tensor, cover: Tensor) -> Tensor:
    """The latents minus their background.

    Args:
        latents: `(F', C, h, w)`, any floating dtype; F' a multiple of F.
        cover: `(F, H, W)` bool, the patches that things cover; grown by a latent at their borders.

    Returns:
        `(F', C, h, w)` float32 on the device of `latents`. A frame without a thing stays as it is:
        of nothing the phase would be arbitrary, and the same in every generation. So do all of them
        if nothing of the background is seen.

    Raises:
        UsageError: covers whose frames do not divide those of the latents.
    """
    if cover.ndim != 3 or not len(cover) or len(latents) % len(cover):
        raise UsageError(
            f"Expected covers of a part of {len(latents)} latent frames, got {tuple(cover.shape)}."
        )
    z = latents.float()
    cover = cover.to(z.device).repeat_interleave(len(z) // len(cover), 0)
    things = functional.interpolate(cover[:, None].to(z), size=z.shape[-2:])
    free = 1 - functional.max_pool2d(things, 3, 1, 1)  # (F, 1, h, w)
    seen = free.sum(0)
    if not bool(seen.any()):
        return z
    total = (z * free).sum(0)  # (C, h, w)
    mean = total.sum((-2, -1)) / seen.sum()
    behind = torch.where(seen > 0, total / seen.clamp(min=1), mean[:, None, None])
    return torch.where(cover.flatten(1).any(1)[:, None, None, None], z - behind, z)
