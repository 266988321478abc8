"""The phase of a card, edited: mirrored, moved, played at other times, mixed by a mask. Needs no
torch.

Phases are `(F, C, n)` float64 radians at the n frequencies (ky, kx) of `half_disc(radius)`, of
planes of `size` = (h, w) latents: arg sum z[y, x] exp(-2 pi i (ky y / h + kx x / w)).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.motion.disc import half_disc
from pe_toolkit.motion.stored import TURN

Floats = NDArray[np.float64]
Size = tuple[int, int]


def frequencies(radius: float) -> NDArray[np.int64]:
    """`(n, 2)` rows (ky, kx)."""
    return np.asarray(half_disc(radius), np.int64)


def within(angles: Floats, radius: float, less: float) -> Floats:
    """The phase `(F, C, n)` at the frequencies of a smaller radius only."""
    kept = {(int(ky), int(kx)) for ky, kx in frequencies(less)}
    rows = [(int(ky), int(kx)) in kept for ky, kx in frequencies(radius)]
    return angles[..., rows]


def moved(angles: Floats, radius: float, size: Size, shift: tuple[float, float]) -> Floats:
    """The phase of the same planes, moved by `shift` = (dy, dx) latents around the border.

    z'[y, x] = z[y - dy, x - dx]: arg Z'(k) = arg Z(k) - 2 pi (ky dy / h + kx dx / w).
    """
    share = np.asarray(shift, np.float64) / np.asarray(size, np.float64)
    found: Floats = angles - TURN * (frequencies(radius) @ share)
    return found


def mirrored(angles: Floats, radius: float, size: Size, axis: int) -> Floats:
    """The phase of planes flipped along `axis` (0: up and down, 1: left and right).

    z'[x] = z[w - 1 - x] has Z'(k) = exp(2 pi i k / w) Z(-k) along that axis; the other half of the
    disc, where -k may lie, is the conjugate.
    """
    rows = frequencies(radius)
    place = {(int(ky), int(kx)): i for i, (ky, kx) in enumerate(rows)}
    flipped = rows.copy()
    flipped[:, axis] *= -1
    found = np.empty_like(angles)
    for i, (ky, kx) in enumerate(flipped.tolist()):
        if (ky, kx) in place:
            found[..., i] = angles[..., place[ky, kx]]
        else:
            found[..., i] = -angles[..., place[-ky, -kx]]
    return found + TURN * rows[:, axis] / size[axis]


def at_times(angles: Floats, times: Floats) -> Floats:
    """Phases at `times` (G,) in frames, 0 to F - 1: `(G, C, n)`. Between two frames the unit
    vectors are mixed, and their angle is taken.
    """
    last = len(angles) - 1
    low = np.clip(np.floor(times).astype(np.int64), 0, last)
    share = (np.clip(times, 0, last) - low)[:, None, None]
    unit = np.exp(1j * angles)
    mixed = unit[low] * (1 - share) + unit[np.minimum(low + 1, last)] * share
    found: Floats = np.where(share == 0, angles[low], np.angle(mixed))
    return found


def planes(angles: Floats, radius: float, size: Size) -> Floats:
    """What a phase says of the layout: `(F, C, h, w)`, each frequency with the magnitude
    1 / max(|f|, 1/2), as pictures have on average; the mean of a plane is that of its sign.
    """
    spectrum = np.zeros((*angles.shape[:2], *size), np.complex128)
    for i, (ky, kx) in enumerate(frequencies(radius).tolist()):
        value = np.exp(1j * angles[..., i]) / max(math.hypot(ky, kx), 0.5)
        if (ky, kx) == (0, 0):
            spectrum[..., 0, 0] = value.real
        else:
            spectrum[..., ky, kx] = value
            spectrum[..., -ky, -kx] = value.conj()
    found: Floats = np.fft.ifft2(spectrum).real
    return found


def of_planes(values: Floats, radius: float) -> Floats:
    """The phase of planes `(F, C, h, w)`: `(F, C, n)`."""
    ky, kx = frequencies(radius).T
    found: Floats = np.angle(np.fft.fft2(values)[..., ky, kx])
    return found


def mixed(inside: Floats, outside: Floats, radius: float, size: Size, mask: Floats) -> Floats:
    """One phase where `mask` (h, w) in [0, 1] is 1, another where it is 0.

    A phase belongs to the whole picture: what it says of the layout (`planes`) is mixed, and the
    phase of that is taken. Edges of the mask are as soft as `radius` allows.
    """
    there = planes(inside, radius, size) * mask + planes(outside, radius, size) * (1 - mask)
    return of_planes(there, radius)


def between(first: Floats, second: Floats, radius: float, size: Size) -> tuple[float, float]:
    """How far (dy, dx) in latents `second` (C, n) has to move to lie on `first` (C, n), where their
    phases agree best; a whole number of latents, at most half of the picture either way.
    """
    rows = frequencies(radius)
    difference = np.exp(1j * (first - second)).sum(0)  # (n,)
    ys, xs = (np.arange(side) - side // 2 for side in size)
    waves = np.exp(
        1j * TURN * (rows[:, 0, None, None] * ys[:, None] / size[0]
                     + rows[:, 1, None, None] * xs / size[1])
    )  # fmt: skip
    agreement = (difference[:, None, None] * waves).sum(0).real
    y, x = np.unravel_index(int(agreement.argmax()), agreement.shape)
    return float(ys[y]), float(xs[x])
