"""What a job says, as HTML. Whatever a person, a clip or a card wrote goes through `text`: it is
shown, and never run.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from pe_toolkit.cli.page.making import Row
from pe_toolkit.cli.page.studio import Seen
from pe_toolkit.cli.page.work import Job
from pe_toolkit.shown import printable

BRACES = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;"})
"""Templates of the page would take them for their own."""


def text(value: str) -> str:
    """A stranger's text for a page: nothing in it steers anything."""
    lines = [html.escape(printable(line)).translate(BRACES) for line in value.split("\n")]
    return "<br>".join(lines)


def url(path: Path) -> str:
    """Where the page finds a file that it may show."""
    return "gradio_api/file=" + quote(str(path))


def failure(message: str, hint: str | None) -> str:
    """What went wrong, and what to do."""
    more = f"<br>{text(hint)}" if hint else ""
    return f'<div class="pe-error" role="alert"><b>{text(message)}</b>{more}</div>'


def notice(message: str, more: str = "") -> str:
    """Something to know; `more` is HTML."""
    return f'<div class="pe-notice" role="status">{text(message)}{more}</div>'


def bar(job: Job, before: Iterable[Job] = ()) -> str:
    """How far a job is."""
    ahead = list(before)
    if job.state == "waiting":
        first = f"Waiting for: {text(ahead[0].title)}" if ahead else "Waiting"
        more = f" and {len(ahead) - 1} more" if len(ahead) > 1 else ""
        return f'<div class="pe-notice" role="status">{first}{more}. It begins by itself.</div>'
    if job.state == "stopped":
        return '<div class="pe-notice" role="status">Stopped. Nothing half-done was kept.</div>'
    if job.error is not None:
        return failure(*job.error)
    if job.state == "done":
        return ""
    ending = "Stopping after this step" if job.asked_to_stop else job.note or "Beginning"
    if job.kind == "train":
        ending += ". Closing this tab does not stop it"
    return (
        f'<div class="pe-bar" role="status"><progress max="1" value="{job.share:.3f}"></progress>'
        f"<span>{job.share:.0%}&ensp;{text(ending)}</span></div>"
    )


def said(job: Job) -> str:
    """Warnings in sight, remarks folded away."""
    parts = [f'<div class="pe-warning">{text(one)}</div>' for one in dict.fromkeys(job.warnings)]
    if job.words:
        lines = "<br>".join(map(text, job.words))
        parts.append(f"<details><summary>What was read, and how</summary>{lines}</details>")
    return "".join(parts)


def losses(job: Job) -> str:
    """The curve of a training: the picture that the library draws, inside of the page."""
    if len(job.losses) < 2:
        return ""
    from PIL import Image

    from pe_toolkit.visual import loss_curve

    buffer = io.BytesIO()
    Image.fromarray(loss_curve(job.losses)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    label = "Loss: how far the model's motion is from the clip's. On the whole it should fall."
    return (
        f'<figure><img class="pe-loss" alt="{label}" src="data:image/png;base64,{data}">'
        f"<figcaption>{label}</figcaption></figure>"
    )


def video(path: Path, caption: str, under: str = "") -> str:
    """One clip that plays by itself, again and again. Both texts are HTML."""
    return (
        f'<figure><video src="{url(path)}" autoplay loop muted playsinline controls></video>'
        f"<figcaption>{caption}{under}</figcaption></figure>"
    )


def seen(found: Seen) -> str:
    """A clip, its motion, and what is said of it."""
    return (
        '<div class="pe-row">'
        + video(found.clip, "Your clip, as the model gets it")
        + video(found.followed, "What is followed, coloured by direction")
        + video(found.apart, "Camera and subjects apart", f"<br>{lines(found.parts)}")
        + f"</div><p><b>{text(found.first)}.</b><br>{lines(found.words)}</p>"
    )


def lines(said: Iterable[str]) -> str:
    """Texts below each other."""
    return "<br>".join(map(text, said))


def rows(made: Iterable[Row]) -> str:
    """Videos side by side."""
    return "".join(_row(row) for row in made)


def _row(row: Row) -> str:
    shown = []
    if row.reference is not None:
        shown.append(video(row.reference, "Reference"))
    if row.plain is not None:
        shown.append(video(row.plain, "Without the card"))
    score = f"<br>{text(row.score)}" if row.score else ""
    load = f" &middot; {download(row.card, 'Download')}"
    best = f", the best of {row.drafts} drafts" if row.drafts else ""
    shown.append(video(row.card, "<b>With the card</b>", load + score))
    return (
        f'<section><h3 class="pe-prompt">{text(row.prompt)}</h3>'
        f'<div class="pe-row">{"".join(shown)}</div>'
        f"<p class='pe-small'>Seed {row.seed}{best}. Kept as {text(str(row.kept))}</p></section>"
    )


def download(path: Path, label: str) -> str:
    """A link to a file that the page may give away."""
    return f'<a href="{url(path)}" download="{text(path.name)}">{text(label)}</a>'


def facts(found: dict[str, str]) -> str:
    """A table of a card's facts."""
    cells = "".join(f"<tr><th>{text(k)}</th><td>{text(v)}</td></tr>" for k, v in found.items())
    return f'<table class="pe-facts">{cells}</table>'
