"""What `pe edit` does to the motion of a card: its options, and the `Change` that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pe_toolkit.cli import parameters

if TYPE_CHECKING:
    from pe_toolkit.cli.errors import Session
    from pe_toolkit.cli.requests.edit import EditOptions
    from pe_toolkit.editing import Change

Command = TypeVar("Command", bound=Callable[..., Any])


def motion_options(command: Command) -> Command:
    """The options that change the motion, on a command whose request is `EditOptions`."""
    for option in reversed(
        (
            click.option("--reverse", is_flag=True, help="Play the motion backwards."),
            click.option(
                "--speed",
                type=parameters.Finite(0, 16, above=True),
                metavar="TIMES",
                help="Faster (2: twice; it stands still at the end) or slower (0.5: half of it is "
                "seen).",
            ),
            click.option(
                "--mirror",
                type=click.Choice(["left-right", "up-down"]),
                multiple=True,
                help="Turn the motion around; repeat for both.",
            ),
            click.option(
                "--frames",
                type=click.IntRange(1, 10_000),
                help="Of the clip: the motion in more or fewer.",
            ),
            click.option("--size", type=parameters.Size(), help="Of the clip, in pixels."),
            click.option(
                "--then",
                type=parameters.CARD_TEXT,
                metavar="CARD",
                help="Another card's motion after this one, each in half of the clip.",
            ),
            click.option(
                "--region",
                type=parameters.Region(),
                help="In pixels of the clip: only what is inside moves; of several things each "
                "moves or stands as a whole, by where it is in most frames.",
            ),
            click.option(
                "--mask",
                type=parameters.PATH,
                metavar="IMAGE",
                help="The same by a picture, stretched over the clip: what is white (255) moves.",
            ),
            click.option(
                "--outside",
                type=parameters.CARD_TEXT,
                metavar="CARD",
                help="Another card's motion outside of the mask, instead of none.",
            ),
        )
    ):
        command = option(command)
    return command


def change_of(session: Session, asked: EditOptions, width: int, height: int) -> Change:
    """The change that was asked for, of a card whose clip has that size before.

    Raises:
        UsageError: both a region and a mask, a region outside of the picture, no such picture, or
            one without white.
    """
    import numpy as np

    from pe_toolkit.card import MotionCard
    from pe_toolkit.cli.remote import find
    from pe_toolkit.editing import Change
    from pe_toolkit.errors import UsageError

    if asked.region and asked.mask:
        raise UsageError("Expected --region or --mask, got both.")
    mask = None
    width, height = asked.size or (width, height)
    if asked.region:
        x, y, wide, high = asked.region
        if x + wide > width or y + high > height:
            raise UsageError(
                f"Expected a region inside of the clip's {width}x{height} pixels, got "
                f"{x},{y},{wide},{high}."
            )
        mask = np.zeros((height, width))
        mask[y : y + high, x : x + wide] = 1
    elif asked.mask:
        mask = _painted(asked.mask, (width, height))

    def card(name: str | None) -> MotionCard | None:
        return None if name is None else MotionCard.load(find(session, name).path)

    return Change(
        reverse=asked.reverse,
        speed=asked.speed or 1.0,
        mirror=tuple(dict.fromkeys(asked.mirror)),
        frames=asked.frames,
        size=asked.size,
        then=card(asked.then),
        mask=mask,
        outside=card(asked.outside),
    )


def _painted(path: Path, size: tuple[int, int]) -> Any:
    """A picture as numbers in [0, 1], black to white, at the clip's size.

    Raises:
        UsageError: nothing in it is nearer to white than to black, as in a mask of 0 and 1.
        ClipError: it cannot be read.
    """
    from pe_toolkit.errors import UsageError
    from pe_toolkit.video.image import read_image
    from pe_toolkit.video.names import shown
    from pe_toolkit.video.picture import resize

    picture = read_image(path)
    if (most := int(picture.max())) < 128:
        raise UsageError(
            "Expected a mask that is white (255) where something moves, but the brightest pixel "
            f"of {shown(path)} is {most} of 255.",
            "A mask of 0 and 1, as numpy makes it: multiply it by 255 before it is saved.",
        )
    return resize(picture, size, "stretch").mean(-1) / 255
