"""Whether a clip will do, in words: the same in `pe flow` and `pe ui`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pe_toolkit.training.looking import Look


def look_words(seen: Look, variant: str) -> list[str]:
    """How much of it is followed, what moves, whether it will do, and why not: a line each."""
    from pe_toolkit.backbones import VARIANTS
    from pe_toolkit.card.followed import LITTLE, followed
    from pe_toolkit.card.motion_words import motion_words
    from pe_toolkit.evaluation.following import mean_displacements, nothing_moves
    from pe_toolkit.training import TrainConfig
    from pe_toolkit.training.describe import motion_spec
    from pe_toolkit.training.start import begun

    share = seen.flow.followed
    bundled = variant.startswith("bundled")
    read = False
    if bundled:  # what `pe train` would start from
        settings = TrainConfig(recipe="rich").resolve(VARIANTS[variant])
        read = begun(seen.flow, seen.moves, settings) == "layers"
    little = bundled and share < LITTLE and not read
    words = [followed(share, little, read=read), motion_words(motion_spec(seen.moves))]
    why = "" if read else nothing_moves(mean_displacements(seen.flow.displacement))
    if why:
        words.append(f"{why}: little of its motion will transfer")
    if why or little:
        words.append("try another span (--start), or a clip in which one thing crosses the picture")
    return words
