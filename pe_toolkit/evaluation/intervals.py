"""Means with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000
"""Bootstrap samples of an interval."""


def interval(means: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and 95 % bootstrap interval of one number per reference, to six digits; the same ones
    every time. No interval of a single number.
    """
    own = np.asarray(means, float)
    mean = round(float(own.mean()), 6)
    if len(own) < 2:
        return mean, None, None
    drawn = np.random.default_rng(0).choice(own, (DRAWS, len(own))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return mean, round(float(low), 6), round(float(high), 6)
