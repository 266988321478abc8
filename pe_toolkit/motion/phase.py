"""The phase of a reference in the initial noise: where things are, and when, without what they are.

The low spatial frequencies of a clip's latents say roughly what lies where in each frame; their
phase alone says where. Noise that bears this phase, with magnitudes of its own, makes a generation
lay its things out along the reference, whatever the prompt and the seed: no training, no pass of
the transformer (the idea of Phi-Noise, arXiv 2605.24509). For every latent frame and channel, with
N = FFT2(noise), R = FFT2(latents of the reference), f = (ky, kx) in cycles per picture:

    |f| <= radius:   N'(f) = |N(f)| / gamma * exp(i arg R(f)) + kappa(f) / sqrt(F) * B(f)
    elsewhere:       N'(f) = beta N(f),   beta^2 = (E - E'_low) / (E - E_low)

with E the energy sum |N(f)|^2 of the plane, E_low and E'_low those of the disc before and after:
every plane keeps its energy. B = FFT2 of what of the noise is fixed to the camera
(`motion.ground`), F the number of latent frames; kappa(f) = kappa, before a camera that rests twice
as much for |f| <= 1: the mean of a picture and its slopes say what a background is, and little of
where things are. kappa = 0 is the published form. The mean of a plane, f = 0, can be left to the
noise: its sign says which colours there are, not where. The published radius is max|f| / 2^alpha;
in cycles per picture it means the same layout at every size of the latents (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.motion.disc import fits, half_disc
from pe_toolkit.motion.ground import Ground, grounded
from pe_toolkit.motion.stored import LEVELS

SLOWEST, OF_THE_SLOWEST = 1, 2.0
"""Cycles per picture, and kappa(f) / kappa up to there (docs/experiments.md)."""


def disc(radius: float, height: int, width: int) -> Tensor:
    """The frequencies of a disc, half of them: those of the other half are their conjugates.

    Args:
        radius: cycles per picture, 0 or more. 0 is the mean of the plane alone.
        height, width: of the planes, 1 or more.

    Returns:
        `(n, 2)` int64 rows (ky, kx), (0, 0) first, then by their length. All of them lie below half
        a cycle per pixel, where a frequency is its own conjugate.

    Raises:
        UsageError: a radius that is negative or not finite, or too large for the planes.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise UsageError(f"Expected a radius of the phase of 0 or more, got {radius}.")
    if not fits(radius, height, width):
        raise UsageError(
            f"Expected a radius of the phase below half of the latents' {height}x{width}, got "
            f"{radius:g} cycles per picture.",
            "Use a smaller radius, or a larger video.",
        )
    return torch.tensor(half_disc(radius), dtype=torch.int64)


def phases(latents: Tensor, radius: float) -> Tensor:
    """The phase of every plane of `latents` at the frequencies of `disc`.

    Args:
        latents: `(..., h, w)`, any floating dtype.
        radius: cycles per picture.

    Returns:
        `(..., n)` float32 radians in [-pi, pi]; 0 or pi for the mean of a plane, which is real.

    Raises:
        UsageError: as `disc`.
    """
    ky, kx = disc(radius, *latents.shape[-2:]).to(latents.device).unbind(-1)
    found: Tensor = torch.fft.fft2(latents.float())[..., ky, kx].angle()
    return found


def quantised(angles: Tensor) -> Tensor:
    """Radians, any shape -> uint8 of that shape: `LEVELS` steps of a turn."""
    return (angles.double() * (LEVELS / (2 * math.pi))).round().remainder(LEVELS).to(torch.uint8)


def radians(stored: Tensor) -> Tensor:
    """What `quantised` made, uint8 of any shape, -> float32 radians in [0, 2 pi)."""
    return stored.float() * (2 * math.pi / LEVELS)


def over_time(angles: Tensor, frames: int) -> Tensor:
    """Phases `(F, C, n)` of another number of latent frames: `(frames, C, n)`, equal at the ends.

    Between two frames the unit vectors are mixed, and their angle is taken.

    Raises:
        UsageError: on less than one frame.
    """
    if frames < 1:
        raise UsageError(f"Expected at least one latent frame, got {frames}.")
    have = angles.shape[0]
    if frames == have:
        return angles
    at = torch.linspace(0, have - 1, frames, dtype=torch.float64, device=angles.device)
    low = at.floor().long().clamp(max=have - 1)
    share = (at - low)[:, None, None]
    unit = torch.polar(torch.ones_like(angles.double()), angles.double())
    mixed = unit[low] * (1 - share) + unit[(low + 1).clamp(max=have - 1)] * share
    return mixed.angle().to(angles.dtype)


def imprinting(
    stored: Tensor,
    radius: float,
    gamma: float,
    strength: float = 1.0,
    ground: Ground | None = None,
    *,
    mean: bool = True,
) -> Callable[[Tensor], Tensor]:
    """`imprinted` as a change of noise `(N, F, C, h, w)`.

    Args:
        stored: uint8 `(F', C, n)` as cards hold it; resampled if generations have another number
            of latent frames.
        radius, gamma, strength, mean: as in `imprinted`.
        ground: as there; resampled likewise.
    """

    def change(noise: Tensor) -> Tensor:
        frames = noise.shape[-4]
        angles = over_time(radians(stored.to(noise.device)), frames)
        kept = None if ground is None else ground.over_time(frames)
        return imprinted(noise, angles, radius, gamma, strength, kept, mean=mean)

    return change


