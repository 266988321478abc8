"""Which things a clip shows, by name: what of a prompt was drawn, and what of a reference leaks."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.world.class_metrics import members, parse_all
from pe_toolkit.world.ground import FAR
from pe_toolkit.world.metrics import SMALLEST, Floats, time_points
from pe_toolkit.world.scenes import shape_distance, turned
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES

LEANING = {"circle": (0,), "square": range(0, 90, 15), "cross": range(0, 90, 15),
           "triangle": range(0, 120, 15)}  # fmt: skip
"""Degrees at which a silhouette is tried when shapes may lean."""


@dataclass(frozen=True)
class Seen:
    """The names of what is there, and whether it is what the prompt says. Of a prompt of one object
    `colours` and `shapes` name whatever stands out; of two, they follow the prompt's colours, None
    where that colour is invisible in half of the clip.
    """

    colours: tuple[str | None, ...]
    shapes: tuple[str | None, ...]
    background: str
    colour_ok: bool
    shape_ok: bool
    background_ok: bool

    @property
    def adherent(self) -> bool:
        return self.colour_ok and self.shape_ok and self.background_ok


def seen(frames: NDArray[np.uint8], prompt: str, *, leaning: bool = False) -> Seen:
    """Name what uint8 RGB frames `(F, H, W, 3)` show; `leaning` where shapes may be turned.

    A shape cut by the border tells little: such time points count only where there are no others.

    Raises:
        UsageError: for a prompt outside the bundled vocabulary.
    """
    objects, wanted = parse_all(prompt)
    votes: list[tuple[list[str], list[tuple[bool, str]]]] = [([], []) for _ in objects]
    grounds = []
    shown = frames[time_points(len(frames))]
    for frame in shown:
        values = frame.astype(np.float64)
        ground = np.median(values.reshape(-1, 3), axis=0)
        grounds.append(ground)
        if len(objects) == 1:
            masks = [np.linalg.norm(values - ground, axis=-1) > FAR]
        else:
            masks = [m > 0.5 for m in members(frame, [colour for colour, _ in objects])]
        for mask, (colours, shapes) in zip(masks, votes, strict=True):
            if mask.mean() >= SMALLEST:
                colours.append(_nearest(np.median(values[mask], axis=0), COLOURS))
                edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
                shapes.append((bool(edge), shape_of(mask, leaning=leaning)))
    names = tuple(
        _vote(c) if len(c) * 2 >= len(shown) or len(votes) == 1 else None for c, _ in votes
    )
    forms = tuple(_vote([n for e, n in s if not e] or [n for _, n in s]) for _, s in votes)
    background = _nearest(np.mean(grounds, axis=0), BACKGROUNDS)
    return Seen(
        names,
        forms,
        background,
        names == tuple(colour for colour, _ in objects),
        forms == tuple(shape for _, shape in objects),
        background == wanted,
    )


def shape_of(mask: NDArray[np.bool_], *, leaning: bool = False) -> str:
    """The shape of the vocabulary whose silhouette of the same area and centre of mass overlaps a
    `(H, W)` mask best, upright or at the best of some angles.
    """
    height, width = mask.shape
    ys, xs = np.mgrid[:height, :width] + 0.5
    xs, ys = xs / width, ys / height
    x, y, area = xs - xs[mask].mean(), ys - ys[mask].mean(), mask.mean()
    scores: dict[str, float] = {}
    for shape in SHAPES:
        unit, low = _template(shape)
        radius = np.float64(np.sqrt(area / unit))
        for degrees in LEANING[shape] if leaning else (0,):
            u, v = turned(x, y, np.deg2rad(-degrees))
            drawn = shape_distance(shape, u, v + low * radius, radius) < 0
            score = float((drawn & mask).sum() / max((drawn | mask).sum(), 1))
            scores[shape] = max(score, scores.get(shape, 0.0))
    return max(scores, key=lambda name: scores[name])


@functools.cache
def _template(shape: str) -> tuple[float, float]:
    """Area and height of the centre of mass of a shape of radius 1."""
    axis = np.linspace(-1.3, 1.3, 521)
    inside = shape_distance(shape, axis[None, :], axis[:, None], np.float64(1)) < 0
    return float(inside.mean() * 2.6**2), float((inside * axis[:, None]).sum() / inside.sum())


def _nearest(colour: Floats, table: dict[str, tuple[int, int, int]]) -> str:
    return min(table, key=lambda name: float(np.linalg.norm(np.asarray(table[name]) - colour)))


def _vote(names: list[str]) -> str | None:
    return Counter(names).most_common(1)[0][0] if names else None
