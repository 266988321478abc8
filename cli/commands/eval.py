"""`pe eval`: numbers for one video, or for methods on a suite of clips."""

from __future__ import annotations

from typing import Any

import click

from pe_toolkit.cli import eval_report, options, pair_options, parameters, sections, suite_options
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.requests.eval import EvalOptions, PairOptions


@click.command(
    "eval",
    cls=sections.Sectioned,
    sections=sections.EVAL,
    epilog="""\b
Example:
  pe eval --ref ref.mp4 --video new.mp4
  pe eval --suite bundled --method none,rich --references 8 -o results
  pe eval --suite davis:DAVIS --recipe paper --kv -o table1""",
)
@pair_options.pair_options
@suite_options.suite_options
@click.option("-o", "--output", type=parameters.PATH, metavar="DIR", help="Where results go.")
@click.option(
    "--html",
    type=parameters.PATH,
    metavar="PAGE.html",
    help="One page with the videos side by side, for any browser, without a network. Of a suite "
    "there always is one: DIR/report.html, unless this names another place.",
)
@options.backbone_option("auto", "The model that all methods use.")
@options.revision_option
@options.copy_option
@suite_options.training_options
@options.generation_options
@options.quantize_option
@options.vae_tiling_option
@suite_options.job_options
@options.machine_options
@options.common
@click.pass_obj
def eval(session: Session, /, **parsed: Any) -> None:
    """Measure a video against its reference, or methods on many clips.

    With --ref and --video: how far the video took the motion of the clip; needs no model. With
    --suite: trains, applies, scores, and writes the table.

    docs/metrics.md says what each number of a pair means. The same command on a suite again does
    only what is not there yet, also after a crash, with more methods or more references. A job that
    fails stops no other one.
    """
    asked = EvalOptions(**parsed)
    request = asked.form()
    if isinstance(request, PairOptions):
        from pe_toolkit.cli import eval_pair

        eval_report.check(asked.html)
        eval_pair.run(session.out, request, asked.html)
        return
    page = asked.html or request.output / "report.html"
    if page.parent != request.output or request.output.is_dir():  # else it holds nothing else
        eval_report.check(page)
    else:
        eval_report.check_name(page)
    request.check_quantize()
    session.smaller = "--jobs 1, or a smaller --backbone."

    from pe_toolkit.cli.suite_steps import run_suite

    run_suite(session, request, page)
