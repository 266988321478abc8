"""Which versions of the dependencies pe-toolkit was tested with, and which are here."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

TESTED = {
    "torch": "2.13.0",
    "diffusers": "0.42.1",
    "transformers": "5.23.0",
    "accelerate": "1.15.0",
    "safetensors": "0.8.0",
    "huggingface_hub": "2.4.0",
    "sentencepiece": "0.2.3",
    "protobuf": "7.36.2",
    "click": "8.5.1",
    "rich": "15.0.0",
    "av": "18.1.0",
    "numpy": "2.4.6",
    "pillow": "13.0.0",
}


def installed(name: str) -> str | None:
    """Version of an installed distribution, or None; imports nothing of it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def toolkit_version() -> str:
    """Version of pe-toolkit, also from a checkout that is not installed."""
    import pe_toolkit

    own = getattr(pe_toolkit, "__version__", None)
    return str(own or installed("pe-toolkit") or "unknown")


def state(name: str) -> str:
    """`missing`, `untested` (older than the tested version) or `ok`."""
    here = installed(name)
    if here is None:
        return "missing"
    return "untested" if _numbers(here) < _numbers(TESTED[name]) else "ok"


def software() -> dict[str, str]:
    """Versions of everything that decides what a video looks like."""
    names = ("torch", "diffusers", "transformers")
    return {"pe-toolkit": toolkit_version()} | {n: v for n in names if (v := installed(n))}


def _numbers(text: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
