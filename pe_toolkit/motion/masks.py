"""Which displacements to believe.

The argmax always points somewhere, also where nothing can be matched (flat background, a patch
that gets covered). Tests, and their combinations, by name:

    none                everything
    nonzero             displacement != 0 (the official code): moving patches and noise
    consistent          following i -> j -> i returns to within a radius: matched, also if still
    forward-backward    both: matched and moving
    tracked             transitive over all frames, and gets away: what the bundled backbone takes

All take a hard flow `(..., F, F, H, W, 2)` (source frame, target frame, source patch, (dx, dy) in
patches) and give `(..., F, F, H, W)` bool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from pe_toolkit.errors import UsageError


def matched_patches(flow: Tensor) -> Tensor:
    """`(..., F, F, H*W)` int64: the patch of the target frame that every displacement points to.

    Raises:
        UsageError: if the flow is not an integer flow or points out of the frame.
    """
    _check(flow)
    height, width = flow.shape[-3:-1]
    ys = torch.arange(height, device=flow.device)[:, None]
    xs = torch.arange(width, device=flow.device)
    x, y = xs + flow[..., 0].long(), ys + flow[..., 1].long()
    if bool(((x < 0) | (x >= width) | (y < 0) | (y >= height)).any()):
        raise UsageError(
            f"Expected displacements that stay in a frame of {height}x{width} patches, "
            "got some that leave it."
        )
    return (y * width + x).flatten(-2)


def no_mask(flow: Tensor) -> Tensor:
    """Keep every entry."""
    _check(flow)
    return torch.ones(flow.shape[:-1], dtype=torch.bool, device=flow.device)


def nonzero_mask(flow: Tensor) -> Tensor:
    """Keep what is displaced at all, as the official code does."""
    _check(flow)
    return (flow != 0).any(-1)


def consistent_mask(flow: Tensor, radius: float = 1.0) -> Tensor:
    """Keep (i, j, p) if p -> its match p' in frame j -> the match of p' in frame i ends near p.

    Near is at most `radius` patches away in x and in y (Chebyshev distance). A still patch that
    is matched to itself is consistent, and so is all of i = j where attention looks at itself.

    Raises:
        UsageError: if the flow is not an integer flow, points out of the frame, or the radius is
            negative.
    """
    if not radius >= 0:
        raise UsageError(f"Expected a radius of at least 0 patches, got {radius}.")
    match = matched_patches(flow)
    there = flow.flatten(-3, -2).int()  # (..., F_i, F_j, HW, 2)
    # The displacement j -> i of each match.
    back = there.transpose(-4, -3).gather(-2, match.unsqueeze(-1).expand_as(there))
    missed = (there + back).abs().amax(-1)
    return (missed <= radius).reshape(flow.shape[:-1])


def forward_backward_mask(flow: Tensor, radius: float = 1.0) -> Tensor:
    """Keep what is cycle-consistent (see `consistent_mask`) **and** displaced."""
    return consistent_mask(flow, radius) & nonzero_mask(flow)


def tracked_mask(
    flow: Tensor, radius: float = 1.0, agreement: float = 0.9, far: float = 2.0
) -> Tensor:
    """Keep what is cycle-consistent, of patches that are really followed and really move.

    In flat background the argmax lands on some neighbour: consistent within a patch, displaced,
    and three quarters of what `forward_backward_mask` keeps. But it is a random walk: going
    i -> k -> j does not lead where i -> j leads. A patch p of frame i is

    - followed, if that agrees within `radius` patches for the share `agreement` of all pairs of
      other frames (k, j);
    - far, if in some frame it is displaced by `far` patches; in clips with little motion, by half
      of the largest displacement of a followed patch, at least 1.

    Of such patches the entries with a displacement of 0 count as well; those with i = j do not.
    If there are none at all, this is `forward_backward_mask`; `followed_mask` is then empty.

    Args:
        flow: `(..., F, F, H, W, 2)` hard flow in patches.
        radius: of both tests, patches, Chebyshev distance.
        agreement: [0, 1].
        far: patches, Chebyshev distance.

    Returns:
        `(..., F, F, H, W)` bool.
    """
    if flow.ndim > 5:
        clips = [tracked_mask(clip, radius, agreement, far) for clip in flow.flatten(0, -6)]
        return torch.stack(clips).reshape(flow.shape[:-1])
    kept = followed_mask(flow, radius, agreement, far)
    return kept if bool(kept.any()) else forward_backward_mask(flow, radius)


def followed_mask(
    flow: Tensor, radius: float = 1.0, agreement: float = 0.9, far: float = 2.0
) -> Tensor:
    """`tracked_mask` of one clip, `(F, F, H, W, 2)` -> `(F, F, H, W)` bool, but empty where nothing
    that moves can be followed.
    """
    consistent = consistent_mask(flow, radius)
    match = matched_patches(flow)  # (F, F, HW)
    there = flow.flatten(-3, -2).int()  # (F, F, HW, 2)
    frames = flow.shape[0]
    itself = torch.eye(frames, dtype=torch.bool, device=flow.device)
    agreeing = torch.zeros(match.shape[0], match.shape[2], device=flow.device)  # (F, HW)
    for k in range(frames):
        onwards = there[k].expand(frames, -1, -1, -1)  # (F_i, F_j, HW, 2): from k to j
        at = match[:, k, None, :, None].expand_as(onwards)  # where i's patches are in k
        missed = (there[:, k, None] + onwards.gather(2, at) - there).abs().amax(-1)
        counts = ~(itself | itself[k] | itself[:, k, None])  # i, j and k all differ
        agreeing += ((missed <= radius) & counts[..., None]).sum(1)
    triples = (frames - 1) * (frames - 2)
    followed = agreeing >= agreement * triples - 1e-6  # (F, HW); two frames have no third
    reach = there.abs().amax((1, 3)) * followed
    enough = (reach.max() / 2).clamp(1.0, far)
    tokens = (followed & (reach >= enough)).unflatten(-1, flow.shape[-3:-1])
    kept: Tensor = consistent & tokens[:, None] & ~itself[..., None, None]
    return kept


MASKS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "none": no_mask,
        "nonzero": nonzero_mask,
        "consistent": consistent_mask,
        "forward-backward": forward_backward_mask,
        "tracked": tracked_mask,
    }
)


def mask_by_name(name: str) -> Callable[[Tensor], Tensor]:
    """The mask of that name.

    Raises:
        UsageError: if there is none, listing those there are.
    """
    if name not in MASKS:
        raise UsageError(f"Expected a mask out of {', '.join(MASKS)}, got {name!r}.")
    return MASKS[name]


def matched_fraction(flow: Tensor) -> float:
    """Share in [0, 1] of (i, j, p) with i != j that are cycle-consistent within one patch.

    0 for a single frame, which has nothing to be matched with.
    """
    return fraction_of_pairs(consistent_mask(flow))


def fraction_of_pairs(mask: Tensor) -> float:
    """Share in [0, 1] of the kept entries of a `(..., F, F, H, W)` mask, i = j left out."""
    frames = mask.shape[-4]
    if frames == 1:
        return 0.0
    others = ~torch.eye(frames, dtype=torch.bool, device=mask.device)
    return mask.movedim((-4, -3), (0, 1))[others].double().mean().item()


def _check(flow: Tensor) -> None:
    if flow.ndim < 5 or flow.shape[-1] != 2 or flow.shape[-5] != flow.shape[-4]:
        raise UsageError(f"Expected a flow (..., F, F, H, W, 2), got {tuple(flow.shape)}.")
    if flow.is_floating_point() or flow.dtype == torch.bool:
        raise UsageError(
            f"Expected a hard flow of integers, got {flow.dtype}.",
            hint="Masks are made from `hard_displacement`, not from `soft_displacement`.",
        )
