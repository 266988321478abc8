"""What training or generating will need, for `pe doctor`: memory, disk and time by formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli.machine import GB
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.backbones.variants import Variant

PUBLISHED_RATE = 50e12
"""Operations per second that the published run times on an NVIDIA A40 come to."""
GUIDED_SHARE = 0.2
"""The published range: the first 10 of 50 steps."""


def estimate(variant: Variant, o: Mapping[str, Any], gpu_gb: float, rate: float | None) -> Any:
    """Plain values: sizes in decimal gigabytes, seconds; None for a backbone without published
    configuration.

    Args:
        o: frames, size, samples, steps, offload and quantize; None for the backbone's own.
        gpu_gb: memory of the GPU, 0 without one: decides whether training checkpoints.
        rate: measured operations per second, or None.

    Raises:
        UsageError: a size or frame count that the backbone cannot make.
    """
    from pe_toolkit.backbones import memory

    architecture = memory.architecture_for(variant)
    if architecture is None:
        return None
    width, height = o["size"] or (variant.width, variant.height)
    frames = o["frames"] or variant.frames
    _check(frames, width, height)
    steps = o["steps"] or variant.steps
    request = memory.Request.of(
        variant,
        guided=max(1, round(steps * GUIDED_SHARE)),
        frames=frames,
        width=width,
        height=height,
        steps=steps,
        samples=o["samples"],
        offload=o["offload"],
        quantize=o["quantize"],
    )
    kept = memory.train_estimate(architecture, request, checkpointing=False)
    checkpointing = kept.gpu_bytes > (gpu_gb or variant.min_gpu_gb) * GB
    train = (
        memory.train_estimate(architecture, request, checkpointing=True) if checkpointing else kept
    )
    apply = memory.apply_estimate(architecture, request)
    other = {}
    for offload in ("none", "model", "group"):
        moved = replace(request, offload=offload)
        peak = memory.train_estimate(architecture, moved, checkpointing=checkpointing)
        other[offload] = {
            "train_gb": peak.gpu_bytes / GB,
            "apply_gb": memory.apply_estimate(architecture, moved).gpu_bytes / GB,
        }
    speed = rate or PUBLISHED_RATE
    return {
        "frames": frames,
        "size": f"{width}x{height}",
        "samples": request.samples,
        "steps": steps,
        "parameters": architecture.parameters,
        "checkpointing": checkpointing,
        "rate": speed,
        "rate_measured": rate is not None,
        "train": _facts(train, speed),
        "apply": _facts(apply, speed),
        "by_offload": other,
        "main_memory_gb": apply.main_bytes / GB,
        "download_gb": variant.download_gb,
        "card_gb": memory.card_bytes(architecture, request) / GB,
    }


def rows(e: Mapping[str, Any]) -> dict[str, str]:
    """The same for people."""
    how = "checkpointing on" if e["checkpointing"] else "checkpointing off"
    rate = f"{e['rate'] / 1e12:.0f} TFLOP/s"
    basis = f"{rate} measured here" if e["rate_measured"] else f"at {rate}, as published on an A40"
    return {
        "estimate for": f"{e['frames']} frames of {e['size']}, {e['steps']} steps, "
        f"{e['samples']} sample{'s' if e['samples'] != 1 else ''}",
        "train": f"{_line(e['train'])}, {how}",
        "apply": _line(e["apply"]),
        "by --offload": "; ".join(
            f"{name}: train {x['train_gb']:.1f}, apply {x['apply_gb']:.1f} GB"
            for name, x in e["by_offload"].items()
        ),
        "time basis": basis + "; formulas, not a measurement",
        "main memory": f"{e['main_memory_gb']:.0f} GB of weights while loading",
        "disk": f"{e['download_gb']:.1f} GB once, and at most {_size(e['card_gb'])} a card",
    }


def _facts(estimate: Any, rate: float) -> dict[str, Any]:
    return {
        "gpu_gb": estimate.gpu_bytes / GB,
        "peak_at": estimate.stage,
        "parts_gb": {name: size / GB for name, size in estimate.parts.items()},
        "pflop": estimate.flops / 1e15,
        "seconds": estimate.flops / rate,
    }


def _line(facts: Mapping[str, Any]) -> str:
    parts = " + ".join(f"{name} {size:.1f}" for name, size in facts["parts_gb"].items())
    minutes = facts["seconds"] / 60
    return (
        f"{facts['gpu_gb']:.1f} GB of GPU memory at {facts['peak_at']} ({parts} + 1.0 assumed), "
        f"about {minutes:.0f} min ({facts['pflop']:.1f} PFLOP)"
    )


def _size(gigabytes: float) -> str:
    return f"{gigabytes * 1000:.0f} MB" if gigabytes < 1 else f"{gigabytes:.1f} GB"


def _check(frames: int, width: int, height: int) -> None:
    if width % 16 or height % 16:
        raise UsageError(
            f"Expected a width and height in multiples of 16 pixels, got {width}x{height}.",
            f"Use --size {max(1, width // 16) * 16}x{max(1, height // 16) * 16}.",
        )
    if frames < 8 or frames % 8 > 1:
        near = max(1, round((frames - 1) / 8)) * 8 + 1
        raise UsageError(
            f"Expected a frame count of 8k + 1 or 8k, got {frames}.", f"Use --frames {near}."
        )
