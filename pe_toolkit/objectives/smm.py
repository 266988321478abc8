"""SMM, space-time features (Yatim et al., "Space-Time Diffusion Features for Zero-Shot Text-Driven
Motion Transfer", arXiv 2311.17009): how the mean feature of a frame changes over time.

With phi_f the spatial mean of the hidden states of latent frame f (the *spatial marginal mean*),

    loss = mean over f < g of  1 - cos(phi_f - phi_g, phi_f^ref - phi_g^ref)

with the cosine over channels, as the released code computes it (the paper writes squared
distances). A shift of appearance that is the same in all frames cancels in the differences, and
where in the frame something is, is averaged away.

Adapted to a transformer with joint attention as DiTFlow (arXiv 2412.07776) adapts its baselines:
features are the video tokens' hidden states after one block, instead of activations of a
convolution; those of the reference are read once from its clean latents at timestep 0, instead of
from inverted latents at every step. Each clip has its own anchor: the released port takes that of
the reference for both, so that appearance costs there. Noise is not restarted from an optimised
sample. Pairs of frames between which the reference's mean does not change at all are left out.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from pe_toolkit.errors import MotionError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.objectives.base import MotionReference


class SmmObjective:
    """The loss of this module.

    Args:
        features: `(1, S, channels)` of the reference, any floating dtype.
        grid: the token grid, `S = grid.tokens`.

    Raises:
        UsageError: features of another grid.
        MotionError: no frame of the reference differs from another.
    """

    reads: ClassVar[Literal["attention", "features"]] = "features"

    def __init__(self, features: Tensor, grid: TokenGrid) -> None:
        self.grid = grid
        first, second = torch.triu_indices(grid.frames, grid.frames, 1, device=features.device)
        target = self._differences(features, first, second)
        moves = target[0].norm(dim=-1) > 0
        if not bool(moves.any()):
            raise MotionError(
                "Expected frames that differ in the reference, got the same features in all.",
                "Take a clip (or a part of it) in which something clearly moves.",
            )
        self._pairs = first[moves], second[moves]
        self._target = target[:, moves]

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
        found = self._differences(features, *(p.to(features.device) for p in self._pairs))
        target = self._target.to(found.device, found.dtype)
        return (1 - F.cosine_similarity(found, target, dim=-1)).mean()

    def _differences(self, features: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """`(B, pairs, channels)`: how the mean feature differs between two frames."""
        wide = features if features.dtype == torch.float64 else features.float()
        means = self.grid.unflatten(wide).mean((2, 3))  # (B, F, channels)
        return means[:, first] - means[:, second]
