"""How a recipe samples its reference, and how a card that needs the clip again reads it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pe_toolkit.errors import ClipError, UsageError, option

if TYPE_CHECKING:
    from pe_toolkit.card.spec import CardSpec
    from pe_toolkit.video import Clip
    from pe_toolkit.video.movie import OnProgress
    from pe_toolkit.video.picture import Fit


def usual_rate(recipe: str) -> Literal["native"] | None:
    """`fps` of `read_clip` unless a person says: the official code takes consecutive frames."""
    return "native" if recipe == "paper" else None


def usual_fit(recipe: str) -> Fit:
    """How a clip is brought to size unless a person says: the official code stretches."""
    return "stretch" if recipe == "paper" else "crop"


def fit_of(spec: CardSpec) -> Fit:
    """How the reference of a card was brought to size, and a picture to begin with is."""
    return spec.reference.fit or usual_fit(spec.recipe.name)  # type: ignore[return-value]


def resized(spec: CardSpec) -> bool:
    """Whether the size of a card is not the one that it was trained at."""
    return any(edit.what == "size" for edit in spec.edits or ())


def check_reference(spec: CardSpec, *, given: bool, waived: bool) -> None:
    """Refuse to do without the clip of a card that was trained with it, unless that is asked for.

    Raises:
        UsageError: names the hash of the clip.
    """
    if spec.recipe.kv == "required" and not given and not waived:
        raise UsageError(
            f"Expected {option('kv_from')} for this card: it was trained with the keys and values "
            f"of its reference clip (sha256 {spec.reference.sha256}).",
            f"Name that clip, or use {option('no_kv')} to do without.",
        )


def read_as_trained(path: Path, spec: CardSpec, on_progress: OnProgress | None = None) -> Clip:
    """A clip sampled as in the training of the card; another clip than the card's as it would be
    without a rate of its own, which cards know since 1.2.

    Args:
        on_progress: as in `read_clip`.

    Raises:
        ClipError: it cannot be read, or is another clip and too short.
    """
    try:
        return _sampled(path, spec, on_progress)
    except ClipError as error:
        raise _of_another(path, spec) or error from None


def _of_another(path: Path, spec: CardSpec) -> ClipError | None:
    """What is wrong with a clip that can be read, but not as in the training: it is another."""
    from pe_toolkit.video import read_clip

    try:
        clip = read_clip(path, frames=2)
    except ClipError:
        return None
    own, frames = spec.reference, spec.clip.frames
    if clip.sha256 == own.sha256:
        return None
    return ClipError(
        f"Expected the clip that the card was made from (sha256 {own.sha256}), but '{path.name}' "
        f"(sha256 {clip.sha256}) is another, and has no {frames} frames from {own.start:g} s on.",
        "Name the clip that the card was made from.",
    )


def _sampled(path: Path, spec: CardSpec, on_progress: OnProgress | None) -> Clip:
    own, usual = spec.reference, usual_rate(spec.recipe.name)
    if own.used is None:
        return _read(path, spec, usual, on_progress)
    trained = (spec.clip.frames - 1) / own.used
    try:
        clip = _read(path, spec, usual, on_progress)
    except ClipError:  # too short for consecutive frames, but perhaps not for a rate
        return _read(path, spec, trained, on_progress)
    # The card tells not which way it was, but how long it took. A rate for all would not give the
    # same frames: marks at a rate begin at `start`, the others at a frame.
    if clip.sha256 != own.sha256 or math.isclose(clip.used, own.used, rel_tol=1e-6):
        return clip
    return _read(path, spec, trained, on_progress)


def _read(
    path: Path,
    spec: CardSpec,
    fps: float | Literal["native"] | None,
    on_progress: OnProgress | None,
) -> Clip:
    from pe_toolkit.video import read_clip

    return read_clip(
        path,
        start=spec.reference.start,
        frames=spec.clip.frames,
        fps=fps,
        size=(spec.clip.width, spec.clip.height),
        # An edited size stretches the motion of what was seen.
        fit="stretch" if resized(spec) else fit_of(spec),
        on_progress=on_progress,
    )
