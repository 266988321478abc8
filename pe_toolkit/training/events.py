"""What the trainer yields. Torch-free: a command line may match on these before anything heavy is
imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.backbones.machine.recompute import Level
    from pe_toolkit.card import MotionCard


@dataclass(frozen=True)
class Started:
    """Training begins.

    Attributes:
        mode: `positions` or `latents`.
        guided_steps: how many denoising steps are guided.
        inner_steps: optimiser steps in each of them (K).
        samples: (prompt, seed) pairs that are optimised together.
        grid: the token grid as text, "FxHxW".
        message: one sentence for a person.
    """

    mode: str
    guided_steps: int
    inner_steps: int
    samples: int
    grid: str
    message: str


@dataclass(frozen=True)
class ReferenceMatched:
    """The reference's AMF is there: shares in [0, 1] of patches, over pairs of latent frames.

    Attributes:
        fraction: matched.
        moving: matched and displaced.
        followed: displaced, and followed through the clip as well (what cards keep).
        motion: what moves, in words (`card.motion_words`).
        zero: why the positions start from zero although another start was asked for, or "".
        phase: whether something moves that the phase in the noise carries: positions that start
            from zero leave it to that.
        read: whether positions start from what was read of the pictures and of covers, whatever
            displacements there are.
        guided_steps: how many denoising steps are guided now that it is known what moves; None
            where that is not said.
        path_alone: whether a subject grows or turns, and positions say its path only.
        things_left_out: whether several things move before a camera, and positions say that only.
        turn_left_out: whether a subject turns on its way, and positions do not say that.
    """

    fraction: float
    moving: float
    followed: float
    motion: str = ""
    zero: str = ""
    phase: bool = False
    guided_steps: int | None = None
    read: bool = False
    path_alone: bool = False
    things_left_out: bool = False
    turn_left_out: bool = False


@dataclass(frozen=True)
class Resumed:
    """Work continues after `step` finished guided steps."""

    step: int


@dataclass(frozen=True)
class Optimising:
    """The optimisation begins.

    Attributes:
        checkpointing: how much of its activations it recomputes, as asked for or as `auto` found it
            best.
    """

    checkpointing: Level


@dataclass(frozen=True)
class InnerStep:
    """One optimiser step: guided step and inner step count from 0; loss as its objective has it
    (`amf`: in patches squared).
    """

    step: int
    inner: int
    loss: float


@dataclass(frozen=True)
class GuidedStep:
    """A guided step is done.

    Attributes:
        index: of the guided step, from 0.
        total: how many there are.
        noise: its noise level in [0, 1].
        loss_first, loss_last: before its first and at its last inner step, as its objective has it;
            None without inner steps.
        seconds: that it took.
    """

    index: int
    total: int
    noise: float
    loss_first: float | None
    loss_last: float | None
    seconds: float


@dataclass(frozen=True)
class FeedbackStep:
    """A denoising step of a round of generations: `step` from 1 to `steps`, of all rounds."""

    step: int
    steps: int


@dataclass(frozen=True)
class Corrected:
    """A round of feedback is done (`training.feedback`).

    Attributes:
        round, rounds: from 1; 0 where the reference has no several things before a camera that
            rests, and nothing is corrected.
        generations: in how many of the round's the things were found again.
        beside: root mean square of what their ways differ by in the mean, in patches.
        trust: how much of that is the same in all of them, [0, 1]; 0: nothing was corrected.
    """

    round: int
    rounds: int
    generations: int
    beside: float
    trust: float


@dataclass(frozen=True)
class Saved:
    """The resume state was written to `path`."""

    path: Path


@dataclass(frozen=True)
class PreviewFrames:
    """The first sample, denoised to the end.

    Attributes:
        frames: uint8 RGB `(F, H, W, 3)`.
        fps: frames per second.
    """

    frames: Any
    fps: float


@dataclass(frozen=True)
class Finished:
    """The card. Nothing was written: the caller decides where.

    Attributes:
        card: the motion card.
        seconds: since the beginning.
    """

    card: MotionCard
    seconds: float


Event = (
    Started
    | ReferenceMatched
    | Resumed
    | Optimising
    | InnerStep
    | GuidedStep
    | FeedbackStep
    | Corrected
    | Saved
    | PreviewFrames
    | Finished
)
"""What `train` yields; `Finished` comes last."""
