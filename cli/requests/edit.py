"""The options of `pe edit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """A card, what it is to say of itself, and what is done to its motion; None: as it is."""

    card: str
    output: Path | None = None
    name: str | None = None
    author: str | None = None
    license: str | None = None
    card_version: str | None = None
    scores: tuple[tuple[str, str], ...] = ()
    force: bool = False
    reverse: bool = False
    speed: float | None = None
    mirror: tuple[str, ...] = ()
    frames: int | None = None
    size: tuple[int, int] | None = None
    then: str | None = None
    region: tuple[int, int, int, int] | None = None
    mask: Path | None = None
    outside: str | None = None

    @property
    def words(self) -> dict[str, str | None]:
        """What it is to say of itself."""
        own = {name: getattr(self, name) for name in ("name", "author", "license")}
        return own | {"version": self.card_version}

    @property
    def moves(self) -> bool:
        """Whether anything is done to the motion."""
        own = (
            self.reverse, self.speed, self.mirror, self.frames, self.size, self.then, self.region,
            self.mask, self.outside,
        )  # fmt: skip
        return any(value not in (None, False, ()) for value in own)
