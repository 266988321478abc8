"""pe-toolkit: carry the motion of a reference clip into new videos.

    adapter = pe_toolkit.load_backbone("bundled")
    clip = pe_toolkit.read_clip("reference.mp4")
    for event in pe_toolkit.train(adapter, clip, pe_toolkit.TrainConfig()):
        ...                                             # the last event carries the card
    with pe_toolkit.applied(adapter, card):             # or a path, a name, owner/name
        adapter.pipe("a red circle on a black background", **card.pipe_kwargs())

Names are imported when they are first used (PEP 562), so that `import pe_toolkit` needs neither
torch nor diffusers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pe_toolkit.apply import Generated, generate
    from pe_toolkit.backbones import VARIANTS, CogVideoXAdapter, Variant, load_backbone, variant_for
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.backbones.loading import load_loras
    from pe_toolkit.card import CardInfo, MotionCard, read_info
    from pe_toolkit.errors import PeError
    from pe_toolkit.grid import TokenGrid
    from pe_toolkit.motion.flow import AttentionMotionFlow
    from pe_toolkit.registry.sharing import applied, load, push_to_hub, replay
    from pe_toolkit.training import TrainConfig, train
    from pe_toolkit.video import Clip, read_clip, write_video

# Public name -> the module that has it.
_WHERE = {
    "VARIANTS": "pe_toolkit.backbones",
    "AttentionMotionFlow": "pe_toolkit.motion.flow",
    "Backbone": "pe_toolkit.backbones.contract",
    "CardInfo": "pe_toolkit.card",
    "Clip": "pe_toolkit.video",
    "CogVideoXAdapter": "pe_toolkit.backbones",
    "Generated": "pe_toolkit.apply",
    "MotionCard": "pe_toolkit.card",
    "PeError": "pe_toolkit.errors",
    "TokenGrid": "pe_toolkit.grid",
    "TrainConfig": "pe_toolkit.training",
    "Variant": "pe_toolkit.backbones",
    "applied": "pe_toolkit.registry.sharing",
    "generate": "pe_toolkit.apply",
    "load": "pe_toolkit.registry.sharing",
    "load_backbone": "pe_toolkit.backbones",
    "load_loras": "pe_toolkit.backbones.loading",
    "push_to_hub": "pe_toolkit.registry.sharing",
    "read_clip": "pe_toolkit.video",
    "read_info": "pe_toolkit.card",
    "replay": "pe_toolkit.registry.sharing",
    "train": "pe_toolkit.training",
    "variant_for": "pe_toolkit.backbones",
    "write_video": "pe_toolkit.video",
}

__all__ = [
    "VARIANTS",
    "AttentionMotionFlow",
    "Backbone",
    "CardInfo",
    "Clip",
    "CogVideoXAdapter",
    "Generated",
    "MotionCard",
    "PeError",
    "TokenGrid",
    "TrainConfig",
    "Variant",
    "__version__",
    "applied",
    "generate",
    "load",
    "load_backbone",
    "load_loras",
    "push_to_hub",
    "read_clip",
    "read_info",
    "replay",
    "train",
    "variant_for",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
