"""Loading a backbone for a command, without the bars of the libraries below."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.backbones.machine.placement import Purpose


WORTH_A_WORD = 20.0
"""Seconds of loading from which on a person wants to hear that it is over."""


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """The options of a command that say which backbone it uses, and how it is loaded.

    Attributes:
        quantize: None for a command without such a switch.

    The others are those of `pe_toolkit.backbones.load_backbone`.
    """

    backbone: str | None = None
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    offload: str = "auto"
    quantize: str | None = None
    vae_tiling: bool | None = None

    def check_quantize(self) -> None:
        """`--quantize` without its package is found before anything is read; torch only if asked.

        Raises:
            DependencyError: `int8` without torchao.
        """
        if self.quantize not in (None, "none"):
            from pe_toolkit.acceleration.quantize import check

            check(self.quantize)


def load(
    name: str,
    revision: str | None,
    options: BackboneOptions,
    out: Output,
    purpose: Purpose | None = None,
) -> Backbone:
    """The backbone `name`, placed as `--device`, `--dtype` and `--offload` say.

    What is placed how is kept in the command's session: when memory runs out, the hint names what
    is left to try.

    Args:
        purpose: what `--offload auto` has to have room for; default: training and applying.

    Raises:
        BackboneError, DeviceError, UsageError: as `pe_toolkit.backbones.load_backbone`.
    """
    out.talk(f"Loading {name} ...")
    began = time.monotonic()
    from pe_toolkit.backbones import load_backbone
    from pe_toolkit.backbones.loading import pick_device

    _quiet(out)
    session = _session()
    session.gpu = pick_device(options.device).type != "cpu"
    session.quantize = options.quantize
    adapter = load_backbone(
        name,
        revision=revision,
        device=options.device,
        dtype=options.dtype,
        offload=options.offload,
        quantize=options.quantize or "none",
        vae_tiling=options.vae_tiling,
        purpose=purpose,
        on_event=out.talk,
        on_offload=lambda mode: setattr(session, "offload", mode),
    )
    if (seconds := time.monotonic() - began) > WORTH_A_WORD:
        out.talk(f"Loaded in {seconds:.0f} s.")
    return adapter


def _session() -> Session:
    """That of the command that runs."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Session) if context is not None else None
    return found if found is not None else Session()


def _quiet(out: Output) -> None:
    """No bars for reading files that are here; bars for downloads, where a person can see them."""
    from diffusers.utils import logging as of_diffusers
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()  # switches the bars of downloads off too
    if sys.stderr.isatty() and not out.json:
        enable_progress_bars()
    else:
        disable_progress_bars()
