"""What moves in a reference: the camera, and the things that move by themselves, as `motion.read`
reads them. What is closer to rest than the reading is exact is at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.blending import ENOUGH
from pe_toolkit.motion.ground import Ground
from pe_toolkit.motion.layers import blended, camera_layer, compose, middle
from pe_toolkit.motion.path import reach
from pe_toolkit.motion.similarities import moving, similarity, since, times, turning

REST = 0.3
"""Patches: a path that stays within is at rest. Still clips have up to 0.07 (noise of 6 grey levels
included), the slowest of slow ones 0.47 (docs/experiments.md)."""
GROWTH, TURN = 0.12, 0.35
"""Change of log size, and of angle (radians), within which a thing keeps its size and angle."""
JERK = 0.35
"""Between two latent frames, neither changes by more: what seems to is laid on itself wrongly."""
ONE_PATH = 0.5
"""Share of the kept squared displacement from which on one path says what moves."""
AT_REST = {
    "rests": "the background rests",
    "plain": "the background is too plain to tell a camera by",
    "unclear": "no pan, zoom or roll lays the background on itself",
}
"""Why there is no camera."""
HELD = 0.5
"""Of the way that a camera takes a thing, how much of it a thing goes back that is held."""

OUTSIDE = -0.8
"""Of its radius, how far inside the border the middle of a thing is that has left the picture."""

Kind = Literal["roll", "camera", "two", "one", "rest"]
"""A camera that rolls; one that moves otherwise; before one that rests, two things or more, one
that is told from the background, or none."""


@dataclass(frozen=True)
class Subject:
    """A thing that moves by itself.

    Attributes:
        path: `(F, 2)` float64 (dx, dy) in patches, in the coordinates of the anchor frame: beyond
            what the camera makes it.
        place: `(F, 2)` where it is in the picture, (x, y) in patches.
        size: `(F,)` log of its size against the anchor's, beyond the camera's zoom.
        turn: `(F,)` radians, clockwise, beyond the camera's roll.
        share: of the kept squared displacement, how much its motion explains, in [0, 1].
        cover: `(F, H, W)` bool, the patches that it covers; None where nothing could be told from a
            background.
        seen: whether the pictures say where it is (`motion.spots`), which they do exactly.
    """

    path: Tensor
    place: Tensor
    size: Tensor
    turn: Tensor
    share: float
    cover: Tensor | None = None
    seen: bool = False


@dataclass(frozen=True)
class Moves:
    """Camera and subjects, against the anchor frame.

    Attributes:
        anchor: that frame.
        linear: `(F, 2, 2)` float64 A_f.
        shift: `(F, 2)` float64 b_f, patches.
        subjects: none, or up to three; the one that explains most first.
        at_rest: of a camera that does not move, why it is said to rest: a key of `AT_REST`.
    """

    anchor: int
    linear: Tensor
    shift: Tensor
    subjects: tuple[Subject, ...]
    at_rest: str = "rests"

    @property
    def camera(self) -> bool:
        """Whether the camera moves."""
        return moving(self.linear, self.shift)

    @property
    def cover(self) -> Tensor | None:
        """`(F, H, W)` bool, the patches that subjects cover; None where none is told from a
        background.
        """
        covers = [subject.cover for subject in self.subjects if subject.cover is not None]
        return torch.stack(covers).any(0) if covers else None

    @property
    def two(self) -> bool:
        """Whether several things move, before a camera that rests."""
        return len(self.subjects) > 1 and not self.camera

    @property
    def shown(self) -> bool:
        """Whether the pictures show where all things are."""
        return bool(self.subjects) and all(subject.seen for subject in self.subjects)

    @property
    def several(self) -> bool:
        """Whether several things have a layer each: before a camera that rests, or one that pans,
        where the pictures show them. What was read there otherwise as two was one, or none, and a
        zoom is lost behind two (docs/experiments.md).
        """
        return len(self.subjects) > 1 and (self.two or (self.shown and not self.turns))

    @property
    def held(self) -> bool:
        """Whether something that moves goes against the camera, and stays about where it is in the
        picture: a thing that a camera follows.
        """
        for subject in self.subjects:
            own = torch.einsum("fij,fj->fi", self.linear, subject.path)
            carried = subject.place - own  # where the camera takes it
            carried = carried - carried[self.anchor]
            against, way = -float((carried * own).sum()), float(carried.square().sum())
            if against > HELD * way > 0:
                return True
        return False

    @property
    def kind(self) -> Kind:
        """What recipes tell apart."""
        if self.camera:
            return "roll" if self.rolls else "camera"
        if self.two:
            return "two"
        return "rest" if self.cover is None else "one"

    @property
    def turns(self) -> bool:
        """Whether it zooms or rolls by more than a thing does that keeps its size and angle."""
        size, _ = turning(self.linear)
        return self.rolls or bool((changing(size, GROWTH) != 0).any())

    @property
    def rolls(self) -> bool:
        """Whether it rolls by more than a thing does that keeps its angle."""
        _, turn = turning(self.linear)
        return bool((changing(turn, TURN) != 0).any())

    def ground(self, grid: TokenGrid, share: float) -> Ground | None:
        """The camera for noise of which so much is fixed to it; None of nothing."""
        sides = torch.tensor([grid.width, grid.height])
        return Ground(share, self.linear, self.shift / sides, not self.camera) if share else None

    def origin(self, grid: TokenGrid) -> int:
        """The latent frame whose layout positions keep, of several things before a camera that
        rests: the anchor, unless the border cuts one there, or it is outside. Then the nearest one
        of those in which most of the one that is farthest out is inside.
        """
        if self.camera or len(self.subjects) < 2:
            return self.anchor
        cut = any(_inside(one, grid)[self.anchor] < ENOUGH for one in self.subjects)
        return self._seen(grid) if cut else self.anchor

    def away(self, grid: TokenGrid) -> Tensor:
        """`(2,)` float64 (x, y) in patches: how far from the middle of the picture things are in
        frame `origin`, in the mean, before a camera that rests; else 0.

        A generation draws what it moves about the middle of where its tokens pretend to sit. So
        positions put things back to there, and they are drawn where the reference has them. One
        that leaves the picture is put back half of the way to there, from where most of it is
        inside: farther, it is drawn all over the picture of some clips while it is outside
        (docs/experiments.md).
        """
        if self.camera or not self.subjects:
            return torch.zeros(2, dtype=torch.float64)
        away = self._beside(grid)
        places = torch.stack([s.place.double() for s in self.subjects]) - middle(grid)  # (N, F, 2)
        if len(places) > 1 or bool((_inside(self.subjects[0], grid) > OUTSIDE).all()):
            return away
        return away - places[0, self._seen(grid)] / 2

    def _beside(self, grid: TokenGrid) -> Tensor:
        """`(2,)` from the middle of the picture to that of the things in frame `origin`."""
        places = torch.stack([subject.place.double() for subject in self.subjects])
        return places[:, self.origin(grid)].mean(0) - middle(grid)

    def _seen(self, grid: TokenGrid) -> int:
        """The frame, of those in which most of the thing that is farthest out is inside, that is
        nearest to the anchor.
        """
        inside = torch.stack([_inside(subject, grid) for subject in self.subjects]).amin(0)
        best = (inside >= inside.amax() - 1e-9).nonzero()[:, 0].tolist()
        return int(min(best, key=lambda f: abs(f - self.anchor)))

    def layers(
        self, grid: TokenGrid, scale: float = 1.0, own: float = 1.0, *, placed: bool = False
    ) -> dict[str, Tensor]:
        """The layers of positions by name, `(S, 3)` float32 offsets each, on all tokens; their sum
        puts the subject back where the anchor frame has it, or to the middle of the picture. No
        layer if nothing moves.

        Several subjects are blended (`motion.layers`), or have no layer (`several`). One alone,
        before a camera that rests, grows and turns about the middle of the picture: a generation
        draws it where its seed has it, which is rather there than where the reference has it.

        Args:
            scale: of all motions; of paths within `motion.path.FARTHEST` of the picture.
            own: how much of its layer a subject gets.
            placed: put things back to the middle of the picture (`away`): before a camera that
                moves right only where the subjects' layers act apart from the camera's.
        """
        linear, shift = times(self.linear, self.shift, scale)
        out = {}
        if self.camera:
            out["camera"] = camera_layer(grid, linear, shift)
        if len(self.subjects) > 1 and not self.several:
            return out
        shares = (
            blended(grid, torch.stack([s.place for s in self.subjects])) if self.subjects else ()
        )
        alone = len(self.subjects) == 1 and not self.camera
        origin, away = self.anchor, torch.zeros(2, dtype=torch.float64)
        if placed:
            origin, away = self.origin(grid), self._beside(grid) if self.camera else self.away(grid)
        for k, (subject, share) in enumerate(zip(self.subjects, shares, strict=True)):
            about = middle(grid) if alone else subject.place[self.anchor]
            own_linear, own_shift = since(origin, *own_motion(grid, subject, about, scale))
            motion = own_linear, own_shift + away
            layer = compose(grid, (linear, shift), motion)
            out[f"subject-{k + 1}" if k else "subject"] = layer * (own * share[:, None]).float()
        return out


def grows(subject: Subject) -> bool:
    return bool((subject.size != 0).any() or (subject.turn != 0).any())


def changing(values: Tensor, least: float) -> Tensor:
    """The values, or zeros where they hardly change, or jump."""
    changes = float(values.amax() - values.amin()) >= least
    jumps = float(values.diff().abs().max()) > JERK if len(values) > 1 else False
    return values if changes and not jumps else torch.zeros_like(values)


def _inside(subject: Subject, grid: TokenGrid) -> Tensor:
    """`(F,)` how far the middle of a thing is inside the border, in times of its radius, 1 at most;
    1 where that is not known.
    """
    if subject.cover is None or not bool(subject.cover.any()):
        return torch.ones(grid.frames, dtype=torch.float64)
    radius = float(subject.cover.double().sum((1, 2)).amax() / torch.pi) ** 0.5
    low = subject.place.double() + 0.5
    high = torch.tensor([grid.width, grid.height]) - low
    return torch.minimum(low, high).amin(1).div(radius).clamp(max=1.0)


def own_motion(
    grid: TokenGrid, subject: Subject, about: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Its A_f `(F, 2, 2)` and b_f `(F, 2)` about the middle of the grid, as a camera has them:
    where what it covers in the anchor frame goes, beyond the camera: p -> o + M (p - o) + d with
    o = `about`, `(2,)` (x, y) in patches, which is its middle in that frame.
    """
    path = subject.path * reach(subject.path, grid, scale)
    own = similarity(subject.size * scale, subject.turn * scale)
    away = about - middle(grid)
    return own, path + away - (own @ away[:, None])[..., 0]
