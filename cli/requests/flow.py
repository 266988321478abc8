"""The options of `pe flow`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_toolkit.cli import files
from pe_toolkit.cli.options import given
from pe_toolkit.cli.requests.reference import ReferenceOptions, free_name
from pe_toolkit.errors import UsageError

ENDINGS = (".mp4", ".gif", ".png")


@dataclass(frozen=True, kw_only=True)
class FlowOptions(ReferenceOptions):
    """What is read, by which model, and where the drawing goes."""

    output: Path
    force: bool = False

    @classmethod
    def of(cls, **parsed: Any) -> FlowOptions:
        """From what click parsed."""
        if parsed["output"] is None:
            parsed["output"] = free_name(parsed["reference"], "-flow.mp4")
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
                f"Use -o {self.output.stem.strip('.-') or 'flow'}.mp4",
            )
        files.check_not_read([self.output], [self.reference, self.image])
        files.check_outputs([self.output], force=self.force)
