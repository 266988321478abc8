"""What happens when something is pressed: each handler asks the studio, and gives what it says to
the parts of the page that `layout` names beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pe_toolkit.apply.parts import turned
from pe_toolkit.apply.request import ApplyRequest
from pe_toolkit.cli import files, prompts
from pe_toolkit.cli.page import words
from pe_toolkit.cli.page.making import make
from pe_toolkit.cli.page.studio import GALLERY, Studio, Trained
from pe_toolkit.cli.page.work import Explain, Job, Work
from pe_toolkit.registry.references import slug
from pe_toolkit.training.request import TrainRequest

if TYPE_CHECKING:
    from pe_toolkit.card import CardSpec

SHAPES = (
    "It is small, runs without a GPU, and draws coloured shapes only. Of real footage it has seen "
    "nothing: use it to try things out."
)
FIRST = """<div class="pe-first">Drop a clip, or take the example. Here you see it as the model
does, with an arrow on everything whose motion it can follow. That takes seconds, and tells whether
learning is worth it.</div>"""
ON, OFF = gr.update(visible=True), gr.update(visible=False)
STOP = gr.update(visible=True, value="Stop")
"""The button that stops; a button that was never shown comes without its word."""
PARTS = ("phase", "camera", "subject")
NO_CARD = [OFF, gr.skip(), gr.skip()]
"""Of a training that left no card: nothing to do with it."""


class Page:
    """What happens when something is pressed. Each tab has numbers of its own jobs; the work, the
    model and the cards are shared.
    """

    def __init__(self, studio: Studio, work: Work, explain: Explain) -> None:
        self.studio, self.work, self.explain = studio, work, explain

    def attempt(self, action: Callable[[], str]) -> str:
        """What an action says, or what went wrong with it, as HTML."""
        try:
            return action()
        except Exception as error:
            return words.failure(*self.explain(error))

    def bar(self, job: Job) -> str:
        return words.bar(job, self.work.before(job))

    # When the page is opened.

    def model(self) -> Iterator[str]:
        """Which model it is, as soon as that is known."""
        job = self.work.last("load")
        for _ in job.watch() if job is not None else ():
            assert job is not None
            yield self.bar(job) if not job.over else ""
        if job is not None and job.error is not None:
            yield words.failure(*job.error)
            return
        studio = self.studio
        device = studio.adapter.device if studio.adapter is not None else "?"
        line = f"<b>Model: {words.text(studio.name)}</b>, on {words.text(str(device))}."
        if studio.bundled:
            from pe_toolkit.world.vocabulary import describe

            line += f" {words.text(SHAPES)}<details><summary>Words that it knows</summary>"
            line += f"{words.text(describe())}</details>"
        yield f'<div class="pe-notice">{line}</div>'

    def cards(self, chosen: str | None = None) -> Any:
        """The list of cards, with one of them chosen."""
        try:
            choices = self.studio.choices()
        except Exception:  # the gallery says what is wrong with the registry
            choices = self.studio.made()
        values = [value for _, value in choices]
        if chosen not in values:
            chosen = values[0] if values else None
        return gr.Dropdown(choices=choices, value=chosen)

    def reopened(self) -> Iterator[list[Any]]:
        """The training that is at work, or was last: it may have been asked for in a tab that is
        closed by now.
        """
        job = self.work.last("train")
        if job is not None:
            yield from self.training(job)

    # 1. Learn a motion.

    def see(
        self, clip: str | None, start: float | None, end: float | None, fit: str
    ) -> Iterator[list[Any]]:
        """Read a clip as soon as it is there."""
        try:
            given = self.studio.given(clip)
        except Exception as error:
            yield [FIRST, words.failure(*self.explain(error))]
            return
        if given is None:
            yield [FIRST, ""]
            return
        request = TrainRequest(
            reference=given,
            start=start or 0.0,
            end=end or None,
            fit=fit,  # type: ignore[arg-type]
        )
        job = self.work.submit(
            f"Looking at {given.name}", "see", lambda job: self.studio.see(job, request)
        )
        for _ in job.watch():
            shown = words.seen(job.result) if job.result is not None else self.bar(job)
            yield [shown, words.said(job)]

    def train(
        self, clip: str | None, name: str | None, recipe: str, start: float | None,
        end: float | None, fit: str, samples: float | None, steps: float | None,
        seed: float | None,
    ) -> Iterator[list[Any]]:  # fmt: skip
        """Put a training into the queue and show it."""
        if not clip:
            told = words.failure("Expected a clip, got none.", "Drop one, or take the example.")
            yield [0, gr.skip(), told, "", "", *NO_CARD]
            return
        try:
            given = self.studio.given(clip)
            assert given is not None
            request = TrainRequest(
                reference=given,
                name=(name or "").strip() or None,  # None: of a field that was never shown
                recipe=recipe,  # type: ignore[arg-type]
                start=start or 0.0,
                end=end or None,  # an emptied field may be 0
                fit=fit,  # type: ignore[arg-type]
                samples=_count(samples),
                steps=_count(steps),
                seed=_count(seed) or 0,
            )
            request.check()
        except Exception as error:
            yield [0, OFF, words.failure(*self.explain(error)), "", "", *NO_CARD]
            return
        title = f"Training {request.card_name}"
        yield from self.training(
            self.work.submit(title, "train", lambda job: self.studio.train(job, request))
        )

    def training(self, job: Job) -> Iterator[list[Any]]:
        """How far a training is, in every tab that looks at it."""
        for _ in job.watch():
            curve = words.losses(job)
            if job.state == "done":
                made: Trained = job.result
                after = [ON, slug(made.spec.name), self.cards(made.card.name)]
                yield [job.number, OFF, _trained(made, job), curve, words.said(job), *after]
                return
            stop = OFF if job.over else STOP
            yield [job.number, stop, self.bar(job), curve, words.said(job), *NO_CARD]

    def keep(self, job: int, name: str | None) -> str:
        """Keep the card of a training in the local registry."""
        done = self.work.job(job)
        made = done.result if done is not None else None
        if made is None:
            return ""
        entry = self.studio.keep(made.card.name, name or "")
        return words.notice(f"{entry.reference} is in the registry: see it under Cards.")

    # 2. Make videos.

    def make(
        self, chosen: str | None, lines: str | None, seed: float | None, strength: float,
        phase: float, camera: float, subject: float, compare: bool, steps: float | None,
        drafts: float, reference: str | None,
    ) -> Iterator[list[Any]]:  # fmt: skip
        """Put videos into the queue and show them as they come."""
        texts = [line for line in (lines or "").split("\n") if line.strip()]
        try:
            spec = _facts(self.studio.path(chosen or ""))
            beside = self.studio.given(reference)
            # At 1 a part goes as `strength` has it go, as in `pe apply` where it is not named.
            sliders = dict(zip(PARTS, (phase, camera, subject), strict=True))
            given: dict[str, Any] = {part: None if at == 1 else at for part, at in sliders.items()}
            request = ApplyRequest(
                prompts=prompts.clean(texts),
                # A latents card brings its own.
                seeds=() if seed is None or spec.kind == "latents" else (int(seed),),
                strength=strength,
                steps=_count(steps),
                drafts=max(1, int(drafts)),
                **{part: given[part] for part in parts(spec)},
            )
            request.check()
            files.make_folder(self.studio.output)
        except Exception as error:
            yield [0, OFF, words.failure(*self.explain(error)), gr.skip(), ""]
            return
        job = self.work.submit(
            f"Making videos with {chosen}",
            "make",
            lambda job: make(
                self.studio,
                job,
                chosen or "",
                request,
                compare=compare,
                reference=beside,
                free=not drafts,
            ),
        )
        for _ in job.watch():
            stop, shown = OFF if job.over else STOP, words.rows(job.made)
            yield [job.number, stop, self.bar(job), shown or gr.skip(), words.said(job)]

    def fits(self, chosen: str | None) -> list[Any]:
        """The sliders of the parts that a card has."""
        try:
            there = parts(_facts(self.studio.path(chosen or "")))
        except Exception:  # pressing "Make videos" says why
            there = []
        return [ON if part in there else OFF for part in PARTS]

    # Cards.

    def gallery(self, search: str | None) -> list[Any]:
        """Pictures of the cards in the registry, and what they are called."""
        items, names, broken = [], [], []
        try:
            found = self.studio.entries(search or "")
        except Exception as error:
            return [[], [], words.failure(*self.explain(error))]
        for entry in found[:GALLERY]:
            try:
                picture = self.studio.preview(entry.path, entry.digest)
            except Exception as error:
                broken.append(f"{entry.reference}: {self.explain(error)[0]}")
                continue
            items.append((str(picture), f"{entry.reference}, {entry.facts['variant']}"))
            names.append(str(entry.reference))
        more = f"{len(found) - GALLERY} more: search for them. " if len(found) > GALLERY else ""
        empty = "" if found else "No card is here. Learn a motion, and keep it in the registry."
        said = more + empty + " ".join(broken)
        return [items, names, words.notice(said) if said else ""]

    def chosen(self, names: list[str], event: gr.SelectData) -> list[Any]:
        """What is in a card of the gallery."""
        name = names[event.index] if event.index < len(names) else ""

        def facts() -> str:
            from pe_toolkit.card import read_info
            from pe_toolkit.cli.commands.show import DETAILS, describe

            rows = describe(read_info(self.studio.path(name)), 3)
            return words.facts({key: row for key, row in rows.items() if key not in DETAILS})

        return [name, self.attempt(facts), ON]

    def push(self, name: str, target: str | None, private: bool) -> str:
        """Bring a card to the Hub."""
        from pe_toolkit.registry.sharing import push_to_hub

        done = push_to_hub(self.studio.path(name), (target or "").strip(), private=private)
        if not done.committed and not done.tagged:
            return words.notice(f"Nothing to do: all of it is there already. {done.url}")
        return words.notice(f"It is there: {done.url}")


def _trained(made: Trained, job: Job) -> str:
    """What a training left, in words."""
    from pe_toolkit.card.followed import followed_by

    learned = followed_by(made.spec)
    more = f" {words.download(made.served, 'Download')}"
    told = words.notice(f"Learned in {job.note}: {learned}. The card is {made.card}.", more)
    if made.little:
        told += words.failure(
            "There is little to learn from in this clip, and little will be seen of it.",
            "Try another span, or a clip in which one thing crosses a good part of the picture.",
        )
    return told


def _facts(path: Path) -> Any:
    from pe_toolkit.card import read_info

    return read_info(path).spec


def parts(spec: CardSpec) -> list[str]:
    """Which parts of a card can be turned up and down by themselves."""
    phase = spec.recipe.phase is not None and spec.kind == "positions"
    there = {"phase": phase} | turned(spec)
    return [part for part in PARTS if there[part]]


def _count(value: float | None) -> int | None:
    """A number that was asked for; 0, as a field without one may be shown: none was."""
    return int(value) if value else None
