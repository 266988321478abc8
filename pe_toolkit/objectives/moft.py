"""MOFT, motion features (Xiao et al., "Video Diffusion Models are Training-free Motion Interpreter
and Controller", arXiv 2405.14864): the channels that move, without what stays.

For hidden states h(f, p) of latent frame f and patch p:

    content removed     m(f, p) = h(f, p) - mean over f of h(f, p)
    motion channels     the SHARE of all channels with the largest absolute weight in the first
                        principal component of the reference's m
    loss                mean over f and p of  1 - cos(m(f, p), m_ref(f, p))  in these channels

What is the same in all frames costs nothing. Places are compared one by one: the target is tied to
where things are in the reference.

Adapted to a transformer with joint attention as DiTFlow (arXiv 2412.07776) adapts its baselines:
features are the video tokens' hidden states after one block, of the reference from its clean
latents at timestep 0 (the original reads an up-sampling block of a U-Net under inversion); channels
come from the reference alone; cosines over channels instead of squared distances, because hidden
states under noise have other lengths than clean ones; all places, no mask drawn by hand.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from pe_toolkit.errors import MotionError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.objectives.base import MotionReference

SHARE = 0.04
"""Of all channels: that of DiTFlow's configuration."""


class MoftObjective:
    """The loss of this module.

    Args:
        features: `(1, S, channels)` of the reference, any floating dtype.
        grid: the token grid, `S = grid.tokens`.
        share: of the channels that count, above 0, to 1; at least one does.

    Raises:
        UsageError: features of another grid.
        MotionError: all frames of the reference have the same features.
    """

    reads: ClassVar[Literal["attention", "features"]] = "features"

    def __init__(self, features: Tensor, grid: TokenGrid, share: float = SHARE) -> None:
        self.grid = grid
        moving = self._moving(features)
        rows = moving.flatten(0, -2)
        # Not zero, but rounding, where all frames are equal.
        if float(rows.norm()) <= 1e-6 * float(features.norm()):
            raise MotionError(
                "Expected frames that differ in the reference, got the same features in all.",
                "Take a clip (or a part of it) in which something clearly moves.",
            )
        count = max(1, int(share * rows.shape[1]))
        # The last eigenvector of the covariance: m has mean 0 at every place.
        first = torch.linalg.eigh(rows.T @ rows)[1][:, -1]
        self.channels = first.abs().topk(count).indices.sort().values
        self._target = moving[..., self.channels]

    @classmethod
    def of(cls, reference: MotionReference, tau: float) -> Self:
        """From a reference; there is no attention that `tau` would sharpen."""
        return cls(reference.features(), reference.flow.grid)

    def loss(self, features: Tensor) -> Tensor:
        """Distance of a generation to the reference, from 0 to 2, averaged over the batch.

        Args:
            features: `(B, S, channels)` of the generation, floating.

        Returns:
            A scalar; float64 for float64 features, else float32.

        Raises:
            UsageError: features of another grid.
        """
        found = self._moving(features[..., self.channels.to(features.device)])
        target = self._target.to(found.device, found.dtype)
        return (1 - F.cosine_similarity(found, target, dim=-1)).mean()

    def _moving(self, features: Tensor) -> Tensor:
        """`(B, F, H, W, channels)` without its mean over frames."""
        wide = features if features.dtype == torch.float64 else features.float()
        placed = self.grid.unflatten(wide)
        return placed - placed.mean(1, keepdim=True)
