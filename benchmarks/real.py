"""One evening on a GPU: which recipe carries the motion of real clips? Needs the weights.

    python -m benchmarks.real --backbone cogvideox-5b --clips CLIPS -o OUT
    python -m benchmarks.real --backbone bundled --clips CLIPS -o OUT --rows no-card,rich

CLIPS is a folder of videos. The prompts of `a.mp4` are the lines of `a.txt` beside it, else those
of `prompts.txt`, else two of the backbone's own. Every row is one way to make every video of every
clip: `no-card`; cards, trained once for a clip on prompts of the backbone's own and applied to the
clip's (*zero-shot*); and latents, optimised for each video by itself, with our objective and the
baselines. `--rows` picks some and says the order, `--list` names them all with their settings.

OUT gets the cards, the videos, `results.jsonl` with every measurement, a contact sheet of each clip
and `table.md`. What is there is not made again: stop it and run it again, also with more rows. Look
at the sheets: `score` is that of `pe apply` (the motion of the video, read by the backbone itself,
against the reference's; -1 to 1), which was validated on rendered shapes only. Differences to
`no-card` are paired by clip, with 95 % intervals over clips.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import kept
from benchmarks.transfer import interval, say
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import PeError, ResumeError
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, PreviewFrames
from pe_toolkit.video import Clip, read_clip, write_image, write_video
from pe_toolkit.visual import contact_sheet

ROWS: dict[str, dict[str, str] | None] = {
    "no-card": None,
    "default": {"recipe": "default"},
    "default-17": {"recipe": "default", "block": "17"},
    "rich": {"recipe": "rich"},
    "rich-17": {"recipe": "rich", "block": "17"},
    "rich-content": {"recipe": "rich", "reading": "content"},
    "flow": {"recipe": "rich", "phase": "off"},
    "phase": {"recipe": "rich", "start": "zero"},
    "latents": {"mode": "latents"},
    "latents-17": {"mode": "latents", "block": "17"},
    "latents-rich": {"mode": "latents", "recipe": "rich"},
    "smm": {"mode": "latents", "objective": "smm"},
    "moft": {"mode": "latents", "objective": "moft"},
    "motionclone": {"mode": "latents", "objective": "motionclone"},
}
"""Name -> what is asked of the training: `mode`, `recipe` and settings of `pe train --set`. Block
17 is that of DiffTrack (arXiv 2506.17220); the bundled backbone has no such block."""
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")


@dataclasses.dataclass(frozen=True)
class Job:
    """One clip, its prompts, and how its motion is told."""

    name: str
    clip: Clip
    prompts: tuple[str, ...]
    motion: ReferenceMotion


@dataclasses.dataclass(frozen=True)
class Bench:
    """What is the same for all clips."""

    adapter: Backbone
    out: Path
    steps: int | None
    seeds: tuple[int, ...]

    @property
    def raw(self) -> Path:
        return self.out / "results.jsonl"

    def config(self, row: str, **more: Any) -> TrainConfig:
        """What the training of a row is asked."""
        settings = dict(ROWS[row] or {})
        fields = {name: settings.pop(name) for name in ("mode", "recipe") if name in settings}
        config = TrainConfig(**fields, steps=self.steps, **more)  # type: ignore[arg-type]
        return config.with_overrides(settings)


def prompts_of(path: Path, adapter: Backbone) -> tuple[str, ...]:
    """The prompts of a clip."""
    for text in (path.with_suffix(".txt"), path.with_name("prompts.txt")):
        if text.is_file():
            lines = [line.strip() for line in text.read_text(encoding="utf-8").splitlines()]
            if found := tuple(line for line in lines if line):
                return found
    return adapter.defaults().training_prompts[-2:]


def jobs(folder: Path, adapter: Backbone) -> Iterator[Job]:
    """The clips of a folder, with the motion that every row is compared with: one reading for all
    rows, so that block and recipe of a row do not judge themselves.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"Expected videos in {folder}, found none.")
    for one, other in pairwise(sorted(paths, key=lambda path: path.stem)):
        if one.stem == other.stem:  # results are kept by it
            raise SystemExit(f"Expected clips with names of their own, got {one} and {other}.")
    row, (width, height) = adapter.defaults(), adapter.size
    reading = row.reading or Reading((row.block,))
    for path in paths:
        try:
            clip = read_clip(path, frames=adapter.frames, size=(width, height))
        except PeError as error:  # one of them is not the end of the evening
            say(error.message)
            continue
        q, k = adapter.reference_queries_and_keys(
            adapter.encode(clip.frames).latents, reading, adapter.frames, width, height,
            adapter.encode_image(clip.frames),
        )  # fmt: skip
        flow = hard_displacement(q, k, adapter.grid, mutual=reading.mutual)[0].cpu()
        yield Job(
            path.stem, clip, prompts_of(path, adapter), ReferenceMotion(adapter, flow, reading)
        )


