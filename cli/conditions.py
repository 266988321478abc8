"""Options for what a generation is given beside the prompt: the reference's keys and values, and a
first picture for image-to-video backbones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from pe_toolkit.cli import options
from pe_toolkit.errors import ClipError, UsageError

if TYPE_CHECKING:
    from pe_toolkit.card import CardSpec
    from pe_toolkit.video import Clip

kv_from_option = click.option(
    "--kv-from",
    type=options.PATH,
    metavar="REF",
    help="Inject keys and values of the reference clip, as the paper does.",
)
no_kv_option = click.option(
    "--no-kv", is_flag=True, help="Do without them, although the card requires them."
)
image_option = click.option(
    "--image",
    type=options.PATH,
    metavar="IMAGE",
    help="First frame, for image-to-video backbones.",
)


def given(name: str) -> bool:
    """Whether the user wrote this option, rather than leaving it at its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)


def check_kv_training(reference: Path, o: Mapping[str, Any]) -> None:
    """`--kv-from` of a training is the reference itself.

    Raises:
        UsageError: another clip.
    """
    given = o["kv_from"]
    if given is None:
        return
    if not given.exists() or not reference.exists() or not given.samefile(reference):
        raise UsageError(
            f"Expected --kv-from to be the reference itself ({reference}), got {given}.",
            "Name the same file: the card remembers one clip.",
        )


def paper_fit(recipe: str) -> str:
    """How a clip is brought to size unless the user says: the official code stretches."""
    return "stretch" if recipe == "paper" else "crop"


def read_as_trained(path: Path | None, spec: CardSpec) -> Clip | None:
    """The clip for `--kv-from` or `--side-by-side`, sampled as in the training of the card; another
    clip than the card's as it would be without `--fps`, which cards know since 1.2.

    Raises:
        ClipError: it cannot be read.
    """
    if path is None:
        return None
    own = spec.reference
    usual: Literal["native"] | None = "native" if spec.recipe.name == "paper" else None
    if own.used is None:
        return _read(path, spec, usual)
    trained = (spec.clip.frames - 1) / own.used
    try:
        clip = _read(path, spec, usual)
    except ClipError:  # too short for consecutive frames, but perhaps not for a rate
        return _read(path, spec, trained)
    # The card tells not which way it was, but how long it took. A rate for all would not give the
    # same frames: marks at a rate begin at `start`, the others at a frame.
    if clip.sha256 != own.sha256 or math.isclose(clip.used, own.used, rel_tol=1e-6):
        return clip
    return _read(path, spec, trained)


def _read(path: Path, spec: CardSpec, fps: float | Literal["native"] | None) -> Clip:
    from pe_toolkit.video import read_clip

    return read_clip(
        path,
        start=spec.reference.start,
        frames=spec.clip.frames,
        fps=fps,
        size=(spec.clip.width, spec.clip.height),
        fit=spec.reference.fit or paper_fit(spec.recipe.name),  # type: ignore[arg-type]
    )


def read_image(path: Path | None) -> Any:
    """The picture of `--image`: uint8 RGB `(H, W, 3)`, or None.

    Raises:
        ClipError: it cannot be read as a picture.
    """
    if path is None:
        return None
    from PIL import Image

    from pe_toolkit.video.picture import from_pillow

    try:
        with Image.open(path) as image:
            return from_pillow(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ClipError(
            f"Expected a picture, got {path.name}: {' '.join(str(error).split())}",
            "Use a PNG, JPEG or WebP file.",
        ) from error


def for_generation(spec: CardSpec, o: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate` is told of `--kv-from`, `--no-kv` and `--image`, read before a model is.

    Raises:
        UsageError: a card that requires keys and values without a clip (names its hash).
    """
    if o["no_card"]:
        return {"image": read_image(o["image"])}
    if spec.recipe.kv == "required" and o["kv_from"] is None and not o["no_kv"]:
        raise UsageError(
            "Expected --kv-from for this card: it was trained with the keys and values of its "
            f"reference clip (sha256 {spec.reference.sha256}).",
            "Name that clip, or use --no-kv to do without.",
        )
    return {
        "kv_from": read_as_trained(o["kv_from"], spec),
        "no_kv": o["no_kv"],
        "image": read_image(o["image"]),
    }
