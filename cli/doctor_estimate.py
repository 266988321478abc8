"""What training or generating will need, for `pe doctor`: memory, disk and time by formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pe_toolkit.cli.machine import GB
from pe_toolkit.errors import UsageError
from pe_toolkit.grid import frame_counts
from pe_toolkit.training.shape import Shape

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.machine.memory import Request
    from pe_toolkit.backbones.machine.placement import Plan
    from pe_toolkit.cli.requests.doctor import DoctorOptions

PUBLISHED_RATE = 50e12
"""Operations per second that the published run times on an NVIDIA A40 come to."""
GUIDED_SHARE = 0.2
"""The published range: the first 10 of 50 steps."""


@dataclass(frozen=True)
class Task:
    """Training or applying in one offload mode: sizes in decimal gigabytes."""

    offload: str
    fits: bool
    checkpointing: str | None
    gpu_gb: float
    peak_at: str
    parts_gb: Mapping[str, float]
    pflop: float
    seconds: float


@dataclass(frozen=True)
class Expected:
    """What a backbone will need: sizes in decimal gigabytes.

    Attributes:
        asked_offload: perhaps `auto`; the tasks say what that comes to.
        rate: operations per second, `rate_measured` here or published.
        by_offload: of each mode, the peaks `train_gb` and `apply_gb`.
    """

    frames: int
    size: str
    samples: int
    steps: int
    asked_offload: str
    parameters: int
    rate: float
    rate_measured: bool
    train: Task
    apply: Task
    by_offload: Mapping[str, Mapping[str, float]]
    main_memory_gb: float
    download_gb: float
    card_gb: float

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Both, by name."""
        return {"train": self.train, "apply": self.apply}


def estimate(
    variant: Variant, asked: DoctorOptions, free_gb: float | None, rate: float | None
) -> Expected | None:
    """None for a backbone without published configuration.

    Args:
        asked: the clip and the training; None for the backbone's own.
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
    request = _request(variant, asked)
    free = None if free_gb is None else free_gb * GB
    train = placement.plan(architecture, request, "train", free)
    apply = placement.plan(architecture, request, "apply", free)
    speed = rate or PUBLISHED_RATE
    return Expected(
        frames=request.frames,
        size=f"{request.width}x{request.height}",
        samples=request.samples,
        steps=request.steps,
        asked_offload=asked.offload,
        parameters=architecture.parameters,
        rate=speed,
        rate_measured=rate is not None,
        train=_task(train, asked.offload, speed),
        apply=_task(apply, asked.offload, speed),
        by_offload={
            mode: {"train_gb": train.peak(mode) / GB, "apply_gb": apply.peak(mode) / GB}
            for mode in placement.CHOICES
        },
        main_memory_gb=apply.estimates["none"].main_bytes / GB,
        download_gb=variant.download_gb,
        card_gb=memory.card_bytes(architecture, request) / GB,
    )


def _request(variant: Variant, asked: DoctorOptions) -> Request:
    """The same as the memory model wants it."""
    from pe_toolkit.backbones.machine.memory import Request

    width, height = asked.size or (variant.width, variant.height)
    frames, steps = asked.frames or variant.frames, asked.steps or variant.steps
    _check(variant, frames, width, height)
    return Request.of(
        variant,
        guided=max(1, round(steps * GUIDED_SHARE)),
        frames=frames,
        width=width,
        height=height,
        steps=steps,
        samples=asked.samples,
        quantize=asked.quantize,
    )


def rows(e: Expected) -> dict[str, str]:
    """The same for people."""
    rate = f"{e.rate / 1e12:.0f} TFLOP/s"
    basis = f"{rate} measured here" if e.rate_measured else f"at {rate}, as published on an A40"
    return {
        "estimate for": f"{e.frames} frames of {e.size}, {e.steps} steps, "
        f"{e.samples} sample{'s' if e.samples != 1 else ''}",
        "train": _line(e.train),
        "apply": _line(e.apply),
        "by --offload": "; ".join(
            f"{name}: train {x['train_gb']:.1f}, apply {x['apply_gb']:.1f} GB"
            for name, x in e.by_offload.items()
        ),
        "time basis": basis + "; formulas, not a measurement",
        "main memory": f"{e.main_memory_gb:.1f} GB of weights while loading",
        "disk": f"{e.download_gb:.1f} GB once, and at most {_size(e.card_gb)} a card",
    }


def verdict(e: Expected, free_gb: float | None) -> tuple[bool, str]:
    """Whether both tasks fit, and a sentence with the figures of the table below it."""
    if free_gb is None:
        return False, f"a CUDA GPU, of which there is none: {_without_gpu(e)}"
    lacking = [
        f"{task.gpu_gb:.1f} GB of GPU memory to {name} with --offload {task.offload}"
        for name, task in e.tasks.items()
        if not task.fits
    ]
    if lacking:
        return False, (
            f"{' and '.join(lacking)} ({free_gb:.1f} GB are free beside the CUDA context, which is "
            "in these figures)"
        )
    modes = [f"{name} with --offload {task.offload}" for name, task in e.tasks.items()]
    return True, f"fits {free_gb:.1f} GB of free GPU memory: {', '.join(modes)}"


def _without_gpu(e: Expected) -> str:
    """What a GPU would have to have: in the mode asked for, else in the smallest."""
    parts = []
    for name, task in e.tasks.items():
        mode, size = task.offload, task.gpu_gb
        if e.asked_offload == "auto":
            mode, sizes = min(e.by_offload.items(), key=_peak_of(name))
            size = sizes[f"{name}_gb"]
        text = f"{size:.1f} GB to {name} with --offload {mode}"
        if mode != "none":
            text += f" ({e.by_offload['none'][f'{name}_gb']:.1f} GB without)"
        parts.append(text)
    least = "at least " if e.asked_offload == "auto" else ""
    return least + " and ".join(parts)


def _peak_of(task: str) -> Callable[[tuple[str, Mapping[str, float]]], float]:
    return lambda item: item[1][f"{task}_gb"]


def _task(plan: Plan, wanted: str, rate: float) -> Task:
    mode = plan.chosen if wanted == "auto" else wanted
    estimate = plan.estimates[mode]
    return Task(
        offload=mode,
        fits=plan.fits(mode),
        checkpointing=plan.checkpointing.get(mode),
        gpu_gb=estimate.gpu_bytes / GB,
        peak_at=estimate.stage,
        parts_gb={name: size / GB for name, size in estimate.parts.items()},
        pflop=estimate.flops / 1e15,
        seconds=estimate.flops / rate,
    )


def _line(task: Task) -> str:
    parts = " + ".join(f"{name} {size:.1f}" for name, size in task.parts_gb.items())
    how = "" if task.checkpointing is None else f", checkpointing {task.checkpointing}"
    return (
        f"{task.gpu_gb:.1f} GB of GPU memory at {task.peak_at} ({parts} + 1.0 assumed), "
        f"--offload {task.offload}{how}, "
        f"about {task.seconds / 60:.0f} min ({task.pflop:.1f} PFLOP)"
    )


def _size(gigabytes: float) -> str:
    return f"{gigabytes * 1000:.0f} MB" if gigabytes < 1 else f"{gigabytes:.1f} GB"


def check(variant: Variant, asked: DoctorOptions) -> None:
    """Refuse a clip that a backbone cannot make.

    Raises:
        UsageError: says what it makes.
    """
    width, height = asked.size or (variant.width, variant.height)
    _check(variant, asked.frames or variant.frames, width, height)


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
            f"Expected a frame count such as {frame_counts()}, got {frames}.",
            f"Use --frames {near}.",
        )
