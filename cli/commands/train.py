"""`pe train`: reference clip -> motion card."""

from __future__ import annotations

from typing import Any

import click

from pe_toolkit.cli import (
    long_work,
    machine,
    options,
    other_shapes,
    parameters,
    prompts,
    reference_words,
    sections,
    suite_options,
    train_many,
    train_steps,
)
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.exclusive import only_one
from pe_toolkit.cli.requests.train import TrainOptions
from pe_toolkit.embedding import names
from pe_toolkit.training.recipes import RECIPES


@click.command(
    cls=sections.Sectioned,
    sections=sections.TRAIN,
    epilog="""\b
Example:
  pe train ref.mp4
  pe train ref.mp4 -o wave.safetensors --samples 4 --preview preview.mp4
  pe train clips/*.mp4 -o cards --jobs 2""",
)
@click.argument("references", type=parameters.PATH, metavar="REF...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=parameters.PATH,
    metavar="CARD.safetensors",
    help="Default: REF.safetensors, here, with a number if there is one. With several REF a "
    "folder.",
)
@options.backbone_option("auto", "The model that the card is for.")
@options.revision_option
@options.copy_option
@click.option("--prompt", "prompts", multiple=True, metavar="P", help="Train on it; repeat.")
@click.option(
    "--samples",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Prompt-seed pairs that are optimised together; rich optimises nothing.",
)
@click.option(
    "--mode",
    type=click.Choice(["positions", "latents"]),
    default="positions",
    show_default=True,
    help="What is optimised; latents cards replay one prompt and one seed.",
)
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    default="auto",
    show_default=True,
    help="auto: rich on the bundled backbone, unless --mode latents, --param, --objective, "
    "--kv-from or --set start, start_scale, K, lr, tau or reuse is given; else default. default: "
    "positions are optimised. rich: the reference's phase goes into the noise, positions start "
    "from what was read of its motion, and nothing is optimised. fast: one optimiser step in each "
    "guided step. paper: as published, whose tables also need --kv-from REF, and most of them "
    "--mode latents (docs/reproduce.md).",
)
@click.option(
    "--param",
    "parametrisation",
    type=click.Choice(names()),
    help="Form of the positions.",
)
@click.option(
    "--objective",
    type=parameters.Named("pe_toolkit.objectives"),
    metavar="NAME",
    help="What is compared: amf (the default), smm, moft or motionclone of other papers, or one "
    "that an installed package adds.",
)
@options.generation_options
@click.option("--seed", type=parameters.SEED, default=0, show_default=True, metavar="N")
@options.clip_options
@click.option(
    "--set",
    "overrides",
    type=parameters.Override(),
    multiple=True,
    metavar="KEY=VALUE",
    help="block, tau, mask, K, lr, range, start, start_scale, phase, ground, feedback, reuse, "
    "reading, reference_block, objective, such as lr=0.02,0.01; what each means: TrainConfig in "
    "docs/api.md. Repeat.",
)
@options.kv_from_option
@options.image_option
@click.option(
    "--checkpointing",
    type=click.Choice(["auto", "off", "little", "partly", "on"]),
    default="auto",
    show_default=True,
    help="Recompute activations instead of keeping them: less memory, more time; --quantize fp8 "
    "does. auto: as little as fits.",
)
@options.quantize_option
@options.encode_tiling_option
@click.option("--compile", is_flag=True, help="Compile the model: pays on long runs.")
@options.card_text_options
@click.option(
    "--preview", type=parameters.PATH, metavar="OUT.mp4", help="Also finish a video (.mp4, .gif)."
)
@click.option(
    "--plot", type=parameters.PATH, metavar="FILE.png", help="Also draw what the card holds."
)
@click.option(
    "--track",
    metavar="WHERE",
    help="Write losses to a dashboard: tensorboard[:DIR] or trackio[:PROJECT].",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training of this card.")
@options.force_option
@suite_options.job_options
@options.machine_options
@options.common
@click.pass_obj
def train(session: Session, /, **parsed: Any) -> None:
    """Learn the motion of a clip: reference clip -> motion card.

    REF is a video, a GIF or a folder of images. Ctrl-C keeps the finished steps: run the same
    command with --resume to go on, or without it where nothing is optimised. Several REF become
    cards in the folder -o, many at a time with --jobs or --ray; the same command goes on where it
    stopped.
    """
    request = TrainOptions.of(**parsed)
    if request.many:
        session.smaller = "--jobs 1, fewer --frames, or a smaller --backbone."
        train_many.train_many(session, request)
        return
    session.smaller = "--samples 1, a smaller --size, fewer --frames, or a smaller --backbone."
    session.checkpointing = request.checkpointing
    session.untiled = request.vae_tiling is False
    with only_one(request.output):
        run_training(session, request)


BUNDLED_IS_SMALL = (
    "The bundled backbone draws coloured shapes on plain or textured grounds, and of real footage "
    "it has seen nothing: use it to try things out, and a CogVideoX on a GPU for pictures of the "
    "world."
)


def run_training(session: Session, request: TrainOptions) -> None:
    """From the checked files to the card."""
    out = session.out
    train_steps.check(request)
    out.talk(f"{request.reference} -> {request.output}")
    chosen = train_steps.choose(request, out)
    known = chosen.known
    config = request.config(known, preview=request.preview is not None)
    clip = train_steps.read_reference(request, chosen.shape, out)
    if known is not None:
        prompts.warn_unknown(out, request.prompts, known.name)
        gpu = machine.uses_gpu(request.device)
        other_shapes.warn(out, known, request.frames_for(known), request.size)
        long_work.tell_training(out, known, request, gpu=gpu)
        if known.bundled and request.backbone == "auto":
            out.talk(BUNDLED_IS_SMALL)
    image = request.read_image()
    adapter, clip = train_steps.load(request, chosen, clip, out)
    if image is not None:
        reference_words.tell_image(image, clip.size, clip.fit, out)

    from pe_toolkit.training import train as run

    session.resume = request.state
    events = run(adapter, clip, config, state=request.state, resume=request.resume, image=image)
    result = train_steps.draw(
        train_steps.tracking(events, request, adapter.defaults(), out), session
    )
    result.image_to_video = adapter.image_to_video
    train_steps.finish(session, request, result)
