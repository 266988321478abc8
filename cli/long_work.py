"""What will take hours, or leave a large card, is said before it begins. Rough: formulas, and one
run time each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pe_toolkit.apply.drafts import SHARE
from pe_toolkit.cli.output import Output, size_text

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.card import CardSpec
    from pe_toolkit.cli.requests.apply import ApplyOptions
    from pe_toolkit.cli.requests.train import TrainOptions

Task = Literal["train", "apply"]

WORTH_A_WORD = 600.0
"""Seconds."""
LARGE_CARD = 100e6
"""Bytes."""
BUNDLED_SECONDS = {"train": 17.0, "apply": 11.0}
"""Of the bundled backbone as it is, on two idle cores (`python -m benchmarks.speed`)."""
ATTENTION_SHARE = 0.5
"""Of the bundled backbone at its own size: operations of the attention in those of the rest."""
GPU_RATE = 50e12
"""Operations per second, as the published run times on an NVIDIA A40 come to."""
CPU_RATE = 0.2e12
"""As two to four cores come to in bfloat16: an order of magnitude."""
GUIDED_SHARE = 0.2


def seconds(
    variant: Variant,
    task: Task,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    samples: int | None = None,
    inner: int | None = None,
    gpu: bool = False,
) -> float:
    """About how long; None is the backbone's own.

    Args:
        samples: prompt-seed pairs of a training, videos of a generation.
        inner: inner steps of a training; without any the reference is read, and that is all.
    """
    from pe_toolkit.backbones.catalogue.architectures import architecture_for
    from pe_toolkit.backbones.machine import memory

    width, height = size or (variant.width, variant.height)
    count, steps = frames or variant.frames, steps or variant.steps
    architecture = architecture_for(variant)
    if architecture is None:
        if inner == 0:
            return 0.0
        own = samples or (variant.samples if task == "train" else 1)
        usual = variant.samples if task == "train" else 1
        more = count * width * height / (variant.frames * variant.width * variant.height)
        work = more * (1 + ATTENTION_SHARE * more) / (1 + ATTENTION_SHARE)
        return BUNDLED_SECONDS[task] * work * steps / variant.steps * own / usual
    request = memory.Request.of(
        variant,
        guided=max(1, round(steps * GUIDED_SHARE)),
        frames=count,
        width=width,
        height=height,
        steps=steps,
        samples=samples if task == "train" else None,
        inner=inner,
    )
    if task == "train":
        work = memory.train_estimate(architecture, request, checkpointing="little").flops
    else:
        work = (samples or 1) * memory.apply_estimate(architecture, request).flops
    return work / (GPU_RATE if gpu else CPU_RATE)


def card_bytes(
    variant: Variant,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    inner: int | None = None,
    form: str | None = None,
) -> float:
    """About how large a positions card gets; 0 where it is small in any case."""
    from pe_toolkit.backbones.catalogue.architectures import architecture_for
    from pe_toolkit.backbones.machine import memory

    architecture = architecture_for(variant)
    if architecture is None:
        return 0.0
    width, height = size or (variant.width, variant.height)
    guided = max(1, round((steps or variant.steps) * GUIDED_SHARE))
    request = memory.Request.of(
        variant, guided=guided, frames=frames, width=width, height=height, inner=inner
    )
    return memory.card_bytes(architecture, request, form)


def tell_training(out: Output, variant: Variant, asked: TrainOptions, *, gpu: bool) -> None:
    """Say what a training will take, and leave, if it is much."""
    frames = asked.frames_for(variant)
    settings = asked.config().resolve(variant)
    what: Any = {"frames": frames, "size": asked.size, "steps": asked.steps}
    what["inner"] = settings.inner_steps
    form = settings.parametrisation
    if form is not None and (size := card_bytes(variant, form=form, **what)) >= LARGE_CARD:
        small = card_bytes(variant, form="offset", **what)
        out.warn(
            f"the card will have about {size_text(size)}: this backbone's positions are added, a "
            f"number for each of its channels. With --param offset, three for each token, it has "
            f"about {size_text(small)}."
        )
    expected = seconds(variant, "train", samples=asked.samples, gpu=gpu, **what)
    if settings.feedback:
        from pe_toolkit.training.config import GENERATIONS

        made = settings.feedback * GENERATIONS
        asked_for = {key: what[key] for key in ("frames", "size", "steps")}
        expected += seconds(variant, "apply", samples=made, gpu=gpu, **asked_for)
    _tell_time(out, expected, gpu=gpu)


def tell_generation(
    out: Output, variant: Variant, spec: CardSpec, asked: ApplyOptions, videos: int
) -> None:
    """Say what some videos will take, if it is much."""
    from pe_toolkit.cli import machine

    size, gpu = (spec.clip.width, spec.clip.height), machine.uses_gpu(asked.device)
    steps = asked.settings(spec).steps
    expected = seconds(
        variant, "apply", frames=spec.clip.frames, size=size, steps=steps, samples=videos, gpu=gpu
    )
    if asked.drafts > 1:
        expected *= 1 + asked.drafts * SHARE
    _tell_time(out, expected, gpu=gpu)


def _tell_time(out: Output, expected: float, *, gpu: bool) -> None:
    if expected >= WORTH_A_WORD:
        where = "as on an NVIDIA A40" if gpu else "on two cores"
        out.talk(
            f"This will take about {duration(expected)} ({where}, a rough estimate). Ctrl-C loses "
            "nothing that is finished."
        )


def duration(count: float) -> str:
    """Seconds for people: `7200` -> `2 hours`."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if count >= 2 * length:
            return f"{count / length:.0f} {unit}"
    return f"{count:.0f} seconds"
