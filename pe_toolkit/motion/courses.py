"""Pieces of frames followed as things: by where they would go on to, by colour and by size.

Where things touch, or one hides the other, each pixel is the thing's that it is like, in place and
in colour (a mixture, of a Gaussian for each). Of a thing that the border cuts, the edge that is
seen says where its middle is; once it is outside it goes on as it left, until nothing of it is
inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from pe_toolkit.motion.pieces import Piece, piece

PLACE, COLOUR, AREA = 2.0, 2.0, 0.3
"""What a piece costs that is a side away from where a thing is expected, of another colour (white,
of black), and e times as large."""
FARTHEST = 0.5
"""Sides that a piece is away from where a thing is expected at most: what comes in on the right as
something leaves on the left is another thing."""
BACK = 0.8
"""What a piece costs at most that is a thing which left the picture, and comes back."""
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
RENEWED, SIZED = 0.1, 0.2
"""How much of a thing's colour, and of its area and edges, is that of the latest frame."""
NEAR = 2.0
"""Of the radii of a thing and a piece together, how far it is from where the thing is expected at
most, if it may be a part of it, or something that touches it."""
SLIVER = 0.1
"""Of a thing's area, what is left of it at the border at least: less is a reflection, or noise."""
INSIDE = 0.3
"""Of a thing's width or height, less than which is to be inside the border where it is no longer
seen, for it to have left."""


@dataclass
class Course:
    """A thing on its way through the frames.

    Attributes:
        place: `(2,)` its middle in pixels, as it was seen last.
        speed: pixels a frame.
        colour: `(3,)`.
        tint: variance of its colours.
        area: pixels.
        reach: `(4,)` how far its edges are from its middle: left, upper, right, lower.
        missing: frames since.
        left: whether it has left the picture.
    """

    place: Tensor
    speed: Tensor
    colour: Tensor
    tint: float
    area: float
    reach: Tensor
    missing: int = 0
    left: bool = False

    @property
    def expected(self) -> Tensor:
        if self.left:
            return self.place
        return self.place + self.speed * min(self.missing + 1, ONWARDS)

    def whole(self, seen: Piece) -> Piece:
        """A piece of it, at the middle of all of it: of what the border cuts by the other edge, if
        that is farther out than what is seen.
        """
        place = seen.place.clone()
        for axis in (0, 1):
            low, high = bool(seen.cut[axis]), bool(seen.cut[axis + 2])
            if low and high:
                place[axis] = self.expected[axis]
            elif low:
                place[axis] = min(place[axis], seen.edges[axis + 2] - self.reach[axis + 2])
            elif high:
                place[axis] = max(place[axis], seen.edges[axis] + self.reach[axis])
        return replace(seen, place=place)

    def go_on(self, seen: Piece | None, bounds: Tensor) -> None:
        """To a frame whose border is at `(4,)` pixels, in which so much is seen of it."""
        if seen is None:
            self.left = self.left or self.outside(bounds)
            self.missing += 1
            return
        if self.left:
            self.speed = torch.zeros_like(self.speed)
        else:
            self.speed = (self.speed + (seen.place - self.place) / (self.missing + 1)) / 2
        self.place, self.missing, self.left = seen.place, 0, False
        if bool(seen.cut.any()):
            self.area = max(self.area, seen.area)
        else:
            self.colour = self.colour + RENEWED * (seen.colour - self.colour)
            self.area += SIZED * (seen.area - self.area)
            self.reach = self.reach + SIZED * (reach(seen) - self.reach)

    def outside(self, bounds: Tensor) -> bool:
        """Whether it is expected there in a frame whose border is at `(4,)` pixels."""
        low, high = self.expected - self.reach[:2], self.expected + self.reach[2:]
        there = torch.minimum(high, bounds[2:]) - torch.maximum(low, bounds[:2])
        return bool((there < INSIDE * (high - low)).any())


def begun(first: Piece, picture: Tensor) -> Course:
    """The course of what `(3, h, w)` shows there."""
    tint = float(picture[:, first.cover].var(1).sum()) + TINT**2
    still = torch.zeros_like(first.place)
    return Course(first.place, still, first.colour, tint, first.area, reach(first))


