"""Small sound cards for the tests of the registry: as many different ones as a test wants."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np

from pe_toolkit.card import MotionCard

GOLDEN = Path(__file__).parents[1] / "golden"
BUILD = runpy.run_path(str(GOLDEN / "make.py"))["build"]


def make_card(
    folder: Path,
    name: str = "wave",
    version: str = "1.0.0",
    *,
    seed: int = 0,
    width: int = 0,
    **fields: str,
) -> Path:
    """Write a card of about 2.4 kB, or 48 bytes for each `width`; another `seed`, other bytes."""
    card = BUILD("absolute-table" if width else "rotary-angle")
    tensors = dict(card.tensors)
    if width:
        tensors["positions"] = np.full((2, 12, width), seed, np.float16)
    samples = (replace(card.spec.samples[0], seed=seed),)
    spec = replace(card.spec, name=name, version=version, samples=samples, digest="", **fields)
    path = folder / f"{len(list(folder.iterdir())):05d}-{seed}.safetensors"
    MotionCard(spec, tensors).save(path)
    return path
