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
BLACK, SHOWS, ALIKE = 12.0, 0.5, 2
"""Of 255, the most of a bar above and below, or beside a picture; in how much of what is next to
it something is lighter, or it is a dark picture; and by how many pixels two bars differ at most."""
SHARP, EDGES, TREMBLES, SHAKES, TWICE = 40.0, 100, 0.1, 0.6, 2.0
"""Of 255, from which slack on an edge is sharp; how many pixels of it there are at least; of that
slack, by how much most of them differ where a camera at rest trembles (up to 0.08 where it does
not; more is no trembling); and how many times as much as most of them an edge may."""
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
    """`(N, 4)` float64 of `(N, 3, h, w)`: the first and last pixels, left, upper, right, lower,
    within black bars (letterbox, `--fit pad`).
    """
    height, width = pictures.shape[2:]
    most = pictures.amax((0, 1))  # (h, w)
    left, right = _bars(most.T)
    upper, lower = _bars(most)
    ends = [left, upper, width - 1 - right, height - 1 - lower]
    return torch.tensor(ends, dtype=torch.float64).expand(len(pictures), 4)


def _bars(most: Tensor) -> tuple[int, int]:
    """How many rows of `(h, w)` are black at either end, about as many at both; else none."""
    shown = (most.amax(1) > BLACK).nonzero()
    if not len(shown):
        return 0, 0
    first, last = int(shown[0]), int(shown[-1])
    before, behind = first, len(most) - 1 - last
    # The outermost rows are half of a bar, where a picture was shrunk.
    inner = most[[min(first + 1, last), max(last - 1, first)]]
    shows = float((inner > BLACK).float().mean(1).min())
    if min(before, behind) < 1 or abs(before - behind) > ALIKE or shows < SHOWS:
        return 0, 0
    return before, behind


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
    differs = (pictures - ground).abs().amax(1)
    clear = differs > CLEARLY + (edges(ground) if laid else _shaken(differs, ground))
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


def _shaken(differs: Tensor, ground: Tensor) -> Tensor | float:
    """By how much edges of `(3, h, w)` seem to differ, `(N, h, w)`, because a camera that rests
    trembles; 0 where few edges are, or most of them stay.

    Args:
        differs: `(N, h, w)` by how much they do.
    """
    steps = edges(ground)
    sharp = steps > SHARP
    if int(sharp.sum()) < EDGES:
        return 0.0
    share = (differs[:, sharp] / steps[sharp]).median(1).values
    if not TREMBLES < float(share.median()) < SHAKES:
        return 0.0
    return TWICE * share.clamp(max=SHAKES)[:, None, None] * steps


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
