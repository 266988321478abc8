"""Queries and keys -> cross-frame attention logits, in the exact cheap formulation.

The official code averages `[heads, S, S]` logits over the heads. A mean over heads of
`Q_h K_h^T` is one product of the head-concatenated queries and keys, divided by the number of
heads: the same values and gradients without the `heads`-fold memory.

The paper's Eq. 2 averages Q and K themselves, which is another quantity; this follows the
official code.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid


def check_queries_keys(q: Tensor, k: Tensor, grid: TokenGrid) -> None:
    """Check that `q` and `k` are `(B, heads, S, d)` floating point tokens of `grid`.

    Raises:
        UsageError: naming what came instead.
    """
    if q.ndim != 4 or q.shape != k.shape:
        raise UsageError(
            "Expected queries and keys of one shape (batch, heads, tokens, channels), "
            f"got {tuple(q.shape)} and {tuple(k.shape)}."
        )
    if 0 in q.shape:
        raise UsageError(f"Expected at least one of everything, got {tuple(q.shape)}.")
    if q.shape[2] != grid.tokens:
        raise UsageError(
            f"Expected {grid.tokens} video tokens for a {grid} grid, got {q.shape[2]}.",
            hint="Cut off the text tokens before calling, and pass the grid of this very clip.",
        )
    if not q.is_floating_point() or q.dtype != k.dtype or q.device != k.device:
        raise UsageError(
            "Expected floating point queries and keys of one dtype on one device, "
            f"got {q.dtype} on {q.device} and {k.dtype} on {k.device}."
        )


def check_tau(tau: float) -> None:
    """Raises UsageError unless the temperature is a positive finite number."""
    if not (math.isfinite(tau) and tau > 0):
        raise UsageError(f"Expected a positive temperature tau, got {tau}.")


def merge_heads(x: Tensor) -> Tensor:
    """`(B, heads, S, d)` -> `(B, S, heads*d)`, float16 and bfloat16 widened to float32.

    The widening is on purpose. Rounding the logits to bfloat16 (off by 0.06 at 30, by 0.25 at
    70) moves expected positions by up to half a patch and makes neighbours tie in the argmax,
    and in float16 the sum over `heads*d` products can overflow. Products of half-precision
    numbers are exact in float32, and in TF32 too, where the user allows it.
    """
    merged = x.transpose(1, 2).flatten(2)
    return merged if merged.dtype == torch.float64 else merged.float()


def merged_queries_keys(q: Tensor, k: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """`(B, S, heads*d)` queries, scaled so that `Q K^T` are the logits, and keys."""
    heads, channels = q.shape[1], q.shape[3]
    # Scaling the queries instead of the logits costs S*C instead of S*S multiplications.
    return merge_heads(q) * (tau / (heads * math.sqrt(channels))), merge_heads(k)


def no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Keep autocast from rounding these products to half precision again."""
    if device_type == "meta":  # autocast knows no such device
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def row_logits(rows: Tensor, keys: Tensor, grid: TokenGrid) -> Tensor:
    """Logits of some query tokens against every frame.

    Args:
        rows: `(B, N, C)` scaled queries of any N tokens.
        keys: `(B, S, C)` keys of all tokens.
        grid: the token grid.

    Returns:
        `(B, N, F, H*W)` in the dtype of the arguments, autocast or not.
    """
    with no_autocast(rows.device.type):
        logits = torch.matmul(rows, keys.transpose(1, 2))
    return torch.unflatten(logits, -1, (grid.frames, grid.per_frame))


def pair_logits(q: Tensor, k: Tensor, grid: TokenGrid, tau: float, i: int) -> Tensor:
    """Attention logits from source frame `i` to every frame: `tau * mean_h(Q_h K_h^T) / sqrt(d)`.

    Args:
        q: `(B, heads, S, d)` queries of the video tokens, after QK-norm and rotary embedding.
        k: keys, same shape, dtype and device.
        grid: the token grid, `S = grid.tokens`.
        tau: temperature, larger is sharper.
        i: source frame, 0 .. F-1.

    Returns:
        `(B, H*W, F, H*W)`: source patch, target frame, target patch. float64 for float64
        arguments, else float32. Attention is the softmax over the **last** axis: every target
        frame by itself.

    Raises:
        UsageError: on another shape, a frame outside the grid, or a tau that is not positive.
    """
    check_queries_keys(q, k, grid)
    check_tau(tau)
    if not 0 <= i < grid.frames:
        raise UsageError(f"Expected a source frame in 0..{grid.frames - 1}, got {i}.")
    source = slice(i * grid.per_frame, (i + 1) * grid.per_frame)
    rows, keys = merged_queries_keys(q[:, :, source], k, tau)
    return row_logits(rows, keys, grid)
