"""Which denoising steps are guided, and the learning rate at each of them."""

from __future__ import annotations

from pe_toolkit.errors import UsageError


def guided_steps(noise: list[float], guided_range: tuple[float, ...]) -> list[int]:
    """Indices of the steps whose noise level lies in (low, high), rounding forgiven.

    Raises:
        UsageError: if there are none.
    """
    low, high = guided_range
    steps = [i for i, level in enumerate(noise) if low - 1e-6 <= level <= high + 1e-6]
    if not steps:
        raise UsageError(
            f"Expected at least one step with a noise level within {low:.3f} .. {high:.3f}, got "
            f"none of {len(noise)}.",
            "Use more --steps, or a wider --set range=LOW,HIGH.",
        )
    return steps


def learning_rate(rates: tuple[float, float], step: int, total: int) -> float:
    """Of guided step `step`, 0 .. total - 1: linear from the first of `rates` to the last (the
    paper; the official code stops one short).
    """
    return rates[0] + (rates[1] - rates[0]) * (step / max(1, total - 1))
