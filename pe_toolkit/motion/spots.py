"""Where the things of a clip are, in its pictures, before a camera that rests.

What differs from the backdrop (`motion.backdrop`) falls into pieces (`motion.pieces`), which are
followed from the frame in which they are farthest apart, both ways: by where they would go on to,
by colour and by size. Where they touch, or one hides the other, each pixel is the thing's that it
is like, in place and in colour (a mixture, of a Gaussian for each). A thing of which too little is
seen is, meanwhile, on the straight line from where it was seen before to where it is seen again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import backdrop
from pe_toolkit.motion.pieces import Piece, piece, pieces_of

MOST = 3
"""Things."""
OFTEN, MORE = 1 / 4, 1 / 3
"""Of the frames: in how many there are to be so many pieces, for so many things; and in how many
more at most."""
SEEN, ENDS = 1 / 2, 2
"""Of the frames, in how many a thing is seen; how many at either end it may not be: where it is
while it is outside is not known."""
PLACE, COLOUR, AREA = 2.0, 2.0, 0.3
"""What a piece costs that is a side away from where a thing is expected, of another colour (white,
of black), and e times as large."""
LEFT, LIKE = 0.3, 0.5
"""Of the smallest thing, what other pieces may cover; the change of log area from frame to frame
up to which a piece is a thing and not two, or half of one."""
LEAST, LARGEST = 0.65, 1.5
"""Of a thing's area, between which what is like it, where things touch, is all of it."""
TINT = 15.0
"""Of 255, the spread of a thing's colours at least."""
ROUNDS = 6
"""Of the mixture: where things are from what is theirs, and what is theirs from where they are."""
ONWARDS = 6
"""Frames that a thing which is not seen is expected to go on as before."""
COLOURED, SIZED = 0.1, 0.2
"""How much of a thing's colour and area is that of the latest frame."""
COVERED = 0.05
"""Of a patch, what a thing covers of it at least to be in it: what a patch is read as, and where it
goes, is of a little more than itself."""


@dataclass(frozen=True)
class Spot:
    """One thing in the pictures.

    Attributes:
        place: `(F, 2)` float64, (x, y) of its middle in patches.
        cover: `(F, H, W)` bool, the patches that it covers.
    """

    place: Tensor
    cover: Tensor


@dataclass
class _Course:
    """A thing on its way through the frames."""

    place: Tensor
    speed: Tensor
    colour: Tensor
    tint: float
    area: float
    missing: int = 0

    @property
    def expected(self) -> Tensor:
        return self.place + self.speed * min(self.missing + 1, ONWARDS)

    def go_on(self, seen: Piece | None) -> None:
        if seen is None:
            self.missing += 1
            return
        self.speed = (self.speed + (seen.place - self.place) / (self.missing + 1)) / 2
        self.place, self.missing = seen.place, 0
        self.colour = self.colour + COLOURED * (seen.colour - self.colour)
        self.area += SIZED * (seen.area - self.area)


@dataclass(frozen=True)
class Track:
    """One thing through all frames.

    Attributes:
        way: `(N, 2)` float64, (x, y) of its middle in pixels.
        covers: `(N, h, w)` bool.
    """

    way: Tensor
    covers: Tensor


def spots(pictures: Tensor, grid: TokenGrid, moments: list[tuple[int, int]]) -> list[Spot]:
    """Up to `MOST` things, or none where that is not clear.

    Args:
        pictures: `(N, 3, h, w)` of `backdrop.shrunk`, before a camera that rests.
        grid: F x H x W tokens.
        moments: of each latent frame, which two frames it stands for (`moments.frames_of`).
    """
    return [_spot(track, grid, moments) for track in tracks(pictures)]


def tracks(pictures: Tensor, *, laid: bool = False, frame: float | None = None) -> list[Track]:
    """Up to `MOST` things in `(N, 3, h, w)` pictures, or none where that is not clear.

    Args:
        laid: the pictures were laid on each other (`motion.steady`).
        frame: pixels of one. Default: all.
    """
    frames = pieces_of(pictures, backdrop(pictures, laid), laid=laid, frame=frame)
    if frames is None:
        return []
    counts = [len(pieces) for pieces in frames]
    enough = [n for n in range(1, MOST + 1) if counts.count(n) >= OFTEN * len(counts)]
    if not enough or sum(n > enough[-1] for n in counts) > MORE * len(counts):
        return []
    begin = _begin(frames, enough[-1])
    out = []
    for seen in _followed(frames, pictures, begin):
        track = _track(seen, pictures.shape[2:])
        if track is None:
            return []
        out.append(track)
    return out


