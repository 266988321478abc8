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
    """See it work: make a reference, train, apply, measure.

    A shape moves along a known path. Its motion becomes a card, and the card moves two other
    shapes, with other seeds, that have never seen the reference. Runs on two CPU cores.
    """
    request, out, began = DemoOptions(**parsed), session.out, time.monotonic()
    session.smaller = "--samples 1."
    places = demo_steps.Places(request.output)
    demo_steps.check(places, force=request.force)

    from pe_toolkit.backbones import variant_for
    from pe_toolkit.training import train
    from pe_toolkit.video import write_video

    variant = variant_for(request.backbone)
    scene, pixels, path = demo_steps.make_reference(request.seed, variant)
    write_video(places.reference, pixels, variant.fps, force=request.force)
    out.talk(f"Made {places.reference}: {scene.caption}, moving on an {scene.family}")

    asked = request.training(places.reference, f"demo-{scene.family}")
    config = asked.config(variant)
    clip = train_steps.read_reference(asked, Shape.of_variant(variant), out)
    adapter = loading.load(request.backbone, None, request, out)
    result = train_steps.draw(train(adapter, clip, config), session)
    assert result.card is not None, "training ended without a card"
    info = result.card.save(places.card, force=request.force)
    trained = time.monotonic() - began
    out.talk(f"Wrote {places.card} ({size_text(info.size_bytes)})")

    pairs = demo_steps.new_pairs(scene, request.seed)
    rows = demo_steps.generate_rows(adapter, result.card, pairs, path, request, places, out)
    demo_steps.draw_pictures(places, pixels, rows, variant.fps, force=request.force)
    demo_steps.save_scored(result.card, rows, places.scored, force=request.force)
    seconds = time.monotonic() - began
    demo_steps.tell(out, places, rows, trained, seconds)
    out.event(
        "summary",
        folder=request.output,
        videos=[row.facts() for row in rows],
        cosine_with_card=demo_steps.mean(rows, True),
        cosine_without_card=demo_steps.mean(rows, False),
        card_bytes=info.size_bytes,
        seconds=seconds,
    )
