"""The clip of a card, read as in its training; and which card that was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.card.sampling import read_as_trained
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import reading
from pe_toolkit.errors import PeError
from pe_toolkit.shown import printable

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


def tell_card(video: Path, out: Output) -> None:
    """Say by which card a video was made, if the JSON file beside it knows, to compare by it."""
    from pe_toolkit.video.names import shown  # PyAV

    try:
        facts = json.loads(video.with_suffix(".json").read_bytes())
        card = facts["card"] if facts["video"] == video.name else {}
        name, version, digest = (str(card[key]) for key in ("name", "version", "digest"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # none, not ours, or without a card
    file = next((path for path in _places(video, name) if _is(path, digest)), "CARD")
    out.talk(
        f"{printable(shown(video))} was made with the card {printable(f'{name} {version}')}: "
        f"--card {printable(str(file))} compares it with the part of --ref that the card is of."
    )


def _places(video: Path, name: str) -> tuple[Path, ...]:
    """Where the card may lie: as `pe train` names it, beside the video or here."""
    return tuple(folder / f"{Path(name).name}.safetensors" for folder in (video.parent, Path()))


def _is(path: Path, digest: str) -> bool:
    from pe_toolkit.card import read_info

    try:
        return read_info(path).spec.digest == digest
    except (PeError, OSError, ValueError):
        return False
