"""Offsets as maps of the picture, so that one motion goes on where another one ends.

A field of offsets says where each token counts as being: in the anchor frame's place of what it
shows, X_f(p) = p + offset. Motions follow each other as their maps do,

    X = X1_last o X2_0^-1 o X2_f.

That is a sum of offsets for translations alone: a zoom that follows another one goes about the
place where that has taken the picture. Needs no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAME = 0.02
"""Of sizes and of sines: a map within that neither zooms nor turns."""
FITS = 0.1
"""Patches (root mean square) within which a field is an affine map. Of two things that go their
ways, blended, none is."""
LEAST = 6
"""Tokens that a map is fitted to."""


def going_on(last: Floats, there: Floats, layers: tuple[str, ...]) -> Floats:
    """The offsets of a motion from its second frame on, as it goes on where another one ended.

    Args:
        last: `(T, L, H, W, 3)` (frame, y, x), the other one's in its last frame.
        there: `(T, L, F, H, W, 3)` of the motion.
        layers: L names. What is more than a sum goes into the camera's, or the first.

    Returns:
        `(T, L, F - 1, H, W, 3)`.
    """
    added: Floats = there[:, :, 1:] - there[:, :, :1] + last[:, :, None]
    where = layers.index("camera") if "camera" in layers else 0
    height, width = last.shape[2:4]
    at = tokens(height, width)
    for step in range(len(added)):
        ends, begins = (
            affine(at + field.sum(0)[..., 1:]) for field in (last[step], there[step, :, 0])
        )
        if ends is None or begins is None or (_moves_only(ends) and _moves_only(begins)):
            continue
        on = ends @ np.linalg.inv(begins)
        shown = at + there[step, :, 1:].sum(0)[..., 1:]  # (F - 1, H, W, 2)
        total = shown @ on[:2, :2].T + on[:2, 2] - at
        added[step, where, ..., 1:] += total - added[step].sum(0)[..., 1:]
    return added


def affine(places: Floats) -> Floats | None:
    """The affine map that takes each token to its place.

    Args:
        places: `(H, W, 2)` (y, x). Those outside of the picture may be held at its border, and do
            not count.

    Returns:
        `(3, 3)`, or None where the places are those of none, or of one that cannot be undone.
    """
    height, width = places.shape[:2]
    at = np.concatenate([tokens(height, width), np.ones((height, width, 1))], -1)
    inside = (places > -0.5) & (places < np.array([height, width]) - 0.5)
    free = inside.all(-1)
    if free.sum() < LEAST:
        return None
    rows, *_ = np.linalg.lstsq(at[free], places[free], rcond=None)
    if np.sqrt(np.square(at[free] @ rows - places[free]).sum(-1).mean()) > FITS:
        return None
    found = np.vstack([rows.T, [0.0, 0.0, 1.0]])
    return found if abs(np.linalg.det(found)) > 1e-3 else None


def tokens(height: int, width: int) -> Floats:
    """`(H, W, 2)` where they are, (y, x)."""
    return np.moveaxis(np.indices((height, width), np.float64), 0, -1)


def _moves_only(one: Floats) -> bool:
    return bool(np.abs(one[:2, :2] - np.eye(2)).max() <= SAME)
