"""One card in the local registry, as the index knows it: no tensors, no file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.registry.references import LocalReference

if TYPE_CHECKING:
    from pe_toolkit.card import CardSpec

MOST_PROMPTS = 8
LONGEST_PROMPT = 200
"""Characters of a prompt that the index keeps: a row must not grow with what a stranger wrote."""


@dataclass(frozen=True)
class Entry:
    """A name and version, and the card that they stand for."""

    name: str
    """Empty, as the version, for a card that was only looked at: it has no name here."""
    version: str
    digest: str
    """`sha256:` and 64 hex digits: SHA-256 of the whole file."""
    folder: Path
    """Where the store keeps its files."""
    size: int
    """Bytes."""
    origin: str | None = None
    """Where it came from, such as `hf://owner/name@commit`; None for a file."""
    added: str = ""
    """UTC time."""
    removed: str | None = None
    """UTC time at which it was removed, until `gc` forgets it; None for a card that is there."""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What `facts()` took from the description. Strings of strangers: print only `printable`."""
    step: int = field(default=0, compare=False)
    """Number of the step in which it was removed, which no clock can turn round; else 0."""
    id: int = field(default=0, compare=False)
    """Number of its row."""

    @property
    def path(self) -> Path:
        """The card's file in the store. Read only: it is shared by every name of the card."""
        return object_path(self.folder, self.digest)

    @property
    def reference(self) -> LocalReference:
        """`name@version`."""
        return LocalReference(self.name, self.version)

    @property
    def source(self) -> str:
        """Whose versions it belongs to: its origin without the version; "" for a file. One for
        every spelling of a repository on the Hub, where case does not count."""
        head, at, rest = (self.origin or "").rpartition("@")
        source = head if at and "/" not in rest else self.origin or ""
        return source.lower() if source.startswith("hf://") else source

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "reference": str(self.reference),
            "version": self.version,
            "digest": self.digest,
            "size_bytes": self.size,
            "path": str(self.path),
            "origin": self.origin,
            "added": self.added,
            "facts": dict(self.facts),
        } | ({"removed": self.removed} if self.removed else {})


def object_path(folder: Path, digest: str) -> Path:
    """Where the file with this digest lies below a store's folder of objects."""
    hexed = digest.removeprefix("sha256:")
    return folder / hexed[:2] / f"{hexed}.safetensors"


def facts(spec: CardSpec) -> dict[str, Any]:
    """The part of a description that is listed and searched."""
    prompts = list(dict.fromkeys(s.prompt[:LONGEST_PROMPT] for s in spec.samples))[:MOST_PROMPTS]
    return {
        "name": spec.name,
        "version": spec.version,
        "author": spec.author,
        "license": spec.license,
        "created": spec.created,
        "kind": spec.kind,
        "form": spec.recipe.parametrisation,
        "family": spec.backbone.family,
        "variant": spec.backbone.variant,
        "positions": spec.backbone.positions,
        "grid": str(spec.grid),
        "frames": spec.clip.frames,
        "width": spec.clip.width,
        "height": spec.clip.height,
        "fps": spec.clip.fps,
        "guided_steps": spec.guided_steps,
        "prompts": prompts,
        "digest": spec.digest,
    }
