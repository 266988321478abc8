"""The clip of a card, read as in its training, and said if it is another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.card.sampling import read_as_trained
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import reading

if TYPE_CHECKING:
    from pe_toolkit.card.spec import CardSpec
    from pe_toolkit.video import Clip


def read(path: Path, spec: CardSpec, out: Output, option: str) -> Clip:
    """The clip that `option` names; warns when it is another one than the card was made from, or
    the card was edited since.

    Raises:
        ClipError: it cannot be read.
    """
    with reading(out) as on_progress:
        clip = read_as_trained(path, spec, on_progress)
    if clip.sha256 != spec.reference.sha256:
        out.warn(
            f"the clip of {option} (sha256 {clip.sha256}) is not the one that the card was "
            f"made from ({spec.reference.sha256}): the videos need not move as it does."
        )
    elif spec.edits:
        done = ", ".join(dict.fromkeys(edit.what for edit in spec.edits))
        out.warn(
            f"the clip of {option} is the reference as it was before the card was edited "
            f"({done}): the videos do not move as it does."
        )
    return clip
