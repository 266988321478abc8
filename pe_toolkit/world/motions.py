"""Scenes by class of motion, with exact truth: what a benchmark by class is made of.

| class | what moves |
|---|---|
| translation | one object, 0.25 to 0.6 of the side |
| across | one object from one side of the picture to the other |
| small | one object, 0.08 to 0.15 of the side: about one patch of the bundled backbone |
| zoom | the camera: object and background grow or shrink 1.5 to 2.1 times |
| roll | the camera: object and background turn by 50 to 120 degrees |
| pan | the camera: object and background move together |
| held | the background behind an object that stays |
| two | two objects, each with a motion of its own |
| stops | one object that stops on its way, goes on, or comes back |
| enters | one object that comes in from outside, or goes out |

The truth is in the scene: `Thing.path`, `.radius`, `.angle` and `Scene.shift`, `.scale`, `.turn`
for every frame. Everything is a pure function of the generator: same seed, same scene.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Callable

import numpy as np

from pe_toolkit.world.scenes import Array, Scene, Thing, sample_path, turned
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES

Generator = np.random.Generator
Families = tuple[str, ...]

TRANSLATIONS = (
    "line", "curve", "orbit", "bounce", "wave", "ease", "eight", "spiral", "zigzag", "corner",
)  # fmt: skip
CONTRAST = 10.0
"""Of a background whose motion is to be seen; its greatest distance from the mean stays below what
tells an object from the ground."""
STYLES = ("flat", "gradient", "texture")


def sample_motion(
    name: str, rng: Generator, *, frames: int = 33, families: tuple[str, ...] = TRANSLATIONS
) -> Scene:
    """A random scene of the class `name`, one of `CLASSES`, of `frames` frames (at least 9); the
    paths of translations are of `families`, which always hold `line`.

    Raises:
        ValueError: for an unknown class.
    """
    if name not in SAMPLERS:
        raise ValueError(f"Expected one of {', '.join(CLASSES)}, got {name!r}.")
    return SAMPLERS[name](rng, frames, families)


def scenes_of(name: str, count: int, *, seed: int = 20261126, frames: int = 33) -> list[Scene]:
    """`count` scenes of a class. Every one has a generator of its own, so that the first ones stay
    what they are when more are wanted, whichever other classes are drawn.
    """
    return [
        sample_motion(
            name, np.random.default_rng([seed, zlib.crc32(name.encode()), i]), frames=frames
        )
        for i in range(count)
    ]


def through_camera(thing: Thing, shift: Array, scale: Array, turn: Array) -> Thing:
    """`thing`, fixed to the background, as a camera shows it: `shift` `(F, 2)`, `scale` and `turn`
    `(F,)` as in `Scene`.
    """
    x, y = turned(thing.path[:, 0] - 0.5, thing.path[:, 1] - 0.5, turn)
    path = np.stack([x * scale, y * scale], 1) + 0.5 + shift
    angle = turn if thing.angle is None else thing.angle + turn
    return dataclasses.replace(
        thing,
        path=path.astype(np.float32),
        radius=(thing.radius * scale).astype(np.float32),
        angle=angle.astype(np.float32) if np.any(angle) else None,
    )


def travelled(path: Array) -> float:
    """Length of an `(F, 2)` path, in fractions of the side."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _translation(rng: Generator, frames: int, families: Families) -> Scene:
    return _scene("translation", rng, [_thing(rng, _moderate(rng, frames, families))])


def _across(rng: Generator, frames: int, _: Families) -> Scene:
    edge = rng.uniform(0.14, 0.18, 2)
    ends = np.array([[edge[0], rng.uniform(0.25, 0.75)], [1 - edge[1], rng.uniform(0.25, 0.75)]])
    path = ends[0] + (ends[1] - ends[0]) * _time(frames)[:, None]
    path[:, 1] += rng.uniform(-0.12, 0.12) * np.sin(np.pi * _time(frames))
    if rng.uniform() < 0.5:
        path = path[::-1]
    if rng.uniform() < 0.5:
        path = path[:, ::-1]
    return _scene("across", rng, [_thing(rng, path, sizes=(0.17, 0.2))])


def _small(rng: Generator, frames: int, families: Families) -> Scene:
    whole = _moderate(rng, frames, _of(families, "line", "curve", "ease", "corner"))
    centre = rng.uniform(0.3, 0.7, 2)
    path = whole - (whole.max(0) + whole.min(0)) / 2
    path = path * rng.uniform(0.08, 0.15) / np.ptp(path, axis=0).max() + centre
    return _scene("small", rng, [_thing(rng, path)])


def _zoom(rng: Generator, frames: int, _: Families) -> Scene:
    factor = float(np.exp(rng.uniform(np.log(1.5), np.log(2.1)) * rng.choice([-1, 1])))
    # Geometric in time, and the mean size is that of the other classes.
    scale = (factor ** (_time(frames) - 0.5)).astype(np.float32)
    thing = _thing(rng, np.tile(rng.uniform(0.42, 0.58, (1, 2)), (frames, 1)), sizes=(0.18, 0.22))
    return _seen("zoom", rng, thing, scale=scale)


def _roll(rng: Generator, frames: int, _: Families) -> Scene:
    angle = np.deg2rad(rng.uniform(50, 120)) * rng.choice([-1, 1])
    turn = (angle * _time(frames)).astype(np.float32)
    thing = _thing(
        rng,
        np.tile(rng.uniform(0.42, 0.58, (1, 2)), (frames, 1)),
        sizes=(0.2, 0.25),
        shapes=tuple(shape for shape in SHAPES if shape != "circle"),
    )
    return _seen("roll", rng, thing, turn=turn)


