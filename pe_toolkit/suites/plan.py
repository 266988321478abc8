"""From a suite, methods and settings to jobs: one for each card, one for each video."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation import metric, prepare, trackers
from pe_toolkit.evaluation.contract import NEEDS
from pe_toolkit.jobs.job import Job
from pe_toolkit.suites.methods import Method
from pe_toolkit.suites.suite import Suite, SuiteClip
from pe_toolkit.training.config import TrainConfig
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant

WORK = "pe_toolkit.suites.doing"
SAMPLES = 64
"""Most samples of a training: seeds of different references never meet."""
FAR = 10**6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all methods share: the model, and how it is trained and generates.

    Attributes:
        kv: inject keys and values of the reference in training and applying, as all published rows
            but the first do.
        overrides: as `TrainConfig.with_overrides` takes them.
        metrics: names of `pe_toolkit.evaluation`, beside those that need no download; None: only
            those.
        tracker, grid: what follows points, and how many a side.

    The others are those of `load_backbone` and `TrainConfig`; None means the default.
    """

    backbone: str = "bundled"
    revision: str | None = None
    copy_of: str | None = None
    dtype: str | None = None
    offload: str = "auto"
    quantize: str | None = None
    vae_tiling: bool | None = None
    recipe: Literal["default", "paper", "fast", "rich"] = "default"
    steps: int | None = None
    guidance_scale: float | None = None
    samples: int | None = None
    kv: bool = False
    overrides: tuple[tuple[str, str], ...] = ()
    metrics: tuple[str, ...] | None = None
    tracker: str = "lk"
    grid: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Those that are not at their defaults, so that a new setting changes no job."""
        out = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        if "overrides" in out:
            out["overrides"] = [list(pair) for pair in self.overrides]
        if "metrics" in out:
            out["metrics"] = list(self.metrics or ())
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Settings:
        """What `to_dict` made."""
        pairs = tuple((key, value) for key, value in data.get("overrides", ()))
        names = data.get("metrics")
        metrics = None if names is None else tuple(names)
        return cls(**data | {"overrides": pairs, "metrics": metrics})


@dataclass(frozen=True)
class Video:
    """A video to be made, and where it belongs in the tables."""

    job: Job
    method: Method
    clip: SuiteClip
    kind: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything that is to be done.

    Attributes:
        cards: jobs that train a card.
        videos: jobs that make and score a video.
    """

    suite: Suite
    methods: tuple[Method, ...]
    settings: Settings
    cards: tuple[Job, ...]
    videos: tuple[Video, ...]

    @property
    def jobs(self) -> list[Job]:
        """In an order in which each finds done what it needs: reference by reference."""
        cards = {job.id: job for job in self.cards}
        out: dict[str, Job] = {}
        for video in self.videos:
            for need in video.job.needs:
                out.setdefault(need, cards[need])
            out[video.job.id] = video.job
        return list(out.values())


MEASURING: dict[str, Any] = {"metrics": None, "tracker": Settings.tracker, "grid": None}
"""What a card does not depend on."""
SCORED = "by class"
"""How videos of suites with classes of motion are scored: a part of the job, so that those that an
earlier version scored by one thing's path are made again, and never stand in one table with these.
"""


def plan(suite: Suite, methods: Sequence[Method], settings: Settings) -> Plan:
    """The jobs of a suite.

    Raises:
        UsageError: methods of a suite whose own settings contradict those that were asked for.
    """
    if settings.kv and any(method.kv is False for method in methods) and len(methods) == 1:
        raise UsageError("Expected a method that takes keys and values with --kv, got none.")
    cards: list[Job] = []
    videos: list[Video] = []
    trained = dataclasses.replace(settings, **MEASURING)
    for place, clip in enumerate(suite.clips):
        number = place if clip.number is None else clip.number
        for method in methods:
            needs: tuple[str, ...] = ()
            base = _base(clip, method, settings)
            if method.makes == "card":
                own = _base(clip, method, trained) | _other(number, clip)
                card = Job(f"{method.card_of or method.name}-{clip.name}-card", f"{WORK}:card", own)
                cards.append(card)
                needs = (card.id,)
            videos += _videos(clip, method, base, needs)
    return Plan(suite, tuple(methods), settings, tuple(cards), tuple(videos))


