"""The things of a clip: one or two, whichever explains the displacements that the mask keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.path import path_shares
from pe_toolkit.motion.segments import FAINT, Course, course, soft_masks, spectrum

SECOND = 0.15
"""Share of the kept squared displacement that two paths must explain more than one."""
EACH = 0.1
"""The same that each of two things must explain."""
OWN = 0.45
"""Of the kept squared displacement of what a thing covers, what its course must explain, for the
halves of a cut to be two things: of 43 of 45 pairs of true ones 0.56 to 0.95, of a corner of the
background or a part of one thing 0.35 at most (docs/experiments.md)."""
HALF = 0.25
"""How much more two halves must explain than the uncut one, for the better of them to be the thing
where they are not two."""
WHOLE = 0.45
"""Of the picture: what covers more is no thing in front of a background."""


@dataclass(frozen=True)
class Thing:
    """Something in front of a background.

    Attributes:
        mask: `(F, H, W)` float64 in [0, 1], how much of each patch it covers.
        course: where it is and how large.
        share: of the kept squared displacement, how much its course explains (`path_shares`), 1 at
            most, below 0 if it makes it worse.
        own: the same, of the displacements of the patches that it covers alone.
    """

    mask: Tensor
    course: Course
    share: float
    own: float

    @property
    def wide(self) -> float:
        """The share of all patches that it covers."""
        return float((self.mask > FAINT).double().mean())


def things_of(flow: AttentionMotionFlow, near: Tensor, coarse: TokenGrid) -> list[Thing]:
    """One or two things, or none.

    The halves of a cut are two things if each explains what it covers. If they are not, but explain
    much more than the uncut one, or that is a background itself (`WHOLE`) or hardly there, the
    better half that is no background is the thing: what the uncut one has besides is a light on the
    background, or another moment of the same thing.

    Args:
        flow: the displacements, with the mask of what counts.
        near: `(S, S)` float64, as `segments.affinity` gives it.
        coarse: its grid, of S tokens.

    Returns:
        none, one or two; the shares of two count each token once.

    Raises:
        UsageError: as `segments.spectrum`.
    """
    vectors = spectrum(near, coarse)
    one, two = (_cut(flow, vectors, coarse, count) for count in (1, 2))
    if len(two) == 2:
        more = sum(thing.share for thing in two) - sum(thing.share for thing in one)
        both = all(thing.share >= EACH and thing.own >= OWN for thing in two)
        if both and more >= SECOND:
            return two
        halves = [thing for thing in two if thing.wide <= WHOLE]
        wide = all(thing.wide > WHOLE for thing in one)
        if halves and (more >= HALF or wide):
            return [max(halves, key=lambda thing: thing.share)]
    return one


def _cut(flow: AttentionMotionFlow, vectors: Tensor, coarse: TokenGrid, count: int) -> list[Thing]:
    """Of so many things, those that are there in two frames at least."""
    grid = flow.grid
    masks = soft_masks(vectors, coarse, count)
    if coarse != grid:
        masks = functional.interpolate(masks, size=(grid.height, grid.width), mode="bilinear")
    there = [(mask, way) for mask in masks if (way := course(mask, grid)) is not None]
    shares = path_shares(flow, [way.place for _, way in there]) if there else []
    return [
        Thing(mask, way, share, _own_share(flow, mask, way.place))
        for (mask, way), share in zip(there, shares, strict=True)
    ]


def _own_share(flow: AttentionMotionFlow, mask: Tensor, path: Tensor) -> float:
    """`path_shares` of the `(F, 2)` path among the patches under the `(F, H, W)` mask."""
    kept = flow.mask & (mask > FAINT)[:, None].to(flow.mask.device)
    return path_shares(replace(flow, mask=kept), [path])[0]
