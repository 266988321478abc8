"""The options of `pe eval --suite`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.cli.loading import BackboneOptions

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
