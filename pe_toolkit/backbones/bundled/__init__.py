"""The bundled backbone: a small, really trained CogVideoX-class model (weights beside this "
"file)."""

from __future__ import annotations

from pathlib import Path

from pe_toolkit.errors import BackboneError

ROOT = Path(__file__).parent


def path(variant: str = "bundled") -> Path:
    """Folder of the transformer of a bundled variant (`bundled` is rotary, `bundled-absolute`
    sincos).

    The rotary pipeline folder is `ROOT` itself; the absolute variant shares everything but the
    transformer.

    Raises:
        BackboneError: if the weights are not there (a source tree without them).
    """
    folder = ROOT / ("transformer" if variant == "bundled" else "transformer_absolute")
    if not (folder / "config.json").is_file():
        raise BackboneError(
            f"Expected the bundled weights in {folder.name}/ of the installed package, found none.",
            "Reinstall pe-toolkit, or train them with `make train-bundled`.",
        )
    return folder
