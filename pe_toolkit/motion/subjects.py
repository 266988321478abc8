"""The things of a reference that move by themselves, beyond what the camera makes of them.

- Where the pictures say where things are (`motion.spots`, `motion.steady`), up to three of them:
  ten times as exactly as a cut of the patches does, and of things that no cut tells.
- Else what a normalised cut tells from the background (`motion.segments`), or one path through all
  matches.

Growth and turn are read by laying a thing's own pictures on each other; where the pictures show it
apart, growth by what it covers (`motion.sizes`), and turn by what is around its middle
(`motion.turns`).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.cameras import BETTER, Camera
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.layers import carried, middle, undo
from pe_toolkit.motion.moments import frames_of
from pe_toolkit.motion.moves import (
    GROWTH,
    ONE_PATH,
    REST,
    TURN,
    Subject,
    changing,
    grows,
)
from pe_toolkit.motion.path import mean_path, path_shares
from pe_toolkit.motion.registration import (
    NOISE,
    SIDES,
    Registration,
    after,
    left,
    level_of,
    register,
)
from pe_toolkit.motion.segments import FAINT
from pe_toolkit.motion.similarities import resting, turning
from pe_toolkit.motion.spots import Spot, spots
from pe_toolkit.motion.steady import spots_before
from pe_toolkit.motion.things import Thing

MORE, EACH, SURE = 4.0, 0.05, 0.05
"""How many times as much a mean path has to explain of what moves, `EACH` at least, to be believed
against a subject that goes the other way; and the share that is followed."""
FAR = 1.5
"""As `REST`, of a path through matches, each to a patch: those of still clips have up to 1.2."""
KEPT, ALIKE = 0.5, 0.25
"""Of its own way, how far a thing goes in the picture at most that a camera follows; and how much
may lie between two of them that are one: a rider's parts go 0.8 of 4.6 patches apart."""
WITH = 0.25
"""Of the squared difference of a thing's own pictures that may be left under the camera's motion,
for the thing to move with the camera."""


def shown(
    flow: AttentionMotionFlow, pictures: Tensor, small: Tensor, camera: Camera | None = None
) -> list[Subject] | None:
    """What the pictures show to move by itself; None where that is not clear.

    Args:
        flow: its displacements.
        pictures: `(F, h, w)` grey values (`moments.pictures_of`).
        small: `(N, 3, h, w)` of `backdrop.shrunk`.
        camera: that moves. None: it rests.
    """
    grid, moments = flow.grid, frames_of(len(small), flow.grid.frames)
    if camera is None:
        maps, found = resting(grid), spots(small, grid, moments)
    else:
        maps, anchor = camera.maps, grid.frames // 2
        found = spots_before(small, camera.laid.motions, grid, anchor, moments)

    def seen_at(place: Tensor) -> Tensor:
        return carried(place[:, None], grid, *maps)[:, 0]

    if not (found := _together(found, [seen_at(spot.place) for spot in found])):
        return None
    places = [seen_at(spot.place) for spot in found]
    subjects = []
    for spot, place, share in zip(found, places, path_shares(flow, places), strict=True):
        around = functional.max_pool2d(spot.cover.double(), 3, 1, 1)
        said = _against(spot.size, grid), _against(spot.turn, grid)
        subject = subject_at(grid, pictures, around, (place, share), maps, said)
        subject = dataclasses.replace(subject, cover=spot.cover, seen=True)
        if _reach(subject.path) >= REST or grows(subject):
            subjects.append(subject)
    return sorted(subjects, key=lambda s: -s.share)


