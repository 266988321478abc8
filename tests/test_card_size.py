"""How large cards are, with the shapes of the models that they are for (docs/card-format.md)."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

from pe_toolkit.card import CardSpec, GridSpec, MotionCard, MotionSpec, SubjectSpec
from pe_toolkit.card.spec import PhaseSpec
from pe_toolkit.motion.disc import half_disc

MAKE = runpy.run_path(str(Path(__file__).parent / "golden" / "make.py"))
RADIUS = 2.83
LAYERS = ("camera", "subject", "subject-2")


def card(
    grid: tuple[int, int, int], frames: int, guided: int, layers: tuple[str, ...], sets: int = 1
) -> MotionCard:
    """A card of offsets, with the phase of 16 channels, the flow, and its motion in numbers."""
    rng, (f, h, w) = np.random.default_rng(0), grid
    spec = CardSpec.from_dict(MAKE["description"]("rotary-offset"))
    schedule = dataclasses.replace(
        spec.schedule, steps=50, timesteps=tuple(range(999, 999 - guided, -1)),
        noise=tuple(float(n) for n in np.sort(rng.random(guided))[::-1]),
    )  # fmt: skip
    numbers = [[float(n) for n in row] for row in rng.normal(size=(f, 6))]
    paths = [SubjectSpec(path=[row[:2] for row in numbers], share=0.5) for _ in layers]
    spec = dataclasses.replace(
        spec, schedule=schedule, grid=GridSpec(f, h, w),
        recipe=dataclasses.replace(
            spec.recipe, layers=layers, phase=PhaseSpec(radius=RADIUS, gamma=2.0)
        ),
        reference=dataclasses.replace(
            spec.reference, motion=MotionSpec(camera=numbers, subjects=paths)
        ),
    )  # fmt: skip
    disc = (frames, 16, len(half_disc(RADIUS)))
    return MotionCard(
        spec,
        {
            "positions": rng.normal(size=(sets, len(layers), f * h * w, 3)).astype(np.float16),
            "flow": np.zeros((f, f, h, w, 2), np.int8),
            "flow_mask": np.full((f * f * h * w + 7) // 8, 255 if f * f * h * w % 8 == 0 else 0,
                                 np.uint8),
            "phase": rng.integers(0, 256, disc).astype(np.uint8),
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "frames", "guided", "layers", "sets", "limit"),
    [
        ((9, 8, 8), 9, 16, ("whole",), 1, 30_000),  # bundled, 33 frames of 128x128
        ((9, 8, 8), 9, 16, LAYERS, 1, 35_000),
        ((9, 8, 8), 9, 16, ("whole",), 16, 100_000),  # optimised in every guided step
        ((13, 30, 45), 13, 10, ("whole",), 1, 650_000),  # CogVideoX 2b and 5b, 49 frames
        ((13, 30, 45), 13, 10, LAYERS, 1, 1_000_000),
        ((11, 48, 85), 22, 10, ("whole",), 1, 1_400_000),  # CogVideoX 1.5, 81 frames of 1360x768
    ],
)
def test_cards_are_small(
    grid: tuple[int, int, int],
    frames: int,
    guided: int,
    layers: tuple[str, ...],
    sets: int,
    limit: int,
    tmp_path: Path,
) -> None:
    info = card(grid, frames, guided, layers, sets).save(tmp_path / "card.safetensors")
    assert info.size_bytes < limit
