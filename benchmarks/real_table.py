"""The tables of `benchmarks.real`: every row over all clips, 95 % intervals over clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pe_toolkit.evaluation.intervals import interval

Entries = list[dict[str, Any]]

MOTION = ("mf", "-mf", "mf other", "mf_speed", "score", "-score")
LOOKS = (
    "text_similarity", "adherent", "like own", "like other", "leak", "driving_similarity_clip",
    "driving_similarity_clip other", "driving_similarity_dino", "driving_similarity_dino other",
)  # fmt: skip
HEADINGS = {
    "mf": "mf",
    "mf other": "mf, other clips",
    "mf_speed": "mf_speed",
    "score": "score",
    "text_similarity": "text",
    "adherent": "as prompted",
    "like own": "pixels: own",
    "like other": "others",
    "leak": "leak",
    "driving_similarity_clip": "CLIP: own",
    "driving_similarity_clip other": "others",
    "driving_similarity_dino": "DINO: own",
    "driving_similarity_dino other": "others",
}


def table(entries: Entries, rows: Sequence[str], judges: str) -> str:
    """Markdown: motion, then looks, of the records that these judges made.

    Args:
        entries: one a video, as `real_measures.Measures.of` measures it.
        rows: in this order, also those without videos.
    """
    entries = [entry for entry in entries if entry["judges"] == judges]
    text = [f"Motion, as told by: {judges}", "", *_head(["videos", "with a score"], MOTION, ["s"])]
    for row in rows:
        own = [e for e in entries if e["row"] == row]
        scores = sum(e["score"] is not None for e in own)
        seconds = [e["seconds"] for e in own if e["seconds"] is not None]
        end = f"{np.median(seconds):.0f}" if seconds else "-"
        text.append(_line([row, len(own), scores, *_cells(entries, row, MOTION), end]))
    text += ["", "Prompt, and likeness to the reference", "", *_head([], LOOKS, [])]
    text += [_line([row, *_cells(entries, row, LOOKS)]) for row in rows]
    return "\n".join(text) + "\n"


def means(entries: Entries, row: str, key: str) -> dict[str, float]:
    """Mean of a number over a clip's videos, by clip, where there is one."""
    values: dict[str, list[float]] = {}
    for entry in entries:
        if entry["row"] == row and entry.get(key) is not None:
            values.setdefault(entry["clip"], []).append(entry[key])
    return {clip: float(np.mean(found)) for clip, found in values.items()}


def _cells(entries: Entries, row: str, keys: Sequence[str]) -> list[str]:
    """Of a key with a minus, the difference to `no-card`, paired by clip."""
    cells = []
    for key in keys:
        found = means(entries, row, key.removeprefix("-"))
        if key.startswith("-"):
            plain = means(entries, "no-card", key[1:])
            found = {clip: found[clip] - plain[clip] for clip in found if clip in plain}
        cells.append("" if key.startswith("-") and row == "no-card" else _spread(found))
    return cells


def _spread(found: dict[str, float]) -> str:
    if not found:
        return "-"
    mean, low, high = interval(list(found.values()))
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _head(before: list[str], keys: Sequence[str], after: list[str]) -> list[str]:
    names = [HEADINGS.get(key, "minus no-card") for key in keys]
    return [
        _line(["row", *before, *names, *after]),
        "|" + "---|" * (1 + len(before + names + after)),
    ]


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
