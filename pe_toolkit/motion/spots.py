"""Where the things of a clip are, in its pictures, before a camera that rests.

What differs from the backdrop (`motion.backdrop`) falls into pieces (`motion.pieces`), which are
followed from the frame in which they are farthest apart, both ways (`motion.courses`). A thing of
which too little is seen is, meanwhile, on the straight line from where it was seen before to where
it is seen again; one that leaves the picture goes on as it left until nothing of it is inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import backdrop
from pe_toolkit.motion.courses import begun, near, one_each, reach, shared
from pe_toolkit.motion.pieces import Piece, borders, pieces_of
from pe_toolkit.motion.sizes import sides_of, size_of
from pe_toolkit.motion.turns import angle_of, turn_of

Floats = NDArray[np.float64]

MOST = 3
"""Things."""
OFTEN, MORE = 1 / 4, 1 / 3
"""Of the frames: in how many there are to be so many pieces, for so many things; and in how many
more at most."""
SEEN, ENDS, PASSES = 1 / 2, 2, 1 / 5
"""Of the frames, in how many a thing is seen; how many at either end it may not be, if it has not
left the picture; and in how many one is seen that does."""
MOSTLY = 0.8
"""Of what things cover where most of them is seen, how much they do where they are first seen."""
LEAVING = 4
"""Frames that say how fast a thing left."""
FARTHER = 0.5
"""Of the picture, how far outside a thing goes that left it."""
COVERED = 0.05
"""Of a patch, what a thing covers of it at least to be in it: what a patch is read as, and where it
goes, is of a little more than itself."""


@dataclass(frozen=True)
class Spot:
    """One thing in the pictures.

    Attributes:
        place: `(F, 2)` float64, (x, y) of its middle in patches.
        cover: `(F, H, W)` bool, the patches that it covers.
        size: `(F,)` float64 log of its size, all alike if it keeps it; None where that is not
            clear.
        turn: `(F,)` float64 its angle, radians clockwise, likewise. Nor is it clear where the size
            is not: what is seen of it changes.
    """

    place: Tensor
    cover: Tensor
    size: Tensor | None = None
    turn: Tensor | None = None


@dataclass(frozen=True)
class Track:
    """One thing through all frames.

    Attributes:
        way: `(N, 2)` float64, (x, y) of its middle in pixels.
        covers: `(N, h, w)` bool.
        sides: `(N, 3)` log of the root of its area, of its width, of its height; NaN where it is
            not seen whole and apart from others.
        turn: `(N,)` radians, clockwise; None where that is not clear (`motion.turns`).
    """

    way: Tensor
    covers: Tensor
    sides: Tensor
    turn: Tensor | None


def spots(pictures: Tensor, grid: TokenGrid, moments: list[tuple[int, int]]) -> list[Spot]:
    """Up to `MOST` things, or none where that is not clear.

    Args:
        pictures: `(N, 3, h, w)` of `backdrop.shrunk`, before a camera that rests.
        grid: F x H x W tokens.
        moments: of each latent frame, which two frames it stands for (`moments.frames_of`).
    """
    return [_spot(track, grid, moments) for track in tracks(pictures)]


def tracks(
    pictures: Tensor,
    *,
    laid: bool = False,
    frame: float | None = None,
    bounds: Tensor | None = None,
) -> list[Track]:
    """Up to `MOST` things in `(N, 3, h, w)` pictures, or none where that is not clear.

    Args:
        laid: the pictures were laid on each other (`motion.steady`).
        frame: pixels of one. Default: all.
        bounds: `(N, 4)` where the border of each is, as `pieces.borders`, the default.
    """
    bounds = borders(pictures) if bounds is None else bounds
    ground = backdrop(pictures, laid)
    frames = pieces_of(pictures, ground, laid=laid, frame=frame, bounds=bounds)
    if frames is None:
        return []
    out: list[Track] = []
    while (count := _count(frames)) and len(out) + count <= MOST:
        found, frames = _followed(frames, pictures, bounds, _begin(frames, count))
        made = [_track(seen, pictures, bounds) for seen in found]
        known = [track for track in made if track is not None]
        if len(known) < len(made):
            break
        out += known  # what comes in once they have left is among the rest
    return out


def _count(frames: list[list[Piece]]) -> int:
    """How many things there are at once; 0 where that is not clear."""
    counts = [len(pieces) for pieces in frames]
    enough = [n for n in range(1, MOST + 1) if counts.count(n) >= OFTEN * len(counts)]
    if not enough or sum(n > enough[-1] for n in counts) > MORE * len(counts):
        return 0
    return enough[-1]


def _begin(frames: list[list[Piece]], count: int) -> int:
    """Of the frames with so many pieces the one in which they are farthest apart; of one piece, the
    one in which it is as large as usual. Of those in which the border cuts none, if there are any,
    or of those in which most is seen.
    """
    which = [f for f, pieces in enumerate(frames) if len(pieces) == count]
    whole = [f for f in which if not any(bool(one.cut.any()) for one in frames[f])]
    covered = {f: sum(one.area for one in frames[f]) for f in which}
    which = whole or [f for f in which if covered[f] >= MOSTLY * max(covered.values())]
    if count > 1:
        return max(which, key=lambda f: _gap(frames[f]))
    areas = [frames[f][0].area for f in which]
    return which[areas.index(sorted(areas)[len(areas) // 2])]


def _gap(pieces: list[Piece]) -> float:
    """Pixels between the two that are nearest."""
    between = [float((a.place - b.place).norm()) for a, b in combinations(pieces, 2)]
    return min(between, default=0.0)


@dataclass
class _Seen:
    """What is seen of a thing in each frame, in which it has left the picture, in which it is a
    piece of its own, and how far its edges are from its middle (`courses.reach`).
    """

    pieces: list[Piece | None]
    left: list[bool]
    apart: list[bool]
    edges: Tensor


def _followed(
    frames: list[list[Piece]], pictures: Tensor, bounds: Tensor, begin: int
) -> tuple[list[_Seen], list[list[Piece]]]:
    """Every piece of frame `begin` in all frames, and the pieces that are none of them."""
    rest: list[list[Piece]] = [[] for _ in frames]
    count, side = len(frames), min(pictures.shape[2:])
    out = [
        _Seen([None] * count, [False] * count, [True] * count, reach(first))
        for first in frames[begin]
    ]
    for seen, first in zip(out, frames[begin], strict=True):
        seen.pieces[begin] = first
    for way in (range(begin + 1, count), range(begin - 1, -1, -1)):
        courses = [begun(first, pictures[begin]) for first in frames[begin]]
        for f in way:
            found = one_each(courses, frames[f], side, bounds[f])
            apart = found is not None
            theirs = near(courses, frames[f])
            if found is None and theirs:
                found = shared(courses, theirs, pictures[f])
            covers = [one.cover for one in (found if found and apart else theirs) if one]
            rest[f] = [p for p in frames[f] if not any(p.cover is cover for cover in covers)]
            for k, (course, seen) in enumerate(zip(courses, out, strict=True)):
                seen.pieces[f] = found[k] if found else None
                course.go_on(seen.pieces[f], bounds[f])
                seen.left[f], seen.apart[f] = course.left, apart
    return out, rest


def _track(seen: _Seen, pictures: Tensor, bounds: Tensor) -> Track | None:
    """What is seen of a thing; None where that is too little."""
    pieces, count = seen.pieces, len(seen.pieces)
    known = [f for f, one in enumerate(pieces) if one is not None]
    if len(known) < (PASSES if any(seen.left) else SEEN) * count:
        return None
    first, last = seen.left[0], seen.left[-1]
    if (known[0] > ENDS and not first) or (known[-1] < count - 1 - ENDS and not last):
        return None
    found = np.stack([one.place.numpy() for one in pieces if one is not None])
    way = np.stack([np.interp(np.arange(count), known, found[:, axis]) for axis in (0, 1)], 1)
    edges = seen.edges.numpy()
    if last:
        _onwards(way, known[-LEAVING:], edges, bounds.numpy())
    if first:
        before = [count - 1 - f for f in reversed(known[:LEAVING])]
        _onwards(way[::-1], before, edges, bounds.flip(0).numpy())
    nothing = torch.zeros(*pictures.shape[2:], dtype=torch.bool)
    covers = torch.stack([nothing if one is None else one.cover for one in pieces])
    unknown = torch.full((3,), torch.nan, dtype=torch.float64)
    sides = [
        sides_of(one) if one is not None and apart and not bool(one.cut.any()) else unknown
        for one, apart in zip(pieces, seen.apart, strict=True)
    ]
    middles, lengths = torch.from_numpy(way), torch.stack(sides)
    turn = turn_of(pictures, covers, middles, lengths[:, 0])
    return Track(middles, covers, lengths, turn)


def _onwards(way: Floats, known: list[int], edges: Floats, bounds: Floats) -> None:
    """`(N, 2)` places after the last that is known, in place: as fast as between those that are,
    until all of it is outside by `FARTHER`.
    """
    first, last = known[0], known[-1]
    speed = (way[last] - way[first]) / max(1, last - first)
    for f in range(last + 1, len(way)):
        before = way[f - 1]
        low, high = before - edges[:2], before + edges[2:]
        far = FARTHER * (bounds[f, 2:] - bounds[f, :2]).min()
        outside = bool(((high < bounds[f, :2] - far) | (low > bounds[f, 2:] + far)).any())
        way[f] = before if outside else before + speed


def _spot(track: Track, grid: TokenGrid, moments: list[tuple[int, int]]) -> Spot:
    """A thing in patches."""
    covers = track.covers
    height, width = covers.shape[1:]
    place = (track.way + 0.5) * torch.tensor([grid.width / width, grid.height / height])
    first, second = (list(each) for each in zip(*moments, strict=True))
    there = (covers[first] | covers[second]).double()[:, None]
    share = functional.adaptive_avg_pool2d(there, (grid.height, grid.width))[:, 0]
    size = size_of(track.sides, moments)
    turn = None if size is None else angle_of(track.turn, moments)
    return Spot((place[first] + place[second]) / 2 - 0.5, share > COVERED, size, turn)
