"""Which parts of a backbone can stay on a GPU: decided by the memory model, before it is loaded.

Arithmetic only; imports no torch, so that `pe doctor` says the same as what loading does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from pe_toolkit.backbones.catalogue.architectures import HEAD, Architecture
from pe_toolkit.backbones.machine import recompute
from pe_toolkit.backbones.machine.memory import (
    BYTES,
    OVERHEAD,
    Estimate,
    Request,
    apply_estimate,
    train_estimate,
    train_weights,
    unit_bytes,
)
from pe_toolkit.backbones.machine.recompute import Level
from pe_toolkit.errors import DeviceError, UnsupportedError

Task = Literal["train", "apply"]
CHOICES = ("none", "model", "group")
"""What `auto` picks from, fastest first. Sequential needs hardly less than group, at many times
its transfers.
"""
ALONE: Mapping[Task, tuple[str, ...]] = {"train": ("model", "none", "group"), "apply": CHOICES}
"""The same for a backbone that is loaded for one task, best first. A training uses its parts one
after the other: moving each in when its turn comes takes seconds of all of it, and spares the GPU
the text encoder (9.5 GB of CogVideoX).
"""
LEAVING = ("group", "sequential")
"""Modes in which a weight is only there during its layer's forward pass."""
SHARE = 0.95
"""Of the free memory, what is planned for; the rest is for the allocator's rounding."""
TRUST = 0.85
"""How far below its estimate a peak may lie: less memory than that is refused."""
GB = 1e9


@dataclass(frozen=True)
class Purpose:
    """What a backbone is loaded for; what is None is the backbone's own.

    Attributes:
        tasks: the dearest of them decides.
        frames, size: of the clip, size as (width, height) in pixels.
        checkpointing: of a training: one of `machine.checkpointing.CHECKPOINTING`.
        cache, tiling: of a generation: its step cache, and whether it is decoded in tiles.
        compiled: whether blocks are.
    """

    tasks: tuple[Task, ...] = ("train", "apply")
    frames: int | None = None
    size: tuple[int, int] | None = None
    checkpointing: str = "auto"
    cache: str = "none"
    tiling: bool = True
    compiled: bool = False

    def of(self, request: Request) -> Request:
        """The request as it is for this purpose."""
        width, height = self.size or (request.width, request.height)
        return replace(
            request,
            frames=self.frames or request.frames,
            width=width,
            height=height,
            cache=self.cache,
            tiling=self.tiling,
        )

    def within(self, config: Any) -> Purpose:
        """The same on a transformer of that configuration: learned positions allow one size."""
        if config.use_learned_positional_embeddings:
            return replace(self, frames=None, size=None)
        return self


@dataclass(frozen=True)
class Plan:
    """Estimated peaks of one task by offload mode, and the mode to take.

    Attributes:
        task: what it is for.
        free_bytes: what the GPU can still give; None if there is none to ask.
        estimates: of every mode that the task can use.
        checkpointing: in a training, how much is recomputed in that mode.
    """

    task: Task
    free_bytes: float | None
    estimates: Mapping[str, Estimate]
    checkpointing: Mapping[str, Level]

    @property
    def chosen(self) -> str:
        """What `auto` takes for this task alone; without a GPU to ask, where there is enough."""
        return self.first(ALONE[self.task])

    def first(self, order: tuple[str, ...]) -> str:
        """The first mode that fits; the smallest if none does; the first without a GPU."""
        if self.free_bytes is None:
            return order[0]
        modes = [mode for mode in order if mode in self.estimates]
        smallest = min(modes, key=self.peak)
        return next((mode for mode in modes if self.fits(mode)), smallest)

    def peak(self, mode: str) -> float:
        """Estimated bytes on the GPU at the worst moment."""
        return self.estimates[mode].gpu_bytes

    def needed(self, mode: str) -> float:
        """The part of the peak that has to be free: who asks what is free has its CUDA context."""
        return self.peak(mode) - OVERHEAD

    def fits(self, mode: str) -> bool:
        """Whether what is needed is free, with a little to spare."""
        return self.free_bytes is not None and self.needed(mode) <= self.free_bytes * SHARE


def check(purpose: Purpose, offload: str, quantize: str) -> None:
    """Refuse a training that keeps its activations, or compiles its blocks, while weights leave.
    What `auto` picks is looked at where it is picked, and by the training.

    Raises:
        UnsupportedError: says what would do instead.
    """
    leaves = offload in LEAVING or quantize == "fp8"
    if leaves and "train" in purpose.tasks and purpose.compiled:
        raise leaves_compiled(casts=quantize == "fp8")
    if leaves and "train" in purpose.tasks and purpose.checkpointing == "off":
        raise needs_checkpointing()


def needs_checkpointing() -> UnsupportedError:
    """The error for `--checkpointing off` where weights leave before the backward pass."""
    return UnsupportedError(
        "Expected checkpointing with group or sequential offloading or fp8 weights, got "
        "`off`: the backward pass needs weights that have left by then.",
        "Use --checkpointing on, or plain weights with --offload none or model.",
    )


def leaves_compiled(*, casts: bool) -> UnsupportedError:
    """The error for compiled blocks with weights that are cast, or else moved, after use."""
    came = (
        "fp8 weights, which are cast back"
        if casts
        else "group or sequential offloading, which moves them away"
    )
    return UnsupportedError(
        f"Expected weights that stay for a compiled training, got {came} after each layer: "
        "compiled blocks need them for the backward pass.",
        "Leave --compile out, or use plain weights with --offload none or model.",
    )


