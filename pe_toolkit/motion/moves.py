"""What moves in a reference: the camera, and the things that move by themselves.

- *Things* are told from the background by a normalised cut (`motion.segments`), one or two of them,
  whichever explains the displacements that the mask keeps.
- The *camera* is how the background lies on itself in the pictures (`motion.registration`). Where
  the background shows nothing, there is none to be seen.
- A *subject* is a thing whose path differs from what the camera would make of it; its growth and
  turn are read by laying its own pictures on each other.
- Before a camera that rests the pictures say themselves where things are (`motion.spots`), up to
  three of them, where that is clear: ten times as exactly as a cut of the patches does, and of
  things that no cut tells.

What is closer to rest than the reading is exact is at rest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid, frames_per_latent
from pe_toolkit.motion.backdrop import shrunk
from pe_toolkit.motion.changes import QUIET, most_changed
from pe_toolkit.motion.film import confirmed, everywhere, grey_film
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.ground import Ground
from pe_toolkit.motion.layers import blended, camera_layer, compose, middle, undo
from pe_toolkit.motion.path import mean_path, path_shares, reach
from pe_toolkit.motion.registration import NOISE, READABLE, Registration, after, left, register
from pe_toolkit.motion.segments import FAINT
from pe_toolkit.motion.spots import Spot, spots
from pe_toolkit.motion.things import WHOLE, Thing, things_of

REST = 0.3
"""Patches: a path that stays within is at rest. Still clips have up to 0.07 (noise of 6 grey levels
included), the slowest of slow ones 0.47 (docs/experiments.md)."""
MORE, EACH, SURE = 4.0, 0.05, 0.05
"""How many times as much a mean path has to explain of what moves, `EACH` at least, to be believed
against a subject that goes the other way; and the share that is followed."""
WEAK = 0.11
"""Of what moves, what subjects of a cut explain less than where the cut takes what rests for the
thing: 0 to 0.10; of true things from 0.12, but of those that come in over a texture
(docs/experiments.md)."""
GROWTH, TURN = 0.12, 0.35
"""Change of log size, and of angle (radians), within which a thing keeps its size and angle."""
JERK = 0.35
"""Between two latent frames, neither changes by more: what seems to is laid on itself wrongly."""
CHANCE, MOST, FOLLOWED = 2.8, 0.4, 0.003
"""Matches that lead back within a patch, in times of what is expected of any, and at most what
share of all; and the share that is followed. Noise, of pixels or of blocks of them, has 1.8 to 2.8
(0.25 to 0.39 of all on the bundled grid) and up to 0.002, once 0.005, a thing that enters or leaves
from 2.5 (0.35) and 0.006 or more where it has less than 3.5, rendered clips of other classes 3.8
(0.53) and more (docs/experiments.md)."""
FAR = 1.5
"""As `REST`, of a path through matches, each to a patch: those of still clips have up to 1.2."""
SEEN = 0.15
"""Of the picture: a background of less tells no camera."""
WITH = 0.25
"""Of the squared difference of a thing's own pictures that may be left under the camera's motion,
for the thing to move with the camera."""
ONE_PATH = 0.5
"""Share of the kept squared displacement from which on one path says what moves."""
AT_REST = {
    "rests": "the background rests",
    "plain": "the background is too plain to tell a camera by",
    "unclear": "no pan, zoom or roll lays the background on itself",
}
"""Why there is no camera."""
BETTER = 0.5
"""Of the squared difference that may be left of what it was, for a motion to be one: noise alone
falls to 0.62 between two pixels."""
LEFT = 0.12
"""The same of a camera's, where more is left than noise (`NOISE` squared in every frame): rendered
cameras leave 0.07 at most; a thing before a light that falls from one side, taken for the ground,
0.14 and 0.26."""

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
        return bool((self.linear != torch.eye(2)).any() or (self.shift != 0).any())

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
        return self.rolls or bool((_steady(size, GROWTH) != 0).any())

    @property
    def rolls(self) -> bool:
        """Whether it rolls by more than a thing does that keeps its angle."""
        _, turn = turning(self.linear)
        return bool((_steady(turn, TURN) != 0).any())

    def ground(self, grid: TokenGrid, share: float) -> Ground | None:
        """The camera for noise of which so much is fixed to it; None of nothing."""
        sides = torch.tensor([grid.width, grid.height])
        return Ground(share, self.linear, self.shift / sides, not self.camera) if share else None

    def layers(self, grid: TokenGrid, scale: float = 1.0, own: float = 1.0) -> dict[str, Tensor]:
        """The layers of positions by name, `(S, 3)` float32 offsets each, on all tokens; their sum
        puts the subject back where the anchor frame has it. No layer if nothing moves.

        Several subjects are blended (`motion.layers`). Before a camera that moves they have no
        layer: what was read there as two was one, or none (docs/experiments.md).

        Args:
            scale: of all motions; of paths within `motion.path.FARTHEST` of the picture.
            own: how much of its layer a subject gets.
        """
        linear, shift = times(self.linear, self.shift, scale)
        out = {}
        if self.camera:
            out["camera"] = camera_layer(grid, linear, shift)
        if len(self.subjects) > 1 and self.camera:
            return out
        shares = (
            blended(grid, torch.stack([s.place for s in self.subjects])) if self.subjects else ()
        )
        for k, (subject, share) in enumerate(zip(self.subjects, shares, strict=True)):
            layer = _subject_layer(grid, subject, (linear, shift), scale, self.anchor)
            out[f"subject-{k + 1}" if k else "subject"] = layer * (own * share[:, None]).float()
        return out


def read_moves(
    flow: AttentionMotionFlow,
    things: tuple[Tensor, TokenGrid] | None,
    pictures: Tensor,
    film: NDArray[np.uint8] | None = None,
) -> Moves:
    """Camera and subjects of a reference, against its middle frame.

    Args:
        flow: its displacements, with the mask of what counts.
        things: as `segments.affinity` gives them. None where the reading knows of positions, which
            cannot be cut into things: then what is not clear in the pictures is what one path says.
        pictures: `(F, h, w)` grey values (0..255), one for every latent frame (`pictures_of`).
        film: uint8 RGB `(N, H, W, 3)`, all frames of the clip: where things are before a camera
            that rests (`motion.spots`), and what they say of a camera where the pictures leave
            doubt (`motion.film`). None: neither is known then.
    """
    grid, anchor = flow.grid, flow.grid.frames // 2
    small = None if film is None else shrunk(film)
    quiet = small is not None and most_changed(small) < QUIET
    shown = _shown(flow, pictures, small, anchor) if small is not None and quiet else None
    if shown is not None and (len(shown) != 1 or things is None):
        return Moves(anchor, *_resting(grid), tuple(shown))
    if things is None:
        linear, shift, why = read_camera(grid, pictures, film)
        alone = _along_one_path(flow, (linear, shift), anchor)
        return Moves(anchor, linear, shift, alone, why)
    seen = flow.matched > by_chance(grid) or flow.followed >= FOLLOWED
    told_apart = things_of(flow, *things) if seen else []
    if shown is None:
        return _cut(flow, told_apart, pictures, film, seen=seen, quiet=quiet)
    if len(told_apart) == 2:  # what is shown as one may be two that touch all the time
        found = _cut(flow, told_apart, pictures, film, seen=seen, quiet=quiet)
        if found.two:
            return found
    return Moves(anchor, *_resting(grid), tuple(shown))


def _cut(
    flow: AttentionMotionFlow,
    told_apart: list[Thing],
    pictures: Tensor,
    film: NDArray[np.uint8] | None,
    *,
    seen: bool,
    quiet: bool,
) -> Moves:
    """By a cut of the patches. Args as of `read_moves`, and

    Args:
        told_apart: what the cut tells from a background.
        seen: whether more matches than by chance.
        quiet: whether most of the picture stays as it is.
    """
    grid, anchor = flow.grid, flow.grid.frames // 2
    weights = torch.ones(tuple(grid), dtype=torch.float64)
    if told_apart:
        covered = torch.stack([thing.mask for thing in told_apart]).amax(0) > FAINT
        weights = 1 - functional.max_pool2d(covered.double(), 3, 1, 1)
    if float(weights.mean()) < SEEN:
        weights = torch.ones_like(weights)
    sure = seen and not quiet and bool((weights != 1).any())
    background, (linear, shift, why) = _background(grid, pictures, weights, anchor, film, told=sure)
    if why == "unclear" and bool((weights != 1).any()):
        # In footage that the backbone does not know, things that are none hide what moves.
        whole = torch.ones_like(weights)
        other, said = _background(grid, pictures, whole, anchor, film, told=False)
        if not said[2]:
            background, (linear, shift, why) = other, said
    if why == "unclear" and quiet:
        why = "rests"
    moved = bool((shift != 0).any() or (linear != torch.eye(2)).any())
    narrow = [thing for thing in told_apart if thing.wide <= WHOLE]
    moving = background if moved else None
    subjects = _subjects(grid, pictures, narrow, moving, (linear, shift), anchor)
    if seen and not narrow and not moved:  # nothing could be told from a background
        subjects = list(_along_one_path(flow, (linear, shift), anchor))
    if len(subjects) == 1 and not moved and subjects[0].cover is not None:
        subjects = [not_against(subjects[0], flow, anchor)]
    if film is not None and not moved and not quiet:
        weak = all(subject.share < WEAK for subject in subjects)
        subjects = [one for one in subjects if one.share >= EACH] if weak else subjects
    subjects.sort(key=lambda s: -s.share)
    return Moves(anchor, linear, shift, tuple(subjects), why)


def _subjects(
    grid: TokenGrid,
    pictures: Tensor,
    things: list[Thing],
    background: Registration | None,
    camera: tuple[Tensor, Tensor],
    anchor: int,
) -> list[Subject]:
    """Those of the things that move beyond the camera.

    Args:
        background: how it lies on itself, where the camera moves: what lies so as well goes with
            it.
    """
    subjects = []
    for thing in things:
        around = functional.max_pool2d((thing.mask > FAINT).double(), 3, 1, 1)
        if background is not None:
            rest, still = left(pictures, around, anchor, background)
            if rest <= max(WITH * still, NOISE**2):
                continue
        read = thing.course.place, thing.share
        subject = _subject(grid, pictures, around, read, camera, anchor)
        subject = dataclasses.replace(subject, cover=thing.mask > FAINT)
        if _far(subject) >= REST or _grows(subject):
            subjects.append(subject)
    return subjects


def _shown(
    flow: AttentionMotionFlow, pictures: Tensor, small: Tensor, anchor: int
) -> list[Subject] | None:
    """Before a camera that rests: what moves in the pictures; None where that is not clear."""
    grid = flow.grid
    camera = _resting(grid)
    found = _together(spots(small, grid, frames_of(len(small), grid.frames)))
    if not found:
        return None
    subjects = []
    shares = path_shares(flow, [spot.place for spot in found])
    for spot, share in zip(found, shares, strict=True):
        around = functional.max_pool2d(spot.cover.double(), 3, 1, 1)
        subject = _subject(grid, pictures, around, (spot.place, share), camera, anchor)
        subject = dataclasses.replace(subject, cover=spot.cover, seen=True)
        if _far(subject) >= REST or _grows(subject):
            subjects.append(subject)
    return sorted(subjects, key=lambda s: -s.share)


def _resting(grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """A_f and b_f of a camera that does not move."""
    still = torch.eye(2, dtype=torch.float64).expand(grid.frames, 2, 2).clone()
    return still, torch.zeros(grid.frames, 2, dtype=torch.float64)


def _together(found: list[Spot]) -> list[Spot]:
    """The spots, those that keep their distance from each other as one: parts of one thing, or
    things that go alike.
    """
    groups: list[list[Spot]] = []
    for spot in found:
        for group in groups:
            apart = spot.place - group[0].place
            if float((apart.amax(0) - apart.amin(0)).max()) < REST:
                group.append(spot)
                break
        else:
            groups.append([spot])
    out = []
    for group in groups:
        sizes = torch.tensor([float(one.cover.sum()) + 1e-9 for one in group]).double()
        place = torch.stack([one.place for one in group])
        middle_of = torch.einsum("n,nfk->fk", sizes / sizes.sum(), place)
        out.append(Spot(middle_of, torch.stack([one.cover for one in group]).any(0)))
    return out


def _far(subject: Subject) -> float:
    """Patches along an axis that it goes at most."""
    return float((subject.path.amax(0) - subject.path.amin(0)).max())


def by_chance(grid: TokenGrid) -> float:
    """The share of matches up to which a content reading of `grid` says nothing: `CHANCE` times
    that of nine places out of all, which is where a match that leads back may end.
    """
    return min(CHANCE * 9 / grid.per_frame, MOST)


def read_camera(
    grid: TokenGrid, pictures: Tensor, film: NDArray[np.uint8] | None = None
) -> tuple[Tensor, Tensor, str]:
    """The camera where things are not told from a background. Args as in `read_moves`.

    Returns:
        `(F, 2, 2)` float64 A_f and `(F, 2)` b_f in patches, against the middle frame; and why it is
        said to rest, a key of `AT_REST`, or "".
    """
    weights = torch.ones(tuple(grid), dtype=torch.float64)
    return _background(grid, pictures, weights, grid.frames // 2, film, told=False)[1]


def not_against(subject: Subject, flow: AttentionMotionFlow, anchor: int) -> Subject:
    """A subject, or the mean path in its place where that goes the other way and explains more: two
    like things that go side by side are cut as what lies between and behind them.
    """
    path = mean_path(flow, anchor).double()
    share = path_shares(flow, [path])[0]
    against = float((path.diff(dim=0) * subject.path.diff(dim=0)).sum()) < 0
    little = flow.followed < SURE or share < MORE * max(subject.share, EACH)
    if little or not against:
        return subject
    zero = torch.zeros(len(path), dtype=torch.float64)
    return Subject(path, path + middle(flow.grid), zero, zero, share)


def _along_one_path(
    flow: AttentionMotionFlow, camera: tuple[Tensor, Tensor], anchor: int
) -> tuple[Subject, ...]:
    """The mean path, if it explains what moves and the camera does not."""
    grid, path = flow.grid, mean_path(flow, anchor).double()
    share = path_shares(flow, [path])[0]
    place = path + middle(grid)
    own = undo(place[:, None], grid, *camera)[:, 0]
    own = own - own[anchor]
    zero = torch.zeros(grid.frames, dtype=torch.float64)
    alone = Subject(own, place, zero, zero, share)
    return () if share < ONE_PATH or _far(alone) < FAR else (alone,)


def _background(
    grid: TokenGrid,
    pictures: Tensor,
    weights: Tensor,
    anchor: int,
    film: NDArray[np.uint8] | None,
    *,
    told: bool = True,
) -> tuple[Registration, tuple[Tensor, Tensor, str]]:
    """The background laid on itself, and the camera that this says. `told`: whether the reading
    tells things from it, if there are any; else what lies on itself may be one.
    """
    found = register(pictures, weights, anchor)

    def sure(doubt: bool) -> bool:
        if not doubt:
            return told or everywhere(found, pictures, weights, anchor)
        if film is None:
            return False
        moments = frames_of(len(film), grid.frames)
        return confirmed(found, pictures, grey_film(film), weights, anchor, moments)

    return found, _camera(found, grid, sure)


def _camera(
    found: Registration, grid: TokenGrid, sure: Callable[[bool], bool]
) -> tuple[Tensor, Tensor, str]:
    """A_f and b_f in patches; the identity, and why, where that says the background no worse.
    `sure` is asked, and told whether much is left, as of real footage.
    """
    linear, shift = found.linear, found.shift * torch.tensor([grid.width, grid.height])
    still = _resting(grid)
    if found.contrast < READABLE:
        return *still, "plain"
    if not bool(found.rest.isfinite().all()):
        return *still, "unclear"
    goes = camera_layer(grid, linear, shift).reshape(grid.frames, -1)
    if float((goes.amax(0) - goes.amin(0)).max()) < REST:  # from first to last, not from the middle
        return *still, "rests"
    jumps = float(torch.stack(turning(linear)).diff(dim=1).abs().max()) > JERK
    rest, before = float(found.rest.sum()), float(found.still.sum())
    noise = (grid.frames - 1) * NOISE**2
    doubt = rest > min(BETTER * before, max(LEFT * before, noise))
    if jumps or not sure(doubt):
        return *still, "unclear"
    return linear, shift, ""


def _subject(
    grid: TokenGrid,
    pictures: Tensor,
    around: Tensor,
    thing: tuple[Tensor, float],
    camera: tuple[Tensor, Tensor],
    anchor: int,
) -> Subject:
    """A thing, by its places and its share, with the camera's motion taken out of its own."""
    place, share = thing
    path = undo(place[:, None], grid, *camera)[:, 0]
    size, turn = (torch.zeros(grid.frames, dtype=torch.float64) for _ in "st")
    # Its own pictures laid on each other, from where its course says that they are.
    start = (place - place[anchor]) / torch.tensor([grid.width, grid.height])
    found = register(pictures, around, anchor, start)
    ok = found.rest.isfinite() & found.still.isfinite()
    better = bool(ok.all()) and float(found.rest.sum()) < BETTER * float(found.still.sum())
    if better and _turned(grid, pictures, around, place[anchor], found, anchor):
        size, turn = (
            own - cam for own, cam in zip(turning(found.linear), turning(camera[0]), strict=True)
        )
    return Subject(
        path - path[anchor],
        place,
        _steady(size, GROWTH),
        _steady(turn, TURN),
        max(0.0, share),
    )


