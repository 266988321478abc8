"""Videos with a card, each beside the same without it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli import apply_steps, prompts
from pe_toolkit.cli.apply_output import score_words
from pe_toolkit.cli.page.work import Job

if TYPE_CHECKING:
    from pe_toolkit.apply.request import ApplyRequest
    from pe_toolkit.card import CardSpec
    from pe_toolkit.cli.page.studio import Studio


ALL_OFF: dict[str, Any] = {
    "strength": 1.0, "phase": None, "camera": None, "subject": None, "drafts": 1
}  # fmt: skip
"""Whatever was asked of the card, it is the same video without it."""


@dataclass(frozen=True)
class Row:
    """Videos of one prompt and seed, to be compared; `drafts`: how many the seed is the best of."""

    prompt: str
    seed: int
    reference: Path | None
    plain: Path | None
    card: Path
    kept: Path
    score: str
    drafts: int


def make(
    studio: Studio,
    job: Job,
    chosen: str,
    request: ApplyRequest,
    *,
    compare: bool,
    reference: Path | None,
    free: bool = False,
) -> list[Row]:
    """Videos that move as a card says, each beside the same without the card.

    Args:
        chosen: a value of `choices`.
        reference: a clip to show beside them; default: the card's own, if it was made here.
        free: with as many drafts as pay.

    Raises:
        PeError: as `pe apply`.
    """
    from pe_toolkit.card import MotionCard
    from pe_toolkit.registry.references import local

    request.check()
    card, adapter = MotionCard.load(studio.path(chosen)), studio.load(job)
    spec, said = card.spec, studio.said
    pairs = list(itertools.product(request.prompts, request.seeds_for(spec)))
    own = studio.trained.get(chosen)
    reference = own.reference if reference is None and own is not None else reference
    prompts.warn_unknown(said, request.prompts, studio.name)
    apply_steps.warn_prompts(spec, request, said)
    request = _completed(request, spec, reference, drafts=free and studio.bundled)
    shown = _beside(studio, reference, spec)
    given, motion = request.read(spec), apply_steps.motion(adapter, card, None)
    judge = apply_steps.judge(adapter, card, request.drafts, motion, said, asked=not free)
    called = local(chosen).name if own is None else spec.name
    count = len(pairs) * (each := 1 + compare + (judge is not None))
    for index, (prompt, seed) in enumerate(pairs):
        drafts, first, plain = 0, index * each, None
        if judge is not None:
            on_step = _steps(job, "Drafts", first, count, request.drafts)
            found = request.draft(adapter, card, prompt, seed, judge.rank, given, on_step)
            drafts, seed, first = len(found), found[0].seed, first + 1

        def one(asked: ApplyRequest, at: int, what: str, pair: Any = (prompt, seed)) -> Any:
            on_step = _steps(job, what, at, count)
            [made] = asked.generate(adapter, card, [pair[0]], [pair[1]], given, on_step)
            return made

        if compare:
            asked = _plain(request, prompt, seed)
            key = (asked, spec.clip, asked.settings(spec), spec.schedule.dynamic_cfg)
            if key not in studio.plain:
                studio.plain[key] = _write(studio, one(asked, first, "Without the card"), "plain")
            plain = studio.plain[key]
        made = one(request, first + compare, "With the card")
        videos = (shown, plain, *_kept(studio, made, spec, called))
        job.made.append(Row(prompt, seed, *videos, _score(motion, made.frames, spec), drafts))
        job.changed()
    return job.made


def _completed(
    request: ApplyRequest, spec: CardSpec, clip: Path | None, *, drafts: bool
) -> ApplyRequest:
    """With the clip, of a card that was trained with its keys and values; drafts that pay."""
    if spec.recipe.kv == "required":
        request = dataclasses.replace(request, kv_from=clip)
    return request.with_drafts(spec, bundled=True) if drafts else request


def _plain(request: ApplyRequest, prompt: str, seed: int) -> ApplyRequest:
    """One of its videos without the card."""
    one: dict[str, Any] = {"no_card": True, "prompts": (prompt,), "seeds": (seed,)}
    return dataclasses.replace(request, **one, **ALL_OFF)


def _beside(studio: Studio, reference: Path | None, spec: CardSpec) -> Path | None:
    """The reference as the card saw it, to be shown beside."""
    from pe_toolkit.video import write_video

    clip = apply_steps.read_beside(reference, spec, studio.said)
    if clip is None:
        return None
    return write_video(studio.place("reference.mp4"), clip.frames, spec.clip.fps)


def _write(studio: Studio, made: Any, name: str, more: dict[str, str] | None = None) -> Path:
    from pe_toolkit.video import write_video

    texts = {"prompt": made.prompt, "seed": str(made.seed)} | (more or {})
    return write_video(studio.place(f"{name}.mp4"), made.frames, made.fps, metadata=texts)


def _kept(studio: Studio, made: Any, spec: CardSpec, name: str) -> tuple[Path, Path]:
    """A video with the card, where the page may show it, and where it is kept."""
    from pe_toolkit.video.output import write_atomic

    texts = {"card": f"{spec.name} {spec.version}", "card_digest": spec.digest}
    video, kept = _write(studio, made, "card", texts), studio.free(name, ".mp4")
    write_atomic(kept, video.read_bytes())
    return video, kept


def _steps(job: Job, what: str, at: int, count: int, runs: int = 1) -> Callable[[int, int], None]:
    """The `on_step` of what is number `at` of `count`, in at most `runs` generations; stops between
    two steps.
    """
    over = 0

    def on_step(done: int, total: int) -> None:
        nonlocal over
        note = f"{what}: step {done} of {total}" if done < total else f"{what}: decoding"
        job.tell((at + (over + done / (total + 1)) / runs) / count, note)
        over += done == total

    job.tell(at / count, f"{what}: beginning")
    return on_step


def _score(motion: Any, frames: Any, spec: CardSpec) -> str:
    """How well a video follows, in the words of `pe apply`; "" where it is not measured."""
    if motion is None:
        return ""
    found = motion.compare(frames)
    return score_words(found, spec, motion.chance)
