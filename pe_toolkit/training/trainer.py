"""A training, in the order of the paper's algorithm: reference clip -> events -> motion card."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.backbones.alone import alone
from pe_toolkit.backbones.contract import Backbone, Sampler
from pe_toolkit.card.motion_words import motion_words
from pe_toolkit.training import events
from pe_toolkit.training.config import TrainConfig
from pe_toolkit.training.describe import build_card, motion_spec
from pe_toolkit.training.feedback import Feedback
from pe_toolkit.training.guide import Guidance
from pe_toolkit.training.prepare import Run, prepare
from pe_toolkit.training.reference import read_reference
from pe_toolkit.training.resume import ResumeState
from pe_toolkit.training.start import (
    begun,
    path_alone,
    things_left_out,
    turn_left_out,
    unsaid,
)
from pe_toolkit.video import Clip


def train(
    adapter: Backbone,
    clip: Clip,
    config: TrainConfig,
    *,
    state: Path | None = None,
    resume: bool = False,
    image: NDArray[np.uint8] | None = None,
) -> Iterator[events.Event]:
    """Learn the motion of a clip.

    Args:
        adapter: the backbone. Its weights are frozen while this runs and left as they were. Its
            pipeline is not to be called meanwhile: it would be guided by what is half learned.
        clip: the reference; its frame count and size are those of the generations.
        config: what to do; None fields take the backbone's defaults.
        state: where to keep the resumable state (written after every guided step), or None.
        resume: continue from `state`.
        image: uint8 RGB `(H, W, 3)`, with image-to-video backbones only: what the training
            samples begin with, brought to the size of the clip with the clip's `fit`. Default: the
            reference's own first frame.

    Yields:
        Events; the last is `Finished` with the card. Nothing else is written.

    Raises:
        UsageError: a request that makes no sense, found before any work.
        MotionError: nothing in the reference can be matched and moves.
        TrainingError: the loss is not finite.
        BackboneError: latents of the reference, or a preview, that are not finite.
        ResumeError: the state belongs to another run.
        UnsupportedError: a card is applied to the model, or another training is at work on it;
            weights that training cannot work with: quantized in another way than `fp8` or `int8`,
            or compiled blocks whose weights leave; attention processors of the user, or
            SageAttention, on rotary positions; where something is optimised, a scheduler that is
            not stepped as DDIM is (Euler, UniPC); the same for a preview and for feedback.
    """
    began = time.monotonic()
    run = prepare(adapter, clip, config, image)
    with (
        alone(adapter.transformer, "a training"),
        adapter.frozen(),
        adapter.sent_away(),
        contextlib.ExitStack() as stack,
    ):
        sampler = run.sampler()
        run, guided = run.guiding(sampler)
        yield run.started(guided)

        silence = adapter.encode_text([""])
        feedback = Feedback.asked(run)
        # From here on nothing is read any more: 9.5 GB of a CogVideoX in 16 bits.
        stack.enter_context(adapter.parked("text_encoder"))
        reference = read_reference(run, silence)
        flow = reference.flow
        moves = reference.moves
        run, guided = run.seeing(moves, sampler)
        yield events.ReferenceMatched(
            flow.matched,
            flow.moving,
            flow.followed,
            motion_words(motion_spec(moves), (flow.grid.height, flow.grid.width)),
            unsaid(flow, moves, run.settings) if run.form else "",
            run.settings.phase is not None and (moves.camera or bool(moves.subjects)),
            len(guided),
            run.form is not None and begun(flow, moves, run.settings) == "layers",
            run.form is not None and path_alone(flow, moves, run.settings),
            run.form is not None and things_left_out(flow, moves, run.settings),
            run.form is not None and turn_left_out(flow, moves, run.settings),
        )
        reference.require_motion(run.settings.mask)

        reference.begin(run, sampler)
        saved = None if state is None else ResumeState(state, run, reference.encoded)
        mode, kv = run.mode(sampler, reference, silence), reference.keys_values(run, sampler)
        guidance = Guidance(run, sampler, guided, mode, kv, saved)
        if saved is not None and resume:
            yield guidance.resume()
        yield from guidance.steps(stack)
        yield from feedback.rounds(run, guided, mode, reference, silence)
        if config.preview:
            yield _preview(run, sampler, guided[-1], feedback.shown)
        card = build_card(run, sampler, guided, mode, reference, guidance.losses, feedback.done)
    yield events.Finished(card, time.monotonic() - began)


def _preview(
    run: Run, sampler: Sampler, last: int, frames: NDArray[np.uint8] | None
) -> events.PreviewFrames:
    """The first sample, denoised from the last guided step to the end, and decoded, unless there
    are frames of it already.
    """
    backbone, clip = run.backbone, run.clip
    if frames is None:
        for index in range(last + 1, len(sampler.times)):
            sampler.step(index)
        frames = backbone.decode(sampler.latents[:1], clip.frames.shape[0])
    return events.PreviewFrames(frames, backbone.variant.fps if backbone.variant else clip.fps)
