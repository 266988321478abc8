"""The table and the contact sheets of `benchmarks.classes`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.transfer import interval
from pe_toolkit.video import write_image
from pe_toolkit.visual import contact_sheet
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import Scene, render

MEASURES: dict[str, tuple[str, ...]] = {
    "translation": ("cosine", "error", "place", "extent"),
    "across": ("cosine", "error", "place", "extent"),
    "small": ("cosine", "error", "place", "extent"),
    "stops": ("cosine", "error", "place", "extent"),
    "two": ("cosine", "cosine_worse", "error"),
    "zoom": ("size", "ground_size", "textured"),
    "roll": ("angle", "ground_angle", "textured"),
    "pan": ("cosine", "ground_cosine", "ground", "textured"),
    "held": ("ground_cosine", "ground", "wander", "textured"),
    "enters": ("cosine", "error", "place", "absent"),
}
EVERYWHERE = ("adherent", "extra")
LEAKS = ("colour", "shape", "background")
SHEET = 4
"""References on a contact sheet."""


def mean_of(values: list[float], groups: list[int]) -> list[float] | None:
    """Mean, low, high (95 %, over references), and how many clips had a number; None without any.
    A reference whose clips have none is left out.
    """
    v, g = np.array(values, np.float64), np.array(groups)
    keep = np.isfinite(v)
    if not keep.any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [*(round(x, 4) for x in interval(v[keep], g[keep])), int(keep.sum())]


def leaks(line: dict[str, Any], scene: Scene) -> dict[str, float]:
    """Of each attribute, 1 where the clip shows the reference's, which the prompt does not name."""
    what = line["seen"]
    return {
        "colour": float(any(t.colour in what["colours"] for t in scene.things)),
        "shape": float(any(t.shape in what["shapes"] for t in scene.things)),
        "background": float(what["background"] == scene.background),
    }


def summary(lines: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """Class -> row -> measure -> `mean_of`; rows in the order in which they were made."""
    out: dict[str, Any] = {}
    for name in classes:
        of_class = [line for line in lines if line["class"] == name]
        scenes = scenes_of(name, max((line["reference"] for line in of_class), default=-1) + 1)
        for row in dict.fromkeys(line["row"] for line in of_class):
            made = [line for line in of_class if line["row"] == row]
            groups = [line["reference"] for line in made]
            entry: dict[str, Any] = {"clips": len(made), "references": len(set(groups))}
            for key in (*MEASURES[name], *EVERYWHERE):
                entry[key] = mean_of([m["values"].get(key, np.nan) for m in made], groups)
            if "other" in made[0]:
                for key in MEASURES[name][:2]:
                    other = [m["other"].get(key, np.nan) for m in made]
                    entry[f"{key}, other references"] = mean_of(other, groups)
                for key in ("like own", "like other"):
                    entry[key] = mean_of([m[key] for m in made], groups)
                leaked = [leaks(m, scenes[m["reference"]]) for m in made]
                for key in LEAKS:
                    entry[f"leak {key}"] = mean_of([leak[key] for leak in leaked], groups)
            out.setdefault(name, {})[row] = entry
    return out


def show(table: dict[str, Any]) -> None:
    for name, rows in table.items():
        print(f"\n{name}")
        for row, entry in rows.items():
            cells = [f"{key} {_cell(value)}" for key, value in entry.items() if _told(key, value)]
            print(f"  {row} ({entry['clips']} clips of {entry['references']}): " + ", ".join(cells))


def _told(key: str, value: Any) -> bool:
    return isinstance(value, list)


def _cell(value: list[float]) -> str:
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]"


def sheets(store: Any, args: Any) -> None:
    """One contact sheet a class: reference, then every row of its first pair."""
    args.sheets.mkdir(parents=True, exist_ok=True)
    for name in args.classes:
        rows: list[tuple[str, Any]] = []
        for r, scene in enumerate(scenes_of(name, SHEET)):
            made = [
                m for m in store.lines if (m["class"], m["reference"], m["pair"]) == (name, r, 0)
            ]
            if not made:
                continue
            rows.append((f"{name} {r}: {scene.caption}", render(scene)))
            for line in made:
                path = store.frames(store.key(line))
                if path.exists():
                    told = line["values"].get(MEASURES[name][0], float("nan"))
                    label = f"{line['prompt']}, {line['row']}: {MEASURES[name][0]} {told:.2f}"
                    rows.append((label, np.load(path)["frames"]))
        if rows:
            write_image(args.sheets / f"{name}.png", contact_sheet(rows), force=True)
