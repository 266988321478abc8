"""The camera from the pictures themselves: how the background lies on that of the anchor frame.

A backbone's matches do not tell the camera from what moves in front of it: the features of a plain
background go by where they lie to the object, and their matches follow it. Pixels do tell. Every
frame is laid on the anchor frame by a similarity (pan, zoom, roll):

    Y_f(p) = c + A_f (p - c) + b_f        anchor place p -> place in frame f, c the picture's middle

Gauss-Newton on grey values, from coarse to fine (Lucas and Kanade; Baker and Matthews, 2004), with
weights by how well a pixel fits (Geman and McClure), from the anchor outwards: every frame is laid
on the anchor and by way of its neighbour, which shows more of what the two show alike, from several
beginnings; what lies best on both is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.errors import UsageError

SIDES = (24, 48)
"""Pixels of the shorter side of the pictures, from coarse to fine."""
STEPS = 12
"""Gauss-Newton steps at each."""
READABLE = 2.5
"""Grey levels of contrast (docs/experiments.md: noise of 6 levels leaves 0.9, the faintest texture
of the bundled world has 4)."""
OVERLAP = 0.12
"""Of what counts in the anchor frame, how much must lie on something that counts."""
MOST_ZOOM = 0.8
"""Log: 2.2 times, from the anchor. What seems to zoom more lies on a flat place."""
MOST_STEP = 0.75
"""Half shorter sides, from one latent frame to the next: what seems to go farther lies on a flat
place (a pan across the whole picture in nine latent frames goes 0.25)."""
SETTLED = 2e-4
"""Of log zoom, radians and half shorter sides: a step of which none is longer is the last one."""
NOISE = 4.0
"""Grey levels (of 255): residuals below are noise; the scale of the weights is at least that."""


@dataclass(frozen=True)
class Registration:
    """A camera as read from pictures.

    Attributes:
        linear: `(F, 2, 2)` float64 A_f on (x, y).
        shift: `(F, 2)` float64 b_f as (x, y), in fractions of width and height.
        rest: `(F,)` mean squared difference that is left, in squared grey levels, on the anchor; of
            a frame that shows too little of what that shows, on its neighbour.
        still: the same if nothing were moved.
        contrast: spread of the grey values that count about their ramp, in levels, blurred: below
            `READABLE`, nothing can be laid on anything.
    """

    linear: Tensor
    shift: Tensor
    rest: Tensor
    still: Tensor
    contrast: float
    motions: Tensor
    """`(F, 4)` log zoom, roll, x and y in half shorter sides: what A_f and b_f are made of."""


def left(
    pictures: Tensor, weights: Tensor, anchor: int, found: Registration
) -> tuple[float, float]:
    """Mean squared difference under other weights, with what was found and with nothing moved: does
    a place move with the camera?
    """
    level = level_of(pictures, weights, SIDES[-1])
    others = [f for f in range(len(pictures)) if f != anchor]
    moved = [level.missed(f, anchor, found.motions[f]) for f in others]
    still = [level.missed(f, anchor, torch.zeros_like(found.motions[f])) for f in others]
    return sum(moved) / max(1, len(moved)), sum(still) / max(1, len(still))


def register(
    pictures: Tensor, weights: Tensor, anchor: int, shift: Tensor | None = None
) -> Registration:
    """Pan, zoom and roll of every picture against the anchor.

    Args:
        pictures: `(F, h, w)` grey values, 0..255.
        weights: `(F, h', w')` in [0, 1], any size: how far a place counts.
        anchor: the frame that is the origin, 0 .. F-1.
        shift: `(F, 2)` (x, y) in fractions of width and height to begin with, if something is
            known: `still` is then what is left with that alone, and every frame is laid on the
            anchor only, from there. Default: from its neighbour's motion, and by way of it.

    Raises:
        UsageError: other shapes, or an anchor outside.
    """
    frames = len(pictures)
    if pictures.ndim != 3 or weights.ndim != 3 or len(weights) != frames:
        raise UsageError(
            f"Expected pictures (F, h, w) and as many weights, got {tuple(pictures.shape)} and "
            f"{tuple(weights.shape)}."
        )
    if not 0 <= anchor < frames:
        raise UsageError(f"Expected an anchor frame in 0..{frames - 1}, got {anchor}.")
    levels = [level_of(pictures, weights, side) for side in SIDES]
    wide, high = levels[0].half
    motions = torch.zeros(frames, 4, dtype=torch.float64)  # log zoom, roll, x, y
    known = torch.zeros_like(motions)
    if shift is not None:
        known[:, 2:] = shift.double() * torch.tensor([2 * wide, 2 * high])
    rest, still = (torch.zeros(frames, dtype=torch.float64) for _ in "rs")
    fine = levels[-1]
    for step in (1, -1):
        for f in range(anchor + step, frames if step > 0 else -1, step):
            own = f - step
            if shift is None:
                motions[f] = _laid_best(levels, f, anchor, own, motions)
            else:
                begin = torch.cat([motions[own, :2], known[f, 2:]])
                motions[f] = fitted(levels, f, anchor, begin)
            rest[f], still[f] = (fine.missed(f, anchor, m) for m in (motions[f], known[f]))
            if shift is None and not math.isfinite(float(rest[f])):
                on = after(inverse(motions[own]), motions[f])
                rest[f], still[f] = (fine.missed(f, own, m) for m in (on, known[f]))
    scale, turn, x, y = motions.unbind(1)
    c, s = scale.exp() * turn.cos(), scale.exp() * turn.sin()
    linear = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
    moved = torch.stack([x / (2 * wide), y / (2 * high)], 1)
    return Registration(linear, moved, rest, still, levels[0].contrast(anchor), motions)


def _laid_best(levels: list[Level], f: int, anchor: int, own: int, motions: Tensor) -> Tensor:
    """Frame f laid on the anchor: from where its neighbour `own` lies, and by way of that one, as
    if the camera stopped there or went on as before, each as it is and laid on the anchor once
    more. Whichever lies best on both is taken; what no camera does, only if all are so. Beside the
    anchor there is one way.
    """
    before = motions[own]
    if own == anchor:
        return fitted(levels, f, anchor, before)
    back = inverse(before)
    stops, goes_on = torch.zeros_like(before), after(inverse(motions[2 * own - f]), before)
    ways = [after(before, fitted(levels, f, own, begin)) for begin in (stops, goes_on)]
    tries = [*ways, *(fitted(levels, f, anchor, begin) for begin in (*ways, before))]

    def badly(motion: Tensor) -> tuple[bool, float]:
        far = (motion - before)[2:].norm() > MOST_STEP or motion[0].abs() > MOST_ZOOM
        return bool(far), levels[-1].missed(f, anchor, motion, (own, after(back, motion)))

    return min(tries, key=badly)


def fitted(levels: list[Level], f: int, other: int, motion: Tensor) -> Tensor:
    """`(4,)` of frame f laid on another one, begun at `motion`, from coarse to fine `levels`."""
    for level in levels:
        motion = level.fit(f, other, motion)
    return motion


def inverse(motion: Tensor) -> Tensor:
    """`(4,)` of the map that undoes `(4,)`, as in `Registration.motions`."""
    scale, turn, x, y = motion
    c, s = (-scale).exp() * turn.cos(), (-scale).exp() * turn.sin()
    return torch.stack([-scale, -turn, -c * x - s * y, s * x - c * y])


def after(first: Tensor, then: Tensor) -> Tensor:
    """`(4,)` of the map that is `first` and `then` one after the other, `(4,)` each."""
    scale, turn, x, y = then
    c, s = scale.exp() * turn.cos(), scale.exp() * turn.sin()
    px, py = first[2:]
    moved = torch.stack([c * px - s * py + x, s * px + c * py + y])
    return torch.cat([first[:2] + then[:2], moved])


def moved(at: Tensor, motion: Tensor) -> Tensor:
    """Points `(..., 2)` (x, y) in half shorter sides, where a motion `(4,)` takes them."""
    scale, turn, x, y = motion
    c, s = scale.exp() * turn.cos(), scale.exp() * turn.sin()
    px, py = at.unbind(-1)
    return torch.stack([c * px - s * py + x, s * px + c * py + y], -1)


class Level:
    """Pictures at one size, and how they lie on each other. Places count in half shorter sides from
    the middle, so that a similarity is one at every aspect.
    """

    def __init__(self, grey: Tensor, weight: Tensor) -> None:
        self.grey, self.weight = grey, weight
        height, width = grey.shape[1:]
        self.half = (width / min(width, height), height / min(width, height))
        ys = (torch.arange(height, dtype=torch.float64) + 0.5) / height * 2 - 1
        xs = (torch.arange(width, dtype=torch.float64) + 0.5) / width * 2 - 1
        y, x = torch.meshgrid(ys * self.half[1], xs * self.half[0], indexing="ij")
        self.at = torch.stack([x, y], -1).reshape(-1, 2)
        dy, dx = torch.gradient(grey, dim=(1, 2))  # central, per pixel
        self.slopes = torch.stack([dx, dy], 1) * (min(width, height) / 2)

    def contrast(self, f: int) -> float:
        """Without its ramp: a light that falls from one side lies on itself wherever it is laid."""
        w, g = self.weight[f].flatten()[:, None], self.grey[f].flatten()[:, None]
        plane = torch.cat([torch.ones_like(g), self.at], 1)
        fit = torch.linalg.lstsq(plane * w.sqrt(), g * w.sqrt(), driver="gelsd").solution
        missed = (g - plane @ fit).square()
        return float(((w * missed).sum() / w.sum().clamp(min=1e-9)).sqrt())

    def laid(self, f: int, anchor: int, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual `(P,)`, weights `(P,)` and slopes `(P, 2)` of frame f, laid on the anchor."""
        there = moved(self.at, motion)
        grid = (there / torch.tensor(self.half, dtype=torch.float64)).reshape(1, 1, -1, 2)
        stack = torch.cat([self.grey[f][None], self.slopes[f], self.weight[f][None]])[None]
        found = functional.grid_sample(
            stack, grid, mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0]
        inside = (grid[0, 0].abs() <= 1).all(-1)
        weight = found[3] * self.weight[anchor].flatten() * inside
        missed = found[0] - self.grey[anchor].flatten()
        missed = missed - (weight * missed).sum() / weight.sum().clamp(min=1e-9)  # brightness
        return missed, weight, found[1:3].T

    def fit(self, f: int, anchor: int, motion: Tensor) -> Tensor:
        """Gauss-Newton from `motion`; kept only while it lies better than before."""
        best, motion = motion, motion.clone()
        lowest = self.missed(f, anchor, motion)
        px, py = self.at.unbind(1)
        for _ in range(STEPS):
            missed, weight, slopes = self.laid(f, anchor, motion)
            size = float((weight * missed.abs()).sum() / weight.sum().clamp(min=1e-9))
            weight = weight / (1 + (missed / max(2 * size, NOISE)).square()).square()
            scale, turn = motion[0], motion[1]
            c, s = scale.exp() * turn.cos(), scale.exp() * turn.sin()
            rx, ry = c * px - s * py, s * px + c * py
            sx, sy = slopes.unbind(1)
            jac = torch.stack([sx * rx + sy * ry, sy * rx - sx * ry, sx, sy], 1)
            normal = (jac * weight[:, None]).T @ jac
            damping = float(weight.sum()) * NOISE**2 * 1e-2 + 1e-9
            normal = normal + damping * torch.eye(4, dtype=torch.float64)
            step = torch.linalg.solve(normal, jac.T @ (weight * missed))
            motion = motion - step
            motion[0] = motion[0].clamp(-MOST_ZOOM, MOST_ZOOM)
            now = self.missed(f, anchor, motion)
            if now < lowest:
                best, lowest = motion.clone(), now
            if float(step.abs().max()) < SETTLED:
                break
        return best

    def missed(
        self, f: int, anchor: int, motion: Tensor, also: tuple[int, Tensor] | None = None
    ) -> float:
        """Mean squared difference in the background; those above 8 x `NOISE` count as that. `also`:
        on another frame besides; both together have to show `OVERLAP` of the anchor's.
        """
        found = total = 0.0
        for other, on in ((anchor, motion), *((also,) if also else ())):
            missed, weight, _ = self.laid(f, other, on)
            capped = missed.square().clamp(max=(8 * NOISE) ** 2)
            found, total = found + float((weight * capped).sum()), total + float(weight.sum())
        if total <= OVERLAP * float(self.weight[anchor].sum()):
            return float("inf")  # nothing lies on anything
        return found / total


def level_of(pictures: Tensor, weights: Tensor, side: int) -> Level:
    """Pictures `(F, h, w)` and weights `(F, h', w')`, both brought to `side` pixels on the shorter
    side of the pictures.
    """
    height, width = pictures.shape[1:]
    times = side / min(height, width)
    size = (max(2, round(height * times)), max(2, round(width * times)))

    def at(values: Tensor) -> Tensor:
        return functional.interpolate(
            values.double()[None], size=size, mode="bilinear", antialias=True
        )[0]

    return Level(at(pictures), at(weights).clamp(0, 1))
