"""Loading a backbone for a command, without the bars of the libraries below."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import loggers
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import Progress

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.backbones.loading import PartLoaded
    from pe_toolkit.backbones.loading.lora import Lora
    from pe_toolkit.backbones.machine.placement import Purpose


WORTH_A_WORD = 20.0
"""Seconds of loading from which on a person wants to hear that it is over."""
WORTH_A_BAR = 5e8
"""Bytes of weights from which on loading has a bar."""


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
    copy_of: str | None = None

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
    *,
    of_card: bool = False,
    published: bool = False,
) -> Backbone:
    """The backbone `name`, placed as `--device`, `--dtype` and `--offload` say.

    What is placed how is kept in the command's session: when memory runs out, the hint names what
    is left to try.

    Args:
        purpose: what `--offload auto` has to have room for; default: training and applying.
        of_card: a card chose name and revision, not the person.
        published: with the scheduler of the published model, also for a folder.

    Raises:
        BackboneError, DeviceError, UsageError: as `pe_toolkit.backbones.load_backbone`.
    """
    out.talk(f"Loading {name} ...")
    began = time.monotonic()
    from pe_toolkit.backbones import load_backbone
    from pe_toolkit.backbones.loading import pick_device

    quiet(out)
    session = _session()
    session.gpu = pick_device(options.device).type != "cpu"
    session.quantize = options.quantize
    with drawn(out) as on_part:
        adapter = load_backbone(
            name,
            revision=revision,
            device=options.device,
            dtype=options.dtype,
            offload=options.offload,
            quantize=options.quantize or "none",
            vae_tiling=options.vae_tiling,
            copy_of=options.copy_of,
            of_card=of_card,
            published=published,
            purpose=purpose,
            on_event=out.talk,
            on_offload=lambda mode: setattr(session, "offload", mode),
            on_part=on_part,
        )
    if (seconds := time.monotonic() - began) > WORTH_A_WORD:
        out.talk(f"Loaded in {seconds:.0f} s.")
    return adapter


def _session() -> Session:
    """That of the command that runs."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Session) if context is not None else None
    return found if found is not None else Session()


@contextlib.contextmanager
def drawn(out: Output) -> Iterator[Callable[[PartLoaded], None]]:
    """The `on_part` of `load_backbone`: a bar of what was read, for a model that takes longer than
    a person waits without a question; under `--json` an event for each part.
    """
    bar = None
    with contextlib.ExitStack() as stack:

        def draw(event: PartLoaded) -> None:
            nonlocal bar
            out.pass_on(event)
            if bar is None and event.total > WORTH_A_BAR:
                bar = stack.enter_context(Progress(out, "loading", 100))
            if bar is not None:
                gigabytes = f"{event.done / 1e9:.1f} of {event.total / 1e9:.1f} GB"
                note = f"{event.part}, {gigabytes}" if event.part else gigabytes
                bar.at(100 * event.done / event.total, note)

        yield draw


def find_loras(loras: Sequence[Lora], out: Output) -> None:
    """Have the files of `--lora` on this machine before a model is loaded, which takes longer.

    Raises:
        UsageError, BackboneError: as `pe_toolkit.backbones.loading.lora.find`.
    """
    from pe_toolkit.backbones.loading.lora import find

    if loras:
        quiet(out)
    for lora in loras:
        find(lora.source, out.talk)


def load_loras(adapter: Backbone, loras: Sequence[Lora]) -> None:
    """`--lora`: all of them switched on, each with its weight.

    Raises:
        UsageError, BackboneError: as `pe_toolkit.backbones.loading.lora_weights.load_loras`.
    """
    if loras:
        from pe_toolkit.backbones.loading.lora_weights import load_loras as load

        load(adapter.pipe, loras)


def quiet(out: Output) -> None:
    """No bars for reading files that are here; bars for downloads, where a person can see them.
    What the libraries log comes out as ours does, and steers no terminal.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loggers.take(out)
    of_diffusers.disable_progress_bar()
    with warnings.catch_warnings():  # it would switch off the bars of downloads too
        warnings.filterwarnings("ignore", "Cannot disable progress bars")
        of_transformers.disable_progress_bar()
    loggers.download_bars(out)
