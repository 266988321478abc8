"""The parts of `pe apply` before and around the library: checks, choices, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli import speed
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from pe_toolkit.backbones import CogVideoXAdapter
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.evaluation.following import ReferenceMotion

DEFAULT_SEED = 42
"""Not 0, where training begins to count: a new seed shows what the card does."""


def check_usage(prompts: Sequence[str], o: Mapping[str, Any]) -> None:
    """Requests that make no sense, found before the card is read.

    Raises:
        UsageError: no prompt, or a prompt or seed given twice.
        DependencyError: `--lora` without peft, `--quantize int8` without torchao.
    """
    if not prompts:
        raise UsageError("Expected --prompt or --prompt-file, got none.", "Say what to show.")
    for values, option in ((prompts, "--prompt"), (o["seeds"], "--seed")):
        if twice := next((v for v in values if list(values).count(v) > 1), None):
            raise UsageError(
                f"Expected each {option} once, got {twice!r} more than once.",
                "The same prompt and seed give the same video.",
            )
    if o["loras"] and find_spec("peft") is None:
        raise DependencyError(
            "Expected the package peft for --lora, but it is not installed.", "pip install peft"
        )
    speed.check_quantize(o)


def choose_seeds(spec: CardSpec, o: Mapping[str, Any], out: Output) -> list[int]:
    """The seeds to use; a latents card brings its own, and is bound to its schedule.

    Raises:
        UsageError: `--seed`, `--strength`, `--scheduler` or other `--steps` with a latents card.
    """
    seeds = list(o["seeds"])
    if spec.kind != "latents" or o["no_card"]:
        return seeds or [DEFAULT_SEED]
    bound = {
        "--seed": bool(seeds),
        "--strength": o["strength"] != 1.0,
        "--scheduler": o["scheduler"] is not None,
        "--steps": o["steps"] not in (None, spec.schedule.steps),
    }
    for option, given in bound.items():
        if given:
            raise UsageError(
                f"Expected no {option} with a latents card: it is bound to seed "
                f"{spec.samples[0].seed}, its scheduler and {spec.schedule.steps} steps.",
                f"Leave {option} out, or train a card with --mode positions.",
            )
    return [spec.samples[0].seed]


def check_prompts(
    spec: CardSpec, prompts: Sequence[str], o: Mapping[str, Any], out: Output
) -> None:
    """Warn when a latents card meets a prompt that it was not made for."""
    own = spec.samples[0].prompt
    if spec.kind == "latents" and not o["no_card"] and any(prompt != own for prompt in prompts):
        out.warn(
            f"this latents card was made for the prompt {own!r}: with another one, what it "
            "shows leaks into the video."
        )


def choose_backbone(spec: CardSpec, wanted: str | None) -> tuple[str, str | None]:
    """Name and revision for `load_backbone`: what the user says, else what the card says."""
    from pe_toolkit.backbones import VARIANTS

    own = spec.backbone
    if wanted is not None:
        return wanted, None
    if own.variant in VARIANTS and own.model_id in (None, VARIANTS[own.variant].hub_id):
        return own.variant, own.revision
    if own.model_id is not None:
        return own.model_id, own.revision
    raise UsageError(
        f"Expected a card that names a known backbone, got {own.variant!r} from a local folder.",
        "Name the folder with --backbone.",
    )


def load_loras(pipe: Any, loras: Sequence[str]) -> None:
    """Load LoRA weights under the names lora1, lora2, ... and switch all of them on.

    Raises:
        UsageError: if one cannot be read or does not fit the backbone.
    """
    for number, reference in enumerate(loras, 1):
        try:
            pipe.load_lora_weights(reference, adapter_name=f"lora{number}")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UsageError(
                f"Expected LoRA weights for this backbone, got {reference}: {error}",
                "Name a file, a folder or a Hub id that holds LoRA weights.",
            ) from error
    if loras:
        pipe.set_adapters([f"lora{number}" for number in range(1, len(loras) + 1)])


def arguments(card: MotionCard, o: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate` is told. Steps, guidance and negative prompt are the card's unless others are
    asked for, also for the plain comparison.
    """
    schedule = card.spec.schedule
    scale, negative = o["guidance_scale"], o["negative_prompt"]
    values = {
        "card": card,
        "strength": o["strength"],
        "steps": o["steps"] or schedule.steps,
        "guidance_scale": schedule.guidance_scale if scale is None else scale,
        "negative_prompt": (schedule.negative_prompt or "") if negative is None else negative,
        "scheduler": o["scheduler"],
        "cache": o["cache"],
    }
    if o["no_card"]:
        # Strength 0 is plain generation bit for bit, with the frames and the size of the card.
        plain = None if card.spec.kind == "latents" else card
        values |= {"card": plain, "strength": 0.0 if plain is not None else 1.0}
    return values


def motion(
    adapter: CogVideoXAdapter, card: MotionCard, wanted: bool | None
) -> ReferenceMotion | None:
    """What the results are scored against; None without `--score`.

    On its own only where it costs next to nothing and was validated: on the bundled backbone.
    """
    bundled = adapter.variant is not None and adapter.variant.bundled
    if not (bundled if wanted is None else wanted):
        return None
    from pe_toolkit.evaluation.following import ReferenceMotion

    return ReferenceMotion.of_card(adapter, card)


def reporter(bar: Progress) -> Callable[[int, int], None]:
    """Shows each denoising step with what remains of its video; seen on a terminal only."""
    began = [time.monotonic(), 0.0]

    def report(done: int, steps: int) -> None:
        now = time.monotonic()
        if done == 1:  # the first step may compile and load kernels: it says little about the pace
            began[:] = [now, 1.0]
        pace = (now - began[0]) / (done - began[1]) if done > began[1] else 0.0
        left = f", {pace * (steps - done):.0f} s left" if pace and done < steps else ""
        # Decoding follows the last step.
        bar.part(done / (steps + 1), f"step {done}/{steps}{left}" if done < steps else "decoding")

    return report
