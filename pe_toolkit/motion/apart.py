"""Which displacements the camera explains, which a subject, and which neither."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.layers import middle, undo
from pe_toolkit.motion.moves import Moves, own_motion

NEAR = 1.0
"""Patches in x and in y: a match as near to where a part sends its patch agrees with it, as in
`masks.consistent_mask`."""


@dataclass(frozen=True)
class Part:
    """The camera, or a subject.

    Attributes:
        name: `camera`, `subject`, `subject-2`, as the layers of a card have them.
        steps: `(F, H, W, 2)` float32 (dx, dy) in patches: what it adds to where a patch goes from
            every latent frame to the next one; 0 in the last. Of a subject, beyond the camera.
        where: `(F, H, W)` bool, the patches that are its own.
        agrees: `(F, H, W)` bool, those of them in which most of what the mask keeps goes where the
            parts say.
        share: of the displacements that the mask keeps, how many go where it says, in [0, 1].
        outlined: `where` is what a thing covers, not only where it explains something.
        place: `(F, 2)` where a subject is in the picture, (x, y) in patches; None of a camera.
        seen: the pictures show it by themselves, whatever was matched of it.
    """

    name: str
    steps: Tensor
    where: Tensor
    agrees: Tensor
    share: float
    outlined: bool
    place: Tensor | None = None
    seen: bool = False


@dataclass(frozen=True)
class Apart:
    """What was read, taken apart.

    Attributes:
        parts: the camera, if it moves, then the subjects.
        neither: `(F, H, W)` bool, patches of which something is kept that no part explains.
        at_rest: why there is no camera, a key of `moves.AT_REST`; "" where there is one.
    """

    parts: tuple[Part, ...]
    neither: Tensor
    at_rest: str

    @property
    def rest(self) -> float:
        """Share of the displacements that the mask keeps, which no part explains, in [0, 1]."""
        return max(0.0, 1 - sum(part.share for part in self.parts))


def taken_apart(flow: AttentionMotionFlow, moves: Moves) -> Apart:
    """Which of the displacements belong to the camera, and which to the subjects.

    A patch that a subject covers goes where camera and subject together send it, any other one
    where the camera does. A displacement i -> j that is within `NEAR` of that is explained.

    Args:
        flow: the displacements, with the mask of what counts.
        moves: what was read of them (`read.read_moves`).
    """
    grid = flow.grid
    kept = flow.mask & ~torch.eye(grid.frames, dtype=torch.bool)[..., None, None]
    camera = _sent(grid, moves)
    free = torch.ones(tuple(grid), dtype=torch.bool)  # (F, H, W): what no subject covers
    parts: list[Part] = []
    for number, subject in enumerate(moves.subjects):
        sent = _sent(grid, moves, number)
        fits = _explained(flow, kept, sent)
        where = free & (_most(fits, kept) if subject.cover is None else subject.cover)
        free = free & ~where
        name = "subject" if number == 0 else f"subject-{number + 1}"
        part = _part(name, sent - camera, where, fits, kept)
        covered = subject.cover is not None
        parts.append(replace(part, outlined=covered, place=subject.place, seen=subject.seen))
    if moves.camera:
        parts.insert(0, _part("camera", camera, free, _explained(flow, kept, camera), kept))
    neither = kept.any(1)
    for part in parts:
        neither = neither & ~part.agrees
    return Apart(tuple(parts), neither, "" if moves.camera else moves.at_rest)


def _part(name: str, sent: Tensor, where: Tensor, fits: Tensor, kept: Tensor) -> Part:
    share = int((fits & where[:, None]).sum()) / max(1, int(kept.sum()))
    return Part(name, _steps(sent), where, where & _most(fits, kept), share, outlined=False)


def _sent(grid: TokenGrid, moves: Moves, subject: int | None = None) -> Tensor:
    """`(F, F, H, W, 2)` float64: where the camera, or it and a subject, send the patches of frame i
    in frame j.
    """
    camera = (moves.linear, moves.shift)
    at = grid.coordinates(dtype=torch.float64)[None]  # (1, HW, 2)
    origin = undo(at, grid, *camera)  # in the anchor frame
    if subject is not None:
        one = moves.subjects[subject]
        own = own_motion(grid, one, one.place[moves.anchor])
        origin = undo(origin, grid, *own)
    ends = origin[:, None].expand(-1, grid.frames, -1, -1)  # (F, F, HW, 2)
    if subject is not None:
        ends = _done(ends, grid, *own)
    moved: Tensor = _done(ends, grid, *camera) - at
    return moved.reshape(*moved.shape[:2], grid.height, grid.width, 2)


def _done(points: Tensor, grid: TokenGrid, linear: Tensor, shift: Tensor) -> Tensor:
    """Y_j of `(F, F, n, 2)` points, for every second index j."""
    c = middle(grid)
    return (points - c) @ linear.double().mT + c + shift.double()[:, None]


def _steps(sent: Tensor) -> Tensor:
    """Of `(F, F, H, W, 2)`, from every frame to the next: `(F, H, W, 2)`."""
    frames = torch.arange(len(sent))
    return sent[frames, (frames + 1).clamp(max=len(sent) - 1)].float()


def _explained(flow: AttentionMotionFlow, kept: Tensor, sent: Tensor) -> Tensor:
    """`(F, F, H, W)` bool: kept, and near to where it is sent."""
    near: Tensor = (flow.displacement.double() - sent).abs().amax(-1) <= NEAR
    return kept & near


def _most(fits: Tensor, kept: Tensor) -> Tensor:
    """`(F, H, W)` bool: patches with something kept, at least half of which fits."""
    return kept.any(1) & (2 * fits.sum(1) >= kept.sum(1))
