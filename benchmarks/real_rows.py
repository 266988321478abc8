"""The rows of `benchmarks.real`: what each asks of a training, its controls, and the block at which
the backbone may judge them all.
"""

from __future__ import annotations

from typing import Any

from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.backbones.reading import TIMESTEPS, Reading
from pe_toolkit.errors import UsageError
from pe_toolkit.training import TrainConfig

ROWS: dict[str, dict[str, str] | None] = {
    "no-card": None,
    "default": {"recipe": "default"},
    "default-17": {"recipe": "default", "block": "17"},
    "rich": {"recipe": "rich"},
    "rich-17": {"recipe": "rich", "block": "17"},
    "rich-content": {"recipe": "rich", "reading": "content"},
    "flow": {"recipe": "rich", "phase": "off"},
    "phase": {"recipe": "rich", "start": "zero"},
    "latents": {"mode": "latents"},
    "latents-17": {"mode": "latents", "block": "17"},
    "latents-rich": {"mode": "latents", "recipe": "rich"},
    "smm": {"mode": "latents", "objective": "smm"},
    "moft": {"mode": "latents", "objective": "moft"},
    "motionclone": {"mode": "latents", "objective": "motionclone"},
}
"""Name -> what is asked of the training: `mode`, `recipe` and settings of `pe train --set`. Block
17 is that of DiffTrack (arXiv 2506.17220); the bundled backbone has no such block."""
CONTROLS: dict[str, tuple[str, str]] = {
    "rich-other": ("rich", "other"),
    "rich-shuffled-phase": ("rich", "shuffled-phase"),
    "rich-shuffled-positions": ("rich", "shuffled-positions"),
    "rich-shuffled-both": ("rich", "shuffled-both"),
    "default-other": ("default", "other"),
    "default-shuffled-positions": ("default", "shuffled-positions"),
}
"""Name -> the row whose cards it takes, and what is done: `other`, that of the next clip; or as
`benchmarks.classes.shuffled`. What is not shuffled may still carry the clip's motion."""
APART = 3
"""Blocks between the judge and every row's: next to a block, another sees nearly the same."""


def config(row: str, steps: int | None = None, **more: Any) -> TrainConfig:
    """What the training of a row of `ROWS` is asked, with fields of the configuration beside it."""
    settings = dict(ROWS[row] or {})
    fields = {name: settings.pop(name) for name in ("mode", "recipe") if name in settings}
    asked = TrainConfig(**fields, steps=steps, **more)  # type: ignore[arg-type]
    return asked.with_overrides(settings)


def rows_for(blocks: int) -> list[str]:
    """Rows and controls of a backbone of so many blocks: one that it does not have is no row."""
    rows = [row for row, asked in ROWS.items() if int((asked or {}).get("block", 0)) < blocks]
    return [*rows, *CONTROLS]


def taken(variant: Variant, blocks: int) -> set[int]:
    """The blocks at which some row compares generations or reads its reference, all rows of the
    backbone counted, chosen or not: more can follow.
    """
    found: set[int] = set()
    for row in rows_for(blocks):
        if ROWS.get(row) is not None:
            resolved = config(row).resolve(variant)
            found |= {resolved.block, *resolved.reading.blocks}
    return found


def judge(variant: Variant, blocks: int, asked: int | None = None) -> Reading | None:
    """How the backbone reads the motion of references and videos as a judge: at a block that is at
    least `APART` from those of all rows, of these the one nearest to the published block, and by
    content, which finds nothing rather than anything where a block does not see motion.

    Args:
        blocks: how many the backbone has.
        asked: another block.

    Returns:
        The reading; None if there is no such block.

    Raises:
        UsageError: a block was asked for that some row uses, or that is not there.
    """
    used = taken(variant, blocks)
    if asked is not None and (asked in used or not 0 <= asked < blocks):
        free = ", ".join(str(block) for block in range(blocks) if block not in used)
        raise UsageError(f"Expected a block that no row uses, {free}, got {asked}.")
    far = [b for b in range(blocks) if all(abs(b - other) >= APART for other in used)]
    if asked is None and not far:
        return None
    nearest = min(far, key=lambda block: abs(block - variant.block), default=0)
    return Reading((nearest if asked is None else asked,), "content", TIMESTEPS["content"])


def listed() -> str:
    """All rows with what is asked, a line each."""
    told = {
        row: " ".join(f"{key}={value}" for key, value in (asked or {}).items())
        for row, asked in ROWS.items()
    }
    told |= {row: f"{change}, of {of}" for row, (of, change) in CONTROLS.items()}
    return "\n".join(f"{row:27s}{text}".rstrip() for row, text in told.items())


def chosen(text: str) -> list[str]:
    """The rows of `--rows A,B,...`; all, of "".

    Raises:
        UsageError: one that is none.
    """
    every = [*ROWS, *CONTROLS]
    rows = list(dict.fromkeys(row for row in text.split(",") if row)) or every
    if unknown := [row for row in rows if row not in every]:
        raise UsageError(f"expected rows out of {', '.join(every)}, got {unknown[0]}")
    return rows
