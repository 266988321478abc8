"""`pe apply`: motion card + prompt -> new video."""

from __future__ import annotations

from typing import Any

import click

from pe_toolkit.apply.drafts import MOST, PAY
from pe_toolkit.apply.request import DEFAULT_SEED
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.card.sampling import fit_of
from pe_toolkit.cli import (
    apply_output,
    apply_steps,
    files,
    loading,
    long_work,
    options,
    other_shapes,
    parameters,
    prompts,
    reference_words,
    sections,
)
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.progress import Progress, reading
from pe_toolkit.cli.requests.apply import ApplyOptions


@click.command(
    cls=sections.Sectioned,
    sections=sections.APPLY,
    epilog="""\b
Example:
  pe apply wave.safetensors --prompt "a red circle on a grey background"
  pe apply wave.safetensors --prompt-file prompts.txt --seed 1 --seed 2""",
)
@click.argument("card_path", type=parameters.CARD, metavar="CARD")
@click.option("--prompt", "prompts", multiple=True, metavar="P", help="What to show; repeat.")
@click.option(
    "--prompt-file",
    type=parameters.PATH,
    metavar="F",
    help="One prompt a line; # begins a comment.",
)
@click.option(
    "-o",
    "--output",
    type=parameters.PATH,
    metavar="OUT.mp4",
    help="A video (.mp4, .gif). Default: CARD.mp4, here, with a number if there is one, and "
    "CARD-new.mp4 beside the reference CARD.mp4.",
)
@click.option(
    "--seed",
    "seeds",
    type=parameters.SEED,
    multiple=True,
    metavar="N",
    help=f"Repeat for more videos. Default: {DEFAULT_SEED}.",
)
@click.option(
    "--strength",
    type=parameters.Finite(0, 2),
    default=1.0,
    show_default=True,
    metavar="S",
    help="0 (plain) to 2; 1 is as trained. Above 1 things go further, and what leaves the picture "
    "comes in again at the other side.",
)
@click.option(
    "--phase",
    type=parameters.Finite(0, 1),
    metavar="S",
    help="How much of the reference's phase, in cards that hold it. Default: as --strength, and as "
    "--subject where no camera moves.",
)
@click.option(
    "--camera",
    type=parameters.Finite(0, 2),
    metavar="S",
    help="How much of the camera's motion, 0 to 2, in cards that hold it as a layer (above 1 "
    "roughly, where it zooms or rolls). Default: 1.",
)
@click.option(
    "--subject",
    type=parameters.Finite(0, 2),
    metavar="S",
    help="How much of all other layers, likewise (of two things: both). Default: 1. --camera and "
    "--subject multiply --strength.",
)
@click.option(
    "--drafts",
    type=click.IntRange(1, MOST),
    metavar="N",
    help=f"Choose each video's seed out of N (up to {MOST}), by drafts of a fifth of the steps: "
    f"the one that follows the reference best, of S, S + 1000 and so on for a seed S. Default: "
    f"{PAY} of a card that moves two things, on the bundled backbone, where no --seed is given; "
    "else 1, the seed as it is.",
)
@click.option("--no-card", is_flag=True, help="Generate without the card, for comparison.")
@options.generation_options
@click.option("--negative-prompt", metavar="P", help="What not to show. Default: the card's.")
@click.option("--scheduler", type=click.Choice(["ddim", "dpm"]), help="Another scheduler.")
@options.speed_options
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="PATH[:WEIGHT]",
    help="LoRA weights, .safetensors, or OWNER/NAME on the Hub, such as style.safetensors:0.8; "
    "repeat.",
)
@click.option(
    "--side-by-side",
    type=parameters.PATH,
    metavar="REF",
    help="Also write OUT-side-by-side.mp4: reference | result.",
)
@click.option(
    "--sheet", type=parameters.PATH, metavar="SHEET.png", help="Also one picture of all videos."
)
@click.option(
    "--score/--no-score",
    default=None,
    help="How well the motion follows the reference. Default: on for the bundled backbone.",
)
@click.option(
    "--scored-card",
    type=parameters.PATH,
    metavar="NEW.safetensors",
    help="Also write the card with the mean of the scores: a new card.",
)
@click.option("--resume", is_flag=True, help="Leave out the videos that are there already.")
@options.kv_from_option
@options.no_kv_option
@options.image_option
@options.backbone_option(None, "Instead of the backbone that the card names.")
@options.revision_option
@options.force_option
@options.machine_options
@options.common
@click.pass_obj
def apply(session: Session, /, **parsed: Any) -> None:
    """Generate new videos that move as a motion card says.

    Every prompt is combined with every seed: one pair gives OUT.mp4, more give OUT-p01-s42.mp4
    and so on, with a small JSON file beside each. The reference clip is not needed. On stdout, a
    program gets the paths of the videos, one a line.
    """
    from pe_toolkit.card import MotionCard

    request, out = ApplyOptions.of(**parsed), session.out
    session.smaller = "a smaller --backbone; the card fixes frames and size."
    session.cache = request.cache
    request.check()
    if request.output is not None:
        files.check_suffix(request.output, files.VIDEOS)
    card = MotionCard.load(request.card_path)
    name, revision, of_card = apply_steps.choose_backbone(card.spec, request, session.argv)
    request = apply_steps.with_drafts(request, card.spec, name)
    seeds = request.seeds_for(card.spec)
    targets, there = apply_steps.targets(request, card, seeds, session.card_name)
    apply_steps.tell(session.card_called, targets, there, card.spec, out)
    if not targets:  # nothing to generate: no model is loaded
        apply_steps.finish_without(card, request, there, out)
        return
    session.batch = (len(there), len(there) + len(targets))
    apply_steps.warn_prompts(card.spec, request, out)
    apply_steps.warn_cache(card.spec, request, out)
    reference = apply_steps.read_beside(request.side_by_side, card.spec, out)
    with reading(out) as on_progress:
        given = request.read(card.spec, on_progress)
    if given.image is not None:
        size = (card.spec.clip.width, card.spec.clip.height)
        reference_words.tell_image(given.image, size, fit_of(card.spec), out)
    if name in VARIANTS:
        other_shapes.warn_card(out, VARIANTS[name], card.spec)
        long_work.tell_generation(out, VARIANTS[name], card.spec, request, len(targets))
    purpose = request.purpose(card.spec, tiling=request.vae_tiling is not False)
    loading.find_loras(request.loras, out)
    published = card.spec.recipe.name == "paper"
    adapter = loading.load(
        name, revision, request, out, purpose, of_card=of_card, published=published
    )
    session.untiled = not adapter.tiles
    prompts.warn_unknown(out, request.prompts, adapter.variant.name if adapter.variant else "")
    loading.load_loras(adapter, request.loras)
    for text in request.prompts:  # before the first is generated
        adapter.check_prompt(text)
    frames = None if reference is None else reference.frames
    motion = apply_steps.motion(adapter, card, request.score)
    judge = apply_steps.judge(adapter, card, request.drafts, motion, out, asked=not request.free)
    results = apply_output.Results(card, request, out, frames, motion)
    session.made = results.done
    results.leave_all(there)
    with Progress(out, "video", len(targets)) as bar:
        videos = apply_steps.videos(
            adapter, card, request, targets, given, bar, alone=motion is not None, judge=judge
        )
        for target, (made, drafts) in zip(targets, videos, strict=True):
            results.take(target, made, bar, drafts)
    results.finish()
