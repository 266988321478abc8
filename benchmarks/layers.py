"""Camera and subjects as layers of positions, against one path; nothing is optimised.

    python -m benchmarks.layers OUT.json [--references 6] [--pairs 2] [--classes zoom,pan,two,one]
        [--rows ...] [--sheet SHEETS]

Every row is a start of the positions, with the phase of the reference in the initial noise (as
`--recipe rich`), or, with `/plain`, without. `true-*` rows take the motion that was rendered,
the others what is read from the reference:

    none          the backbone's own positions
    flow          one path for all tokens, as read (start=flow, once as far)
    true-path     one path for all tokens: that of the object (of two: their mean)
    true-camera   the affine map of the rendered scene: the object's zoom and path, the pan
    true-mask     every object's path on the patches that it covers, 0 elsewhere
    true-wide     the same, on patches up to one away from it
    true-near     every token moves with the nearest object
    layers        what start=layers reads

Resumable: rows that OUT.json holds already are not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer import clip_of, interval, over_latent_frames
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.card.tensors import unpacked
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.layers import camera_layer, subject_layer
from pe_toolkit.motion.path import mean_path
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from pe_toolkit.world.metrics import foreground, path_cosine, path_error, time_points, track
from pe_toolkit.world.scenes import Scene, Thing, render, sample_path
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, caption

Floats = NDArray[np.float64]
ROWS = {
    "zoom": ("none", "flow", "true-camera"),
    "two": ("none", "flow", "true-mask", "true-near"),
    "one": ("none", "flow", "true-path", "true-mask"),
    "pan": ("none", "flow", "true-camera"),
}
"""By class: what says the same as another row there is left out."""
CLASSES = tuple(ROWS)
FRAMES = 33


def scene_of(kind: str, rng: np.random.Generator) -> Scene:
    """A reference of a class; two objects part by a third of the picture and go different ways."""
    u = np.linspace(0, 1, FRAMES, dtype=np.float32)
    colours = [str(c) for c in rng.choice(list(COLOURS), 2, replace=False)]
    shapes = [str(s) for s in rng.choice(SHAPES, 2)]
    ground = str(rng.choice(list(BACKGROUNDS)))
    still = np.zeros((FRAMES, 2), np.float32)
    size = float(rng.uniform(0.17, 0.22))
    radius = np.full(FRAMES, size, np.float32)
    style, shift = str(rng.choice(["flat", "gradient", "texture"])), still
    families = ("line", "curve", "orbit", "wave", "ease", "spiral")
    path = sample_path(str(rng.choice(families)), FRAMES, rng)
    things = [Thing(colours[0], shapes[0], path, radius)]
    if kind == "zoom":
        ratio = float(np.exp(rng.uniform(0.5, 0.75)) ** rng.choice([-1.0, 1.0]))
        grown = (0.19 * ratio ** (u - 0.5)).astype(np.float32)
        path = sample_path("drift", FRAMES, rng)
        things = [Thing(colours[0], shapes[0], path, grown)]
    elif kind == "pan":
        style, shift = "texture", path - path[0]
    elif kind == "two":
        for _ in range(10_000):
            both = [sample_path(str(rng.choice(("line", "curve"))), FRAMES, rng) for _ in "ab"]
            ends = [p[-1] - p[0] for p in both]
            apart = float(np.linalg.norm(both[0] - both[1], axis=1).min())
            cosine = float(ends[0] @ ends[1] / np.prod([np.linalg.norm(e) for e in ends]))
            if apart > 0.3 and cosine < 0.3:
                break
        things = [Thing(c, s, p, radius) for c, s, p in zip(colours, shapes, both, strict=True)]
    return Scene(kind, tuple(things), ground, style, shift, int(rng.integers(2**31)))


def references(kind: str, count: int, seed: int = 20261126) -> list[Scene]:
    rng = np.random.default_rng([seed, *kind.encode()])
    return [scene_of(kind, rng) for _ in range(count)]


def pair(kind: str, reference: int, index: int) -> tuple[str, int]:
    """An unseen prompt and seed for a reference; two objects where it has two."""
    rng = np.random.default_rng([505, *kind.encode(), reference, index])
    colours = rng.choice(list(COLOURS), 2, replace=False)
    things = list(zip(map(str, colours), map(str, rng.choice(SHAPES, 2)), strict=True))
    ground = str(rng.choice(list(BACKGROUNDS)))
    return caption(things[: 2 if kind == "two" else 1], ground), 300_000 + int(
        rng.integers(100_000)
    )


def covers(scene: Scene, grid: TokenGrid) -> torch.Tensor:
    """`(things, F, H, W)` share of every patch that a thing covers, over the latent frames."""
    out = []
    for thing in scene.things:
        bare = dataclasses.replace(thing, colour="white")
        alone = dataclasses.replace(scene, background="black", style="flat", things=(bare,))
        lit = over_latent_frames((render(alone)[..., 0] > 128).astype(np.float64))
        step = lit.shape[1] // grid.height
        cells = lit.reshape(len(lit), grid.height, step, grid.width, step)
        out.append(cells.mean((2, 4)))
    return torch.from_numpy(np.stack(out))


def true_offsets(name: str, scene: Scene, grid: TokenGrid) -> torch.Tensor:
    """`(S, 3)` offsets of one of the `true-*` rows, relative to the middle frame."""
    anchor = grid.frames // 2
    real = torch.from_numpy(
        np.stack([over_latent_frames(t.path.astype(np.float64)) for t in scene.things])
    )
    real = real * grid.width - 0.5  # (things, F, 2) in patches
    moved = real - real[:, anchor : anchor + 1]
    if name == "true-path":
        return subject_layer(grid, moved.mean(0))
    if name == "true-camera":
        log = np.log(over_latent_frames(scene.things[0].radius.astype(np.float64)))
        scale = torch.from_numpy(np.exp(log - log[anchor]))
        linear = scale[:, None, None] * torch.eye(2, dtype=torch.float64)
        c = (torch.tensor([grid.width, grid.height]).double() - 1) / 2
        from_middle = real[0] - c
        return camera_layer(grid, linear, from_middle - scale[:, None] * from_middle[anchor])
    if name == "true-near":
        at = grid.coordinates(dtype=torch.float64)
        nearest = (at - real[:, :, None]).norm(dim=-1).argmin(0)  # (F, HW)
        masks = torch.stack([nearest == k for k in range(len(real))]).unflatten(-1, grid_side(grid))
    else:
        masks = covers(scene, grid)
        if name == "true-wide":
            masks = torch.nn.functional.max_pool2d(masks, 3, 1, 1)
        masks = (masks >= 0.5) & (masks == masks.amax(0))
    layers = [subject_layer(grid, p, m) for p, m in zip(moved, masks, strict=True)]
    return torch.stack(layers).sum(0)


def grid_side(grid: TokenGrid) -> tuple[int, int]:
    return grid.height, grid.width


def sizes(frames: NDArray[np.uint8], colour: str) -> Floats:
    """Log of the side of what has that colour, at the time points; NaN where there is none."""
    out = []
    for index in time_points(len(frames)):
        ground = np.median(frames[index].reshape(-1, 3), axis=0)
        area = float(foreground(frames[index], COLOURS[colour], ground).mean())
        out.append(0.5 * np.log(area) if area > 0.004 else np.nan)
    return np.array(out)


def slope(found: Floats, true: Floats) -> float:
    """Of the least squares line through `found` over `true`, any shape; NaN where nothing is."""
    ok = np.isfinite(found) & np.isfinite(true)
    if ok.sum() < 3:
        return float("nan")
    a, b = found[ok] - found[ok].mean(), true[ok] - true[ok].mean()
    return float((a @ b) / (b @ b))


def background_steps(frames: NDArray[np.uint8]) -> tuple[Floats, float]:
    """`(T - 1, 2)` displacement (x, y) of the background between time points, in fractions of the
    side, and its contrast in levels: the shift with the least squared difference of what is not an
    object in either, to a pixel, each at most a fifth of the side.
    """
    points = frames[time_points(len(frames))].astype(np.float64)
    ground = np.median(points.reshape(len(points), -1, 3), axis=1)
    free = np.linalg.norm(points - ground[:, None, None], axis=-1) < 60
    free &= np.stack([_shrunk(f) for f in free])
    grey = points.mean(-1)
    size, far = grey.shape[1], grey.shape[1] // 5
    contrast = float(np.mean([g[f].std() for g, f in zip(grey, free, strict=True)]))
    steps = []
    for a, b, fa, fb in zip(grey, grey[1:], free, free[1:], strict=False):
        best, where = np.inf, (0, 0)
        for stride, span in ((4, range(-far, far + 1, 4)), (1, range(-4, 5))):
            base = (0, 0) if stride == 4 else where
            for dy in span:
                for dx in span:
                    y, x = base[0] + dy, base[1] + dx
                    ya, yb = _overlap(size, y)
                    xa, xb = _overlap(size, x)
                    ok = fa[ya, xa] & fb[yb, xb]
                    if ok.sum() < size * size / 5:
                        continue
                    gap = (a[ya, xa] - b[yb, xb])[ok]
                    cost = float(gap.var())
                    if cost < best:
                        best, where = cost, (y, x)
        steps.append((where[1] / size, where[0] / size))
    return np.array(steps), contrast


def _overlap(size: int, move: int) -> tuple[slice, slice]:
    return slice(max(0, -move), size - max(0, move)), slice(max(0, move), size - max(0, -move))


def _shrunk(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What stays free at a distance of 3 pixels from what is not: edges are blurred."""
    kept: Any = torch.from_numpy(~free)[None, None].float()
    kept = torch.nn.functional.max_pool2d(kept, 7, 1, 3)[0, 0] < 0.5
    out: NDArray[np.bool_] = kept.numpy()
    return out


