"""The parts of `pe apply` before and around the library: checks, choices, progress."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.apply.drafts import Draft
from pe_toolkit.apply.parts import things
from pe_toolkit.cli import apply_output, apply_resume, as_trained, files
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import UsageError
from pe_toolkit.shown import shown

if TYPE_CHECKING:
    from pe_toolkit.apply import Generated
    from pe_toolkit.apply.request import ApplyRequest, Conditions
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.cli.requests.apply import ApplyOptions
    from pe_toolkit.evaluation.following import ReferenceMotion
    from pe_toolkit.video import Clip


def targets(
    options: ApplyOptions, card: MotionCard, seeds: Sequence[int], name: str
) -> tuple[list[files.Target], list[files.Target]]:
    """The files to write, all of which can be written; and with `--resume` those that are there.

    Args:
        name: what the registry calls the card, else "".

    Raises:
        UsageError, OutputError, OutputExistsError: as `files.check_outputs`.
        ResumeError: as `apply_resume.finished`.
    """
    planned = planned_at(options, seeds, name or card.spec.name)
    there: list[files.Target] = []
    if options.resume:
        wanted = {target: apply_output.known(target, card, options) for target in planned}
        there = apply_resume.finished(planned, wanted)
    begun = {target.video: target for target in there}
    there = [target for target in there if not target.again]
    left = [begun.get(t.video, t) for t in planned if t not in there]
    paths = [path for target in left if not target.again for path in target.files]
    for path, suffix, switch in (
        (options.sheet, ".png", "--sheet"),
        (options.scored_card, ".safetensors", "--scored-card"),
    ):
        if path is not None:
            files.check_suffix(path, suffix, switch)
            paths.append(path)
    read = (
        options.side_by_side, options.kv_from, options.image, options.card_path, options.prompt_file
    )  # fmt: skip
    files.check_not_read(paths, read)
    files.check_outputs(paths, force=options.force)
    return left, there


def planned_at(options: ApplyOptions, seeds: Sequence[int], name: str) -> list[files.Target]:
    """Prompts x seeds at `--output`, or at the first name of which no file is there yet; with
    `--resume` at the last one that was begun.
    """
    beside = options.side_by_side is not None

    def at(out: Path) -> list[files.Target]:
        return files.plan(out, options.prompts, seeds, side_by_side=beside)

    if options.output is not None:
        return at(options.output)
    stem = options.card_path.stem
    if re.fullmatch("[0-9a-f]{64}", stem):  # a card of the registry, which lies under its digest
        from pe_toolkit.registry.references import slug

        stem = slug(name)
    if files.there(Path(f"{stem}.mp4")) and not Path(f"{stem}.json").is_file():
        stem += "-new"  # it is no video of ours: the reference, most likely
    begun = None
    for planned in map(at, files.numbered(stem, ".mp4")):
        if not any(files.there(path) for target in planned for path in target.files):
            return begun if options.resume and begun is not None else planned
        if any(target.sidecar.is_file() for target in planned):
            begun = planned
    raise AssertionError("there is always another number")


def with_drafts(options: ApplyOptions, spec: CardSpec, backbone: str) -> ApplyOptions:
    """As many drafts as pay on that backbone, where neither they nor a seed were asked for."""
    from pe_toolkit.backbones import VARIANTS

    bundled = backbone in VARIANTS and VARIANTS[backbone].bundled
    return options.with_drafts(spec, bundled=bundled) if options.free else options


def tell(
    called: str,
    left: Sequence[files.Target],
    there: Sequence[files.Target],
    spec: CardSpec,
    out: Output,
) -> None:
    """What is going to be made, before anything that takes time; `called`: the card, as it was
    given.
    """
    if there:
        out.talk(f"{len(there)} of {len(left) + len(there)} videos are there already.")
    if left:
        first, more, clip = left[0].video, len(left) - 1, spec.clip
        out.talk(
            f"{called} -> {first}{f' and {more} more' if more else ''}, "
            f"{clip.frames} frames of {clip.width}x{clip.height}"
        )


def finish_without(
    card: MotionCard, options: ApplyOptions, there: Sequence[files.Target], out: Output
) -> None:
    """The sheet, the scored card and the list, of videos that are all there."""
    beside = read_beside(options.side_by_side, card.spec, out)
    results = apply_output.Results(card, options, out, None if beside is None else beside.frames)
    results.leave_all(there)
    results.finish()


def read_beside(path: Path | None, spec: CardSpec, out: Output) -> Clip | None:
    """The clip of `--side-by-side`, if there is one; warns when it is another one than the card was
    made from, or the card was edited since. (Keys and values of another one are warned of by the
    library.)

    Raises:
        ClipError: it cannot be read.
    """
    return None if path is None else as_trained.read(path, spec, out, "--side-by-side")


def warn_prompts(spec: CardSpec, request: ApplyRequest, out: Output) -> None:
    """Warn when a latents card meets a prompt that it was not made for. Say how the bundled
    backbone is asked for a background that shows what the reference's camera does.
    """
    from pe_toolkit.world.vocabulary import TEXTURED

    own = spec.samples[0].prompt
    if request.replays(spec) and any(prompt != own for prompt in request.prompts):
        out.warn(
            f"this latents card was made for the prompt {shown(own)}: with another one, what it "
            "shows leaks into the video."
        )
    _warn_things(spec, request, out)
    plain = [prompt for prompt in request.prompts if TEXTURED not in prompt.lower().split()]
    bundled = spec.backbone.variant.startswith("bundled") and not request.no_card
    if plain and bundled and spec.recipe.ground is not None and _camera_moves(spec):
        out.talk(
            "The reference's camera moves, which shows on a texture only: ask for one, as in "
            f'"a red circle on a {TEXTURED} grey background".'
        )


def _warn_things(spec: CardSpec, request: ApplyRequest, out: Output) -> None:
    """Warn on the bundled backbone when a prompt names another number of things than the card
    moves: the ways of two are no way of one, and of a second one nothing is said.
    """
    from pe_toolkit.world.vocabulary import things as named_in

    if not spec.backbone.variant.startswith("bundled") or request.no_card or not request.strength:
        return
    moved, motion = things(spec), spec.reference.motion
    several = moved > 1
    if not several and (motion is None or len(motion.subjects) != 1):
        return
    other = 1 if several else 2  # a caption names one or two
    off = [prompt for prompt in request.prompts if named_in(prompt) == other]
    if not off:
        return
    which = "the prompt" if len(off) == len(set(request.prompts)) == 1 else shown(off[0])
    if several:
        goes = moved if motion is None else len(motion.subjects)
        many = f"{goes} of {moved} things" if 0 < goes < moved else _many(moved)
        out.warn(f"the card moves {many}, {which} names one: it may stay where it is.")
    else:
        out.warn(f"the card moves one thing, {which} names two: nothing says where the other goes.")


def _many(count: int) -> str:
    return "two things" if count == 2 else f"{count} things"


def warn_cache(spec: CardSpec, request: ApplyRequest, out: Output) -> None:
    """Warn of a cache that has nothing to skip: guided steps are computed in full."""
    guided = len(spec.schedule.noise)
    applied = bool(request.strength) and not request.no_card
    if request.cache != "none" and applied and guided == spec.schedule.steps:
        out.warn(
            f"this card guides all {guided} steps, which are computed in full: --cache "
            f"{request.cache} has none to skip."
        )


def _camera_moves(spec: CardSpec) -> bool:
    from pe_toolkit.motion.words import camera_words

    motion = spec.reference.motion
    return motion is not None and bool(camera_words(motion.camera))


def choose_backbone(
    spec: CardSpec, options: ApplyOptions, argv: Sequence[str]
) -> tuple[str, str | None, bool]:
    """Name and revision for `load_backbone`, and whether they come from the card.

    A card may name a model of the table at a branch, tag or commit of its own; any other is typed.

    Args:
        argv: the words after `pe`, for the line that a person has to type.

    Raises:
        UsageError: a card that names another model, with the line that loads it.
        MismatchError: as `check_family`: nothing that is named would fit.
    """
    from pe_toolkit.backbones.loading import trust
    from pe_toolkit.card.compat import check_family

    check_family(spec)
    own = spec.backbone
    if options.backbone is not None:
        return options.backbone, options.revision, False
    try:
        name, revision = trust.of_card(own.variant, own.model_id, own.revision)
    except UsageError as error:
        raise UsageError(error.message, _line_for(spec, argv) or error.hint) from error
    return name, options.revision or revision, options.revision is None


def _line_for(spec: CardSpec, argv: Sequence[str]) -> str | None:
    """What to type to load the model that a card asks for, and what that would download; None for
    a model that has no name on the Hub.
    """
    from pe_toolkit.backbones import VARIANTS
    from pe_toolkit.backbones.loading import trust

    own = spec.backbone
    row = VARIANTS.get(own.variant)
    model = own.model_id or (row.hub_id if row is not None else None)
    if model is None or not trust.is_hub_id(model):
        return None
    words, at = ["--backbone", model], "the branch main"
    if own.revision is not None and trust.is_readable(own.revision):
        words += ["--revision", own.revision]
        at = own.revision
    size = f", {row.download_gb:.1f} GB" if row is not None and model in row.hub_ids else ""
    return (
        f"A card does not choose what is downloaded and run. If you trust {model}, type: "
        f"{shlex.join(['pe', *argv, *words])} (loads {model} at {at}{size}, from the cache or from "
        "the Hub)."
    )


def motion(adapter: Backbone, card: MotionCard, wanted: bool | None) -> ReferenceMotion | None:
    """What the results are scored against; None without `--score`.

    On its own only where it costs next to nothing and was validated: on the bundled backbone.
    """
    bundled = adapter.variant is not None and adapter.variant.bundled
    if not (bundled if wanted is None else wanted):
        return None
    from pe_toolkit.evaluation.following import ReferenceMotion

    return ReferenceMotion.of_card(adapter, card)


def judge(
    adapter: Backbone,
    card: MotionCard,
    drafts: int,
    motion: ReferenceMotion | None,
    out: Output,
    *,
    asked: bool = True,
) -> ReferenceMotion | None:
    """What drafts are compared with; None where there are none, or nothing says which is better.

    Args:
        asked: somebody wants drafts, and is told why there are none.
    """
    if drafts == 1:
        return None
    from pe_toolkit.evaluation.following import ReferenceMotion

    found = motion or ReferenceMotion.of_card(adapter, card)
    if found.silent and not asked:
        return None
    if found.silent:
        out.warn(f"nothing says which draft is better: {found.silent}. No drafts are made.")
        return None
    if not asked:
        many = _many(things(card.spec)).capitalize()
        out.talk(
            f"{many} move: each video's seed is the best of {drafts}, by drafts of a fifth of the "
            "steps. With --seed or --drafts 1 there are none."
        )
    return found


def videos(
    adapter: Backbone,
    card: MotionCard,
    request: ApplyRequest,
    targets: Sequence[files.Target],
    given: Conditions,
    bar: Progress,
    *,
    alone: bool,
    judge: ReferenceMotion | None = None,
) -> Iterator[tuple[Generated, list[Draft]]]:
    """One video for each target, in their order, and the drafts that it was chosen by.

    Args:
        alone: nothing of the card is on the model when one comes out, so that the transformer can
            be run for its score.
        judge: says which draft is the best; None: the seeds are taken as they are.
    """
    report = reporter(bar)
    texts = tuple(dict.fromkeys(target.prompt for target in targets))
    seeds = list(dict.fromkeys(target.seed for target in targets))
    if judge is None and not alone and len(targets) == len(texts) * len(seeds):  # all of a batch
        for made in request.generate(adapter, card, texts, seeds, given, report):
            yield made, []
        return
    drafting = reporter(bar, "drafts, ")
    for target in targets:
        drafts, seed = list[Draft](), target.seed
        if judge is not None:
            asked = (target.prompt, seed, judge.rank)
            drafts = request.draft(adapter, card, *asked, given, drafting)
            seed = drafts[0].seed
        for made in list(request.generate(adapter, card, [target.prompt], [seed], given, report)):
            yield made, drafts


def reporter(bar: Progress, what: str = "") -> Callable[[int, int], None]:
    """Shows each denoising step with what remains of its video; seen on a terminal only."""
    began = [time.monotonic(), 0.0]

    def report(done: int, steps: int) -> None:
        now = time.monotonic()
        if done == 1:  # the first step may compile and load kernels: it says little about the pace
            began[:] = [now, 1.0]
        pace = (now - began[0]) / (done - began[1]) if done > began[1] else 0.0
        left = f", {pace * (steps - done):.0f} s left" if pace and done < steps else ""
        # Decoding follows the last step.
        bar.part(
            done / (steps + 1),
            f"{what}step {done}/{steps}{left}" if done < steps else f"{what}decoding",
        )

    return report
