"""`--plot`: a card as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.cli import files
from pe_toolkit.cli.output import Output
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.card import MotionCard


def check(path: Path | None, *, force: bool) -> None:
    """Refuse a place where no picture can go, before any work.

    Raises:
        UsageError: another ending.
        OutputExistsError, OutputError: as `files.check_outputs`.
    """
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise UsageError(
            f"Expected --plot to end in .png, got {path.name!r}.",
            f"Use --plot {path.stem.strip('.-') or 'card'}.png",
        )
    files.check_outputs([path], force=force)


def write(path: Path, card: MotionCard, out: Output, *, force: bool) -> None:
    """Draw the card.

    Raises:
        OutputExistsError, OutputError: as `video.write_image`.
    """
    from pe_toolkit.card.plot import card_plot
    from pe_toolkit.video import write_image

    write_image(path, card_plot(card), force=force)
    out.talk(f"{path}: what the card holds.")
    out.event("plot", path=path)
