"""The things of a clip: one or two, whichever explains the displacements that the mask keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.path import path_shares
from pe_toolkit.motion.segments import FAINT, Course, course, soft_masks, spectrum

EACH = 0.05
"""Share of the kept squared displacement that each of two things must explain: of one beside
another that goes much farther 0.09."""
APART = 0.3
"""How much more of what it covers a thing's own course must explain than that of the other one:
of two true things 0.32 and more, of two parts of one 0.28 at most (docs/experiments.md)."""
OWN, OWN_OF_THIRDS = 0.45, 0.65
"""Of the kept squared displacement of what a thing covers, what its course must explain, for the
halves of a cut, or two of its thirds, to be two things: of halves of true ones 0.56 to 0.95 where
the cut tells them, of a corner of the background 0.42 at most; of thirds 0.68 and more
(docs/experiments.md)."""
WHOLLY = 2
"""Latent frames in which each of two thirds is not cut by the border: a light there seems to move
with the thing that goes over it."""
HALF = 0.25
"""How much more two halves must explain than the uncut one, for the better of them to be the thing
where they are not two."""
PART = 0.5
"""Of such a half, how much the uncut one must cover as well: else what moves is the light of the
background behind a thing that stays. There 0.48 at most, of halves of the thing 0.57 and more
(docs/experiments.md)."""
CHANCE = -0.5
"""Of an uncut one, `own` below which what it covers matches by chance: where it stays it has -0.09
and more (docs/experiments.md)."""
FINER, MOSTLY = 0.05, 0.5
"""How much more of what moves a piece of a finer cut must explain, and of all at least, to be the
thing where another piece stays. Beside one that stays such pieces explain 0.05 to 0.9 more, and
0.66 of all or more (docs/experiments.md)."""
STAYS, STILL, IN_IT = 0.3, 0.1, 0.3
"""Patches in which a piece stays, in all frames; within how much of nothing its course explains of
what it covers; and how much of it the uncut one covers at least: else it is background. Things that
stay have 0.2, 0.04 and 0.34; what stays least beside one that comes in goes 0.55 and more, or is
background (docs/experiments.md)."""
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

    The halves of a cut are two things if each explains what it covers, and that better than the
    other one does. If they are not, two of its thirds may be: the other one is a light on the
    background. If nothing is two, but the halves explain much more than the uncut one, or that is a
    background itself (`WHOLE`) or hardly there, the better half that is no background is the thing:
    what the uncut one has besides is a light on the background, or another moment of the same
    thing. A half outside the uncut one is the light of a background behind a thing that stays, and
    no thing, unless the uncut one is a background itself, or its matches are chance. Last, where
    one of the halves or thirds is something that stays, another one is the thing if it says better
    what moves than what was found: that is both, or what stays.

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
    one, two = (_told(flow, _cut(flow, vectors, coarse, count)) for count in (1, 2))
    if _are_two(flow, two, OWN):
        return two
    cut = _cut(flow, vectors, coarse, 3)
    thirds = (_told(flow, list(pair)) for pair in combinations(cut, 2))
    pairs = [pair for pair in thirds if _are_two(flow, pair, OWN_OF_THIRDS) and _whole(pair)]
    if pairs:
        return max(pairs, key=_explained)
    wide = all(thing.wide > WHOLE for thing in one)
    chance = wide or one[0].own < CHANCE
    halves = [
        thing for thing in two if thing.wide <= WHOLE and (chance or _shared(thing, one[0]) >= PART)
    ]
    if len(two) == 2 and halves and (wide or _explained(two) - _explained(one) >= HALF):
        found = [max(halves, key=lambda thing: thing.share)]
    else:
        found = one
    for pieces in (two, _told(flow, cut)):
        found = [_beside(thing, pieces, one[0]) for thing in found] if one else found
    return found


def _beside(thing: Thing, pieces: list[Thing], uncut: Thing) -> Thing:
    """The thing, or the piece that says better what moves where another piece is one that stays."""
    narrow = [piece for piece in pieces if piece.wide <= WHOLE]
    best = max(narrow, key=lambda piece: piece.share, default=thing)
    stay = any(_stays(piece, uncut) for piece in narrow if piece is not best)
    better = best.own > thing.own and best.share >= max(MOSTLY, thing.share + FINER)
    return best if stay and better else thing


def _stays(piece: Thing, uncut: Thing) -> bool:
    """Whether it is something that rests, of what was told from the background."""
    place = piece.course.place
    far = float((place.amax(0) - place.amin(0)).max())
    seen = bool(piece.course.seen.all())
    return seen and far <= STAYS and abs(piece.own) <= STILL and _shared(piece, uncut) >= IN_IT


def _are_two(flow: AttentionMotionFlow, things: list[Thing], own: float) -> bool:
    """Whether these are two things that move each by itself."""
    if len(things) != 2 or any(thing.wide > WHOLE or thing.share < EACH for thing in things):
        return False
    pairs = zip(things, reversed(things), strict=True)
    others = [_own_share(flow, thing.mask, other.course.place) for thing, other in pairs]
    return all(
        thing.own >= max(own, other + APART) for thing, other in zip(things, others, strict=True)
    )


def _shared(thing: Thing, other: Thing) -> float:
    """Of what a thing covers, how much the other one covers as well."""
    both = torch.minimum(thing.mask, other.mask).sum()
    return float(both / thing.mask.sum().clamp(min=1e-9))


def _whole(things: list[Thing]) -> bool:
    return all(int(thing.course.whole.sum()) >= WHOLLY for thing in things)


def _explained(things: list[Thing]) -> float:
    return sum(thing.share for thing in things)


def _cut(
    flow: AttentionMotionFlow, vectors: Tensor, coarse: TokenGrid, count: int
) -> list[tuple[Tensor, Course]]:
    """Masks `(F, H, W)` and courses of so many things, of those that are there in two frames."""
    grid = flow.grid
    masks = soft_masks(vectors, coarse, count)
    if coarse != grid:
        masks = functional.interpolate(masks, size=(grid.height, grid.width), mode="bilinear")
    return [(mask, way) for mask in masks if (way := course(mask, grid)) is not None]


def _told(flow: AttentionMotionFlow, there: list[tuple[Tensor, Course]]) -> list[Thing]:
    """What each explains, beside the others."""
    shares = path_shares(flow, [way.place for _, way in there]) if there else []
    return [
        Thing(mask, way, share, _own_share(flow, mask, way.place))
        for (mask, way), share in zip(there, shares, strict=True)
    ]


def _own_share(flow: AttentionMotionFlow, mask: Tensor, path: Tensor) -> float:
    """`path_shares` of the `(F, 2)` path among the patches under the `(F, H, W)` mask."""
    kept = flow.mask & (mask > FAINT)[:, None].to(flow.mask.device)
    return path_shares(replace(flow, mask=kept), [path])[0]
