"""The motion of the reference, as the transformer sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pe_toolkit.backbones.reading import Reading
from pe_toolkit.errors import MotionError
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.foreground import foreground
from pe_toolkit.motion.moments import pictures_of
from pe_toolkit.motion.moves import Moves
from pe_toolkit.motion.phase import imprinting, phases, quantised
from pe_toolkit.motion.read import read_moves
from pe_toolkit.motion.renewed import renewing
from pe_toolkit.motion.segments import affinity

if TYPE_CHECKING:
    import torch

    from pe_toolkit.backbones.contract import KeysValues, Sampler
    from pe_toolkit.training.prepare import Run


@dataclass(frozen=True)
class Reference:
    """What a training takes from its clip.

    Attributes:
        latents: `(1, ...)` of the clip.
        image: what an image-to-video model is told of the clip's own first frame, else None.
        flow: the motion, with the mask of what counts.
        encoded: in how many pieces the clip was encoded (`backbones.ways`).
        moves: camera and subjects, as read.
    """

    latents: torch.Tensor
    image: torch.Tensor | None
    flow: AttentionMotionFlow
    encoded: str | None
    moves: Moves

    def phase(self, run: Run) -> torch.Tensor | None:
        """uint8 `(F', C, n)` of the latents, as cards hold it (`motion.phase`); None where the
        training does without. Where noise has a ground, the reference's own background is no part
        of it: it would be the same in every clip.
        """
        settings, latents = run.settings, self.latents[0]
        if settings.phase is None:
            return None
        if settings.ground and not self.moves.camera and (cover := self.moves.cover) is not None:
            latents = foreground(latents, cover)
        return quantised(phases(latents, settings.phase[0]))

    def begin(self, run: Run, sampler: Sampler) -> None:
        """Let the generations begin with noise that bears the phase, if there is one."""
        if run.settings.phase is not None and (phase := self.phase(run)) is not None:
            ground = self.moves.ground(run.grid, run.settings.ground)
            mean = run.settings.phase_mean
            change = imprinting(phase, *run.settings.phase, ground=ground, mean=mean)
            # Latents are kept step by step, with whatever was drawn in between.
            again = renewing(run.settings.phase[0]) if run.form else None
            sampler.begin(change, again)

    def seen_by(self, run: Run, silence: torch.Tensor) -> Seen:
        """What an objective may look at; `silence` is `encode_text([""])`."""
        return Seen(self, run, silence)

    def keys_values(self, run: Run, sampler: Sampler) -> KeysValues | None:
        """Its keys and values, noised as the generations are that are about to begin; None where
        the training does without.
        """
        if not run.settings.kv:
            return None
        kv = run.backbone.keys_values(self.latents, run.settings.seed, *run.shape, self.image)
        kv.follow(sampler.initial_noise())
        return kv

    def require_motion(self, mask: str) -> None:
        """Refuse a reference of which the mask of that name keeps nothing.

        Raises:
            MotionError: says how much was matched and moves.
        """
        flow = self.flow
        if not flow.mask.any():
            raise MotionError(
                f"Expected motion in the reference, but the mask '{mask}' keeps nothing of it "
                f"({flow.matched:.0%} of the patches were matched, {flow.moving:.0%} also move).",
                "Use a clip with clearer motion, a longer span, or --set mask=none.",
            )


@dataclass(frozen=True)
class Seen:
    """`objectives.base.MotionReference`: read again at the block that generations are compared at,
    if an objective asks for it.
    """

    reference: Reference
    run: Run
    silence: torch.Tensor

    @property
    def flow(self) -> AttentionMotionFlow:
        """As it was read."""
        return self.reference.flow

    def queries_and_keys(self) -> tuple[torch.Tensor, torch.Tensor]:
        """By attention, at timestep 0, whatever the displacements were read from."""
        run, block = self.run, self.run.settings.block
        return run.backbone.reference_queries_and_keys(
            self.reference.latents, Reading((block,)), *run.shape, self.reference.image,
            self.silence,
        )  # fmt: skip

    def features(self) -> torch.Tensor:
        """After that block."""
        run = self.run
        return run.backbone.reference_features(
            self.reference.latents, run.settings.block, *run.shape, self.reference.image,
            self.silence,
        )  # fmt: skip


def read_reference(run: Run, silence: torch.Tensor) -> Reference:
    """Encode the clip and take the displacements of its patches from queries and keys (DiTFlow,
    section 4.1). `silence` is `encode_text([""])`.
    """
    backbone, settings = run.backbone, run.settings
    latents, way = backbone.encode(run.clip.frames)
    image = backbone.encode_image(run.clip.frames)
    q, k = backbone.reference_queries_and_keys(
        latents, settings.reading, *run.shape, image, silence
    )
    flow = AttentionMotionFlow.from_qk(
        q.float(), k.float(), run.grid, mask=settings.mask, mutual=settings.reading.mutual
    )
    things = affinity(q, k, run.grid) if settings.reading.by == "content" else None
    pictures = pictures_of(run.clip.frames, run.grid.frames)
    moves = read_moves(flow, things, pictures, run.clip.frames)
    return Reference(latents, image, flow, way, moves)
