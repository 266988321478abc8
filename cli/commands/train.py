"""`pe train`: reference clip -> motion card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pe_toolkit.cli import (
    conditions,
    files,
    loading,
    machine,
    options,
    prompts,
    speed,
    train_shape,
    train_steps,
)
from pe_toolkit.cli.errors import Session


@click.command(
    epilog="""\b
Example:
  pe train ref.mp4 -o wave.safetensors
  pe train ref.mp4 -o wave.safetensors --samples 4 --set tau=6 --preview preview.mp4"""
)
@click.argument("reference", type=options.PATH, metavar="REF")
@click.option("-o", "--output", type=options.PATH, required=True, metavar="CARD.safetensors")
@options.backbone_option("auto", "The model that the card is for.")
@click.option("--revision", metavar="R", help="Revision of a Hub backbone.")
@click.option("--prompt", "prompts_", multiple=True, metavar="P", help="Train on it; repeat.")
@click.option("--samples", type=click.IntRange(1, 64), metavar="N", help="Prompt-seed pairs.")
@click.option(
    "--mode",
    type=click.Choice(["positions", "latents"]),
    default="positions",
    show_default=True,
    help="What is optimised; latents cards replay one prompt and one seed.",
)
@click.option(
    "--recipe",
    type=click.Choice(["default", "paper", "fast"]),
    default="default",
    show_default=True,
    help="Ours, that of the published code, or one of fewer steps.",
)
@click.option("--param", type=click.Choice(["table", "angle"]), help="Form of the positions.")
@options.generation_options
@click.option("--seed", type=options.SEED, default=0, show_default=True, metavar="N")
@options.clip_options
@click.option(
    "--set",
    "overrides",
    type=options.Pair(),
    multiple=True,
    metavar="KEY=VALUE",
    help="block, tau, mask, K, lr, range, start, reading ..., such as lr=0.02,0.01; repeat.",
)
@conditions.kv_from_option
@conditions.image_option
@click.option(
    "--checkpointing",
    type=click.Choice(["auto", "off", "little", "partly", "on"]),
    default="auto",
    show_default=True,
    help="Recompute activations instead of keeping them: less memory, more time; --quantize fp8 "
    "does. auto: as little as fits.",
)
@speed.quantize_option
@click.option("--compile", "compile_", is_flag=True, help="Compile the model: pays on long runs.")
@options.card_text_options
@click.option("--preview", type=options.PATH, metavar="OUT.mp4", help="Also finish a video.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training of this card.")
@options.force_option
@options.machine_options
@options.common
@click.pass_obj
def train(session: Session, /, reference: Path, output: Path, **o: Any) -> None:
    """Learn the motion of a clip: reference clip -> motion card.

    REF is a video, a GIF or a folder of images. Ctrl-C keeps the finished steps: run the same
    command with --resume to go on.
    """
    out, force, preview = session.out, o["force"], o["preview"]
    session.smaller = "--samples 1, a smaller --size, fewer --frames, or a smaller --backbone."
    session.checkpointing = o["checkpointing"]
    state = output.with_name(output.name + ".resume")
    name = o["name"] if o["name"] is not None else (reference.stem[:200] or "motion")

    o["prompts"] = prompts.clean(o["prompts_"])
    if not conditions.given("fit"):
        o["fit"] = conditions.paper_fit(o["recipe"])
    conditions.check_kv_training(reference, o)
    files.check_suffix(output, ".safetensors")
    if preview is not None:
        files.check_suffix(preview, ".mp4", "--preview")
    files.check_outputs([output, *([preview] if preview else [])], force=force)
    texts = {"name": name, "version": o["card_version"]}
    train_steps.check_texts(texts | {"author": o["author"], "license": o["license"]})
    train_steps.check_state(state, resume=o["resume"], force=force)

    backbone, known, remark = machine.resolve(o["backbone"], o["device"])
    shape = train_shape.Shape.of_variant(known) if known is not None else None
    train_steps.check_usage(o, shape)
    config = train_steps.build_config(o, name, known)
    if remark:
        out.talk(remark)
    clip = train_steps.read_reference(reference, o, shape, out)
    if known is not None:
        prompts.warn_unknown(out, o["prompts"], known.name)

    image = conditions.read_image(o["image"])
    adapter = loading.load(backbone, o["revision"], o, out)
    if shape is None:  # a folder or Hub id shows what it is only when it is loaded
        shape = train_shape.Shape.of_adapter(adapter)
        train_steps.check_usage(o, shape)
        clip = train_steps.read_reference(reference, o, shape, out)

    from pe_toolkit.training import train as run

    session.resume = state
    events = run(adapter, clip, config, state=state, resume=o["resume"], image=image)
    result = train_steps.draw(events, session)
    assert result.card is not None, "training ended without a card"
    info = result.card.save(output, force=force)
    state.unlink(missing_ok=True)  # only now: until the card is on the disk, the state is the work
    session.resume = None
    if preview is not None and result.preview is not None:
        from pe_toolkit.video import write_video

        write_video(preview, result.preview, result.preview_fps, force=force)
    train_steps.summarise(session, output, preview, info, result)
