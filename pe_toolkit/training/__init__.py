"""Learning a motion: reference clip -> motion card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.training.config import TrainConfig
    from pe_toolkit.training.drawing import look_sheet, look_video
    from pe_toolkit.training.looking import Look, look
    from pe_toolkit.training.request import TrainRequest
    from pe_toolkit.training.trainer import train

__all__ = ["Look", "TrainConfig", "TrainRequest", "look", "look_sheet", "look_video", "train"]


def __getattr__(name: str) -> Any:
    # Lazy: the configuration and the events are readable without torch.
    if name == "TrainConfig":
        from pe_toolkit.training.config import TrainConfig

        return TrainConfig
    if name == "TrainRequest":
        from pe_toolkit.training.request import TrainRequest

        return TrainRequest
    if name in ("Look", "look"):
        from pe_toolkit.training import looking

        return getattr(looking, name)
    if name in ("look_sheet", "look_video"):
        from pe_toolkit.training import drawing

        return getattr(drawing, name)
    if name == "train":
        from pe_toolkit.training.trainer import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
