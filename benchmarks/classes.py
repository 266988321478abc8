"""Does a card carry this kind of motion? Class by class (`pe_toolkit.world.motions`), against exact
truth.

    python -m benchmarks.classes RUN --recipe rich                 8 references x 2 pairs a class
    python -m benchmarks.classes RUN --recipe rich --references 24 --pairs 4     the record
    python -m benchmarks.classes RUN --classes two,zoom --set K=0 --controls shuffled-phase
    python -m benchmarks.classes RUN --draws        what the backbone can draw: no card at all
    python -m benchmarks.classes RUN --diversity 16 how much clips of one card and prompt differ
    python -m benchmarks.classes RUN --table        the table of what is there

RUN is a folder: `raw.jsonl` holds one line of numbers per clip, `frames/` the clips, `cards/` the
cards. What is there is not made again: a run may be stopped, continued, and given more references,
pairs, classes, controls, recipes (`--name` says which is meant in the table). References, prompts
and seeds depend on their own number only. A prompt asks for other colours, other shapes and
another background than its reference has, so that what leaks is seen; where the camera moves, a
textured one, so that its motion is.

Conditions: plain (no card, the same prompts and seeds), the card, and controls on the first pair of
each reference: shuffled-phase, shuffled-positions, shuffled-both. The card of another reference
needs no clips: every clip is also compared with the three next references (`other`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import class_drawing, class_table, kept
from benchmarks.transfer import clip_of, say
from pe_toolkit.apply import ApplyRequest, generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from pe_toolkit.training.recipes import RECIPES
from pe_toolkit.world.attributes import seen
from pe_toolkit.world.class_metrics import CAMERA, compared, observe
from pe_toolkit.world.motions import CLASSES, apart, scenes_of
from pe_toolkit.world.scenes import Scene, render
from pe_toolkit.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    TRAINING_PROMPTS,
    caption,
)

ORDER = (
    "translation", "across", "small", "stops", "two", "zoom", "pan", "held", "enters", "roll",
)  # fmt: skip
CONTROLS = ("shuffled-phase", "shuffled-positions", "shuffled-both")
OTHERS = 3
"""So many other references stand for all of them."""


def pair(scene: Scene, reference: int, index: int) -> tuple[str, int]:
    """Unseen (prompt, seed) number `index` of a reference: nothing in it is the reference's."""
    number = zlib.crc32(f"{scene.family} {reference} {index}".encode())
    rng = np.random.default_rng([78, number])
    used = {thing.colour for thing in scene.things}, {thing.shape for thing in scene.things}
    shapes = [s for s in SHAPES if s not in used[1] and (scene.family != "roll" or s != "circle")]
    grounds = [b for b in BACKGROUNDS if b != scene.background]
    while True:
        colours = rng.choice([c for c in COLOURS if c not in used[0]], len(scene.things), False)
        things = [(str(c), str(rng.choice(shapes))) for c in colours]
        # What a camera does shows on a texture only, which is there for sure when asked for.
        textured = scene.family in CAMERA
        prompt = caption(things, str(rng.choice(grounds)), textured=textured)
        if apart([colour for colour, _ in things]) and prompt not in TRAINING_PROMPTS:
            return prompt, 200_000 + number % 10**8


def shuffled(card: MotionCard, names: tuple[str, ...], seed: int) -> MotionCard:
    """The same card with positions permuted over tokens, or phases over latent frames (over
    everything, nothing is drawn at all): equal numbers, no motion. What it does not hold stays so.
    """
    rng, tensors = np.random.default_rng(seed), dict(card.tensors)
    if "positions" in names:
        values = tensors["positions"]
        axis = values.ndim - 2
        tensors["positions"] = np.take(values, rng.permutation(values.shape[axis]), axis=axis)
    if "phase" in names and "phase" in tensors:
        tensors["phase"] = rng.permutation(tensors["phase"], axis=0)
    return MotionCard(dataclasses.replace(card.spec, digest=""), tensors)


CHANGES = {
    "shuffled-phase": ("phase",),
    "shuffled-positions": ("positions",),
    "shuffled-both": ("phase", "positions"),
}


def record(frames: NDArray[np.uint8], prompt: str, scenes: list[Scene], r: int) -> dict[str, Any]:
    """All numbers of one clip: `values` against its reference, `other` against the next ones (mean
    over these), what it shows, and likeness to both.
    """
    scene = scenes[r]
    found = observe(frames, prompt, ground=scene.family in CAMERA)
    what = seen(frames, prompt, leaning=scene.family == "roll")
    others = [scenes[(r + 1 + k) % len(scenes)] for k in range(OTHERS)]
    against = [compared(found, other) for other in others]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of nothing: an invisible object has no error
        other = {k: float(np.nanmean([a[k] for a in against])) for k in against[0]}
    return {
        "values": compared(found, scene) | {"adherent": float(what.adherent)},
        "other": other,
        "seen": dataclasses.asdict(what),
        "like own": likeness(frames, render(scene)),
        "like other": float(np.mean([likeness(frames, render(other)) for other in others])),
    }


