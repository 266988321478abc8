"""Options of commands that work through lists of jobs, and of `pe eval --suite`."""

from __future__ import annotations

import click

from pe_toolkit.cli import options, parameters

METHODS = "none,latents,positions,zero-shot"

job_options = options.combine(
    click.option(
        "--jobs",
        type=click.IntRange(1, 256),
        metavar="N",
        help="How many at a time, each in a process. Default: one on every GPU, or one.",
    ),
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="On a Ray cluster (auto, HOST:PORT); all machines see the same files.",
    ),
    click.option(
        "--gpus-per-job",
        type=parameters.Finite(0, 64),
        metavar="F",
        help="With --ray. Default: 1, or 0 with a backbone for CPUs.",
    ),
)
suite_options = options.combine(
    click.option(
        "--suite",
        metavar="S",
        help="bundled, bundled-classes, davis:FOLDER, mtbench:FOLDER, movebench:FOLDER, or a "
        ".yaml or .json file.",
    ),
    click.option(
        "--method",
        "methods",
        default=METHODS,
        show_default=True,
        metavar="A,B,...",
        help="none, kv, latents, positions, zero-shot, rich, rich-drafts, smm, moft, motionclone.",
    ),
    click.option(
        "--references",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Only the first N; of rendered suites as many as wanted.",
    ),
    click.option(
        "--seeds",
        "seed_count",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="For each prompt, N seeds.",
    ),
    click.option(
        "--kind", "kinds", multiple=True, metavar="K", help="Only prompts of this kind; repeat."
    ),
)
training_options = options.combine(
    click.option(
        "--recipe",
        type=click.Choice(["default", "paper", "fast", "rich"]),
        default="default",
        show_default=True,
        help="Of all methods that have none of their own; there is no auto: what pe train makes on "
        "the bundled backbone is the method rich.",
    ),
    click.option(
        "--kv",
        "with_kv",
        is_flag=True,
        help="Keys and values of the reference in all methods but none, as published.",
    ),
    click.option(
        "--samples", type=click.IntRange(1, 64), metavar="N", help="Of the trainings of cards."
    ),
    click.option(
        "--set",
        "overrides",
        type=parameters.Override(),
        multiple=True,
        metavar="KEY=VALUE",
        help="As in pe train; repeat.",
    ),
)
