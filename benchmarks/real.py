"""One evening on a GPU: which recipe carries the motion of real clips? Needs the weights.

    python -m benchmarks.real --backbone cogvideox-5b --clips CLIPS -o OUT
    python -m benchmarks.real --backbone bundled --clips CLIPS -o OUT --rows no-card,rich

CLIPS is a folder of videos. The prompts of `a.mp4` are the lines of `a.txt` beside it, else those
of `prompts.txt`, else two of the backbone's own. Every row is one way to make every video of every
clip: `no-card`; cards, trained once for a clip on prompts of the backbone's own and applied to the
clip's (*zero-shot*); latents, optimised for each video by itself, with our objective and the
baselines; and controls: the card of the next clip, and the clip's own with its phase shuffled over
frames, its positions over tokens, or both. Another card and one with both shuffled are to score as
`no-card` does; of one shuffled part, the other may carry the motion alone. `--rows` picks some and
says the order, `--list` names them all with their settings.

Two judge the motion, and no row is made by either. `mf` is the motion fidelity of `pe eval`, of
points followed in the pictures (`--tracker`), with the next clips beside it, whose motion the video
was not to take: unrelated motions are well above 0. `score` is that of `pe apply`, read by the
backbone at a block at least three away from those of all rows (5b: 23, 2b: 12; `--judge` names
another), by content. Whether that block sees motion nobody knows of CogVideoX, and of the bundled
backbone only blocks that rows use do: go by `mf`, which itself puts a quarter of single pairs of
published videos into the wrong order (docs/metrics.md), and look at the sheets.

Likeness to the clip stands beside that to the next ones: correlation of pixels
(`benchmarks.classes`), `leak` of `pe eval`, and with `--metrics` those by CLIP and DINO and how
well the prompt is shown (`text_similarity`), whose weights are fetched then. `as prompted` is told
of prompts of the bundled world only. What cannot be measured is a dash.

OUT gets the cards, the videos, `results.jsonl` with every measurement, a contact sheet of each clip
and `table.md`. What is there is not made again: stop it and run it again, also with more rows. With
other judges or more metrics the videos that are there are measured again, from their files, as they
were the first time. Intervals are 95 %, over clips; differences to `no-card` are paired by clip.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import kept, real_rows, real_table
from benchmarks.classes import CHANGES, shuffled
from benchmarks.real_clips import Job, jobs
from benchmarks.real_measures import WEIGHTS, Measures, usable_tracker, usable_weights
from benchmarks.real_rows import CONTROLS
from benchmarks.transfer import say
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import PeError, ResumeError, UsageError
from pe_toolkit.evaluation.trackers import TRACKERS
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, PreviewFrames
from pe_toolkit.video import Clip, read_clip, write_image, write_video
from pe_toolkit.visual import contact_sheet

Entries = dict[tuple[Any, ...], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Bench:
    """What is the same for all clips."""

    adapter: Backbone
    measures: Measures
    out: Path
    steps: int | None
    seeds: tuple[int, ...]

    @property
    def raw(self) -> Path:
        return self.out / "results.jsonl"

    def entries(self) -> Entries:
        """The records, one a video: the last one, where it was measured again.

        Raises:
            SystemExit: an earlier version left them, which measured at a block of the rows.
        """
        found: Entries = {}
        for entry in kept.lines(self.raw):
            if "judges" not in entry:
                raise SystemExit(
                    f"Expected records that name their judges in {self.raw}, got some of an "
                    "earlier version, which had rows judge themselves: name another place."
                )
            found[entry["row"], entry["clip"], entry["prompt"], entry["seed"]] = entry
        return found


def run(bench: Bench, job: Job, row: str) -> None:
    """Make what is missing of a row, and measure what was not measured so."""
    have = bench.entries()
    card = functools.cache(lambda: card_for(bench, job, row))
    for number, prompt in enumerate(job.prompts):
        for seed in bench.seeds:
            old = have.get((row, job.name, prompt, seed), {})
            path = video_of(bench, job, row, prompt, seed)
            if path.is_file() and old and bench.measures.done(old, job):
                continue
            seconds, about = old.get("seconds"), f"{row} {job.name} {number}-{seed}"
            if not (path.is_file() and old):
                began = time.monotonic()
                frames, fps = made(bench, job, row, prompt, seed, card)
                seconds = round(time.monotonic() - began, 1)
                write_video(path, frames, fps, force=True)
            # From the file: measured again another day, the numbers are the same.
            frames = read_clip(path, frames=bench.adapter.frames).frames
            key = {"row": row, "clip": job.name, "prompt": prompt, "seed": seed}
            entry = old | key | {"seconds": seconds} | bench.measures.of(job, frames, prompt)
            kept.add(bench.raw, entry)
            told = {k: entry.get(k) for k in ("mf", "score", "like own")}
            say(f"{about}: {', '.join(f'{k} {v:.2f}' for k, v in told.items() if v is not None)}")


def video_of(bench: Bench, job: Job, row: str, prompt: str, seed: int) -> Path:
    """Where a video is kept: by its prompt, whose number may change."""
    told = f"{row}_{job.name}_{zlib.crc32(prompt.encode()):08x}-{seed}.mp4"
    return below(bench.out, "videos") / told


def made(
    bench: Bench, job: Job, row: str, prompt: str, seed: int, card: Callable[[], MotionCard | None]
) -> tuple[NDArray[np.uint8], float]:
    """Frames `(F, H, W, 3)` of one video of a row, and how many a second."""
    if row in real_rows.ROWS and row != "no-card" and real_rows.config(row).mode == "latents":
        return latents(bench, job, row, prompt, seed)
    image = job.clip.frames[0] if bench.adapter.image_to_video else None
    used = card()
    [video] = generate(
        bench.adapter, [prompt], [seed], card=used, image=image,
        steps=None if used else bench.steps,
    )  # fmt: skip
    return video.frames, video.fps


def card_for(bench: Bench, job: Job, row: str) -> MotionCard | None:
    """What a row applies to the videos of a clip; None: nothing.

    Raises:
        UsageError: a control of which there is none, for want of another clip or of what is to be
            shuffled.
    """
    if row == "no-card":
        return None
    if row not in CONTROLS:
        return trained(bench, job.name, job.clip, row)
    of, change = CONTROLS[row]
    if change == "other":
        if not job.others:
            raise UsageError("Expected another clip in the folder, whose card to apply; got one.")
        return trained(bench, *job.others[0], of)
    card = trained(bench, job.name, job.clip, of)
    changed = shuffled(card, CHANGES[change], zlib.crc32(job.name.encode()))
    if all(np.array_equal(card.tensors[name], changed.tensors[name]) for name in card.tensors):
        raise UsageError(f"Expected something that {change} would change, got a card without.")
    return changed


def trained(bench: Bench, name: str, clip: Clip, row: str) -> MotionCard:
    """The card of a row for a clip: trained once, on prompts of the backbone's own."""
    path = below(bench.out, "cards") / f"{name}-{row}.safetensors"
    if path.is_file():
        return MotionCard.load(path)
    config = real_rows.config(row, bench.steps, seed=1_000_000, name=name[:100])
    card = finished(bench, clip, config, path)[0]
    card.save(path, force=True)
    return card


