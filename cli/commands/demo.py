"""`pe demo`: reference -> card -> new videos -> measured, in one command."""

from __future__ import annotations

import time
from typing import Any

import click

from pe_toolkit.cli import demo_steps, loading, options, parameters, train_steps
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text
from pe_toolkit.cli.requests.demo import DemoOptions
from pe_toolkit.training.shape import Shape


@click.command(
    epilog="""\b
Example:
  pe demo -o demo"""
)
@click.option(
    "-o", "--output", type=parameters.PATH, default="pe-demo", show_default=True, metavar="DIR"
)
@click.option("--seed", type=parameters.SEED, default=0, show_default=True, metavar="N")
@click.option(
    "--backbone",
    type=click.Choice(["bundled", "bundled-absolute"]),
    default="bundled",
    show_default=True,
)
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps.")
@click.option("--samples", type=click.IntRange(1, 64), metavar="N", help="Prompt-seed pairs.")
@options.force_option
@options.machine_options
@options.common
@click.pass_obj
def demo(session: Session, /, **parsed: Any) -> None:
    """See it work: make references, train, apply, measure.

    One shape that goes and comes back, a camera that zooms, two shapes that go ways of their own.
    The motion of each becomes a card, and the card moves other shapes, with another seed, that have
    never seen the reference. Runs on two CPU cores.
    """
    request, out, began = DemoOptions(**parsed), session.out, time.monotonic()
    session.smaller = "--samples 1."
    places = demo_steps.Places(request.output)
    demo_steps.check(places, force=request.force)

    from pe_toolkit.backbones import variant_for
    from pe_toolkit.training import train
    from pe_toolkit.video import write_video

    variant, adapter = variant_for(request.backbone), None
    shown: list[tuple[demo_steps.Motion, Any, list[demo_steps.Row]]] = []
    sizes: list[int] = []
    trained = 0.0
    for motion in demo_steps.MOTIONS:
        scene, pixels = demo_steps.make_reference(motion, request.seed, variant)
        reference = places.reference(motion)
        write_video(reference, pixels, variant.fps, force=request.force)
        session.anew = True
        out.talk(f"Made {reference}: {motion.words} ({scene.caption})")
        since = time.monotonic()
        asked = request.training(reference, f"demo-{motion.name}")
        clip = train_steps.read_reference(asked, Shape.of_variant(variant), out)
        adapter = adapter or loading.load(request.backbone, None, request, out)
        result = train_steps.draw(train(adapter, clip, asked.config(variant)), session)
        assert result.card is not None, "training ended without a card"
        info = result.card.save(places.card(motion), force=request.force)
        sizes.append(info.size_bytes)
        trained += time.monotonic() - since
        out.talk(f"Wrote {places.card(motion)} ({size_text(info.size_bytes)})")
        made = []
        for card in (result.card, None):
            row = demo_steps.make_row(adapter, card, motion, scene, request)
            place = places.video(motion, row.with_card)
            write_video(place, row.frames, variant.fps, force=request.force)
            out.event("generated", video=place, seconds=row.seconds, **row.facts())
            out.talk(f"Wrote {place} ({row.seconds:.1f} s): {row.prompt}")
            made.append(row)
        shown.append((motion, pixels, made))
    demo_steps.draw_pictures(places, shown, variant.fps, force=request.force)
    seconds = time.monotonic() - began
    demo_steps.tell(out, places, shown, trained, seconds)
    out.event(
        "summary",
        folder=request.output,
        videos=[row.facts() for _, _, made in shown for row in made],
        card_bytes=sizes,
        seconds=seconds,
    )
