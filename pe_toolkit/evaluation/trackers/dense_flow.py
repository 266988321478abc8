"""Points carried along dense optical flow: DIS of OpenCV, with a forward-backward check.

Kroeger and others, 2016 (arXiv 1603.03590). Flow is defined everywhere, on plain surfaces too, but
small errors add up from frame to frame: docs/metrics.md compares it with Lucas-Kanade.
"""

from __future__ import annotations

import numpy as np

from pe_toolkit.evaluation.trackers.base import Frames, check_frames
from pe_toolkit.evaluation.trackers.lucas_kanade import BACK, at, inside, opencv
from pe_toolkit.evaluation.tracks import Points, Tracks


class DenseFlow:
    """Step by step from frame to frame. A point that is lost stays lost."""

    def track(self, frames: Frames, starts: Points) -> Tracks:
        """As `trackers.base.Tracker` says.

        Raises:
            UsageError: frames or points of another shape; pictures of less than 16 pixels.
            DependencyError: OpenCV is not installed.
        """
        check_frames(frames, starts, least=16)
        cv2 = opencv()
        height, width = frames.shape[1:3]
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow.setFinestScale(0)
        points = np.empty((len(starts), len(frames), 2))
        visible = np.ones((len(starts), len(frames)), bool)
        points[:, 0] = starts
        before = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
        for t in range(1, len(frames)):
            after = cv2.cvtColor(frames[t], cv2.COLOR_RGB2GRAY)
            step = at(cv2, flow.calc(before, after, None), points[:, t - 1])
            points[:, t] = points[:, t - 1] + step
            back = at(cv2, flow.calc(after, before, None), points[:, t])
            good = np.linalg.norm(step + back, axis=1) < BACK
            visible[:, t] = visible[:, t - 1] & good & inside(points[:, t], width, height)
            before = after
        return Tracks(points, visible, (width, height))
