"""The parts of `pe train` around the library: early checks, the clip, drawing the events."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.apply.parts import things
from pe_toolkit.cli import card_plot, files, loading, machine, reference_words
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import Output, size_text
from pe_toolkit.cli.progress import Progress, reading
from pe_toolkit.errors import ResumeError, UsageError

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.card import CardInfo, CardSpec, MotionCard
    from pe_toolkit.cli.requests.reference import ReferenceOptions
    from pe_toolkit.cli.requests.train import TrainOptions
    from pe_toolkit.training.events import Corrected, ReferenceMatched
    from pe_toolkit.training.request import TrainRequest
    from pe_toolkit.training.shape import Shape
    from pe_toolkit.video import Clip


NEW_BUNDLED = "a white circle on a blue background"
NEW_TEXTURED = "a white circle on a textured blue background"
NEW_TWO = "a white circle and an orange cross on a blue background"
NEW = "a paper plane over a city"
"""What the suggested command shows."""
LITTLE_LEARNT = 3
"""Exit code of a training whose card was made, but of a reference with little to learn from."""


@dataclass
class Result:
    """What a training leaves: the card, its seconds, and preview frames if they were asked for."""

    card: MotionCard | None = None
    seconds: float = 0.0
    preview: Any = None
    preview_fps: float = 8.0
    image_to_video: bool = False


def check(options: TrainOptions) -> None:
    """Everything that can be found before a backbone is chosen: the request, and the files.

    Raises:
        UsageError, DependencyError: as `TrainOptions.check`.
        UsageError, OutputError: a file that cannot be written.
        ResumeError, UsageError: as `check_state`.
    """
    options.check()
    preview = options.preview
    if options.reference.is_dir():  # without images, -o may be meant for the cards of its videos
        from pe_toolkit.video.pictures import ImageFolder

        ImageFolder(options.reference, None)
    files.check_suffix(options.output, ".safetensors")
    if preview is not None:
        files.check_suffix(preview, files.VIDEOS, "--preview")
    card_plot.check(options.plot, force=options.force)
    outputs = [options.output, *([preview] if preview else [])]
    drawn = [*outputs, *([options.plot] if options.plot else [])]
    files.check_not_read(drawn, [options.reference, options.image])
    files.check_outputs(outputs, force=options.force)
    check_state(options.state, resume=options.resume, force=options.force)


def check_state(state: Path, *, resume: bool, force: bool) -> None:
    """An interrupted training is continued on request only, and never thrown away by accident.

    Raises:
        ResumeError: `--resume` without a state.
        UsageError: a state is there, and neither `--resume` nor `--force` was given.
    """
    there = state.exists()
    if resume and not there:
        raise ResumeError(
            f"Expected the state of an interrupted training at {state}, found none.",
            "Run without --resume to begin. A training that optimises nothing, as with --recipe "
            "rich, leaves no state.",
        )
    if there and not (resume or force):
        raise UsageError(
            f"Expected no unfinished training, but {state} holds one.",
            "Use --resume to continue it, or --force to begin anew.",
        )


@dataclass(frozen=True)
class Chosen:
    """The backbone of a request, before it is loaded.

    Attributes:
        name: as `pe_toolkit.backbones.load_backbone` takes it.
        known: its row of the catalogue, if it has one.
        shape: of its videos; None for one of the Hub, which shows it only when it is loaded.
    """

    name: str
    known: Variant | None
    shape: Shape | None


def choose(request: ReferenceOptions, out: Output) -> Chosen:
    """Which backbone it will be, checked against what was asked for.

    Raises:
        UsageError, BackboneError: as `machine.resolve` and `TrainRequest.check_for`.
    """
    from pe_toolkit.training.shape import Shape

    name, known, remark = machine.resolve(request.backbone, request.device, request.copy_of)
    folder = Path(name).expanduser()
    shape = Shape.of_variant(known) if known is not None else Shape.of_folder(folder)
    if shape is not None:
        request.check_for(shape)
    if remark:
        out.talk(remark)
    return Chosen(name, known, shape)


def load(
    request: ReferenceOptions, chosen: Chosen, clip: Clip, out: Output
) -> tuple[Backbone, Clip]:
    """The backbone, and the reference read anew if only now it is known as what.

    Raises:
        BackboneError, DeviceError, UsageError: as `loading.load`.
        UsageError, ClipError, MotionError: as `check_for` and `read_reference`.
    """
    from pe_toolkit.training.shape import Shape

    adapter = loading.load(
        chosen.name,
        request.revision,
        request,
        out,
        request.purpose(chosen.known),
        published=request.recipe == "paper",
    )
    shape = Shape.of_adapter(adapter)
    if chosen.known is not None or chosen.shape == shape:
        return adapter, clip
    request.check_for(shape)
    return adapter, read_reference(request, shape, out)


def read_reference(request: TrainRequest, shape: Shape | None, out: Output) -> Clip:
    """The reference as the backbone wants it; says how it was sampled; refuses one without motion.

    Without a shape this is a first look, so that a bad clip is found before a model is loaded.

    Raises:
        ClipError: it cannot be read, or is too short.
        MotionError: nothing in it moves.
    """
    from pe_toolkit.video import require_motion

    with reading(out) as on_progress:
        if shape is None:
            clip = request.glance(on_progress)
            require_motion(clip)
            return clip
        clip = request.read(shape, on_progress)
    reference_words.tell(clip, request, shape.fps, out)
    # A published recipe is followed to the letter, and who names a rate wants that rate.
    if request.recipe != "paper" and request.fps is None:
        reference_words.suggest(clip, shape.fps, out)
    reference_words.warn_cuts(clip, out)
    require_motion(clip)
    return clip


def tracking(
    events: Iterator[Any], options: TrainOptions, variant: Variant, out: Output
) -> Iterator[Any]:
    """The events, written to the dashboard that was asked for, if one was."""
    if options.track is None:
        return events
    from pe_toolkit.training import track

    settings = options.config(variant).resolve(variant)
    if settings.inner_steps:
        out.talk(f"Losses: {track.show(options.track)}")
    else:
        out.talk(f"Nothing is optimised, so no losses: {track.show(options.track)}")
    about = {
        "reference": options.reference, "backbone": options.backbone, "mode": options.mode,
        "recipe": settings.recipe, "objective": settings.objective,
        "set": " ".join("=".join(pair) for pair in options.overrides),
        "card": options.output.absolute(),
    }  # fmt: skip
    return track.tracked(events, options.track, options.output.stem, about, resume=options.resume)


def matched_words(event: ReferenceMatched, expected: int) -> tuple[list[str], str]:
    """What was read of the reference and what becomes of it, line by line, and a warning or "".

    Args:
        expected: guided steps, before that was known.
    """
    from pe_toolkit.card.followed import followed

    lines, warning = [f"Reference: {followed(event.followed, read=event.read)}"], ""
    if event.motion:
        lines.append(event.motion)
    if event.zero and event.phase:
        lines.append(f"{event.zero}: left to the phase in the noise")
    elif event.zero:
        warning = f"{event.zero}: the positions start from zero."
    if event.path_alone:
        lines.append("its path is learned, not that it grows or turns")
    if event.turn_left_out:
        lines.append("where it goes is learned, not that it turns")
    if event.things_left_out:
        lines.append("the camera's motion is learned, not that of the things before it")
    if event.guided_steps not in (None, expected):
        lines.append(f"so {event.guided_steps} steps are guided")
    return lines, warning


def draw(events: Iterator[Any], session: Session) -> Result:
    """Run a training by drawing its events; the result of the last one."""
    from pe_toolkit.training import events as kinds

    out, result, inner, drawn, expected = session.out, Result(), 1, False, 0
    with contextlib.ExitStack() as stack:
        bar = Progress(out, "guided step", 1)
        for event in events:
            out.pass_on(event)
            match event:
                case kinds.Started():
                    inner, expected = max(event.inner_steps, 1), event.guided_steps
                    if not out.json:
                        out.talk(event.message)
                    bar = Progress(out, "guided step", event.guided_steps)
                    if drawn := event.inner_steps > 0:  # else there may be no step to tell of
                        stack.enter_context(bar)
                case kinds.Resumed():
                    bar.skip(event.step)
                case kinds.ReferenceMatched() if not out.json:
                    lines, warning = matched_words(event, expected)
                    out.talk("\n  ".join(lines))
                    if warning:
                        out.warn(warning)
                    if event.guided_steps is not None and not drawn:
                        bar = Progress(out, "guided step", event.guided_steps)
                case kinds.Optimising():
                    session.checkpointing = event.checkpointing
                case kinds.InnerStep():
                    bar.part((event.inner + 1) / inner, f"loss {event.loss:.4g}")
                case kinds.GuidedStep():
                    if not drawn:
                        stack.enter_context(bar)
                    drawn, loss = True, "nothing optimised"
                    if event.loss_first is not None:
                        loss = f"loss {event.loss_first:.4g} -> {event.loss_last:.4g}"
                    bar.step(f"noise {event.noise:.3f}, {loss}, {event.seconds:.1f} s")
                case kinds.FeedbackStep():
                    if event.step == 1:
                        stack.close()  # one bar at a time
                        bar = stack.enter_context(Progress(out, "feedback", event.steps))
                    bar.reach(event.step)
                case kinds.Corrected() if not out.json:
                    out.talk(corrected_words(event))
                case kinds.PreviewFrames():
                    result.preview, result.preview_fps = event.frames, event.fps
                case kinds.Finished():
                    result.card, result.seconds = event.card, event.seconds
    if result.card is not None:
        warn_unfollowed(result.card, out)
    return result


def corrected_words(event: Corrected) -> str:
    """What a round of feedback found."""
    if not event.round:
        return (
            "Feedback corrects the ways of several things before a camera that rests, which have a "
            "layer each (of two, on the bundled backbone): here it has nothing to do."
        )
    said = f"Feedback {event.round}/{event.rounds}: "
    if event.generations < 2:
        return said + (
            f"the ways of {event.generations} of the generations could be read, which is too few: "
            "positions stay as they are. Prompts have to name as many things as move."
        )
    if not event.trust:
        return said + (
            f"of the ways of {event.generations} generations nothing that is wrong is the same in "
            "all: positions stay as they are."
        )
    return said + (
        f"ways of {event.generations} generations are {event.beside:.2f} patches off in the mean, "
        f"{event.trust:.0%} of it the same in all: corrected."
    )


def warn_unfollowed(card: MotionCard, out: Output) -> None:
    """Warn where patches were matched, but nothing that moves was followed through the clip, as in
    footage that the bundled backbone has never seen. What that means elsewhere was not measured,
    and layers come from pictures and covers (`card.followed.little`).
    """
    if not card.spec.backbone.variant.startswith("bundled") or card.spec.recipe.start == "layers":
        return
    import torch

    from pe_toolkit.evaluation.following import mean_displacements, nothing_moves

    why = nothing_moves(mean_displacements(torch.tensor(card.tensors["flow"])))
    if why:
        out.warn(f"in the reference, {why}: little of its motion will transfer.")


def next_command(options: TrainOptions, spec: CardSpec, *, image_to_video: bool) -> str:
    """A command that applies the card, and runs as it stands: on the same backbone, if the card
    cannot name it, and with what it cannot do without.
    """
    from pe_toolkit.backbones.loading import trust

    place = str(options.output)
    words = ["pe", "apply", f"./{place}" if place.startswith("-") else place]
    own = spec.backbone
    try:
        trust.of_card(own.variant, own.model_id, own.revision)
        elsewhere = options.copy_of is not None  # the card names the model that this is a copy of
    except UsageError:  # nor may it choose one
        elsewhere = True
    if elsewhere:
        words += ["--backbone", options.backbone]
        if options.revision is not None:
            words += ["--revision", options.revision]
    if spec.kind == "latents":
        words += ["--prompt", spec.samples[0].prompt]
    elif not own.variant.startswith("bundled"):
        words += ["--prompt", NEW]
    elif things(spec) > 1:
        words += ["--prompt", NEW_TWO]
    elif spec.reference.motion is not None and not spec.reference.motion.rests:
        words += ["--prompt", NEW_TEXTURED]  # on which a camera that moves is seen
    else:
        words += ["--prompt", NEW_BUNDLED]
    if image_to_video:
        words += ["--image", str(options.image or options.reference)]
    if spec.recipe.kv == "required":
        words += ["--kv-from", str(options.reference)]
    for name in ("device", "dtype", "quantize"):
        value = getattr(options, name)
        if value not in (None, "none"):
            words += [f"--{name}", value]
    if options.offload != "auto":
        words += ["--offload", options.offload]
    return shlex.join(words)


def finish(session: Session, options: TrainOptions, result: Result) -> None:
    """Write the card, and the preview if one was asked for, and say so."""
    assert result.card is not None, "training ended without a card"
    info = result.card.save(options.output, force=options.force)
    # Only now: until the card is on the disk, the state is the work.
    options.state.unlink(missing_ok=True)
    session.resume = None
    session.saved = options.output
    if options.preview is not None and result.preview is not None:
        from pe_toolkit.video import write_video

        write_video(options.preview, result.preview, result.preview_fps, force=options.force)
        if not session.out.json:
            session.out.talk(f"{options.preview}: {preview_words(result.card.spec)}")
    if options.plot is not None:
        card_plot.write(options.plot, result.card, session.out, force=options.force)
    summarise(session, options, info, result)


def preview_words(spec: CardSpec) -> str:
    """What a preview is of, and why it does not show what the card can do, if it does not."""
    from pe_toolkit.world.vocabulary import things as named_in

    first = spec.samples[0]
    said = f"the first training sample, {first.prompt!r}, seed {first.seed}."
    bundled = spec.backbone.variant.startswith("bundled")
    if bundled and things(spec) > 1 and named_in(first.prompt) == 1:
        said += " It names one thing where the card moves several: --prompt can name two."
    return said


def summarise(session: Session, options: TrainOptions, info: CardInfo, result: Result) -> None:
    """Say what was made, and what to do with it."""
    from pe_toolkit.card.followed import followed_by, little

    out, spec, path = session.out, info.spec, options.output
    loss, matched, learned = spec.training.loss, spec.reference.matched, followed_by(spec)
    out.data(f"{path}  {size_text(info.size_bytes)}, {result.seconds:.0f} s; {learned}")
    if little(spec):
        out.warn(
            "there is little to learn from in this reference, and little will be seen of it. Try "
            "another span (--start, --end), or a clip in which one thing crosses a good part of "
            f"the picture. Exit code {LITTLE_LEARNT}."
        )
        session.code = LITTLE_LEARNT
    elif not out.json:
        out.talk(f"Next: {next_command(options, spec, image_to_video=result.image_to_video)}")
    out.event(
        "summary",
        little_to_learn_from=little(spec),
        card=path,
        sha256=info.sha256,
        digest=spec.digest,
        size_bytes=info.size_bytes,
        preview=options.preview,
        seconds=result.seconds,
        matched=matched,
        guided_steps=spec.guided_steps,
        loss_first=loss[0][0] if loss else None,
        loss_last=loss[-1][1] if loss else None,
    )
