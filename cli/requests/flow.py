"""The options of `pe flow`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_toolkit.cli import files
from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.cli.options import given
from pe_toolkit.errors import UsageError
from pe_toolkit.training.request import TrainRequest

ENDINGS = (".mp4", ".gif", ".png")


@dataclass(frozen=True, kw_only=True)
class FlowOptions(TrainRequest, BackboneOptions):
    """What would be trained, the model that reads it, and where the drawing goes."""

    backbone: str
    output: Path
    force: bool = False

    @classmethod
    def of(cls, **parsed: Any) -> FlowOptions:
        """From what click parsed."""
        if parsed["output"] is None:
            stem = parsed["reference"].stem or parsed["reference"].resolve().stem or "motion"
            stem = stem.encode("utf-8", "replace").decode().replace("?", "_")
            free = files.numbered(f"{stem}-flow", ".mp4")
            parsed["output"] = next(path for path in free if not files.there(path))
        if not given("fit"):
            parsed["fit"] = None
        return cls(**parsed)

    def check(self) -> None:
        """Refuse what makes no sense with any backbone, before anything is read.

        Raises:
            UsageError: as `TrainRequest.check`, or an output of another ending.
            OutputError: it cannot be written.
        """
        super().check()
        if self.output.suffix.lower() not in ENDINGS:
            raise UsageError(
                f"Expected -o to end in {', '.join(ENDINGS)}, got {self.output.name!r}.",
                f"Use -o {self.output.stem or 'flow'}.mp4",
            )
        files.check_outputs([self.output], force=self.force)
