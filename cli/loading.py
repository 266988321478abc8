"""Loading a backbone for a command, without the bars of the libraries below."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.backbones import CogVideoXAdapter


def load(name: str, revision: str | None, o: Mapping[str, Any], out: Output) -> CogVideoXAdapter:
    """The backbone, placed as `--device`, `--dtype` and `--offload` say.

    Raises:
        BackboneError, DeviceError, UsageError: as `pe_toolkit.backbones.load_backbone`.
    """
    from pe_toolkit.backbones import load_backbone

    _quiet(out)
    adapter = load_backbone(
        name,
        revision=revision,
        device=o["device"],
        dtype=o["dtype"],
        offload=o["offload"],
        quantize=o.get("quantize", "none"),
        vae_tiling=o.get("vae_tiling"),
        on_event=out.talk,
    )
    adapter.pipe.set_progress_bar_config(disable=True)  # ours counts what the user asked for
    return adapter


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
