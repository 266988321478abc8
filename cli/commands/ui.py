"""`pe ui`: the page in the browser."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import click

from pe_toolkit.cli import files, options, parameters
from pe_toolkit.cli.errors import Session, explainer
from pe_toolkit.cli.requests.ui import UiOptions

PATIENCE = 60.0
"""Seconds that the step at work has to end at the end."""


@click.command(
    epilog="""\b
Example:
  pe ui
  pe ui --backbone cogvideox-5b --port 8000 -o videos"""
)
@click.option(
    "-o",
    "--output",
    type=parameters.PATH,
    default="pe-ui",
    show_default=True,
    metavar="DIR",
    help="Where cards and videos are kept.",
)
@options.backbone_option("auto", "The model that learns and draws.")
@options.revision_option
@options.copy_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Default: 7860, or the next free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Another one lets other machines in: they can do all that you can on the page.",
)
@options.quantize_option
@options.machine_options
@options.common
@click.pass_obj
def ui(session: Session, /, **parsed: Any) -> None:
    """Open a page in the browser: drop a clip, see its motion, learn it, make videos.

    It does what `pe train`, `apply`, `add`, `list` and `push` do, and holds one model. Nothing is
    sent anywhere but to the Hub, and that only when you ask for it. Needs the extra [ui]. Ctrl-C
    ends it.
    """
    from pe_toolkit.cli.page import server
    from pe_toolkit.cli.page.studio import Studio
    from pe_toolkit.cli.page.work import Work

    server.check_installed()
    asked = UiOptions(**parsed)
    asked.check_quantize()
    hosts = server.check_host(asked.host)
    session.smaller = "fewer examples to learn with, or a smaller --backbone."
    files.make_folder(asked.output)
    made = server.listen(asked.host, asked.port)
    tell(session, asked.host, made.getsockname()[1], hosts)
    with made, tempfile.TemporaryDirectory(prefix="pe-ui-") as name:
        folder = Path(name).resolve()
        server.quiet_gradio(folder)
        explain = explainer(session)
        studio, work = Studio(asked, folder, asked.output), Work(explain)

        def build() -> Any:
            from pe_toolkit.cli.page.layout import build

            app = build(studio, work, explain)
            work.submit("Loading the model", "load", lambda job: studio.load(job).device)
            return app

        with server.warnings_to(studio.said, work.thread):
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    server.serve(server.Front(build, hosts), made)
            finally:
                end(session, work)


def tell(session: Session, host: str, port: int, hosts: tuple[str, ...]) -> None:
    """Where the page is."""
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}"
    session.out.talk("Open this in a browser. Ctrl-C ends it.")
    if not hosts:
        session.out.warn(
            f"everybody who reaches {host} can use this page, and fill your disk. Nobody is asked "
            "for a password."
        )
    session.out.data(address)
    session.out.event("listening", url=address)


def end(session: Session, work: Any) -> None:
    """Stop what is at work between two steps; uploads go with their folder."""
    if work.running is not None:
        session.out.talk(f"Ending after the step at work: {work.running.title}")
    if not work.close(PATIENCE):
        session.out.warn("the step at work did not end, and is given up.")
    session.out.event("summary")
