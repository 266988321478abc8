"""What is kept of a video that was scored: one line of a suite, or one pair."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from pe_toolkit.errors import UsageError


@dataclass(frozen=True)
class ScoredVideo:
    """A video and its numbers.

    Attributes:
        case: what all videos have in common that are compared with each other: one reference, one
            prompt, one seed.
        reference: path of the clip to move like.
        kind: of prompt (Caption, Subject, Scene); "" where there are none.
        prompt: what was to be shown.
        seed: of the generation; None where nobody knows.
        method: how it was made; "none" without a card.
        video: its path.
        scores: numbers by name; None where one could not be measured.
        seconds: that it took to make; None where nobody knows.
        group: the class of motion of the reference; "" where there are none.
    """

    case: str
    reference: str
    kind: str
    prompt: str
    seed: int | None
    method: str
    video: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    group: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become None."""
        value = asdict(self) | {"scores": {k: _number(v) for k, v in self.scores.items()}}
        return value | {"seconds": _number(self.seconds), "seed": _plain(self.seed)}

    @classmethod
    def from_dict(cls, value: object) -> ScoredVideo:
        """Checked, from what `to_dict` gave.

        Raises:
            UsageError: names the first thing that is not as it should be.
        """
        wanted = [f.name for f in fields(cls)]
        # Records of before there were classes have no group.
        if not isinstance(value, dict) or {*value, "group"} != set(wanted):
            got = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise UsageError(f"Expected a record with {', '.join(wanted)}, got {got or 'nothing'}.")
        value = {"group": ""} | value
        for name in ("case", "reference", "kind", "prompt", "method", "video", "group"):
            if not isinstance(value[name], str):
                raise UsageError(f"Expected {name} of a record as text, got {value[name]!r}.")
        scores, seed = value["scores"], value["seed"]
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise UsageError(f"Expected seed of a record as a whole number or null, got {seed!r}.")
        if not isinstance(scores, dict):
            raise UsageError(f"Expected scores of a record by name, got {scores!r}.")
        for name, number in [*scores.items(), ("seconds", value["seconds"])]:
            if number is not None and (
                isinstance(number, bool)
                or not isinstance(number, int | float)
                or not math.isfinite(number)
            ):
                raise UsageError(
                    f"Expected {name} of a record as a number or null, got {number!r}."
                )
        return cls(**value)


def to_json(records: Iterable[ScoredVideo]) -> str:
    """A list, one record on a line."""
    lines = (json.dumps(record.to_dict(), ensure_ascii=False) for record in records)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def from_json(text: str) -> list[ScoredVideo]:
    """What `to_json` wrote.

    Raises:
        UsageError: it is no such list.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"Expected a list of records as JSON, but {error}.") from error
    if not isinstance(value, list):
        raise UsageError(f"Expected a list of records, got {type(value).__name__}.")
    return [ScoredVideo.from_dict(one) for one in value]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else _plain(value)


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's own, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else value