def _pan(rng: Generator, frames: int, families: Families) -> Scene:
    path = _moderate(rng, frames, _of(families, "line", "curve", "wave", "ease"))
    return _scene("pan", rng, [_thing(rng, path)], shift=path - path[0])


def _held(rng: Generator, frames: int, families: Families) -> Scene:
    path = _moderate(rng, frames, _of(families, "line", "curve", "wave", "ease"))
    still = np.tile(rng.uniform(0.35, 0.65, (1, 2)), (frames, 1))
    return _scene("held", rng, [_thing(rng, still)], shift=path - path[0])


def _two(rng: Generator, frames: int, families: Families) -> Scene:
    while True:
        paths = [_moderate(rng, frames, families) for _ in range(2)]
        between = np.linalg.norm(paths[0] - paths[1], axis=1)
        one, other = (np.diff(path, axis=0).ravel() for path in paths)
        alike = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        # They may cross, but not hide each other for long, and one path must not explain both.
        if (between < 0.3).mean() <= 0.2 and alike < 0.4:
            break
    colours = _two_colours(rng)
    things = [
        _thing(rng, path, sizes=(0.15, 0.19), colour=colour)
        for path, colour in zip(paths, colours, strict=True)
    ]
    return _scene("two", rng, things)


def _stops(rng: Generator, frames: int, _: Families) -> Scene:
    u = _time(frames)
    first, last = rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75)
    kind = rng.choice(["stop and go", "reversal", "stop and return"])
    if kind == "stop and go":
        along = (np.minimum(u, first) + np.maximum(u, last) - last) / (first + 1 - last)
    elif kind == "reversal":
        along = np.minimum(u / last, (1 - u) / (1 - last))
    else:
        along = np.minimum(np.minimum(u / first, 1), (1 - u) / (1 - last))
    ends = _moderate(rng, 2, ("line",))
    path = ends[0] + (ends[1] - ends[0]) * along[:, None]
    return _scene("stops", rng, [_thing(rng, path)])


def _enters(rng: Generator, frames: int, _: Families) -> Scene:
    size = rng.uniform(0.17, 0.22)
    # Wholly outside for the first fifth of the clip or so, then to a place beyond the middle.
    outside, inside = -size * 1.2 - rng.uniform(0.08, 0.2), rng.uniform(0.5, 0.75)
    path = np.stack(
        [
            outside + (inside - outside) * _time(frames),
            rng.uniform(0.3, 0.7) + rng.uniform(-0.15, 0.15) * _time(frames),
        ],
        1,
    )
    if rng.uniform() < 0.5:
        path = path[::-1]  # leaves
    if rng.uniform() < 0.5:
        path = 1 - path
    if rng.uniform() < 0.5:
        path = path[:, ::-1]
    return _scene("enters", rng, [_thing(rng, path, sizes=(size, size))])


SAMPLERS: dict[str, Callable[[Generator, int, Families], Scene]] = {
    "translation": _translation,
    "across": _across,
    "small": _small,
    "zoom": _zoom,
    "roll": _roll,
    "pan": _pan,
    "held": _held,
    "two": _two,
    "stops": _stops,
    "enters": _enters,
}
CLASSES: tuple[str, ...] = tuple(SAMPLERS)


def _time(frames: int) -> Array:
    return np.linspace(0, 1, frames)


def _of(families: Families, *names: str) -> Families:
    return tuple(name for name in names if name in families)


def _moderate(rng: Generator, frames: int, families: Families) -> Array:
    """A path inside the picture of at least a quarter of the side."""
    while True:
        path = sample_path(str(rng.choice(families)), frames, rng)
        if travelled(path) >= 0.25:
            return path


def _thing(
    rng: Generator,
    path: Array,
    *,
    sizes: tuple[float, float] = (0.17, 0.24),
    shapes: tuple[str, ...] = SHAPES,
    colour: str | None = None,
) -> Thing:
    return Thing(
        colour or str(rng.choice(list(COLOURS))),
        str(rng.choice(shapes)),
        np.ascontiguousarray(path, np.float32),
        np.full(len(path), rng.uniform(*sizes), np.float32),
    )


def apart(colours: list[str]) -> bool:
    """Whether a tracker cannot mix up these colours: every two are 150 grey values apart."""
    return all(
        np.linalg.norm(np.subtract(COLOURS[one], COLOURS[other])) >= 150
        for one, other in itertools.combinations(colours, 2)
    )


def _two_colours(rng: Generator) -> list[str]:
    while True:
        names = [str(name) for name in rng.choice(list(COLOURS), 2, replace=False)]
        if apart(names):
            return names


def _seen(
    name: str,
    rng: Generator,
    thing: Thing,
    *,
    scale: Array | None = None,
    turn: Array | None = None,
) -> Scene:
    """A scene of one thing that is fixed to the background of a camera."""
    frames = len(thing.path)
    shown = through_camera(
        thing,
        np.zeros((frames, 2), np.float32),
        np.ones(frames, np.float32) if scale is None else scale,
        np.zeros(frames, np.float32) if turn is None else turn,
    )
    return _scene(name, rng, [shown], scale=scale, turn=turn)


def _scene(
    name: str,
    rng: Generator,
    things: list[Thing],
    *,
    shift: Array | None = None,
    scale: Array | None = None,
    turn: Array | None = None,
) -> Scene:
    camera = any(value is not None for value in (shift, scale, turn))
    still = np.zeros((len(things[0].path), 2), np.float32)
    return Scene(
        name,
        tuple(things),
        str(rng.choice(list(BACKGROUNDS))),
        "texture" if camera else str(rng.choice(STYLES)),
        still if shift is None else np.asarray(shift, np.float32),
        int(rng.integers(2**31)),
        scale,
        turn,
        CONTRAST if camera else 7.0,
    )
