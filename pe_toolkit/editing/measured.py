"""What a card says of its reference's motion in numbers, edited with it: see
`pe_toolkit.card.spec.MotionSpec`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card.spec import MotionSpec

Floats = NDArray[np.float64]

LEAST = 1e-4
"""Of a size, as finely as cards tell it: it has a logarithm."""


def mirrored(motion: MotionSpec | None, axis: int, patches: int) -> MotionSpec | None:
    """Left and right (`axis` 1) or up and down (0) are changed, of a grid of so many patches that
    way.
    """
    across = np.array([-1.0, 1.0]) if axis else np.array([1.0, -1.0])
    # A mirror M on both sides: M A M turns the other way around, M b is mirrored.
    found = _each(motion, lambda a, b: (a * np.outer(across, across), b * across), across)
    if found is None:
        return None
    ends = np.array([patches - 1, 0.0, 0.0]) if axis else np.array([0.0, patches - 1, 0.0])
    flip = np.array([*across, 1.0])
    subjects = tuple(
        replace(
            s,
            turn=s.turn and tuple(-degrees for degrees in s.turn),
            disc=s.disc and _row(ends + flip * s.disc),
        )
        for s in found.subjects
    )
    return replace(found, subjects=subjects)


def sized(motion: MotionSpec | None, across: float, down: float) -> MotionSpec | None:
    """On a grid of `across` times as many columns and `down` times as many rows."""
    scale = np.array([across, down])
    found = _each(motion, lambda a, b: (a * np.outer(scale, 1 / scale), b * scale), scale)
    if found is None:
        return None
    # Patches are counted from the middle of the first one.
    times = np.array([across, down, math.sqrt(across * down)])
    half = np.array([0.5, 0.5, 0.0])
    subjects = tuple(
        replace(s, disc=s.disc and _row((s.disc + half) * times - half)) for s in found.subjects
    )
    return replace(found, subjects=subjects)


def joined(first: MotionSpec | None, second: MotionSpec | None) -> MotionSpec | None:
    """Two cameras, each in half of the frames, the second from where the first ends; None where
    something else moves, whose way on is not known in numbers.
    """
    if first is None or second is None or first.subjects or second.subjects:
        return None
    frames = len(first.camera)
    half = (frames + 1) // 2
    a = timed(first, np.linspace(0, frames - 1, half))
    b = timed(second, np.linspace(0, len(second.camera) - 1, frames - half + 1))
    assert a is not None
    assert b is not None
    here, there = (np.stack([_whole(row) for row in each.camera]) for each in (a, b))
    maps = np.concatenate([here, there[1:] @ np.linalg.inv(there[0]) @ here[-1]])
    maps = maps @ np.linalg.inv(maps[frames // 2])
    rows = np.concatenate([maps[:, :2, :2].reshape(-1, 4), maps[:, :2, 2]], 1)
    return replace(first, camera=_rows(rows))


def _whole(row: Sequence[float]) -> Floats:
    """(a11, a12, a21, a22, bx, by) as a matrix of three rows."""
    return np.array([[row[0], row[1], row[4]], [row[2], row[3], row[5]], [0.0, 0.0, 1.0]])


def timed(motion: MotionSpec | None, times: Floats) -> MotionSpec | None:
    """At other times (in frames), relative to the new middle frame.

    What a subject does beyond the camera is told in the anchor frame's coordinates: with another
    anchor, it is seen through that frame's zoom and roll.
    """
    if motion is None:
        return None
    rows = np.asarray(motion.camera, np.float64)
    shown = np.clip(times, 0, len(rows) - 1)
    old = np.arange(len(rows), dtype=np.float64)
    middle = len(times) // 2

    def at(values: Floats) -> Floats:
        return np.stack([np.interp(shown, old, column) for column in values.T], -1)

    found = at(rows)
    a, b = _as_large(found[:, :4].reshape(-1, 2, 2), rows[:, :4], shown, old), found[:, 4:]
    through = a[middle]
    a = a @ np.linalg.inv(through)
    b = b - a @ b[middle]
    subjects = []
    for subject in motion.subjects:
        path = at(np.asarray(subject.path, np.float64))
        size = turn = None
        if subject.size is not None:
            logs = np.log(np.maximum(subject.size, LEAST))
            sizes = np.exp(np.interp(shown, old, logs))
            size = _row(sizes / sizes[middle])
        if subject.turn is not None:
            turns = np.interp(shown, old, subject.turn)
            turn = _row(turns - turns[middle])
        disc = subject.disc
        if disc is not None:  # where the new middle frame has it; a camera would take it elsewhere
            disc = _row(disc + np.append(path[middle], 0.0)) if motion.rests else None
        subjects.append(
            replace(
                subject,
                path=_rows((path - path[middle]) @ through.T),
                size=size,
                turn=turn,
                disc=disc,
            )
        )
    camera = _rows(np.concatenate([a.reshape(-1, 4), b], 1))
    return MotionSpec(camera=camera, subjects=tuple(subjects))


def _as_large(a: Floats, rows: Floats, shown: Floats, old: Floats) -> Floats:
    """Maps between frames, which a mean of turned maps makes too small, with the zoom that lies
    between those of the frames. Of `rows` that turn something over, as they are.
    """
    zooms = np.linalg.det(rows.reshape(-1, 2, 2))
    between = np.linalg.det(a)
    if zooms.min() <= 0 or between.min() <= 0:
        return a
    scale = np.sqrt(np.exp(np.interp(shown, old, np.log(zooms))) / between)
    larger: Floats = a * scale[:, None, None]
    return larger


def _each(motion: MotionSpec | None, camera: Any, scale: Floats) -> MotionSpec | None:
    if motion is None:
        return None
    rows = np.asarray(motion.camera, np.float64)
    a, b = camera(rows[:, :4].reshape(-1, 2, 2), rows[:, 4:])
    subjects = tuple(
        replace(subject, path=_rows(np.asarray(subject.path) * scale))
        for subject in motion.subjects
    )
    return MotionSpec(camera=_rows(np.concatenate([a.reshape(-1, 4), b], 1)), subjects=subjects)


def _rows(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(row) for row in values)


def _row(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)