def likeness(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    """Correlation of two clips, all pixels and colours of every fourth frame together."""
    a, b = (x[::4, ::4, ::4].astype(np.float64).ravel() for x in (one, two))
    return float(np.corrcoef(a, b)[0, 1])


class Store:
    """The folder of a run; lines are only ever added."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw = folder, folder / "raw.jsonl"
        for part in ("frames", "cards"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.lines = kept.lines(self.raw)
        self.keys = {self.key(line) for line in self.lines}

    @staticmethod
    def key(line: dict[str, Any]) -> tuple[Any, ...]:
        return line["class"], line["reference"], line["pair"], line["row"]

    def add(self, line: dict[str, Any], frames: NDArray[np.uint8] | None = None) -> None:
        if frames is not None:
            np.savez_compressed(self.frames(self.key(line)), frames=frames)
        kept.add(self.raw, line)
        self.lines.append(line)
        self.keys.add(self.key(line))

    def frames(self, key: tuple[Any, ...]) -> Path:
        return self.folder / "frames" / f"{'-'.join(str(part) for part in key)}.npz"


def card_of(adapter: Any, store: Store, name: str, scene: Scene, r: int, args: Any) -> MotionCard:
    """The kept card of a reference, or a new one."""
    path = store.folder / "cards" / f"{name}-{scene.family}-{r}.safetensors"
    if path.exists():
        return MotionCard.load(path)
    config = TrainConfig(recipe=args.recipe).with_overrides(dict(s.split("=", 1) for s in args.set))
    samples = config.resolve(adapter.variant).samples
    prompts = [TRAINING_PROMPTS[(r + i) % len(TRAINING_PROMPTS)] for i in range(samples)]
    config = dataclasses.replace(config, prompts=tuple(prompts), seed=samples * r)
    began = time.monotonic()
    for event in train(adapter, clip_of(scene), config):
        if isinstance(event, Finished):
            event.card.save(path, force=True)
            say(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size} bytes")
            return event.card
    raise AssertionError("the trainer always ends with Finished")


def tasks(store: Store, args: Any) -> Iterator[tuple[str, int, int, str]]:
    """(class, reference, pair, row) of what is still to be made, references first: after half of
    the time every class has half of its references.
    """
    for r in range(args.references):
        for name in args.classes:
            for k in range(args.pairs):
                rows = ["plain", args.name]
                if k == 0 and r < args.control_references:
                    rows += [f"{args.name} {control}" for control in args.controls]
                for row in rows:
                    if (name, r, k, row) not in store.keys:
                        yield name, r, k, row


def run(store: Store, args: Any) -> None:
    adapter = load_backbone(args.backbone)
    # One list for all numbers of references: the next ones of a reference must not change.
    scenes = {name: scenes_of(name, max(24, args.references)) for name in args.classes}
    began, todo = time.monotonic(), list(tasks(store, args))
    card: tuple[tuple[str, int], MotionCard] | None = None
    for i, (name, r, k, row) in enumerate(todo):
        if args.minutes and time.monotonic() - began > 60 * args.minutes:
            say(f"time is up: {len(todo) - i} clips are missing")
            return
        scene = scenes[name][r]
        prompt, seed = pair(scene, r, k)
        used: MotionCard | None = None
        if row != "plain":
            if card is None or card[0] != (name, r):
                card = (name, r), card_of(adapter, store, args.name, scene, r, args)
            used = card[1]
            if row != args.name:
                used = shuffled(used, CHANGES[row.removeprefix(args.name + " ")], r)
        line = {"class": name, "reference": r, "pair": k, "row": row, "prompt": prompt}
        if args.drafts > 1 and used is not None:
            asked = ApplyRequest(prompts=(prompt,), drafts=args.drafts, scheduler=args.scheduler)
            rank = ReferenceMotion.of_card(adapter, used).rank
            found = asked.draft(adapter, used, prompt, seed, rank)
            line["drafts"] = [vars(draft) for draft in found]
            seed = found[0].seed
        (video,) = generate(adapter, [prompt], [seed], card=used, scheduler=args.scheduler)
        line |= {"seed": seed, "seconds": round(video.seconds, 2)}
        store.add(line | record(video.frames, prompt, scenes[name], r), video.frames)
        shown = {key: round(value, 2) for key, value in store.lines[-1]["values"].items()}
        say(f"{i + 1}/{len(todo)} {name} {r}.{k} {row}: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("--backbone", default="bundled")
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--scheduler", choices=("ddim", "dpm"), default=None)
    parser.add_argument("--drafts", type=int, default=1, help="as `pe apply --drafts`")
    parser.add_argument("--name", default=None, help="of the row; default: recipe and settings")
    parser.add_argument("--classes", default=",".join(ORDER))
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--controls", default="", help=f"out of {','.join(CONTROLS)}")
    parser.add_argument("--control-references", type=int, default=4, help="per class")
    parser.add_argument("--minutes", type=float, default=0, help="stop early; 0: never")
    parser.add_argument("--draws", action="store_true", help="what the backbone can draw")
    parser.add_argument(
        "--level", type=int, default=class_drawing.HALF, help="timestep that --draws noises to"
    )
    parser.add_argument("--diversity", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--table", action="store_true", help="only print")
    parser.add_argument("--json", type=Path, default=None, help="write the table's numbers here")
    parser.add_argument("--sheets", type=Path, default=None, help="contact sheets, one a class")
    args = parser.parse_args()
    how = [*args.set, *filter(None, [args.scheduler])]
    how += [f"drafts {args.drafts}"] if args.drafts > 1 else []
    args.name = args.name or " ".join([args.recipe, *how])
    args.classes = args.classes.split(",")
    args.controls = [name for name in args.controls.split(",") if name]
    if unknown := {*args.classes} - {*CLASSES} | {*args.controls} - {*CONTROLS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if not args.table:
        kept.same_settings(args.folder / "settings.json", {"backbone": args.backbone})
    store = Store(args.folder)
    if args.draws:
        class_drawing.draws(store, args)
    elif args.diversity:
        class_drawing.diversity(store, args)
    elif not args.table:
        run(store, args)
    summary = class_table.summary(store.lines, args.classes)
    class_table.show(summary)
    if args.json:
        args.json.write_text(json.dumps(summary, indent=1) + "\n")
    if args.sheets:
        class_table.sheets(store, args)


if __name__ == "__main__":
    main()
