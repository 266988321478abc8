"""A motion card as a picture: its loss, its path or layers, the fields of its reference, its phase.

Needs no torch: numbers of the card, drawn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card.motion_words import edits_words, motion_words
from pe_toolkit.motion.disc import half_disc
from pe_toolkit.motion.stored import radians
from pe_toolkit.motion.words import LEAST
from pe_toolkit.shown import printable
from pe_toolkit.visual.curves import loss_curve
from pe_toolkit.visual.fields import (
    every,
    field_picture,
    fitting,
    heading,
    path_colour,
    path_picture,
    phase_pictures,
    row,
    stacked,
)
from pe_toolkit.visual.labels import Picture, label

if TYPE_CHECKING:
    from pe_toolkit.card.motion_card import MotionCard

WIDTH = 960
_FIELD, _LEAST, _PATH = 150, 56, 240
"""Pixels. Fields are as high as lets a row of them fit, within the first two."""
_GAP, _SWATCH = 6, 24
_STEP = 3.0
"""Patches that an arrow of an offset may be long, on average of the longest field."""


def card_plot(card: MotionCard) -> Picture:
    """Everything that a card holds on one sheet, top to bottom: the path of the reference, its
    displacements from frame to frame, loss, offsets by layers, phase. What a card does not hold is
    not drawn, or its absence is said in words.

    Returns:
        `(H, 960, 3)` uint8 RGB.
    """
    spec = card.spec
    title = f"{printable(spec.name)} {spec.version}"
    about = f"{spec.backbone.variant}, {spec.kind}, {spec.grid} tokens (frames x height x width)"
    parts = [heading(title, about, WIDTH), *_motion(card), *_loss(card), *_layers(card)]
    return stacked([*parts, *_phase(card)], WIDTH)


def path_of(flow: NDArray[np.int8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The one path that fits the kept displacements best: least squares over all pairs of frames,
    each weighed by how many patches it keeps.

    Args:
        flow: `(F, F, H, W, 2)` (dx, dy) in patches.
        mask: `(F, F, H, W)`.

    Returns:
        `(F, 2)` (dx, dy) in patches from the first frame.
    """
    frames = len(flow)
    counts = mask.sum((2, 3)).astype(float)
    sums = (flow * mask[..., None]).sum((2, 3)).astype(float)
    matrix = np.diag((counts + counts.T).sum(1)) - (counts + counts.T)
    right = sums.sum(0) - sums.sum(1)  # into each frame, less out of it
    path = np.linalg.lstsq(matrix, right, rcond=None)[0] if counts.any() else np.zeros((frames, 2))
    return np.asarray(path - path[0], float)


def _loss(card: MotionCard) -> list[Picture]:
    losses = card.spec.training.loss
    if not losses:
        how = "edited" if card.spec.edits else "read"
        words = f"Nothing was optimised: the positions come from the reference as it was {how}."
        return [label(words, WIDTH)]
    values = [value for first, last in losses for value in (first, last, math.nan)]
    about = (
        f"in {'the one guided step' if len(losses) == 1 else f'each of {len(losses)} guided steps'}"
        ", from before its first inner step to its last"
        + ("; in patches squared" if card.spec.recipe.objective == "amf" else "")
    )
    ends = ("first guided step (noisiest)", "last")
    return [heading("Loss", about, WIDTH), loss_curve(values[:-1], (WIDTH - 240, 220), ends)]