def measured(frames: NDArray[np.uint8], prompt: str, scene: Scene) -> dict[str, float]:
    """Numbers of one clip: cosine and error of its object (of two: mean and the worse, under the
    better assignment), slope of log size (zoom), slope and contrast of the background (pan).
    """
    words = prompt.split()
    colours = [w for w in words[: words.index("on")] if w in COLOURS]
    points = time_points(FRAMES)
    truths = [t.path[points].astype(np.float64) for t in scene.things]
    paths = [track(frames, c) for c in colours]
    orders = [(0, 1), (1, 0)] if len(truths) == 2 else [(0,)]
    best = max(
        orders, key=lambda o: sum(path_cosine(paths[k], truths[o[k]]) for k in range(len(o)))
    )
    cosines = [path_cosine(paths[k], truths[best[k]]) for k in range(len(best))]
    errors = [path_error(paths[k], truths[best[k]]) for k in range(len(best))]
    out = {
        "cosine": float(np.mean(cosines)),
        "worse": float(np.min(cosines)),
        "error": float(np.nanmean(errors)),
        "visible": float(np.mean([np.isfinite(p).all(1).mean() for p in paths])),
    }
    if scene.family == "zoom":
        true = np.log(scene.things[0].radius[points].astype(np.float64))
        out["size"] = slope(sizes(frames, colours[0]), true)
    if scene.family == "pan":
        steps, out["contrast"] = background_steps(frames)
        true_steps = np.diff(scene.shift[points].astype(np.float64), axis=0)
        out["background"] = float((steps * true_steps).sum() / (true_steps**2).sum())
    return out


