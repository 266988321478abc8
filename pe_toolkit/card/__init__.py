"""The motion card: one safetensors file that carries one motion (docs/card-format.md).

Names are imported when they are first used; none of them needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.card.compat import check_fits
    from pe_toolkit.card.edit import edited, renewed, revised
    from pe_toolkit.card.migrations import FORMAT, FORMAT_VERSION
    from pe_toolkit.card.motion_card import MotionCard, read_card
    from pe_toolkit.card.reader import CardInfo, read_info, verify_card
    from pe_toolkit.card.spec import (
        BackboneSpec,
        BelowSpec,
        CardSpec,
        ClipSpec,
        EditSpec,
        GridSpec,
        MotionSpec,
        PhaseSpec,
        ReadingSpec,
        RecipeSpec,
        ReferenceSpec,
        SampleSpec,
        ScheduleSpec,
        SubjectSpec,
        TrainingSpec,
        utc_now,
    )

_WHERE = {
    "FORMAT": "migrations",
    "FORMAT_VERSION": "migrations",
    "BackboneSpec": "spec",
    "BelowSpec": "spec",
    "CardInfo": "reader",
    "CardSpec": "spec",
    "ClipSpec": "spec",
    "EditSpec": "spec",
    "GridSpec": "spec",
    "MotionCard": "motion_card",
    "MotionSpec": "spec",
    "PhaseSpec": "spec",
    "ReadingSpec": "spec",
    "RecipeSpec": "spec",
    "ReferenceSpec": "spec",
    "SampleSpec": "spec",
    "ScheduleSpec": "spec",
    "SubjectSpec": "spec",
    "TrainingSpec": "spec",
    "check_fits": "compat",
    "edited": "edit",
    "read_card": "motion_card",
    "read_info": "reader",
    "renewed": "edit",
    "revised": "edit",
    "utc_now": "spec",
    "verify_card": "reader",
}

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "BackboneSpec",
    "BelowSpec",
    "CardInfo",
    "CardSpec",
    "ClipSpec",
    "EditSpec",
    "GridSpec",
    "MotionCard",
    "MotionSpec",
    "PhaseSpec",
    "ReadingSpec",
    "RecipeSpec",
    "ReferenceSpec",
    "SampleSpec",
    "ScheduleSpec",
    "SubjectSpec",
    "TrainingSpec",
    "check_fits",
    "edited",
    "read_card",
    "read_info",
    "renewed",
    "revised",
    "utc_now",
    "verify_card",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
