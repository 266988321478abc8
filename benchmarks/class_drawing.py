"""What the backbone can draw of a class at all, and how much clips of one card differ: parts of
`benchmarks.classes`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer import say
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.world.attributes import seen
from pe_toolkit.world.class_metrics import measured, tracks
from pe_toolkit.world.ground import FAR
from pe_toolkit.world.metrics import parse, time_points
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render

HALF = 500
"""Timestep from which a real clip is denoised again: shapes, places and motion are decided above
it (docs/experiments.md), so what the backbone cannot draw is lost below it."""
DIVERSE = 3
"""References whose cards are given many seeds."""
CROP = 24
"""Half of the side, in pixels, of the part around an object that is compared."""


@torch.no_grad()
def draws(store: Any, args: Any) -> None:
    """Rows `rendered`, `VAE` (encoded and decoded) and `from LEVEL` (noised, then denoised with the
    scene's own caption), of which the first two are the floor of every measure.
    """
    adapter = load_backbone(args.backbone)
    for r, name in itertools.product(range(args.references), args.classes):
        if (name, r, 0, f"from {args.level}") in store.keys:
            continue
        scene = scenes_of(name, args.references)[r]
        frames = render(scene)
        z = adapter.encode_clip(frames)
        clips = {
            "rendered": frames,
            "VAE": adapter.decode(z, len(frames)),
            f"from {args.level}": adapter.decode(
                denoised(adapter, z, scene.caption, r, args.level), len(frames)
            ),
        }
        for row, clip in clips.items():
            if (name, r, 0, row) in store.keys:  # of another level's run
                continue
            values = measured(clip, scene.caption, scene)
            what = seen(clip, scene.caption, leaning=name == "roll")
            values["adherent"] = float(what.adherent)
            line = {"class": name, "reference": r, "pair": 0, "row": row, "prompt": scene.caption}
            store.add(line | {"values": values}, clip)
        say(name, r, {key: round(value, 2) for key, value in values.items()})


def denoised(adapter: Any, z: torch.Tensor, prompt: str, seed: int, below: int) -> torch.Tensor:
    """Latents `(1, F', C, h, w)` noised to the step at `below` or next under it, denoised."""
    variant, (width, height) = adapter.defaults(), adapter.size
    sampler = adapter.sampler(
        [prompt],
        [seed],
        steps=variant.steps,
        guidance_scale=variant.guidance_scale,
        dynamic_cfg=variant.dynamic_cfg,
        frames=adapter.frames,
        width=width,
        height=height,
        negative_prompt=variant.negative_prompt or "",
    )
    first = next(i for i, t in enumerate(sampler.times) if t <= below)
    level = sampler.noise[first]
    noise = sampler.initial_noise()
    sampler.latents = (1 - level**2) ** 0.5 * z.to(noise) + level * noise
    for index in range(first, len(sampler.times)):
        sampler.step(index)
    latents: torch.Tensor = sampler.latents
    return latents


def diversity(store: Any, args: Any) -> None:
    """`args.diversity` seeds of one card and prompt against as many plain clips, `DIVERSE`
    references of the first class; a line per reference and row, of mean distances of all pairs.
    """
    from benchmarks.classes import card_of, pair

    adapter, name = load_backbone(args.backbone), args.classes[0]
    for r in range(DIVERSE):
        scene = scenes_of(name, DIVERSE)[r]
        prompt, seed = pair(scene, r, 1000)
        for row in (f"plain, {args.diversity} seeds", f"{args.name}, {args.diversity} seeds"):
            if (name, r, 1000, row) in store.keys:
                continue
            plain = row.startswith("plain")
            card = None if plain else card_of(adapter, store, args.name, scene, r, args)
            seeds = [seed + i for i in range(args.diversity)]
            clips = [video.frames for video in generate(adapter, [prompt], seeds, card=card)]
            values = spread(clips, prompt)
            line = {"class": name, "reference": r, "pair": 1000, "row": row, "prompt": prompt}
            store.add(line | {"values": values}, np.stack(clips))
            say(name, r, row, {key: round(value, 3) for key, value in values.items()})


def spread(clips: list[NDArray[np.uint8]], prompt: str) -> dict[str, float]:
    """Mean over all pairs of clips of root mean square differences in grey values: `whole`, of all
    pixels, layout and motion included; `ground`, of what is background in both; `object`, of the
    surroundings of the object with its place taken out. `sizes`: standard deviation of the log
    size of the object.
    """
    grounds, crops, sizes, small = [], [], [], []
    for clip in clips:
        shown = clip[time_points(len(clip))]
        paths, areas, _ = tracks(clip, [parse(prompt)[0]])
        values = shown.astype(np.float64)
        still = np.median(values.reshape(len(values), -1, 3), axis=1)[:, None, None]
        thing = np.linalg.norm(values - still, axis=-1) > FAR
        grounds.append(np.where(thing[..., None], np.nan, values))
        crops.append(_crop(values[4], paths[0, 4]))
        sizes.append(np.nanmean(np.log(areas[0]) / 2))
        small.append(values)
    return {
        "whole": _distance(small),
        "ground": _distance(grounds),
        "object": _distance(crops),
        "sizes": float(np.nanstd(sizes)),
    }


def _crop(frame: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(2 CROP, 2 CROP, 3)` around a place (x, y) in [0, 1]; NaN beyond the border, or all of it
    where the place is unknown.
    """
    padded = np.pad(frame, ((CROP, CROP), (CROP, CROP), (0, 0)), constant_values=np.nan)
    if not np.isfinite(place).all():
        return np.full((2 * CROP, 2 * CROP, 3), np.nan)
    x, y = (round(v * len(frame)) for v in place)
    return padded[y : y + 2 * CROP, x : x + 2 * CROP]


def _distance(arrays: list[NDArray[np.float64]]) -> float:
    pairs = itertools.combinations(arrays, 2)
    return float(np.nanmean([np.sqrt(np.nanmean((a - b) ** 2)) for a, b in pairs]))