def plan(
    architecture: Architecture,
    request: Request,
    task: Task,
    free_bytes: float | None,
    checkpointing: str = "auto",
) -> Plan:
    """Peaks of a task in every mode. A training checkpoints in the modes in which it has to.

    Raises:
        UnsupportedError: a training without checkpointing that no mode allows (fp8 weights).
    """
    estimates: dict[str, Estimate] = {}
    recomputed: dict[str, Level] = {}
    for mode in (*CHOICES, "sequential"):
        moved = replace(request, offload=mode)
        if task == "apply":
            estimates[mode] = apply_estimate(architecture, moved)
            continue
        leaves = mode in LEAVING or request.quantize == "fp8"
        if leaves and checkpointing == "off":
            continue  # see `needs_checkpointing`
        recomputed[mode] = (
            _recomputes(architecture, moved, free_bytes, "little" if leaves else "off")
            if checkpointing == "auto"
            else cast(Level, checkpointing)
        )
        estimates[mode] = train_estimate(architecture, moved, checkpointing=recomputed[mode])
    if not estimates:
        raise needs_checkpointing()
    return Plan(task, free_bytes, estimates, recomputed)


def _recomputes(a: Architecture, r: Request, free_bytes: float | None, least: Level) -> Level:
    """What the trainer will find when it asks: of the weights, the transformer's are there.
    Without a GPU to ask, the smaller way.
    """
    if free_bytes is None:
        return "on"
    weights = train_weights(a, r)
    return recompute.level_for(
        unit_bytes(a, r),
        BYTES[r.dtype],
        r.block,
        free_bytes - weights["transformer"],
        rotary=a.positions == "rotary",
        least=least,
    )


def decide(
    name: str,
    architecture: Architecture,
    request: Request,
    purpose: Purpose,
    wanted: str,
    free_bytes: float,
    total_bytes: float,
) -> tuple[str, str | None]:
    """The offload mode for a GPU, and a sentence about it if it was not the user who chose.

    Args:
        name: of the backbone, for messages.
        wanted: `auto` or a mode.
        free_bytes, total_bytes: of the GPU.

    Raises:
        DeviceError: if the backbone cannot fit this GPU, whatever else runs on it.
        UnsupportedError: as `check`; a compiled training that has to be moved in parts.
    """
    check(purpose, wanted, request.quantize)
    request = purpose.of(request)
    plans = [
        plan(architecture, request, task, free_bytes, purpose.checkpointing)
        for task in purpose.tasks
    ]
    mode = wanted
    if wanted == "auto" and len(plans) == 1:
        mode = plans[0].chosen
    elif wanted == "auto":  # the furthest that a task asks for and all of them allow
        last = max(CHOICES.index(p.first(CHOICES)) for p in plans)
        mode = [m for m in CHOICES[: last + 1] if all(m in p.estimates for p in plans)][-1]
    worst = max(plans, key=lambda p: p.peak(mode))
    peak, free = worst.peak(mode), free_bytes / GB
    if wanted in ("auto", "none") and peak * TRUST > total_bytes:
        hint = "Use a smaller --backbone, such as cogvideox-2b, a smaller --size or fewer --frames."
        if wanted == "none":
            hint = "Leave --offload out: auto picks what fits (`pe doctor` shows it)."
        elif worst.task == "train" and purpose.checkpointing == "off":
            hint = "Leave --checkpointing off out."
        raise DeviceError(
            f"Expected about {peak / GB:.1f} GB of GPU memory to {worst.task} with {name} and "
            f"--offload {mode}, got {total_bytes / GB:.1f} GB.",
            hint,
        )
    if mode in LEAVING and purpose.compiled and "train" in purpose.tasks:
        raise leaves_compiled(casts=False)
    if wanted != "auto":
        return mode, None
    stage = worst.estimates[mode].stage
    facts = f"{worst.needed(mode) / GB:.1f} GB estimated at {stage}, {free:.1f} GB free"
    if mode != "none":
        facts += f"; {worst.needed('none') / GB:.1f} GB without"
    if not worst.fits(mode):
        facts += "; it may not be enough"
    return mode, f"Offload: {mode} ({facts})"


def request_of(config: Any, *, dtype: str, quantize: str) -> Request:
    """A request at the native size of a CogVideoX transformer that no row of the table names."""
    return Request(
        frames=config.sample_frames,
        width=config.sample_width * 8,
        height=config.sample_height * 8,
        steps=50,
        guided=1,
        inner=1,
        block=config.num_layers // 2,
        dtype=dtype,
        quantize=quantize,
    )


def architecture_of(config: Any) -> Architecture:
    """Its architecture; the text encoder and the VAE are taken to be the published ones."""
    channels = config.num_attention_heads * config.attention_head_dim
    return Architecture(
        layers=config.num_layers,
        heads=-(-channels // HEAD),
        positions="rotary" if config.use_rotary_positional_embeddings else "absolute",
        in_channels=config.in_channels,
        patch_size_t=config.patch_size_t,
        ofs=config.ofs_embed_dim is not None,
        patch=config.patch_size,
        text_tokens=config.max_text_seq_length,
        text_channels=config.text_embed_dim,
        time_channels=config.time_embed_dim,
    )
