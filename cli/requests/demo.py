"""The options of `pe demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.training.request import TrainRequest


@dataclass(frozen=True, kw_only=True)
class DemoOptions(BackboneOptions):
    """Where the files go, and what of the training and the generations can be chosen."""

    backbone: str
    output: Path
    seed: int = 0
    steps: int | None = None
    samples: int | None = None
    force: bool = False

    def training(self, reference: Path, name: str) -> TrainRequest:
        """What is asked of the training, the rest at its defaults."""
        return TrainRequest(
            reference=reference,
            name=name,
            recipe="auto",
            samples=self.samples,
            steps=self.steps,
            seed=self.seed,
        )
