"""Scenes by class of motion, with exact truth: what a card may be asked to carry.

Every sampler takes a generator and a number of frames and gives a `Scene` whose family is the name
of the class. Where something is, how large and how far turned, and what the background does, stands
in the scene itself (`Thing.path`, `radius`, `angle`, `Scene.shift`, `zoom`, `turn`), so a
measurement has nothing to estimate on the reference's side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from pe_toolkit.world.scenes import (
    HELD_OUT_FAMILIES,
    Array,
    Scene,
    Thing,
    sample_path,
)
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES

Sampler = Callable[[np.random.Generator, int], Scene]
STYLES = ("flat", "gradient", "texture")
MODERATE = ("line", "curve", "orbit", "wave", "ease", *HELD_OUT_FAMILIES)
TURNING = tuple(shape for shape in SHAPES if shape != "circle")
"""Shapes whose angle can be seen; it repeats every quarter turn (triangles: every third)."""
PERIOD: Mapping[str, float] = MappingProxyType(
    {"square": np.pi / 2, "cross": np.pi / 2, "triangle": 2 * np.pi / 3}
)
"""Radians after which a turned shape looks as before."""
FREE = (0.17, 0.24)
"""Radii that the bundled backbone draws as shapes, as in `sample_scene`."""


def _u(frames: int) -> Array:
    return np.linspace(0, 1, frames, dtype=np.float32)


def _direction(rng: np.random.Generator) -> Array:
    angle = rng.uniform(0, 2 * np.pi)
    found: Array = np.array([np.cos(angle), np.sin(angle)], np.float32)
    return found


def _along(path: Array, rng: np.random.Generator, margin: float | tuple[float, float]) -> Array:
    """A path moved to a random place at least `margin` inside of the picture."""
    low, high = path.min(0), path.max(0)
    border = np.broadcast_to(np.asarray(margin), (2,))
    free = np.maximum(1 - 2 * border - (high - low), 0)
    placed: Array = (path - low + border + rng.uniform(0, 1, 2) * free).astype(np.float32)
    return placed


def _thing(
    rng: np.random.Generator,
    path: Array,
    *,
    radius: Array | None = None,
    shapes: tuple[str, ...] = SHAPES,
    angle: Array | None = None,
) -> Thing:
    if radius is None:
        radius = np.full(len(path), rng.uniform(*FREE), np.float32)
    return Thing(
        str(rng.choice(list(COLOURS))), str(rng.choice(shapes)), path.astype(np.float32),
        radius.astype(np.float32), angle,
    )  # fmt: skip


def _scene(
    rng: np.random.Generator,
    name: str,
    things: tuple[Thing, ...],
    *,
    style: str | None = None,
    shift: Array | None = None,
    zoom: Array | None = None,
    turn: Array | None = None,
) -> Scene:
    frames = len(things[0].path)
    return Scene(
        name,
        things,
        str(rng.choice(list(BACKGROUNDS))),
        style or str(rng.choice(STYLES)),
        np.zeros((frames, 2), np.float32) if shift is None else shift.astype(np.float32),
        int(rng.integers(2**31)),
        zoom,
        turn,
    )


def _middle(rng: np.random.Generator, frames: int) -> Array:
    """A place near the middle, all the time."""
    place = rng.uniform(0.4, 0.6, 2)
    found: Array = np.broadcast_to(place, (frames, 2)).astype(np.float32)
    return found


def translation(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing moves 0.3 to 0.6 of the width, half of them along paths that the bundled backbone
    never saw.
    """
    family = str(rng.choice(MODERATE))
    return _scene(rng, "translation", (_thing(rng, sample_path(family, frames, rng)),))


