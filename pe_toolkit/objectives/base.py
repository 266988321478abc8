"""What every objective owes the trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor

    from pe_toolkit.motion.flow import AttentionMotionFlow


class MotionReference(Protocol):
    """The reference, as far as an objective may look at it: clean latents, an empty prompt.

    What is not asked for is not computed.
    """

    @property
    def flow(self) -> AttentionMotionFlow:
        """Its displacements, with the mask of what counts; `flow.grid` is the token grid."""
        ...

    def queries_and_keys(self) -> tuple[Tensor, Tensor]:
        """Those of the block that generations are compared at, each `(1, heads, S, d)`, after
        QK-norm and positions; no gradient.
        """
        ...

    def features(self) -> Tensor:
        """Hidden states `(1, S, channels)` that this block gives on; no gradient."""
        ...


class Objective(Protocol):
    """A fixed target, and the distance of a generation to it.

    Attributes:
        reads: what of the block `loss` is given: `attention`, queries and keys, or `features`.
    """

    reads: ClassVar[Literal["attention", "features"]]

    @classmethod
    def of(cls, reference: MotionReference, tau: float) -> Self:
        """The objective that a reference sets.

        Args:
            tau: temperature of the attention, above 0; what has none ignores it.

        Raises:
            MotionError: the reference sets none: nothing in it moves.
        """
        ...

    def loss(self, *tapped: Tensor) -> Tensor:
        """Distance to the target.

        Args:
            tapped: with `attention`, queries and keys `(B, heads, S, d)` of the video tokens after
                QK-norm and positions, of one dtype and device; with `features`, the hidden states
                `(B, S, channels)`. Differentiable.

        Returns:
            A scalar, at least 0, averaged over the batch; float64 for float64 arguments, else
            float32.
        """
        ...