def _turned(
    grid: TokenGrid,
    pictures: Tensor,
    around: Tensor,
    place: Tensor,
    found: Registration,
    anchor: int,
) -> bool:
    """Whether its pictures lie better for a growth and a turn: beside the same fit without, which
    takes its middle to the same places. The course of a cut mask is coarse, and much of what a fit
    gains on it is a better course.
    """
    height, width = pictures.shape[1:]
    sides = torch.tensor([width, height]) / min(width, height)
    middle_of = ((place + 0.5) / torch.tensor([grid.width, grid.height]) * 2 - 1) * sides
    at = torch.cat([torch.zeros(2), middle_of]).to(found.motions)
    moved = torch.stack([after(at, motion) for motion in found.motions]) - at
    moved[:, :2] = 0
    alone = dataclasses.replace(found, motions=moved)
    rest, without = (left(pictures, around, anchor, each)[0] for each in (found, alone))
    return rest < BETTER * without


def _steady(values: Tensor, least: float) -> Tensor:
    """The values, or zeros where they hardly change, or jump."""
    changes = float(values.amax() - values.amin()) >= least
    jumps = float(values.diff().abs().max()) > JERK if len(values) > 1 else False
    return values if changes and not jumps else torch.zeros_like(values)


def _grows(subject: Subject) -> bool:
    return bool((subject.size != 0).any() or (subject.turn != 0).any())