def _begin(frames: list[list[Piece]], count: int) -> int:
    """Of the frames with so many pieces the one in which they are farthest apart; of one piece, the
    one in which it is as large as usual.
    """
    which = [f for f, pieces in enumerate(frames) if len(pieces) == count]
    if count > 1:
        return max(which, key=lambda f: _gap(frames[f]))
    areas = [frames[f][0].area for f in which]
    return which[areas.index(sorted(areas)[len(areas) // 2])]


def _gap(pieces: list[Piece]) -> float:
    """Pixels between the two that are nearest."""
    between = [float((a.place - b.place).norm()) for a, b in combinations(pieces, 2)]
    return min(between, default=0.0)


def _followed(frames: list[list[Piece]], pictures: Tensor, begin: int) -> list[list[Piece | None]]:
    """Of every piece of frame `begin` what is seen of it in each frame."""
    out: list[list[Piece | None]] = [[None] * len(frames) for _ in frames[begin]]
    for k, first in enumerate(frames[begin]):
        out[k][begin] = first
    for way in (range(begin + 1, len(frames)), range(begin - 1, -1, -1)):
        courses = [_course(first, pictures[begin]) for first in frames[begin]]
        for f in way:
            seen = _one_each(courses, frames[f], min(pictures.shape[2:]))
            if seen is None and frames[f]:
                seen = _shared(courses, frames[f], pictures[f])
            for k, course in enumerate(courses):
                out[k][f] = seen[k] if seen else None
                course.go_on(out[k][f])
    return out


def _course(first: Piece, picture: Tensor) -> _Course:
    tint = float(picture[:, first.cover].var(1).sum()) + TINT**2
    return _Course(first.place, torch.zeros_like(first.place), first.colour, tint, first.area)


def _one_each(courses: list[_Course], pieces: list[Piece], side: int) -> list[Piece | None] | None:
    """The piece that each is, if each is one; else None."""

    def cost(chosen: tuple[Piece, ...]) -> float:
        total = 0.0
        for course, one in zip(courses, chosen, strict=True):
            total += PLACE * float((one.place - course.expected).norm()) / side
            total += COLOUR * float((one.colour - course.colour).abs().max()) / 255
            total += AREA * abs(math.log(one.area / course.area))
        return total

    if len(pieces) < len(courses):
        return None
    best = min(permutations(pieces, len(courses)), key=cost)
    left = sum(one.area for one in pieces) - sum(one.area for one in best)
    changed = max(
        abs(math.log(one.area / course.area)) for course, one in zip(courses, best, strict=True)
    )
    small = left <= LEFT * min(course.area for course in courses)
    return list(best) if small and changed < LIKE else None


def _shared(courses: list[_Course], pieces: list[Piece], picture: Tensor) -> list[Piece | None]:
    """What each has of all pieces together; None of one that is hidden."""
    covered = torch.stack([one.cover for one in pieces]).any(0)
    y, x = covered.nonzero(as_tuple=True)
    at, colours = torch.stack([x, y], -1).double(), picture[:, covered].T
    places = [course.expected for course in courses]
    for _ in range(ROUNDS):
        far = []
        for course, place in zip(courses, places, strict=True):
            away = (at - place).square().sum(1) / (course.area / math.pi)
            other = (colours - course.colour).square().sum(1) / course.tint
            far.append(away + other + math.log(course.tint))
        whose = torch.stack(far).argmin(0)
        own = [whose == k for k in range(len(courses))]
        places = [
            at[mine].mean(0) if bool(mine.any()) else place
            for mine, place in zip(own, places, strict=True)
        ]
    out: list[Piece | None] = []
    for course, mine in zip(courses, own, strict=True):
        cover = torch.zeros_like(covered)
        cover[y[mine], x[mine]] = True
        wholly = LEAST * course.area < float(mine.sum()) < LARGEST * course.area
        out.append(piece(picture, cover) if wholly else None)
    return out


def _track(seen: list[Piece | None], size: tuple[int, ...]) -> Track | None:
    """What is seen of a thing in pictures of (h, w); None where that is too little."""
    known = [f for f, one in enumerate(seen) if one is not None]
    if len(known) < SEEN * len(seen) or known[0] > ENDS or known[-1] < len(seen) - 1 - ENDS:
        return None
    found = np.stack([one.place.numpy() for one in seen if one is not None])
    times = np.arange(len(seen))
    way = np.stack([np.interp(times, known, found[:, axis]) for axis in (0, 1)], 1)
    nothing = torch.zeros(*size, dtype=torch.bool)
    covers = torch.stack([nothing if one is None else one.cover for one in seen])
    return Track(torch.from_numpy(way), covers)


def _spot(track: Track, grid: TokenGrid, moments: list[tuple[int, int]]) -> Spot:
    """A thing in patches."""
    covers = track.covers
    height, width = covers.shape[1:]
    place = (track.way + 0.5) * torch.tensor([grid.width / width, grid.height / height])
    first, second = (list(each) for each in zip(*moments, strict=True))
    there = (covers[first] | covers[second]).double()[:, None]
    share = functional.adaptive_avg_pool2d(there, (grid.height, grid.width))[:, 0]
    return Spot((place[first] + place[second]) / 2 - 0.5, share > COVERED)
