"""Gradients that fit into float16: scaled where they enter its graph, exactly scaled back behind
it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pe_toolkit.errors import TrainingError
from pe_toolkit.objectives.base import Objective

# The middle of float16's normal numbers, 2^-14 to 2^16.
_LIMIT = 1.0
_LOWER = 2.0**-8
_LOWEST = 2.0**-16


class GradientScaling:
    """Backward passes of a transformer that runs in float16.

    The AMF loss is a mean over many entries: at 13x30x45 the largest gradient of a query is about
    2^-17, and 5 % of them are below what float16 holds. So the gradients of queries and keys, which
    are float32 before they enter the graph, are multiplied by the power of two that makes the
    largest of them `limit` to `2 * limit`; `undo`, a hook of what is optimised, divides by it. Both
    are exact, and all of it stays on the device.

    A gradient may still grow beyond float16 on its way. Then the guided step is repeated with a
    lower `limit`, which stays (`Problem.descend`).

    Attributes:
        active: False leaves every number and every operation as they are.
        limit: a power of two.
    """

    def __init__(self, active: bool) -> None:
        self.active = active
        self.limit = _LIMIT
        self._factor: Tensor | float = 1.0

    def backward(self, objective: Objective, tapped: tuple[Tensor, ...], share: float) -> Tensor:
        """Backward pass of `share` (0 to 1) times the objective of `tapped`, what it reads of a
        block in the transformer's dtype; returns that loss, a float32 scalar on the device.
        """
        if not self.active:
            loss: Tensor = objective.loss(*tapped) * share
            loss.backward()
            return loss.detach()
        # The objective computes in float32: the same numbers, but gradients that are not rounded.
        wide = [x.detach().float().requires_grad_() for x in tapped]
        loss = objective.loss(*wide) * share
        gradients = torch.autograd.grad(loss, wide)
        largest = torch.stack([g.abs().amax() for g in gradients]).amax()
        self._factor = self.limit / _power(largest)
        gradients = tuple(g.mul_(self._factor).to(tapped[0].dtype) for g in gradients)
        del wide  # nor are the wide gradients held while the transformer goes back
        torch.autograd.backward(tapped, gradients)
        return loss.detach()

    def undo(self, gradient: Tensor) -> Tensor:
        """The gradient of the last backward pass as it is without scaling."""
        return gradient / self._factor

    def lower(self, index: int) -> None:
        """After an overflow in step `index`.

        Raises:
            TrainingError: if the scale is as low as it gets.
        """
        self.limit *= _LOWER
        if self.limit < _LOWEST:
            raise TrainingError(
                f"Expected gradients within the range of float16 at step {index}, got larger ones "
                "at every scale.",
                "Use --dtype bfloat16 or float32.",
            )


def _power(x: Tensor) -> Tensor:
    """The power of two at or below a float32 above 0 (2^-100 for less): its exponent bits."""
    bits = x.clamp(min=2.0**-100).view(torch.int32) & 0x7F800000
    return bits.view(torch.float32)
