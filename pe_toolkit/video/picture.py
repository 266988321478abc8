"""One picture: alpha, orientation, pixel aspect and size."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pe_toolkit.errors import ClipError

Picture = NDArray[np.uint8]
Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[str, ...] = get_args(Fit)


def over_black(rgba: Picture) -> Picture:
    """Composite `(H, W, 4)` straight-alpha RGBA over black: `(H, W, 3)`.

    Black rather than white, because what lies under full transparency is usually zero already.
    """
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)


def from_pillow(image: Image.Image) -> Picture:
    """Any Pillow image as `(H, W, 3)` uint8 RGB: EXIF rotation applied, alpha over black.

    Raises:
        ClipError: pixels of floating point or 32 bits.
    """
    saved_as = image.format  # which a copy does not know
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or (image.mode == "I" and saved_as not in ("PNG", None)):
        kind = "floating point" if image.mode == "F" else "32 bits"
        raise ClipError(
            f"Expected pictures of 8 or 16 bits, got one of {kind}, whose range nothing says.",
            "Save it with 8 or 16 bits.",
        )
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's convert would clip at 255
        levels = np.asarray(image).astype(np.int64)
        grey = (levels >> 8).clip(0, 255).astype(np.uint8)
        grey[levels == image.info.get("transparency", -1)] = 0
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        return over_black(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def orient(picture: Picture, matrix: NDArray[np.int32] | None) -> Picture:
    """Turn and mirror a picture as a 3x3 display matrix says, to the nearest quarter turn.

    The matrix maps a picture's `(x, y)` to the display's `(a x + c y, b x + d y)`, with its nine
    numbers in the order `a b u, c d v, x y w` (QuickTime `tkhd`, FFmpeg's display matrix).
    """
    if matrix is None:
        return picture
    a, b, c, d = (int(matrix[k]) for k in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):  # a quarter turn: x' follows y, y' follows x
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def square_pixels(picture: Picture, aspect: float) -> Picture:
    """Widen or narrow a picture whose pixels are `aspect` times as wide as high."""
    height, width = picture.shape[:2]
    return resize(picture, (max(1, round(width * aspect)), height), "stretch")


def resize(picture: Picture, size: tuple[int, int], fit: Fit) -> Picture:
    """Bring an RGB picture to `size` = (width, height); bicubic, area-averaging when it shrinks.

    Args:
        picture: `(H, W, 3)` uint8.
        size: width and height in pixels.
        fit: `crop` keeps the aspect and cuts evenly at two sides; `pad` keeps the aspect and adds
            black bars; `stretch` ignores the aspect.

    Returns:
        `(size[1], size[0], 3)` uint8; `picture` itself where nothing had to change.
    """
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    image = Image.fromarray(picture)
    bicubic = Image.Resampling.BICUBIC
    if fit == "pad":
        scale = min(size[0] / width, size[1] / height)
        inner = (
            min(size[0], max(1, round(width * scale))),
            min(size[1], max(1, round(height * scale))),
        )
        canvas = Image.new("RGB", size)
        corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
        canvas.paste(image.resize(inner, bicubic), corner)
        return np.asarray(canvas)
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        scale = max(size[0] / width, size[1] / height)
        left, top = (width - size[0] / scale) / 2, (height - size[1] / scale) / 2
        left, top = max(0.0, left), max(0.0, top)  # rounding may leave -1e-14, which Pillow refuses
        box = (left, top, width - left, height - top)
    return np.asarray(cast(Any, image).resize(size, bicubic, box=box))
