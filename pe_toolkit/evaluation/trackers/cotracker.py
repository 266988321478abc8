"""CoTracker3 (arXiv 2410.11831), the tracker of the published scores, when asked for by name.

Its code and weights are fetched by `torch.hub` from github.com/facebookresearch/co-tracker on first
use (100 MB; its licence is CC-BY-NC). Nothing else here fetches anything.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pe_toolkit.errors import DependencyError
from pe_toolkit.evaluation.trackers.base import Frames, check_frames
from pe_toolkit.evaluation.tracks import Points, Tracks

REPOSITORY = "facebookresearch/co-tracker"
MODEL = "cotracker3_offline"


class CoTracker3:
    """All frames at once, on a GPU where there is one."""

    def prepare(self) -> None:
        """Have code and weights here, so that what cannot be had is known before any work.

        Raises:
            DependencyError: as `track`.
        """
        _model()

    def track(self, frames: Frames, starts: Points) -> Tracks:
        """As `trackers.base.Tracker` says.

        Raises:
            UsageError: frames or points of another shape.
            DependencyError: code or weights cannot be had, such as without a network.
        """
        check_frames(frames, starts)
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = _model().to(device)
        video = torch.from_numpy(frames.transpose(0, 3, 1, 2)).float()[None].to(device)
        asked = np.concatenate([np.zeros((len(starts), 1)), starts], axis=1)  # frame, x, y
        queries = torch.from_numpy(asked).float()[None].to(device)
        with torch.no_grad():
            points, visible = model(video, queries=queries)
        model.to("cpu")  # its room is the backbone's until the next clip
        where = points[0].permute(1, 0, 2).double().cpu().numpy()
        seen = visible[0].permute(1, 0).bool().cpu().numpy()
        return Tracks(where, seen, (frames.shape[2], frames.shape[1]))


@functools.cache
def _model() -> Any:
    """Loaded once: each time, `torch.hub` asks GitHub first."""
    import torch

    try:
        return torch.hub.load(REPOSITORY, MODEL, trust_repo=True, verbose=False)
    except Exception as error:  # no network, no such repository any more, its own missing packages
        raise DependencyError(
            f"Expected to fetch CoTracker3 ({REPOSITORY}), got {type(error).__name__}: {error}",
            "It needs a network on first use. `--tracker lk` needs none; or run it elsewhere and "
            "give its tracks (--tracks-ref, --tracks-video; docs/metrics.md).",
        ) from error
