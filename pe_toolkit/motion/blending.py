"""Offsets of several things on one grid: which token goes with which, and where they end. Needs no
torch.

`motion.layers` says why; cards are edited with the same formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLEND = 0.375
"""Of the shorter side of the grid: sharper borders draw things twice, much softer ones move both
alike (docs/experiments.md)."""
FOLD = 1.0
"""Tokens: within it sit those that would leave the picture before a camera that rests (`held`)."""

AGAINST = 0.4
"""Of the layer of a subject that is held before a camera that moves, where both act in the same
steps: of the background behind it 0.48 of the motion is seen at 0.5, 0.66 at 0.3, where it wanders
by half more (docs/experiments.md)."""
ENOUGH = 0.75
"""Of its radius, how far the middle of a thing is inside the border at least in the frame whose
layout positions keep."""


def shares(places: Floats, height: int, width: int) -> Floats:
    """w_k of `motion.layers`: how much each token goes with each thing.

    Args:
        places: `(n, F, 2)` o_k as (x, y) in patches.
        height, width: of the grid.

    Returns:
        `(n, F, H, W)` in [0, 1], 1 in sum over n.
    """
    y, x = np.indices((height, width), np.float64)
    away = np.hypot(x - places[..., 0, None, None], y - places[..., 1, None, None])
    near = np.exp(-(away - away.min(0)) / (BLEND * min(height, width)))
    found: Floats = near / near.sum(0)
    return found


def held(
    at: Floats, layers: Iterable[Floats], sides: Floats, beyond: float = 0.0, fold: float = 0.0
) -> Iterator[Floats]:
    """Layers, each held where the sum of all up to it would leave the picture by more than
    `beyond`.

    Args:
        at: `(..., D)` where tokens are.
        layers: offsets of that shape, in the order in which they add up.
        sides: `(D,)` of the grid; infinite where there is no border.
        beyond: 0 or more, in sides of the picture.
        fold: tokens. Those that are held sit to and fro within it, as far as they would be beyond.

    Yields:
        as `layers`, one for each.
    """
    finite = np.isfinite(sides)
    far = np.where(finite, beyond * np.where(finite, sides, 0), 0)
    low, high = np.where(finite, -0.5 - far, -np.inf), sides + far - 0.5
    asked, kept = np.zeros_like(at), np.zeros_like(at)
    for layer in layers:
        asked = asked + layer
        there = at + asked
        under, over = np.maximum(low - there, 0), np.maximum(there - high, 0)
        now = np.clip(there, low, high) + _to_and_fro(under, fold) - _to_and_fro(over, fold) - at
        yield now - kept
        kept = now


def _to_and_fro(far: Floats, most: float) -> Floats:
    """0 at 0, `most` at `most`, 0 again at twice that, and so on."""
    found: Floats = most - np.abs(far % (2 * most) - most) if most else np.zeros_like(far)
    return found
