"""The options of a command that reads a reference as a training would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.cli import files
from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.training.request import TrainRequest


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(TrainRequest, BackboneOptions):
    """What would be trained, and the model that reads it."""

    backbone: str


def free_name(reference: Path, ending: str) -> Path:
    """A name for a file about `reference` that nobody named: beside nothing else, in the current
    folder.

    Args:
        ending: what follows the name of the reference, such as `-flow.mp4`.
    """
    stem = reference.stem or reference.resolve().stem or "motion"
    stem = stem.encode("utf-8", "replace").decode().replace("?", "_")  # bytes that are no text
    more, dot, suffix = ending.rpartition(".")
    names: Iterator[Path] = files.numbered(stem + more, dot + suffix)
    return next(path for path in names if not files.there(path))
