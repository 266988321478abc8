"""Pictures for people: contact sheets, clips side by side, flow arrows, loss curves."""

from __future__ import annotations

from pe_toolkit.visual.apart import apart_frames, apart_legend, part_words
from pe_toolkit.visual.arrows import flow_arrows
from pe_toolkit.visual.curves import loss_curve
from pe_toolkit.visual.fields import field_picture, path_picture, phase_pictures
from pe_toolkit.visual.labels import label
from pe_toolkit.visual.motion import flow_frames, flow_legend
from pe_toolkit.visual.sheets import contact_sheet, side_by_side

__all__ = [
    "apart_frames",
    "apart_legend",
    "contact_sheet",
    "field_picture",
    "flow_arrows",
    "flow_frames",
    "flow_legend",
    "label",
    "loss_curve",
    "part_words",
    "path_picture",
    "phase_pictures",
    "side_by_side",
]
