"""What the positions are before the first guided step."""

from __future__ import annotations

import torch

from pe_toolkit.embedding.base import PositionalForm
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.path import mean_path, reach
from pe_toolkit.training.config import Resolved


def first_delta(
    form: PositionalForm, flow: AttentionMotionFlow, settings: Resolved
) -> torch.Tensor:
    """The delta before the first guided step: zero, or every patch put back along the reference's
    own flow.

    A patch that pretends to sit where it was in the middle frame attends across frames as if
    nothing had moved in between: positions shifted by *minus* the path carry the motion before any
    optimisation (the idea of RoPECraft, without an optical flow network).

    Returns:
        `form.shape`, on the CPU.
    """
    if settings.start == "zero":
        return torch.zeros(form.shape)
    grid = flow.grid
    path = mean_path(flow, grid.frames // 2)  # (F, 2) as (dx, dy)
    path = path.double() * reach(path, grid, settings.start_scale)
    dx, dy = path.repeat_interleave(grid.per_frame, dim=0).unbind(-1)
    offsets = torch.stack([torch.zeros_like(dx), -dy, -dx], dim=-1)  # (S, 3): dt, dy, dx
    return form.from_offsets(offsets.to(form.device)).cpu()
