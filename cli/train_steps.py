"""The parts of `pe train` around the library: early checks, the clip, drawing the events."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli import speed, train_sampling, train_shape
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import Output, size_text
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import CardError, ResumeError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.card import CardInfo, MotionCard
    from pe_toolkit.training import TrainConfig
    from pe_toolkit.video import Clip


@dataclass
class Result:
    """What a training leaves: the card, its seconds, and preview frames if they were asked for."""

    card: MotionCard | None = None
    seconds: float = 0.0
    preview: Any = None
    preview_fps: float = 8.0


def check_usage(o: Mapping[str, Any], shape: train_shape.Shape | None) -> None:
    """Requests that make no sense, found before anything is read.

    `shape` is None for a folder or Hub id that is not known before it is loaded.

    Raises:
        UsageError: more than one sample in latents mode, a form of positions in latents mode,
            another size than the only one of a backbone.
        UnsupportedError: `--param angle` on a backbone with absolute positions.
        DependencyError, UnsupportedError: as `speed.check_training`.
    """
    if o["mode"] == "latents":
        if len(o["prompts"]) > 1 or (o["samples"] or 1) > 1:
            raise UsageError(
                "Expected one prompt and one sample with --mode latents, got more: latents belong "
                "to one prompt and one seed.",
                "Use one --prompt and --samples 1, or --mode positions.",
            )
        if o["param"]:
            raise UsageError(
                "Expected no --param with --mode latents: no positions are learned.",
                "Leave it out.",
            )
    if o["param"] == "angle" and shape is not None and shape.positions == "absolute":
        raise UnsupportedError(
            f"Expected --param table for {shape.name}, got angle: its positions are absolute "
            "(added, not rotated), so there is no angle to learn.",
            "Use --param table, or a backbone with rotary positions.",
        )
    if shape is not None and shape.fixed_size:
        train_shape.check_size(o, shape)
    speed.check_training(o)
    keys = [key for key, _ in o["overrides"]]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UsageError(f"Expected each --set key once, got {twice!r} more than once.")


def check_texts(texts: Mapping[str, str]) -> None:
    """What will stand in the card obeys the card's rules now, not after an hour of training.

    Raises:
        UsageError: naming the option.
    """
    from pe_toolkit.card.spec import CardSpec

    rules = {field.name: field.metadata["rule"] for field in fields(CardSpec)}
    for name, value in texts.items():
        option = "--card-version" if name == "version" else f"--{name}"
        try:
            rules[name].check(value, option)
        except CardError as error:
            raise UsageError(error.message, error.hint) from error


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
            "Run without --resume to begin.",
        )
    if there and not (resume or force):
        raise UsageError(
            f"Expected no unfinished training, but {state} holds one.",
            "Use --resume to continue it, or --force to begin anew.",
        )


def read_reference(
    path: Path, o: Mapping[str, Any], shape: train_shape.Shape | None, out: Output
) -> Clip:
    """The reference as the backbone wants it; says how it was sampled; refuses one without motion.

    Without a shape this is a first look, so that a bad clip is found before a model is loaded.

    Raises:
        ClipError: it cannot be read, or is too short.
        MotionError: nothing in it moves.
    """
    from pe_toolkit.video import read_clip, require_motion

    if shape is None:
        clip = read_clip(path, start=o["start"], frames=33, size=(128, 128))
        require_motion(clip)
        return clip
    paper = o["recipe"] == "paper"
    frames = train_shape.frames_for(o, shape)
    assert frames is not None  # the shape knows
    size = o["size"] or (shape.width, shape.height)
    if o["fps"] is not None:
        fps, how = o["fps"], f"at {o['fps']:g} frames per second"
    elif paper:
        fps, how = "native", "the first frames at the clip's own rate"
    else:
        fps, how = None, "the whole span, evenly"
    clip = read_clip(
        path,
        start=o["start"],
        frames=frames,
        fps=fps,
        size=size,
        fit=o["fit"],
        min_frames=train_shape.latent_frames(frames),
    )
    train_sampling.tell(clip, how, shape.fps, out)
    # A published recipe is followed to the letter, and who names a rate wants that rate.
    if not paper and o["fps"] is None:
        train_sampling.suggest(clip, shape.fps, out)
    require_motion(clip)
    return clip


def build_config(o: Mapping[str, Any], name: str, variant: Variant | None) -> TrainConfig:
    """The options as the library wants them; `--set` reaches what has no option of its own."""
    from pe_toolkit.training import TrainConfig

    config = TrainConfig(
        prompts=o["prompts"],
        samples=1 if o["mode"] == "latents" else o["samples"],
        mode=o["mode"],
        recipe=o["recipe"],
        parametrisation=o["param"],
        steps=o["steps"],
        guidance_scale=o["guidance_scale"],
        seed=o["seed"],
        kv=o.get("kv_from") is not None,
        checkpointing=o.get("checkpointing", "auto"),
        compile=o.get("compile_", False),
        name=name,
        author=o["author"],
        license=o["license"],
        card_version=o["card_version"],
        preview=o.get("preview") is not None,
    )
    config = config.with_overrides(dict(o["overrides"]))
    if variant is not None:
        config.resolve(variant)  # numbers out of range are found before any work
    return config


def draw(events: Iterator[Any], session: Session) -> Result:
    """Run a training by drawing its events; the result of the last one."""
    from pe_toolkit.card.followed import followed
    from pe_toolkit.training import events as kinds

    out, result, inner = session.out, Result(), 1
    with contextlib.ExitStack() as stack:
        bar = Progress(out, "guided step", 1)
        for event in events:
            out.library_event(event)
            match event:
                case kinds.Started():
                    inner = max(event.inner_steps, 1)
                    if not out.json:
                        out.talk(event.message)
                    bar = stack.enter_context(Progress(out, "guided step", event.guided_steps))
                case kinds.Resumed():
                    bar.skip(event.step)
                case kinds.ReferenceMatched() if not out.json:
                    out.talk(f"Reference: {followed(event.followed)}")
                case kinds.Optimising():
                    session.checkpointing = event.checkpointing
                case kinds.InnerStep():
                    bar.part((event.inner + 1) / inner, f"loss {event.loss:.4g}")
                case kinds.GuidedStep():
                    loss = "nothing optimised"
                    if event.loss_first is not None:
                        loss = f"loss {event.loss_first:.4g} -> {event.loss_last:.4g}"
                    bar.step(f"noise {event.noise:.3f}, {loss}, {event.seconds:.1f} s")
                case kinds.PreviewFrames():
                    result.preview, result.preview_fps = event.frames, event.fps
                case kinds.Finished():
                    result.card, result.seconds = event.card, event.seconds
    if result.card is not None:
        warn_unfollowed(result.card, out)
    return result


def warn_unfollowed(card: MotionCard, out: Output) -> None:
    """Warn where patches were matched, but nothing that moves was followed through the clip, as in
    footage that the bundled backbone has never seen. What that means elsewhere was not measured.
    """
    if not card.spec.backbone.variant.startswith("bundled"):
        return
    import torch

    from pe_toolkit.evaluation.following import mean_displacements, nothing_moves

    why = nothing_moves(mean_displacements(torch.tensor(card.tensors["flow"])))
    if why:
        out.warn(f"in the reference, {why}: little of its motion will transfer.")


def summarise(
    session: Session, path: Path, preview: Path | None, info: CardInfo, result: Result
) -> None:
    """Say what was made, and what to do with it."""
    from pe_toolkit.card.followed import followed

    out, spec = session.out, info.spec
    loss, matched = spec.training.loss, spec.reference.matched
    learned = followed(matched, spec.backbone.variant)
    out.data(f"{path}  {size_text(info.size_bytes)}, {result.seconds:.0f} s; {learned}")
    if not out.json:
        out.talk(f'Next: {shlex.join(["pe", "apply", str(path)])} --prompt "..." -o out.mp4')
    out.event(
        "summary",
        card=path,
        sha256=info.sha256,
        digest=spec.digest,
        size_bytes=info.size_bytes,
        preview=preview,
        seconds=result.seconds,
        matched=matched,
        guided_steps=spec.guided_steps,
        loss_first=loss[0][0] if loss else None,
        loss_last=loss[-1][1] if loss else None,
    )
