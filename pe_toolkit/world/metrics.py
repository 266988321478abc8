"""What a generated clip of the bundled world shows: where its object goes, and whether the prompt
was followed.

Everything is measured against known truth: the prompt names colour, shape and background, and the
    reference's
trajectory is exact. Directions: cosine, visibility and adherence higher is better, trajectory error
lower.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError
from pe_toolkit.shown import shown
from pe_toolkit.world.scenes import shape_distance
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, TEXTURED, describe

Floats = NDArray[np.float64]

TIME_POINTS = 9  # trajectories are compared at this many evenly spaced frames
STILL = (
    0.005  # steps in which the reference moves less than this fraction of the width do not count
)
SMALLEST = 0.006  # an object of less than this fraction of the picture is invisible
_CAPTION = re.compile(
    rf"^an? (\w+) (\w+)(?: and an? \w+ \w+)? on a (?:{TEXTURED} )?(\w+) background$"
)


@dataclass(frozen=True)
class Measurement:
    """One clip against a prompt and a true path.

    cosine: mean over moving steps of cos(generated step, true step), in [-1, 1]; steps without a
        visible object count 0. trajectory_error: root mean square distance of the two paths after
        their means are aligned, in fractions of the width. visibility: share of time points with a
        visible object.
    """

    cosine: float
    trajectory_error: float
    visibility: float
    colour_ok: bool
    shape_ok: bool
    background_ok: bool

    @property
    def adherent(self) -> bool:
        """All attributes of the prompt are right."""
        return self.colour_ok and self.shape_ok and self.background_ok


def parse(prompt: str) -> tuple[str, str, str]:
    """`a red circle on a grey background` -> `("red", "circle", "grey")` (the first object).

    Raises:
        UsageError: for a prompt outside the bundled vocabulary.
    """
    match = _CAPTION.match(" ".join(prompt.lower().split()))
    if match and match[1] in COLOURS and match[2] in SHAPES and match[3] in BACKGROUNDS:
        return match[1], match[2], match[3]
    raise UsageError(
        f"Expected a prompt like '{describe()}', got {shown(prompt)}.",
        "Use words of the bundled vocabulary.",
    )


def time_points(frames: int) -> NDArray[np.int64]:
    """Indices of the `TIME_POINTS` evenly spaced frames, first and last included."""
    return np.rint(np.linspace(0, frames - 1, TIME_POINTS)).astype(np.int64)


def foreground(frame: NDArray[np.uint8], colour: tuple[int, int, int], ground: Floats) -> Floats:
    """`(H, W)` soft membership in [0, 1] of an object of `colour` over background colour "
    "`ground`."""
    offset = frame.astype(np.float64) - ground
    axis = np.asarray(colour, np.float64) - ground
    along = (offset @ axis) / (axis @ axis)
    residual = np.linalg.norm(offset - along[..., None] * axis, axis=-1)
    inside: Floats = np.where((along > 0.5) & (residual < 80), np.clip(along, 0, 1), 0.0)
    return inside