def turning(linear: Tensor) -> tuple[Tensor, Tensor]:
    """Log zoom and clockwise radians of `(F, 2, 2)` similarities."""
    return 0.5 * torch.linalg.det(linear).log(), torch.atan2(linear[:, 1, 0], linear[:, 0, 0])


def times(linear: Tensor, shift: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The camera, `scale` times as far."""
    if scale == 1:
        return linear, shift
    size, turn = turning(linear)
    return similarity(size * scale, turn * scale), shift * scale


def similarity(size: Tensor, turn: Tensor) -> Tensor:
    """`(F,)` log sizes and clockwise radians -> `(F, 2, 2)`."""
    c, s = size.exp() * turn.cos(), size.exp() * turn.sin()
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def _subject_layer(
    grid: TokenGrid, subject: Subject, camera: tuple[Tensor, Tensor], scale: float, anchor: int
) -> Tensor:
    """What is left to put the subject back after the camera is, on all tokens."""
    return compose(grid, camera, own_motion(grid, subject, anchor, scale))


def own_motion(
    grid: TokenGrid, subject: Subject, anchor: int, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Its A_f `(F, 2, 2)` and b_f `(F, 2)` about the middle of the grid, as a camera has them:
    where what it covers in the anchor frame goes, beyond the camera.
    """
    path = subject.path * reach(subject.path, grid, scale)
    own = similarity(subject.size * scale, subject.turn * scale)
    # About its own middle in the anchor frame: p -> o + M (p - o) + d.
    about = subject.place[anchor] - middle(grid)
    return own, path + about - (own @ about[:, None])[..., 0]


def pictures_of(frames: NDArray[np.uint8], latent: int) -> Tensor:
    """uint8 RGB `(N, H, W, 3)` -> `(latent, H, W)` float32 grey values, one per latent frame."""
    chosen = [frames[[a, b]].mean(0).mean(-1) for a, b in frames_of(len(frames), latent)]
    return torch.from_numpy(np.stack(chosen)).float()


def frames_of(count: int, latent: int) -> list[tuple[int, int]]:
    """Which two of `count` frames stand for each of `latent` latent frames: the middle of those
    that the VAE made it from (`grid.frames_per_latent`).
    """
    if latent == 1:
        return [(0, 0)]
    first, ratio = frames_per_latent(count, latent)
    others = [first + (k - 1) * ratio + (ratio - 1) / 2 for k in range(1, latent)]
    centres = [(first - 1) / 2, *others]
    return [(math.floor(c), math.ceil(c)) for c in centres]