def _motion(card: MotionCard) -> list[Picture]:
    """The path of the reference, and its displacements from each frame to the next."""
    flow, kept = card.tensors["flow"], card.mask
    frames, rows, columns = flow.shape[0], *flow.shape[2:4]
    path = path_of(flow, kept)
    paths = [("mean", path - (path.max(0) + path.min(0)) / 2)]
    names = ["the one path that explains most of its displacements"]
    measured = card.spec.reference.motion
    if measured is not None:
        paths, names = [], []
        camera = -np.array([numbers[4:6] for numbers in measured.camera])
        ways = [("camera", camera)] if np.ptp(camera, axis=0).max() >= LEAST else []
        ways += [(f"subject {i + 1}", np.array(s.path)) for i, s in enumerate(measured.subjects)]
        for name, way in ways:
            paths.append((name, way - (way.max(0) + way.min(0)) / 2))
            names.append(name)
    done = card.spec.edits
    about = f"as it was edited: {edits_words(done)}" if done else "as it was read"
    if measured is not None:
        about = motion_words(measured, (rows, columns))
    what = "Motion of the edited reference" if done else "Motion of the reference"
    out = [heading(what, about, WIDTH)]
    if paths:
        shown, times = fitting(paths, (rows, columns))
        less = f"; drawn {times:.2g} times as long" if times < 1 else ""
        about = (
            "from the ring (first frame) to the dot (last frame), each around the middle; a square "
            f"is a patch{less}"
        )
        out.append(label(about, WIDTH))
        height = min(_PATH, max(1, WIDTH * rows // columns))
        out.append(path_picture(shown, (rows, columns), height=height))
        out += [_key(name, i) for i, name in enumerate(names)]
    height, steps = _height(frames - 1, columns / rows), range(frames - 1)
    fields = [field_picture(flow[i, i + 1], kept[i, i + 1], height=height) for i in steps]
    if not any(kept[i, i + 1].any() for i in steps):
        out.append(label("Of its patches none counts from one frame to the next.", WIDTH))
    elif fields:
        nth = every(rows)
        which = "each patch that counts"
        if nth > 1:
            which = f"the upper left one of every {nth} x {nth} patches, if it counts"
        about = f"an arrow for {which}, to where it is in the next latent frame"
        out.append(heading("From frame to frame", about, WIDTH))
        out.append(row(fields, [f"{i + 1} to {i + 2}" for i in steps], WIDTH))
    return out


def _layers(card: MotionCard) -> list[Picture]:
    """Offsets of the tokens, by layers, of the middle guided step."""
    spec = card.spec
    if spec.recipe.parametrisation != "offset":
        return []
    grid, out = spec.grid, list[Picture]()
    height = _height(grid.frames, grid.width / grid.height)
    offsets = card.tensors["positions"].astype(float)
    offsets = offsets[len(offsets) // 2]
    for name, layer in zip(spec.recipe.layers or (), offsets, strict=True):
        field = layer.reshape(grid.frames, grid.height, grid.width, 3)[..., [2, 1]]
        longest = float(np.hypot(*np.moveaxis(field, -1, 0)).max())
        if not longest:
            out.append(heading(f"Layer {name}", "nothing: the model's own positions", WIDTH))
            continue
        scale = min(1.0, _STEP / longest)
        shown = [field_picture(f * scale, height=height) for f in field]
        about = (
            f"from where each token is to where it counts as being, {longest:.1f} patches at most"
            + (f"; drawn {scale:.2g} times as long" if scale < 1 else "")
        )
        out.append(heading(f"Layer {name}", about, WIDTH))
        out.append(row(shown, [f"frame {i + 1}" for i in range(grid.frames)], WIDTH))
    return out


def _phase(card: MotionCard) -> list[Picture]:
    kept = card.spec.recipe.phase
    if kept is None or "phase" not in card.tensors:
        return []
    turns = radians(card.tensors["phase"])
    grid = card.spec.grid
    height = _height(len(turns), grid.width / grid.height)
    pictures = phase_pictures(turns, half_disc(kept.radius), side=height)
    wide = round(height * grid.width / grid.height)
    shown = [_stretched(picture, wide) for picture in pictures]
    about = (
        "what its low frequencies say lies where; colours stand for nothing, only what moves counts"
    )
    return [
        heading("Phase", about, WIDTH),
        row(shown, [f"frame {i + 1}" for i in range(len(shown))], WIDTH),
    ]


def _height(count: int, aspect: float) -> int:
    """Of pictures, so many of which are to stand in a row."""
    fits = (WIDTH - _GAP) // max(count, 1) - _GAP
    return max(_LEAST, min(_FIELD, int(fits / aspect)))


def _stretched(picture: Picture, width: int) -> Picture:
    columns = (np.arange(width) * picture.shape[1] // width).astype(int)
    return picture[:, columns]


def _key(name: str, index: int) -> Picture:
    """What a colour of the paths stands for."""
    strip = label(name, WIDTH - _SWATCH)
    swatch = np.zeros((len(strip), _SWATCH, 3), np.uint8) + strip[0, 0]
    swatch[7:15, 6:] = path_colour(index)
    return np.concatenate([swatch, strip], axis=1)
