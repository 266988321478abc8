"""The part of the noise that a background keeps: fixed to the camera, in every frame.

Noise is new in each latent frame. What of it stays where the camera's map takes it is, in the
coordinates of the anchor frame, the mean over frames: of F frames 1/F of the energy. That is what a
model draws a background from that moves with the camera; noise that bears a reference's phase alone
(`motion.phase`) has none, and the background is drawn flat (docs/experiments.md). With A_f, b_f the
camera's map of frame f (what rests is seen at Y_f(p) = c + A_f (p - c) + b_f, c the middle):

    G(p)   = sum_f N_f(Y_f(p)) / sqrt(n(p)),   over the n(p) frames in whose picture Y_f(p) lies
    B_f(p) = G(Y_f^-1(p)),                     of the variance of the noise

between places by bilinear interpolation. Where no frame shows p, B_f is the noise of frame f.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.errors import UsageError


@dataclass(frozen=True)
class Ground:
    """How much of the noise's low frequencies is fixed to the camera, and how that moves.

    Attributes:
        share: 0 or more: in times of the natural amplitude, 1 / sqrt(F) of the noise's.
        linear: `(F, 2, 2)` A_f, acting on (x, y).
        shift: `(F, 2)` b_f as (x, y), in parts of the picture's width and height.
        rests: whether the reference's camera did: the lowest frequencies have more then
            (`motion.phase`). A motion that is turned off does not make it one that rested.
    """

    share: float
    linear: Tensor
    shift: Tensor
    rests: bool = False

    def over_time(self, frames: int) -> Ground:
        """For another number of latent frames, 1 or more: linear in between, equal at the ends."""
        have = len(self.linear)
        if frames == have:
            return self
        at = torch.linspace(0, have - 1, frames, dtype=torch.float64)
        low = at.floor().long().clamp(max=have - 1)
        high, part = (low + 1).clamp(max=have - 1), at - low

        def mixed(x: Tensor) -> Tensor:
            weight = part.view(-1, *(1,) * (x.ndim - 1))
            return x[low].double() * (1 - weight) + x[high].double() * weight

        return replace(self, linear=mixed(self.linear), shift=mixed(self.shift))


def still(share: float, frames: int) -> Ground:
    """Of a camera that rests in so many latent frames; `share` as in `Ground`."""
    return Ground(share, torch.eye(2).repeat(frames, 1, 1), torch.zeros(frames, 2), rests=True)


def grounded(noise: Tensor, ground: Ground) -> Tensor:
    """B of the formula of this module: noise of unit variance in, noise of unit variance out.

    Args:
        noise: `(..., F, C, h, w)`, any floating dtype and device.
        ground: of F latent frames.

    Returns:
        `(..., F, C, h, w)` float32 on the CPU.

    Raises:
        UsageError: maps of another number of frames, or that cannot be undone.
    """
    frames, _, height, width = noise.shape[-4:]
    linear, shift = ground.linear.double().cpu(), ground.shift.double().cpu()
    if linear.shape != (frames, 2, 2) or shift.shape != (frames, 2):
        raise UsageError(
            f"Expected a camera of {frames} latent frames, got maps {tuple(linear.shape)} and "
            f"shifts {tuple(shift.shape)}."
        )
    known = bool(linear.isfinite().all() and shift.isfinite().all())
    if not known or bool((torch.linalg.det(linear).abs() < 1e-6).any()):
        raise UsageError("Expected a camera whose maps can be undone, got one that flattens.")
    source = noise.reshape(-1, *noise.shape[-4:]).float().cpu()
    shift = shift * torch.tensor([width, height])
    total, count = _collected(source, linear, shift)
    plane = total / count.clamp(min=1).sqrt()
    made = []
    for f in range(frames):
        back = (_points(height, width) - shift[f]) @ torch.linalg.inv(linear[f]).T
        at = _normalised(back, _wide(height), _wide(width))
        found = _sampled(plane, at)
        shown = _sampled((count > 0).float()[None, None], at) > 0.5
        shown &= at.abs().amax(-1) <= 1
        made.append(torch.where(shown, found, source[:, f]))
    return torch.stack(made, 1).reshape(noise.shape)


def _wide(side: int) -> int:
    """The side of the plane that G is on: half a picture more at each end, place upon place."""
    return side + 2 * ((side + 1) // 2)


def _collected(source: Tensor, linear: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over frames `(N, C, h', w')` on the plane of the anchor frame, and how many frames
    show each place `(h', w')`.
    """
    (_, frames, _, height, width) = source.shape
    points = _points(_wide(height), _wide(width))
    total = torch.zeros(len(source), source.shape[2], *points.shape[:2])
    count = torch.zeros(points.shape[:2])
    for f in range(frames):
        at = _normalised(points @ linear[f].T + shift[f], height, width)
        inside = (at.abs().amax(-1) <= 1).float()
        total += _sampled(source[:, f], at) * inside
        count += inside
    return total, count


def _points(height: int, width: int) -> Tensor:
    """`(h, w, 2)` float64 (x, y): places of latents about the middle."""
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 - n / 2 for n in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)


def _normalised(points: Tensor, height: int, width: int) -> Tensor:
    """For `grid_sample`: -1 and 1 are the borders of planes of that size."""
    return (points / torch.tensor([width / 2, height / 2])).float()


def _sampled(planes: Tensor, at: Tensor) -> Tensor:
    """`(N, C, h, w)` at `(h', w', 2)`: `(N, C, h', w')`."""
    return functional.grid_sample(
        planes, at[None].expand(len(planes), -1, -1, -1), mode="bilinear",
        padding_mode="border", align_corners=False,
    )  # fmt: skip
