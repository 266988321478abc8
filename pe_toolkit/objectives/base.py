"""What every objective owes the trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from pe_toolkit.motion.flow import AttentionMotionFlow


class Objective(Protocol):
    """A fixed target, and the distance of a generation's attention to it.

    Args:
        target: the reference's motion.
        tau: temperature of the soft displacement, above 0; what has none ignores it.
    """

    def __init__(self, target: AttentionMotionFlow, tau: float = ...) -> None: ...

    def loss(self, q: Tensor, k: Tensor) -> Tensor:
        """Distance to the target.

        Args:
            q: `(B, heads, S, d)` queries of the video tokens at the tapped block, after QK-norm
                and rotary embedding; differentiable.
            k: keys, same shape, dtype and device.

        Returns:
            A scalar, at least 0, averaged over the batch; float64 for float64 arguments, else
            float32.
        """
        ...
