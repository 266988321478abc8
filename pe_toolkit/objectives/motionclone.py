"""MotionClone (Ling et al., "MotionClone: Training-Free Motion Cloning for Controllable Video
Generation", arXiv 2406.05338): the strongest attention across frames, where and how strong.

For the attention A_ij(p, .) that patch p of frame i pays to the patches of frame j (a softmax over
that frame, sharpened by tau, of the mean of the heads' logits: the same as for the AMF):

    index    k(i, j, p) = argmax A_ij^ref(p, .)
    loss     mean over i != j and p of  (A_ij(p, k) - A_ij^ref(p, k))^2

The original takes the temporal attention of a U-Net, over the frames at one place, and keeps its
strongest entry for each query (*primary* temporal attention). In joint attention an entry is a
place in another frame; one is kept for each of them. The reference is read once, from its clean
latents at timestep 0, as DiTFlow (arXiv 2412.07776) reads it (the original: from latents noised to
step 400 of 1000); the location-aware semantic guidance of the original is left out: it is no loss
of motion. Only the kept entries are compared, all with one weight.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.attention import (
    check_queries_keys,
    check_tau,
    merged_queries_keys,
    row_logits,
)
from pe_toolkit.motion.displacement import needs_checkpointing
from pe_toolkit.objectives.base import MotionReference


class MotionCloneObjective:
    """The loss of this module.

    Args:
        q, k: `(1, heads, S, d)` of the reference, any floating dtype.
        grid: the token grid, `S = grid.tokens`; two frames or more.
        tau: temperature of the attention, larger is sharper.

    Raises:
        UsageError: on shapes that do not fit, or a tau that is not positive.
    """

    reads: ClassVar[Literal["attention", "features"]] = "attention"

    def __init__(self, q: Tensor, k: Tensor, grid: TokenGrid, tau: float = 2.0) -> None:
        check_queries_keys(q, k, grid)
        check_tau(tau)
        self.grid, self.tau = grid, tau
        index, strength = [], []
        with torch.no_grad():
            queries, keys = merged_queries_keys(q, k, tau)
            for rows in torch.split(queries, grid.per_frame, dim=1):
                best = row_logits(rows, keys, grid)[0].softmax(-1).max(-1)  # (HW, F)
                index.append(best.indices)
                strength.append(best.values)
        self._index = torch.stack(index)  # (F, HW, F): source frame, patch, target frame
        self._strength = torch.stack(strength)

    @classmethod
    def of(cls, reference: MotionReference, tau: float) -> Self:
        """From a reference."""
        return cls(*reference.queries_and_keys(), reference.flow.grid, tau)

    def loss(self, q: Tensor, k: Tensor) -> Tensor:
        """Distance of a generation to the reference, from 0 to 1, averaged over the batch.

        Args:
            q: `(B, heads, S, d)` queries of the video tokens, after QK-norm and positions.
            k: keys, same shape, dtype and device.

        Returns:
            A scalar; float64 for float64 arguments, else float32.

        Raises:
            UsageError: on shapes that do not fit the target's grid.
        """
        check_queries_keys(q, k, self.grid)
        recompute = needs_checkpointing(True, q, k)
        queries, keys = merged_queries_keys(q, k, self.tau)
        total = queries.new_zeros(())
        # The attention from one frame at a time, and computed again for the backward pass.
        for i, rows in enumerate(torch.split(queries, self.grid.per_frame, dim=1)):
            arguments = (rows, keys, self._index[i].to(q.device), self._strength[i], i)
            total = total + (
                checkpoint(self._squares, *arguments, use_reentrant=False, preserve_rng_state=False)
                if recompute
                else self._squares(*arguments)
            )
        pairs = self.grid.frames * (self.grid.frames - 1) * self.grid.per_frame
        return total / (q.shape[0] * pairs)

    def _squares(
        self, rows: Tensor, keys: Tensor, index: Tensor, strength: Tensor, i: int
    ) -> Tensor:
        """Sum of the squares of frame `i`, its attention to itself left out."""
        logits = row_logits(rows, keys, self.grid)  # (B, HW, F, HW)
        chosen = logits.gather(-1, index.expand(len(rows), -1, -1)[..., None])[..., 0]
        difference = (chosen - logits.logsumexp(-1)).exp() - strength.to(rows.device, rows.dtype)
        others = torch.arange(self.grid.frames, device=rows.device) != i
        return (difference.square() * others).sum()
