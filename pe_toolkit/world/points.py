"""Where any point of a scene's first picture goes: exact tracks, to measure trackers against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.world.scenes import Array, Scene, Thing, shape_distance, turned

Floats = NDArray[np.float64]


def true_points(
    scene: Scene, starts: Floats, size: int
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Points of the first picture of a scene, in all its pictures.

    A point belongs to the uppermost shape that covers it, else to the background, which moves with
    the camera if it is a texture, and rests if not.

    Args:
        starts: `(N, 2)` x and y in pixels of a picture of `size` x `size`, (0, 0) the centre of
            the top left pixel.

    Returns:
        `(N, F, 2)` positions in pixels, `(N, F)` whether they can be seen (inside the picture, not
        behind a later shape), and `(N,)` the index of the shape, -1 for the background.
    """
    begin = (np.asarray(starts, np.float64) + 0.5) / size
    owner = np.full(len(begin), -1)
    for index, thing in enumerate(scene.things):
        owner[_depth(thing, 0, begin) < 0] = index
    frames = len(scene.shift)
    points = np.empty((len(begin), frames, 2))
    for t in range(frames):
        points[:, t] = _ground(scene, t, begin)
        for index, thing in enumerate(scene.things):
            mine = owner == index
            points[mine, t] = _carried(thing, t, begin[mine])
    visible = np.asarray(((points >= 0) & (points < 1)).all(2))
    for t in range(frames):
        for index, thing in enumerate(scene.things):
            visible[:, t] &= ~((_depth(thing, t, points[:, t]) < 0) & (owner < index))
    return points * size - 0.5, visible, owner


def _depth(thing: Thing, t: int, points: Floats) -> Array:
    """Signed distance of points from the edge of a shape, negative inside."""
    x, y = (points - thing.path[t]).T
    if thing.angle is not None:
        x, y = turned(x, y, -thing.angle[t])
    return shape_distance(thing.shape, x, y, thing.radius[t])


def _carried(thing: Thing, t: int, begin: Floats) -> Floats:
    """Points of a shape in frame `t`: moved, grown and turned with it."""
    x, y = (begin - thing.path[0]).T * (thing.radius[t] / thing.radius[0])
    if thing.angle is not None:
        x, y = turned(x, y, thing.angle[t] - thing.angle[0])
    return np.asarray(np.stack([x, y], axis=1) + thing.path[t], np.float64)


def _ground(scene: Scene, t: int, begin: Floats) -> Floats:
    """Points of the background in frame `t`."""
    if scene.style != "texture":
        return begin
    scale = np.ones(len(scene.shift)) if scene.scale is None else scene.scale
    turn = np.zeros(len(scene.shift)) if scene.turn is None else scene.turn
    x, y = (begin - 0.5 - scene.shift[0]).T / scale[0]
    x, y = turned(x, y, turn[t] - turn[0])
    return np.asarray(np.stack([x, y], axis=1) * scale[t] + 0.5 + scene.shift[t], np.float64)
