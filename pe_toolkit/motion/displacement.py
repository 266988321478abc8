"""Attention -> where every patch goes: the soft and the hard displacement.

For source frame i, target frame j and patch p, with attention `A_ij = softmax(logits)` over the
patches p' of frame j (DiTFlow, Eqs. 3-7):

    hard  argmax_p' A_ij[p, p']  -  p
    soft  sum_p' A_ij[p, p'] p'  -  p      (the expectation; `A` is never summed against an
                                            explicit `[HW, HW]` table of relative coordinates)

Both in patches, as `(dx, dy)`: x to the right, y down.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.attention import (
    check_queries_keys,
    check_tau,
    merge_heads,
    merged_queries_keys,
    no_autocast,
    row_logits,
)


def expected_positions(rows: Tensor, keys: Tensor, grid: TokenGrid) -> Tensor:
    """Where N query tokens expect to be in every frame.

    `(B, N, C)` scaled queries, `(B, S, C)` keys -> `(B, N, F, 2)` as (x, y) in patches.
    """
    coordinates = grid.coordinates(device=rows.device, dtype=rows.dtype)
    attention = row_logits(rows, keys, grid).softmax(-1)
    with no_autocast(rows.device.type):
        return attention @ coordinates


def rows_per_chunk(grid: TokenGrid, chunk: int) -> int:
    """Query tokens in a chunk of `chunk` source frames.

    Raises:
        UsageError: if chunk is below 1.
    """
    if chunk < 1:
        raise UsageError(f"Expected a chunk of at least one source frame, got {chunk}.")
    return chunk * grid.per_frame


def needs_checkpointing(enabled: bool, *tensors: Tensor) -> bool:
    """Whether there is a backward pass to save memory for."""
    return enabled and torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def soft_displacement(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    *,
    tau: float = 2.0,
    checkpointing: bool = True,
    chunk: int = 1,
) -> Tensor:
    """Differentiable displacement of every ordered pair of frames (i = j included).

    Args:
        q: `(B, heads, S, d)` queries of the video tokens, after QK-norm and rotary embedding.
        k: keys, same shape, dtype and device.
        grid: the token grid, `S = grid.tokens`.
        tau: temperature, larger is sharper.
        checkpointing: recompute the attention in the backward pass, so that only `chunk` source
            frames of it exist at a time. Same values and gradients; without it nothing is
            recomputed and `S*S` numbers are kept.
        chunk: source frames computed at once; more is faster on a GPU and takes more memory.

    Returns:
        `(B, F, F, H, W, 2)`: source frame, target frame, source patch, (dx, dy) in patches.
        float64 for float64 arguments, else float32.

    Raises:
        UsageError: on shapes that do not fit, a tau that is not positive or a chunk below 1.
    """
    check_queries_keys(q, k, grid)
    check_tau(tau)
    span = rows_per_chunk(grid, chunk)
    recompute = needs_checkpointing(checkpointing, q, k)
    queries, keys = merged_queries_keys(q, k, tau)
    parts = []
    # `split` and not slices: its backward writes one gradient instead of one per slice.
    for rows in torch.split(queries, span, dim=1):
        parts.append(
            checkpoint(
                expected_positions, rows, keys, grid, use_reentrant=False, preserve_rng_state=False
            )
            if recompute
            else expected_positions(rows, keys, grid)
        )
    target = torch.unflatten(torch.cat(parts, dim=1), 1, (grid.frames, grid.per_frame))
    source = grid.coordinates(device=q.device, dtype=target.dtype)
    offset = target - source[:, None]  # (B, F_i, HW, F_j, 2)
    return torch.unflatten(offset.transpose(2, 3), 3, (grid.height, grid.width))


@torch.no_grad()
def hard_displacement(
    q: Tensor, k: Tensor, grid: TokenGrid, *, mutual: bool = False, tau: float = 2.0
) -> Tensor:
    """Displacement to the most attended patch, for every ordered pair of frames (i = j included).

    Args:
        q: `(B, heads, S, d)` queries of the video tokens, after QK-norm and rotary embedding.
        k: keys, same shape, dtype and device.
        grid: the token grid, `S = grid.tokens`.
        mutual: take the patch with the largest product of the attention that p pays to it, among
            all of frame j, and the share of p in what all of frame i pays to it (the dual softmax
            of LoFTR, arXiv 2104.00680, Eq. 1). A patch that everything looks at matches nothing.
        tau: temperature of the attention; without `mutual` it changes nothing.

    Returns:
        `(B, F, F, H, W, 2)` int16: source frame, target frame, source patch, (dx, dy) in
        patches. Of equally attended patches the first in row order wins. Carries no gradient.

    Raises:
        UsageError: on shapes that do not fit, or a tau that is not positive.
    """
    check_queries_keys(q, k, grid)
    check_tau(tau)
    if mutual:
        queries, keys = merged_queries_keys(q, k, tau)
    else:
        queries, keys = merge_heads(q), merge_heads(k)  # a positive scale does not move the argmax
    matches = []
    for rows in torch.split(queries, grid.per_frame, dim=1):
        logits = row_logits(rows, keys, grid)  # (B, HW of i, F_j, HW of j)
        if mutual:
            # Log of the product, without the sum over the target patches: it is the same for all.
            logits = 2 * logits - logits.logsumexp(1, keepdim=True)
        matches.append(logits.argmax(-1))
    best = torch.stack(matches, dim=1)
    # best: (B, F_i, HW, F_j)
    target = torch.stack([best % grid.width, best // grid.width], dim=-1)
    offset = target - grid.coordinates(device=q.device)[:, None]
    return torch.unflatten(offset.transpose(2, 3), 3, (grid.height, grid.width)).to(torch.int16)
