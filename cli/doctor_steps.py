"""The parts of `pe doctor`: what is here, and what a backbone needs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_toolkit.cli import estimate, machine, versions
from pe_toolkit.errors import UsageError


def examine() -> dict[str, Any]:
    """Everything about the machine, as plain values."""
    from pe_toolkit.backbones.catalogue.variants import VARIANTS

    found, trouble = machine.gpus()
    chosen, why = machine.choose_auto(found)
    memory = machine.memory_gb()
    return {
        "pe_toolkit": versions.toolkit_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {
            name: {
                "installed": versions.installed(name),
                "tested": tested,
                "state": versions.state(name),
            }
            for name, tested in versions.TESTED.items()
        },
        "cores": os.cpu_count() or 1,
        "gpus": [vars(gpu) for gpu in found],
        "trouble": trouble,
        "memory_free_gb": memory and memory[0],
        "memory_total_gb": memory and memory[1],
        "disk_free_gb": machine.disk_free_gb(Path()),
        "cache": {
            "folder": machine.hub_cache(),
            "free_gb": machine.disk_free_gb(machine.hub_cache()),
            "backbones": {v.name: machine.cached(v.hub_id) for v in VARIANTS.values() if v.hub_id},
        },
        "bundled": machine.bundled_here(),
        "auto": {"backbone": chosen, "why": why},
    }


def check_usage(backbone: str | None, o: Mapping[str, Any]) -> None:
    """Refuse options of the estimate without a backbone to estimate.

    Raises:
        UsageError: names the option.
    """
    given = [name for name in ("frames", "size", "samples", "steps") if o[name] is not None]
    given += [name for name in ("offload", "quantize") if o[name] not in ("auto", "none")]
    if backbone is None and given:
        raise UsageError(
            f"Expected --backbone with --{given[0]}: the estimate is for one.",
            "Add --backbone cogvideox-5b, or leave it out.",
        )


def needs(name: str, facts: dict[str, Any], o: Mapping[str, Any]) -> dict[str, Any]:
    """What a backbone needs beside what is here; `fits` says whether it will run.

    Raises:
        UsageError: an unknown backbone, or a clip that it cannot make.
    """
    chosen, variant, _ = machine.resolve(name, None)
    if variant is None:
        return {"name": chosen, "fits": True, "verdict": "not in our table: try it", "needs": {}}
    if variant.hub_id is None:
        there = machine.bundled_here(variant.name)
        verdict = "fits: runs on any CPU" if there else "missing: reinstall, or make train-bundled"
        return {"name": chosen, "fits": there, "verdict": verdict, "needs": {"download": "none"}}
    cached = machine.cached(variant.hub_id)
    disk = facts["cache"]["free_gb"]
    # The one that loading takes; what another holds is no help.
    gpu = facts["gpus"][0]["free_gb"] if facts["gpus"] else None
    expected = estimate.estimate(variant, o, gpu, machine.measured_rate() if gpu else None)
    assert expected is not None, "every backbone on the Hub has a published configuration"
    fits, verdict = estimate.verdict(expected, gpu)
    lacking = [] if fits else [verdict]
    if cached != "yes" and disk < variant.download_gb:
        lacking.append(f"{variant.download_gb:.1f} GB of disk ({disk:.1f} GB are free)")
    if lacking:
        other = facts["auto"]["backbone"]
        instead = f"; use --backbone {other}" if other != chosen else ""
        verdict = f"does not fit: it needs {' and '.join(lacking)}{instead}"
    return {
        "name": chosen,
        "fits": not lacking,
        "verdict": verdict,
        "needs": {
            "download": f"{variant.download_gb:.1f} GB (cached: {cached})",
            "makes": f"{variant.frames} frames of {variant.width}x{variant.height}",
        }
        | estimate.rows(expected),
        "estimate": expected,
    }
