"""What a clip shows of the motion of a reference of a known class (`pe_toolkit.world.motions`).

`measured` gives one flat dictionary of numbers, the same keys for a class, NaN where a number has
no meaning. Higher is better for cosines, slopes (1: all of the true change), `adherent`,
`visibility` and `absent`; lower for errors and `extra`.

| key | classes | what |
|---|---|---|
| cosine, error | all that move | mean over the objects of `metrics.path_cosine`, `path_error` |
| cosine_worse, error_worse | two | of the worse object |
| place | one, no camera | distance of the object from its true place, in sides of the picture |
| extent | all that move | length of the found path over that of the true one |
| wander | zoom, roll, held | length of the object's path, which should be 0 but for its own |
| size | zoom | slope of the object's log size over the true one's |
| angle | roll | slope of the object's angle over the true one's |
| ground_cosine, ground | pan, held | cosine, slope of the background's displacement |
| ground_size, ground_angle | zoom; roll | slope of the background's log size, angle |
| textured | these four | 1: the background shows a texture, without which nothing of it can move |
| absent | enters | share of the time points without an object in truth that show none |
| extra | all | 1: more things than the prompt names, at two time points or more |
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError
from pe_toolkit.shown import shown
from pe_toolkit.world.ground import FAR, GroundMotion, ground_motion
from pe_toolkit.world.metrics import (
    SMALLEST,
    TIME_POINTS,
    Floats,
    centre,
    foreground,
    path_cosine,
    path_error,
    time_points,
)
from pe_toolkit.world.scenes import Scene, render
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, TEXTURED, describe

_OBJECT = re.compile(r"an? (\w+) (\w+)(?= and an? | on a )")
_GROUND = re.compile(rf" on a (?:{TEXTURED} )?(\w+) background$")
FOLDS = {"triangle": 3, "square": 4, "cross": 4}
"""A shape looks the same after a turn by a whole part of a circle."""
NEAR = 0.36
"""Fractions of the side around its centre that hold an object."""
SIGNED = 0.02
"""Concentration of the angular moment below which a mask has no direction: a disc."""
CAMERA = ("zoom", "roll", "pan", "held")


def parse_all(prompt: str) -> tuple[list[tuple[str, str]], str]:
    """The `(colour, shape)` of every object of a prompt, and its background.

    Raises:
        UsageError: for a prompt outside the bundled vocabulary.
    """
    text = " ".join(prompt.lower().split())
    objects, ground = _OBJECT.findall(text), _GROUND.search(text)
    if (
        ground is None
        or ground[1] not in BACKGROUNDS
        or not objects
        or any(colour not in COLOURS or shape not in SHAPES for colour, shape in objects)
    ):
        raise UsageError(
            f"Expected a prompt like '{describe()}', got {shown(prompt)}.",
            "Use words of the bundled vocabulary.",
        )
    return objects, ground[1]


def members(frame: NDArray[np.uint8], colours: list[str]) -> list[Floats]:
    """Soft `(H, W)` memberships of the objects of these colours; with two, a pixel belongs to the
    colour that it is nearer to.
    """
    ground = np.median(frame.reshape(-1, 3), axis=0)
    soft = [foreground(frame, COLOURS[colour], ground) for colour in colours]
    if len(colours) == 1:
        return soft
    values = frame.astype(np.float64)
    away = [np.linalg.norm(values - np.asarray(COLOURS[c]), axis=-1) for c in colours]
    nearest = np.argmin(away, axis=0)
    return [np.where(nearest == k, member, 0.0) for k, member in enumerate(soft)]


def tracks(
    frames: NDArray[np.uint8], colours: list[str]
) -> tuple[Floats, Floats, list[list[Floats]]]:
    """Of the objects of these colours at the time points: paths `(n, T, 2)`, NaN where invisible,
    areas `(n, T)` in fractions of the picture, and memberships without what lies far off.
    """
    paths = np.full((len(colours), TIME_POINTS, 2), np.nan)
    areas = np.full((len(colours), TIME_POINTS), np.nan)
    masks: list[list[Floats]] = [[] for _ in colours]
    height, width = frames.shape[1:3]
    ys, xs = np.mgrid[:height, :width]
    for row, index in enumerate(time_points(len(frames))):
        for k, member in enumerate(members(frames[index], colours)):
            found = centre(member)
            if found is not None:
                paths[k, row] = found
                x, y = found[0] * width - 0.5, found[1] * height - 0.5
                member = member * (np.hypot(xs - x, ys - y) < NEAR * width)
                areas[k, row] = member.mean()
            masks[k].append(member)
    return paths, areas, masks


def slope(found: Floats, true: Floats) -> float:
    """Least-squares slope of found over true changes, any equal shapes; NaN where nothing is found
    twice, or the truth does not change.
    """
    seen = np.isfinite(found) & np.isfinite(true)
    if seen.sum() < 2:
        return float("nan")
    f, t = found[seen] - found[seen].mean(), true[seen] - true[seen].mean()
    return float(f @ t / (t @ t)) if t @ t > 1e-9 else float("nan")


def angles(masks: list[Floats], folds: int) -> Floats:
    """Angle `(T,)` of an object in radians, clockwise, up to a constant: the phase of its angular
    moment `sum w r^2 exp(i folds phi)` about its centre of mass, unwrapped. Where the object is
    invisible or shows no direction it keeps its last angle.
    """
    out: list[float] = []
    last = 0.0
    for mask in masks:
        ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
        total = mask.sum()
        if total >= SMALLEST * mask.size:
            x, y = xs - (mask * xs).sum() / total, ys - (mask * ys).sum() / total
            weight = mask * (x**2 + y**2)
            moment = (weight * np.exp(1j * folds * np.arctan2(y, x))).sum() / weight.sum()
            if abs(moment) >= SIGNED:
                last = float(np.angle(moment))
        out.append(last)
    return np.unwrap(out) / folds


def more_things(frame: NDArray[np.uint8], wanted: int) -> bool:
    """Whether a frame shows more separate things than `wanted`, each of `SMALLEST` at least."""
    ground = np.median(frame.reshape(-1, 3), axis=0)
    rest = np.linalg.norm(frame.astype(np.float64) - ground, axis=-1) > FAR
    size = frame.shape[0] // 64
    rest = rest.reshape(64, size, 64, -1).mean((1, 3)) > 0.5
    things = 0
    while rest.any() and things <= wanted:
        part = np.zeros_like(rest)
        part.flat[int(rest.argmax())] = True
        while True:
            grown = np.pad(part, 1)
            near = (
                part | grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
            ) & rest
            if (near == part).all():
                break
            part = near
        rest = rest & ~part
        things += part.mean() >= SMALLEST
    return things > wanted


def true_paths(scene: Scene) -> Floats:
    """`(objects, T, 2)` of the visible parts, NaN where nothing of an object is in the picture."""
    points = time_points(len(scene.shift))
    exact = np.stack([thing.path[points] for thing in scene.things]).astype(np.float64)
    if scene.family != "enters":
        return exact
    return tracks(render(scene), [thing.colour for thing in scene.things])[0]


def assigned(paths: Floats, truths: Floats) -> tuple[list[float], list[float]]:
    """Cosines and errors of every true path with the found one of the better assignment (that of
    the highest mean cosine).
    """
    best: tuple[list[float], list[float]] | None = None
    for order in itertools.permutations(range(len(truths))):
        pairs = [(paths[k], truth) for k, truth in zip(order, truths, strict=True)]
        cosines = [path_cosine(found, truth) for found, truth in pairs]
        if best is None or np.mean(cosines) > np.mean(best[0]):
            best = cosines, [_error(found, truth) for found, truth in pairs]
    assert best is not None
    return best


def _error(found: Floats, truth: Floats) -> float:
    known = np.isfinite(truth).all(1)
    return path_error(found[known], truth[known])


@dataclass(frozen=True)
class Observed:
    """What a clip shows, before it is compared with a reference: see `tracks`; `angles` is None for
    a shape that shows none, `ground` None where it was not asked for.
    """

    paths: Floats
    areas: Floats
    angles: Floats | None
    extra: bool
    ground: GroundMotion | None


def observe(frames: NDArray[np.uint8], prompt: str, *, ground: bool = True) -> Observed:
    """Look at uint8 RGB frames `(F, H, W, 3)`, of side 64 n, made for `prompt`.

    Raises:
        UsageError: for a prompt outside the bundled vocabulary.
    """
    objects, _ = parse_all(prompt)
    paths, areas, masks = tracks(frames, [colour for colour, _ in objects])
    folds = FOLDS.get(objects[0][1])
    shown = frames[time_points(len(frames))]
    return Observed(
        paths,
        areas,
        angles(masks[0], folds) if folds else None,
        sum(more_things(frame, len(objects)) for frame in shown) >= 2,
        ground_motion(shown) if ground else None,
    )


def compared(found: Observed, scene: Scene) -> dict[str, float]:
    """A clip against the motion of a reference, whose objects are as many as the clip's prompt
    names: the numbers above.
    """
    points, truths = time_points(len(scene.shift)), true_paths(scene)
    out = {
        "visibility": float(np.isfinite(found.paths).all(-1).mean()),
        "extra": float(found.extra),
    }
    if scene.family not in ("held", "roll", "zoom"):
        cosines, errors = assigned(found.paths, truths)
        out |= {"cosine": float(np.mean(cosines)), "error": float(np.mean(errors))}
        out["extent"] = _length(found.paths) / _length(truths)
        if len(truths) > 1:
            out |= {"cosine_worse": min(cosines), "error_worse": max(errors)}
        elif scene.family not in CAMERA:
            away = np.linalg.norm(found.paths[0] - truths[0], axis=-1)
            away = away[np.isfinite(away)]
            out["place"] = float(np.sqrt(np.square(away).mean())) if len(away) else math.nan
    else:
        out["wander"] = _length(found.paths)
    if scene.family == "enters":
        empty = ~np.isfinite(truths[0]).all(-1)
        out["absent"] = float((~np.isfinite(found.paths[0]).all(-1))[empty].mean())
    if scene.family == "zoom":
        out["size"] = slope(np.log(found.areas[0]) / 2, np.log(scene.things[0].radius[points]))
    if scene.family == "roll" and scene.turn is not None and found.angles is not None:
        out["angle"] = slope(found.angles, scene.turn[points].astype(np.float64))
    if scene.family in CAMERA and found.ground is not None:
        out |= _ground(found.ground, scene, points)
    return out


def measured(frames: NDArray[np.uint8], prompt: str, scene: Scene) -> dict[str, float]:
    """`compared` of `observe`."""
    return compared(observe(frames, prompt, ground=scene.family in CAMERA), scene)


def _length(paths: Floats) -> float:
    """Of all paths together, over the steps whose two ends are visible."""
    return float(np.nansum(np.linalg.norm(np.diff(paths, axis=-2), axis=-1)))


def _ground(found: GroundMotion, scene: Scene, points: NDArray[np.int64]) -> dict[str, float]:
    out = {"textured": float(found.textured)}
    if scene.family in ("pan", "held"):
        true = scene.shift[points].astype(np.float64)
        out["ground_cosine"] = path_cosine(found.shift, true)
        out["ground"] = slope(found.shift, true)
    if scene.scale is not None:
        out["ground_size"] = slope(np.log(found.scale), np.log(scene.scale[points]))
    if scene.turn is not None:
        out["ground_angle"] = slope(found.turn, scene.turn[points].astype(np.float64))
    return out
