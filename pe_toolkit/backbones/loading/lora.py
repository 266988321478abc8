"""LoRA weights that were asked for, and the file that holds them. No torch.

    style.safetensors  ./styles  ~/loras/style.safetensors       a file, or a folder with one
    owner/name  owner/name@REVISION                              a repository on the Hub with one
    hf://owner/name/FILE  hf://owner/name@REVISION/FILE          one of several there

each with a `:WEIGHT` behind it, or without. The spelling alone decides, as for backbones.
Safetensors only, because opening anything else can run code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from pe_toolkit.backbones.catalogue.names import HUB_ID, like_folder
from pe_toolkit.backbones.loading import files, hub
from pe_toolkit.errors import BackboneError, DependencyError, UsageError

Say = Callable[[str], None]
USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""The names that diffusers and PEFT give: one of them is taken where there are more files."""
CONFIG = "adapter_config.json"
"""What PEFT keeps beside its weights."""
OLDEST_PEFT = (0, 18)
"""The first release that imports with transformers 5."""
MOST = 100.0
"""Largest weight, either way."""
_HUB = re.compile(
    rf"(?P<scheme>hf://)?(?P<id>{HUB_ID.pattern})(@(?P<revision>[^/@]+))?(?P<file>(/[^/]+)*)",
    re.ASCII,
)


@dataclass(frozen=True)
class Lora:
    """LoRA weights that were asked for.

    Attributes:
        source: a .safetensors file, a folder with one, or one on the Hub (see the module).
        weight: how much they count, within -100 .. 100; 1 as trained, negative turns them round.
    """

    source: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.source or not abs(self.weight) <= MOST:
            raise _wrong(self.source or f":{self.weight}")

    @classmethod
    def parse(cls, text: str) -> Lora:
        """`SOURCE[:WEIGHT]`. What follows the last colon is a weight if it is a number, unless the
        whole text is the name of a file, or of one on a drive of Windows (`C:1`).

        Raises:
            UsageError: no source, or a weight that is none.
        """
        source, colon, number = text.rpartition(":")
        drive = len(source) == 1 and source.isalpha()
        path = any(sign in number for sign in "/\\") or number.endswith(".safetensors")
        if not colon or drive or path or _exists(text):
            return cls(text)
        try:
            return cls(source, float(number))
        except ValueError:
            raise _wrong(text) from None

    @property
    def record(self) -> dict[str, object]:
        """What a video's JSON says of it: no path."""
        name = self.source if _on_hub(self.source) else Path(self.source).name
        return {"name": name, "weight": self.weight}

    def check(self) -> None:
        """Refuse a file or a folder that is not there, or is no safetensors; asks nobody.

        Raises:
            UsageError: says which.
        """
        if _on_hub(self.source) is None:
            find(self.source)


def check_peft() -> None:
    """Refuse to go on without the package that diffusers needs for LoRA weights.

    Raises:
        DependencyError: it is missing or too old; says how to install it.
    """
    if find_spec("peft") is None:
        raise DependencyError(
            "Expected the package peft for --lora, but it is not installed.", "pip install peft"
        )
    try:
        installed = version("peft")
    except PackageNotFoundError:  # a checkout of its own on the path
        return
    if tuple(map(int, re.findall(r"\d+", installed)[:2])) < OLDEST_PEFT:
        oldest = ".".join(map(str, OLDEST_PEFT))
        raise DependencyError(
            f"Expected peft {oldest} or newer for --lora, got {installed}.", "pip install -U peft"
        )


def _beside(name: str) -> str | None:
    """What has to lie beside a file of that name: PEFT keeps alpha there."""
    return CONFIG if PurePosixPath(name).name == USUAL[1] else None


def find(source: str, say: Say = lambda _: None) -> Path:
    """The file with the weights; one on the Hub is fetched once.

    Raises:
        UsageError: there is none, more than one, or it is not safetensors.
        BackboneError, DependencyError: as `hub.fetch_one`.
    """
    if (match := _on_hub(source)) is not None:
        file = match["file"].removeprefix("/")
        if file and not file.endswith(".safetensors"):
            raise _not_safetensors(source, file)
        try:
            return hub.fetch_one(
                match["id"], match["revision"], lambda them: _pick(source, file, them), _beside, say
            )
        except BackboneError as error:
            raise BackboneError(
                error.message, f"{like_folder(source)}{error.hint or ''}"
            ) from error
    try:
        path = Path(source).expanduser()
    except RuntimeError:  # `~name` of nobody
        path = Path(source)
    if path.is_dir():
        return path / _picked(source, "", files.there(path))
    if not path.is_file():
        raise UsageError(
            f"Expected LoRA weights, got {source}, which is not there.",
            "Check the path. LoRA weights are a .safetensors file, a folder with one, or "
            "OWNER/NAME on the Hub, with a :WEIGHT or without.",
        )
    if path.suffix.lower() != ".safetensors":
        raise _not_safetensors(source, path.name)
    return path


def _on_hub(source: str) -> re.Match[str] | None:
    """The parts of a source on the Hub, None for one on the disk."""
    match = _HUB.fullmatch(source)
    if match is None or match["scheme"]:
        return match
    suffix = PurePosixPath(source).suffix.lower()
    return None if match["file"] or suffix in (".safetensors", *files.PICKLED) else match


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a name too long, a NUL, no home folder
        return False


def _picked(source: str, file: str, names: Collection[str]) -> str:
    name = _pick(source, file, names)
    if name is None:
        raise UsageError(
            f"Expected LoRA weights in {source}, there is no .safetensors file.",
            "Name a .safetensors file, a folder with one, or OWNER/NAME on the Hub.",
        )
    return name


def _pick(source: str, file: str, names: Collection[str]) -> str | None:
    """The one file of a folder or a repository that holds LoRA weights; None if there is none.

    Args:
        file: the one that was named, or "".

    Raises:
        UsageError: there are several, or pickled ones alone.
    """
    if file:
        return file if file in names else None
    top = [name for name in sorted(names) if "/" not in name]
    found = [name for name in top if name.endswith(".safetensors")]
    usual = [name for name in USUAL if name in found]
    if usual or len(found) == 1:
        return (usual or found)[0]
    if found:
        shown = ", ".join(ascii(name)[1:-1][:80] for name in found[:4])
        raise UsageError(
            f"Expected one file of LoRA weights in {source}, got {len(found)}: {shown}"
            f"{' ...' if len(found) > 4 else ''}.",
            f"Name one of them: {_one_of(source, found[0])}",
        )
    pickled = [name for name in top if name.endswith(files.PICKLED)]
    if pickled:
        raise _not_safetensors(source, pickled[0])
    return None


def _one_of(source: str, name: str) -> str:
    name = ascii(name)[1:-1][:80]
    if _on_hub(source):
        return f"--lora hf://{source.removeprefix('hf://')}/{name}"
    return f"--lora {Path(source) / name}"


def _wrong(text: str) -> UsageError:
    return UsageError(
        f"Expected --lora PATH[:WEIGHT], with a weight from -{MOST:g} to {MOST:g}, got {text!r}.",
        "Such as --lora style.safetensors:0.8.",
    )


def _not_safetensors(source: str, name: str) -> UsageError:
    return UsageError(
        f"Expected LoRA weights as safetensors, got {source} ({ascii(name)[1:-1][:80]}): opening "
        "anything else can run code.",
        "Name a .safetensors file: what you trust can be converted with "
        "safetensors.torch.save_file.",
    )
