"""Edits, and switches of parts, of cards of every class of motion: against the edited truth.

    python -m benchmarks.edited_classes RAW.jsonl                 8 references x 2 pairs a class
    python -m benchmarks.edited_classes RAW.jsonl --classes pan --rows reversed,trained-reversed
    python -m benchmarks.edited_classes RAW.jsonl --classes two-halves
    python -m benchmarks.edited_classes RAW.jsonl --table

Every reference is trained once (`--recipe rich`), its card edited without the clip and applied to
unseen prompts and seeds (those of `benchmarks.classes`); what is drawn is compared with the scene
that was edited likewise. `trained-reversed` and so on are cards of that edited scene: what is to be
had. `camera-0` and `subject-0` turn that part off: nothing moves but the thing by its own
motion, or the camera's for all.

`two-halves`: two references of one thing, whose ways lie in the left and in the right half, put
together by a mask (`Change(mask=..., outside=...)`), and a card of the scene of both; prompts name
two things.

RAW.jsonl holds one line a clip; what is there is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import kept
from benchmarks.classes import pair
from benchmarks.edits import trained
from benchmarks.transfer import interval, say
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.editing import Change, changed
from pe_toolkit.world.attributes import seen
from pe_toolkit.world.class_metrics import compared, observe
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import Array, Scene, Thing

SEED = 4242  # references other than those of benchmarks.classes
CLASSES = ("pan", "held", "zoom", "roll", "two")
MEASURES = {
    "translation": ("cosine", "error", "extent"),
    "pan": ("cosine", "ground_cosine", "ground"),
    "held": ("ground_cosine", "ground", "wander"),
    "zoom": ("size", "ground_size"),
    "roll": ("angle",),
    "two": ("cosine", "cosine_worse"),
    "two-halves": ("cosine", "cosine_worse"),
}
WIDE = 0.2
"""Of the picture, how far ways in a half go from left to right."""


def at_times(scene: Scene, times: Array) -> Scene:
    """As it is at other times, 0 to 1; the background counts from the first of them."""
    frames = np.rint(np.clip(times, 0, 1) * (len(scene.shift) - 1)).astype(int)

    def taken(values: Array | None) -> Any:
        return None if values is None else values[frames].copy()

    things = tuple(
        dataclasses.replace(t, path=t.path[frames], radius=t.radius[frames], angle=taken(t.angle))
        for t in scene.things
    )
    shift = taken(scene.shift)
    return dataclasses.replace(
        scene,
        things=things,
        shift=shift - shift[0],
        scale=taken(scene.scale),
        turn=taken(scene.turn),
    )


def mirrored(scene: Scene) -> Scene:
    """Left and right are changed."""

    def flipped(thing: Thing) -> Thing:
        path = thing.path * [-1, 1] + [1, 0]
        angle = None if thing.angle is None else -thing.angle
        return dataclasses.replace(thing, path=path.astype(np.float32), angle=angle)

    turn = None if scene.turn is None else -scene.turn
    things = tuple(map(flipped, scene.things))
    shift = (scene.shift * [-1, 1]).astype(np.float32)
    return dataclasses.replace(scene, things=things, shift=shift, turn=turn)


def _paced(speed: float) -> Callable[[Scene], Scene]:
    return lambda scene: at_times(scene, np.linspace(0, 1, len(scene.shift)) * speed)


EDITS: dict[str, tuple[Change | None, Callable[[Scene], Scene]]] = {
    "as-it-is": (None, lambda scene: scene),
    "mirrored": (Change(mirror=("left-right",)), mirrored),
    "reversed": (Change(reverse=True), lambda s: at_times(s, np.linspace(1, 0, len(s.shift)))),
    "half": (Change(speed=0.5), _paced(0.5)),
    "double": (Change(speed=2), _paced(2)),
}


def without_camera(scene: Scene) -> Scene:
    """Of a camera that pans: each thing moves by what it does beyond the background."""
    things = tuple(
        dataclasses.replace(thing, path=(thing.path - scene.shift).astype(np.float32))
        for thing in scene.things
    )
    return dataclasses.replace(scene, family="two", things=things, shift=scene.shift * 0)


def with_camera(scene: Scene) -> Scene:
    """Of a camera that pans: each thing moves as the background does."""
    first = scene.shift[len(scene.shift) // 2]
    things = tuple(
        dataclasses.replace(
            thing, path=(thing.path[len(thing.path) // 2] + scene.shift - first).astype(np.float32)
        )
        for thing in scene.things
    )
    return dataclasses.replace(scene, family="pan", things=things)


SWITCHES: dict[str, tuple[dict[str, float], Callable[[Scene], Scene]]] = {
    "camera-0": ({"camera": 0.0}, without_camera),
    "subject-0": ({"subject": 0.0}, with_camera),
}
ROWS = (*EDITS, *(f"trained-{name}" for name in list(EDITS)[1:]), *SWITCHES)
DEFAULT = (*EDITS, *SWITCHES)


def halves(count: int) -> list[tuple[Scene, Scene]]:
    """Pairs of scenes of one thing, whose ways lie in the left and in the right half: as wide as
    they may be there.
    """
    scenes = scenes_of("translation", 2 * count, seed=SEED)
    left, right = ([_within(one, x) for one in scenes[k::2]] for k, x in enumerate((0.25, 0.75)))
    return list(zip(left, right, strict=True))


def _within(scene: Scene, middle: float) -> Scene:
    (thing,) = scene.things
    across = thing.path[:, 0]
    low, high = float(across.min()), float(across.max())
    path = thing.path.copy()
    path[:, 0] = middle + (across - (low + high) / 2) * min(1.0, WIDE / max(high - low, 1e-6))
    return dataclasses.replace(scene, things=(dataclasses.replace(thing, path=path),))


def rows_of(adapter: Any, name: str, scene: Scene, rows: list[str]) -> Any:
    """`(row, card, how to apply it, truth)` of a reference."""
    card = trained(adapter, scene)
    for row in rows:
        if row in SWITCHES:
            how, truth = SWITCHES[row]
            if name == "held" and "subject" in (card.spec.recipe.layers or ()):
                yield row, card, how, truth(scene)
            continue
        change, edit = EDITS[row.removeprefix("trained-")]
        if row.startswith("trained-"):
            yield row, trained(adapter, edit(scene)), {}, edit(scene)
        else:
            yield row, card if change is None else changed(card, change), {}, edit(scene)


def put_together(adapter: Any, left: Scene, right: Scene) -> tuple[MotionCard, Scene]:
    """The card of both, and what it should show."""
    mask = np.zeros((32, 32))
    mask[:, :16] = 1
    cards = trained(adapter, left), trained(adapter, right)
    things = (*left.things, *right.things)
    if things[0].colour == things[1].colour:  # prompts name two colours
        things = things[0], dataclasses.replace(things[1], colour=_another(things[0].colour))
    truth = dataclasses.replace(left, family="two", things=things)
    return changed(cards[0], Change(mask=mask, outside=cards[1])), truth


def _another(colour: str) -> str:
    return "blue" if colour != "blue" else "red"


def made(adapter: Any, line: dict[str, Any], card: MotionCard, how: Any, truth: Scene) -> Any:
    """One clip, measured."""
    named = line.pop("scene")
    prompt, seed = pair(named, line["reference"], line["pair"])
    (video,) = generate(adapter, [prompt], [seed], card=card, **how)
    found = observe(video.frames, prompt)
    values = compared(found, truth)
    if line["row"] in SWITCHES:  # one that stands still has no cosine, but a way, in sides
        values["way"] = way(found.paths)
        values["ground way"] = math.nan if found.ground is None else way(found.ground.shift)
    return line | {
        "values": values | {"adherent": float(seen(video.frames, prompt).adherent)},
    }, video.frames


def way(paths: Any) -> float:
    """Length of paths `(..., T, 2)`, over the steps whose two ends are seen."""
    return float(np.nansum(np.linalg.norm(np.diff(paths, axis=-2), axis=-1)))


def run(args: Any) -> None:
    adapter, done = load_backbone("bundled"), kept.lines(args.raw)
    there = {(x["class"], x["reference"], x["pair"], x["row"]) for x in done}
    for name in args.classes:
        pairs = halves(args.references) if name == "two-halves" else []
        scenes = [] if pairs else scenes_of(name, args.references, seed=SEED)
        for r in range(args.first, len(pairs or scenes)):
            rows = ["put-together", "trained-together"] if pairs else args.rows
            todo = [(row, k) for row in rows for k in range(args.pairs)]
            todo = [(row, k) for row, k in todo if (name, r, k, row) not in there]
            if not todo:
                continue
            if pairs:
                card, truth = put_together(adapter, *pairs[r])
                work = [("put-together", card, {}, truth)]
                if any(row != "put-together" for row, _ in todo):
                    work.append(("trained-together", trained(adapter, truth), {}, truth))
            else:
                work = rows_of(
                    adapter, name, scenes[r], list(dict.fromkeys(row for row, _ in todo))
                )
            for row, card, how, truth in work:
                for k in [k for other, k in todo if other == row]:
                    scene = truth if pairs else scenes[r]
                    line = {"class": name, "reference": r, "pair": k, "row": row, "scene": scene}
                    line, frames = made(adapter, line, card, how, truth)
                    kept.add(args.raw, line)
                    if args.frames:
                        args.frames.mkdir(exist_ok=True)
                        np.save(args.frames / f"{name}-{row}-{r}-{k}.npy", frames)
            say(f"{name} {r + 1}/{len(pairs or scenes)}")


def table(lines: list[dict[str, Any]]) -> None:
    """Means with 95 % over references."""
    for name in dict.fromkeys(line["class"] for line in lines):
        print(name)
        own = [line for line in lines if line["class"] == name]
        for row in dict.fromkeys(line["row"] for line in own):
            these = [line for line in own if line["row"] == row]
            groups = np.array([line["reference"] for line in these])
            said = []
            measures = ("way", "ground way") if row in SWITCHES else ()
            for key in (*MEASURES[name], *measures, "extra", "adherent"):
                values = np.array([line["values"].get(key, np.nan) for line in these], float)
                if np.isfinite(values).any():
                    mean, low, high = interval(values, groups)
                    said.append(f"{key} {mean:.2f} [{low:.2f}, {high:.2f}]")
            print(f"  {row:18s} {len(these):3d}  {', '.join(said)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.edited_classes", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("raw", type=Path, metavar="RAW.jsonl")
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--rows", default=",".join(DEFAULT))
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--first", type=int, default=0, metavar="R", help="from this reference on")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--frames", type=Path, default=None, help="keep the clips here")
    parser.add_argument("--table", action="store_true", help="only print")
    args = parser.parse_args()
    args.classes, args.rows = args.classes.split(","), args.rows.split(",")
    if unknown := {*args.classes} - {*MEASURES} | {*args.rows} - {*ROWS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if not args.table:
        run(args)
    table(kept.lines(args.raw))


if __name__ == "__main__":
    main()
