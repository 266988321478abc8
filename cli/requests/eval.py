"""The options of `pe eval`: of a pair of clips, and of a suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.cli.options import given
from pe_toolkit.errors import UsageError

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
class SuiteOptions(BackboneOptions, JobOptions):
    """What is evaluated, how, and where the results go."""

    backbone: str
    suite: str
    output: Path
    methods: str
    references: int | None = None
    seeds: int | None = None
    kinds: tuple[str, ...] = ()
    recipe: str = "default"
    steps: int | None = None
    guidance_scale: float | None = None
    samples: int | None = None
    with_kv: bool = False
    overrides: tuple[tuple[str, str], ...] = ()

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
        )


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """One pair of clips, and what is measured of it. See `evaluation.pair`.

    Raises:
        UsageError: options that do not go together.
    """

    reference: Path
    video: Path
    prompt: str | None
    names: tuple[str, ...] | None
    unrelated: tuple[Path, ...]
    tracker: str
    grid: int | None
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
