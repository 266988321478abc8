"""MagCache's calibration: how the size of a transformer's residual changes along the schedule.

Only ratios measured with the very weights in use are handed out. They are stored as the logarithm
of the residual's size at each timestep, so that they serve any number of steps.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pe_toolkit.errors import UnsupportedError

FILE = Path(__file__).parent / "mag_ratios.json"
REMEDY = "Use --cache taylorseer or pab, which need no calibration."


def load(name: str, weights_digest: str | None) -> dict[str, list[float]]:
    """`{"timesteps": [...], "log_size": [...]}` of a backbone, timesteps descending.

    Raises:
        UnsupportedError: no calibration for this backbone, or one for other weights.
    """
    table = json.loads(FILE.read_text(encoding="utf-8"))
    if name not in table:
        known = ", ".join(table)
        raise UnsupportedError(
            f"Expected a calibrated backbone ({known}) for --cache mag, got {name}: MagCache's "
            "ratios belong to the weights, and none were measured for these.",
            REMEDY,
        )
    row = table[name]
    if row["weights"] != weights_digest:
        raise UnsupportedError(
            f"Expected for --cache mag the weights {row['weights'][:19]}... that were calibrated, "
            f"got {str(weights_digest)[:19]}....",
            "Run `python -m benchmarks.caches --calibrate`. " + REMEDY,
        )
    return {key: row[key] for key in ("timesteps", "log_size")}


def ratios_for(row: dict[str, list[float]], timesteps: Sequence[int]) -> list[float]:
    """The ratio of each step to the one before, 1 for the first; exact at calibrated timesteps.

    Between calibrated timesteps the logarithm is interpolated linearly, beyond them held.
    """
    sizes = [_interpolate(row["timesteps"], row["log_size"], t) for t in timesteps]
    return [1.0] + [math.exp(b - a) for a, b in itertools.pairwise(sizes)]


def _interpolate(xs: list[float], ys: list[float], x: float) -> float:
    if x >= xs[0]:
        return ys[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(xs, ys, strict=True)):
        if x >= x1:
            return y1 + (y0 - y1) * (x - x1) / (x0 - x1)
    return ys[-1]


def measure(transformer: Any, call: Callable[[], Any]) -> dict[str, list[float]]:
    """Run `call` (plain generations) and measure the residual of all blocks at every timestep.

    The size is the mean over tokens of the ratio of norms between consecutive steps, accumulated:
    MagCache's definition. Several generations are averaged.
    """
    seen: dict[int, list[float]] = {}
    state: dict[str, Any] = {"t": 0, "input": None, "last": None, "size": 0.0}

    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        t = int(kwargs["timestep"].flatten()[0])
        if t > state["t"]:
            state.update(last=None, size=0.0)
        state["t"] = t

    def first(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state["input"] = kwargs["hidden_states"]

    def last(module: Any, args: Any, kwargs: Any, output: tuple[torch.Tensor, ...]) -> None:
        norm = (output[0] - state["input"]).float().norm(dim=-1)
        if state["last"] is not None:
            state["size"] += math.log(float((norm / (state["last"] + 1e-8)).mean()))
        state["last"] = norm
        seen.setdefault(state["t"], []).append(state["size"])

    blocks = transformer.transformer_blocks
    handles = [
        transformer.register_forward_pre_hook(begin, with_kwargs=True),
        blocks[0].register_forward_pre_hook(first, with_kwargs=True),
        blocks[-1].register_forward_hook(last, with_kwargs=True),
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    times = sorted(seen, reverse=True)
    return {
        "timesteps": [float(t) for t in times],
        "log_size": [round(sum(seen[t]) / len(seen[t]), 5) for t in times],
    }
