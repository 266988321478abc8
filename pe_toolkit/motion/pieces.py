"""The pieces of a frame that are not its backdrop: what hangs together, without shadows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.motion.backdrop import edges, grown, spread

CLEARLY = 20.0
"""Of 255, by how much a thing differs from what is behind it, in any colour: more than a change of
light does."""
SMALL = 0.0015
"""Of the picture: less is no piece, nor is what is nowhere three pixels wide."""
MANY = 10
"""More pieces in a frame are no things: rain, water, leaves."""
AT = 1.5
"""Pixels: what is as near to the border as this is cut by it."""
DARKEST, LIGHTEST, TINT = 0.25, 0.97, 12.0
"""A shadow shows what is behind it, so many times as light; all colours alike, but for this of
255."""
SHADOW, PART = 0.6, 0.15
"""From this share in shadow on, a piece is a shadow, if a larger one is none; of a thing with a
shadow, the share that a piece has that is left of it."""


@dataclass(frozen=True)
class Piece:
    """Something in a frame.

    Attributes:
        place: `(2,)` float64, (x, y) of its middle in pixels.
        colour: `(3,)` its mean, 0 to 255.
        cover: `(h, w)` bool.
        area: pixels.
        edges: `(4,)` float64, its first and last pixels: left, upper, right, lower.
        cut: `(4,)` bool, at which of them the border of the frame is.
    """

    place: Tensor
    colour: Tensor
    cover: Tensor
    area: float
    edges: Tensor
    cut: Tensor


def borders(pictures: Tensor) -> Tensor:
    """`(N, 4)` float64 of `(N, 3, h, w)`: the first and last pixels, left, upper, right, lower."""
    height, width = pictures.shape[2:]
    ends = torch.tensor([0, 0, width - 1, height - 1], dtype=torch.float64)
    return ends.expand(len(pictures), 4)


def pieces_of(
    pictures: Tensor,
    ground: Tensor,
    *,
    laid: bool = False,
    frame: float | None = None,
    bounds: Tensor | None = None,
) -> list[list[Piece]] | None:
    """What differs from what is behind it, of each frame; None where there are too many.

    Args:
        pictures: `(N, 3, h, w)` (`backdrop.shrunk`).
        ground: `(3, h, w)` (`backdrop.backdrop`).
        laid: as there.
        frame: pixels of a frame, of which shares are. Default: all.
        bounds: `(N, 4)` where the border of each is, as of `borders`, the default.
    """
    bounds = borders(pictures) if bounds is None else bounds
    slack = edges(ground) if laid else 0.0
    clear = (pictures - ground).abs().amax(1) > CLEARLY + slack
    inner = -grown(-clear.float(), 1) > 0
    shade = -grown(-grown(_shaded(pictures, ground), 1), 1) > 0
    least = SMALL * (frame or clear[0].numel())
    whole, parts = _connected(clear), _connected(clear & ~shade)
    out = []
    frames = zip(pictures, whole, parts, shade, inner, bounds, strict=True)
    for picture, whole_, parts_, shade_, inner_, border in frames:
        found = [cover for cover in _large(whole_, least) if bool((cover & inner_).any())]
        if len(found) > MANY:
            return None
        dark = [float((cover & shade_).sum()) / float(cover.sum()) for cover in found]
        things = [cover for cover, share in zip(found, dark, strict=True) if share < SHADOW]
        largest = max((float(cover.sum()) for cover in things), default=0.0)
        kept = []
        for cover, share in zip(found, dark, strict=True):
            area = float(cover.sum())
            if share < SHADOW:
                kept += _large(parts_ * cover, max(least, PART * area))
            elif area >= largest:
                kept.append(cover)
        out.append([piece(picture, cover, border) for cover in kept])
    return out


def piece(picture: Tensor, cover: Tensor, border: Tensor | None = None) -> Piece:
    """What `(3, h, w)` shows where `(h, w)` is true, of a frame with its border at `(4,)`; None:
    where that is is not asked.
    """
    y, x = cover.nonzero(as_tuple=True)
    place = torch.stack([x.double().mean(), y.double().mean()])
    ends = torch.stack([x.min(), y.min(), x.max(), y.max()]).double()
    cut = torch.zeros(4, dtype=torch.bool)
    if border is not None:
        cut = torch.cat([ends[:2] < border[:2] + AT, ends[2:] > border[2:] - AT])
    return Piece(place, picture[:, cover].mean(1), cover, float(len(x)), ends, cut)


def _shaded(pictures: Tensor, ground: Tensor) -> Tensor:
    """`(N, h, w)` bool: what is behind, darker by one factor."""
    light = (pictures * ground).sum(1) / ground.square().sum(0).clamp(min=1)
    tint = (pictures - light[:, None] * ground).abs().amax(1)
    return (light > DARKEST) & (light < LIGHTEST) & (tint < TINT)


def _connected(there: Tensor) -> Tensor:
    """`(N, h, w)` bool -> labels, 0 of nothing: what touches, or nearly does, has one."""
    half = functional.max_pool2d(there.float()[:, None], 2, ceil_mode=True)[:, 0]
    count, height, width = half.shape
    own = torch.arange(1, height * width + 1, dtype=torch.float32).reshape(height, width)
    labels = spread(own.expand(count, -1, -1), half > 0)
    twice = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return twice[:, : there.shape[1], : there.shape[2]] * there


def _large(labels: Tensor, least: float) -> list[Tensor]:
    """`(h, w)` -> covers of the labels of at least so many pixels."""
    names, counts = labels.unique(return_counts=True)
    return [labels == n for n, c in zip(names, counts, strict=True) if n > 0 and c >= least]
