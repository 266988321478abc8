"""`pe flow`: see the motion of a clip before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pe_toolkit.cli import options, parameters, sections, train_steps
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.look_words import by_layers, look_words
from pe_toolkit.cli.requests.flow import FlowOptions
from pe_toolkit.training.recipes import RECIPES

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
    would be learned, dots where it is still, hatched where nothing was found again. Beside it,
    camera and subjects apart, each in a colour of its own. The words say whether the clip will do.
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
    from pe_toolkit.visual import part_words

    config = request.config(adapter.variant)
    seen = look(adapter, clip, config, image=request.read_image())
    settings = config.resolve(adapter.defaults())
    words = look_words(seen, adapter.defaults().name, settings)
    _draw(request, clip, seen, words)
    for line in words:
        out.talk(line)
    for line in part_words(seen.apart):
        out.talk(f"  {line}")
    if by_layers(seen, adapter.defaults().name, settings):
        out.talk(f"{request.output}: a card takes camera and subjects apart, in their colours.")
    else:
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
        parts={part.name: round(part.share, 4) for part in seen.apart.parts},
        neither=round(seen.apart.rest, 4),
        words=words,
    )


def _draw(request: FlowOptions, clip: Clip, seen: Look, words: list[str]) -> None:
    from pe_toolkit.training import look_sheet, look_video
    from pe_toolkit.video import write_image, write_video

    if request.output.suffix.lower() == ".png":
        write_image(request.output, look_sheet(seen, clip.frames, words), force=request.force)
        return
    write_video(request.output, look_video(seen, clip.frames, words), clip.fps, force=request.force)
