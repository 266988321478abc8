"""What the jobs of a suite do: train a card, make a video and score it. Runs in worker processes.

DIR/cards/ID.safetensors     a card
DIR/videos/ID.mp4            a video, named after its job
DIR/references/NAME-DIGITS.mp4   the reference, as the backbone sees it; the digits are of it
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.apply.request import ApplyRequest, Conditions
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import CardError, ResumeError
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.jobs.job import Place
from pe_toolkit.suites.loaded import backbone, machine
from pe_toolkit.suites.plan import SAMPLES, Settings, config_of
from pe_toolkit.suites.reading import read_source
from pe_toolkit.suites.scoring import score
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, PreviewFrames
from pe_toolkit.training.request import PAPER_FRAMES
from pe_toolkit.video import Clip, write_video
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pe_toolkit.apply.generation import Generated


def card(args: dict[str, Any], place: Place) -> dict[str, Any]:
    """Train a card for a reference, with prompts and seeds of its own."""
    adapter, settings = _adapter(args, place), Settings.from_dict(args["settings"])
    clip = _clip(args, adapter, settings)
    config = config_of(args, settings, seed=SAMPLES * args["number"])
    if adapter.variant is not None and adapter.variant.bundled:
        count = config.resolve(adapter.variant).samples
        others = [text for text in TRAINING_PROMPTS if text not in args.get("avoid", ())]
        own = [others[(args["number"] + n) % len(others)] for n in range(count)]
        config = dataclasses.replace(config, prompts=tuple(own))
    made, _, seconds = trained(adapter, clip, config, _below(place, "cards", ".resume"))
    path = _below(place, "cards", ".safetensors")
    made.save(path, force=True)
    _below(place, "cards", ".resume").unlink(missing_ok=True)
    return {
        "card": _relative(path, place),
        "sha256": clip.sha256,
        "seconds": round(seconds, 3),
    } | machine(adapter)


def video(args: dict[str, Any], place: Place) -> dict[str, Any]:
    """Make one video and score it."""
    adapter, settings = _adapter(args, place), Settings.from_dict(args["settings"])
    clip = _clip(args, adapter, settings)
    prompt, seed = args["prompt"], args["seed"]
    began = time.monotonic()
    state = _below(place, "videos", ".resume")
    chosen = {}
    if "card" in args:
        made = _applied(args, place, adapter, clip, settings)
        frames, fps = made.frames, made.fps
        chosen = {"chosen_seed": made.seed} if "drafts" in args else {}
    else:
        config = dataclasses.replace(
            config_of(args, settings, seed), prompts=(prompt,), samples=1, preview=True
        )
        _, shown, _ = trained(adapter, clip, config, state)
        frames, fps = shown.frames, shown.fps
    seconds = time.monotonic() - began
    path = _below(place, "videos", ".mp4")
    write_video(path, frames, fps, force=True)
    scores = score(args, clip, frames, prompt, settings)
    state.unlink(missing_ok=True)
    return (
        {
            "scores": scores,
            "video": _relative(path, place),
            "reference": _reference(args, place, clip),
            "sha256": clip.sha256,
            "seconds": round(seconds, 3),
        }
        | machine(adapter)
        | chosen
    )


def _applied(
    args: dict[str, Any], place: Place, adapter: Backbone, clip: Clip, settings: Settings
) -> Generated:
    """A video that a card guides."""
    path = place.folder / "cards" / f"{args['card']}.safetensors"
    try:
        found = MotionCard.load(path)
    except CardError as error:
        raise CardError(error.message, f"Delete {path}: it is made again.") from error
    prompt, seed = args["prompt"], args["seed"]
    given = Conditions(
        clip if settings.kv else None, clip.frames[0] if adapter.image_to_video else None
    )
    asked = ApplyRequest(prompts=(prompt,), drafts=args.get("drafts", 1))
    if asked.drafts > 1:
        motion = ReferenceMotion.of_card(adapter, found)
        if not motion.silent:
            seed = asked.draft(adapter, found, prompt, seed, motion.rank, given)[0].seed
    (made,) = asked.generate(adapter, found, [prompt], [seed], given)
    return made


def trained(
    adapter: Backbone,
    clip: Clip,
    config: TrainConfig,
    state: Path,
    image: NDArray[np.uint8] | None = None,
) -> tuple[MotionCard, Any, float]:
    """The card, the `PreviewFrames` if any, and seconds. Goes on where a killed one stopped."""

    def run(resume: bool) -> tuple[MotionCard, Any, float]:
        shown = None
        for event in train(adapter, clip, config, state=state, resume=resume, image=image):
            if isinstance(event, PreviewFrames):
                shown = event
            if isinstance(event, Finished):
                return event.card, shown, event.seconds
        raise AssertionError("the trainer always ends with Finished")

    try:
        return run(resume=state.exists())
    except ResumeError:  # of another version, or damaged: the same work from its beginning
        state.unlink(missing_ok=True)
        return run(resume=False)


def _clip(args: dict[str, Any], adapter: Backbone, settings: Settings) -> Clip:
    frames = adapter.frames
    if settings.recipe == "paper" and not adapter.fixed_size:
        frames = min(frames, PAPER_FRAMES)
    return read_source(args["clip"], frames, adapter.size, settings.recipe)


def _adapter(args: dict[str, Any], place: Place) -> Backbone:
    own = Settings.from_dict(args["settings"])
    asked = {
        "name": own.backbone,
        "revision": own.revision,
        "copy_of": own.copy_of,
        "dtype": own.dtype,
        "offload": own.offload,
        "quantize": own.quantize or "none",
        "vae_tiling": own.vae_tiling,
        "published": own.recipe == "paper",
        "device": place.device,
    }
    return backbone(asked)


def _reference(args: dict[str, Any], place: Place, clip: Clip) -> str:
    seen = hashlib.sha256(str((clip.frames.shape, clip.fps)).encode() + clip.frames.tobytes())
    path = place.folder / "references" / f"{args['name']}-{seen.hexdigest()[:10]}.mp4"
    if not path.exists():
        _made(path.parent)
        write_video(path, clip.frames, clip.fps, force=True)
    return _relative(path, place)


def _below(place: Place, kind: str, suffix: str) -> Path:
    return _made(place.folder / kind) / f"{place.id}{suffix}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _relative(path: Path, place: Place) -> str:
    return path.relative_to(place.folder).as_posix()