def across(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing crosses the picture from one side to the other, 0.66 to 0.72 of its width."""
    along = np.array([1.0, rng.uniform(-0.35, 0.35)]) * rng.choice([-1.0, 1.0])
    margin = (0.14, 0.2)
    if rng.uniform() < 0.5:
        along, margin = along[::-1], margin[::-1]
    path = _u(frames)[:, None] * along * rng.uniform(0.66, 0.72)
    size = np.full(frames, rng.uniform(0.14, 0.17), np.float32)
    return _scene(rng, "across", (_thing(rng, _along(path, rng, margin), radius=size),))


def small(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing moves 0.06 to 0.12 of the width: half a patch of the bundled backbone to one."""
    path = _u(frames)[:, None] * _direction(rng) * rng.uniform(0.06, 0.12)
    return _scene(rng, "small", (_thing(rng, _along(path, rng, 0.25)),))


def stop_and_go(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing stops on its way, or turns back."""
    u = _u(frames)
    if rng.uniform() < 0.5:
        hold, rest = rng.uniform(0.3, 0.4), rng.uniform(0.25, 0.35)
        done = np.interp(u, [0, hold, hold + rest, 1], [0, 0.5, 0.5, 1])
    else:
        back = rng.uniform(0.45, 0.6)
        done = np.interp(u, [0, back, 1], [0, 1, rng.uniform(0, 0.2)])
    path = done[:, None] * _direction(rng) * rng.uniform(0.4, 0.55)
    return _scene(rng, "stop-and-go", (_thing(rng, _along(path, rng, 0.2)),))


def zoom(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing grows or shrinks 1.5 to 1.9 times, near the middle; the texture with it, as before
    a camera that comes closer.
    """
    ratio = rng.uniform(1.5, 1.9)
    scale = np.exp(np.log(ratio) * (_u(frames) - 0.5) * rng.choice([-1.0, 1.0]))
    place = _middle(rng, frames)
    place = (0.5 + (place - 0.5) * scale[:, None]).astype(np.float32)
    thing = _thing(rng, place, radius=(0.19 * scale).astype(np.float32))
    return _scene(rng, "zoom", (thing,), style="texture", zoom=scale.astype(np.float32))


def roll(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing turns by 0.5 to 0.9 of its own period, near the middle."""
    shape = str(rng.choice(TURNING))
    angle = _u(frames) * PERIOD[shape] * rng.uniform(0.5, 0.9) * rng.choice([-1.0, 1.0])
    size = np.full(frames, rng.uniform(0.2, 0.24), np.float32)
    thing = _thing(
        rng, _middle(rng, frames), radius=size, shapes=(shape,), angle=angle.astype(np.float32)
    )
    return _scene(rng, "roll", (thing,))


def pan(rng: np.random.Generator, frames: int = 33) -> Scene:
    """The camera pans: the thing and the background move 0.3 to 0.5 of the width together."""
    path = _u(frames)[:, None] * _direction(rng) * rng.uniform(0.3, 0.5)
    thing = _thing(rng, _along(path, rng, 0.2))
    return _scene(rng, "pan", (thing,), style="texture", shift=path)


def held(rng: np.random.Generator, frames: int = 33) -> Scene:
    """The camera follows the thing: it stays in the middle and the background moves."""
    shift = _u(frames)[:, None] * _direction(rng) * rng.uniform(0.3, 0.5)
    thing = _thing(rng, _middle(rng, frames))
    return _scene(rng, "held", (thing,), style="texture", shift=shift)


def two(rng: np.random.Generator, frames: int = 33) -> Scene:
    """Two things with motions of their own, in different colours, that hardly cover each other."""
    colours = rng.choice(list(COLOURS), 2, replace=False)
    while True:
        sizes = rng.uniform(0.14, 0.17, 2)
        paths = []
        for size in sizes:
            way = _u(frames)[:, None] * _direction(rng) * rng.uniform(0.35, 0.6)
            paths.append(_along(way, rng, float(size)))
        steps = [p[-1] - p[0] for p in paths]
        lengths = [float(np.linalg.norm(s)) for s in steps]
        apart = float(np.linalg.norm(paths[0] - paths[1], axis=1).min())
        if apart >= sizes.sum() * 0.95 and steps[0] @ steps[1] < 0.5 * lengths[0] * lengths[1]:
            break
    things = tuple(
        Thing(
            str(colour), str(rng.choice(SHAPES)), path, np.full(frames, size, np.float32)
        )
        for colour, path, size in zip(colours, paths, sizes, strict=True)
    )  # fmt: skip
    return _scene(rng, "two", things)


def entering(rng: np.random.Generator, frames: int = 33) -> Scene:
    """One thing comes in from outside, or leaves: the picture is empty first or last."""
    size = float(rng.uniform(*FREE))
    inside = rng.uniform(0.4, 0.6, 2)
    outside = inside + rng.uniform(-0.15, 0.15, 2)
    beyond = 1.2 * size  # a cross reaches 1.1 of its radius
    outside[rng.integers(2)] = rng.choice([-beyond, 1 + beyond])
    u = _u(frames) if rng.uniform() < 0.5 else 1 - _u(frames)
    path = (outside + (inside - outside) * u[:, None]).astype(np.float32)
    radius = np.full(frames, size, np.float32)
    return _scene(rng, "entering", (_thing(rng, path, radius=radius),))


CLASSES: Mapping[str, Sampler] = MappingProxyType(
    {
        "translation": translation,
        "across": across,
        "small": small,
        "stop-and-go": stop_and_go,
        "two": two,
        "zoom": zoom,
        "roll": roll,
        "pan": pan,
        "held": held,
        "entering": entering,
    }
)
"""Name -> sampler of a scene of that class."""


def scenes(name: str, count: int, seed: int = 20261126, frames: int = 33) -> list[Scene]:
    """The first `count` scenes of a class; those of another seed are others.

    Raises:
        KeyError: an unknown class.
    """
    sampler = CLASSES[name]
    key = [seed, list(CLASSES).index(name)]
    return [sampler(np.random.default_rng([*key, index]), frames) for index in range(count)]
