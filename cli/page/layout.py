"""The page: its parts, and which handler each of them calls."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from pe_toolkit.apply.drafts import MOST, PAY
from pe_toolkit.apply.request import DEFAULT_SEED
from pe_toolkit.cli.page import words
from pe_toolkit.cli.page.handlers import FIRST, OFF, Page
from pe_toolkit.cli.page.studio import Studio
from pe_toolkit.cli.page.work import Explain, Work

RECIPES = [
    ("What is measured to be best for this model: auto, as in pe train", "auto"),
    ("Default: trained on your clip, step by step", "default"),
    ("Rich: follows closest, also where several things move; nothing is trained", "rich"),
    ("Fast: as the default, with fewer steps of training", "fast"),
]
FITS = [("Cut off what is too much", "crop"), ("Black bars", "pad"), ("Stretch", "stretch")]
PARTS = [
    (1, "Phase: how closely it keeps to where things are in the clip"),
    (2, "Camera: how much of its motion"),
    (2, "Subject: how much of what moves beside the camera"),
]
"""Of the sliders that only some cards have (`handlers.PARTS`): up to where, and what they say."""
DRAFTS = (
    f"Choose the seed out of so many, by rough drafts (--drafts); 0: {PAY} where two things move, "
    "else 1"
)
HEAD = """<h1>Give the motion of one clip to another video</h1>
<p>1. Give it a clip, and it learns what moves. 2. Say what to show: the new video moves the same
way. What it learned is a card, a small file that you can keep and share.</p>"""
LATER = """<div class="pe-first">Your videos come here, each beside the clip and beside what the
same words give without the card. They are also kept in the folder %s.</div>"""
CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def build(studio: Studio, work: Work, explain: Explain) -> Any:
    """The application that serves the page."""
    page = Page(studio, work, explain)
    with gr.Blocks(title="pe-toolkit", analytics_enabled=False) as blocks:
        gr.HTML(HEAD)
        model = gr.HTML()
        with gr.Tabs(selected="learn") as tabs:
            with gr.Tab("1. Learn a motion", id="learn"):
                learn = _learn()
            with gr.Tab("2. Make videos", id="make"):
                make = _make(studio.output)
            with gr.Tab("Cards", id="cards") as cards_tab:
                cards = _cards()
        outputs = [learn.found, *learn.outputs[1:], make.card]
        reopened = blocks.load(page.reopened, None, outputs, **QUIET)
        _wire_learn(page, learn, make, tabs, reopened)
        _wire_make(page, make)
        _wire_cards(page, cards, make, tabs, cards_tab)
        blocks.load(page.model, None, model, **QUIET)
        blocks.load(page.cards, None, make.card, **QUIET)
    blocks.queue(default_concurrency_limit=None)  # the work has a queue of its own
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)
    served = gr.mount_gradio_app(
        app, blocks, path="/", footer_links=[], run_history=False, ssr_mode=False, pwa=False,
        enable_monitoring=False, mcp_server=False, css=CSS, show_error=False, allowed_paths=[],
    )  # fmt: skip
    blocks.has_launched = True  # else gradio takes any file of this machine that a request names
    return served


QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of every event: the page shows progress itself, and is no interface for programs."""


def _learn() -> SimpleNamespace:
    """The first tab: the number of its own training, and of the one that it found at work. What is
    still told of that one, while it is being cancelled, must not name the one that Stop stops.
    """
    ui = SimpleNamespace(job=gr.State(0), found=gr.State(0))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            ui.clip = gr.File(
                label="Drop a clip in which something moves (video or GIF)", height=140
            )
            ui.example = gr.Button("No clip at hand? Take an example", size="sm")
            ui.recipe = gr.Radio(RECIPES, value="auto", label="How to learn it")
            with gr.Accordion("More settings (in brackets: their names in pe train)", open=False):
                ui.name = gr.Textbox(label="Name of the card (--name)", placeholder="as the clip")
                ui.start = gr.Number(0, label="Seconds to leave out at the beginning (--start)")
                ui.end = gr.Number(0, label="Seconds at which to end (--end); 0: with the clip")
                ui.fit = gr.Dropdown(FITS, value="crop", label="Bring it to size (--fit)")
                ui.samples = gr.Number(
                    0, label="Examples to learn with (--samples); 0: as chosen above", precision=0
                )
                ui.steps = gr.Number(
                    0, label="Denoising steps (--steps); 0: as chosen above", precision=0
                )
                ui.seed = gr.Number(0, label="Seed (--seed)", precision=0)
            with gr.Row():
                ui.train = gr.Button("Learn this motion", variant="primary")
                ui.stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=3, min_width=300):
            ui.seen = gr.HTML(FIRST)
            ui.seen_said = gr.HTML()
            ui.progress = gr.HTML()
            ui.curve = gr.HTML()
            ui.said = gr.HTML()
            with gr.Column(visible=False) as ui.after:
                ui.use = gr.Button("Make videos with it", variant="primary")
                ui.keep_name = gr.Textbox(label="Name in the registry of this machine: NAME@1.0.0")
                ui.keep = gr.Button("Keep it in the registry")
            ui.kept = gr.HTML()
    ui.outputs = [ui.job, ui.stop, ui.progress, ui.curve, ui.said, ui.after, ui.keep_name]
    return ui


