"""How much of a clip changes: by how much its frames differ from the median of all of them.

A camera that moves changes most of a picture. Where most of it is as it is in most frames, the
camera rests, whatever lies on itself elsewhere (a shadow, a limb, a thing beside another).
"""

from __future__ import annotations

from torch import Tensor

LEAST = 3.0
"""Of 255, by how much the mean of 3 x 3 pixels differs, in any colour."""
QUIET = 0.4
"""Of a frame: what changes at most before a camera that rests. Rendered references of one or two
things have up to 0.29, those of a camera that moves from 0.54 (docs/experiments.md)."""


def most_changed(pictures: Tensor) -> float:
    """The largest share of a frame that differs at all from the median of all frames, of
    `(N, 3, h, w)` that `backdrop.shrunk` gives.
    """
    changed = (pictures - pictures.median(0).values).abs().amax(1)
    return float((changed > LEAST).float().mean((1, 2)).max())
