"""The options of `pe train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_toolkit.backbones.machine import placement
from pe_toolkit.cli import files, prompts
from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.cli.options import given
from pe_toolkit.training import track
from pe_toolkit.training.request import TrainRequest


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainRequest, BackboneOptions):
    """What the library is asked, the model for it, and where the results go."""

    backbone: str
    output: Path
    preview: Path | None = None
    plot: Path | None = None
    track: str | None = None
    resume: bool = False
    force: bool = False

    @classmethod
    def of(cls, **parsed: Any) -> TrainOptions:
        """From what click parsed.

        Raises:
            UsageError: an empty prompt.
        """
        if parsed["output"] is None:
            parsed["output"] = free_card(parsed["reference"])
        if not given("fit"):
            parsed["fit"] = None  # the recipe's, which need not be the default that --help shows
        return cls(**parsed | {"prompts": prompts.clean(parsed["prompts"])})

    @property
    def state(self) -> Path:
        """Where an interrupted training is kept."""
        return self.output.with_name(self.output.name + ".resume")

    def check(self) -> None:
        """Refuse what makes no sense with any backbone, before anything is read.

        Raises:
            UsageError: as `TrainRequest.check`.
            DependencyError: as `check_quantize`, or a dashboard that is not installed.
            UnsupportedError: as `placement.check`.
        """
        super().check()
        self.check_quantize()
        if self.track is not None:
            track.check(self.track)
        placement.check(self.purpose(None), self.offload, self.quantize or "none")


def free_card(reference: Path) -> Path:
    """Where a card goes that nobody named: beside nothing else, in the current folder. The state of
    an interrupted training does not count, so that `--resume` finds it.
    """
    stem = reference.stem or reference.resolve().stem or "motion"
    stem = stem.encode("utf-8", "replace").decode().replace("?", "_")  # bytes that are no text
    return next(path for path in files.numbered(stem, ".safetensors") if not files.there(path))