def _against(values: Tensor | None, grid: TokenGrid) -> Tensor | None:
    """`(F,)` values against that of the anchor frame; None as they are."""
    return None if values is None else values - values[grid.frames // 2]


def _together(found: list[Spot], seen: list[Tensor]) -> list[Spot]:
    """The spots, those that keep their distance from each other as one: parts of one thing, or
    things that go alike; or that keep it but for `ALIKE` of their way, if a camera follows both.

    Args:
        seen: `(F, 2)` where each is in the picture, patches.
    """
    followed = [
        _reach(at) < KEPT * _reach(spot.place) for at, spot in zip(seen, found, strict=True)
    ]
    groups: list[list[int]] = []
    for k, spot in enumerate(found):
        for group in groups:
            both = followed[k] and followed[group[0]]
            most = ALIKE * _reach(spot.place) if both else 0.0
            if _reach(spot.place - found[group[0]].place) < max(REST, most):
                group.append(k)
                break
        else:
            groups.append([k])
    out = []
    for parts in ([found[k] for k in group] for group in groups):
        if len(parts) == 1:
            out += parts
            continue
        sizes = torch.tensor([float(one.cover.sum()) + 1e-9 for one in parts]).double()
        place = torch.stack([one.place for one in parts])
        middle_of = torch.einsum("n,nfk->fk", sizes / sizes.sum(), place)
        out.append(Spot(middle_of, torch.stack([one.cover for one in parts]).any(0)))
    return out


def _reach(path: Tensor) -> float:
    """Of `(F, 2)`, patches along an axis."""
    return float((path.amax(0) - path.amin(0)).max())


def cut_subjects(
    grid: TokenGrid, pictures: Tensor, things: list[Thing], camera: Camera
) -> list[Subject]:
    """Those of the things that move beyond the camera."""
    subjects = []
    for thing in things:
        around = functional.max_pool2d((thing.mask > FAINT).double(), 3, 1, 1)
        if camera.moves:
            rest, still = left(pictures, around, grid.frames // 2, camera.laid)
            if rest <= max(WITH * still, NOISE**2):
                continue
        read = thing.course.place, thing.share
        subject = subject_at(grid, pictures, around, read, camera.maps)
        subject = dataclasses.replace(subject, cover=thing.mask > FAINT)
        if _reach(subject.path) >= REST or grows(subject):
            subjects.append(subject)
    return subjects


def unsaid(grid: TokenGrid, pictures: Tensor, camera: Camera, subjects: list[Subject]) -> float:
    """Mean squared difference of the frames from what the anchor frame becomes, what each thing
    covers on its way and the rest as the camera has it; those above 8 x `NOISE` count as that.
    """
    anchor = grid.frames // 2
    level = level_of(pictures, torch.ones(tuple(grid), dtype=torch.float64), SIDES[-1])
    size = level.grey.shape[1:]
    whose, ways = torch.zeros(size, dtype=torch.long), [camera.laid.motions]
    for subject in subjects:
        if subject.cover is not None:
            cover = subject.cover[anchor].double()[None, None]
            there = functional.interpolate(cover, size=size, mode="nearest")[0, 0] > 0.5
            whose[there] = len(ways)
            ways.append(_in_pictures(grid, camera, subject, level.half))
    total = count = 0.0
    for f in range(grid.frames):
        for k, motions in enumerate(ways if f != anchor else ()):
            missed, inside, _ = level.laid(f, anchor, motions[f])
            counts = inside * (whose.flatten() == k)
            total += float((counts * missed.square().clamp(max=(8 * NOISE) ** 2)).sum())
            count += float(counts.sum())
    return total / max(count, 1.0)


def _in_pictures(
    grid: TokenGrid, camera: Camera, subject: Subject, half: tuple[float, float]
) -> Tensor:
    """`(F, 4)` of what a subject covers, as `Registration.motions`."""
    motions = camera.laid.motions.clone()
    motions[:, :2] += torch.stack([subject.size, subject.turn], 1)
    sides = torch.tensor([grid.width, grid.height])
    places = ((subject.place + 0.5) / sides * 2 - 1) * torch.tensor(half)
    begin = torch.cat([torch.zeros(2), places[grid.frames // 2]]).double()
    motions[:, 2:] = 0
    motions[:, 2:] = places - torch.stack([after(begin, motion)[2:] for motion in motions])
    return motions


def not_against(subject: Subject, flow: AttentionMotionFlow) -> Subject:
    """A subject, or the mean path in its place where that goes the other way and explains more: two
    like things that go side by side are cut as what lies between and behind them.
    """
    path = mean_path(flow, flow.grid.frames // 2).double()
    share = path_shares(flow, [path])[0]
    against = float((path.diff(dim=0) * subject.path.diff(dim=0)).sum()) < 0
    little = flow.followed < SURE or share < MORE * max(subject.share, EACH)
    if little or not against:
        return subject
    zero = torch.zeros(len(path), dtype=torch.float64)
    return Subject(path, path + middle(flow.grid), zero, zero, share)


def along_one_path(flow: AttentionMotionFlow, camera: Camera) -> list[Subject]:
    """The mean path, if it explains what moves and the camera does not."""
    grid, anchor = flow.grid, flow.grid.frames // 2
    path = mean_path(flow, anchor).double()
    share = path_shares(flow, [path])[0]
    place = path + middle(grid)
    own = undo(place[:, None], grid, *camera.maps)[:, 0]
    own = own - own[anchor]
    zero = torch.zeros(grid.frames, dtype=torch.float64)
    alone = Subject(own, place, zero, zero, share)
    return [] if share < ONE_PATH or _reach(alone.path) < FAR else [alone]


def subject_at(
    grid: TokenGrid,
    pictures: Tensor,
    around: Tensor,
    thing: tuple[Tensor, float],
    maps: tuple[Tensor, Tensor],
    said: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Subject:
    """A thing, by its places and its share, with the camera's motion taken out of its own.

    Args:
        said: its size and turn, as of `Subject`, where that is known.
    """
    (place, share), anchor = thing, grid.frames // 2
    path = undo(place[:, None], grid, *maps)[:, 0]
    size, turn = said
    if size is None or turn is None:
        laid = _laid(grid, pictures, around, place, maps)
        size = laid[0] if size is None else size
        turn = changing(laid[1], TURN) if turn is None else turn
    return Subject(path - path[anchor], place, changing(size, GROWTH), turn, max(0.0, share))


def _laid(
    grid: TokenGrid, pictures: Tensor, around: Tensor, place: Tensor, maps: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Its size and turn, `(F,)` each: its own pictures laid on each other, from where its course
    says that they are.
    """
    anchor = grid.frames // 2
    start = (place - place[anchor]) / torch.tensor([grid.width, grid.height])
    found = register(pictures, around, anchor, start)
    ok = found.rest.isfinite() & found.still.isfinite()
    better = bool(ok.all()) and float(found.rest.sum()) < BETTER * float(found.still.sum())
    if better and _turned(grid, pictures, around, place[anchor], found):
        (size, turn), (zoom, roll) = turning(found.linear), turning(maps[0])
        return size - zoom, turn - roll
    nothing = torch.zeros(grid.frames, dtype=torch.float64)
    return nothing, nothing


def _turned(
    grid: TokenGrid,
    pictures: Tensor,
    around: Tensor,
    place: Tensor,
    found: Registration,
) -> bool:
    """Whether its pictures lie better for a growth and a turn: beside the same fit without, which
    takes its middle to the same places. The course of a cut mask is coarse, and much of what a fit
    gains on it is a better course.
    """
    (height, width), anchor = pictures.shape[1:], grid.frames // 2
    sides = torch.tensor([width, height]) / min(width, height)
    middle_of = ((place + 0.5) / torch.tensor([grid.width, grid.height]) * 2 - 1) * sides
    at = torch.cat([torch.zeros(2), middle_of]).to(found.motions)
    moved = torch.stack([after(at, motion) for motion in found.motions]) - at
    moved[:, :2] = 0
    alone = dataclasses.replace(found, motions=moved)
    rest, without = (left(pictures, around, anchor, each)[0] for each in (found, alone))
    return rest < BETTER * without