def _base(clip: SuiteClip, method: Method, settings: Settings) -> dict[str, Any]:
    kv = settings.kv if method.kv is None else method.kv
    return {
        "clip": dict(clip.source),
        "name": clip.name,
        "config": dict(method.config),
        "settings": dataclasses.replace(settings, kv=kv).to_dict(),
    } | ({"unrelated": [dict(source) for source in clip.unrelated]} if clip.unrelated else {})


def _other(number: int, clip: SuiteClip) -> dict[str, Any]:
    """Other samples for every reference, as one of them for all would decide its row by itself; and
    none of the seeds and prompts that its videos are made of.
    """
    taken = {seed // SAMPLES for seed in clip.seeds}
    number = next(n for n in itertools.count(number, FAR) if n not in taken)
    avoided = sorted({prompt.text for prompt in clip.prompts} & set(TRAINING_PROMPTS))
    return {"number": number} | ({"avoid": avoided} if avoided else {})


def _videos(
    clip: SuiteClip, method: Method, base: dict[str, Any], needs: tuple[str, ...]
) -> Iterator[Video]:
    for count, prompt in enumerate(clip.prompts, 1):
        for seed in clip.seeds:
            args = base | {"prompt": prompt.text, "seed": seed}
            if needs:
                args["card"] = needs[0]
            if clip.group:
                args["measured"] = SCORED
            if method.drafts > 1:
                args["drafts"] = method.drafts
            which = count if prompt.number is None else prompt.number
            name = f"{method.name}-{clip.name}-p{which}-s{seed}"
            job = Job(name, f"{WORK}:video", args, needs)
            yield Video(job, method, clip, prompt.kind, prompt.text, seed)


def config_of(args: Mapping[str, Any], settings: Settings, seed: int) -> TrainConfig:
    """The training of a job: what the method says comes before what was asked for all of them.

    Raises:
        UsageError: an override that there is not.
    """
    asked = TrainConfig(
        name=args["name"],
        recipe=settings.recipe,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        samples=settings.samples,
        seed=seed,
        kv=settings.kv,
    ).with_overrides(dict(settings.overrides))
    return dataclasses.replace(asked, **args["config"])


def check(made: Plan, variant: Variant | None) -> None:
    """Find before any work what the trainings of a plan would refuse.

    Args:
        variant: row of the backbone, where it is known; else only the words are checked.

    Raises:
        UsageError, UnsupportedError: as `TrainConfig.with_overrides` and `TrainConfig.resolve`;
            metrics that there are not, or of which the suite lacks what they need; no such tracker.
        DependencyError: one that is not installed, or whose weights cannot be had.
    """
    _check_metrics(made)
    first = {video.method.name: video for video in made.videos}
    for video in first.values():
        own = Settings.from_dict(video.job.args["settings"])
        config = config_of(video.job.args, own, video.seed)
        if video.method.makes == "video":
            config = dataclasses.replace(config, prompts=(video.prompt,), samples=1)
        if variant is not None:
            config.resolve(variant)


def _check_metrics(made: Plan) -> None:
    asked = {name: metric(name) for name in made.settings.metrics or ()}
    if asked or made.settings.tracker != Settings.tracker:
        trackers.prepare(made.settings.tracker)
    clips = made.suite.clips
    there: dict[str, bool] = {
        "truth": any("bundled" in clip.source for clip in clips),
        "class": any("bundled" in clip.source and clip.group for clip in clips),
        "unrelated": any(clip.unrelated for clip in clips),
    }
    for name, one in asked.items():
        if missing := [NEEDS[need] for need in sorted(one.needs) if not there.get(need, True)]:
            raise UsageError(
                f"Expected {' and '.join(missing)} for the metric {name}, but the suite "
                f"{made.suite.name} has none.",
                "Leave it out of --metrics (docs/metrics.md says what each needs).",
            )
        prepare(name, one)
