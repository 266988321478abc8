"""What the folder of a CogVideoX pipeline says before anything is loaded; imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from pe_toolkit.backbones.families import Native


def native(folder: Path) -> Native | None:
    """Positions and sizes, by the configurations; None where they do not say, or it is no folder.
    Whoever loads the model asks it again.
    """
    try:
        model, vae = (
            json.loads((folder / part / "config.json").read_text("utf-8"))
            for part in ("transformer", "vae")
        )
        scale = 2 ** (len(vae["block_out_channels"]) - 1)
        return Native(
            "rotary" if model["use_rotary_positional_embeddings"] else "absolute",
            model["sample_frames"],
            model["sample_width"] * scale,
            model["sample_height"] * scale,
            bool(model["use_learned_positional_embeddings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
