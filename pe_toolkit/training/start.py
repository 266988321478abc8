"""What the positions are before the first guided step."""

from __future__ import annotations

from typing import Any

import torch

from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.path import mean_path, reach
from pe_toolkit.training.config import Resolved


def first_delta(form: Any, flow: AttentionMotionFlow, settings: Resolved) -> torch.Tensor:
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
    return form.from_offsets(offsets.to(_device_of(form))).cpu()  # type: ignore[no-any-return]


def _device_of(form: Any) -> torch.device:
    base = form.base
    device: torch.device = (base[0] if isinstance(base, tuple) else base).device
    return device
