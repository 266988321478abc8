"""The low frequencies of a picture: which ones a phase is kept of. Needs no torch."""

from __future__ import annotations

import math


def fits(radius: float, height: int, width: int) -> bool:
    """Whether all frequencies of the disc lie below half a cycle per pixel of planes of that size,
    where a frequency is its own conjugate.
    """
    return math.floor(radius) <= (min(height, width) - 1) // 2


def half_disc(radius: float) -> list[tuple[int, int]]:
    """Half of the frequencies (ky, kx) with ky^2 + kx^2 <= radius^2; those of the other half are
    their conjugates.

    Args:
        radius: cycles per picture, 0 or more, finite. 0 is the mean alone.

    Returns:
        (0, 0) first, then by length, by kx, by ky; kx > 0, or kx = 0 and ky >= 0.
    """
    whole = math.floor(radius)
    rows = [
        (ky, kx)
        for kx in range(whole + 1)
        for ky in range(-whole, whole + 1)
        if ky * ky + kx * kx <= radius * radius and (kx > 0 or ky >= 0)
    ]
    return sorted(rows, key=lambda f: (f[0] ** 2 + f[1] ** 2, f[1], f[0]))
