"""What the positions are before the first guided step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pe_toolkit.embedding import LAYERED
from pe_toolkit.embedding.base import PositionalForm
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.path import mean_path, reach
from pe_toolkit.training.config import Resolved

WHOLE = "whole"
"""The layer of one path for everything."""


@dataclass(frozen=True)
class Layers:
    """The layers of offsets of a card (`recipe.layers`): all but the last stay as they start.

    Attributes:
        names: L of them.
        fixed: `(L - 1, S, 3)` offsets, what half precision makes of them.
    """

    names: tuple[str, ...]
    fixed: torch.Tensor

    def total(self, last: torch.Tensor) -> torch.Tensor:
        """The sum of all layers, of which `last` is the last: `(S, 3)`."""
        return self.stored(last).sum(0) if len(self.fixed) else last

    def stored(self, last: torch.Tensor) -> torch.Tensor:
        """All layers, as a card holds them at one step: `(L, S, 3)`."""
        return torch.cat([self.fixed.to(last), last[None]])


def first_positions(
    form: PositionalForm, flow: AttentionMotionFlow, settings: Resolved
) -> tuple[torch.Tensor, Layers | None]:
    """What is optimised as it is before the first guided step, `form.shape`, and the layers that it
    is the last of, if the form has some; where the model's own embedding is.
    """
    layers = {name: layer.to(form.device) for name, layer in first_layers(flow, settings).items()}
    if form.name not in LAYERED:
        return form.from_offsets(torch.stack(list(layers.values())).sum(0)), None
    *before, last = (form.from_offsets(layer) for layer in layers.values())
    fixed = torch.stack(before) if before else last.new_zeros(0, *last.shape)
    return last, Layers(tuple(layers), fixed.half().float())


def first_layers(flow: AttentionMotionFlow, settings: Resolved) -> dict[str, torch.Tensor]:
    """The layers to begin with, `(S, 3)` float64 offsets (frame, y, x) in tokens each, on the CPU;
    the last is what is optimised.

    A start of `zero` is the model itself. `flow`: one layer, in which every patch is put back along
    the reference's own flow. A patch that pretends to sit where it was in the middle frame attends
    across frames as if nothing had moved in between: positions shifted by *minus* the path carry
    the motion before any optimisation (the idea of RoPECraft, without an optical flow network).
    """
    grid = flow.grid
    if settings.start == "zero":
        return {WHOLE: torch.zeros(grid.tokens, 3, dtype=torch.float64)}
    path = mean_path(flow, grid.frames // 2)  # (F, 2) as (dx, dy)
    path = path.double() * reach(path, grid, settings.start_scale)
    dx, dy = path.repeat_interleave(grid.per_frame, dim=0).unbind(-1)
    return {WHOLE: torch.stack([torch.zeros_like(dx), -dy, -dx], dim=-1)}
