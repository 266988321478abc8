"""What `benchmarks.cuda` times: a card of ours, the published algorithm, generations."""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import models
from benchmarks.official import Official
from pe_toolkit.acceleration import caches
from pe_toolkit.acceleration.compiling import compiled
from pe_toolkit.apply import applied
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.machine.offload import parked, place
from pe_toolkit.errors import out_of_memory
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, GuidedStep

GIB = 2**30
GUIDED, STEPS = 10, 50
"""Of the published run."""
OUT_OF_MEMORY = "out of memory"


class Gpu:
    """Time and memory of one device; on a CPU memory is not counted."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self.total = torch.cuda.get_device_properties(device).total_memory if self.cuda else 0

    def cap(self, gibibytes: float | None) -> None:
        if self.cuda:
            share = 1.0 if gibibytes is None else min(1.0, gibibytes * GIB / self.total)
            torch.cuda.set_per_process_memory_fraction(share, self.device)

    def start(self) -> float:
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def stop(self, began: float) -> dict[str, float]:
        out = {}
        if self.cuda:
            torch.cuda.synchronize(self.device)
            out = {
                "peak_gib": torch.cuda.max_memory_allocated(self.device) / GIB,
                "reserved_gib": torch.cuda.max_memory_reserved(self.device) / GIB,
            }
        return out | {"seconds": time.perf_counter() - began}

    def rate(self) -> float:
        """Measured operations per second of a large matrix product in bf16."""
        n = 8192 if self.cuda else 512
        a = torch.randn(n, n, device=self.device, dtype=torch.bfloat16)
        for _ in range(3):
            a @ a
        began = self.start()
        for _ in range(10):
            a @ a
        return 10 * 2 * n**3 / self.stop(began)["seconds"]


def attempt(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it measured, or what stood in the way; the other parts go on."""
    try:
        return call()
    except Exception as error:
        if out_of_memory(error):
            return {"out_of_memory": str(error).splitlines()[0]}
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def ours(
    adapter: CogVideoXAdapter, frames: int, recipe: str, gpu: Gpu, checkpointing: str
) -> dict[str, Any]:
    """A whole card by the trainer; seconds of every guided step, and the peak of all of it.

    Placed as `--offload auto` places a training: part after part.
    """
    adapter.pipe.to("cpu")
    place(adapter.pipe, gpu.device, "model")
    config = TrainConfig(
        samples=1,
        recipe=recipe,  # type: ignore[arg-type]
        prompts=(models.PROMPT,),
        kv=recipe == "paper",  # as the published run
        steps=models.TINY_STEPS if frames == models.TINY_FRAMES else None,
        checkpointing=checkpointing,  # type: ignore[arg-type]
    )
    began = gpu.start()
    steps, card = [], None
    for event in train(adapter, models.moving_square(adapter, frames), config):
        if isinstance(event, GuidedStep):
            steps.append(event.seconds)
        elif isinstance(event, Finished):
            card = event.card
    facts = gpu.stop(began)
    # The last guided step is not followed by a denoising step: nothing would look at it.
    return {"steps": steps[:-1], "card_seconds": facts.pop("seconds"), "card": card} | facts


def encoded(adapter: CogVideoXAdapter, frames: int) -> tuple[torch.Tensor, ...]:
    """What the published way begins with: latents of the reference `(1, F', C, h, w)`, embeddings
    `(1, tokens, channels)` of the prompt and of nothing.
    """
    with torch.no_grad():
        reference = adapter.encode_clip(models.moving_square(adapter, frames).frames)
        return reference, *(adapter.encode_text([p]) for p in (models.PROMPT, ""))


