"""Things told from their background by how tokens attend to each other.

Without positions (reading by content), the tokens of one thing attend to each other in every frame.
A normalised cut (Shi and Malik, 2000) of all tokens of the clip by these logits: the second
eigenvector tells the thing from the background, the third, if its eigenvalue is near 1, two things
from each other; where one of the two tells a light on the background, it is the fourth. A soft mask
says for every patch which share of it the thing covers, so that its centre moves by less than a
patch, which an argmax cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.attention import check_queries_keys, merged_queries_keys, no_autocast

MOST_TOKENS = 2304
"""More are averaged over squares of patches first: an affinity is S x S."""
FAINT = 0.15
"""Cover of a patch below which it is background."""
LEAST = 0.5
"""Patches that a thing covers in a frame, to be seen there."""


@torch.no_grad()
def affinity(q: Tensor, k: Tensor, grid: TokenGrid, tau: float = 2.0) -> tuple[Tensor, TokenGrid]:
    """How much tokens attend to each other, both ways.

    Args:
        q: `(1, heads, S, d)` queries of the video tokens, without positions.
        k: keys, same shape, dtype and device.
        grid: the token grid, `S = grid.tokens`.
        tau: temperature.

    Returns:
        `(S', S')` float64, symmetric, on the CPU, and its grid: coarser if there are over
        `MOST_TOKENS` tokens (sides that no whole number divides lose their last patches).

    Raises:
        UsageError: on shapes that do not fit.
    """
    check_queries_keys(q, k, grid)
    queries, keys = (x[0].float() for x in merged_queries_keys(q[:1], k[:1], tau))
    step = 1
    while grid.frames * (grid.height // step) * (grid.width // step) > MOST_TOKENS:
        step += 1
    coarse = TokenGrid(grid.frames, max(1, grid.height // step), max(1, grid.width // step))
    if step > 1:
        queries, keys = (_pooled(x, grid, step) for x in (queries, keys))
    queries, keys = queries.cpu(), keys.cpu()
    with no_autocast("cpu"):
        logits = (queries @ keys.T).double()
    both = (logits + logits.T) / 2
    near = torch.softmax(both, -1)
    return (near + near.T) / 2, coarse


def _pooled(tokens: Tensor, grid: TokenGrid, step: int) -> Tensor:
    """`(S, C)` -> `(S', C)`: means over squares of step x step patches."""
    planes = grid.unflatten(tokens).permute(0, 3, 1, 2)  # (F, C, H, W)
    pooled = torch.nn.functional.avg_pool2d(planes, step)
    return pooled.permute(0, 2, 3, 1).flatten(0, 2)


def spectrum(near: Tensor, grid: TokenGrid) -> Tensor:
    """The vectors that tell things from background: second to fourth of the normalised cut.

    Args:
        near: `(S, S)` as `affinity` makes it.
        grid: its grid.

    Returns:
        `(S, 3)` float64, of spread 1 each.

    Raises:
        UsageError: an affinity of another shape, or fewer than four tokens.
    """
    if near.shape != (grid.tokens, grid.tokens):
        raise UsageError(f"Expected an affinity of {grid} tokens, got {tuple(near.shape)}.")
    if grid.tokens < 4:
        raise UsageError(f"Expected at least four tokens, got {grid}.", "Use a larger clip.")
    root = near.sum(1).rsqrt()
    _, vectors = torch.linalg.eigh(near * root[:, None] * root)
    u = vectors[:, [-2, -3, -4]] * root[:, None]
    found: Tensor = u / u.std(0).clamp(min=1e-12)
    return found


def soft_masks(vectors: Tensor, grid: TokenGrid, things: int) -> Tensor:
    """Covers of so many things.

    Args:
        vectors: `(S, 3)` as `spectrum` gives them.
        grid: their grid.
        things: 1 to 3.

    Returns:
        `(things, F, H, W)` float64 in [0, 1]: a patch belongs to one thing only.
    """
    u = vectors[:, :things]
    back, tips = _ends(u, grid)
    for _ in range(10):  # k-means, begun at the background and the tips
        seeds = torch.stack([back, *tips])
        nearest = torch.cdist(u, seeds).argmin(1)
        back, *tips = [
            u[nearest == n].mean(0) if bool((nearest == n).any()) else seed
            for n, seed in enumerate(seeds)
        ]
    basis = torch.stack([t - back for t in tips], 1)  # (count, n)
    mix = torch.linalg.lstsq(basis, (u - back).T).solution.clamp(0, 1)
    mix = mix * (mix == mix.amax(0))
    masks: Tensor = mix.reshape(len(tips), *grid)
    return masks


def _ends(u: Tensor, grid: TokenGrid) -> tuple[Tensor, list[Tensor]]:
    """The background, which is most of the rim, and the farthest from it; with every further
    vector, the farthest from what is spanned so far as well.
    """
    rim = torch.zeros(tuple(grid), dtype=torch.bool)
    rim[:, [0, -1]] = rim[:, :, [0, -1]] = True
    back = u[rim.flatten()].median(0).values
    tips: list[Tensor] = []
    rest = u - back
    for _ in range(u.shape[1]):
        far = rest.norm(dim=1).argmax()
        tips.append(u[far])
        axis = torch.nn.functional.normalize(rest[far], dim=0)
        rest = rest - (rest @ axis)[:, None] * axis
    return back, tips


@dataclass(frozen=True)
class Course:
    """How one thing goes.

    Attributes:
        place: `(F, 2)` float64 centre (x, y) in patches.
        size: `(F,)` float64 log of its side in patches.
        seen: `(F,)` bool, frames in which it is there at all; between them it is interpolated.
        whole: `(F,)` bool, frames in which it is there and not cut by the border.
    """

    place: Tensor
    size: Tensor
    seen: Tensor
    whole: Tensor


def course(mask: Tensor, grid: TokenGrid) -> Course | None:
    """Centre and size of a soft mask over time; None if it is there in less than two frames.

    Args:
        mask: `(F, H, W)` in [0, 1].
        grid: F x H x W.
    """
    at = grid.coordinates(dtype=torch.float64)
    flat = torch.where(mask > FAINT, mask.double(), 0.0).flatten(1)  # (F, HW)
    area = flat.sum(1)
    seen = area >= LEAST
    if int(seen.sum()) < 2:
        return None
    place = (flat @ at) / area.clamp(min=1e-9)[:, None]
    rim = torch.ones(grid.height, grid.width, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    whole = seen & (flat @ rim.flatten().double() < 0.2 * area)
    size = 0.5 * area.clamp(min=1e-9).log()
    return Course(
        torch.stack([_between(place[:, axis], seen) for axis in (0, 1)], 1),
        _between(size, whole if int(whole.sum()) >= 2 else seen),
        seen,
        whole,
    )


def _between(values: Tensor, known: Tensor) -> Tensor:
    """`(F,)` values, those that are not known taken linearly from their neighbours in time."""
    frames = torch.arange(len(values))
    have = frames[known]
    right = torch.searchsorted(have, frames).clamp(max=len(have) - 1)
    left = (right - 1).clamp(min=0)
    left = torch.where(have[right] <= frames, right, left)
    span = (have[right] - have[left]).clamp(min=1)
    share = ((frames - have[left]) / span).clamp(0, 1).double()
    return values[have[left]] * (1 - share) + values[have[right]] * share
