"""`pe demo`: reference -> card -> new videos -> measured, in one command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from pe_toolkit.cli import demo_steps, files, loading, options, train_shape, train_steps
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import OutputError


@click.command(
    epilog="""\b
Example:
  pe demo -o demo"""
)
@click.option(
    "-o", "--output", type=options.PATH, default="pe-demo", show_default=True, metavar="DIR"
)
@click.option("--seed", type=options.SEED, default=0, show_default=True, metavar="N")
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
def demo(session: Session, /, output: Path, **o: Any) -> None:
    """See it work: make a reference, train, apply, measure.

    A shape moves along a known path. Its motion becomes a card, and the card moves two other
    shapes, with other seeds, that have never seen the reference. Runs on two CPU cores.
    """
    out, began = session.out, time.monotonic()
    session.smaller = "--samples 1."
    places = demo_steps.Places(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Expected to make the folder {output}, but: {error.strerror}.", "Choose another place."
        ) from error
    files.check_outputs(places.all(), force=o["force"])

    from pe_toolkit.apply import generate
    from pe_toolkit.backbones import variant_for
    from pe_toolkit.training import train
    from pe_toolkit.video import write_video

    variant = variant_for(o["backbone"])
    scene, pixels, path = demo_steps.make_reference(o["seed"], variant)
    write_video(places.reference, pixels, variant.fps, force=o["force"])
    out.talk(f"Made {places.reference}: {scene.caption}, moving on an {scene.family}")

    asked = demo_steps.request(o)
    shape = train_shape.Shape.of_variant(variant)
    config = train_steps.build_config(asked, f"demo-{scene.family}", variant)
    clip = train_steps.read_reference(places.reference, asked, shape, out)
    adapter = loading.load(o["backbone"], None, o, out)
    result = train_steps.draw(train(adapter, clip, config), session)
    assert result.card is not None, "training ended without a card"
    info = result.card.save(places.card, force=o["force"])
    trained = time.monotonic() - began
    out.talk(f"Wrote {places.card} ({size_text(info.size_bytes)})")

    pairs = demo_steps.new_pairs(scene, o["seed"])
    rows = []
    with Progress(out, "video", 2 * len(pairs)) as bar:
        for number, (prompt, seed) in enumerate(pairs, 1):
            for card in (None, result.card):
                # A scale or a number of steps of its own would make the comparison unfair.
                made = next(iter(generate(adapter, [prompt], [seed], card=card, steps=o["steps"])))
                place = places.video(number, card is not None)
                write_video(place, made.frames, made.fps, force=o["force"])
                row = demo_steps.Row(prompt, seed, card is not None, made.frames)
                rows.append(row.measured(path))
                out.event("generated", video=place, seconds=made.seconds, **row.facts())
                bar.step(f"{place.name}, {made.seconds:.1f} s")

    demo_steps.draw_pictures(places, pixels, rows, variant.fps, force=o["force"])
    seconds = time.monotonic() - began
    demo_steps.tell(out, places, rows, trained, seconds)
    out.event(
        "summary",
        folder=output,
        videos=[row.facts() for row in rows],
        cosine_with_card=demo_steps.mean(rows, True),
        cosine_without_card=demo_steps.mean(rows, False),
        card_bytes=info.size_bytes,
        seconds=seconds,
    )