def official(adapter: CogVideoXAdapter, frames: int, gpu: Gpu, repeats: int) -> dict[str, Any]:
    """A few guided steps of the transcription and a few plain ones, for the whole run's time: its
    guided steps, then the rest of the generation (VAE and text encoder left out).
    """
    variant = adapter.variant
    assert variant is not None
    width, height = adapter.size
    reference, text, negative = encoded(adapter, frames)
    with parked(adapter.pipe, ("text_encoder",)):
        began = gpu.start()
        run = Official(
            adapter, reference, text, negative, block=variant.block, size=(frames, width, height)
        )
        latents = torch.randn_like(reference)

        def timed(call: Callable[[int], Any]) -> list[float]:
            seconds = []
            for index in range(repeats + 1):  # the first warms up
                start, collecting = time.perf_counter(), run.collecting
                call(999 - 20 * index)
                if gpu.cuda:
                    torch.cuda.synchronize(gpu.device)
                collecting = run.collecting - collecting
                seconds.append(time.perf_counter() - start - collecting)
            return seconds[1:]

        steps = timed(lambda t: run.guided_step(latents, t, 0.002, 7.0))
        facts = gpu.stop(began) | {"collecting": run.collecting / (repeats + 1)}
        plain = timed(lambda t: run.plain_step(latents, t, 7.0))
    del facts["seconds"]
    guided, rest = statistics.median(steps), statistics.median(plain)
    whole = GUIDED * guided + (STEPS - GUIDED) * rest
    return {"steps": steps, "plain_steps": plain, "card_seconds": whole} | facts


def generations(
    adapter: CogVideoXAdapter,
    card: Any,
    gpu: Gpu,
    options: argparse.Namespace,
    seconds: dict[str, Any],
) -> None:
    """Seconds of denoising, into `seconds` as they come, without VAE and text encoder.

    Plain and applied are interleaved, in short generations: every step costs the same. A cache
    skips more of a long generation, so those are run at full length, once, and with them a plain
    one. What fails leaves a sentence instead, and the rest goes on; the one that a goal is about
    comes first (PAB keeps gigabytes).
    """
    frames = card.spec.clip.frames
    short, long = (
        models.sampler(adapter, frames, steps) for steps in (options.steps, options.cache_steps)
    )

    def denoise(begin: CogVideoXSampler) -> float:
        run = copy.copy(begin)  # a step puts new latents in place of the old ones
        began = gpu.start()
        for index in range(len(begin.times)):
            run.step(index)
        return gpu.stop(began)["seconds"]

    def with_card(begin: CogVideoXSampler, cache: str) -> float:
        guided = sum(card.spec.schedule.noise[-1] - 1e-6 <= n for n in begin.noise)
        schedule = caches.Schedule(tuple(begin.times), guided)
        with (
            caches.cached(adapter.transformer, cache, schedule),
            applied(adapter.pipe, card, no_kv=True),
        ):
            return denoise(begin)

    with parked(adapter.pipe, ("text_encoder", "vae")):
        for index in range(options.repeats + 1):
            took = {"plain": denoise(short), "applied": with_card(short, "none")}
            if index:  # the first warms up
                for name, value in took.items():
                    seconds.setdefault(name, []).append(value)

        def part(name: str, run: Callable[[], list[float]]) -> None:
            facts = attempt(lambda: {"seconds": run()})
            missed = facts.get("out_of_memory") and f"{OUT_OF_MEMORY}: {facts['out_of_memory']}"
            seconds[name] = facts.get("seconds") or missed or facts["error"]

        def after_compiling(
            run: Callable[[CogVideoXSampler], float], begin: CogVideoXSampler
        ) -> float:
            with compiled(adapter.transformer, True):  # as `--compile`
                run(short)
                return run(begin)

        part("plain, long", lambda: [denoise(long)])
        if gpu.cuda:
            part(
                "applied, taylorseer, compiled, long",
                lambda: [after_compiling(lambda b: with_card(b, "taylorseer"), long)],
            )
            part("plain, compiled", lambda: [after_compiling(denoise, short)])
        for cache in ("taylorseer", "pab"):
            part(f"applied, {cache}, long", lambda cache=cache: [with_card(long, cache)])  # type: ignore[misc]
