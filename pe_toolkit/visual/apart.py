"""Camera and subjects of a clip, drawn apart on it: each with its own colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pe_toolkit.errors import UsageError
from pe_toolkit.visual.arrows import arrow
from pe_toolkit.visual.labels import Picture
from pe_toolkit.visual.motion import OVER, Mark, enlargement, even, latent_of, legend, trail

if TYPE_CHECKING:
    from pe_toolkit.motion.apart import Apart, Part

CAMERA = (226, 226, 226)
SUBJECTS = ((255, 159, 28), (64, 196, 255), (255, 102, 196))
"""Told from each other by the colour-blind as well."""
NEITHER = (150, 150, 150)
FAINT = 0.4
"""Opacity of what was fitted where no match agrees."""
MOST_ROWS = 16
"""More rows of arrows than this are a carpet."""
LEAST_STEP = 0.04
"""Patches: shorter arrows say nothing."""

Colour = tuple[int, int, int]


def apart_frames(frames: Picture, apart: Apart, *, words: bool = True) -> Picture:
    """Every frame of a clip with what camera and subjects add to its motion until the next latent
    frame.

    Grey arrows are the camera's, on all that no subject covers; arrows in a colour are a subject's,
    without what the camera does to it, with the outline of what it covers and its way through the
    picture. They are bright where what was matched agrees, and faint where only the part as a whole
    says so. A cross is a patch with matches that no part explains.

    Args:
        frames: `(F', H, W, 3)` uint8 RGB.
        apart: what `motion.apart.taken_apart` found.
        words: say below what they mean (`apart_legend`).

    Returns:
        `(F', H', W', 3)` uint8 RGB, both sides even.

    Raises:
        UsageError: frames of another shape.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise UsageError(f"Expected frames (F', H, W, 3), got {frames.shape}.")
    grow, latent = enlargement(frames), len(apart.neither)
    below = apart_legend(frames.shape[2] * grow, apart if words else None)
    drawn = []
    for index, frame in enumerate(frames):
        i = latent_of(index, len(frames), latent)
        picture = _draw(frame, grow, apart, i, index / max(len(frames) - 1, 1))
        drawn.append(np.concatenate([picture, below]))
    return even(np.stack(drawn))


def apart_legend(width: int, apart: Apart | None) -> Picture:
    """What the colours of `apart_frames` are, and how much each part explains: `(H, width, 3)`."""
    if apart is None:
        return legend(width, [])
    lines: list[tuple[str | Mark, str]] = []
    marks = [_arrow_mark(colour, part.outlined) for part, colour in _coloured(apart)]
    texts = part_words(apart)
    if not apart.parts or apart.parts[0].name != "camera":
        lines.append(("", texts.pop(0)))
    lines += zip([*marks, _cross_mark], texts, strict=True)
    lines.append(("", "bright: what was matched agrees; faint: only fitted"))
    return legend(width, lines)


def part_words(apart: Apart) -> list[str]:
    """What was read as camera, as each subject and as neither, a line each; the camera first, also
    where there is none.
    """
    from pe_toolkit.motion.moves import AT_REST

    found = []
    if apart.at_rest:
        found.append(f"no camera: {AT_REST[apart.at_rest]}")
    for part in apart.parts:
        if part.seen:
            share = f"{part.share:.0%} of the displacements go with it"
            found.append(f"{part.name}: seen in the pictures; {share}")
        else:
            found.append(f"{part.name}: {part.share:.0%} of the displacements, {_own(part)}")
    found.append(f"neither: {apart.rest:.0%} of the displacements")
    return found


def _own(part: Part) -> str:
    if part.name == "camera":
        return "fitted to each latent frame"
    return "beyond the camera" + ("" if part.outlined else "; told from no background")


def _coloured(apart: Apart) -> list[tuple[Part, Colour]]:
    subjects = iter(SUBJECTS * 3)
    return [(p, CAMERA if p.name == "camera" else next(subjects)) for p in apart.parts]


def _draw(frame: Picture, grow: int, apart: Apart, i: int, done: float) -> Picture:
    height, width = (side * grow for side in frame.shape[:2])
    size = (width * OVER, height * OVER)
    rows, columns = apart.neither.shape[1:]
    patch = np.array([size[0] / columns, size[1] / rows])
    # Darkened, so that grey and colours are seen on white as well.
    ground = (frame * 0.62).astype(np.uint8)
    image = Image.fromarray(ground).resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    for bright in (False, True):
        sheet = Image.new("RGBA", size, (0, 0, 0, 0))
        pen = ImageDraw.Draw(sheet)
        for part, colour in _coloured(apart):
            _arrows(pen, part, i, bright, patch, colour)
        if bright:
            _marks(pen, apart, i, patch, done)
        else:
            sheet.putalpha(sheet.getchannel("A").point(lambda a: round(a * FAINT)))
        image = Image.alpha_composite(image, sheet)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX))


def _arrows(
    pen: Any, part: Part, i: int, bright: bool, patch: NDArray[np.floating], colour: Colour
) -> None:
    where, agrees, steps = (x[i].numpy() for x in (part.where, part.agrees, part.steps))
    every = max(1, round(where.shape[0] / MOST_ROWS))
    thick = max(OVER, round(float(patch.min()) * every / (12 if bright else 18)))
    for y, x in np.argwhere(where & (agrees == bright)):
        if y % every != every // 2 or x % every != every // 2:
            continue
        step = steps[y, x].astype(float)
        if np.hypot(*step) >= LEAST_STEP:
            arrow(pen, (np.array([x, y]) + 0.5) * patch, step * patch, thick, colour)


def _marks(
    pen: ImageDraw.ImageDraw, apart: Apart, i: int, patch: NDArray[np.floating], done: float
) -> None:
    far = float(patch.min()) / 8
    for y, x in np.argwhere(apart.neither[i].numpy()):
        _cross(pen, (x + 0.5) * float(patch[0]), (y + 0.5) * float(patch[1]), far)
    for part, colour in _coloured(apart):
        if part.outlined:
            _outline(pen, part.where[i].numpy(), patch, colour)
        if part.place is not None and float(np.ptp(part.place.numpy(), axis=0).max()) > 0.5:
            trail(pen, (part.place.numpy() + 0.5) * patch, done, colour, OVER)


def _outline(
    pen: ImageDraw.ImageDraw, where: NDArray[np.bool_], patch: NDArray[np.floating], colour: Colour
) -> None:
    """Around the patches that are covered."""
    inside = np.pad(where, 1)
    for y, x in np.argwhere(inside):
        left, top = np.array([x - 1, y - 1]) * patch
        right, low = np.array([x, y]) * patch
        for beside, line in (
            (inside[y - 1, x], (left, top, right, top)),
            (inside[y + 1, x], (left, low, right, low)),
            (inside[y, x - 1], (left, top, left, low)),
            (inside[y, x + 1], (right, top, right, low)),
        ):
            if not beside:
                pen.line(line, fill=colour, width=2 * OVER)


def _cross(pen: ImageDraw.ImageDraw, x: float, y: float, far: float) -> None:
    for down in (1, -1):
        pen.line([x - far, y - down * far, x + far, y + down * far], fill=NEITHER, width=OVER)


def _cross_mark(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    _cross(pen, x, y, 4)


def _arrow_mark(colour: Colour, outlined: bool) -> Mark:
    def mark(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
        arrow(pen, np.array([x - 7, y]), np.array([14.0, 0.0]), 2, colour)
        if outlined:
            pen.rectangle([x - 11, y - 8, x + 11, y + 8], outline=colour)

    return mark
