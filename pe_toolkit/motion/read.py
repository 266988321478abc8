"""What moves in a reference, read from its displacements and its pictures.

- Before a camera that rests the pictures say themselves where things are, where that is clear.
- Else *things* are told from the background by a normalised cut, one or two of them, whichever
  explains the displacements that the mask keeps; the *camera* is how the rest lies on itself; and
  before one that moves, the pictures say where things are once they lie on each other.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import shrunk
from pe_toolkit.motion.cameras import MUCH, Camera, past_things, read_camera
from pe_toolkit.motion.changes import QUIET, most_changed
from pe_toolkit.motion.exposure import brightness, evened
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import frames_of
from pe_toolkit.motion.moves import Moves, Subject
from pe_toolkit.motion.segments import FAINT
from pe_toolkit.motion.similarities import resting
from pe_toolkit.motion.subjects import (
    EACH,
    along_one_path,
    cut_subjects,
    not_against,
    shown,
    unsaid,
)
from pe_toolkit.motion.things import WHOLE, Thing, things_of

CHANCE, MOST, FOLLOWED = 2.8, 0.4, 0.003
"""Matches that lead back within a patch, in times of what is expected of any, and at most what
share of all; and the share that is followed. Noise, of pixels or of blocks of them, has 1.8 to 2.8
(0.25 to 0.39 of all on the bundled grid) and up to 0.002, once 0.005, a thing that enters or leaves
from 2.5 (0.35) and 0.006 or more where it has less than 3.5, rendered clips of other classes 3.8
(0.53) and more (docs/experiments.md)."""
WEAK = 0.11
"""Of what moves, what subjects of a cut explain less than where the cut takes what rests for the
thing: 0 to 0.10; of true things from 0.12, but of those that come in over a texture
(docs/experiments.md)."""
SEEN = 0.15
"""Of the picture: a background of less tells no camera."""
BETTER_SAID = 0.75
"""Of what the things of the cut leave unsaid of a clip, what as many that the pictures show may:
0.26 to 0.62 where they are right, 0.88 and more where a thing is slow for its size, and the ground
takes it for its own (docs/experiments.md)."""


def by_chance(grid: TokenGrid) -> float:
    """The share of matches up to which a content reading of `grid` says nothing: `CHANCE` times
    that of nine places out of all, which is where a match that leads back may end.
    """
    return min(CHANCE * 9 / grid.per_frame, MOST)


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
        film: uint8 RGB `(N, H, W, 3)`, all frames of the clip: where things are (`motion.spots`,
            `motion.steady`), and what they say of a camera where the pictures leave doubt
            (`motion.film`). None: neither is known then.
    """
    grid = flow.grid
    small = None if film is None else shrunk(film)
    changed = 1.0 if small is None else most_changed(small)
    light = None if small is None else brightness(small)
    if film is not None and small is not None and light is not None:
        small = evened(small, light)
        film, pictures = _even_film(film, light), _even_pictures(pictures, light)
        changed = 0.0  # of anything but the light
    seen = shown(flow, pictures, small) if small is not None and changed < QUIET else None
    if seen is not None and (len(seen) != 1 or things is None):
        return _before_rest(grid, seen)
    if things is None:
        camera = read_camera(grid, pictures, film)
        found: list[Subject] = []
        if small is not None:
            camera = _past_things(grid, pictures, small, camera, changed)
            found = (camera.moves and shown(flow, pictures, small, camera)) or []
        return _moves(camera, found or along_one_path(flow, camera))
    matched = flow.matched > by_chance(grid) or flow.followed >= FOLLOWED
    told_apart = things_of(flow, *things) if matched else []
    if seen is None or len(told_apart) == 2:
        lit = light is not None
        cut = _cut(flow, told_apart, pictures, film, small, changed, matched=matched, lit=lit)
        if seen is None or cut.two:  # what is shown as one may be two that touch all the time
            return cut
    return _before_rest(grid, seen)


def _even_film(film: NDArray[np.uint8], light: Tensor) -> NDArray[np.uint8]:
    """All frames of `(N, H, W, 3)` as bright as each other; `(N,)` says how bright they are."""
    out = np.empty_like(film)
    for n, factor in enumerate(light.tolist()):
        out[n] = (film[n] / np.float32(factor)).clip(0, 255).round()
    return out