def imprinted(
    noise: Tensor,
    angles: Tensor,
    radius: float,
    gamma: float,
    strength: float = 1.0,
    ground: Ground | None = None,
    *,
    mean: bool = True,
) -> Tensor:
    """Noise that bears the phase of a reference (the formula of this module).

    Args:
        noise: `(..., F, C, h, w)`, any floating dtype and device; h and w even or odd.
        angles: `(F, C, n)` radians, as `phases(latents, radius)` of the reference.
        radius: the one that `angles` were taken with, in cycles per picture.
        gamma: what magnitudes inside of the disc are divided by, above 0: 1 keeps them, more makes
            the reference's layout weaker and the prompt stronger.
        strength: 0 leaves the noise alone, bit for bit; 1 is all of it; between, phases go that
            share of the (shorter) way, magnitudes are divided by gamma^strength and kappa is
            multiplied by it.
        ground: kappa and the camera; None for none.
        mean: whether the mean of every plane bears the reference's phase, its sign, as well; False
            leaves it to the noise, and to the ground.

    Returns:
        As `noise`. The sum of squares of every plane is what it was.

    Raises:
        UsageError: as `disc` and `grounded`; a gamma that is not above 0; angles of another shape;
            energy that cannot be kept, because a gamma below 1 asks for more than a plane has.
    """
    if strength == 0:
        return noise
    if not (math.isfinite(gamma) and gamma > 0):
        raise UsageError(f"Expected a gamma of the phase above 0, got {gamma}.")
    half = disc(radius, *noise.shape[-2:]).to(noise.device)
    if angles.shape != (*noise.shape[-4:-2], len(half)):
        raise UsageError(
            f"Expected phases of shape {(*noise.shape[-4:-2], len(half))} for noise of shape "
            f"{tuple(noise.shape)}, got {tuple(angles.shape)}."
        )
    ky, kx = half.unbind(-1)
    spectrum = spectrum_of(noise)
    low = spectrum[..., ky, kx]  # (..., F, C, n)
    new = _turned(low, angles.to(low.device, low.real.dtype), gamma, strength)
    if not mean:
        new[..., 0] = low[..., 0]
    if ground is not None and ground.share:
        fixed = torch.fft.fft2(grounded(noise, ground).to(low.device, low.real.dtype))
        kappa = strength * ground.share * (_slowly(half, new) if ground.rests else 1.0)
        new = new + fixed[..., ky, kx] * (kappa / noise.shape[-4] ** 0.5)
    new[..., 0] = torch.complex(new[..., 0].real, torch.zeros_like(new[..., 0].real))
    new, beta = as_strong(spectrum, low, new, gamma, fitted=ground is not None)
    return planes_of(spectrum * beta[..., None, None], half, new).to(noise.dtype)


def spectrum_of(planes: Tensor) -> Tensor:
    """FFT2 of `(..., h, w)`, complex of float32, or of float64 if they are that."""
    found: Tensor = torch.fft.fft2(planes if planes.dtype == torch.float64 else planes.float())
    return found


def planes_of(spectrum: Tensor, half: Tensor, new: Tensor) -> Tensor:
    """The real planes `(..., h, w)` of a spectrum in whose disc `new` stands.

    Args:
        spectrum: `(..., h, w)` complex; changed.
        half: `(n, 2)` frequencies, as `disc` gives them.
        new: `(..., n)` complex, real at the first of them; their conjugates are set as well.
    """
    ky, kx = half.unbind(-1)
    spectrum[..., -ky, -kx] = new.conj()
    spectrum[..., ky, kx] = new
    made: Tensor = torch.fft.ifft2(spectrum).real
    return made


def _slowly(half: Tensor, like: Tensor) -> Tensor:
    """kappa(f) / kappa, `(n,)`, of `(n, 2)` frequencies: more of what changes slowly in space."""
    slow = half.square().sum(1) <= SLOWEST**2
    return torch.where(slow, OF_THE_SLOWEST, 1.0).to(like.real.dtype)


def _turned(low: Tensor, angles: Tensor, gamma: float, strength: float) -> Tensor:
    """The disc `(..., F, C, n)` with these phases, and magnitudes divided by gamma."""
    turn = (angles - low.angle()) * strength
    if strength != 1:  # the shorter way around
        turn = (
            strength * torch.remainder(turn / strength + math.pi, 2 * math.pi) - strength * math.pi
        )
    return torch.polar(low.abs() / gamma**strength, low.angle() + turn)


def as_strong(
    spectrum: Tensor, low: Tensor, new: Tensor, gamma: float, *, fitted: bool
) -> tuple[Tensor, Tensor]:
    """The new disc, and beta of the formula of this module for what is outside of it.

    Args:
        spectrum: `(..., h, w)` complex, the planes as they are.
        low: `(..., n)` complex, their disc.
        new: the same, what is to stand there.
        gamma: for the message.
        fitted: of a plane with little else, the disc gets as much energy as there is; otherwise
            that is refused.

    Returns:
        `(..., n)` complex and `(...)` real, 0 or more.

    Raises:
        UsageError: energy that cannot be kept, and is not fitted.
    """
    # Every frequency but the mean stands for its conjugate as well.
    twice = torch.full(low.shape[-1:], 2.0, dtype=low.real.dtype, device=low.device)
    twice[0] = 1
    least = torch.finfo(low.real.dtype).tiny
    whole = spectrum.abs().square().sum((-2, -1))
    before, after = ((x.abs().square() * twice).sum(-1) for x in (low, new))
    if fitted:
        fits = (whole / after.clamp(min=least)).clamp(max=1)
        new, after = new * fits.sqrt()[..., None], after * fits
    elif bool((after > whole).any()):
        raise UsageError(
            f"Expected a gamma of the phase that leaves the noise its energy, got {gamma:g}.",
            "Use 1 or more.",
        )
    return new, ((whole - after).clamp(min=0) / (whole - before).clamp(min=least)).sqrt()
