"""The options of `pe eval`: of a pair of clips, and of a suite."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.cli.options import given
from pe_toolkit.errors import UsageError, option

if TYPE_CHECKING:
    from pe_toolkit.suites.plan import Settings


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Where jobs are done.

    Attributes:
        jobs: how many at a time; None: one on every GPU, or one on the CPU.
        ray: address of a cluster.
        gpus_per_job: share of a GPU that a job gets on a cluster; None: one, where the backbone
            needs a GPU.
    """

    jobs: int | None = None
    ray: str | None = None
    gpus_per_job: float | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuringOptions:
    """What both forms of `pe eval` are told.

    Attributes:
        names: of metrics; None: all for which everything is there.
        tracker, grid: who follows points, from a grid of so many a side; None: the tracker's own.
    """

    names: tuple[str, ...] | None = None
    tracker: str = "lk"
    grid: int | None = None


@dataclass(frozen=True, kw_only=True)
class MethodOptions(BackboneOptions, JobOptions):
    """How much of a suite is done, and how its methods train and generate."""

    references: int | None = None
    seed_count: int | None = None
    kinds: tuple[str, ...] = ()
    recipe: str = "default"
    steps: int | None = None
    guidance_scale: float | None = None
    samples: int | None = None
    with_kv: bool = False
    overrides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class SuiteOptions(MethodOptions, MeasuringOptions):
    """What is evaluated, how, and where the results go."""

    backbone: str
    suite: str
    output: Path
    methods: str

    def settings(self, backbone: str) -> Settings:
        """What all jobs share, with the backbone that `auto` stands for."""
        from pe_toolkit.suites.plan import Settings

        return Settings(
            backbone=backbone,
            revision=self.revision,
            copy_of=self.copy_of,
            dtype=self.dtype,
            offload=self.offload,
            quantize=None if self.quantize == "none" else self.quantize,
            vae_tiling=self.vae_tiling,
            recipe=self.recipe,  # type: ignore[arg-type]
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            samples=self.samples,
            kv=self.with_kv,
            overrides=self.overrides,
            metrics=self.names,
            tracker=self.tracker,
            grid=self.grid,
        )


@dataclass(frozen=True, kw_only=True)
class PairOptions(MeasuringOptions):
    """One pair of clips, and what is measured of it. See `evaluation.pair`.

    Attributes:
        card: the reference is read as in the training of this one; None: whole.

    Raises:
        UsageError: options that do not go together.
    """

    reference: Path
    video: Path
    card: Path | None
    prompt: str | None
    unrelated: tuple[Path, ...]
    tracks_ref: Path | None
    tracks_video: Path | None
    align: Literal["span", "frames"]
    frames: int | None
    size: tuple[int, int] | None

    def __post_init__(self) -> None:
        if self.reference is None or self.video is None:
            raise UsageError(
                "Expected --ref and --video, got one of them.",
                "pe eval --ref ref.mp4 --video new.mp4",
            )
        if (self.tracks_ref is None) != (self.tracks_video is None):
            raise UsageError("Expected tracks of both clips: --tracks-ref and --tracks-video.")
        if self.tracks_ref is not None and (given("tracker") or self.grid is not None):
            raise UsageError("Expected tracks from files, or --tracker and --grid, got both.")
        also = [name for name in ("frames", "size", "tracks_ref") if getattr(self, name)]
        if self.card is not None and also:
            raise UsageError(
                f"Expected --card, which says how the reference is read, or {option(also[0])}, got "
                "both."
            )


@dataclass(frozen=True, kw_only=True)
class EvalOptions(MethodOptions, MeasuringOptions):
    """Everything that `pe eval` can be told, in either form: `PairOptions` and `SuiteOptions`."""

    reference: Path | None = None
    video: Path | None = None
    card: Path | None = None
    prompt: str | None = None
    unrelated: tuple[Path, ...] = ()
    tracks_ref: Path | None = None
    tracks_video: Path | None = None
    align: Literal["span", "frames"] = "span"
    frames: int | None = None
    size: tuple[int, int] | None = None
    html: Path | None = None
    suite: str | None = None
    output: Path | None = None
    methods: str = ""

    def form(self) -> PairOptions | SuiteOptions:
        """What is asked for: one pair of clips, or a suite.

        Raises:
            UsageError: neither, both, or options of the one with the other.
        """
        pair, suite = _names(PairOptions), _names(SuiteOptions)
        if self.reference is not None or self.video is not None:
            self._refuse(suite - pair, "one pair of clips (--ref, --video)")
            return PairOptions(**self._values(pair))
        if self.suite is None:
            raise UsageError(
                "Expected --suite, or --ref and --video, got none.", "See pe eval --help."
            )
        if self.output is None:
            raise UsageError("Expected -o, got none.", "See pe eval --help.")
        self._refuse(pair - suite, "a suite (--suite)")
        return SuiteOptions(**self._values(suite))

    def _values(self, names: set[str]) -> Any:
        return {name: getattr(self, name) for name in names}

    def _refuse(self, names: set[str], what: str) -> None:
        """Refuse options of the other form that were given."""
        for field in fields(self):
            if field.name in names and given(field.name):
                raise UsageError(
                    f"Expected options of {what}, got {option(field.name)} as well.",
                    "A pair and a suite are two commands: see pe eval --help.",
                )


def _names(kind: type[PairOptions] | type[SuiteOptions]) -> set[str]:
    return {field.name for field in fields(kind)}
