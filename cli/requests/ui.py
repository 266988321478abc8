"""The options of `pe ui`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.cli.loading import BackboneOptions


@dataclass(frozen=True, kw_only=True)
class UiOptions(BackboneOptions):
    """The model, where the page is served, and where results are kept.

    Attributes:
        port: None for the first free one.
    """

    backbone: str
    output: Path
    host: str
    port: int | None = None
