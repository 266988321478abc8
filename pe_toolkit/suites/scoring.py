"""The numbers of one video: everything that can be measured for it here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.suites import bundled
from pe_toolkit.video import Clip
from pe_toolkit.world.metrics import measure


@dataclass(frozen=True)
class Metric:
    """A column.

    Attributes:
        label: in tables.
        higher: whether more is better; None where neither is.
        headline: whether it belongs into the short tables.
    """

    label: str
    higher: bool | None = True
    headline: bool = False


METRICS: dict[str, Metric] = {
    "cosine": Metric("cos", headline=True),
    "trajectory_error": Metric("error", higher=False),
    "visibility": Metric("visible"),
    "adherent": Metric("prompt", headline=True),
}
"""Name -> column, in the order of the tables."""


def score(
    source: Mapping[str, Any], clip: Clip, frames: NDArray[np.uint8], prompt: str
) -> dict[str, float | None]:
    """Numbers by the names of `METRICS`; None where one cannot be measured, left out where it does
    not apply.

    Args:
        source: of the reference, as a suite has it.
        clip: the reference at the size of the video.
        frames: uint8 RGB `(F, H, W, 3)`.
        prompt: what was to be shown.
    """
    found: dict[str, float | None] = {}
    if "bundled" in source:
        own = measure(frames, prompt, bundled.true_path(source))
        for name in ("cosine", "trajectory_error", "visibility", "adherent"):
            found[name] = _number(getattr(own, name))
    return found


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
