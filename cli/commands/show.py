"""`pe show`: what is in a motion card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import card_plot, files, options, parameters, reference_words
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text

if TYPE_CHECKING:
    from pe_toolkit.card import CardInfo, CardSpec, RecipeSpec
    from pe_toolkit.registry.entry import Entry

MOST_SAMPLES = 8
FEW_SAMPLES = 3
DETAILS = ("grid", "schedule", "recipe", "negative", "loss", "software", "file")
"""Only with --all: how it was trained. The rest fits a screen of 24 lines."""


@click.command(
    epilog="""\b
Example:
  pe show wave.safetensors
  pe show wave@1.2.0 --all"""
)
@click.argument("card", type=parameters.CARD_TEXT, metavar="CARD")
@click.option("-a", "--all", "every", is_flag=True, help="Also how it was trained.")
@click.option(
    "--plot",
    type=parameters.PATH,
    metavar="FILE.png",
    help="Also draw it: loss, path, fields from frame to frame, layers, phase.",
)
@options.force_option
@options.common
@click.pass_obj
def show(session: Session, /, card: str, every: bool, plot: Path | None, force: bool) -> None:
    """Say what is in a motion card.

    CARD is a file, a name in the local registry (wave, wave@1.2.0) or owner/name on the Hub.
    Checks the description, not every number: `pe verify` does that. Two SHA-256 tell cards apart:
    that of the file, by which the registry, pe.lock and the Hub know it, and the digest of the
    content, by which other cards name it as their parent.
    """
    from pe_toolkit.card import read_info
    from pe_toolkit.cli.remote import find
    from pe_toolkit.cli.signing import described
    from pe_toolkit.shown import printable

    card_plot.check(plot, force=force)
    found = find(session, card)
    info = read_info(found.path)
    rows = describe(info, MOST_SAMPLES if every else FEW_SAMPLES)
    if not every:
        rows = {name: text for name, text in rows.items() if name not in DETAILS and text != "-"}
    where = {}
    if (entry := found.entry) is not None:
        where = {"registry": str(entry.reference), "origin": found.origin}
        rows["name"] = printable(f"{entry.reference}{_itself(info.spec, entry)}")
        rows["origin"] = printable(found.origin or "a file")
    elif found.origin is not None:
        where = {"registry": None, "origin": found.origin}
        rows |= {"registry": "no name: `pe pull` gives it one", "origin": printable(found.origin)}
    signers = described(found.path, found.signatures())
    if signers:
        rows["signed by"] = "\n".join(signers)
    session.out.table(rows)
    if not every and not session.out.json and sys.stdout.isatty():
        session.out.talk("How it was trained: pe show --all")
    if plot is not None:
        from pe_toolkit.card import MotionCard  # numpy

        files.check_not_read([plot], [found.path])
        card_plot.write(plot, MotionCard.load(found.path), session.out, force=force)
    session.out.event("summary", path=found.path, **where, signers=signers, **info.summary())


def _itself(spec: CardSpec, entry: Entry) -> str:
    """What a card says that it is called, where the registry calls it otherwise."""
    if (spec.name, spec.version) == (entry.name, entry.version):
        return ""
    own = spec.version if spec.name == entry.name else f"{spec.name} {spec.version}"
    return f" (the card itself says {own})"


def describe(info: CardInfo, most: int = MOST_SAMPLES) -> dict[str, str]:
    """The card for people: one row per fact. Strings of the card come out printable."""
    from pe_toolkit.card.followed import followed_by
    from pe_toolkit.card.motion_words import card_motion
    from pe_toolkit.shown import printable

    spec = info.spec
    back, clip, plan, recipe, ref = (
        spec.backbone, spec.clip, spec.schedule, spec.recipe, spec.reference,
    )  # fmt: skip
    model = f" ({back.model_id}{'@' + back.revision if back.revision else ''})"
    form = f", {recipe.parametrisation}" if recipe.parametrisation else ""
    if recipe.layers:
        form += f" ({' + '.join(_layers(recipe))})"
    seconds = clip.frames / clip.fps
    first, last = recipe.learning_rates
    blocks, by, _ = recipe.reads()
    named = " + ".join(map(str, blocks)) + (" by content" if by == "content" else "")
    read = "" if named == str(recipe.block) else f" (reference: {named})"
    low, high = recipe.guided_range
    losses = spec.training.loss
    line = _line(spec)
    rows = {
        "name": f"{spec.name} {spec.version}",
        "kind": f"{spec.kind}{form}, {spec.guided_steps} guided steps{_sets(info)}",
        "author": spec.author or "-",
        "license": spec.license or "-",
        "created": spec.created,
        "backbone": f"{back.variant}{model if back.model_id else ''}, {back.positions} positions",
        "grid": f"{spec.grid} tokens (frames x height x width)",
        "clip": f"{clip.frames} frames of {clip.width}x{clip.height} at {clip.fps:g} fps, "
        f"{seconds:.1f} s",
        "schedule": f"{plan.scheduler}, {plan.steps} steps, guidance {plan.guidance_scale:g}"
        + (", dynamic" if plan.dynamic_cfg else "")
        + f", guided at noise {plan.noise[0]:.3f} to {plan.noise[-1]:.3f}",
        "recipe": f"{recipe.name}: {recipe.objective}, block {recipe.block}{read}, "
        f"tau {recipe.tau:g}, mask {recipe.mask}, {recipe.inner_steps} inner "
        f"step{'' if recipe.inner_steps == 1 else 's'}, "
        f"learning rate {first:g} to {last:g}, guided range {low:g} to {high:g}, "
        f"start {recipe.start}, {recipe.dtype}",
        **_phase(spec),
        **_feedback(spec),
        "samples": "",
        **({"negative": repr(plan.negative_prompt)} if plan.negative_prompt else {}),
        "reference": f"{ref.duration:.2f} s, {ref.frames} frames of {ref.width}x{ref.height} at "
        f"{ref.fps:.4g} fps",
        "used": reference_words.used_words(spec) or "-",
        "followed": followed_by(spec),
        **({"motion": moves} if (moves := card_motion(spec)) else {}),
        "loss": f"{losses[0][0]:.4g} -> {losses[-1][1]:.4g}" if losses else "not optimised",
        "scores": ", ".join(f"{k} {v:.3g}" for k, v in spec.scores.items()) or "-",
        "software": ", ".join(f"{k} {v}" for k, v in spec.software.items()) or "-",
        "size": size_text(info.size_bytes),
        "file": f"sha256:{info.sha256}",
        **line,
        "content": spec.digest,
    }
    rows = {name: printable(text) for name, text in rows.items()} | line
    rows["samples"] = _samples(spec, most)
    return rows


def _samples(spec: CardSpec, most: int) -> str:
    """A line for each prompt and seed that it was trained on, printable."""
    from pe_toolkit.shown import printable

    lines = [f"{sample.prompt!r}, seed {sample.seed}" for sample in spec.samples[:most]]
    if len(spec.samples) > most:
        lines.append(f"and {len(spec.samples) - most} more")
    return "\n".join(printable(line) for line in lines)


def _layers(recipe: RecipeSpec) -> list[str]:
    """The names of its layers, and how much of them acts in the later steps, where not all."""
    names, below = list(recipe.layers or ()), recipe.below
    if below is None:
        return names
    said = []
    for name, times in zip(names, below.times, strict=True):
        later = f"{times:g} times below noise {below.noise:g}"
        only = f"down to noise {below.noise:g}"
        said.append(name if times == 1 else f"{name} {later if times else only}")
    return said


def _sets(info: CardInfo) -> str:
    """Whether all guided steps have the same positions."""
    sets = info.tensors[info.spec.kind][1][0]
    return " with one set of positions" if sets == 1 < info.spec.guided_steps else ""


def _line(spec: CardSpec) -> dict[str, str]:
    """Which cards this one was made from without training, and what was done; printable."""
    from pe_toolkit.card.motion_words import edit_words

    rows = {}
    if spec.edits:
        rows["edits"] = "\n".join(edit_words(edit) for edit in spec.edits)
    if spec.came_from:
        rows["parent" if len(spec.came_from) == 1 else "parents"] = "\n".join(
            f"content {digest}" for digest in spec.came_from
        )
    return rows


def _feedback(spec: CardSpec) -> dict[str, str]:
    """Whether generations corrected its positions."""
    rounds = spec.recipe.feedback
    if rounds is None:
        return {}
    said = "a round" if rounds == 1 else f"{rounds} rounds"
    return {"feedback": f"the ways of things corrected in {said} of generations"}


def _phase(spec: CardSpec) -> dict[str, str]:
    """What of the reference goes into the initial noise, if anything does."""
    kept = spec.recipe.phase
    if kept is None:
        return {}
    text = f"up to {kept.radius:g} cycles per picture, magnitudes divided by {kept.gamma:g}"
    means = "" if kept.mean is not False else ", means of planes left to the noise"
    said = {"phase": f"{text}{means} (in the initial noise)"}
    if spec.recipe.ground is not None:
        share = f"{spec.recipe.ground:g} times the natural share of the noise"
        rests = spec.reference.motion is None or spec.reference.motion.rests
        said["ground"] = f"{share} {'stays where it is' if rests else 'moves with the camera'}"
    return said
