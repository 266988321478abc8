"""The options of `pe train`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pe_toolkit.backbones.machine import placement
from pe_toolkit.cli import prompts
from pe_toolkit.cli.options import given
from pe_toolkit.cli.requests.eval import JobOptions
from pe_toolkit.cli.requests.reference import ReferenceOptions, free_name
from pe_toolkit.errors import UsageError, option
from pe_toolkit.training import track


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ReferenceOptions, JobOptions):
    """What the library is asked, the model for it, and where the results go.

    Attributes:
        references: all of them; `reference` is the first.
        output: a card; a folder of cards if there are `many`.
    """

    references: tuple[Path, ...]
    output: Path
    reference: Path = Path()
    preview: Path | None = None
    plot: Path | None = None
    track: str | None = None
    resume: bool = False
    force: bool = False

    @classmethod
    def of(cls, **parsed: Any) -> TrainOptions:
        """From what click parsed.

        Raises:
            UsageError: an empty prompt; many references and no folder.
        """
        parsed["reference"] = parsed["references"][0]
        if parsed["output"] is None:
            jobs = [n for n in ("jobs", "ray", "gpus_per_job") if parsed.get(n) is not None]
            if jobs or len(parsed["references"]) > 1:
                what = option(jobs[0]) if jobs else "several references"
                raise UsageError(f"Expected -o DIR with {what}, got none.", "Name a folder.")
            # The state of an interrupted training does not count: `--resume` finds it.
            parsed["output"] = free_name(parsed["reference"], ".safetensors")
        if not given("fit"):
            parsed["fit"] = None  # the recipe's, which need not be the default that --help shows
        return cls(**parsed | {"prompts": prompts.clean(parsed["prompts"])})

    @property
    def many(self) -> bool:
        """Whether this is a list of jobs."""
        places = (self.jobs, self.ray, self.gpus_per_job)
        return len(self.references) > 1 or any(place is not None for place in places)

    def each(self) -> list[TrainOptions]:
        """A request for each reference."""
        return [replace(self, reference=path) for path in self.references]

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
