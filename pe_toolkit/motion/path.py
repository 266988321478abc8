"""The motion of a clip as one path: what moves, taken together, in patches per latent frame."""

from __future__ import annotations

import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow

AT_REST = 0.25
"""Added to squared displacements where they are weights: nothing moves at all in some pairs."""
FARTHEST = 0.6
"""Of the picture, between the ends of an exaggerated path. What is sent farther leaves the picture,
and the bundled backbone then draws a second object where it sees none (docs/experiments.md)."""
INERTIA = 1e-3
"""Weight of "as one frame before", against one matched patch."""


def mean_path(flow: AttentionMotionFlow, anchor: int = 0) -> Tensor:
    """Where the moving patches of every frame are, relative to where they are in frame `anchor`.

    Between each two frames i, j, the displacements that the mask keeps are averaged to d_ij,
    weighted by their squared length (what crosses the picture outweighs the jitter of a flat
    background, where the argmax often lands one patch off). The path is that of the least squares

        min  sum_ij  n_ij |p_j - p_i - d_ij|^2  +  INERTIA sum_j |p_j - p_(j-1)|^2

    with n_ij the number of kept displacements and p_anchor = 0: every pair of frames has a say, and
    near ones, between which more patches are matched, have more. A frame that nothing matches lies
    between its neighbours in time.

    Args:
        flow: the reference's motion.
        anchor: the frame that is the origin, 0 .. F-1.

    Returns:
        `(F, 2)` float32 (dx, dy) in patches, on the CPU. All zero if the mask keeps nothing.

    Raises:
        UsageError: on a frame outside the grid.
    """
    frames = flow.grid.frames
    if not 0 <= anchor < frames:
        raise UsageError(f"Expected an anchor frame in 0..{frames - 1}, got {anchor}.")
    moves = flow.displacement.flatten(2, 3).double().cpu()  # (F, F, HW, 2)
    kept = flow.mask.flatten(2).double().cpu() * ~torch.eye(frames, dtype=torch.bool)[..., None]
    weights = kept * (moves.square().sum(-1) + AT_REST)
    means = (moves * weights[..., None]).sum(2) / weights.sum(2).clamp(min=AT_REST)[..., None]
    counts = kept.sum(2)  # (F, F): n_ij
    pulls = counts[..., None] * means
    ties = counts + counts.T
    near = torch.arange(frames - 1)
    ties[near, near + 1] += INERTIA
    ties[near + 1, near] += INERTIA
    laplacian = torch.diag(ties.sum(1)) - ties
    wanted = pulls.sum(0) - pulls.sum(1)
    free = torch.arange(frames) != anchor
    path = torch.zeros(frames, 2, dtype=torch.float64)
    path[free] = torch.linalg.solve(laplacian[free][:, free], wanted[free])
    return path.float()


def path_shares(flow: AttentionMotionFlow, paths: list[Tensor]) -> list[float]:
    """Of the squared displacements that the mask keeps, how much each of `(F, 2)` paths explains:
    every token takes the one that fits it best. Their sum is 1 at most, below 0 if they make it
    worse.
    """
    moves = flow.displacement.flatten(2, 3).double().cpu()  # (F, F, HW, 2)
    kept = flow.mask.flatten(2).double().cpu()
    missed = [(moves - (p[None] - p[:, None])[:, :, None].double()).square().sum(-1) for p in paths]
    each = (torch.stack(missed) * kept).sum(2)  # (n, F, HW)
    before = (moves.square().sum(-1) * kept).sum(1)  # (F, HW)
    whole, best = float(before.sum()), each.argmin(0)
    if not whole:
        return [0.0 for _ in paths]
    return [float(((before - e) * (best == k)).sum()) / whole for k, e in enumerate(each)]


def one_path(flow: AttentionMotionFlow) -> float:
    """`path_shares` of the flow's own mean path: what a start of `flow` can say of the motion.

    A still clip has chance matches only, and no path through them (0.00 to 0.30); nor has one of
    two things that go different ways (0.0 to 0.46); one thing that crosses the picture has 0.57 to
    0.91 (docs/experiments.md).
    """
    return path_shares(flow, [mean_path(flow, flow.grid.frames // 2)])[0]


def reach(path: Tensor, grid: TokenGrid, scale: float) -> float:
    """How many times as far a `(F, 2)` path may go: `scale`, but not from one side of the picture
    to the other (`FARTHEST`), and a path that is as long already not less than once.
    """
    width, height = (float(span) / FARTHEST for span in path.amax(0) - path.amin(0))
    limit = min(grid.width / max(width, 1e-6), grid.height / max(height, 1e-6))
    return min(scale, max(1.0, limit))
