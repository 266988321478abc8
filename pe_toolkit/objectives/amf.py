"""The AMF loss (DiTFlow, Eq. 8): soft displacement of a generation against the reference's.

The mean squared difference, in patches squared, over the entries that the reference's mask keeps
and over both components, as the official code computes it. (The paper writes a sum over all
entries, without a mask.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pe_toolkit.errors import MotionError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.attention import check_queries_keys, check_tau, merged_queries_keys
from pe_toolkit.motion.displacement import (
    expected_positions,
    needs_checkpointing,
    rows_per_chunk,
)
from pe_toolkit.motion.flow import AttentionMotionFlow


def amf_loss(soft: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of displacements over the kept entries.

    Args:
        soft: `(B, F, F, H, W, 2)` displacement of the generation, in patches, floating point.
        target: `(F, F, H, W, 2)` displacement of the reference, any real dtype.
        mask: `(F, F, H, W)` bool, True where an entry counts.

    Returns:
        A scalar in the dtype of `soft`, averaged over the batch.

    Raises:
        UsageError: if the shapes do not belong together.
        MotionError: if the mask keeps nothing.
    """
    if soft.ndim != 6 or soft.shape[1:] != target.shape or target.shape[:-1] != mask.shape:
        raise UsageError(
            "Expected displacements (B, F, F, H, W, 2) and (F, F, H, W, 2) with a mask "
            f"(F, F, H, W), got {tuple(soft.shape)}, {tuple(target.shape)} and {tuple(mask.shape)}."
        )
    _check_mask(mask)
    mask = mask.to(soft.device)
    difference = soft[:, mask] - target.to(soft.device, soft.dtype)[mask]
    return difference.square().mean()


class AmfObjective:
    """`amf_loss` straight from queries and keys, without ever holding the displacement.

    Only source patches with something kept in the mask are computed: `chunk` frames' worth of
    them at a time, the loss inside the checkpoint. The value is that of
    `amf_loss(soft_displacement(q, k), ...)` up to the order of summation.

    Args:
        target: the reference's motion.
        tau: temperature of the soft displacement, larger is sharper.
        checkpointing: recompute the attention in the backward pass instead of keeping it.
        chunk: attention rows computed at once, in frames.

    Raises:
        MotionError: if the target's mask keeps nothing.
        UsageError: if tau is not positive or chunk is below 1.
    """

    def __init__(
        self,
        target: AttentionMotionFlow,
        tau: float = 2.0,
        *,
        checkpointing: bool = True,
        chunk: int = 1,
    ) -> None:
        check_tau(tau)
        _check_mask(target.mask)
        self.grid: TokenGrid = target.grid
        self.tau = tau
        self.checkpointing = checkpointing
        self.kept = int(target.mask.sum())
        self._span = rows_per_chunk(target.grid, chunk)
        # From (source frame, target frame, patch) to (source token, target frame): a query token
        # is one row of attention, whichever frame it lies in.
        weight = target.mask.flatten(2).transpose(1, 2).flatten(0, 1)  # (S, F)
        offset = target.displacement.flatten(2, 3).transpose(1, 2).flatten(0, 1)  # (S, F, 2)
        source = target.grid.coordinates(device=offset.device).repeat(target.grid.frames, 1)
        self._rows = weight.any(1).nonzero().flatten()
        self._weight = weight[self._rows]
        self._position = (offset + source[:, None])[self._rows]

    def loss(self, q: Tensor, k: Tensor) -> Tensor:
        """Distance of a generation's motion to the target's.

        Args:
            q: `(B, heads, S, d)` queries of the video tokens, after QK-norm and rotary embedding.
            k: keys, same shape, dtype and device.

        Returns:
            A scalar in patches squared, averaged over the batch; float64 for float64 arguments,
            else float32.

        Raises:
            UsageError: on shapes that do not fit the target's grid.
        """
        check_queries_keys(q, k, self.grid)
        recompute = needs_checkpointing(self.checkpointing, q, k)
        rows = self._rows.to(q.device)
        queries, keys = merged_queries_keys(q.index_select(2, rows), k, self.tau)
        weights = torch.split(self._weight.to(q.device, queries.dtype), self._span)
        positions = torch.split(self._position.to(q.device, queries.dtype), self._span)
        total = queries.new_zeros(())
        for parts in zip(torch.split(queries, self._span, dim=1), positions, weights, strict=True):
            total = total + (
                checkpoint(
                    self._squares, keys, *parts, use_reentrant=False, preserve_rng_state=False
                )
                if recompute
                else self._squares(keys, *parts)
            )
        return total / (q.shape[0] * self.kept * 2)

    def _squares(self, keys: Tensor, rows: Tensor, position: Tensor, weight: Tensor) -> Tensor:
        difference = expected_positions(rows, keys, self.grid) - position
        return (difference.square().sum(-1) * weight).sum()


def _check_mask(mask: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise UsageError(f"Expected a bool mask, got {mask.dtype}.")
    if not bool(mask.any()):
        raise MotionError(
            "Expected motion in the reference, but the mask keeps none of its displacements.",
            hint="Take a clip (or a part of it) in which something clearly moves, "
            "or another mask: none, nonzero, consistent, forward-backward.",
        )
