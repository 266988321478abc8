"""What a person asks of an application before a model is loaded: prompts, seeds, how much of the
card, and how the videos are generated. It makes what `generate` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pe_toolkit.apply.drafts import MOST, Draft, Judge, draft_steps, judged, seeds_of, that_pay
from pe_toolkit.apply.parts import check_parts
from pe_toolkit.backbones.machine.placement import Purpose
from pe_toolkit.card.asked import same_noise
from pe_toolkit.card.sampling import check_reference, read_as_trained
from pe_toolkit.errors import UsageError, option

if TYPE_CHECKING:
    from pe_toolkit.apply.generation import Generated
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.video import Clip
    from pe_toolkit.video.movie import OnProgress

DEFAULT_SEED = 42
"""Not 0, where training begins to count: a new seed shows what the card does."""


@dataclass(frozen=True)
class Conditions:
    """What a generation is given beside the prompt, read from files.

    Attributes:
        kv_from: the reference clip, for its keys and values.
        image: uint8 RGB `(H, W, 3)`: the first frame.
    """

    kv_from: Clip | None = None
    image: Any = None


@dataclass(frozen=True)
class Settings:
    """What of the schedule a person may change, none missing. An empty negative prompt is none."""

    steps: int
    guidance_scale: float
    negative_prompt: str


@dataclass(frozen=True, kw_only=True)
class ApplyRequest:
    """A request; None means what the card says.

    Attributes:
        prompts: what to show; each is combined with each seed.
        seeds: of the initial noise; default: `DEFAULT_SEED`, or the one of a latents card.
        strength: how much of the card, from 0 (plain) to 2; 1 is as trained.
        no_card: generate without the card, with everything else as with it, for comparison.
        kv_from: the reference clip of a card that was trained with its keys and values.
        no_kv: do without them.
        phase: how much of the reference's phase goes into the initial noise, 0 to 1; default: as
            much as `strength` says.
        camera, subject: how much of the layer that moves with the camera, and of the others, on top
            of `strength`, 0 to 2; default 1. For cards that have such layers.
        image: a picture to begin with, for image-to-video backbones.
        drafts: how many seeds each video is chosen from, by what a fifth of the steps makes of them
            (`apply.drafts`); 1: the seed as it is.

    The others are as in `generate`.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    strength: float = 1.0
    no_card: bool = False
    steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    scheduler: str | None = None
    cache: str = "none"
    compile: bool = False
    kv_from: Path | None = None
    no_kv: bool = False
    phase: float | None = None
    camera: float | None = None
    subject: float | None = None
    image: Path | None = None
    drafts: int = 1

    def check(self) -> None:
        """Refuse what makes no sense whatever the card.

        Raises:
            UsageError: no prompt, a prompt or seed given twice (or two seeds that give the same
                noise), or drafts of nothing.
        """
        if not 1 <= self.drafts <= MOST:
            raise UsageError(f"Expected 1 to {MOST} {option('drafts')}, got {self.drafts}.")
        if self.drafts > 1 and (self.no_card or not self.strength):
            raise UsageError(
                f"Expected a card that acts, for {option('drafts')}, got none: there is nothing "
                "that they are to follow.",
                f"Leave {option('drafts')} out.",
            )
        if not self.prompts:
            prompts, lines = option("prompts"), option("prompt_file")
            raise UsageError(f"Expected {prompts} or {lines}, got none.", "Say what to show.")
        given: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("prompts", self.prompts),
            ("seeds", self.seeds),
        )
        for field, values in given:
            if twice := [v for v in values if values.count(v) > 1]:
                raise UsageError(
                    f"Expected each {option(field)} once, got {twice[0]!r} more than once.",
                    "The same prompt and seed give the same video.",
                )
        if same := same_noise(self.seeds):
            raise UsageError(
                f"Expected each {option('seeds')} once, got {same[0]} and {same[1]}, which give "
                "the same video: torch uses the lowest 32 bits of a seed.",
                "Leave one out, or use seeds below 2^32.",
            )

    def seeds_for(self, spec: CardSpec) -> list[int]:
        """The seeds to use; a latents card brings its own, and is bound to its schedule.

        Raises:
            UsageError: a phase or a strength of a layer with a card that holds none; seeds, a
                strength, a scheduler, drafts or other steps with a latents card.
        """
        if not self.no_card:
            check_parts(spec, camera=self.camera, subject=self.subject, phase=self.phase)
        if not self.replays(spec):
            return list(self.seeds) or [DEFAULT_SEED]
        bound = {
            "seeds": bool(self.seeds),
            "strength": self.strength != 1.0,
            "scheduler": self.scheduler is not None,
            "steps": self.steps not in (None, spec.schedule.steps),
            "drafts": self.drafts > 1,
        }
        for name in (option(field) for field, given in bound.items() if given):
            raise UsageError(
                f"Expected no {name} with a latents card: it is bound to seed "
                f"{spec.samples[0].seed}, its scheduler and {spec.schedule.steps} steps.",
                f"Leave {name} out, or train a card with {option('mode')} positions.",
            )
        return [spec.samples[0].seed]

    def replays(self, spec: CardSpec) -> bool:
        """Whether stored latents are replayed."""
        return spec.kind == "latents" and not self.no_card

    def settings(self, spec: CardSpec) -> Settings:
        """Those of the card unless others are asked for, also for the plain comparison."""
        own, scale, negative = spec.schedule, self.guidance_scale, self.negative_prompt
        return Settings(
            own.steps if self.steps is None else self.steps,
            own.guidance_scale if scale is None else scale,
            (own.negative_prompt or "") if negative is None else negative,
        )

    def purpose(self, spec: CardSpec, *, tiling: bool = True) -> Purpose:
        """What `--offload auto` has to have room for."""
        clip = spec.clip
        size = (clip.width, clip.height)
        return Purpose(("apply",), clip.frames, size, cache=self.cache, tiling=tiling)

    def read(self, spec: CardSpec, on_progress: OnProgress | None = None) -> Conditions:
        """The clip and the picture that were asked for.

        Args:
            on_progress: as in `read_clip`.

        Raises:
            UsageError: a card that requires keys and values without a clip (names its hash).
            ClipError: one cannot be read.
        """
        from pe_toolkit.video.image import read_image

        image = None if self.image is None else read_image(self.image)
        if self.no_card:
            return Conditions(image=image)
        check_reference(spec, given=self.kv_from is not None, waived=self.no_kv)
        if self.kv_from is None:
            return Conditions(image=image)
        clip = read_as_trained(self.kv_from, spec, on_progress)
        return Conditions(clip, image)

    def with_drafts(self, spec: CardSpec, *, bundled: bool) -> Self:
        """The request with as many drafts as pay, for those who say nothing of them.

        Args:
            bundled: as in `drafts.that_pay`.
        """
        acts = not self.no_card and self.strength > 0 and self.subject != 0
        if not acts or self.replays(spec):
            return self
        return replace(self, drafts=that_pay(spec, bundled=bundled))

    def draft(
        self,
        adapter: Backbone,
        card: MotionCard,
        prompt: str,
        seed: int,
        follows: Judge,
        conditions: Conditions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Draft]:
        """Drafts of a video of that prompt from `seed` and others that belong to it, the one that
        follows best first.

        Args:
            follows: as in `drafts.judged`; it may run the transformer.

        Raises:
            UsageError, UnsupportedError, MismatchError: as `pe_toolkit.apply.generate`.
        """
        steps = draft_steps(self.settings(card.spec).steps)
        short = replace(self, steps=steps, cache="none")
        seeds = seeds_of(seed, self.drafts)
        made = short.generate(adapter, card, [prompt], seeds, conditions, on_step)
        return judged(made, follows)

    def generate(
        self,
        adapter: Backbone,
        card: MotionCard,
        prompts: Sequence[str],
        seeds: Sequence[int],
        conditions: Conditions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Generated]:
        """The videos of some of the prompts and seeds, one at a time.

        Raises:
            UsageError, UnsupportedError, MismatchError: as `pe_toolkit.apply.generate`.
        """
        from pe_toolkit.apply.generation import generate

        used, conditions = self.settings(card.spec), conditions or Conditions()
        return generate(
            adapter,
            prompts,
            seeds,
            card=card,
            # 0 is plain generation bit for bit, with the frames and the size of the card.
            strength=0.0 if self.no_card else self.strength,
            steps=used.steps,
            guidance_scale=used.guidance_scale,
            negative_prompt=used.negative_prompt,
            scheduler=self.scheduler,
            cache=self.cache,
            compile=self.compile,
            on_step=on_step,
            kv_from=conditions.kv_from,
            no_kv=self.no_kv and not self.no_card,
            phase=None if self.no_card else self.phase,
            camera=None if self.no_card else self.camera,
            subject=None if self.no_card else self.subject,
            image=conditions.image,
        )
