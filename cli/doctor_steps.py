"""The parts of `pe doctor`: what is here, and what a backbone needs."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from pe_toolkit.cli import machine, versions


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


def needs(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a backbone needs beside what is here; `fits` says whether it will run."""
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
    if have < variant.min_gpu_gb * machine.ENOUGH:
        here = f"the largest here has {have:.0f} GB" if have else "there is none"
        lacking.append(f"a CUDA GPU with {variant.min_gpu_gb:.0f} GB ({here})")
    if cached != "yes" and free < variant.download_gb:
        lacking.append(f"{variant.download_gb:.1f} GB of disk ({free:.1f} GB are free)")
    instead = f"; use --backbone {facts['auto']['backbone']}" if lacking else ""
    return {
        "name": chosen,
        "fits": not lacking,
        "verdict": f"does not fit: it needs {' and '.join(lacking)}{instead}"
        if lacking
        else "fits",
        "needs": {
            "download": f"{variant.download_gb:.1f} GB (cached: {cached})",
            "GPU": f"at least {variant.min_gpu_gb:.0f} GB; less with --offload model or group",
            "makes": f"{variant.frames} frames of {variant.width}x{variant.height}",
        },
    }
