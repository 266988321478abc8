"""Whether a clip will do, in words: the same in `pe flow` and `pe ui`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pe_toolkit.training.config import Resolved
    from pe_toolkit.training.looking import Look


def by_layers(seen: Look, variant: str, settings: Resolved) -> bool:
    """Whether a training with these settings would start from camera and subjects as they were
    read; of the bundled backbones, on which that was measured.
    """
    from pe_toolkit.training.start import begun

    return variant.startswith("bundled") and begun(seen.flow, seen.moves, settings) == "layers"


def look_words(seen: Look, variant: str, settings: Resolved) -> list[str]:
    """How much of it is followed, what moves, whether it will do with these settings, and why not:
    a line each.
    """
    from pe_toolkit.card.followed import LITTLE, followed, nothing_was_seen
    from pe_toolkit.card.motion_words import motion_words
    from pe_toolkit.evaluation.following import mean_displacements, nothing_moves
    from pe_toolkit.training.describe import motion_spec

    share, read = seen.flow.followed, by_layers(seen, variant, settings)
    motion, sides = motion_spec(seen.moves), (seen.flow.grid.height, seen.flow.grid.width)
    poor = share < LITTLE or nothing_was_seen(motion)
    little = variant.startswith("bundled") and poor and not read
    words = [followed(share, little, read=read), motion_words(motion, sides)]
    why = "" if read else nothing_moves(mean_displacements(seen.flow.displacement))
    if why:
        words.append(f"{why}: little of its motion will transfer")
    if why or little:
        words.append(
            "try another span (--start, --end), or a clip in which one thing crosses the picture"
        )
    return words
