"""Options that several commands share, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pe_toolkit.acceleration import CACHES, QUANTIZATIONS
from pe_toolkit.cli import parameters

F = TypeVar("F", bound=Callable[..., Any])

KNOWN = "bundled, cogvideox-2b, cogvideox-5b, cogvideox1.5-5b, a folder, a Hub id, ..."


def given(name: str) -> bool:
    """Whether the user wrote this option, rather than leaving it at its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)


def combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator from several; `--help` lists them in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and ctx.obj is not None:
        ctx.obj.debug = True


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and ctx.obj is not None:
        ctx.obj.out.json = True


def _set_offload(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if ctx.obj is not None:
        ctx.obj.offload = value
    return value


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show a traceback when something goes wrong.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_json,
    help="One JSON object per line on stdout; the last line is the summary.",
)
common = combine(json_option, debug_option)
force_option = click.option("--force", is_flag=True, help="Overwrite what is already there.")


def backbone_option(default: str | None, help_text: str) -> Callable[[F], F]:
    """`--backbone NAME`."""
    return click.option(
        "--backbone",
        type=parameters.Backbone(),
        default=default,
        show_default=default is not None,
        metavar="NAME",
        help=f"{help_text} {KNOWN}",
    )


revision_option = click.option(
    "--revision", metavar="R", help="Branch, tag or commit of a backbone on the Hub."
)
copy_option = click.option(
    "--copy-of",
    metavar="NAME",
    help="The known model that a folder or another Hub id is a copy of, so that cards name it.",
)


offload_option = click.option(
    "--offload",
    type=click.Choice(["auto", "none", "model", "group", "sequential"]),
    default="auto",
    show_default=True,
    callback=_set_offload,
    help="Keep parts of the model in main memory: slower, needs less of the GPU's. auto: as little "
    "as fits; in a training, one part after the other.",
)
machine_options = combine(
    click.option(
        "--device", type=parameters.Device(), metavar="D", help="cpu, cuda, cuda:N, xpu or mps."
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Precision of the backbone. Default: what suits the device.",
    ),
    offload_option,
)
clip_options = combine(
    click.option(
        "--start", type=parameters.SECONDS, default=0.0, metavar="SECONDS", help="Begin here."
    ),
    click.option(
        "--end",
        type=parameters.SECONDS,
        metavar="SECONDS",
        help="Take no frame after this; also counted from the clip's first frame.",
    ),
    click.option("--frames", type=click.IntRange(2, 10_000), metavar="N", help="Frames to use."),
    click.option(
        "--fps",
        type=parameters.FPS,
        metavar="F",
        help="Take frames at this rate instead of the whole span.",
    ),
    click.option(
        "--size", type=parameters.Size(), metavar="WxH", help="Size of the frames in pixels."
    ),
    click.option(
        "--fit",
        type=click.Choice(["crop", "pad", "stretch"]),
        default="crop",
        show_default=True,
        help="How the clip is brought to that size.",
    ),
)
generation_options = combine(
    click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps."),
    click.option(
        "--guidance-scale",
        type=parameters.Finite(1, 100),
        metavar="G",
        help="How much the prompt counts.",
    ),
)
kv_from_option = click.option(
    "--kv-from",
    type=parameters.PATH,
    metavar="REF",
    help="Inject keys and values of the reference clip, as the paper does.",
)
no_kv_option = click.option(
    "--no-kv", is_flag=True, help="Do without them, although the card requires them."
)
image_option = click.option(
    "--image",
    type=parameters.PATH,
    metavar="IMAGE",
    help="First frame, for image-to-video backbones.",
)
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
speed_options = combine(cache_option, compile_option, quantize_option, vae_tiling_option)
card_text_options = combine(
    click.option("--name", metavar="N", help="Name in the card. Default: that of the clip."),
    click.option("--author", default="", metavar="A", help="Author in the card."),
    click.option("--license", default="", metavar="L", help="License in the card."),
    click.option(
        "--card-version", default="1.0.0", show_default=True, metavar="V", help="Like 1.0.0."
    ),
)