def _even_pictures(pictures: Tensor, light: Tensor) -> Tensor:
    """As `_even_film`, of `(F, h, w)` of the latent frames."""
    moments = frames_of(len(light), len(pictures))
    factors = torch.stack([light[list(pair)].mean() for pair in moments])
    return pictures / factors.to(pictures)[:, None, None]


def _moves(camera: Camera, subjects: list[Subject]) -> Moves:
    anchor = len(camera.shift) // 2
    return Moves(anchor, *camera.maps, tuple(subjects), camera.at_rest)


def _before_rest(grid: TokenGrid, subjects: list[Subject]) -> Moves:
    return Moves(grid.frames // 2, *resting(grid), tuple(subjects))


def _past_things(
    grid: TokenGrid, pictures: Tensor, small: Tensor, camera: Camera, changed: float
) -> Camera:
    """The camera, or the one that things hide, where much changes."""
    if camera.moves or changed < MUCH:
        return camera
    return past_things(grid, pictures, small) or camera


def _cut(
    flow: AttentionMotionFlow,
    told_apart: list[Thing],
    pictures: Tensor,
    film: NDArray[np.uint8] | None,
    small: Tensor | None,
    changed: float,
    *,
    matched: bool,
    lit: bool,
) -> Moves:
    """By a cut of the patches. Args as of `read_moves`, and

    Args:
        told_apart: what the cut tells from a background.
        small: the film, `shrunk`.
        changed: how much of it does (`changes.most_changed`); 1 where that is not known.
        matched: whether more matches than by chance.
        lit: whether the light changes, which makes matches that are no thing's.
    """
    grid, quiet = flow.grid, changed < QUIET
    camera = _camera_behind(grid, told_apart, pictures, film, sure=matched and not quiet)
    if camera.at_rest == "unclear" and quiet:
        camera = dataclasses.replace(camera, at_rest="rests")
    if small is not None:
        camera = _past_things(grid, pictures, small, camera, changed)
    narrow = [thing for thing in told_apart if thing.wide <= WHOLE]
    subjects = cut_subjects(grid, pictures, narrow, camera)
    if camera.moves and small is not None:
        subjects = _said_best(
            grid, pictures, camera, shown(flow, pictures, small, camera), subjects
        )
    elif not camera.moves:
        if matched and not narrow:  # nothing could be told from a background
            subjects = along_one_path(flow, camera)
        if len(subjects) == 1 and subjects[0].cover is not None:
            subjects = [not_against(subjects[0], flow)]
        weak = all(one.share < WEAK for one in subjects)
        if lit or (film is not None and weak):
            subjects = [one for one in subjects if one.share >= EACH]
    return _moves(camera, sorted(subjects, key=lambda s: -s.share))


def _camera_behind(
    grid: TokenGrid,
    told_apart: list[Thing],
    pictures: Tensor,
    film: NDArray[np.uint8] | None,
    *,
    sure: bool,
) -> Camera:
    """The camera of what is around the things. `sure`: whether they are known to be things."""
    weights = torch.ones(tuple(grid), dtype=torch.float64)
    if told_apart:
        covered = torch.stack([thing.mask for thing in told_apart]).amax(0) > FAINT
        weights = 1 - functional.max_pool2d(covered.double(), 3, 1, 1)
    if float(weights.mean()) < SEEN:
        weights = torch.ones_like(weights)
    part = bool((weights != 1).any())
    camera = read_camera(grid, pictures, film, weights, told=sure and part)
    if camera.at_rest == "unclear" and part:
        # In footage that the backbone does not know, things that are none hide what moves.
        whole = read_camera(grid, pictures, film)
        return camera if whole.at_rest else whole
    return camera


def _said_best(
    grid: TokenGrid,
    pictures: Tensor,
    camera: Camera,
    seen: list[Subject] | None,
    cut: list[Subject],
) -> list[Subject]:
    """What the pictures show before a camera that moves, or what the cut tells."""
    if not seen or not cut:
        return seen or cut
    left, before = (unsaid(grid, pictures, camera, each) for each in (seen, cut))
    most = 1.0 if len(seen) > len(cut) else BETTER_SAID
    return seen if left <= most * before else cut
