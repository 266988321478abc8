"""Objectives of other packages: their errors name them, and their losses are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch

from pe_toolkit.errors import DependencyError, PeError, out_of_memory
from pe_toolkit.extensions import in_words, refused
from pe_toolkit.objectives import GROUP, OBJECTIVES, objective_class
from pe_toolkit.objectives.base import MotionReference, Objective


def objective_of(name: str, reference: MotionReference, tau: float) -> Objective:
    """The objective of that name that a reference sets.

    Raises:
        UsageError, DependencyError: as `objective_class`; one of another package that fails.
        MotionError: the reference sets none.
    """
    kind = objective_class(name)
    if name in OBJECTIVES:
        return kind.of(reference, tau)

    def why_not(why: str) -> DependencyError:
        return refused(GROUP, name, "an objective", why)

    own: Any = _tried(lambda: kind.of(reference, tau), why_not)
    if not callable(getattr(own, "loss", None)):
        raise why_not(f"its `of` returned {type(own).__name__}, which has no `loss`")
    return cast(Objective, Checked(own, why_not))  # without `of`: it is made


@dataclass(frozen=True)
class Checked:
    """An objective that is not ours.

    Attributes:
        own: the objective.
        refused: the error that names it and its package, from why it does not fit.
    """

    own: Any
    refused: Callable[[str], DependencyError]

    @property
    def reads(self) -> Any:
        """As `objectives.base.Objective` says."""
        return self.own.reads

    def loss(self, *tapped: torch.Tensor) -> torch.Tensor:
        """As `objectives.base.Objective` says.

        Raises:
            DependencyError: it failed, or what it returns is no scalar with a gradient.
        """
        loss = _tried(lambda: self.own.loss(*tapped), self.refused)
        if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.is_floating_point():
            what = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise self.refused(f"its `loss` is to be a scalar tensor, and is {what}")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise self.refused("its `loss` has no gradient")
        return loss


def _tried(work: Callable[[], Any], why_not: Callable[[str], DependencyError]) -> Any:
    try:
        return work()
    except PeError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise why_not(f"it failed: {in_words(error)}") from error