def centre(member: Floats) -> tuple[float, float] | None:
    """Robust centre (x, y) in [0, 1] of a membership map, or None if too little is there."""
    height, width = member.shape
    if member.sum() < SMALLEST * member.size:
        return None
    ys, xs = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    weight = member
    # Mean shift from the densest place: specks elsewhere must not pull the centre.
    coarse = (
        member[: height // 8 * 8, : width // 8 * 8]
        .reshape(height // 8, 8, width // 8, 8)
        .sum((1, 3))
    )
    cy, cx = np.unravel_index(int(coarse.argmax()), coarse.shape)
    x, y = (cx * 8 + 4) / width, (cy * 8 + 4) / height
    for _ in range(4):
        weight = member * (np.hypot(xs - x, ys - y) < 0.36)
        x, y = float((weight * xs).sum() / weight.sum()), float((weight * ys).sum() / weight.sum())
    return x, y


def track(frames: NDArray[np.uint8], colour: str) -> Floats:
    """Path `(TIME_POINTS, 2)` of the object of a named colour as (x, y) in [0, 1]; NaN where
    invisible.
    """
    path = np.full((TIME_POINTS, 2), np.nan)
    for row, index in enumerate(time_points(len(frames))):
        frame = frames[index]
        ground = np.median(frame.reshape(-1, 3), axis=0)
        found = centre(foreground(frame, COLOURS[colour], ground))
        if found is not None:
            path[row] = found
    return path


def path_cosine(path: Floats, truth: Floats) -> float:
    """Mean cosine of the steps of two `(T, 2)` paths; invisible or still generated steps count 0.

    Returns NaN if the truth does not move at all.
    """
    steps, wanted = np.diff(path, axis=0), np.diff(truth, axis=0)
    moving = np.linalg.norm(wanted, axis=1) >= STILL
    if not moving.any():
        return float("nan")
    norm = np.linalg.norm(steps, axis=1) * np.linalg.norm(wanted, axis=1)
    dots = (steps * wanted).sum(1)
    cosines = np.where(
        np.isfinite(norm) & (norm > 1e-9), dots / np.where(norm > 1e-9, norm, 1.0), 0.0
    )
    return float(np.nan_to_num(cosines[moving]).mean())


def path_error(path: Floats, truth: Floats) -> float:
    """Root mean square distance after aligning the means, over visible points; NaN if fewer than 2
    are.
    """
    seen = np.isfinite(path).all(1)
    if seen.sum() < 2:
        return float("nan")
    a, b = path[seen], truth[seen]
    return float(np.sqrt((((a - a.mean(0)) - (b - b.mean(0))) ** 2).sum(1).mean()))


@functools.cache
def _template(shape: str) -> tuple[float, float]:
    """Area and centroid offset in y of a shape of radius 1 (the triangle's centroid is not its
    centre).
    """
    axis = np.linspace(-1.3, 1.3, 521, dtype=np.float32)
    inside = shape_distance(shape, axis[None, :], axis[:, None], np.float32(1)) < 0
    return float(inside.mean() * 2.6**2), float((inside * axis[:, None]).sum() / inside.sum())


def classify_shape(mask: NDArray[np.bool_]) -> str | None:
    """The vocabulary shape whose silhouette of the same area and centroid overlaps a `(H, W)` mask
    best.
    """
    height, width = mask.shape
    if mask.mean() < SMALLEST:
        return None
    ys, xs = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    x, y, area = xs[mask].mean(), ys[mask].mean(), mask.mean()
    scores = {}
    for shape in SHAPES:
        unit, low = _template(shape)
        radius = np.float32(np.sqrt(area / unit))
        drawn = shape_distance(shape, xs - x, ys - (y - low * radius), radius) < 0
        scores[shape] = (drawn & mask).sum() / max((drawn | mask).sum(), 1)
    return max(scores, key=lambda s: scores[s])


def _nearest(colour: Floats, table: dict[str, tuple[int, int, int]]) -> str:
    return min(table, key=lambda name: float(np.linalg.norm(np.asarray(table[name]) - colour)))


def measure(frames: NDArray[np.uint8], prompt: str, truth: Floats | None = None) -> Measurement:
    """Measure uint8 RGB frames `(F, H, W, 3)` against a prompt and, if given, a true path `(F', 2)`
    in [0, 1].

    Raises:
        UsageError: for a prompt outside the bundled vocabulary.
    """
    colour, shape, background = parse(prompt)
    path = track(frames, colour)
    shapes, colours, grounds = [], [], []
    for index in time_points(len(frames)):
        frame = frames[index].astype(np.float64)
        ground = np.median(frame.reshape(-1, 3), axis=0)
        mask = np.linalg.norm(frame - ground, axis=-1) > 75
        grounds.append(ground)
        if mask.mean() >= SMALLEST:
            colours.append(_nearest(np.median(frame[mask], axis=0), COLOURS))
            shapes.append(classify_shape(mask))
    wanted = truth[time_points(len(truth))] if truth is not None else None
    return Measurement(
        cosine=path_cosine(path, wanted) if wanted is not None else float("nan"),
        trajectory_error=path_error(path, wanted) if wanted is not None else float("nan"),
        visibility=float(np.isfinite(path).all(1).mean()),
        colour_ok=_vote(colours) == colour,
        shape_ok=_vote(shapes) == shape,
        background_ok=_nearest(np.mean(grounds, axis=0), BACKGROUNDS) == background,
    )


def _vote(names: Sequence[str | None]) -> str | None:
    return Counter(names).most_common(1)[0][0] if names else None
