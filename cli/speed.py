"""Options that make a generation faster or smaller, at some cost of its fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    "--compile", "compile_", is_flag=True, help="Compile the model: pays on long runs."
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
speed_options = options.combine(cache_option, compile_option, quantize_option, vae_tiling_option)


def check_quantize(o: Mapping[str, Any]) -> None:
    """`--quantize` without its package is found before anything is read; torch only if asked for.

    Raises:
        DependencyError: `int8` without torchao.
    """
    if o.get("quantize", "none") != "none":
        from pe_toolkit.acceleration.quantize import check

        check(o["quantize"])


def check_training(o: Mapping[str, Any]) -> None:
    """The same of a training, where compiled blocks want weights that stay. What `--offload auto`
    picks shows when the model is loaded: `pe_toolkit.training` looks at that.

    Raises:
        DependencyError: as `check_quantize`.
        UnsupportedError: `--compile` with `--quantize fp8`, or with an offload mode that moves
            every weight away after use.
    """
    from pe_toolkit.backbones.machine.placement import LEAVING, leaves_compiled

    check_quantize(o)
    casts = o["quantize"] == "fp8"
    if o["compile_"] and (casts or o["offload"] in LEAVING):
        raise leaves_compiled(casts=casts)
