"""Options of `pe eval` of one pair of clips."""

from __future__ import annotations

import click

from pe_toolkit.cli import options, parameters

pair_options = options.combine(
    click.option(
        "--ref", "reference", type=parameters.PATH, metavar="REF", help="The clip to move like."
    ),
    click.option("--video", type=parameters.PATH, metavar="VIDEO", help="The clip to measure."),
    click.option(
        "--card",
        type=parameters.CARD,
        metavar="CARD",
        help="Compare with the part of REF that this card was made from, read as in its training: "
        "the same span, frames, size and fit. Default: all of REF, stretched.",
    ),
    click.option(
        "--prompt",
        metavar="TEXT",
        help="What it was made from, for metrics that compare with it.",
    ),
    click.option(
        "--metrics",
        "names",
        type=parameters.Metrics(),
        metavar="A,B",
        help="Of a pair only these; of a suite these as well. Default: all for which everything is "
        "there, without a download.",
    ),
    click.option(
        "--unrelated",
        type=parameters.PATH,
        multiple=True,
        metavar="CLIP",
        help="A clip that has nothing to do with REF: the leak is counted from its likeness. "
        "Repeatable.",
    ),
    click.option(
        "--tracker",
        type=parameters.Named("pe_toolkit.evaluation.trackers"),
        default="lk",
        show_default=True,
        metavar="T",
        help="lk: Lucas-Kanade, dis: optical flow (both OpenCV), cotracker3: fetched on first use.",
    ),
    click.option(
        "--grid", type=click.IntRange(1, 200), metavar="N", help="Follow N x N points. Default: 30."
    ),
    click.option(
        "--tracks-ref", type=parameters.PATH, metavar="NPZ", help="Tracks of REF from elsewhere."
    ),
    click.option(
        "--tracks-video",
        type=parameters.PATH,
        metavar="NPZ",
        help="Tracks of VIDEO from elsewhere.",
    ),
    click.option(
        "--align",
        type=click.Choice(["span", "frames"]),
        default="span",
        show_default=True,
        help="Clips of different lengths: resample the longer over its span, or compare frame by "
        "frame and cut it.",
    ),
    click.option(
        "--frames",
        type=click.IntRange(2, 10_000),
        metavar="N",
        help="Bring both to N frames first.",
    ),
    click.option(
        "--size", type=parameters.Size(), metavar="WxH", help="Bring both to this size first."
    ),
)
