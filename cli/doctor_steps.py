"""The parts of `pe doctor`: what is here, and what a backbone needs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.backbones.catalogue.names import named
from pe_toolkit.backbones.loading import trust
from pe_toolkit.cli import doctor_estimate, machine, versions
from pe_toolkit.cli.machine import Gpu
from pe_toolkit.cli.requests.doctor import DoctorOptions


@dataclass(frozen=True)
class Package:
    """One that we stand on; `installed` is None if it is not there."""

    installed: str | None
    tested: str
    state: str


@dataclass(frozen=True)
class Cache:
    """That of the Hugging Face Hub; of each backbone whether it is there: `yes`, `partly`, `no`."""

    folder: Path
    free_gb: float
    backbones: Mapping[str, str]


@dataclass(frozen=True)
class Auto:
    """What `--backbone auto` takes here."""

    backbone: str
    why: str


@dataclass(frozen=True)
class Facts:
    """Everything about the machine; memory in decimal gigabytes, None where nobody says."""

    pe_toolkit: str
    python: str
    system: str
    packages: Mapping[str, Package]
    cores: int
    gpus: list[Gpu]
    trouble: str | None
    memory_free_gb: float | None
    memory_total_gb: float | None
    disk_free_gb: float
    cache: Cache
    bundled: bool
    auto: Auto


@dataclass(frozen=True)
class Fit:
    """Whether a backbone will run here, why, and what it needs beside what is here."""

    name: str
    fits: bool
    verdict: str
    needs: Mapping[str, str]
    estimate: doctor_estimate.Expected | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON: without an estimate where there is none."""
        return {k: v for k, v in vars(self).items() if k != "estimate" or v is not None}


def examine() -> Facts:
    """Look at the machine."""
    from pe_toolkit.backbones.catalogue.variants import VARIANTS

    found, trouble = machine.gpus()
    memory, cache = machine.memory_gb(), machine.hub_cache()
    return Facts(
        pe_toolkit=versions.toolkit_version(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages={
            name: Package(versions.installed(name), tested, versions.state(name))
            for name, tested in versions.TESTED.items()
        },
        cores=os.cpu_count() or 1,
        gpus=found,
        trouble=trouble,
        memory_free_gb=memory and memory[0],
        memory_total_gb=memory and memory[1],
        disk_free_gb=machine.disk_free_gb(Path()),
        cache=Cache(
            folder=cache,
            free_gb=machine.disk_free_gb(cache),
            backbones={v.name: machine.cached(*v.hub_ids) for v in VARIANTS.values() if v.hub_id},
        ),
        bundled=machine.bundled_here(),
        auto=Auto(*machine.choose_auto(found)),
    )


def needs(name: str, facts: Facts, asked: DoctorOptions) -> Fit:
    """What a backbone needs beside what is here; `fits` says whether it will run.

    Raises:
        UsageError: an unknown backbone, or a clip that it cannot make.
        BackboneError: a folder that holds no model.
    """
    chosen, variant, _ = machine.resolve(name, None)
    if variant is None:
        folder = named(chosen).folder
        if folder is not None:  # else nothing is known before it is downloaded
            trust.check_folder(folder, chosen)
        return Fit(chosen, True, "not in our table, so nothing can be estimated: try it", {})
    doctor_estimate.check(variant, asked)
    if variant.hub_id is None:
        there = machine.bundled_here(variant.name)
        verdict = "fits: runs on any CPU" if there else "missing: reinstall, or make train-bundled"
        return Fit(chosen, there, verdict, {"download": "none"})
    cached = machine.cached(*variant.hub_ids)
    disk = facts.cache.free_gb
    # The one that loading takes; what another holds is no help.
    gpu = facts.gpus[0].free_gb if facts.gpus else None
    expected = doctor_estimate.estimate(
        variant, asked, gpu, machine.measured_rate() if gpu else None
    )
    assert expected is not None, "every backbone on the Hub has a published configuration"
    fits, verdict = doctor_estimate.verdict(expected, gpu)
    lacking = [] if fits else [verdict]
    if cached != "yes" and disk < variant.download_gb:
        lacking.append(f"{variant.download_gb:.1f} GB of disk ({disk:.1f} GB are free)")
    memory = facts.memory_total_gb
    if memory is not None and expected.main_memory_gb > memory:
        lacking.append(f"{expected.main_memory_gb:.1f} GB of main memory ({memory:.1f} GB in all)")
    if lacking:
        other = facts.auto.backbone
        instead = f"; use --backbone {other}" if other != chosen else ""
        verdict = f"does not fit: it needs {' and '.join(lacking)}{instead}"
    rows = {
        "download": f"{variant.download_gb:.1f} GB (cached: {cached})",
        "makes": f"{variant.frames} frames of {variant.width}x{variant.height}",
    }
    return Fit(chosen, not lacking, verdict, rows | doctor_estimate.rows(expected), expected)
