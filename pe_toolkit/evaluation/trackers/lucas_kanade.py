"""The default tracker: pyramidal Lucas-Kanade of OpenCV, with a forward-backward check.

Lucas and Kanade, 1981; pyramids after Bouguet, 2001; the check after Kalal and others, 2010. Needs
OpenCV (extra `[eval]`), no weights, no download. How far from the truth it is: docs/metrics.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import DependencyError
from pe_toolkit.evaluation.trackers.base import Frames, check_frames
from pe_toolkit.evaluation.tracks import Points, Tracks, Visible

WINDOW = 31
"""Pixels. On rendered clips of 128x128 (objects of 40 to 60 pixels in one colour), 15 to 21 lose a
third of the points inside objects that 31 still follows."""
LEVELS = 3
BACK = 1.0
"""Pixels. A point that does not come back to within this is lost, from then on."""
STILL = 2.0
"""Grey levels. Where no pixel of the window changes more, the point has not moved: on a plain
surface there is nothing to follow."""
COLOUR = 40.0
"""Grey levels. A point whose own colour changes more in a step is covered, or was swept along."""
MOST = 32_000
"""Points that OpenCV looks up at a time: `remap` counts rows in 16 bits."""

Grey = NDArray[np.uint8]


class LucasKanade:
    """Step by step from frame to frame. A point that is lost stays lost."""

    def track(self, frames: Frames, starts: Points) -> Tracks:
        """As `trackers.base.Tracker` says.

        Raises:
            UsageError: frames or points of another shape.
            DependencyError: OpenCV is not installed.
        """
        check_frames(frames, starts)
        cv2 = opencv()
        height, width = frames.shape[1:3]
        points = np.empty((len(starts), len(frames), 2))
        visible = np.ones((len(starts), len(frames)), bool)
        points[:, 0] = starts
        before = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
        for t in range(1, len(frames)):
            after = cv2.cvtColor(frames[t], cv2.COLOR_RGB2GRAY)
            points[:, t], good = _step(cv2, before, after, points[:, t - 1])
            good &= _same_colour(cv2, frames[t - 1 : t + 1], points[:, t - 1], points[:, t])
            visible[:, t] = visible[:, t - 1] & good & inside(points[:, t], width, height)
            before = after
        return Tracks(points, visible, (width, height))


def opencv() -> Any:
    """The module `cv2`, of whichever OpenCV package is there, on one thread: many small calls.

    Raises:
        DependencyError: there is none.
    """
    try:
        import cv2
    except ImportError as error:
        raise DependencyError(
            "Expected OpenCV to follow points through clips, but it is not installed.",
            "pip install 'pe-toolkit[eval]', or give tracks of another tracker "
            "(--tracks-ref, --tracks-video).",
        ) from error
    return cv2


def _step(cv2: Any, before: Grey, after: Grey, points: Points) -> tuple[Points, Visible]:
    """Where the points are in the next frame, and whether they were really found there."""
    asked = points.astype(np.float32)[:, None]
    options = {
        "winSize": (WINDOW, WINDOW),
        "maxLevel": LEVELS,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),
        "minEigThreshold": 1e-5,
    }
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, asked, None, **options)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
    away = np.linalg.norm(back[:, 0] - points, axis=1)
    good = (found[:, 0] == 1) & (returned[:, 0] == 1) & (away < BACK)
    change = cv2.dilate(cv2.absdiff(before, after), np.ones((WINDOW, WINDOW), np.uint8))
    still = at(cv2, change.astype(np.float32), points) <= STILL
    where = np.where(still[:, None], points, there[:, 0])
    return np.where((good | still)[:, None], where, points), good | still


def _same_colour(cv2: Any, pair: Frames, before: Points, after: Points) -> Visible:
    blurred = [cv2.blur(frame, (3, 3)).astype(np.float32) for frame in pair]
    a, b = at(cv2, blurred[0], before), at(cv2, blurred[1], after)
    return np.asarray(np.abs(a - b).max(1) < COLOUR)


def at(cv2: Any, picture: NDArray[np.float32], points: Points) -> NDArray[np.float32]:
    """Bilinear values `(N,)` or `(N, 3)` of a picture at points; beyond its edge, the edge's."""
    x, y = points.astype(np.float32).T[:, :, None]
    found = [
        cv2.remap(picture, x[n : n + MOST], y[n : n + MOST], cv2.INTER_LINEAR,
                  borderMode=cv2.BORDER_REPLICATE)[:, 0]
        for n in range(0, len(points), MOST)
    ]  # fmt: skip
    return np.concatenate(found)


def inside(points: Points, width: int, height: int) -> Visible:
    x, y = points[:, 0], points[:, 1]
    return (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