def reach(seen: Piece) -> Tensor:
    """`(4,)` pixels from the middle of a piece to its edges."""
    return torch.cat([seen.place - seen.edges[:2], seen.edges[2:] - seen.place])


def one_each(
    courses: list[Course], pieces: list[Piece], side: int, bounds: Tensor
) -> list[Piece | None] | None:
    """The piece that each is, if each is one, or has left the picture, or leaves it now; else
    None.
    """
    gone = [course.left or course.outside(bounds) for course in courses]

    def cost(chosen: tuple[Piece | None, ...]) -> float:
        total = 0.0
        for course, one, out in zip(courses, chosen, gone, strict=True):
            if one is None:
                total += BACK if out else math.inf
                continue
            if bool(one.cut.any()) and one.area < SLIVER * course.area:
                return math.inf
            away = float((course.whole(one).place - course.expected).norm()) / side
            if away > FARTHEST:
                return math.inf
            total += PLACE * away
            total += COLOUR * float((one.colour - course.colour).abs().max()) / 255
            total += AREA * abs(_grown(course, one))
        return total

    none: list[Piece | None] = [None for out in gone if out]
    if len(pieces) + len(none) < len(courses):
        return None
    best = min(permutations(pieces + none, len(courses)), key=cost)
    if not math.isfinite(cost(best)):
        return None
    chosen = [(c, one) for c, one in zip(courses, best, strict=True) if one is not None]
    others = [one for one in pieces if not any(one is other for _, other in chosen)]
    left = sum(one.area for one in near(courses, others))
    small = left <= LEFT * min(course.area for course in courses)
    if not small or any(abs(_grown(course, one)) >= LIKE for course, one in chosen):
        return None
    return [one and course.whole(one) for course, one in zip(courses, best, strict=True)]


def _grown(course: Course, seen: Piece) -> float:
    """The change of log area; what the border cuts is smaller for that alone."""
    grown = math.log(seen.area / course.area)
    return max(grown, 0.0) if bool(seen.cut.any()) else grown


def near(courses: list[Course], pieces: list[Piece]) -> list[Piece]:
    """The pieces that may be of a thing that has not left the picture, or of something over it."""

    def far(course: Course, one: Piece) -> float:
        radii = math.sqrt(course.area / math.pi) + math.sqrt(one.area / math.pi)
        return float((one.place - course.expected).norm()) / radii

    there = [course for course in courses if not course.left]
    return [one for one in pieces if any(far(course, one) < NEAR for course in there)]


def shared(courses: list[Course], pieces: list[Piece], picture: Tensor) -> list[Piece | None]:
    """What each that has not left has of all pieces together, of which there are some; None of one
    that is hidden.
    """
    covered = torch.stack([one.cover for one in pieces]).any(0)
    y, x = covered.nonzero(as_tuple=True)
    at, colours = torch.stack([x, y], -1).double(), picture[:, covered].T
    there = [course for course in courses if not course.left]
    places = [course.expected for course in there]
    own: list[Tensor] = []
    for _ in range(ROUNDS if there else 0):
        far = []
        for course, place in zip(there, places, strict=True):
            away = (at - place).square().sum(1) / (course.area / math.pi)
            other = (colours - course.colour).square().sum(1) / course.tint
            far.append(away + other + math.log(course.tint))
        whose = torch.stack(far).argmin(0)
        own = [whose == k for k in range(len(there))]
        places = [
            at[mine].mean(0) if bool(mine.any()) else place
            for mine, place in zip(own, places, strict=True)
        ]
    parts = iter(own)
    out: list[Piece | None] = []
    for course in courses:
        found = None
        if not course.left:
            mine = next(parts)
            if LEAST * course.area < float(mine.sum()) < LARGEST * course.area:
                cover = torch.zeros_like(covered)
                cover[y[mine], x[mine]] = True
                found = piece(picture, cover)
        out.append(found)
    return out
