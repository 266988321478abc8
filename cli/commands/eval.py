"""`pe eval`: numbers for methods on a suite of clips."""

from __future__ import annotations

from typing import Any

import click

from pe_toolkit.cli import options, parameters, sections, suite_options
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.requests.eval import SuiteOptions
from pe_toolkit.errors import UsageError


@click.command(
    "eval",
    cls=sections.Sectioned,
    sections=sections.EVAL,
    epilog="""\b
Example:
  pe eval --suite bundled --method none,rich --references 8 -o results
  pe eval --suite davis:DAVIS --recipe paper --kv -o table1""",
)
@suite_options.suite_options
@click.option("-o", "--output", type=parameters.PATH, metavar="DIR", help="Where results go.")
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
    """Compare methods on a suite of clips: trains, applies, scores, and writes the table.

    The same command again does only what is not there yet, also after a crash, with more methods
    or more references. A job that fails stops no other one.
    """
    for name, option in (("suite", "--suite"), ("output", "-o")):
        if parsed[name] is None:
            raise UsageError(f"Expected {option}, got none.", "See pe eval --help.")
    request = SuiteOptions(**parsed)
    request.check_quantize()
    session.smaller = "--jobs 1, or a smaller --backbone."

    from pe_toolkit.cli.suite_steps import run_suite

    run_suite(session, request)