def run(bench: Bench, job: Job, row: str) -> None:
    """Make and score what is missing of a row."""
    have = {(m["row"], m["clip"], m["prompt"], m["seed"]) for m in kept.lines(bench.raw)}
    card: MotionCard | None = None
    for number, prompt in enumerate(job.prompts):
        for seed in bench.seeds:
            if (row, job.name, prompt, seed) in have:
                continue
            began, about = time.monotonic(), f"{row} {job.name} {number}-{seed}"
            if row != "no-card" and bench.config(row).mode == "latents":
                frames, fps = latents(bench, job, row, number, seed)
            else:
                if card is None and row != "no-card":
                    card = trained(bench, job, row)
                image = job.clip.frames[0] if bench.adapter.image_to_video else None
                [made] = generate(
                    bench.adapter, [prompt], [seed], card=card, image=image,
                    steps=None if card else bench.steps,
                )  # fmt: skip
                frames, fps = made.frames, made.fps
            seconds = time.monotonic() - began
            write_video(
                below(bench.out, "videos") / f"{about.replace(' ', '_')}.mp4",
                frames,
                fps,
                force=True,
            )
            found = job.motion.compare(frames)
            entry = {
                "row": row, "clip": job.name, "prompt": prompt, "seed": seed,
                "score": found.score, "why": found.reason, "seconds": round(seconds, 1),
            }  # fmt: skip
            kept.add(bench.raw, entry)
            say(f"{about}: {found.score if found.score is not None else found.reason}")


def trained(bench: Bench, job: Job, row: str) -> MotionCard:
    """The card of a row for a clip: trained once, on prompts of the backbone's own."""
    path = below(bench.out, "cards") / f"{job.name}-{row}.safetensors"
    if path.is_file():
        return MotionCard.load(path)
    config = bench.config(row, seed=1_000_000, name=job.name[:100])
    card = finished(bench, job, config, path)[0]
    card.save(path, force=True)
    return card


def latents(
    bench: Bench, job: Job, row: str, number: int, seed: int
) -> tuple[NDArray[np.uint8], float]:
    """A video whose latents were optimised, and its frames per second."""
    config = bench.config(row, prompts=(job.prompts[number],), seed=seed, preview=True)
    path = below(bench.out, "cards") / f"{job.name}-{row}-{number}-{seed}"
    shown = finished(bench, job, config, path)[1]
    assert shown is not None  # it was asked for
    return shown.frames, shown.fps


def finished(
    bench: Bench, job: Job, config: TrainConfig, path: Path
) -> tuple[MotionCard, PreviewFrames | None]:
    """Card and preview of a training that goes on where it was stopped."""
    state, shown = path.with_name(f"{path.name}.resume"), None
    image = job.clip.frames[0] if bench.adapter.image_to_video else None
    events = train(
        bench.adapter, job.clip, config, state=state, resume=state.is_file(), image=image
    )  # fmt: skip
    try:
        for event in events:
            if isinstance(event, PreviewFrames):
                shown = event
            if isinstance(event, Finished):
                state.unlink(missing_ok=True)
                return event.card, shown
    except ResumeError:  # of another version, or with other --steps: from the beginning
        state.unlink()
        return finished(bench, job, config, path)
    raise AssertionError("the trainer always ends with Finished")