def card_of(adapter: Any, scene: Scene, **changes: Any) -> MotionCard:
    config = TrainConfig(recipe="rich", **changes)
    for event in train(adapter, clip_of(scene), config):
        if isinstance(event, Finished):
            return event.card
    raise AssertionError("the trainer always ends with Finished")


def with_offsets(card: MotionCard, offsets: torch.Tensor) -> MotionCard:
    """The card with these `(S, 3)` offsets in all guided steps."""
    positions = offsets.half().numpy()[None, None]
    tensors = {**card.tensors, "positions": positions}
    return MotionCard(dataclasses.replace(card.spec, digest=""), tensors)


def starts(adapter: Any, scene: Scene) -> Callable[[str], MotionCard]:
    """The card of a row; the reference is read once for all rows but `layers`."""
    made: dict[str, MotionCard] = {}

    def trained(start: str) -> MotionCard:
        if start not in made:
            made[start] = card_of(adapter, scene, start=start, parametrisation="offset")
        return made[start]

    def card(row: str) -> MotionCard:
        name = row.removesuffix("/plain")
        if name == "layers":
            return trained(name)
        base = trained("zero")
        grid = base.spec.grid.token_grid()
        if name == "none":
            return base
        if name == "flow":
            return with_offsets(
                base, subject_layer(grid, mean_path(flow_of(base), grid.frames // 2))
            )
        return with_offsets(base, true_offsets(name, scene, grid))

    return card


def flow_of(card: MotionCard) -> AttentionMotionFlow:
    displacement = torch.from_numpy(np.array(card.tensors["flow"]))
    mask = torch.from_numpy(unpacked(card.spec, card.tensors)).bool()
    return AttentionMotionFlow(displacement, mask, card.spec.grid.token_grid())


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All rows of all references with the first pair, then with the second, ..."""
    adapter = load_backbone("bundled")
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for p in range(args.pairs):
        for kind in args.classes.split(","):
            rows = args.rows.split(",") if args.rows else ROWS[kind]
            for r, scene in enumerate(references(kind, args.references)):
                left = [row for row in rows if f"{kind}|{row}|{r}|{p}" not in found]
                prompt, seed = pair(kind, r, p)
                card, shown = starts(adapter, scene), [(f"{kind} {r}", render(scene))]
                for row in left:
                    phase = 0.0 if row.endswith("/plain") else 1.0
                    (video,) = generate(adapter, [prompt], [seed], card=card(row), phase=phase)
                    found[f"{kind}|{row}|{r}|{p}"] = measured(video.frames, prompt, scene)
                    args.out.with_suffix(".part").write_text(json.dumps(found, indent=1) + "\n")
                    os.replace(args.out.with_suffix(".part"), args.out)
                    shown.append((f"{row}: {prompt}", video.frames))
                if args.sheet and left:
                    _sheet(args.sheet, f"{kind}-{r}-{p}", shown)
                print(kind, r, p, file=sys.stderr, flush=True)
    return found


def _sheet(folder: Path, name: str, rows: list[tuple[str, Any]]) -> None:
    from pe_toolkit.video import write_image
    from pe_toolkit.visual import contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    count = len(list(folder.glob(f"{name}*.png")))
    write_image(folder / f"{name}-{count}.png", contact_sheet(rows), force=True)


def table(found: dict[str, Any]) -> None:
    """Means and 95 % intervals over references."""
    groups: dict[tuple[str, str], list[tuple[int, dict[str, float]]]] = {}
    for key, values in found.items():
        kind, row, reference, _ = key.split("|")
        groups.setdefault((kind, row), []).append((int(reference), values))
    for (kind, row), rows in sorted(groups.items()):
        text = []
        for name in ("cosine", "worse", "error", "size", "background", "contrast", "visible"):
            if name not in rows[0][1] or (name == "worse" and kind != "two"):
                continue
            values = np.array([v[name] for _, v in rows], dtype=np.float64)
            mean, low, high = interval(values, np.array([r for r, _ in rows]))
            text.append(f"{name} {mean:.2f} [{low:.2f}, {high:.2f}]")
        print(f"{kind:5s} {row:18s} n {len(rows):3d}  {'  '.join(text)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--references", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--rows", default="", help="default: by class, all but layers")
    parser.add_argument("--sheet", type=Path, default=None, help="a folder for contact sheets")
    parser.add_argument("--table", action="store_true", help="print what OUT.json holds, and end")
    args = parser.parse_args()
    table(json.loads(args.out.read_text()) if args.table else run(args))


if __name__ == "__main__":
    main()
