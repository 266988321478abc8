"""Options that make a generation faster or smaller, at some cost of its fidelity."""

from __future__ import annotations

import click

from pe_toolkit.acceleration import CACHES, QUANTIZATIONS
from pe_toolkit.cli import options

cache_option = click.option(
    "--cache",
    type=click.Choice(CACHES),
    default="none",
    show_default=True,
    help="Reuse computations between late steps: faster, not the same video.",
)
compile_option = click.option(
    "--compile", is_flag=True, help="Compile the model: pays on long runs."
)
quantize_option = click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    default="none",
    show_default=True,
    help="Weights of 8 bits: half the memory, not the same result. int8 needs torchao.",
)
vae_tiling_option = click.option(
    "--vae-tiling/--no-vae-tiling",
    default=None,
    help="Decode in tiles: less memory. Default: on for CogVideoX.",
)
encode_tiling_option = click.option(
    "--vae-tiling/--no-vae-tiling",
    default=None,
    help="Encode the reference in tiles, or never. Default: whole where memory allows; the card "
    "says which.",
)
speed_options = options.combine(cache_option, compile_option, quantize_option, vae_tiling_option)
