"""Loading a backbone for a command, without the bars of the libraries below."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.backbones import CogVideoXAdapter
    from pe_toolkit.backbones.machine.placement import Purpose
    from pe_toolkit.card.spec import ClipSpec


def load(
    name: str,
    revision: str | None,
    o: Mapping[str, Any],
    out: Output,
    clip: ClipSpec | None = None,
) -> CogVideoXAdapter:
    """The backbone, placed as `--device`, `--dtype` and `--offload` say.

    What is placed how is kept in the command's session: when memory runs out, the hint names what
    is left to try.

    Args:
        clip: what a card makes, in a command that applies one.

    Raises:
        BackboneError, DeviceError, UsageError: as `pe_toolkit.backbones.load_backbone`.
    """
    from pe_toolkit.backbones import load_backbone
    from pe_toolkit.backbones.loading import pick_device

    _quiet(out)
    session = _session()
    session.gpu = pick_device(o["device"]).type != "cpu"
    session.quantize = o.get("quantize")
    adapter = load_backbone(
        name,
        revision=revision,
        device=o["device"],
        dtype=o["dtype"],
        offload=o["offload"],
        quantize=o.get("quantize", "none"),
        vae_tiling=o.get("vae_tiling"),
        purpose=_purpose(o, clip, name),
        on_event=out.talk,
        on_offload=lambda mode: setattr(session, "offload", mode),
    )
    adapter.pipe.set_progress_bar_config(disable=True)  # ours counts what the user asked for
    return adapter


def _session() -> Session:
    """That of the command that runs."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Session) if context is not None else None
    return found if found is not None else Session()


def _purpose(o: Mapping[str, Any], clip: ClipSpec | None, name: str) -> Purpose:
    """What `--offload auto` has to have room for: a training, an application, or both."""
    from pe_toolkit.backbones.machine.placement import Purpose

    if clip is not None:
        size, tiling = (clip.width, clip.height), o["vae_tiling"] is not False
        return Purpose(("apply",), clip.frames, size, cache=o["cache"], tiling=tiling)
    if "checkpointing" not in o:
        return Purpose()
    from pe_toolkit.cli import machine, train_shape

    _, row, _ = machine.resolve(name, o["device"])
    frames = train_shape.frames_for(o, row)
    return Purpose(("train",), frames, o["size"], o["checkpointing"], compiled=o["compile_"])


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
