"""Does an edited card move as its reference would, had that been edited? `pe edit` against truth.

    python -m benchmarks.edits                  8 references x 2 unseen (prompt, seed) pairs
    python -m benchmarks.edits --record F.json  kept clip by clip, and gone on with when run again
    python -m benchmarks.edits --two            only the rows of two things

Every reference is trained once (`--recipe rich`); its card is edited without the clip, applied to
prompts and seeds that no training saw, and the path of what is drawn is compared with the edited
true path: mirrored, reversed, half as fast, twice as fast, larger, half as long, or followed by the
motion of the next reference. A region around the thing must do no harm. A region around one of two
things, whose ways lie apart: what is inside follows, what is outside should stand still (`outside`:
the length of its way over that of the reference's other thing); `--drafts 4` chooses the seeds
there as `pe apply` does where none is given.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.classes import pair
from benchmarks.transfer import clip_of, interval, pairs, references, truth_of
from pe_toolkit.apply import ApplyRequest, generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.editing import Change, changed
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from pe_toolkit.world.attributes import seen
from pe_toolkit.world.class_metrics import observe, true_paths
from pe_toolkit.world.metrics import measure, path_cosine, path_error
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import Array, Scene

Path2 = NDArray[np.float64]
SEED = 4242  # references other than those of benchmarks.transfer


def _at(path: Path2, times: NDArray[np.float64]) -> Path2:
    """A path at other times, 0 to 1."""
    own = np.linspace(0, 1, len(path))
    return np.stack([np.interp(times, own, column) for column in path.T], 1)


def _u(path: Path2) -> NDArray[np.float64]:
    return np.linspace(0, 1, len(path))


EDITS: dict[str, tuple[Change | None, Callable[[Path2], Path2]]] = {
    "not edited": (None, lambda path: path),
    "mirrored left-right": (Change(mirror=("left-right",)), lambda path: path * [-1, 1] + [1, 0]),
    "mirrored up-down": (Change(mirror=("up-down",)), lambda path: path * [1, -1] + [0, 1]),
    "reversed": (Change(reverse=True), lambda path: path[::-1].copy()),
    "half as fast": (Change(speed=0.5), lambda path: _at(path, _u(path) * 0.5)),
    "twice as fast": (Change(speed=2), lambda path: _at(path, np.minimum(_u(path) * 2, 1))),
    "160x160 pixels": (Change(size=(160, 160)), lambda path: path),
    "160x128 pixels": (Change(size=(160, 128)), lambda path: path),
    "17 frames": (Change(frames=17), lambda path: _at(path, np.linspace(0, 1, 17))),
}  # fmt: skip


def one_after_the_other(first: Path2, second: Path2) -> Path2:
    """Each in half of the time, the second from where the first ends."""
    half = np.linspace(0, 1, len(first) // 2 + 1)
    a, b = _at(first, half), _at(second, half)
    return np.concatenate([a, (b - b[0] + a[-1])[1:]])


def box_of(path: Array, margin: float) -> tuple[Array, Array]:
    """The corners of what a thing covers on its whole way, and some around."""
    return path.min(0) - margin, path.max(0) + margin


def region_of(path: Path2, size: tuple[int, int], margin: float = 0.3) -> NDArray[np.float64]:
    """A mask that covers a thing on its whole way, and some around."""
    low, high = box_of(path, margin)
    axis = (np.arange(size[0]) + 0.5) / size[0]
    inside = [(axis >= low[i]) & (axis <= high[i]) for i in (0, 1)]
    mask = np.outer(inside[1], inside[0]).astype(np.float64)
    return mask if mask.min() == 0 else np.pad(mask[:, :-8], ((0, 0), (0, 8)))


def way_apart(scene: Scene, margin: float = 0.1) -> bool:
    """Whether no box around the way of one thing touches that of the other."""
    (low, high), (low2, high2) = (box_of(thing.path, margin) for thing in scene.things)
    return bool((low > high2).any() or (low2 > high).any())


def one_of_two(frames: NDArray[np.uint8], prompt: str, scene: Scene) -> tuple[list[float], float]:
    """Of a clip of two things: cosine and error of the one that begins nearer to where the first
    thing of `scene` does, and the length of the other's way over that of the scene's other thing.
    """
    paths, truths = observe(frames, prompt, ground=False).paths, true_paths(scene)
    away = np.linalg.norm(paths[:, 0] - truths[0, 0], axis=-1)
    if not np.isfinite(away).any():
        return [float("nan")] * 2, float("nan")
    inside = int(np.nanargmin(away))
    values = [path_cosine(paths[inside], truths[0]), path_error(paths[inside], truths[0])]
    own, true = (
        np.nansum(np.linalg.norm(np.diff(path, axis=0), axis=1))
        for path in (paths[1 - inside], truths[1])
    )
    return values, float(own / true)


def trained(adapter: object, scene: object) -> MotionCard:
    """The card of a scene."""
    for event in train(adapter, clip_of(scene), TrainConfig(recipe="rich")):  # type: ignore[arg-type]
        if isinstance(event, Finished):
            return event.card
    raise AssertionError("training ends with its card")


def chosen(adapter: Any, card: MotionCard, prompt: str, seed: int, drafts: int) -> int:
    """The seed whose draft follows best; the seed itself where nothing says which does."""
    judge = ReferenceMotion.of_card(adapter, card)
    if judge.silent:
        return seed
    asked = ApplyRequest(prompts=(prompt,), drafts=drafts)
    return asked.draft(adapter, card, prompt, seed, judge.rank)[0].seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--drafts", type=int, default=1, help="of the rows of two things")
    parser.add_argument("--two", action="store_true", help="only the rows of two things")
    parser.add_argument("--record", type=Path, help="clip by clip; what is there is not made again")
    args = parser.parse_args()
    rows: dict[str, list[float]] = {}
    if args.record and args.record.exists():
        rows = json.loads(args.record.read_text())
    adapter = load_backbone("bundled")
    if not args.two:
        one_thing(adapter, rows, args)
    two_things(adapter, rows, args)
    table(rows)


def one_thing(adapter: Any, rows: dict[str, list[float]], args: Any) -> None:
    """The rows of edits of one thing."""
    pool = pairs(args.references * args.pairs, seed=991)
    scenes = references(args.references, seed=SEED)
    cards = [trained(adapter, scene) for scene in scenes]
    for r, (scene, card) in enumerate(zip(scenes, cards, strict=True)):
        truth, edits = truth_of(scene), dict(EDITS)
        following = (r + 1) % len(scenes)
        edits["then the next one's"] = (
            Change(then=cards[following]),
            functools.partial(one_after_the_other, second=truth_of(scenes[following])),
        )
        edits["a region around it"] = (
            Change(mask=region_of(truth, adapter.size)),
            lambda path: path,
        )
        for name, (change, way) in edits.items():
            new = card if change is None else changed(card, change)
            for p in range(args.pairs):
                key = f"{name}|{r}|{p}"
                if key in rows:
                    continue
                prompt, seed = pool[r * args.pairs + p]
                (made,) = generate(adapter, [prompt], [seed], card=new)
                found = measure(made.frames, prompt, way(truth))
                rows[key] = [found.cosine, found.trajectory_error, float(found.adherent)]
                if args.record:
                    args.record.write_text(json.dumps(rows, indent=0) + "\n")
        print(f"{r + 1}/{args.references} {scene.family}", file=sys.stderr, flush=True)


def two_things(adapter: Any, rows: dict[str, list[float]], args: Any) -> None:
    """The rows of regions around one of two things."""
    scenes = [scene for scene in scenes_of("two", 300, seed=SEED) if way_apart(scene)]
    for r, scene in enumerate(scenes[: args.references]):
        card = trained(adapter, scene)
        mask = region_of(scene.things[0].path.astype(np.float64), adapter.size, 0.1)
        for name, new in (("two things", card), ("one of two", changed(card, Change(mask=mask)))):
            for p in range(args.pairs):
                key = f"{name}|{r}|{p}"
                if key in rows:
                    continue
                prompt, seed = pair(scene, r, p)
                if args.drafts > 1:
                    seed = chosen(adapter, new, prompt, seed, args.drafts)
                (made,) = generate(adapter, [prompt], [seed], card=new)
                values, outside = one_of_two(made.frames, prompt, scene)
                rows[key] = [*values, float(seen(made.frames, prompt).adherent), outside]
                if args.record:
                    args.record.write_text(json.dumps(rows, indent=0) + "\n")
        print(f"two {r + 1}/{args.references}", file=sys.stderr, flush=True)


def table(rows: dict[str, list[float]]) -> None:
    """Cosine with the edited truth [95 %, over references], error, adherence."""
    print(f"{'edit':26s} {'n':>4s}  cosine                  error  right")
    for name in dict.fromkeys(key.split("|")[0] for key in rows):
        own = [
            (int(key.split("|")[1]), value)
            for key, value in rows.items()
            if key.split("|")[0] == name
        ]
        groups = np.array([r for r, _ in own])
        values = np.array([value for _, value in own])
        mean, low, high = interval(values[:, 0], groups)
        print(
            f"{name:26s} {len(own):4d}  {mean:.3f} [{low:6.3f}, {high:6.3f}]  "
            f"{np.nanmean(values[:, 1]):.3f}  {values[:, 2].mean():.2f}"
            + (f"  outside {np.nanmean(values[:, 3]):.2f}" if values.shape[1] > 3 else "")
        )


if __name__ == "__main__":
    main()
