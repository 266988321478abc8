"""Clips longer or of another size than those that a bundled backbone was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.card import CardSpec


def warn(
    out: Output, variant: Variant | None, frames: int | None, size: tuple[int, int] | None
) -> None:
    """Warn of a shape at which things change their colour on the way, or circles become ellipses.

    Args:
        variant: of the backbone; None for one that is not in the table, of which nothing is known.
        frames: of the clip; None is the backbone's own. Fewer than that do no harm.
        size: (width, height) in pixels; None is the backbone's own.
    """
    if variant is None or not variant.bundled:
        return
    own = (variant.width, variant.height)
    count, (width, height) = frames or variant.frames, size or own
    what = []
    if count > variant.frames:
        what.append("in longer clips things may change their colour on the way")
    if (width, height) != own:
        what.append("at other sizes things may lose their shape")
    if what:
        out.warn(
            f"the bundled backbone was made for {variant.frames} frames of {own[0]}x{own[1]}, and "
            f"this is for {count} of {width}x{height}: {', and '.join(what)}."
        )


def warn_card(out: Output, variant: Variant | None, spec: CardSpec) -> None:
    """Warn of the shape of a card's clip."""
    warn(out, variant, spec.clip.frames, (spec.clip.width, spec.clip.height))