def below(out: Path, name: str) -> Path:
    """A folder of the results."""
    (out / name).mkdir(parents=True, exist_ok=True)
    return out / name


def table(raw: Path, rows: list[str]) -> str:
    """Markdown: every row over all clips, and its difference to `no-card`."""
    text = [
        "| row | videos | with a score | score [95 % over clips] | minus no-card, paired "
        "| s a video |",
        "|---|---|---|---|---|---|",
    ]
    entries = kept.lines(raw)
    plain = means(entries, "no-card")
    for row in rows:
        own = [e for e in entries if e["row"] == row]
        found = means(entries, row)
        both = {clip: found[clip] - plain[clip] for clip in found if clip in plain}
        text.append(
            f"| {row} | {len(own)} | {sum(e['score'] is not None for e in own)} | {_spread(found)} "
            f"| {'' if row == 'no-card' else _spread(both)} "
            f"| {np.median([e['seconds'] for e in own]) if own else float('nan'):.0f} |"
        )
    return "\n".join(text) + "\n"


def means(entries: list[dict[str, Any]], row: str) -> dict[str, float]:
    """Mean score of a clip's videos, by clip, where there is one."""
    scores: dict[str, list[float]] = {}
    for entry in entries:
        if entry["row"] == row and entry["score"] is not None:
            scores.setdefault(entry["clip"], []).append(entry["score"])
    return {clip: float(np.mean(values)) for clip, values in scores.items()}


def _spread(found: dict[str, float]) -> str:
    if not found:
        return "-"
    mean, low, high = interval(np.array(list(found.values())), np.arange(len(found)))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def sheet(bench: Bench, job: Job, rows: list[str]) -> None:
    """A contact sheet of a clip: the reference above the first video of every row."""
    strips: list[tuple[str, Any]] = [("reference", job.clip.frames)]
    for row in rows:
        path = bench.out / "videos" / f"{row}_{job.name}_0-{bench.seeds[0]}.mp4"
        if path.is_file():
            strips.append((row, read_clip(path, frames=bench.adapter.frames).frames))
    write_image(bench.out / f"{job.name}.png", contact_sheet(strips), force=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbone", default="cogvideox-5b")
    parser.add_argument("--clips", type=Path, metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, default=Path("real"), metavar="DIR")
    parser.add_argument("--rows", default="", metavar="A,B,...")
    parser.add_argument("--seeds", type=int, default=1, help="videos of a prompt")
    parser.add_argument("--steps", type=int, default=None, help="default: the backbone's")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--device", default=None)
    parser.add_argument("--offload", default="auto")
    parser.add_argument("--list", action="store_true", help="only name the rows")
    args = parser.parse_args(arguments)
    if args.list:
        for name, settings in ROWS.items():
            given = " ".join(f"{key}={value}" for key, value in (settings or {}).items())
            print(f"{name:14s} {given}")
        return
    rows = [row for row in args.rows.split(",") if row] or list(ROWS)
    if unknown := [row for row in rows if row not in ROWS]:
        parser.error(f"expected rows out of {', '.join(ROWS)}, got {unknown[0]}")
    if args.clips is None or not args.clips.is_dir():
        parser.error("expected --clips DIR, a folder of videos")
    if args.seeds < 1:
        parser.error("expected --seeds from 1")
    kept.same_settings(
        args.output / "settings.json", {"backbone": args.backbone, "steps": args.steps}
    )
    adapter = load_backbone(
        args.backbone, dtype=args.dtype, device=args.device, offload=args.offload
    )
    args.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(adapter, args.output, args.steps, tuple(range(args.seeds)))
    # A block that this backbone does not have is no row of it.
    rows = [row for row in rows if int((ROWS[row] or {}).get("block", 0)) < adapter.blocks]
    for job in jobs(args.clips, adapter):
        for row in rows:
            try:
                run(bench, job, row)
            except PeError as error:  # one clip without motion is not the end of the evening
                say(f"{row} {job.name}: {error.message}")
        sheet(bench, job, rows)
        (args.output / "table.md").write_text(table(bench.raw, rows), encoding="utf-8")
    print(table(bench.raw, rows))


if __name__ == "__main__":
    main()
