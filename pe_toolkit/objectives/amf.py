"""The AMF loss (DiTFlow, Eq. 8): soft displacement of a generation against the reference's.

The mean squared difference, in patches squared, over the entries that the reference's mask keeps
and over both components, as the official code computes it. (The paper writes a sum over all
entries, without a mask.)
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pe_toolkit.errors import MotionError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.attention import (
    check_queries_keys,
    check_tau,
    merged_queries_keys,
    no_autocast,
    row_logits,
)
from pe_toolkit.motion.displacement import (
    expected_positions,
    needs_checkpointing,
    rows_per_chunk,
)
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import MASKS
from pe_toolkit.objectives.base import MotionReference


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

    Only source patches with something kept in the mask are computed, `chunk` frames' worth of them
    at a time. The value is that of `amf_loss(soft_displacement(q, k), ...)` up to the order of
    summation.

    Args:
        target: the reference's motion.
        tau: temperature of the soft displacement, larger is sharper.
        checkpointing: keep no attention for the backward pass: each chunk's gradient is computed
            with its loss, so that nothing is computed twice either (see `_Squares`). Without it
            autograd keeps `S*S` numbers.
        chunk: attention rows computed at once, in frames.

    Raises:
        MotionError: if the target's mask keeps nothing.
        UsageError: if tau is not positive or chunk is below 1.
    """

    reads: ClassVar[Literal["attention", "features"]] = "attention"

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
        self._there: tuple[torch.device, torch.dtype, tuple[Tensor, Tensor, Tensor]] | None = None

    @classmethod
    def of(cls, reference: MotionReference, tau: float) -> Self:
        """From a reference: its flow alone."""
        return cls(reference.flow, tau)

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
        wide = q.dtype if q.dtype == torch.float64 else torch.float32
        rows, weight, position = self._target(q.device, wide)
        queries, keys = merged_queries_keys(q.index_select(2, rows), k, self.tau)
        if recompute:
            total: Tensor = _Squares.apply(  # type: ignore[no-untyped-call]
                queries, keys, position, weight, self.grid, self._span
            )
        else:
            total = queries.new_zeros(())
            for part in _chunks(queries, self._span):
                expected = expected_positions(queries[:, part], keys, self.grid)
                total = total + _squares(expected - position[part], weight[part])
        return total / (q.shape[0] * self.kept * 2)

    def _target(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, weights and positions there; copied once, because a copy makes a GPU wait."""
        if self._there is None or self._there[:2] != (device, dtype):
            self._there = (
                device,
                dtype,
                (
                    self._rows.to(device),
                    self._weight.to(device, dtype),
                    self._position.to(device, dtype),
                ),
            )
        return self._there[2]


class _Squares(torch.autograd.Function):
    """Sum of the weighted squares, with its gradient computed chunk by chunk in the forward pass.

    With attention `A = softmax(Z)` over the patches p of one frame, expected position `e = A p` and
    weighted squares `L = w |e - x|^2`, the gradient of a row is

        dL/dZ_p = A_p * (g . p - g . e)      with g = 2 w (e - x)

    so `A` is needed once, where it is. Checkpointing would compute it twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        position: Tensor,
        weight: Tensor,
        grid: TokenGrid,
        span: int,
    ) -> Tensor:
        places = grid.coordinates(device=queries.device, dtype=queries.dtype)  # (HW, 2)
        total = queries.new_zeros(())
        to_queries, to_keys = torch.empty_like(queries), torch.zeros_like(keys)
        with no_autocast(queries.device.type):
            for part in _chunks(queries, span):
                rows = queries[:, part]
                attention = row_logits(rows, keys, grid).softmax(-1)  # (B, n, F, HW)
                expected = attention @ places
                difference = expected - position[part]
                total = total + _squares(difference, weight[part])
                slope = 2 * difference * weight[part][..., None]  # (B, n, F, 2)
                level = (slope * expected).sum(-1, keepdim=True)
                attention.mul_((slope @ places.T).sub_(level))
                flat = attention.flatten(2)  # (B, n, S)
                to_queries[:, part] = flat @ keys
                to_keys.baddbmm_(flat.transpose(1, 2), rows)
        ctx.save_for_backward(to_queries, to_keys)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_queries, to_keys = ctx.saved_tensors
        return to_queries * gradient, to_keys * gradient, None, None, None, None


def _chunks(queries: Tensor, span: int) -> list[slice]:
    return [slice(first, first + span) for first in range(0, queries.shape[1], span)]


def _squares(difference: Tensor, weight: Tensor) -> Tensor:
    return (difference.square().sum(-1) * weight).sum()


def _check_mask(mask: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise UsageError(f"Expected a bool mask, got {mask.dtype}.")
    if not bool(mask.any()):
        raise MotionError(
            "Expected motion in the reference, but the mask keeps none of its displacements.",
            hint="Take a clip (or a part of it) in which something clearly moves, "
            f"or another mask: {', '.join(MASKS)}.",
        )
