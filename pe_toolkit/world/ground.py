"""How the background of a clip moves: a similarity map per time point, fitted to what is not an
object.

The background at b is seen at `m + scale R(turn) (b - m) + shift`, m = (0.5, 0.5), as in
`pe_toolkit.world.scenes.Scene`, against the first time point. Between two neighbouring time points
the four numbers, and a change of brightness, are fitted by Gauss-Newton on small, smoothed frames
without their objects (plain least squares of image registration; Lucas and Kanade 1981). A step
that does not explain `EXPLAINED` of the change between the two frames is none: a background that
shows nothing does not move, whatever a decoder leaves on it, nor does a ramp of light, whose shift
is a change of brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIDE = 64
"""Frames are averaged down to this side."""
FAR = 75.0
"""What differs from the ground by more (Euclidean, grey values) is an object."""
GROW = 3
"""Pixels of the small frames by which objects are widened: their soft edges move with them."""
DAMPING = 2e3
"""Weight of the squares of the four numbers, in squared grey values: where nothing tells."""
EXPLAINED = 0.4
"""Of the mean square of the change: moving textures 0.9 and more, blotches of noise 0.2."""
TEXTURED = 4.0
"""Standard deviation (grey values) of a background without its ramp that shows a texture."""
ROUNDS = 8


@dataclass(frozen=True)
class GroundMotion:
    """shift: `(T, 2)` in fractions of the side; scale, turn: `(T,)`, turn in radians, clockwise;
    all against the first time point. texture: standard deviation of the background, in grey values.
    """

    shift: Floats
    scale: Floats
    turn: Floats
    texture: float

    @property
    def textured(self) -> bool:
        return self.texture >= TEXTURED


def ground_motion(frames: NDArray[np.uint8]) -> GroundMotion:
    """Measure `(T, H, W, 3)` uint8 RGB frames, H and W multiples of `SIDE`."""
    small, free, texture = zip(*(_prepared(frame) for frame in frames), strict=True)
    total = np.eye(3)
    rows = [(0.0, 0.0, 1.0, 0.0)]
    for i in range(1, len(frames)):
        total = _step(small[i - 1], small[i], free[i - 1], free[i]) @ total
        a, b = total[0, 0], total[1, 0]
        rows.append((total[0, 2], total[1, 2], float(np.hypot(a, b)), float(np.arctan2(b, a))))
    out = np.array(rows)
    return GroundMotion(out[:, :2], out[:, 2], np.unwrap(out[:, 3]), float(np.mean(texture)))


def _prepared(frame: NDArray[np.uint8]) -> tuple[Floats, Floats, float]:
    """`(SIDE, SIDE)` smoothed brightness, weights (1 for the background), and the standard
    deviation of the background without its ramp.
    """
    size = frame.shape[0] // SIDE
    values = frame.astype(np.float64)
    thing = np.linalg.norm(values - np.median(values.reshape(-1, 3), axis=0), axis=-1) > FAR
    block = values.mean(-1).reshape(SIDE, size, SIDE, -1).mean((1, 3))
    free = ~_grown(thing.reshape(SIDE, size, SIDE, -1).any((1, 3)))
    weight = free.astype(np.float64)
    axis = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    plane = np.stack([np.ones((SIDE, SIDE)), *np.meshgrid(axis, axis)], -1).reshape(-1, 3)
    w = weight.reshape(-1, 1)
    fit = np.linalg.lstsq(plane * w, block.reshape(-1) * w[:, 0], rcond=None)[0]
    rest = (block - (plane @ fit).reshape(SIDE, SIDE))[free]
    # Smoothing must not drag the objects' holes in: normalised by the weights' own.
    smooth = _smooth((block - fit[0]) * weight) / np.maximum(_smooth(weight), 0.1)
    return smooth, weight, float(rest.std()) if rest.size else 0.0


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    for _ in range(GROW):
        padded = np.pad(mask, 1)
        mask = (
            padded[1:-1, 1:-1]
            | padded[:-2, 1:-1]
            | padded[2:, 1:-1]
            | padded[1:-1, :-2]
            | padded[1:-1, 2:]
        )
    return mask


def _smooth(image: Floats) -> Floats:
    for axis in (0, 1):
        for _ in range(2):
            padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            low, high = (
                np.take(padded, range(SIDE), axis),
                np.take(padded, range(2, SIDE + 2), axis),
            )
            image = 0.25 * low + 0.5 * image + 0.25 * high
    return image


def _step(one: Floats, two: Floats, free: Floats, free_two: Floats) -> Floats:
    """The `(3, 3)` map, about the middle of the picture, of points of `one` to those of `two`."""
    axis = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    x, y = np.meshgrid(axis, axis)
    gy, gx = (np.asarray(g, np.float64) for g in np.gradient(two, 1 / SIDE))
    hold = np.diag([DAMPING] * 4 + [1e-6])

    def seen(p: Floats) -> tuple[Floats, Floats]:
        """Errors and their slopes, both weighted, at (shift x, y, log scale, turn, brightness)."""
        cos, sin = np.exp(p[2]) * np.cos(p[3]), np.exp(p[2]) * np.sin(p[3])
        u: Floats = cos * x - sin * y
        v: Floats = sin * x + cos * y
        at: tuple[Floats, Floats] = (u + p[0], v + p[1])
        weight = free * _sampled(free_two, *at, outside=0.0)
        dx, dy = _sampled(gx, *at), _sampled(gy, *at)
        columns = [dx, dy, dx * u + dy * v, dy * u - dx * v, np.ones_like(dx)]
        error = (one - _sampled(two, *at) - p[4]) * weight
        return error.ravel(), (np.stack(columns, -1) * weight[..., None]).reshape(-1, 5)

    p = np.zeros(5)
    for _ in range(ROUNDS):
        error, slopes = seen(p)
        change = np.linalg.solve(slopes.T @ slopes + hold, slopes.T @ error - hold @ p)
        p += np.clip(change, *np.array([[-0.1] * 4 + [-99], [0.1] * 4 + [99]]))
        p[:4] = np.clip(p[:4], -0.3, 0.3)
    if _left(*seen(p)) > (1 - EXPLAINED) * _left(*seen(np.zeros(5))):
        return np.eye(3)
    cos, sin = np.exp(p[2]) * np.cos(p[3]), np.exp(p[2]) * np.sin(p[3])
    return np.array([[cos, -sin, p[0]], [sin, cos, p[1]], [0, 0, 1]])


def _left(error: Floats, slopes: Floats) -> float:
    """Variance of what is left, over the pixels that count (the weight is the last slope)."""
    weight = slopes[:, 4]
    total = max(float(weight.sum()), 1.0)
    mean = error.sum() / total
    return float((weight * (error - mean) ** 2).sum() / total)


def _sampled(image: Floats, x: Floats, y: Floats, *, outside: float | None = None) -> Floats:
    """Bilinear values at offsets from the middle, in fractions of the side; beyond the border those
    of the border, or `outside`.
    """
    u, v = (x + 0.5) * SIDE - 0.5, (y + 0.5) * SIDE - 0.5
    beyond = (u < 0) | (u > SIDE - 1) | (v < 0) | (v > SIDE - 1)
    u, v = np.clip(u, 0, SIDE - 1), np.clip(v, 0, SIDE - 1)
    i, j = np.minimum(v.astype(int), SIDE - 2), np.minimum(u.astype(int), SIDE - 2)
    a, b = v - i, u - j
    out: Floats = (1 - a) * ((1 - b) * image[i, j] + b * image[i, j + 1]) + a * (
        (1 - b) * image[i + 1, j] + b * image[i + 1, j + 1]
    )
    return out if outside is None else np.where(beyond, outside, out)
