"""`AttentionMotionFlow`: the motion of a reference clip, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pe_toolkit.errors import BackboneError, UsageError
from pe_toolkit.grid import MAX_SIDE, TokenGrid
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.motion.masks import (
    followed_mask,
    forward_backward_mask,
    fraction_of_pairs,
    mask_by_name,
    matched_fraction,
    matched_patches,
    nonzero_mask,
)

FAR = 2
"""Patches that something has to get away, in x or y, to count as moving."""


@dataclass(frozen=True, eq=False)
class AttentionMotionFlow:
    """Where every patch of every frame goes in every other frame, and which of it to believe.

    Attributes:
        displacement: `(F, F, H, W, 2)` int8: source frame, target frame, source patch, (dx, dy)
            in patches, never leaving the frame.
        mask: `(F, F, H, W)` bool, True where the displacement counts.
        grid: the token grid.

    Raises:
        UsageError: if anything differs from that, or a side has over 128 patches.
    """

    displacement: Tensor
    mask: Tensor
    grid: TokenGrid

    def __post_init__(self) -> None:
        frames, height, width = self.grid
        pairs = (frames, frames, height, width)
        if max(height, width) > MAX_SIDE:
            raise UsageError(f"Expected at most {MAX_SIDE} patches along a side, got {self.grid}.")
        if self.displacement.dtype != torch.int8 or self.displacement.shape != (*pairs, 2):
            raise UsageError(
                f"Expected an int8 displacement {(*pairs, 2)} for a {self.grid} grid, "
                f"got {self.displacement.dtype} {tuple(self.displacement.shape)}."
            )
        if self.mask.dtype != torch.bool or self.mask.shape != pairs:
            raise UsageError(
                f"Expected a bool mask {pairs} for a {self.grid} grid, "
                f"got {self.mask.dtype} {tuple(self.mask.shape)}."
            )
        matched_patches(self.displacement)  # raises where one leaves the frame

    @classmethod
    def from_qk(
        cls,
        q: Tensor,
        k: Tensor,
        grid: TokenGrid,
        mask: str = "forward-backward",
        *,
        mutual: bool = False,
    ) -> AttentionMotionFlow:
        """Flow of the reference from its queries and keys.

        Args:
            q: `(1, heads, S, d)` queries of the video tokens, after QK-norm and rotary embedding.
            k: keys, same shape, dtype and device.
            grid: the token grid, `S = grid.tokens`.
            mask: a name in `pe_toolkit.motion.masks.MASKS`.
            mutual: match both ways (`hard_displacement`).

        Returns:
            A flow on the CPU. Its mask may be empty: whoever needs motion has to check.

        Raises:
            UsageError: on shapes that do not fit, more than one clip, or an unknown mask.
            BackboneError: if the queries or keys are not finite.
        """
        keep = mask_by_name(mask)
        if q.ndim == 4 and q.shape[0] != 1:
            raise UsageError(f"Expected the queries and keys of one clip, got {q.shape[0]}.")
        if max(grid.height, grid.width) > MAX_SIDE:
            raise UsageError(f"Expected at most {MAX_SIDE} patches along a side, got {grid}.")
        displacement = hard_displacement(q, k, grid, mutual=mutual)[0].to("cpu", torch.int8)
        if not bool(q.isfinite().all() and k.isfinite().all()):
            raise BackboneError(
                "Expected finite queries and keys of the reference, got NaN or infinity.",
                hint="Run the backbone in bfloat16 or float32; float16 may overflow.",
            )
        return cls(displacement, keep(displacement), grid)

    @property
    def matched(self) -> float:
        """Share in [0, 1] of patches, over pairs of different frames, that could be matched."""
        return matched_fraction(self.displacement)

    @property
    def moving(self) -> float:
        """Share in [0, 1] of patches, over pairs of different frames, matched and displaced."""
        return fraction_of_pairs(forward_backward_mask(self.displacement))

    @property
    def followed(self) -> float:
        """Share in [0, 1] of patches, over pairs of different frames, that are displaced and can be
        followed through the clip (`masks.followed_mask`), whatever the mask keeps. Patches that
        never get `FAR` patches away do not count: in a clip at rest, the argmax wanders by one.
        """
        return followed_share(self.displacement)

    @property
    def kept(self) -> float:
        """Share in [0, 1] of all entries that the mask keeps."""
        return self.mask.double().mean().item()


def followed_share(flow: Tensor) -> float:
    """`AttentionMotionFlow.followed` of a hard flow `(F, F, H, W, 2)` of integers."""
    far = (flow.abs().amax((1, 4)) >= FAR)[:, None]  # (F, 1, H, W)
    return fraction_of_pairs(followed_mask(flow) & nonzero_mask(flow) & far)