def _make(output: Path) -> SimpleNamespace:
    """The second tab."""
    ui = SimpleNamespace(job=gr.State(0))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            ui.card = gr.Dropdown([], label="Card: the motion")
            ui.prompts = gr.Textbox(
                "a red circle on a grey background",
                label="What to show, one video a line",
                lines=2,
            )
            ui.strength = gr.Slider(
                0, 2, 1, step=0.05, label="Strength of all of it: 0 is without the card"
            )
            ui.parts = [
                gr.Slider(0, most, 1, step=0.05, label=label, visible=False)
                for most, label in PARTS
            ]
            ui.compare = gr.Checkbox(True, label="Also without the card, to compare")
            with gr.Accordion("More settings", open=False):
                ui.seed = gr.Number(
                    DEFAULT_SEED, label="Seed: another one gives another video", precision=0
                )
                ui.steps = gr.Number(
                    0, label="Denoising steps (--steps); 0: as the model has it", precision=0
                )
                ui.drafts = gr.Slider(0, MOST, 0, step=1, label=DRAFTS)
                ui.reference = gr.File(label="The clip of the card, to show it beside", height=120)
            with gr.Row():
                ui.make = gr.Button("Make videos", variant="primary")
                ui.stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=3, min_width=300):
            ui.progress = gr.HTML()
            ui.results = gr.HTML(LATER % words.text(str(output)))
            ui.said = gr.HTML()
    return ui


def _cards() -> SimpleNamespace:
    """The third tab."""
    ui = SimpleNamespace(names=gr.State([]), name=gr.State(""))
    ui.search = gr.Textbox(
        label="Search: name, author, model, prompt", lines=1, max_lines=1, submit_btn=True
    )
    ui.said = gr.HTML()
    ui.gallery = gr.Gallery(
        label="Your cards, and the motion in them",
        columns=4, object_fit="contain", allow_preview=False, interactive=False, buttons=[],
        fit_columns=False, height="auto",
    )  # fmt: skip
    with gr.Column(visible=False) as ui.group:
        ui.facts = gr.HTML()
        ui.use = gr.Button("Make videos with it", variant="primary")
        ui.target = gr.Textbox(
            label="Share it on the Hugging Face Hub as (log in first: hf auth login)",
            placeholder="owner/name",
        )
        ui.private = gr.Checkbox(True, label="Private: visible to its owner only")
        ui.push = gr.Button("Push to the Hub")
    ui.pushed = gr.HTML()
    return ui


def _wire_learn(
    page: Page, ui: SimpleNamespace, make: SimpleNamespace, tabs: Any, reopened: Any
) -> None:
    looked = [ui.clip, ui.start, ui.end, ui.fit]
    for changed in (ui.clip.change, ui.start.submit, ui.end.submit, ui.fit.input):
        changed(page.see, looked, [ui.seen, ui.seen_said], **QUIET)
    ui.example.click(lambda: str(page.studio.example()), None, ui.clip, **QUIET)
    asked = [ui.clip, ui.name, ui.recipe, ui.start, ui.end, ui.fit, ui.samples, ui.steps,
             ui.seed]  # fmt: skip
    # From now on this tab shows, and stops, its own training, not the one it found at work: until
    # that is in the queue there is nothing to stop.
    ui.train.click(
        lambda: ["", 0, OFF], None, [ui.kept, ui.found, ui.stop], cancels=[reopened], **QUIET
    ).then(page.train, asked, [*ui.outputs, make.card], **QUIET)
    ui.stop.click(lambda own, found: page.work.stop(own or found), [ui.job, ui.found], **QUIET)
    ui.keep.click(
        lambda own, found, name: page.attempt(lambda: page.keep(own or found, name)),
        [ui.job, ui.found, ui.keep_name], ui.kept, **QUIET,
    ).then(page.cards, make.card, make.card, **QUIET)  # fmt: skip
    ui.use.click(lambda: gr.Tabs(selected="make"), None, tabs, **QUIET)


def _wire_make(page: Page, ui: SimpleNamespace) -> None:
    asked = [ui.card, ui.prompts, ui.seed, ui.strength, *ui.parts, ui.compare, ui.steps,
             ui.drafts, ui.reference]  # fmt: skip
    ui.make.click(page.make, asked, [ui.job, ui.stop, ui.progress, ui.results, ui.said], **QUIET)
    ui.stop.click(page.work.stop, ui.job, None, **QUIET)
    ui.card.change(page.fits, ui.card, ui.parts, **QUIET)


def _wire_cards(
    page: Page, ui: SimpleNamespace, make: SimpleNamespace, tabs: Any, tab: Any
) -> None:
    listed = [ui.gallery, ui.names, ui.said]
    ui.search.submit(page.gallery, ui.search, listed, **QUIET)
    tab.select(page.gallery, ui.search, listed, **QUIET)
    ui.gallery.select(page.chosen, ui.names, [ui.name, ui.facts, ui.group], **QUIET)
    ui.push.click(
        lambda name, target, private: page.attempt(lambda: page.push(name, target, private)),
        [ui.name, ui.target, ui.private], ui.pushed, **QUIET,
    )  # fmt: skip
    ui.use.click(page.cards, ui.name, make.card, **QUIET).then(
        lambda: gr.Tabs(selected="make"), None, tabs, **QUIET
    )
