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
    from pe_toolkit.backbones.variants import VARIANTS

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
    given += [name for name in ("offload", "quantize") if o[name] != "none"]
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
    free, have = facts["cache"]["free_gb"], max((g["total_gb"] for g in facts["gpus"]), default=0.0)
    lacking = []
    expected = estimate.estimate(variant, o, have, machine.measured_rate() if have else None)
    wanted, remedy = variant.min_gpu_gb, ""
    if expected is not None:
        wanted = max(expected["train"]["gpu_gb"], expected["apply"]["gpu_gb"])
        remedy = _remedy(expected, o["offload"], wanted, have)
    if have < wanted * machine.ENOUGH and not (have and remedy):
        here = f"the largest here has {have:.0f} GB" if have else "there is none"
        lacking.append(f"a CUDA GPU with {wanted:.0f} GB{remedy} ({here})")
    if cached != "yes" and free < variant.download_gb:
        lacking.append(f"{variant.download_gb:.1f} GB of disk ({free:.1f} GB are free)")
    instead = f"; use --backbone {facts['auto']['backbone']}" if lacking else ""
    return {
        "name": chosen,
        "fits": not lacking,
        "verdict": f"does not fit: it needs {' and '.join(lacking)}{instead}"
        if lacking
        else f"fits{remedy if have < wanted * machine.ENOUGH else ''}",
        "needs": {
            "download": f"{variant.download_gb:.1f} GB (cached: {cached})",
            "makes": f"{variant.frames} frames of {variant.width}x{variant.height}",
        }
        | (estimate.rows(expected) if expected is not None else {}),
        "estimate": expected,
    }


def _remedy(expected: Mapping[str, Any], offload: str, wanted: float, have: float) -> str:
    """The first offload mode that would do (without a GPU: that would need less), or nothing."""
    modes = list(expected["by_offload"].items())
    if offload != "none":
        return ""
    for name, sizes in modes[1:]:
        peak = max(sizes["train_gb"], sizes["apply_gb"])
        if peak <= have / machine.ENOUGH or (not have and peak < wanted):
            return f", {peak:.0f} GB with --offload {name}"
    return ""
