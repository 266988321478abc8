"""A pipeline from a folder that was checked, part after part: our classes, safetensors only."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pe_toolkit.backbones.loading import files, trust
from pe_toolkit.errors import BackboneError, PeError, out_of_memory


@dataclass(frozen=True)
class PartLoaded:
    """How far loading is; an event.

    Attributes:
        part: that was read, or with `done` 0 nothing yet.
        done, total: bytes of weights that were read, and that there are.
    """

    part: str
    done: int
    total: int


def pipeline(
    folder: Path,
    where: str,
    dtype: torch.dtype,
    on_part: Callable[[PartLoaded], None] | None = None,
    *,
    transformer: Path | None = None,
) -> Any:
    """The pipeline in a folder.

    Args:
        where: the folder or repository, for messages.
        on_part: told how far it is.
        transformer: another folder for this part.

    Raises:
        BackboneError: as `trust.check_folder`, or weights that do not fit their configurations.
    """
    import diffusers
    import transformers

    layout = trust.check_folder(folder, where)
    places = {part: folder / part for part in layout.parts}
    if transformer is not None:
        places["transformer"] = transformer
    found = {part: trust.check_weights(places[part], part, where) for part in files.STEMS}
    sizes = {
        part: sum((places[part] / name).stat().st_size for name in weights.files)
        for part, weights in found.items()
    }
    total, done = sum(sizes.values()), 0
    tell = on_part or (lambda _: None)
    tell(PartLoaded("", 0, total))
    parts = {}
    for part, name in layout.parts.items():
        library = diffusers if trust.CLASSES[part][0] == "diffusers" else transformers
        more: dict[str, Any] = {"local_files_only": True}
        if part in files.STEMS:
            more |= {"dtype": dtype, "use_safetensors": True, "variant": found[part].variant}
        try:
            with _no_bars():
                parts[part] = getattr(library, name).from_pretrained(str(places[part]), **more)
        except PeError:
            raise
        except Exception as error:  # whatever diffusers, transformers, safetensors raise about it
            if out_of_memory(error):
                raise
            raise BackboneError(
                f"Expected a CogVideoX model at {where}, but its {part} could not be loaded: "
                f"{_first_line(error)}",
                "The files are damaged, or belong to different models: copy or download it again.",
            ) from error
        done += sizes.get(part, 0)
        tell(PartLoaded(part, done, total))
    return getattr(diffusers, layout.pipeline)(**parts)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """`tell` says how far it is: bars of the libraries would be printed by ours."""
    from diffusers.utils import logging as of_diffusers
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging as of_transformers

    shown = [each for each in (of_diffusers, of_transformers) if each.is_progress_bar_enabled()]
    off = are_progress_bars_disabled()
    with warnings.catch_warnings(action="ignore"):  # transformers switches those of the Hub, too
        for each in shown:
            each.disable_progress_bar()
    try:
        yield
    finally:
        with warnings.catch_warnings(action="ignore"):
            for each in shown:
                each.enable_progress_bar()
            if off:
                disable_progress_bars()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
