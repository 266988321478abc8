"""Suites of rendered clips: nothing to download, and the true motion is known.

    bundled             one shape on a path; every other path of a family that the bundled backbone
                        never saw: the references of `python -m benchmarks.transfer`
    bundled-classes     one class of motion after the other (`world.motions`): across, zoom, ...

The clips are made from their number alone, wherever they are needed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_toolkit.errors import SuiteError, UsageError
from pe_toolkit.suites.suite import UNRELATED, Prompt, Suite, SuiteClip
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, TRAINING_PROMPTS, caption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pe_toolkit.world.scenes import Scene

BY_CLASS = "bundled-classes"
NAMES = ("bundled", BY_CLASS)
REFERENCES = {"bundled": 24, BY_CLASS: 40}
"""How many clips, unless a person says otherwise."""
MOST = 1000
FPS = 16.0
FIRST_SEED = 100_000
"""Training begins to count at 0."""
SHORTEST = 0.25
"""Of the width: what a path of `bundled` is long, at least."""


def bundled(name: str, references: int | None = None) -> Suite:
    """A rendered suite, by one of `NAMES`.

    Raises:
        UsageError: more than `MOST` references.
    """
    count = references or REFERENCES[name]
    if count > MOST:
        raise UsageError(f"Expected up to {MOST} references, got {count}.")
    return Suite(name, tuple(_clip(name, index) for index in range(count)))


def _clip(name: str, index: int) -> SuiteClip:
    shown = scene(name, index)
    return SuiteClip(
        f"{index:02d}-{shown.family}",
        {"bundled": name, "index": index},
        prompts_for(shown, index),
        (FIRST_SEED + index,),
        tuple({"bundled": name, "index": index + n} for n in range(1, UNRELATED + 1)),
        shown.family if name == BY_CLASS else "",
    )


def prompts_for(shown: Scene, index: int) -> tuple[Prompt, ...]:
    """What the clip shows; other shapes before the same background; everything different, but for
    whether the background is textured: what moves there is to be seen. None is a prompt that cards
    are trained with.
    """
    import numpy as np

    rng = np.random.default_rng([77, index])
    own = [(thing.colour, thing.shape) for thing in shown.things]
    colours = [colour for colour in COLOURS if colour not in {colour for colour, _ in own}]
    shapes = [shape for shape in SHAPES if shape not in {shape for _, shape in own}]
    grounds = [ground for ground in BACKGROUNDS if ground != shown.background]

    def other(ground: str) -> str:
        while True:
            taken = rng.choice(colours, len(own), replace=False)
            things = [(str(c), str(rng.choice(shapes))) for c in taken]
            text = caption(things, ground, textured=shown.style == "texture")
            if text not in TRAINING_PROMPTS:
                return text

    return (
        Prompt("Caption", shown.caption),
        Prompt("Subject", other(shown.background)),
        Prompt("Scene", other(str(rng.choice(grounds)))),
    )


def scene_of(source: Mapping[str, Any]) -> Scene:
    """The scene of a rendered clip.

    Raises:
        SuiteError: there is no such suite.
    """
    name, index = source["bundled"], source["index"]
    if name not in NAMES:
        raise SuiteError(f"Expected a rendered suite out of {', '.join(NAMES)}, got {name!r}.")
    return scene(name, index)


def scene_of_class(source: Mapping[str, Any]) -> Scene | None:
    """The same of a clip that shows a class of motion; None of one that shows one thing on a path.

    Raises:
        SuiteError: there is no such suite.
    """
    return scene_of(source) if source["bundled"] == BY_CLASS else None


@functools.lru_cache(maxsize=256)
def scene(name: str, index: int) -> Scene:
    """Scene `index` of a rendered suite."""
    if name == "bundled":
        return moving_scenes(index + 1)[index]
    from pe_toolkit.world.motions import CLASSES, scenes_of

    number, of_class = divmod(index, len(CLASSES))
    return scenes_of(list(CLASSES)[of_class], number + 1)[number]


def moving_scenes(count: int, seed: int = 20261121) -> list[Scene]:
    """Scenes with one object that crosses at least a quarter of the width; every other one of a
    family that the bundled backbone never saw.
    """
    import numpy as np

    from pe_toolkit.world.metrics import time_points
    from pe_toolkit.world.scenes import HELD_OUT_FAMILIES, TRAIN_FAMILIES, sample_scene

    seen = tuple(family for family in TRAIN_FAMILIES if family not in ("drift", "zoom"))
    rng = np.random.default_rng(seed)
    out: list[Scene] = []
    while len(out) < count:
        drawn = sample_scene(rng, HELD_OUT_FAMILIES if len(out) % 2 else seen)
        path = drawn.things[0].path
        steps = np.diff(path[time_points(len(path))], axis=0)
        if np.linalg.norm(steps, axis=1).sum() >= SHORTEST:
            out.append(drawn)
    return out


def true_path(source: Mapping[str, Any], size: tuple[int, int] = (1, 1)) -> NDArray[np.float64]:
    """Where the first object of a rendered clip is: `(F, 2)` as (x, y), in [0, 1] in the picture.

    Args:
        size: (width, height) of the clip, of any unit: the middle of the square picture, as wide
            or as high.
    """
    import numpy as np

    path = scene_of(source).things[0].path.astype(np.float64)
    return (path - 0.5) * max(size) / np.asarray(size, np.float64) + 0.5
