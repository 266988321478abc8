"""What training or generating will need, for `pe doctor`: memory, disk and time by formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli.machine import GB
from pe_toolkit.errors import UsageError
from pe_toolkit.training.shape import Shape

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.machine.placement import Plan

PUBLISHED_RATE = 50e12
"""Operations per second that the published run times on an NVIDIA A40 come to."""
GUIDED_SHARE = 0.2
"""The published range: the first 10 of 50 steps."""


def estimate(
    variant: Variant, o: Mapping[str, Any], free_gb: float | None, rate: float | None
) -> Any:
    """Plain values: sizes in decimal gigabytes, seconds; None for a backbone without published
    configuration.

    Args:
        o: frames, size, samples, steps, offload and quantize; None for the backbone's own.
        free_gb: what the GPU can still give, None without one: decides offloading and
            checkpointing, as the loading of the backbone would.
        rate: measured operations per second, or None.

    Raises:
        UsageError: a size or frame count that the backbone cannot make.
    """
    from pe_toolkit.backbones.catalogue import architectures
    from pe_toolkit.backbones.machine import memory, placement

    architecture = architectures.architecture_for(variant)
    if architecture is None:
        return None
    width, height = o["size"] or (variant.width, variant.height)
    frames = o["frames"] or variant.frames
    _check(variant, frames, width, height)
    steps = o["steps"] or variant.steps
    request = memory.Request.of(
        variant,
        guided=max(1, round(steps * GUIDED_SHARE)),
        frames=frames,
        width=width,
        height=height,
        steps=steps,
        samples=o["samples"],
        quantize=o["quantize"],
    )
    free = None if free_gb is None else free_gb * GB
    plans = {
        "train": placement.plan(architecture, request, "train", free),
        "apply": placement.plan(architecture, request, "apply", free),
    }
    speed = rate or PUBLISHED_RATE
    return {
        "frames": frames,
        "size": f"{width}x{height}",
        "samples": request.samples,
        "steps": steps,
        "asked_offload": o["offload"],
        "parameters": architecture.parameters,
        "rate": speed,
        "rate_measured": rate is not None,
        **{task: _task(plan, o["offload"], speed) for task, plan in plans.items()},
        "by_offload": {
            mode: {f"{task}_gb": plan.peak(mode) / GB for task, plan in plans.items()}
            for mode in placement.CHOICES
        },
        "main_memory_gb": plans["apply"].estimates["none"].main_bytes / GB,
        "download_gb": variant.download_gb,
        "card_gb": memory.card_bytes(architecture, request) / GB,
    }


def rows(e: Mapping[str, Any]) -> dict[str, str]:
    """The same for people."""
    rate = f"{e['rate'] / 1e12:.0f} TFLOP/s"
    basis = f"{rate} measured here" if e["rate_measured"] else f"at {rate}, as published on an A40"
    return {
        "estimate for": f"{e['frames']} frames of {e['size']}, {e['steps']} steps, "
        f"{e['samples']} sample{'s' if e['samples'] != 1 else ''}",
        "train": _line(e["train"]),
        "apply": _line(e["apply"]),
        "by --offload": "; ".join(
            f"{name}: train {x['train_gb']:.1f}, apply {x['apply_gb']:.1f} GB"
            for name, x in e["by_offload"].items()
        ),
        "time basis": basis + "; formulas, not a measurement",
        "main memory": f"{e['main_memory_gb']:.1f} GB of weights while loading",
        "disk": f"{e['download_gb']:.1f} GB once, and at most {_size(e['card_gb'])} a card",
    }


def verdict(e: Mapping[str, Any], free_gb: float | None) -> tuple[bool, str]:
    """Whether both tasks fit, and a sentence with the figures of the table below it."""
    tasks = {"train": e["train"], "apply": e["apply"]}
    if free_gb is None:
        return False, f"a CUDA GPU, of which there is none: {_without_gpu(e, tasks)}"
    lacking = [
        f"{facts['gpu_gb']:.1f} GB of GPU memory to {task} with --offload {facts['offload']}"
        for task, facts in tasks.items()
        if not facts["fits"]
    ]
    if lacking:
        return False, (
            f"{' and '.join(lacking)} ({free_gb:.1f} GB are free beside the CUDA context, which is "
            "in these figures)"
        )
    modes = [f"{task} with --offload {facts['offload']}" for task, facts in tasks.items()]
    return True, f"fits {free_gb:.1f} GB of free GPU memory: {', '.join(modes)}"


def _without_gpu(e: Mapping[str, Any], tasks: Mapping[str, Any]) -> str:
    """What a GPU would have to have: in the mode asked for, else in the smallest."""
    parts = []
    for task, facts in tasks.items():
        mode, size = facts["offload"], facts["gpu_gb"]
        if e["asked_offload"] == "auto":
            mode, sizes = min(e["by_offload"].items(), key=_peak_of(task))
            size = sizes[f"{task}_gb"]
        text = f"{size:.1f} GB to {task} with --offload {mode}"
        if mode != "none":
            text += f" ({e['by_offload']['none'][f'{task}_gb']:.1f} GB without)"
        parts.append(text)
    least = "at least " if e["asked_offload"] == "auto" else ""
    return least + " and ".join(parts)


def _peak_of(task: str) -> Callable[[tuple[str, Mapping[str, float]]], float]:
    return lambda item: item[1][f"{task}_gb"]


def _task(plan: Plan, wanted: str, rate: float) -> dict[str, Any]:
    mode = plan.chosen if wanted == "auto" else wanted
    estimate = plan.estimates[mode]
    return {
        "offload": mode,
        "fits": plan.fits(mode),
        "checkpointing": plan.checkpointing.get(mode),
    } | _facts(estimate, rate)


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
    how = f", checkpointing {facts['checkpointing']}"
    return (
        f"{facts['gpu_gb']:.1f} GB of GPU memory at {facts['peak_at']} ({parts} + 1.0 assumed), "
        f"--offload {facts['offload']}{how if facts['checkpointing'] is not None else ''}, "
        f"about {minutes:.0f} min ({facts['pflop']:.1f} PFLOP)"
    )


def _size(gigabytes: float) -> str:
    return f"{gigabytes * 1000:.0f} MB" if gigabytes < 1 else f"{gigabytes:.1f} GB"


def _check(variant: Variant, frames: int, width: int, height: int) -> None:
    Shape.of_variant(variant).check(frames, (width, height))
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
