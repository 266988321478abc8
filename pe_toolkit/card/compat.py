"""Whether a card fits a loaded backbone: hard mismatches are refused, soft ones are warned of."""

from __future__ import annotations

from pe_toolkit.backbones.catalogue.names import same_model
from pe_toolkit.backbones.families import FAMILIES
from pe_toolkit.card.migrations import UPGRADE
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.errors import MismatchError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.shown import printable

UNNAMED = "custom"
"""The variant of a card for a model that is not in the table of backbones."""
OTHER_VERSION = (
    "Use the version of pe-toolkit that the card was made with (`pe show`), or train the card "
    "again."
)
"""What to do where a backbone has the card's name, but was another one when the card was made."""


def check_family(spec: CardSpec) -> None:
    """Refuse a card of a family that this pe-toolkit cannot drive, before a backbone is fetched.

    Raises:
        MismatchError: names it, and those that are known.
    """
    if spec.backbone.family not in FAMILIES:
        raise MismatchError(
            f"Expected a card for {' or '.join(FAMILIES)}, got one for the family "
            f"{spec.backbone.family!r}, which this pe-toolkit does not drive.",
            UPGRADE,
        )


def check_fits(
    spec: CardSpec,
    *,
    family: str,
    fingerprint: str,
    positions: str,
    grid: TokenGrid,
    frames: int,
    width: int,
    height: int,
    variant: str | None,
    model_id: str | None = None,
    revision: str | None = None,
    weights_digest: str | None = None,
) -> list[str]:
    """Compare a card with a backbone and the clip it is about to generate.

    Args:
        spec: the description of the card.
        family: family of the backbone, such as "cogvideox".
        fingerprint: its architecture fingerprint, "sha256:...".
        positions: "rotary" or "absolute".
        grid: token grid of the clip to generate.
        frames: frames of that clip.
        width: its width in pixels.
        height: its height in pixels.
        variant: name in the variant table, or None if unknown.
        model_id: hub id, or None if unknown.
        revision: hub revision, or None if unknown.
        weights_digest: digest of the weights, or None if unknown.

    Returns:
        Warnings, one sentence each: other variant, id, revision or size. Unknown values are not
        compared.

    Raises:
        MismatchError: for another family, kind of positions, architecture, grid, frame count or
            digest of the weights; says what the card needs and what came.
    """
    need = spec.backbone
    if need.family != family:
        check_family(spec)
    wanted = f"Use --backbone {_named(need.variant, need.model_id)}."
    if need.variant == variant != UNNAMED:  # that name has changed what it means
        wanted = OTHER_VERSION
    elif need.variant == UNNAMED and need.model_id is None:
        wanted = "Use --backbone with the folder of the model that it was trained on."
    for what, needed, came in (
        ("backbones of the family", need.family, family),
        ("a backbone with positions of the kind", need.positions, positions),
        ("a backbone with the architecture", need.fingerprint, fingerprint),
    ):
        if needed != came:
            other = f" ({variant})" if variant else ""
            raise MismatchError(
                f"The card needs {what} {needed!r}, got {came!r}{printable(other)}.", wanted
            )
    clip = spec.clip
    size = f"Generate {clip.frames} frames of {clip.width}x{clip.height}"
    if tuple(spec.grid.token_grid()) != tuple(grid):
        raise MismatchError(
            f"The card needs a token grid of {spec.grid} (frames x rows x columns), got {grid}.",
            f"{size}, or train a card for this size.",
        )
    if clip.frames != frames:
        raise MismatchError(
            f"The card needs {clip.frames} frames, got {frames}.",
            f"{size}, or train a card for this length.",
        )
    _check_weights(need.weights_digest, weights_digest)
    if model_id is not None and need.model_id is not None and same_model(need.model_id, model_id):
        model_id = need.model_id
    known: tuple[tuple[str, str | None, str | None], ...] = (
        ("the backbone", need.variant, variant),
        ("the model", need.model_id, model_id),
        ("the revision", need.revision, revision),
        ("the size", f"{clip.width}x{clip.height}", f"{width}x{height}"),
    )
    return [
        f"The card was trained for {what} {printable(want)}, this is {printable(have)}: "
        "the motion may be weaker."
        for what, want, have in known
        if want is not None and have is not None and want != have
    ]


def _check_weights(digest: str | None, came: str | None) -> None:
    if None not in (digest, came) and digest != came:
        raise MismatchError(
            f"The card was made with weights of the digest {digest}, this backbone's are {came}.",
            OTHER_VERSION,
        )


def _named(variant: str, model_id: str | None) -> str:
    if model_id is None:
        return printable(variant)
    known = f"{printable(variant)} ({printable(model_id)})"
    return printable(model_id) if variant == UNNAMED else known
