"""The motion of a reference in words, from its numbers. Needs no torch.

A camera that pans right shows its picture moving left: words speak of the camera, numbers of the
picture. Subjects are spoken of as they are seen once the camera is taken away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product

Point = Sequence[float]

LEAST = 0.25
"""Patches: less is not spoken of."""
STRAIGHT = 0.6
"""Of how far apart any two frames are: from here on, first and last say where it goes."""
AROUND = 1.5
"""Times as long as its ends are apart: a way that is spoken of. Of a half circle 1.6."""
KEPT = 0.25
"""Of how far a subject goes beyond the camera: seen to go less, it goes with it."""
CHANGE, TURN = 0.08, 4.0
"""Change of log size, and degrees, that are spoken of."""
WITH = "with the camera"
HARDLY = "hardly"
"""What a subject does that a slower clip does not show."""
NOTHING = "nothing moves that can be followed"


def camera_words(camera: Sequence[Sequence[float]]) -> str:
    """What the camera does, or "" if it rests.

    Args:
        camera: for every latent frame (a11, a12, a21, a22, bx, by): what rests is at
            c + A (p - c) + b, in patches, x before y (y down), c the middle of the picture.
    """
    parts = []
    pan = _way([(-c[4], -c[5]) for c in camera])
    if pan:
        parts.append(f"pans {pan}")
    zooms = [0.5 * math.log(max(abs(c[0] * c[3] - c[1] * c[2]), 1e-9)) for c in camera]
    zoom = _growth(zooms, "zooms in {} times", "zooms out {} times")
    if zoom:
        parts.append(zoom)
    roll = _turns([-_turned(c) for c in camera])
    if roll:
        parts.append(f"rolls {roll}")
    return "camera " + ", ".join(parts) if parts else ""


def subject_words(
    path: Sequence[Point],
    size: Sequence[float] | None = None,
    turn: Sequence[float] | None = None,
    camera: Sequence[Sequence[float]] = (),
    border: str = "",
) -> str:
    """What a subject does. One that stays where it is in the picture of a camera that pans goes
    with the camera.

    Args:
        path: for every latent frame (dx, dy) in patches, y down.
        size: its size, in times of that in the frame it is compared with.
        turn: degrees, clockwise.
        camera: as in `camera_words`.
        border: `border_words`.
    """
    parts = []
    way = _way(path)
    if way:
        parts.append(f"{WITH}, {way}" if _stays(path, camera) else way)
    if border:
        parts.append(border)
    grows = _growth(
        [math.log(max(s, 1e-6)) for s in size or ()], "grows {} times", "shrinks {} times"
    )
    if grows:
        parts.append(grows)
    turns = _turns(turn or ())
    if turns:
        parts.append(f"turns {turns}")
    return ", ".join(parts) or HARDLY


def places(
    path: Sequence[Point], disc: Point, camera: Sequence[Sequence[float]], sides: tuple[int, int]
) -> list[tuple[float, float]]:
    """Where a subject is in the picture in every latent frame, (x, y) in patches.

    Args:
        path: as in `subject_words`.
        disc: where it is in the frame that it is compared with, (x, y, ...).
        camera: as in `camera_words`.
        sides: of the grid, height and width.
    """
    middle = (sides[1] - 1) / 2, (sides[0] - 1) / 2
    out = []
    for (dx, dy), (a11, a12, a21, a22, bx, by) in zip(path, camera, strict=True):
        x, y = disc[0] + dx - middle[0], disc[1] + dy - middle[1]
        out.append((middle[0] + a11 * x + a12 * y + bx, middle[1] + a21 * x + a22 * y + by))
    return out


def border_words(places: Sequence[Point], sides: tuple[int, int]) -> str:
    """Where a subject comes in and leaves, or "": where its middle crosses the border.

    Args:
        places: as `places` gives them.
        sides: as there.
    """
    beyond = [_beyond(place, sides) for place in places]
    inside = [f for f, side in enumerate(beyond) if not side]
    if not inside or not any(beyond):
        return ""
    first, last = inside[0], inside[-1]
    came = f"comes in {beyond[first - 1]}" if first else ""
    left = f"leaves {beyond[last + 1]}" if last + 1 < len(beyond) else ""
    away = next((side for side in beyond[first:last] if side), "")
    if away:
        back = f"goes out {away} and comes back"
        return ", ".join(part for part in (came, back, left) if part)
    return " and ".join(part for part in (came, left) if part)


def _beyond(place: Point, sides: tuple[int, int]) -> str:
    """At which side of the picture it is outside, or ""."""
    x, y = place
    out = {
        "on the left": -0.5 - x,
        "on the right": x - sides[1] + 0.5,
        "at the top": -0.5 - y,
        "at the bottom": y - sides[0] + 0.5,
    }
    side = max(out, key=lambda name: out[name])
    return side if out[side] > 0 else ""


def words(camera: Sequence[Sequence[float]], subjects: Sequence[str]) -> str:
    """All of it in one line.

    Args:
        camera: as in `camera_words`.
        subjects: of each, `subject_words`.
    """
    parts = [camera_words(camera)]
    subjects = [subject for subject in subjects if subject != HARDLY]
    if len(subjects) == 1 and subjects[0].startswith(WITH):
        parts.append(f"one subject goes {subjects[0]}")
    elif len(subjects) == 1:
        parts.append(f"one subject moves on its own: {subjects[0]}")
    elif len(subjects) == 2:
        parts.append(f"two things move differently: one {subjects[0]}; the other {subjects[1]}")
    elif subjects:
        parts.append(f"{len(subjects)} things move differently: {'; '.join(subjects)}")
    return "; ".join(part for part in parts if part) or NOTHING


def _turned(row: Sequence[float]) -> float:
    """Degrees of A, also of one that is stretched with its picture: S A S^-1 turns as A does."""
    a11, a12, a21, a22 = row[:4]
    sine = math.copysign(math.sqrt(max(-a12 * a21, 0.0)), a21)
    return math.degrees(math.atan2(sine, (a11 + a22) / 2))


def _stays(path: Sequence[Point], camera: Sequence[Sequence[float]]) -> bool:
    """Whether a subject is kept in its place of the picture by a camera that pans and no more."""
    if len(camera) != len(path) or camera_words([(*c[:4], 0.0, 0.0) for c in camera]):
        return False
    seen = [(p[0] + c[4], p[1] + c[5]) for p, c in zip(path, camera, strict=True)]
    return _far(seen) < KEPT * _far(path)


def _far(path: Sequence[Point]) -> float:
    """Between the two frames that are farthest apart."""
    return max((math.dist(a, b) for a, b in product(path, path)), default=0.0)


def _way(path: Sequence[Point]) -> str:
    """`right and down 3.4 patches`, or "" where it stays."""
    far = _far(path)
    if far < LEAST:
        return ""
    dx, dy = (b - a for a, b in zip(path[0], path[-1], strict=True))
    net, length = math.hypot(dx, dy), sum(math.dist(a, b) for a, b in pairwise(path))
    if net < STRAIGHT * far:
        return f"to and fro within {_number(far)} patches, {_number(length)} in all"
    across = ("right" if dx > 0 else "left") if abs(dx) > 0.4 * net else ""
    along = ("down" if dy > 0 else "up") if abs(dy) > 0.4 * net else ""
    there = f"{' and '.join(w for w in (across, along) if w)} {_number(net)} patches"
    around = length >= AROUND * net and length >= net + 1
    return f"{there} by a way of {_number(length)}" if around else there


def _growth(logs: Sequence[float], more: str, less: str) -> str:
    """Between first and last if that is most of it, else between smallest and largest."""
    span = max(logs, default=0.0) - min(logs, default=0.0)
    if span < CHANGE:
        return ""
    net = logs[-1] - logs[0]
    if abs(net) < STRAIGHT * span:
        words = more if _farther(logs) > 0 else less
        return words.format(f"{math.exp(span):.2g}") + " and back"
    return (more if net > 0 else less).format(f"{math.exp(abs(net)):.2g}")


def _turns(degrees: Sequence[float]) -> str:
    span = max(degrees, default=0.0) - min(degrees, default=0.0)
    if span < TURN:
        return ""
    net = degrees[-1] - degrees[0]
    back = abs(net) < STRAIGHT * span
    far = _farther(degrees) if back else net
    words = f"{span if back else abs(net):.0f} degrees {'' if far > 0 else 'counter'}clockwise"
    return f"{words} and back" if back else words


def _farther(values: Sequence[float]) -> float:
    """Of the largest and the smallest, the one that is farther from the first, against it."""
    up, down = max(values) - values[0], min(values) - values[0]
    return up if up >= -down else down


def _number(patches: float) -> str:
    return f"{patches:.0f}" if patches >= 10 else f"{patches:.1f}"
