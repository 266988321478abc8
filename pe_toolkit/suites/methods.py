"""Methods to compare: the rows of a table.

`video` methods make each video in a training of its own, with its prompt and its seed: what is
published as optimised results. `card` methods train one card for a reference, with other prompts
and seeds, and apply it to all prompts: the reference is gone by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pe_toolkit.errors import UsageError


@dataclass(frozen=True)
class Method:
    """One row.

    Attributes:
        name: on the command line.
        label: what it is called in papers.
        makes: `video` or `card`, as above.
        config: fields of `TrainConfig` that make the method what it is.
        kv: with the keys and values of the reference, whatever else was asked for; None: as asked.
        drafts: how many seeds each video is chosen from (`apply.drafts`).
        card_of: the method whose cards are applied; "": its own.
    """

    name: str
    label: str
    makes: Literal["video", "card"]
    config: Mapping[str, Any] = field(hash=False)
    kv: bool | None = None
    drafts: int = 1
    card_of: str = ""


LATENTS = {"mode": "latents"}
NOTHING = {"mode": "latents", "inner_steps": 0}
RICH = {"recipe": "rich"}
METHODS = {
    method.name: method
    for method in (
        Method("none", "Backbone", "video", NOTHING, kv=False),
        Method("kv", "KV injection", "video", NOTHING, kv=True),
        Method("latents", "DiTFlow (z_t)", "video", LATENTS),
        Method("positions", "DiTFlow (rho)", "video", {}),
        Method("zero-shot", "card, zero-shot", "card", {}),
        Method("rich", "card, rich", "card", RICH),
        Method(
            "rich-drafts", "card, rich, the best of 4 drafts", "card", RICH, drafts=4,
            card_of="rich",
        ),
        Method("smm", "SMM", "video", LATENTS | {"objective": "smm"}),
        Method("moft", "MOFT", "video", LATENTS | {"objective": "moft"}),
        Method("motionclone", "MotionClone", "video", LATENTS | {"objective": "motionclone"}),
    )
}  # fmt: skip
"""Name -> method; docs/evaluate.md says what each does."""


def choose(text: str) -> tuple[Method, ...]:
    """The methods of a list with commas, in its order.

    Raises:
        UsageError: an unknown one, one twice, or none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"Expected methods out of {', '.join(METHODS)}, got none.")
    for name in names:
        if name not in METHODS:
            raise UsageError(f"Expected methods out of {', '.join(METHODS)}, got {name!r}.")
        if names.count(name) > 1:
            raise UsageError(f"Expected each method once, got {name!r} more than once.")
    return tuple(METHODS[name] for name in names)
