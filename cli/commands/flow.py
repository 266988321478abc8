"""`pe flow`: see the motion of a clip before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pe_toolkit.cli import options, parameters, sections, train_steps
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.requests.flow import FlowOptions
from pe_toolkit.training.config import RECIPES

if TYPE_CHECKING:
    from pe_toolkit.training.looking import Look
    from pe_toolkit.video import Clip


@click.command(
    cls=sections.Sectioned,
    sections=sections.FLOW,
    epilog="""\b
Example:
  pe flow ref.mp4
  pe flow ref.mp4 --start 2.5 -o flow.png""",
)
@click.argument("reference", type=parameters.PATH, metavar="REF")
@click.option(
    "-o",
    "--output",
    type=parameters.PATH,
    metavar="FLOW",
    help="A video (.mp4, .gif), or one picture (.png). Default: REF-flow.mp4, here.",
)
@options.backbone_option("auto", "The model that would be trained.")
@options.revision_option
@options.copy_option
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    default="auto",
    show_default=True,
    help="Of the training: which frames are taken, and how they are read.",
)
@options.clip_options
@click.option(
    "--set",
    "overrides",
    type=parameters.Override(),
    multiple=True,
    metavar="KEY=VALUE",
    help="As in pe train: reading, reference_block, mask; repeat.",
)
@options.image_option
@options.encode_tiling_option
@options.force_option
@options.machine_options
@options.common
@click.pass_obj
def flow(session: Session, /, **parsed: Any) -> None:
    """See what would be learned of a clip, before training.

    Draws on the clip what the model follows from frame to frame: arrows where something moves and
    would be learned, dots where it is still, hatched where nothing was found again. The words say
    whether the clip will do.
    """
    request = FlowOptions.of(**parsed)
    session.smaller = "a smaller --size, fewer --frames, or a smaller --backbone."
    session.untiled = request.vae_tiling is False
    request.check()
    out = session.out
    chosen = train_steps.choose(request, out)
    request.config(chosen.known)
    clip = train_steps.read_reference(request, chosen.shape, out)
    adapter, clip = train_steps.load(request, chosen, clip, out)
    from pe_toolkit.training.looking import look

    seen = look(adapter, clip, request.config(adapter.variant), image=request.read_image())
    words = _words(seen, adapter.defaults().name)
    _draw(request, clip, seen, words)
    for line in words:
        out.talk(line)
    out.talk(f"{request.output}: arrows are what a card would learn.")
    motion = seen.flow
    out.event(
        "summary",
        output=request.output,
        matched=motion.matched,
        moving=motion.moving,
        followed=motion.followed,
        kept=motion.kept,
        path=[[round(float(v), 3) for v in point] for point in seen.path],
        words=words,
    )


def _words(seen: Look, variant: str) -> list[str]:
    """Whether the clip will do, and why not."""
    from pe_toolkit.card.followed import LITTLE, followed
    from pe_toolkit.card.motion_words import motion_words
    from pe_toolkit.evaluation.following import mean_displacements, nothing_moves
    from pe_toolkit.training.describe import motion_spec

    share = seen.flow.followed
    words = [followed(share, variant), motion_words(motion_spec(seen.moves))]
    why = nothing_moves(mean_displacements(seen.flow.displacement))
    if why:
        words.append(f"{why}: little of its motion will transfer")
    if why or (variant.startswith("bundled") and share < LITTLE):
        words.append("try another span (--start), or a clip in which one thing crosses the picture")
    return words


def _draw(request: FlowOptions, clip: Clip, seen: Look, words: list[str]) -> None:
    import numpy as np

    from pe_toolkit.video import write_image, write_video
    from pe_toolkit.visual import contact_sheet, flow_frames, flow_legend

    picture = request.output.suffix.lower() == ".png"
    drawn = flow_frames(
        clip.frames,
        seen.flow.displacement.numpy(),
        seen.flow.mask.numpy(),
        seen.matched,
        path=seen.path,
        words=() if picture else words,
        legend=not picture,
    )
    if not picture:
        write_video(request.output, drawn, clip.fps, force=request.force)
        return
    rows = [("the clip, as the model gets it", clip.frames), ("what is followed", drawn)]
    sheet = contact_sheet(rows, height=192)
    told = np.concatenate([sheet, flow_legend(sheet.shape[1], words)])
    write_image(request.output, told, force=request.force)