def latents(
    bench: Bench, job: Job, row: str, prompt: str, seed: int
) -> tuple[NDArray[np.uint8], float]:
    """A video whose latents were optimised, and its frames per second."""
    config = real_rows.config(row, bench.steps, prompts=(prompt,), seed=seed, preview=True)
    path = below(bench.out, "cards") / video_of(bench, job, row, prompt, seed).stem
    shown = finished(bench, job.clip, config, path)[1]
    assert shown is not None  # it was asked for
    return shown.frames, shown.fps


def finished(
    bench: Bench, clip: Clip, config: TrainConfig, path: Path
) -> tuple[MotionCard, PreviewFrames | None]:
    """Card and preview of a training that goes on where it was stopped."""
    state, shown = path.with_name(f"{path.name}.resume"), None
    image = clip.frames[0] if bench.adapter.image_to_video else None
    events = train(
        bench.adapter, clip, config, state=state, resume=state.is_file(), image=image
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
        return finished(bench, clip, config, path)
    raise AssertionError("the trainer always ends with Finished")


def below(out: Path, name: str) -> Path:
    """A folder of the results."""
    (out / name).mkdir(parents=True, exist_ok=True)
    return out / name


def sheet(bench: Bench, job: Job, rows: list[str]) -> None:
    """A contact sheet of a clip: the reference above the first video of every row."""
    strips: list[tuple[str, Any]] = [("reference", job.clip.frames)]
    for row in rows:
        path = video_of(bench, job, row, job.prompts[0], bench.seeds[0])
        if path.is_file():
            strips.append((row, read_clip(path, frames=bench.adapter.frames).frames))
    write_image(bench.out / f"{job.name}.png", contact_sheet(strips), force=True)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("--backbone", default="cogvideox-5b")
    add("--clips", type=Path, metavar="DIR")
    add("-o", "--output", type=Path, default=Path("real"), metavar="DIR")
    add("--rows", default="", metavar="A,B,...")
    add("--metrics", default="", metavar="A,B,...", help=f"out of {', '.join(WEIGHTS)}")
    add("--tracker", default=next(iter(TRACKERS)), help="as `pe eval --tracker`")
    add("--judge", type=int, default=None, metavar="BLOCK", help="one that no row uses")
    add("--seeds", type=int, default=1, help="videos of a prompt")
    add("--steps", type=int, default=None, help="default: the backbone's")
    add("--dtype", default=None)
    add("--device", default=None)
    add("--offload", default="auto")
    add("--list", action="store_true", help="only name the rows")
    return found


def main(arguments: list[str] | None = None) -> None:
    asked = parser()
    args = asked.parse_args(arguments)
    if args.list:
        print(real_rows.listed())
        return
    if args.clips is None or not args.clips.is_dir():
        asked.error("expected --clips DIR, a folder of videos")
    if args.seeds < 1:
        asked.error("expected --seeds from 1")
    try:
        rows = real_rows.chosen(args.rows)
        tracker = usable_tracker(args.tracker)
        weights = usable_weights(tuple(name for name in args.metrics.split(",") if name))
    except UsageError as error:
        asked.error(error.message)
    kept.same_settings(
        args.output / "settings.json", {"backbone": args.backbone, "steps": args.steps}
    )
    adapter = load_backbone(
        args.backbone, dtype=args.dtype, device=args.device, offload=args.offload
    )
    try:
        reading = real_rows.judge(adapter.defaults(), adapter.blocks, args.judge)
    except UsageError as error:
        asked.error(error.message)
    measures, seeds = Measures(adapter, reading, tracker, weights), tuple(range(args.seeds))
    bench = Bench(adapter, measures, args.output, args.steps, seeds)
    there = set(real_rows.rows_for(adapter.blocks))
    evening(bench, args.clips, [row for row in rows if row in there])


def evening(bench: Bench, clips: Path, rows: list[str]) -> None:
    """All rows of all clips, with the table and the sheets so far after each clip."""
    say(f"judges: {bench.measures.judges}")
    text = ""
    for job in jobs(clips, bench.adapter):
        for row in rows:
            try:
                run(bench, job, row)
            except PeError as error:  # one clip without motion is not the end of the evening
                say(f"{row} {job.name}: {error.message}")
        sheet(bench, job, rows)
        entries = list(bench.entries().values())
        text = real_table.table(entries, rows, bench.measures.judges)
        (bench.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
