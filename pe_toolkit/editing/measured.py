"""What a card says of its reference's motion in numbers, edited with it: see
`pe_toolkit.card.spec.MotionSpec`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card.spec import MotionSpec

Floats = NDArray[np.float64]


def mirrored(motion: MotionSpec | None, axis: int) -> MotionSpec | None:
    """Left and right (`axis` 1) or up and down (0) are changed."""
    across = np.array([-1.0, 1.0]) if axis else np.array([1.0, -1.0])
    # A mirror M on both sides: M A M turns the other way around, M b is mirrored.
    found = _each(motion, lambda a, b: (a * np.outer(across, across), b * across), across)
    if found is None:
        return None
    subjects = tuple(
        replace(s, turn=s.turn and tuple(-degrees for degrees in s.turn)) for s in found.subjects
    )
    return replace(found, subjects=subjects)


def sized(motion: MotionSpec | None, across: float, down: float) -> MotionSpec | None:
    """On a grid of `across` times as many columns and `down` times as many rows."""
    scale = np.array([across, down])
    return _each(motion, lambda a, b: (a * np.outer(scale, 1 / scale), b * scale), scale)


def timed(motion: MotionSpec | None, times: Floats) -> MotionSpec | None:
    """At other times (in frames), relative to the new middle frame."""
    if motion is None:
        return None
    rows = np.asarray(motion.camera, np.float64)
    shown = np.clip(times, 0, len(rows) - 1)
    old = np.arange(len(rows))
    middle = len(times) // 2

    def at(values: Floats) -> Floats:
        return np.stack([np.interp(shown, old, column) for column in values.T], -1)

    found = at(rows)
    a, b = found[:, :4].reshape(-1, 2, 2), found[:, 4:]
    a = a @ np.linalg.inv(a[middle])
    b = b - a @ b[middle]
    subjects = []
    for subject in motion.subjects:
        path = at(np.asarray(subject.path, np.float64))
        size, turn = (
            None if values is None else np.interp(shown, old, np.asarray(values))
            for values in (subject.size, subject.turn)
        )
        subjects.append(
            replace(
                subject,
                path=_rows(path - path[middle]),
                size=None if size is None else _row(size / size[middle]),
                turn=None if turn is None else _row(turn - turn[middle]),
            )
        )
    camera = _rows(np.concatenate([a.reshape(-1, 4), b], 1))
    return MotionSpec(camera=camera, subjects=tuple(subjects))


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
