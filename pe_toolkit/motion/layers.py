"""Motion as coordinates: where every token pretends to sit, one layer for the camera, one for each
subject.

A token that pretends to sit where its patch was in the anchor frame attends across frames as if
nothing had moved in between. The camera's map takes the patch p of the anchor frame to

    Y_f(p) = c + A_f (p - c) + b_f,    c the middle of the grid,

so what frame f shows at p was in the anchor frame at X_f(p) = c + A_f^-1 (p - c - b_f). A subject
that moves by d_f beyond the camera is put back by d_f. Layers are offsets in tokens; they add up.

Two subjects share the picture. A token that is put back with one of them where it touches the other
tears both; so they are blended, over a good part of the picture: near o_k(f), where subject k is in
frame f, a token goes mostly with k,

    w_k(f, p) = exp(-|p - o_k(f)| / s) / sum_l exp(-|p - o_l(f)| / s),    s = BLEND sides

(`motion.blending`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.blending import held, shares


def middle(grid: TokenGrid) -> Tensor:
    """`(2,)` float64 (x, y): the middle of the picture, in patches."""
    return torch.tensor([(grid.width - 1) / 2, (grid.height - 1) / 2], dtype=torch.float64)


def camera_layer(grid: TokenGrid, linear: Tensor, shift: Tensor) -> Tensor:
    """X_f(p) - p of an affine map per latent frame.

    Args:
        grid: F x H x W tokens.
        linear: `(F, 2, 2)` A_f, acting on (x, y); the identity where nothing is zoomed or turned.
        shift: `(F, 2)` b_f as (x, y) in patches.

    Returns:
        `(S, 3)` float32 offsets (frame, y, x) in tokens, S = `grid.tokens`; frame is always 0.

    Raises:
        UsageError: other shapes, or a map that cannot be undone.
    """
    _expect("linear", linear, (grid.frames, 2, 2))
    _expect("shift", shift, (grid.frames, 2))
    if bool((torch.linalg.det(linear.double()).abs() < 1e-6).any()):
        raise UsageError("Expected affine maps that can be undone, got one that flattens.")
    at = grid.coordinates(dtype=torch.float64)[None]  # (1, HW, 2)
    return _as_offsets(undo(at, grid, linear, shift) - at)


def undo(points: Tensor, grid: TokenGrid, linear: Tensor, shift: Tensor) -> Tensor:
    """X_f of `(F or 1, n, 2)` points (x, y) in patches: `(F, n, 2)` float64."""
    c = middle(grid)
    rest = points.double() - c - shift.double().cpu()[:, None]
    back: Tensor = rest @ torch.linalg.inv(linear.double().cpu()).mT + c
    return back


def carried(points: Tensor, grid: TokenGrid, linear: Tensor, shift: Tensor) -> Tensor:
    """Y_f of `(F or 1, n, 2)` points (x, y) in patches, `undo` undone: `(F, n, 2)` float64."""
    c = middle(grid)
    there: Tensor = (points.double() - c) @ linear.double().cpu().mT + c
    return there + shift.double().cpu()[:, None]


def compose(
    grid: TokenGrid,
    camera: tuple[Tensor, Tensor],
    subject: tuple[Tensor, Tensor],
) -> Tensor:
    """What is left of putting a subject back once the camera's layer is added.

    Args:
        grid: F x H x W tokens.
        camera: A_f `(F, 2, 2)` and b_f `(F, 2)`, as in `camera_layer`.
        subject: the same of the subject, in the anchor frame's coordinates.

    Returns:
        `(S, 3)` float32 offsets in tokens: camera layer plus this is X of the subject after X of
        the camera.
    """
    at = grid.coordinates(dtype=torch.float64)[None]
    seen = undo(at, grid, *camera)
    return _as_offsets(undo(seen, grid, *subject) - seen)


def subject_layer(grid: TokenGrid, path: Tensor, mask: Tensor | None = None) -> Tensor:
    """-d_f on all tokens, or on those of a mask.

    Args:
        grid: F x H x W tokens.
        path: `(F, 2)` d_f as (x, y) in patches, 0 in the anchor frame.
        mask: `(F, H, W)` weights in [0, 1], or bool; None for 1 everywhere.

    Returns:
        `(S, 3)` float32 offsets (frame, y, x) in tokens.

    Raises:
        UsageError: other shapes.
    """
    _expect("path", path, (grid.frames, 2))
    moved = -path.double().cpu()[:, None].expand(-1, grid.per_frame, -1)
    if mask is not None:
        _expect("mask", mask, tuple(grid))
        moved = moved * mask.double().cpu().flatten(1)[..., None]
    return _as_offsets(moved)


def blended(grid: TokenGrid, places: Tensor) -> Tensor:
    """w_k of the formula of this module.

    Args:
        grid: F x H x W tokens.
        places: `(n, F, 2)` o_k as (x, y) in patches.

    Returns:
        `(n, S)` float64 in [0, 1], 1 in sum over n; all 1 for n = 1.

    Raises:
        UsageError: other shapes.
    """
    if places.ndim != 3 or places.shape[1:] != (grid.frames, 2):
        raise UsageError(
            f"Expected places of shape (n, {grid.frames}, 2), got {tuple(places.shape)}."
        )
    found = shares(places.double().cpu().numpy(), grid.height, grid.width)
    return torch.from_numpy(found).flatten(1)


def inside(
    grid: TokenGrid, layers: dict[str, Tensor], beyond: float = 0.0, fold: float = 0.0
) -> dict[str, Tensor]:
    """The layers, each held where the sum of all up to it would leave the picture by more than
    `beyond`.

    A token that pretends to sit beyond the border sits where no model has seen one, and where a
    rotary embedding is like that of places inside: there the thing is drawn a second time. At the
    border it is what is seen there (docs/experiments.md).

    Args:
        grid: F x H x W tokens.
        layers: `(S, 3)` offsets (frame, y, x) in tokens, in the order in which they add up.
        beyond: 0 or more, in sides of the picture.
        fold: tokens. Those that are held sit to and fro within it, as far as they would be beyond:
            many that all sit at one place are drawn alike.

    Returns:
        as `layers`; coordinates of the sum lie within half a token of those of tokens and `beyond`.
    """
    x, y = grid.coordinates(dtype=torch.float64).unbind(-1)
    at = torch.stack([torch.zeros_like(x), y, x], -1).repeat(grid.frames, 1)  # (S, 3)
    sides = np.array([math.inf, grid.height, grid.width])  # of latent frames there is no border
    asked = (layer.double().cpu().numpy() for layer in layers.values())
    kept = held(at.numpy(), asked, sides, beyond, fold)
    return {
        name: torch.from_numpy(now).to(layer.dtype)
        for (name, layer), now in zip(layers.items(), kept, strict=True)
    }


def _as_offsets(moved: Tensor) -> Tensor:
    """`(F, HW, 2)` as (x, y) -> `(S, 3)` float32 as (frame, y, x)."""
    x, y = moved.flatten(0, 1).unbind(-1)
    return torch.stack([torch.zeros_like(x), y, x], dim=-1).float()


def _expect(name: str, found: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(found.shape) != shape:
        raise UsageError(f"Expected {name} of shape {shape}, got {tuple(found.shape)}.")
