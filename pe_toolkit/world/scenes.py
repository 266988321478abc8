"""Synthetic clips with captions and true trajectories: the world of the bundled backbone.

A scene is one or two shapes that move over a background, seen by a camera that may pan or zoom.
Everything is drawn analytically with anti-aliased edges, so the true position of every object in
every frame is known. Coordinates are fractions of the frame side, (0, 0) the top left corner; time
runs from 0 to
1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, caption

Array = NDArray[np.floating[Any]]

TRAIN_FAMILIES: tuple[str, ...] = (
    "line", "curve", "orbit", "bounce", "wave", "ease", "stop", "drift", "pan", "zoom",
)  # fmt: skip
HELD_OUT_FAMILIES: tuple[str, ...] = ("eight", "spiral", "zigzag", "corner")
MARGIN = 0.2


@dataclass(frozen=True)
class Thing:
    """One shape: names from the vocabulary, path `(F, 2)` as (x, y) in [0, 1], radius `(F,)` as a
    fraction, angle `(F,)` in radians, clockwise on the screen (None: upright).
    """

    colour: str
    shape: str
    path: Array
    radius: Array
    angle: Array | None = None


@dataclass(frozen=True)
class Scene:
    """What a clip shows; `style` is flat, gradient or texture.

    `shift` is the background's `(F, 2)` displacement, `scale` its `(F,)` size and `turn` its `(F,)`
    angle (radians, clockwise), both about the middle of the picture (None: 1 and 0): what is at b
    in the background is seen at `m + scale R(turn) (b - m) + shift`, m = (0.5, 0.5). Only a texture
    shows it; a gradient is light, which stays. `contrast` is the texture's, in grey values.
    """

    family: str
    things: tuple[Thing, ...]
    background: str
    style: str
    shift: Array
    seed: int
    scale: Array | None = None
    turn: Array | None = None
    contrast: float = 7.0

    @property
    def caption(self) -> str:
        """The prompt that describes this scene; it never mentions the motion."""
        things = [(thing.colour, thing.shape) for thing in self.things]
        return caption(things, self.background, textured=self.style == "texture")


def trajectory(scene: Scene) -> Array:
    """`(objects, F, 2)` true positions as (x, y) in [0, 1]."""
    return np.stack([thing.path for thing in scene.things])


def _fit(path: Array, rng: np.random.Generator, margin: float = MARGIN) -> Array:
    """Scale a path down to the free area if needed and put it at a random place inside."""
    low, high = path.min(0), path.max(0)
    room = 1 - 2 * margin
    path = (path - low) * min(1.0, room / max(float((high - low).max()), 1e-6))
    free = room - path.max(0)
    placed: Array = path + margin + rng.uniform(0, 1, 2) * np.maximum(free, 0)
    return placed.astype(np.float32)


def sample_path(family: str, frames: int, rng: np.random.Generator) -> Array:
    """`(frames, 2)` path of one motion family, somewhere inside the frame.

    Raises:
        ValueError: for an unknown family.
    """
    u = np.linspace(0, 1, frames)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    reach = rng.uniform(0.3, 0.6)
    turn = rng.choice([-1.0, 1.0])
    if family in ("line", "zoom", "pan"):
        path = along * u * reach
    elif family == "drift":
        path = along * u * rng.uniform(0.0, 0.2)
    elif family == "curve":
        path = along * u * reach + across * 4 * u * (1 - u) * turn * rng.uniform(0.15, 0.35)
    elif family == "orbit":
        phase = angle + turn * u * np.pi * rng.uniform(0.6, 1.4)
        path = np.concatenate([np.cos(phase), np.sin(phase)], 1) * rng.uniform(0.16, 0.28)
    elif family == "bounce":
        start, speed = rng.uniform(0, 1, 2), along * rng.uniform(0.7, 1.2)
        path = (1 - np.abs((start + speed * u) % 2 - 1)) * (1 - 2 * MARGIN)
        return (path + MARGIN).astype(np.float32)
    elif family == "wave":
        path = along * u * reach + across * np.sin(
            2 * np.pi * u * rng.uniform(0.7, 1.2)
        ) * rng.uniform(0.08, 0.18)
    elif family == "ease":
        power = rng.uniform(1.6, 2.6)
        path = along * (u**power if turn > 0 else 1 - (1 - u) ** power) * reach
    elif family == "stop":
        hold = rng.uniform(0.3, 0.6)
        path = (
            along
            * (np.minimum(u, hold) if turn > 0 else np.maximum(u, hold) - hold)
            * reach
            / max(hold, 1 - hold)
        )
    elif family == "eight":
        path = along * np.sin(2 * np.pi * u) * 0.24 + across * np.sin(4 * np.pi * u) * 0.14
    elif family == "spiral":
        phase = angle + turn * u * np.pi * 1.7
        path = np.concatenate([np.cos(phase), np.sin(phase)], 1) * (0.08 + 0.26 * u)
    elif family == "zigzag":
        legs = rng.choice([3, 4])
        path = along * u * reach + across * (1 - np.abs((u * legs) % 2 - 1)) * turn * 0.26
    elif family == "corner":
        at = rng.uniform(0.4, 0.6)
        path = (
            along * np.minimum(u, at) * reach * 1.3
            + across * turn * np.maximum(u - at, 0) * reach * 1.3
        )
    else:
        raise ValueError(f"Expected one of {TRAIN_FAMILIES + HELD_OUT_FAMILIES}, got {family!r}.")
    return _fit(path, rng)


def sample_scene(
    rng: np.random.Generator,
    families: tuple[str, ...] = TRAIN_FAMILIES,
    *,
    frames: int = 33,
    two: float = 0.0,
    styles: tuple[str, ...] = ("flat", "gradient", "texture"),
) -> Scene:
    """Draw a random scene; `two` is the probability of a second object."""
    family = str(rng.choice(families))
    count = 2 if rng.uniform() < two else 1
    colours = rng.choice(list(COLOURS), count, replace=False)
    things = []
    shift = np.zeros((frames, 2), np.float32)
    u = np.linspace(0, 1, frames, dtype=np.float32)
    for index in range(count):
        own = family if index == 0 else str(rng.choice(families))
        path = sample_path(own, frames, rng)
        # Two to four tokens of the bundled backbone across: at 0.11 to 0.17 it draws blobs only.
        size = rng.uniform(0.17, 0.24)
        radius = np.full(frames, size, np.float32)
        if own == "zoom":
            start, end = rng.uniform(0.75, 1.25, 2)
            radius = (size * (start + (end - start) * u)).astype(np.float32)
        if index == 0 and family == "pan":
            # The camera pans: object and background move on the screen together.
            shift = path - path[0]
        things.append(Thing(str(colours[index]), str(rng.choice(SHAPES)), path, radius))
    style = "texture" if family == "pan" else str(rng.choice(styles))
    background = str(rng.choice(list(BACKGROUNDS)))
    return Scene(family, tuple(things), background, style, shift, int(rng.integers(2**31)))


def shape_distance(shape: str, x: Array, y: Array, radius: Array | np.floating[Any]) -> Array:
    """Signed distance (fractions of the side, negative inside) of offsets (x, y) from the centre of
    a shape.
    """
    distance: Array
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - radius * np.float32(0.89)
    elif shape == "triangle":
        side = np.float32(np.sqrt(3) / 2) * np.abs(x) - y / 2
        distance = np.maximum(side - radius * np.float32(0.6), y - radius * np.float32(0.75))
    else:
        arm, reach = radius * np.float32(0.36), radius * np.float32(1.1)
        ax, ay = np.abs(x), np.abs(y)
        distance = np.minimum(np.maximum(ax - reach, ay - arm), np.maximum(ax - arm, ay - reach))
    return distance


def _background(scene: Scene, size: int, span: slice) -> Array:
    """`(F or 1, size, size, 3)` background in 0..255 of the frames in `span`."""
    base = np.array(BACKGROUNDS[scene.background], np.float32)
    if scene.style == "flat":
        return np.broadcast_to(base, (1, size, size, 3))
    rng = np.random.default_rng(scene.seed)
    ys, xs = np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) / size] * 2, indexing="ij")
    if scene.style == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        ramp = (xs - 0.5) * np.float32(np.cos(angle)) + (ys - 0.5) * np.float32(np.sin(angle))
        return (base + ramp[None, :, :, None] * np.float32(44)).astype(np.float32)
    x, y = _ground_points(scene, xs[None], ys[None], span)
    tone = np.zeros_like(x)
    for _ in range(3):
        fx, fy, phase = rng.uniform(-14, 14), rng.uniform(-14, 14), rng.uniform(0, 2 * np.pi)
        tone = tone + np.sin(np.float32(fx) * x + np.float32(fy) * y + np.float32(phase))
    return (base + tone[..., None] * np.float32(scene.contrast)).astype(np.float32)


def _ground_points(scene: Scene, x: Array, y: Array, span: slice) -> tuple[Array, Array]:
    """Where in the background the screen's points are, `(F or 1, size, size)` each."""
    moves = np.any(scene.shift) or scene.scale is not None or scene.turn is not None
    shift = scene.shift[span] if moves else np.zeros((1, 2), np.float32)
    x, y = x - shift[:, 0, None, None], y - shift[:, 1, None, None]
    if scene.scale is None and scene.turn is None:
        return x, y
    x, y = x - np.float32(0.5), y - np.float32(0.5)
    if scene.turn is not None:
        x, y = turned(x, y, -scene.turn[span, None, None])
    if scene.scale is not None:
        x, y = x / scene.scale[span, None, None], y / scene.scale[span, None, None]
    return x + np.float32(0.5), y + np.float32(0.5)


def turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    """Offsets (x, y) turned by `angle` (radians, clockwise on the screen: y points down)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def render(scene: Scene, size: int = 128, span: slice = slice(None)) -> NDArray[np.uint8]:
    """Draw the frames in `span` of a scene: uint8 RGB `(F, size, size, 3)`; later objects cover
    earlier ones.
    """
    frames = len(scene.shift[span])
    image = np.broadcast_to(_background(scene, size, span), (frames, size, size, 3)).astype(
        np.float32
    )
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    for thing in scene.things:
        path, radius = thing.path[span], thing.radius[span]
        x: Array = axis[None, None, :] - path[:, 0, None, None]
        y: Array = axis[None, :, None] - path[:, 1, None, None]
        if thing.angle is not None:
            x, y = turned(x, y, -thing.angle[span, None, None])
        distance = shape_distance(thing.shape, x, y, radius[:, None, None])
        alpha = np.clip(0.5 - distance * size, 0, 1)[..., None]
        image += alpha * (np.array(COLOURS[thing.colour], np.float32) - image)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
