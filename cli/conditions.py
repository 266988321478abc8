"""Options for what a generation is given beside the prompt: the reference's keys and values, and a
first picture for image-to-video backbones.
"""

from __future__ import annotations

import click

from pe_toolkit.cli import options

kv_from_option = click.option(
    "--kv-from",
    type=options.PATH,
    metavar="REF",
    help="Inject keys and values of the reference clip, as the paper does.",
)
no_kv_option = click.option(
    "--no-kv", is_flag=True, help="Do without them, although the card requires them."
)
image_option = click.option(
    "--image",
    type=options.PATH,
    metavar="IMAGE",
    help="First frame, for image-to-video backbones.",
)
