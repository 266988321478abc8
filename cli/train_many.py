"""`pe train A B ... -o DIR`: a card for each of many references."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.card.followed import followed
from pe_toolkit.cli import job_pools, machine, other_shapes, prompts, reference_words
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text
from pe_toolkit.cli.progress import Progress
from pe_toolkit.cli.requests.train import TrainOptions
from pe_toolkit.cli.train_steps import LITTLE_LEARNT
from pe_toolkit.errors import CardError, OutputExistsError, UsageError, option

if TYPE_CHECKING:
    from pe_toolkit.jobs.folder import JobFolder
    from pe_toolkit.jobs.job import Job, Outcome
    from pe_toolkit.jobs.pools import Pool
    from pe_toolkit.jobs.run import Tally

ALONE = ("preview", "plot", "track", "name", "kv_from", "resume")
"""Options for one reference. `--resume` is not needed: many always go on."""


def train_many(session: Session, request: TrainOptions) -> None:
    """From the options to the cards. What fails stops no other one: exit code 1 at the end."""
    from pe_toolkit.jobs.folder import JobFolder
    from pe_toolkit.suites.cards import jobs

    out, folder, options = session.out, _folder(request), request.each()
    for one in options:
        one.check()
    backbone, known, remark = machine.resolve(request.backbone, request.device, request.copy_of)
    for one in options:
        one.config(known)
    if remark:
        out.talk(remark)
    listed = jobs(options, _asked(request, backbone))
    small = known is not None and known.bundled
    pool, words = job_pools.pool_for(request, folder, request.device, small=small)
    place = JobFolder(folder)
    _check_outputs(listed, place, force=request.force)
    out.talk(f"{len(listed)} references -> {folder}; {backbone}; {words}")
    if known is not None:
        prompts.warn_unknown(out, request.prompts, known.name)
        other_shapes.warn(out, known, request.frames_for(known), request.size)
    session.rerun = True
    session.argv = tuple(word for word in session.argv if word != "--force")
    _finish(session, _work(session, listed, place, pool), listed, place)


def _folder(request: TrainOptions) -> Path:
    for name in ALONE:
        if getattr(request, name) not in (None, False):
            raise UsageError(
                f"Expected no {option(name)} with several references, got it.",
                "The same command goes on where it stopped, without --resume."
                if name == "resume"
                else "Use it with one reference.",
            )
    if request.output.suffix == ".safetensors":
        raise UsageError(
            f"Expected a folder for several cards, got {request.output}.", "Name a folder."
        )
    return request.output


def _asked(options: TrainOptions, backbone: str) -> dict[str, str | bool]:
    """What `load_backbone` is to be given, without defaults and the device."""
    wanted = {
        "revision": options.revision,
        "copy_of": options.copy_of,
        "dtype": options.dtype,
        "offload": None if options.offload == "auto" else options.offload,
        "quantize": None if options.quantize == "none" else options.quantize,
        "vae_tiling": options.vae_tiling,
    }
    return {"name": backbone} | {k: v for k, v in wanted.items() if v is not None}


def _check_outputs(listed: Sequence[Job], folder: JobFolder, *, force: bool) -> None:
    """No card of somebody else is overwritten; with `force` all are made anew, also by a run
    without it that goes on.

    Raises:
        OutputExistsError: one is there that this list did not make, or not of the clip as it is.
    """
    from pe_toolkit.video.sources import digest

    for job in listed:
        card = folder.path / f"{job.args['card']}.safetensors"
        if force:
            if card.exists():
                folder.own(job.id, digest(card))
            folder.again(job)
        elif card.exists() and (why := _otherwise(card, job, folder)):
            raise OutputExistsError(
                f"Expected no file at {card}, but there is one, {why}.",
                "Use --force to overwrite it, or choose another -o.",
            )


def _otherwise(card: Path, job: Job, folder: JobFolder) -> str:
    """In words, why a card is not the one that the job would make; "" if it is."""
    from pe_toolkit.video.sources import digest

    record, there = folder.record(job), digest(card)
    if record is None:
        return "" if there in folder.owned(job.id) else "made otherwise"
    if record["result"]["sha256"] != there:
        return "made otherwise"
    for name, key in (("reference", "clip"), ("image", "image")):
        asked, was = job.args["request"].get(name), record["result"].get(key)
        if was is not None and os.path.exists(asked) and digest(Path(asked)) != was:
            return f"made of another {Path(asked).name}"
    return ""


def _work(session: Session, listed: Sequence[Job], folder: JobFolder, pool: Pool) -> Tally:
    from pe_toolkit.jobs.run import Tally, run

    tally = Tally()
    with pool, Progress(session.out, "card", len(listed)) as bar:
        for outcome in run(listed, folder, pool):
            tally.add(outcome)
            _tell(session, outcome, bar, len(tally.there) + len(tally.done) + len(tally.failed))
    return tally


def _tell(session: Session, outcome: Outcome, bar: Progress, done: int) -> None:
    out = session.out
    result = None if outcome.record is None else outcome.record["result"]
    out.event(
        "job", job=outcome.job.id, state=outcome.state, result=result,
        message=outcome.message or None, hint=outcome.hint,
    )  # fmt: skip
    if outcome.state == "failed":
        out.fail(f"{outcome.job.name}: {outcome.message}", outcome.hint)
        if session.debug and outcome.trace:
            out.trace(outcome.trace)
    elif outcome.state == "there" or result is None:
        bar.reach(done)
    else:
        bar.at(done, f"{result['card']}, {result['seconds']:.1f} s")


def _finish(session: Session, tally: Tally, listed: Sequence[Job], folder: JobFolder) -> None:
    out = session.out
    found = [record for job in listed if (record := folder.record(job)) is not None]
    results = [record["result"] for record in found]
    out.made(
        [folder.path / result["card"] for result in results],
        {
            str(folder.path / r["card"]): f"{size_text(r['size_bytes'])}, {r['seconds']:.0f} s; "
            f"{r.get('followed') or followed(r['matched'])}{_learned(folder.path / r['card'])}"
            for r in results
        },
    )
    out.talk(
        f"{len(tally.done)} cards made, {len(tally.there)} were there, {len(tally.failed)} failed"
        f"{': ' if tally.failed else ''}{', '.join(o.job.name for o in tally.failed)}."
    )
    if tally.failed:
        out.talk("The same command does what failed again, and nothing else.")
        session.code = 1
    elif poor := [result["card"] for result in results if result["little_to_learn_from"]]:
        out.warn(f"there was little to learn from in: {', '.join(poor)}")
        session.code = LITTLE_LEARNT
    out.event(
        "summary", folder=folder.path, cards=[folder.path / r["card"] for r in results],
        done=len(tally.done), there=len(tally.there),
        failed=[outcome.job.id for outcome in tally.failed],
    )  # fmt: skip


def _learned(card: Path) -> str:
    """What was used of the reference of a card and what moves in it, each after a line break: as
    `pe train` says of one alone.
    """
    from pe_toolkit.card import read_info
    from pe_toolkit.card.motion_words import card_motion
    from pe_toolkit.shown import printable

    try:
        spec = read_info(card).spec
    except CardError:  # it is gone since
        return ""
    lines = (printable(reference_words.used_words(spec)), card_motion(spec))
    return "".join(f"\n{line}" for line in lines if line)
