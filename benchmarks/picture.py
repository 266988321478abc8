"""The picture of the README: references of three classes, and what their cards do.

    python -m benchmarks.picture docs/images/transfer.png

Two things with ways of their own, a camera that zooms, a thing that turns back. Each row is one
video of the first prompt and seed that `benchmarks.classes` gives the reference: none is chosen by
its looks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.classes import pair
from benchmarks.transfer import _one, run_training
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.training import TrainConfig
from pe_toolkit.video import write_image
from pe_toolkit.visual import contact_sheet
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render

REFERENCES = (("two", 0), ("zoom", 0), ("stops", 3))
"""Class, number: the first of each; of stops, the first that turns back."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture", description=__doc__)
    parser.add_argument("into", type=Path)
    parser.add_argument("--backbone", default="bundled")
    options = parser.parse_args()
    adapter, rows = load_backbone(options.backbone), []
    for name, number in REFERENCES:
        scene = scenes_of(name, number + 1)[number]
        card, _, _ = run_training(adapter, scene, TrainConfig(recipe="rich"))
        prompt, seed = pair(scene, number, 0)
        rows.append((f"reference: {scene.caption}", render(scene)))
        for label, used in (("with its card", card), ("without", None)):
            made = _one(generate(adapter, [prompt], [seed], card=used))
            rows.append((f"{label}: {prompt}", made.frames))
    write_image(options.into, contact_sheet(rows), force=True)


if __name__ == "__main__":
    main()
