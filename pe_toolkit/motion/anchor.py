"""Motion as one offset per patch, relative to an anchor frame: a start for positions.

A patch that pretends to sit where it was in the anchor frame attends across frames as if nothing
had moved in between: positions shifted by *minus* these offsets carry the motion before any
optimisation (the idea of RoPECraft, without an optical flow network).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import forward_backward_mask, mask_by_name

FILLS = ("smooth", "global", "mean", "zero")


def anchor_offsets(
    flow: AttentionMotionFlow,
    anchor: int = 0,
    *,
    fill: str = "smooth",
    sigma: float = 1.5,
    matches: str | None = "consistent",
) -> Tensor:
    """How far every patch has come since the anchor frame.

    For patch p of frame j that is matched to the anchor frame this is
    `p - p_anchor = -displacement(j -> anchor)`; the others are filled in.

    Args:
        flow: the reference's motion.
        anchor: the frame all offsets are relative to, 0 .. F-1; its own offsets are 0.
        fill: what patches without a match get.
            `smooth`: the Gaussian-weighted mean of the matched patches of their frame.
            `zero`: nothing, 0.
            `global`: one offset per frame for **all** patches, also the matched ones: the median
            of the matched moving patches, each weighted by the share of other frames in which it
            is matched and displaced. Patches that moved away and came back count, with their 0.
            `mean`: one offset per frame for **all** patches: the mean of the matched ones, each
            weighted by its squared length. What crosses the picture outweighs the jitter of a
            flat background, where the argmax often lands one patch off (measured on the bundled
            backbone: docs/experiments.md).
        sigma: width of the Gaussian in patches.
        matches: which displacements count as a match: a name in `MASKS`, or None for the flow's
            own mask. `consistent` lets a still background hold its place; with
            `forward-backward` the moving patches alone spread over the frame.

    Returns:
        `(F, H, W, 2)` float32 (dx, dy) in patches, on the flow's device. Except with
        `zero` a frame without any match is interpolated linearly in time between its nearest
        neighbours with one, and holds the last known frame at the ends. All zero if only the
        anchor is known.

    Raises:
        UsageError: on a frame outside the grid, an unknown fill or mask, or sigma <= 0.
    """
    grid = flow.grid
    if not 0 <= anchor < grid.frames:
        raise UsageError(f"Expected an anchor frame in 0..{grid.frames - 1}, got {anchor}.")
    if fill not in FILLS:
        raise UsageError(f"Expected a fill out of {', '.join(FILLS)}, got {fill!r}.")
    if not sigma > 0:
        raise UsageError(f"Expected a sigma above 0 patches, got {sigma}.")
    believed = flow.mask if matches is None else mask_by_name(matches)(flow.displacement)
    matched = believed[:, anchor].flatten(1)  # (F, HW)
    offsets = -flow.displacement[:, anchor].flatten(1, 2).float()  # (F, HW, 2)
    if fill == "global":
        weights = _confidence(flow) * matched
        known = weights.amax(1) > 0
        result = _weighted_median(offsets, weights).expand_as(offsets).clone()
    elif fill == "mean":
        weights = offsets.square().sum(-1) * matched  # (F, HW)
        known = weights.sum(1) > 0
        total = (offsets * weights[..., None]).sum(1) / weights.sum(1).clamp(min=1)[:, None]
        result = total[:, None].expand_as(offsets).clone()
    else:
        known = matched.any(1)
        result = torch.where(matched[..., None], offsets, 0.0)
    if fill == "smooth":
        for j in known.nonzero().flatten().tolist():
            result[j] = _smooth(result[j], matched[j], grid, sigma)
    result[anchor] = 0.0
    known[anchor] = True
    if fill != "zero":
        result = _in_time(result, known)
    return result.reshape(grid.frames, grid.height, grid.width, 2)


def _confidence(flow: AttentionMotionFlow) -> Tensor:
    """`(F, HW)`: share of the other frames in which a patch is matched and displaced."""
    frames = flow.grid.frames
    moving = forward_backward_mask(flow.displacement).flatten(2)
    others = ~torch.eye(frames, dtype=torch.bool, device=moving.device)
    return (moving & others[..., None]).sum(1).float() / max(frames - 1, 1)


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Lower weighted median of `(F, N, 2)` values with `(F, N)` weights over N -> `(F, 1, 2)`.

    Exact: the weights here are multiples of 1 / (F - 1), so their sums are far from rounding.
    """
    ordered, order = values.sort(dim=1)
    share = weights[..., None].expand_as(values).gather(1, order).double().cumsum(1)
    first = (share >= share[:, -1:] / 2).int().argmax(1, keepdim=True)
    # Leading entries of weight 0 never reach half of a positive total.
    return ordered.gather(1, first)


def _smooth(offsets: Tensor, matched: Tensor, grid: TokenGrid, sigma: float) -> Tensor:
    """Fill the unmatched of `(HW, 2)` offsets from the matched ones by distance."""
    places = grid.coordinates(device=offsets.device, dtype=offsets.dtype)
    squared = (places[~matched][:, None] - places[matched]).square().sum(-1)
    # As a softmax: far from any match the plain weights would all underflow to 0 / 0.
    weights = (-squared / (2 * sigma**2)).softmax(-1)
    filled = offsets.clone()
    filled[~matched] = weights @ offsets[matched]
    return filled


def _in_time(offsets: Tensor, known: Tensor) -> Tensor:
    """Interpolate the frames of `(F, HW, 2)` that are not known; at least one is."""
    frames = known.nonzero().flatten()
    now = torch.arange(len(known), device=known.device)
    right = torch.searchsorted(frames, now).clamp(max=len(frames) - 1)
    left = torch.where(frames[right] > now, (right - 1).clamp(min=0), right)
    before, after = frames[left], frames[right]
    share = ((now - before) / (after - before).clamp(min=1)).clamp(0, 1)[:, None, None]
    return torch.lerp(offsets[before], offsets[after], share.to(offsets.dtype))
