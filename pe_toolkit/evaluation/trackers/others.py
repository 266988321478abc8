"""Trackers of other packages: their errors name them, and their tracks are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pe_toolkit.errors import DependencyError, PeError, UsageError
from pe_toolkit.evaluation.trackers.base import Frames, Tracker
from pe_toolkit.evaluation.tracks import Points, Tracks, tracks_of
from pe_toolkit.extensions import in_words


@dataclass(frozen=True)
class Checked:
    """A tracker that is not ours.

    Attributes:
        own: the tracker.
        refused: the error that names it and its package, from why it does not fit.
    """

    own: Tracker
    refused: Callable[[str], DependencyError]

    def prepare(self) -> None:
        """What it fetches, if it has a method `prepare`, so that what cannot be had is known before
        any work.

        Raises:
            DependencyError: it failed. PeError: what it raises of ours.
        """
        try:
            get = getattr(self.own, "prepare", None)  # a property of a stranger may fail as well
            if get is not None:
                get()
        except PeError:
            raise
        except (Exception, SystemExit) as error:
            raise self.refused(f"it failed: {in_words(error)}") from error

    def track(self, frames: Frames, starts: Points) -> Tracks:
        """As `trackers.base.Tracker` says.

        Raises:
            DependencyError: it failed, or what it returns are no tracks of these points and frames.
            PeError: what it raises of ours.
        """
        shape, size = (len(starts), len(frames)), (frames.shape[2], frames.shape[1])
        try:
            found = self.own.track(frames.copy(), starts.copy())  # others may write on them
            tracks = tracks_of(found.points, found.visible, found.size)
        except UsageError as error:
            raise self.refused(f"it failed: {error.message}") from error
        except PeError:
            raise
        except (Exception, SystemExit) as error:
            raise self.refused(f"it failed: {in_words(error)}") from error
        if tracks.visible.shape != shape:
            raise self.refused(f"it failed: expected tracks {shape}, got {tracks.visible.shape}")
        if tracks.size != size:
            raise self.refused(f"it failed: expected tracks in {size} pixels, got {tracks.size}")
        return tracks
