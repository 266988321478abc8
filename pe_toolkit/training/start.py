"""What the positions are before the first guided step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pe_toolkit.card.followed import LITTLE
from pe_toolkit.card.spec import CAMERA, WHOLE, BelowSpec
from pe_toolkit.embedding import LAYERED
from pe_toolkit.embedding.base import PositionalForm
from pe_toolkit.motion.blending import AGAINST, FOLD
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.layers import inside, subject_layer
from pe_toolkit.motion.moves import ONE_PATH, Moves, grows
from pe_toolkit.motion.path import mean_path, one_path, reach
from pe_toolkit.motion.words import NOTHING
from pe_toolkit.training.config import Resolved

FARTHER = 1.25
"""How much farther `auto` starts from layers of a slow thing, and of a camera that zooms or rolls:
generations follow them in part; of a zoom 1.0 of the true change is seen, 1.2 at 1.5, of a slow
thing 1.2 times its way, 1.3 at 1.5. A pan they follow wholly (docs/experiments.md)."""
UNTIL, THEN = 0.99, 1.25
"""Noise below which a subject's layer does not act, before a camera that moves, of `auto`; and how
much farther the camera's goes then, if it does not zoom. Layers are on all tokens, as what is moved
in part is torn, so that of what is held the two cancel. But where things go is decided before where
a texture is: with the layers one after the other both follow (docs/experiments.md)."""
BESIDE = 0.8
"""As `blending.AGAINST`, of a subject that goes its own way, if the pictures show it: it follows
with 0.88 at 0.8, 0.77 at 0.4, and the background as well; at 1.0 less of that
(docs/experiments.md)."""
BEYOND, ZOOMED = 0.125, 0.0625
"""Sides of the picture: how far beyond its border positions are taken before a camera that moves,
and one that zooms. What it brings into the picture comes from there; farther out a second thing is
drawn (docs/experiments.md)."""
SLOW = 1.5
"""Patches: a thing whose path stays within is slow. A path through matches, each to a patch, does
not say such a motion even where it explains half of it: cosine 0.38 from there, 0.77 from its layer
(docs/experiments.md)."""
MORE = 0.1
"""Of what moves, how much more than the mean path a subject's must explain to be taken in its
place: it is nearer to the truth wherever it explains 0.04 more (docs/experiments.md)."""


@dataclass(frozen=True)
class Layers:
    """The layers of offsets of a card (`recipe.layers`): all but the last stay as they start.

    Attributes:
        names: L of them.
        fixed: `(L - 1, S, 3)` offsets, what half precision makes of them.
        below: how much of each acts in the later steps; None: as much as in the first.
    """

    names: tuple[str, ...]
    fixed: torch.Tensor
    below: BelowSpec | None = None

    def total(self, last: torch.Tensor, noise: float) -> torch.Tensor:
        """Their sum as they act at a noise level, of which `last` is the last: `(S, 3)`."""
        if not len(self.fixed):
            return last
        stored = self.stored(last)
        if self.below is None or noise >= self.below.noise:
            return stored.sum(0)
        return (stored * stored.new_tensor(self.below.times)[:, None, None]).sum(0)

    def stored(self, last: torch.Tensor) -> torch.Tensor:
        """All layers, as a card holds them at one step: `(L, S, 3)`."""
        return torch.cat([self.fixed.to(last), last[None]])


def first_positions(
    form: PositionalForm, flow: AttentionMotionFlow, moves: Moves, settings: Resolved
) -> tuple[torch.Tensor, Layers | None]:
    """What is optimised as it is before the first guided step, `form.shape`, and the layers that it
    is the last of, if the form has some; where the model's own embedding is.
    """
    found = first_layers(flow, moves, settings)
    layers = {name: layer.to(form.device) for name, layer in found.items()}
    if form.name not in LAYERED:
        return form.from_offsets(torch.stack(list(layers.values())).sum(0)), None
    *before, last = (form.from_offsets(layer) for layer in layers.values())
    fixed = torch.stack(before) if before else last.new_zeros(0, *last.shape)
    below = layers_below(list(layers), flow, moves, settings)
    return last, Layers(tuple(layers), fixed.half().float(), below)


def first_layers(
    flow: AttentionMotionFlow, moves: Moves, settings: Resolved
) -> dict[str, torch.Tensor]:
    """The layers to begin with, `(S, 3)` offsets (frame, y, x) in tokens each, on the CPU; the last
    is what is optimised.

    A start of `zero` is the model itself. `flow`: one layer, in which every patch is put back along
    the reference's own flow. A patch that pretends to sit where it was in the middle frame attends
    across frames as if nothing had moved in between: positions shifted by *minus* the path carry
    the motion before any optimisation (the idea of RoPECraft, without an optical flow network).
    `layers`: the camera's affine map and each subject's motion beyond it (`Moves.layers`).

    `auto`: see `sought`.

    With the reference's phase in the noise, things are put back to the middle of the picture before
    a camera that rests (`Moves.away`), or where their layers act first (`layers_below`): without
    it, paths got worse by that (docs/experiments.md).

    Before a camera that rests none leaves the picture (`motion.layers.inside`), before one that
    moves none goes farther than `BEYOND`, one that zooms `ZOOMED`; of one that rolls, whose corners
    come from outside, all stay as they are.

    Where nothing is read that could be said so (`unsaid`), the start is zero: a path through chance
    matches would be a motion that the reference does not have.
    """
    grid, start, placed = flow.grid, begun(flow, moves, settings), bool(settings.phase)
    if start == "zero":
        return {WHOLE: torch.zeros(grid.tokens, 3, dtype=torch.float64)}
    if start == "layers":
        apart = _one_by_one(flow, moves, settings)
        part = 1.0 if apart or settings.start != "auto" else _part(moves)
        back = placed and (apart or not moves.camera)
        shown = _straight(moves) if turn_left_out(flow, moves, settings) else moves
        found = shown.layers(grid, scale(start, moves, settings), part, placed=back)
    else:
        path = _one_path(flow, moves)  # (F, 2) as (dx, dy)
        path = path * reach(path, grid, settings.start_scale)
        found = {WHOLE: subject_layer(grid, path + moves.away(grid) if placed else path)}
    if moves.rolls:
        return found
    if moves.camera:
        return inside(grid, found, ZOOMED if moves.turns else BEYOND)
    return inside(grid, found, fold=FOLD if placed else 0.0)


def layers_below(
    names: Sequence[str], flow: AttentionMotionFlow, moves: Moves, settings: Resolved
) -> BelowSpec | None:
    """How much of each of the layers of a start acts in the later steps; None: as much as before.

    Of `auto`, before a camera that does not roll, those of subjects act first, whole, and then that
    of the camera alone, if steps are guided below `UNTIL`. What is optimised acts in all.
    """
    if len(names) < 2 or not _one_by_one(flow, moves, settings):
        return None
    camera = 1.0 if moves.turns else THEN
    return BelowSpec(noise=UNTIL, times=tuple(camera * (name == CAMERA) for name in names))


def _one_by_one(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> bool:
    if settings.start != "auto" or settings.inner_steps or settings.parametrisation not in LAYERED:
        return False
    if not moves.camera or moves.rolls or not moves.subjects:
        return False
    if settings.guided_range[0] >= UNTIL:
        return False
    return begun(flow, moves, settings) == "layers"


def _part(moves: Moves) -> float:
    """How much of its layer a subject gets, where all layers act in the same steps."""
    if not moves.camera:
        return 1.0
    return BESIDE if moves.shown and not moves.held else AGAINST


def _one_path(flow: AttentionMotionFlow, moves: Moves) -> torch.Tensor:
    """`(F, 2)` float64: the mean path, or that of the only subject where the pictures show it, or
    it says more.
    """
    if not moves.camera and len(moves.subjects) == 1:
        (subject,) = moves.subjects
        if subject.seen or subject.share >= one_path(flow) + MORE:
            return subject.path
    return mean_path(flow, moves.anchor).double()


def begun(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> str:
    """The start that is taken, `zero`, `flow` or `layers`: the one that was asked for (`auto` means
    `sought`), or `zero` where that cannot be said.
    """
    return "zero" if unsaid(flow, moves, settings) else sought(flow, moves, settings)


def scale(start: str, moves: Moves, settings: Resolved) -> float:
    """How far the start that is taken goes, in times of the motion that was read."""
    more = FARTHER if moves.turns or slow(moves) else 1.0
    own = settings.start == "auto" and start == "layers"
    return settings.start_scale * (more if own else 1.0)


def slow(moves: Moves) -> bool:
    """Whether one thing moves, before a camera that rests, and not far."""
    if moves.camera or len(moves.subjects) != 1:
        return False
    path = moves.subjects[0].path
    return float((path.amax(0) - path.amin(0)).max()) < SLOW


def sought(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> str:
    """The start that was asked for. Of `auto` it is `layers` where one path does not say what moves
    and a camera or one subject was read (zoom, roll, a thing that is hard to match, of which one
    path explains much of the little that matches), of one thing that moves otherwise than the
    camera (a background behind what stays), of one slow thing, of one of which the pictures show
    that it grows, and of several things; else `flow` (docs/experiments.md). With a reading
    by attention, which tells no things from a background, it is `layers` where the pictures show a
    camera that moves, several things, or one that grows.
    """
    if settings.start != "auto":
        return settings.start
    more = moves.shown and any(bool((subject.size != 0).any()) for subject in moves.subjects)
    if settings.reading.by != "content":
        return "layers" if moves.camera or moves.several or more else "flow"
    if not (moves.camera or moves.subjects):
        return "flow"
    if moves.several:
        return "layers"
    otherwise = moves.camera and len(moves.subjects) == 1
    said = one_path(flow) >= ONE_PATH and flow.followed >= LITTLE and not moves.turns
    alone = said and not slow(moves) and not otherwise and not more
    return "flow" if alone else "layers"


def path_alone(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> bool:
    """Whether a subject grows or turns, and the start is a path, which says neither: what turns on
    its way, and what grows where the pictures do not show it, so that what is read of it is not
    exact (docs/experiments.md).
    """
    turned = any(grows(subject) for subject in moves.subjects)
    return turned and begun(flow, moves, settings) == "flow"


def turn_left_out(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> bool:
    """Whether `auto` takes the layer of one thing that turns on its way, without its turn: what
    goes far follows its path with 0.85 where it is turned as well, with 0.94 without, and of the
    turn half is seen (docs/experiments.md).
    """
    if settings.start != "auto" or moves.camera or len(moves.subjects) != 1 or slow(moves):
        return False
    turned = bool((moves.subjects[0].turn != 0).any())
    return turned and begun(flow, moves, settings) == "layers"


def _straight(moves: Moves) -> Moves:
    """Without the turn of its subjects."""
    straight = [replace(s, turn=torch.zeros_like(s.turn)) for s in moves.subjects]
    return replace(moves, subjects=tuple(straight))


def things_left_out(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> bool:
    """Whether several things were read before a camera, and positions say the camera's motion only
    (`Moves.several`).
    """
    many = moves.camera and len(moves.subjects) > 1 and not moves.several
    return many and begun(flow, moves, settings) == "layers"


def unsaid(flow: AttentionMotionFlow, moves: Moves, settings: Resolved) -> str:
    """Why a start other than `zero` begins at zero nevertheless, or "".

    How much of a motion one path has to explain was measured on readings by content
    (docs/experiments.md); whoever asks for `flow` with another reading gets it.
    """
    start, content = sought(flow, moves, settings), settings.reading.by == "content"
    if start == "zero" or (start == "flow" and not content):
        return ""
    if not moves.camera and not moves.subjects:
        return NOTHING
    if start == "flow" and moves.turns:
        return "its camera zooms or rolls, which no path says"
    if start == "flow" and (share := one_path(flow)) < ONE_PATH:
        return f"one path explains only {max(0.0, share):.0%} of what moves"
    return ""
