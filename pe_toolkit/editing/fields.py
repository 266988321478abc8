"""The motion of a card as fields over its token grid, and what can be done to them. Needs no torch.

Every change is a pure function `Fields -> Fields`. Positions are sums of layers of coordinate
offsets; a token that is told to sit at -d makes its content move by d, so they are edited as the
displacements are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.editing import phase as phases
from pe_toolkit.editing.maps import going_on, tokens
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.blending import AGAINST

Floats = NDArray[np.float64]
ROWS, COLUMNS = 0, 1
SOFT = 0.125
"""Of the shorter side of the picture, how far from its border a mask of positions is 0.27 or 0.73:
with a hard one, what is inside follows less, and fewer shapes are the prompt's
(docs/experiments.md)."""


@dataclass(frozen=True)
class Fields:
    """What moves, F x H x W tokens.

    Attributes:
        offsets: `(T, L, F, H, W, 3)` (frame, y, x) in latent frames and patches, layer by layer;
            T = 1, or one for each guided step.
        layers: L names.
        flow: `(F, F, H, W, 2)` int8 (dx, dy) in patches, from the first frame to the second.
        mask: `(F, F, H, W)` bool, where that was matched.
        phase: `(F', C, n)` radians, None where the card has none; `radius` in cycles per picture.
        latent: (h, w) of the latents.
        below: a noise level, and how many times each layer acts below it; None: once.
    """

    offsets: Floats
    layers: tuple[str, ...]
    flow: NDArray[np.int8]
    mask: NDArray[np.bool_]
    phase: Floats | None
    radius: float
    latent: tuple[int, int]
    below: tuple[float, tuple[float, ...]] | None = None

    @property
    def grid(self) -> TokenGrid:
        """The token grid."""
        frames, height, width = self.offsets.shape[2:5]
        return TokenGrid(frames, height, width)


def mirrored(fields: Fields, axis: int) -> Fields:
    """Left and right (`axis` 1) or up and down (0) are changed."""
    sign = np.ones(3)
    sign[1 + axis] = -1
    moves = np.flip(fields.flow, 2 + axis).copy()
    moves[..., 1 - axis] *= -1
    phase = fields.phase
    if phase is not None:
        phase = phases.mirrored(phase, fields.radius, fields.latent, axis)
    return replace(
        fields,
        offsets=np.flip(fields.offsets, 3 + axis) * sign,
        flow=moves,
        mask=np.flip(fields.mask, 2 + axis),
        phase=phase,
    )


def timed(fields: Fields, times: NDArray[Any]) -> Fields:
    """Played at other times: `times` (G,) is the frame, 0 to F - 1, that each new frame shows.

    Offsets and phases are mixed linearly between two frames, the flow is that of the nearest.
    """
    last = fields.grid.frames - 1
    times = np.clip(times, 0, last)
    low = np.floor(times).astype(np.int64)
    share = (times - low)[:, None, None, None]
    high = np.minimum(low + 1, last)
    offsets = fields.offsets[:, :, low] * (1 - share) + fields.offsets[:, :, high] * share
    near = np.rint(times).astype(np.int64)
    phase = fields.phase
    if phase is not None:
        # More latent frames than tokens have (patches of several): the same share of the clip.
        per = len(phase) // fields.grid.frames
        span = (len(phase) - 1) / max(last, 1)
        at = np.linspace(0, len(times) - 1, len(times) * per)
        phase = phases.at_times(phase, np.interp(at, np.arange(len(times)), times) * span)
    return replace(
        fields,
        offsets=offsets,
        flow=fields.flow[near][:, near],
        mask=fields.mask[near][:, near],
        phase=phase,
    )


def coarser(fields: Fields, radius: float) -> Fields:
    """With a phase of that radius, if it has a finer one."""
    if fields.phase is None or fields.radius <= radius:
        return fields
    return replace(fields, phase=phases.within(fields.phase, fields.radius, radius), radius=radius)


def reversed_(fields: Fields) -> Fields:
    """Played backwards."""
    last = fields.grid.frames - 1
    turned = timed(fields, np.arange(last, -1, -1, dtype=np.float64))
    return replace(turned, offsets=turned.offsets * np.array([-1.0, 1, 1]))


def paced(fields: Fields, speed: float) -> Fields:
    """`speed` times as fast, from the first frame on: above 1 it stands still at the end, below 1
    the end is not reached.
    """
    return timed(fields, np.arange(fields.grid.frames) * speed)


def with_frames(fields: Fields, frames: int) -> Fields:
    """The same motion in another number of latent frames."""
    stretched = timed(fields, np.linspace(0, fields.grid.frames - 1, frames))
    scale = np.array([frames / fields.grid.frames, 1, 1])
    return replace(stretched, offsets=stretched.offsets * scale)


def sized(fields: Fields, height: int, width: int, latent: tuple[int, int]) -> Fields:
    """The same motion on another grid of patches: the same share of the picture. A phase is in
    cycles per picture, and stays where it is there: it counts from the middle of the first latent,
    which is nearer to the border of the picture where there are more of them.
    """
    _, old_height, old_width = fields.grid
    down, across = height / old_height, width / old_width
    ys, xs = _nearest(height, old_height), _nearest(width, old_width)
    offsets = _resampled(_resampled(fields.offsets, 3, height), 4, width)
    moves = fields.flow[:, :, ys][:, :, :, xs] * np.array([across, down])
    x = np.arange(width) + np.rint(moves[..., 0])
    y = np.arange(height)[:, None] + np.rint(moves[..., 1])
    inside = np.stack(
        [np.clip(x, 0, width - 1) - np.arange(width),
         np.clip(y, 0, height - 1) - np.arange(height)[:, None]], -1,
    )  # fmt: skip
    phase = fields.phase
    if phase is not None:
        (high, wide), (old_high, old_wide) = latent, fields.latent
        shift = (high / old_high - 1) / 2, (wide / old_wide - 1) / 2
        phase = phases.moved(phase, fields.radius, latent, shift)
    return replace(
        fields,
        phase=phase,
        offsets=offsets * np.array([1, down, across]),
        flow=inside.astype(np.int8),
        mask=fields.mask[:, :, ys][:, :, :, xs],
        latent=latent,
    )


def stilled(fields: Fields) -> Fields:
    """Nothing moves: the layout of the middle frame, all the time."""
    middle = (fields.grid.frames - 1) / 2
    still = timed(fields, np.full(fields.grid.frames, middle))
    return replace(
        still,
        offsets=np.zeros_like(still.offsets),
        flow=np.zeros_like(still.flow),
        mask=np.zeros_like(still.mask),
    )


def masked(inside: Fields, outside: Fields, mask: Floats) -> Fields:
    """`inside` where `mask` (h, w latents, in [0, 1]) is 1, `outside` where it is 0: offsets and
    phase are mixed, offsets with a soft border (`softened`); a displacement is that of whichever
    has the larger share at its start. A phase stays only where both have one, of the same radius.
    In the middle frame, tokens of both sit where `inside` has them: else places were there twice,
    or not at all.
    """
    inside, outside = alike(inside, outside)
    layers = tuple(dict.fromkeys([*inside.layers, *outside.layers]))
    _, height, width = inside.grid
    rows, columns = len(mask) // height, mask.shape[1] // width
    share = mask.reshape(height, rows, width, columns).mean((1, 3))  # (H, W)
    here, there = (_layered(fields, layers) for fields in (inside, outside))
    middle = inside.grid.frames // 2
    there = there + (here - there)[:, :, middle, None]
    most = share >= 0.5
    soft = softened(share, SOFT * min(height, width))[..., None]
    phase = None
    if inside.phase is not None and outside.phase is not None and inside.radius == outside.radius:
        phase = phases.mixed(inside.phase, outside.phase, inside.radius, inside.latent, mask)
    return replace(
        inside,
        layers=layers,
        below=_below(inside, outside, layers),
        offsets=here * soft + there * (1 - soft),
        flow=np.where(most[..., None], inside.flow, outside.flow),
        mask=np.where(most, inside.mask, outside.mask),
        phase=phase,
    )


def softened(share: Floats, wide: float) -> Floats:
    """A mask whose border is at least so soft: at a distance d from it, in patches,
    1 / (1 + exp(-d / wide)) inside at most, and what is left of 1 outside at least.

    Args:
        share: `(H, W)` in [0, 1]; the border is where it passes 0.5.
        wide: patches, above 0.

    Returns:
        `(H, W)` in [0, 1]; `share` itself where it has no border.
    """
    inside = share >= 0.5
    if inside.all() or not inside.any():
        return share
    at = tokens(*share.shape)
    border = [at[inside], at[~inside]]  # row by row: all pairs of a large grid fill the memory
    nearest = [
        [np.linalg.norm(row[:, None] - those, axis=-1).min(1) for those in border] for row in at
    ]
    to_inside, to_outside = np.moveaxis(np.array(nearest), 1, 0)  # (H, W) each
    near = 1 / (1 + np.exp((np.where(inside, to_outside, to_inside) - 0.5) / wide))
    found: Floats = np.where(inside, np.minimum(share, 1 - near), np.maximum(share, near))
    return found


def joined(first: Fields, second: Fields) -> Fields:
    """One after the other, each in half of the frames; the second begins where the first ends.

    The second's offsets go on from the first's last ones, as maps where one of the two zooms or
    turns (`editing.maps.going_on`), and its layout is moved to where its first frame agrees best
    with the first's last (`phase.between`).
    """
    first, second = alike(first, second)
    frames = first.grid.frames
    half = (frames + 1) // 2
    layers = tuple(dict.fromkeys([*first.layers, *second.layers]))
    a = timed(first, np.linspace(0, frames - 1, half))
    b = timed(second, np.linspace(0, frames - 1, frames - half + 1))
    here, there = _layered(a, layers), _layered(b, layers)
    flow = np.zeros_like(first.flow)
    mask = np.zeros_like(first.mask)
    flow[:half, :half], mask[:half, :half] = a.flow, a.mask
    flow[half:, half:], mask[half:, half:] = b.flow[1:, 1:], b.mask[1:, 1:]
    # The last frame of the first is where the second begins.
    flow[half - 1, half:], mask[half - 1, half:] = b.flow[0, 1:], b.mask[0, 1:]
    flow[half:, half - 1], mask[half:, half - 1] = b.flow[1:, 0], b.mask[1:, 0]
    phase = None
    if a.phase is not None and b.phase is not None and a.radius == b.radius:
        per = len(a.phase) // half
        shift = phases.between(a.phase[-1], b.phase[0], a.radius, first.latent)
        rest = phases.moved(b.phase[per:], a.radius, first.latent, shift)
        phase = np.concatenate([a.phase, rest])
    return replace(
        first,
        layers=layers,
        below=_below(first, second, layers),
        offsets=np.concatenate([here, going_on(here[:, :, -1], there, layers)], 2),
        flow=flow,
        mask=mask,
        phase=phase,
    )


def kept_inside(fields: Fields) -> Fields:
    """No token counts as being outside of the picture (`motion.layers.inside` says why): what the
    sum of all layers has too much is taken from the last one.
    """
    _, height, width = fields.grid
    at = tokens(height, width)
    there = at + fields.offsets.sum(1)[..., 1:]
    inside = np.clip(there, -0.5, np.array([height, width]) - 0.5)
    offsets = fields.offsets.copy()
    offsets[:, -1, ..., 1:] += inside - there
    return replace(fields, offsets=offsets)


def alike(one: Fields, other: Fields) -> tuple[Fields, Fields]:
    """Both, with the layers of the same names acting alike in the later steps: where that is not
    so, all of both act in all guided steps, and of those that did not there is `AGAINST`.
    """
    own, others = _times(one), _times(other)
    noise = {fields.below[0] for fields in (one, other) if fields.below is not None}
    if len(noise) < 2 and all(own[name] == others[name] for name in own.keys() & others.keys()):
        return one, other
    return _at_once(one), _at_once(other)


def _at_once(fields: Fields) -> Fields:
    shares = np.array([1.0 if times else AGAINST for times in _times(fields).values()])
    return replace(fields, offsets=fields.offsets * shares[:, None, None, None, None], below=None)


def _times(fields: Fields) -> dict[str, float]:
    """How many times each layer acts in the later steps."""
    times = (1.0,) * len(fields.layers) if fields.below is None else fields.below[1]
    return dict(zip(fields.layers, times, strict=True))


def _below(
    one: Fields, other: Fields, layers: tuple[str, ...]
) -> tuple[float, tuple[float, ...]] | None:
    """Of the layers of both, which are `alike`."""
    known = one.below or other.below
    if known is None:
        return None
    times = _times(other) | _times(one)
    return known[0], tuple(times[name] for name in layers)


def _layered(fields: Fields, layers: tuple[str, ...]) -> Floats:
    """The offsets with one layer for each of `layers`, of zeros where there is none."""
    empty = np.zeros_like(fields.offsets[:, 0])
    found = {name: fields.offsets[:, i] for i, name in enumerate(fields.layers)}
    return np.stack([found.get(name, empty) for name in layers], 1)


def _nearest(size: int, old: int) -> NDArray[np.int64]:
    return np.clip(((np.arange(size) + 0.5) * old / size).astype(np.int64), 0, old - 1)


def _resampled(values: Floats, axis: int, size: int) -> Floats:
    """Linear in the centres of patches, held beyond the outermost ones."""
    old = values.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.floor(at).astype(np.int64)
    share = (at - low).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    before, after = (np.take(values, i, axis) for i in (low, np.minimum(low + 1, old - 1)))
    found: Floats = before * (1 - share) + after * share
    return found
