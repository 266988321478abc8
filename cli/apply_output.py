"""What `pe apply` leaves: videos, a JSON file beside each, comparisons, a sheet, and the list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.backbones.catalogue.names import named
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.cli import files
from pe_toolkit.cli.apply_resume import INTERRUPTED
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import Progress
from pe_toolkit.cli.versions import software
from pe_toolkit.errors import OutputExistsError

if TYPE_CHECKING:
    from pe_toolkit.apply.drafts import Draft
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.cli.requests.apply import ApplyOptions
    from pe_toolkit.evaluation.following import Following, ReferenceMotion

COLUMNS = 9
"""Frames of each video on the sheet: others need not be kept until the end."""
MOST_CHARACTERS = 72
NOT_ASKED = "no score was asked for"


@dataclass(frozen=True)
class Done:
    """One video that was written, and how it came out; an event for programs."""

    video: Path
    sidecar: Path
    side_by_side: Path | None
    prompt: str
    seed: int
    guided_steps: int
    steps: int
    motion_follows: float | None
    motion_follows_reason: str | None
    camera_share: float | None
    seconds: float
    drafts: list[Draft] = field(default_factory=list)


@dataclass
class Results:
    """Takes one generated video after the other.

    Attributes:
        card: what was applied.
        options: those of the command.
        reference: uint8 frames for `--side-by-side`, or None.
        motion: what to score against, or None for no score.
    """

    card: MotionCard
    options: ApplyOptions
    out: Output
    reference: Any = None
    motion: ReferenceMotion | None = None
    done: list[Done] = field(default_factory=list)
    rows: list[tuple[str, Any]] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def leave_all(self, targets: Sequence[files.Target]) -> None:
        """Each as `leave` does."""
        for target in targets:
            self.leave(target)

    def leave(self, target: files.Target) -> None:
        """Count a video of an earlier run, which stays as it is."""
        self.there.append(target.video)
        facts = json.loads(target.sidecar.read_text(encoding="utf-8"))
        score, seed = facts.get("motion_follows"), facts.get("chosen_seed", target.seed)
        if isinstance(score, float):
            self.scores.append(score)
        if self.options.sheet is not None:
            from pe_toolkit.video import read_clip

            frames = read_clip(target.video).frames
            self.rows.append((f"{short(target.prompt)}, seed {seed}", evenly(frames)))

    def take(
        self, target: files.Target, made: Any, bar: Progress, drafts: Sequence[Draft] = ()
    ) -> None:
        """Write a video with everything beside it, and count it as done; `drafts`: those that it
        was chosen by, the best first.

        The video first: whatever becomes of its score, and if that is interrupted, it is there.
        """
        from pe_toolkit.evaluation.following import Following
        from pe_toolkit.video import write_video

        force, texts = self.options.force or target.again, self._texts(made)
        try:
            write_video(target.video, made.frames, made.fps, force=force, metadata=texts)
        except OutputExistsError:
            if self.options.output is not None:
                raise
            target = files.next_free(target)  # nobody named it, and another command took the name
            write_video(target.video, made.frames, made.fps, metadata=texts)
        # `--resume` makes anew what the JSON file says was interrupted.
        chosen = {"chosen_seed": made.seed, "drafted": [vars(d) for d in drafts]}
        more = chosen if drafts else {}
        interrupted = Following(None, INTERRUPTED)
        facts = record(target, made, self.card, self.options, interrupted) | more
        files.write_json(target.sidecar, facts, force=force)
        if target.side_by_side is not None:
            from pe_toolkit.visual import side_by_side

            beside = side_by_side([(self._reference, self.reference), ("result", made.frames)])
            write_video(target.side_by_side, beside, made.fps, force=force, metadata=texts)
        found = self._score(target, made)
        facts = record(target, made, self.card, self.options, found) | more
        files.write_json(target.sidecar, facts, force=True)
        if self.options.sheet is not None:
            self.rows.append((f"{short(made.prompt)}, seed {made.seed}", evenly(made.frames)))
        done = Done(
            video=target.video,
            sidecar=target.sidecar,
            side_by_side=target.side_by_side,
            prompt=made.prompt,
            seed=made.seed,
            guided_steps=0 if self.options.no_card else made.guided_steps,
            steps=self.options.settings(self.card.spec).steps,
            motion_follows=found.score,
            motion_follows_reason=found.reason or None,
            camera_share=found.camera,
            seconds=made.seconds,
            drafts=list(drafts),
        )
        self.done.append(done)
        self.out.event("generated", **vars(done))
        guided = f"{done.guided_steps} of {done.steps} steps guided"
        bar.step(f"{target.video.name}, {guided}, {made.seconds:.1f} s")
        if not done.guided_steps and self.options.strength > 0 and not self.options.no_card:
            self.out.warn(
                f"no step of {target.video.name} was guided: the card had no effect on it."
            )

    def _score(self, target: files.Target, made: Any) -> Following:
        """How well it follows the reference, or why that is not known."""
        from pe_toolkit.evaluation.following import Following

        if self.motion is None:
            return Following(None, NOT_ASKED)
        try:
            return self.motion.compare(made.frames)
        except Exception as error:  # a score is an extra: nothing that breaks it may end the batch
            kind, text = type(error).__name__, " ".join(str(error).split())
            self.out.warn(f"{target.video.name} has no motion score: {kind}: {text}")
            return Following(None, f"scoring failed ({kind})")

    def _texts(self, made: Any) -> dict[str, str]:
        """What stays in the MP4 itself when its JSON file is lost."""
        texts = {"prompt": made.prompt, "seed": str(made.seed)}
        if not self.options.no_card and (self.options.strength or self.options.phase):
            spec = self.card.spec
            texts |= {"card": f"{spec.name} {spec.version}", "card_digest": spec.digest}
        return texts

    def finish(self) -> None:
        """Write the sheet, and list every file: `FILE  what it shows`."""
        sheet = self.options.sheet
        if sheet is not None:
            from pe_toolkit.video import write_image
            from pe_toolkit.visual import contact_sheet

            first = [] if self.reference is None else [(self._reference, self.reference)]
            picture = contact_sheet([*first, *self.rows], COLUMNS)
            write_image(sheet, picture, force=self.options.force)
        shown = {str(video): "from an earlier run" for video in self.there}
        for done in self.done:
            follows = ""
            if self.motion is not None:
                follows = f", {in_words(done, self.card.spec, self.motion.chance)}"
            best = f", the best of {len(done.drafts)} drafts" if done.drafts else ""
            shown[str(done.video)] = f'"{short(done.prompt)}", seed {done.seed}{best}{follows}'
            if done.side_by_side is not None:
                shown[str(done.side_by_side)] = "reference | result"
        if sheet is not None:
            shown[str(sheet)] = "all of them in one picture"
        self.out.made([*self.there, *(done.video for done in self.done)], shown)
        self._explain()
        scored = self._scored_card()
        self.out.event(
            "summary",
            videos=self.done,
            count=len(self.done),
            sheet=sheet,
            scored_card=scored,
            there=self.there,
        )

    @property
    def _reference(self) -> str:
        """What the clip of `--side-by-side` is called."""
        return "reference, before the edits" if self.card.spec.edits else "reference"

    def _explain(self) -> None:
        if self.motion is None:
            return
        from pe_toolkit.evaluation.following import MEANING, NOT_VALIDATED, OF_A_CAMERA

        if any(done.motion_follows is not None for done in self.done):
            meaning = MEANING.format(chance=self.motion.chance)
            known = self.card.spec.backbone.variant.startswith("bundled")
            self.out.talk(meaning if known else meaning + NOT_VALIDATED)
        if any(done.camera_share is not None for done in self.done):
            self.out.talk(OF_A_CAMERA)

    def _scored_card(self) -> Path | None:
        """Write the new card with the mean score, if one was asked for and something was scored."""
        place = self.options.scored_card
        if place is None:
            return None
        from pe_toolkit.card.edit import mean_scores, revised

        new = [d.motion_follows for d in self.done if d.motion_follows is not None]
        values = self.scores + new
        if not values:
            self.out.warn(f"no video has a score: {place} was not written.")
            return None
        scores = mean_scores("motion_follows", values)
        known = self.card.spec.scores
        same = all(known.get(name) == value for name, value in scores.items())
        scored = self.card if same else revised(self.card, scores=scores)
        scored.save(place, force=self.options.force)
        what = "the card, which has" if same else "a new card with"
        self.out.talk(f"{place} is {what} the mean of {len(values)} scores.")
        return place


def in_words(done: Done, spec: CardSpec, chance: float) -> str:
    """The score of a video, with what it is worth."""
    from pe_toolkit.evaluation.following import Following

    found = Following(done.motion_follows, done.motion_follows_reason or "", done.camera_share)
    return score_words(found, spec, chance)


def score_words(found: Following, spec: CardSpec, chance: float) -> str:
    """A score of a video of a card with what it is worth, or why there is none; and how much of a
    camera it shows.

    Args:
        chance: the score below which it may be chance (`ReferenceMotion.chance`).
    """
    from pe_toolkit.evaluation.following import several_move

    shows = "" if found.camera is None else f"; shows {found.camera:.2f} of its camera's motion"
    if (score := found.score) is None:
        return f"no motion score: {found.reason}{shows}"
    low = " (may be chance)"
    if several_move(spec) and spec.recipe.phase is None:
        low = " (several things move: their mean, which says little)"
    doubt = low if score < chance else ""
    whose = "edited reference" if spec.edits else "reference"
    return f"motion follows the {whose}: {score:.2f}{doubt}{shows}"


def short(prompt: str) -> str:
    """A prompt on one line of a list."""
    line = " ".join(prompt.split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 3].rstrip() + "..."


def evenly(frames: Any) -> Any:
    """The frames that a sheet shows."""
    import numpy as np

    return frames[np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)]


def record(
    target: files.Target,
    made: Any,
    card: MotionCard,
    options: ApplyOptions,
    found: Following,
) -> dict[str, object]:
    """What a video was made from. No times and no paths: equal requests give equal records."""
    return known(target, card, options) | {
        "guided_steps": 0 if options.no_card else made.guided_steps,
        "scheduler": made.scheduler,
        "frames": len(made.frames),
        "fps": made.fps,
        "motion_follows": found.score,
        "motion_follows_reason": found.reason or None,
        "camera_share": found.camera,
        "software": software(),
    }


def known(target: files.Target, card: MotionCard, options: ApplyOptions) -> dict[str, object]:
    """The part of the record that is known before a video is made."""
    spec, used = card.spec, options.settings(card.spec)
    applied = not options.no_card
    backbone = options.backbone or spec.backbone.model_id or spec.backbone.variant
    if backbone in VARIANTS:
        backbone = VARIANTS[backbone].hub_id or backbone
    elif (folder := named(backbone).folder) is not None:
        backbone = folder.resolve().name
    return {
        "video": target.video.name,
        "prompt": target.prompt,
        "negative_prompt": used.negative_prompt,
        "seed": target.seed,
        "drafts": options.drafts,
        "card": {"name": spec.name, "version": spec.version, "digest": spec.digest}
        if applied
        else None,
        "strength": options.strength if applied else 0.0,
        "phase": options.phase if applied else 0.0,
        "camera": options.camera if applied else None,
        "subject": options.subject if applied else None,
        "steps": used.steps,
        "guidance_scale": used.guidance_scale,
        "asked_scheduler": options.scheduler,
        "backbone": backbone,
        "cache": options.cache,
        "compile": options.compile,
        "quantize": options.quantize,
        "loras": [lora.record for lora in options.loras],
        "kv": applied and options.kv_from is not None,
    }
