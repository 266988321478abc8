"""What is read of a reference's motion, against the truth of rendered scenes: nothing is generated.

    python -m benchmarks.moves [--count 8] [--json OUT.json] [--classes still,noise,small,...]
    python -m benchmarks.moves --mp4     every clip written to an MP4 (H.264) and read again, as
                                         what people have comes to `pe train`
    python -m benchmarks.moves --seed N  other scenes of the classes

Classes are those of `pe_toolkit.world.motions`, and `still` (an object that stays, on all
backgrounds), `noise` (the same under noise of 6 grey levels), `transfer` (the references of
benchmarks.transfer).
A row says of its scenes:

    anything   how many are said to move at all
    camera     how many have a camera that moves; its error: distance of where it puts the corners
               of the picture in the last frame from the truth, in patches
    subjects   how many subjects, in the mean
    cosine     of a subject's path with the true one (the best of both, of two), in the picture
    AMF        the same of the AMF's one path, and how many have one that a start of `flow` takes
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer import over_latent_frames, references
from pe_toolkit import read_clip, write_video
from pe_toolkit.backbones import load_backbone
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import pictures_of
from pe_toolkit.motion.moves import ONE_PATH, Moves
from pe_toolkit.motion.path import mean_path, one_path
from pe_toolkit.motion.read import read_moves
from pe_toolkit.motion.segments import affinity
from pe_toolkit.world.motions import CLASSES, scenes_of
from pe_toolkit.world.scenes import Scene, render

ALL = ("still", "noise", "transfer", *CLASSES)
CAMERA = ("zoom", "roll", "pan", "held")
"""Classes of which the background moves."""


def scenes(kind: str, count: int, seed: int | None = None) -> list[Scene]:
    if kind == "transfer":
        return references(count)
    other = {} if seed is None else {"seed": seed}
    if kind in ("still", "noise"):
        return [_held(scene, i) for i, scene in enumerate(scenes_of("translation", count, **other))]
    return scenes_of(kind, count, **other)


def _held(scene: Scene, index: int) -> Scene:
    thing = scene.things[0]
    path = np.repeat(thing.path[16:17], len(thing.path), 0)
    style = ("flat", "gradient", "texture")[index % 3]
    return dataclasses.replace(scene, style=style, things=(dataclasses.replace(thing, path=path),))


def through_mp4(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Written to an MP4 as `pe apply` writes, and read as `pe train` reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, fps=16)
        return read_clip(path).frames


@torch.no_grad()
def read(
    adapter: Any, scene: Scene, noise: float, mp4: bool = False
) -> tuple[AttentionMotionFlow, Moves]:
    frames = render(scene)
    if noise:
        rng = np.random.default_rng(0)
        frames = np.clip(frames + rng.normal(0, noise, frames.shape), 0, 255).astype(np.uint8)
    if mp4:
        frames = through_mp4(frames)
    count, height, width = frames.shape[:3]
    reading, grid = adapter.variant.reading, adapter.grid
    q, k = adapter.reference_queries_and_keys(
        adapter.encode_clip(frames), reading, count, width, height
    )
    flow = AttentionMotionFlow.from_qk(
        q.float(), k.float(), grid, adapter.variant.mask, mutual=reading.mutual
    )
    return flow, read_moves(flow, affinity(q, k, grid), pictures_of(frames, grid.frames), frames)


def cosine(path: Any, true: Any) -> float:
    """Mean over the steps in which the truth moves by a twentieth of a patch."""
    a, b = np.diff(np.asarray(path), axis=0), np.diff(np.asarray(true), axis=0)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    moving = np.linalg.norm(b, axis=1) > 0.05
    if not moving.any():
        return float("nan")
    return float(((a * b).sum(1) / np.maximum(norm, 1e-9))[moving].mean())


def measured(adapter: Any, kind: str, scene: Scene, mp4: bool = False) -> dict[str, float]:
    flow, moves = read(adapter, scene, 6.0 if kind == "noise" else 0.0, mp4)
    width = adapter.grid.width
    paths = [over_latent_frames(t.path.astype(np.float64)) * width for t in scene.things]
    amf = mean_path(flow, moves.anchor).numpy()
    share = one_path(flow)
    taken = share >= ONE_PATH and (moves.camera or bool(moves.subjects))
    out = {
        "anything": float(moves.camera or bool(moves.subjects)),
        "camera": float(moves.camera),
        "subjects": float(len(moves.subjects)),
        "share": share,
        "taken": float(taken),
        "amf": float(np.mean([cosine(amf, p) for p in paths])),
    }
    if moves.subjects:
        out["cosine"] = float(
            np.mean([max(cosine(s.place.numpy(), p) for s in moves.subjects) for p in paths])
        )
    if kind in CAMERA and moves.camera:
        out["corners"] = _corners(scene, moves, width)
    return out


def _corners(scene: Scene, moves: Moves, width: int) -> float:
    """Patches between where the camera puts the corners in the last latent frame, and the truth."""
    frames = len(scene.shift)
    one, zero = np.ones(frames), np.zeros(frames)
    scale = np.log(one if scene.scale is None else scene.scale)
    turn = zero if scene.turn is None else np.asarray(scene.turn)
    log, angle, shift = (
        over_latent_frames(np.asarray(v, np.float64)) for v in (scale, turn, scene.shift)
    )
    anchor, half = moves.anchor, (width - 1) / 2
    corners = np.array([[x, y] for x in (-half, half) for y in (-half, half)])
    # Y of the last frame after the inverse of Y of the anchor.
    s, a = np.exp(log[-1] - log[anchor]), angle[-1] - angle[anchor]
    linear = s * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    offset = width * (shift[-1] - linear @ shift[anchor])
    true = corners @ linear.T + offset
    found = corners @ moves.linear[-1].numpy().T + moves.shift[-1].numpy()
    return float(np.linalg.norm(found - true, axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moves", description=__doc__)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--classes", default=",".join(ALL))
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--mp4", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    adapter, found = load_backbone("bundled"), {}
    for kind in args.classes.split(","):
        chosen = scenes(kind, args.count, args.seed)
        rows = [measured(adapter, kind, scene, args.mp4) for scene in chosen]
        found[kind] = rows
        names = ("anything", "camera", "subjects", "taken", "amf", "cosine", "corners", "share")
        text = []
        for name in names:
            values = [row[name] for row in rows if np.isfinite(row.get(name, np.nan))]
            if values:
                text.append(f"{name} {np.mean(values):.2f}")
        print(f"{kind:12s} n {len(rows):2d}  {'  '.join(text)}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
