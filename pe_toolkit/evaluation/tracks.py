"""Tracks of points through a clip: where each is in every frame, and whether it can be seen.

A file of tracks is an uncompressed or compressed `.npz` (numpy) with these arrays, no pickled ones:

    points   (points, frames, 2), any real numbers: x and y in pixels, (0, 0) the centre of the top
             left pixel; where they are visible, at most 10 times the longer side from it
    visible  (points, frames), true or 1 where the point is seen; may be left out: always
    size     (2,), whole numbers: width and height of the frames in pixels
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pe_toolkit.errors import ClipError, UsageError
from pe_toolkit.evaluation.moments import evenly
from pe_toolkit.shown import shown

Points = NDArray[np.float64]
Visible = NDArray[np.bool_]

MAX_BYTES = 512 * 1024**2
"""Of the arrays of a file, unpacked: 60,000 points through 500 frames."""
MAX_SIDE = 65_536
FARTHEST = 10
"""Longer sides of the picture: a point that is said to be seen is no farther from its corner."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points followed through a clip.

    Attributes:
        points: `(N, F, 2)` float64, x and y in pixels; not defined where `visible` is false, often
            NaN.
        visible: `(N, F)` bool.
        size: width and height of the frames in pixels.
    """

    points: Points
    visible: Visible
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        """How many."""
        return int(self.points.shape[1])

    def resampled(self, frames: int) -> Tracks:
        """The nearest of `frames` evenly spaced moments, first to first and last to last.

        Raises:
            UsageError: fewer than 1.
        """
        _check_count(frames)
        chosen = evenly(self.frames, frames)
        return replace(self, points=self.points[:, chosen], visible=self.visible[:, chosen])

    def cut(self, frames: int) -> Tracks:
        """The first `frames` frames, or as many as there are.

        Raises:
            UsageError: fewer than 1.
        """
        _check_count(frames)
        return replace(self, points=self.points[:, :frames], visible=self.visible[:, :frames])

    def scaled_to(self, size: tuple[int, int]) -> Tracks:
        """In pixels of a picture of another size, each axis by itself.

        Raises:
            UsageError: as `checked_size`.
        """
        size = checked_size(size)
        if size == self.size:
            return self
        factor = np.array(size, float) / np.array(self.size, float)
        return replace(self, points=(self.points + 0.5) * factor - 0.5, size=size)


def checked_size(size: ArrayLike) -> tuple[int, int]:
    """Width and height in pixels, of any type that holds two numbers.

    Raises:
        UsageError: other than two whole numbers from 1 to `MAX_SIDE`.
    """
    sides = _array(size, "a size")
    fits = sides.shape == (2,) and sides.dtype.kind in "fiu"
    if not fits or not ((sides >= 1) & (sides <= MAX_SIDE) & (sides % 1 == 0)).all():
        raise UsageError(
            f"Expected a size of two whole numbers, 1 to {MAX_SIDE} pixels, got {shown(size)}."
        )
    return int(sides[0]), int(sides[1])


def checked_points(points: ArrayLike, name: str = "points") -> Points:
    """`(N, F, 2)` float64 of tracks of any type, also lists: in float64, because of unsigned
    integers no difference is below 0.

    Args:
        name: what they are the tracks of, for the message.

    Raises:
        UsageError: another shape, or no real numbers.
    """
    found = _array(points, name)
    if found.ndim != 3 or found.shape[2] != 2 or found.dtype.kind not in "fiu":
        raise UsageError(
            f"Expected tracks (points, frames, 2) of real numbers as the {name}, got {found.shape} "
            f"{found.dtype}."
        )
    return np.asarray(found, np.float64)


def checked_visible(visible: ArrayLike | None, points: Points) -> Visible:
    """`(N, F)` bool for points `(N, F, 2)`, of any type, also lists; None: always.

    Raises:
        UsageError: another shape.
    """
    if visible is None:
        return np.ones(points.shape[:2], bool)
    seen = _array(visible, "visible")
    if seen.shape != points.shape[:2]:
        raise UsageError(f"Expected visible {points.shape[:2]}, got {seen.shape}.")
    return seen.astype(bool)


def _array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise UsageError(f"Expected an array of numbers as {name}, but {error}.") from error


def _check_count(frames: int) -> None:
    if frames < 1:
        raise UsageError(f"Expected tracks of at least 1 frame, got {frames}.")


def tracks_of(points: ArrayLike, visible: ArrayLike | None, size: tuple[int, int]) -> Tracks:
    """Checked tracks from arrays of any real type.

    Raises:
        UsageError: shapes, types or numbers that are not tracks; a visible point that is not
            finite, or farther from the picture than `FARTHEST` allows. Hidden ones become NaN.
    """
    where = np.asarray(points)
    if where.ndim != 3 or where.shape[2] != 2 or where.dtype.kind not in "fiu":
        raise UsageError(
            f"Expected points (points, frames, 2) of real numbers, got {where.shape} {where.dtype}."
        )
    if where.shape[0] < 1 or where.shape[1] < 2:
        raise UsageError(
            f"Expected at least 1 point and 2 frames, got {where.shape[0]} and {where.shape[1]}."
        )
    seen = np.ones(where.shape[:2], bool) if visible is None else np.asarray(visible)
    if seen.shape != where.shape[:2] or (seen.dtype != bool and not np.isin(seen, (0, 1)).all()):
        raise UsageError(
            f"Expected visible {where.shape[:2]} of true and false, got {seen.shape} {seen.dtype}."
        )
    size = checked_size(size)
    with np.errstate(over="ignore"):  # of longer floats
        seen, where = seen.astype(bool), where.astype(np.float64)
    if not np.isfinite(where[seen]).all():
        raise UsageError("Expected finite points wherever they are visible, got NaN or infinity.")
    far = ~(abs(where) <= FARTHEST * max(size)).all(-1)
    if (far & seen).any():
        x, y = where[far & seen][0]
        raise UsageError(
            f"Expected points in or near the picture of {size[0]}x{size[1]} wherever they are "
            f"visible, within {FARTHEST} times its longer side, got ({x:g}, {y:g}).",
            "Points are in pixels; say of those that were lost that they are not visible.",
        )
    where[far] = np.nan
    return Tracks(where, seen, size)


def save_tracks(path: Path | str, tracks: Tracks, *, force: bool = False) -> None:
    """Write a file of tracks as the module describes it.

    Raises:
        OutputError: as `video.write_atomic`. OutputExistsError: it is there, without `force`.
    """
    from pe_toolkit.video import write_atomic

    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, points=tracks.points.astype(np.float32), visible=tracks.visible, size=tracks.size
    )
    write_atomic(Path(path), buffer.getvalue(), force=force)


def load_tracks(path: Path | str) -> Tracks:
    """Read a file of tracks, from whomever it comes: nothing is unpickled, and what would take
    more than `MAX_BYTES` unpacked is refused before it is read.

    Raises:
        ClipError: missing, not an npz file, damaged, too large, or not tracks.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {
                name: _member(archive, f"{name}.npy")
                for name in ("points", "visible", "size")
                if f"{name}.npy" in archive.namelist()
            }
    except FileNotFoundError as error:
        raise ClipError(f"Expected a file of tracks, but '{path.name}' does not exist.") from error
    except OSError as error:
        raise ClipError(
            f"Expected a file of tracks, but '{path.name}' cannot be read ({error.strerror})."
        ) from error
    except Exception as error:  # zlib's, the tokenizer's of a header, and whatever else numpy meets
        raise _refused(path, f"it cannot be read ({error})") from error
    for name in ("points", "size"):
        if name not in arrays:
            raise _refused(path, f"it holds no array `{name}`")
    size = arrays["size"]
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise _refused(path, f"`size` is {size.shape} {size.dtype}, not two whole numbers")
    try:
        return tracks_of(arrays["points"], arrays.get("visible"), (int(size[0]), int(size[1])))
    except UsageError as error:
        raise _refused(path, f"it does not fit. {error.message.rstrip('.')}") from error


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array, its header checked before its numbers are read."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"{name} is of version {version}")
        shape, _, dtype = read(file)
    count = int(np.prod([int(side) for side in shape], dtype=object)) if shape else 1
    if dtype.hasobject or dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {dtype}, not numbers")
    if count * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{name} would take {count * dtype.itemsize / 2**20:.0f} MiB")
    with archive.open(name) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _refused(path: Path, why: str) -> ClipError:
    return ClipError(
        f"Expected a file of tracks, but of '{path.name}' {why}.",
        "docs/metrics.md describes the layout: points, visible and size in one .npz.",
    )
