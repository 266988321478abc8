"""Does a generated clip move as the reference did, when nobody knows the true trajectory?

A card holds the flow of its reference. The flow of the generated clip is read in the same way:
its clean latents, an empty prompt, the same blocks and timestep. Patches cannot be compared one by
one, because what moves is something else, somewhere else. So of both flows only the patches that
are really followed and really move count (`followed_mask`), each ordered pair of latent frames
(i, j) is represented by their mean displacement d(i, j), and the score is

    mean over |i - j| <= 2 of  cos(d_generated(i, j), d_reference(i, j))

1 is the same motion whatever its reach, 0 an unrelated one, -1 the opposite. Several motions in one
clip count as their mean, which says little of them; so where they move in the place of the
reference's, which its phase in the noise brings about, patches are compared one by one after all
(`evaluation.in_place`). Of a reference with little to follow there is no score, unless the paths of
what moves are known: what it would compare with is jitter. How well it predicts the cosine of the
true trajectories: `python -m benchmarks.following`, docs/experiments.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pe_toolkit.backbones import ways
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.backbones.ways import Way
from pe_toolkit.card import CardSpec, MotionCard
from pe_toolkit.card.followed import LITTLE, followed, nothing_was_seen
from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.camera_share import camera_share
from pe_toolkit.evaluation.in_place import Ways, agreement_by_part, in_place
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.motion.flow import FAR as AWAY
from pe_toolkit.motion.flow import followed_share
from pe_toolkit.motion.masks import followed_mask

FAR = 2
"""Latent frames. Farther apart, directions average out over turns (measured: 1 and 3 are no
better, all pairs are worse)."""
REST = 0.1
"""Patches. Pairs of frames between which the reference moves less do not count."""
LEAST_MOTION = 0.2
"""Patches (root mean square over pairs of frames). Below it, a mean is mostly jitter."""
LEAST_PAIRS = 0.5
"""Share of the pairs of frames in which something has to be followed."""
CHANCE = 0.7
"""More than nineteen of twenty videos without a card stay below it: 80 videos against 78 references
of which enough can be followed, 99 % with rendered ones, textures under a moving camera and real
footage (`python -m benchmarks.chance`; 97 to 99 % with earlier weights, when the line was chosen).
Two straight ways that happen to agree score 1: of a single video, no line can say more."""
CHANCE_IN_PLACE = 0.6
"""The same where patches are compared (`agreement_in_place`): of 40 plain videos, half of them of
two things, against 24 references of two things 99 % stay below it (docs/experiments.md); of 10
plain videos against 17 references with a camera that pans 99.4 %."""
CHANCE_TURNED, TURNED = 0.35, 0.1
"""The same with a camera that zooms or rolls, whose displacements go everywhere: of 10 plain videos
against 20 such references all stay below 0.33. It does so where its map is so far from one that
moves all patches alike, a zoom of 1.1 or a roll of 6 degrees."""
PATCHED = ("speed", "frames", "size", "then")
"""Edits after which displacements do not agree with each other: nearest frames and patches of
others, and none from one half to the other. Mirrored and reversed they are what they were."""
MEANING = (
    "Motion (a score validated on rendered shapes): 1 is that of the reference, 0 an unrelated "
    "one, -1 the opposite; below {chance:g} it may be chance."
)
OF_A_CAMERA = "Of its camera's motion 1 is all; videos without the card show -0.5 to 0.65 of it."
AGREES = 0.7
"""Of the displacements of a reference with the path of its one thing, `agreement`, from which on
they say that motion: 0.74 to 0.97 of nine things that matches follow well, 0.28 to 0.6 of five that
they follow in part, 0.01 of one behind a pillar, whose displacements are the pillar's. With the
paths of several or with a camera, `agreement_by_part`: 0.89 to 0.96 of the 24 rendered references
of two shapes, -0.05 to 1.00 of 60 clips of shaded things, 0.11 to 0.74 of 22 with a camera
(docs/experiments.md)."""
NOTHING = "nothing moves from one frame to the next"
OTHER = "the video is not of the reference's frame count and size"
NOT_VALIDATED = " On this backbone it was never validated."


@dataclass(frozen=True)
class Following:
    """How well one clip follows the reference.

    score: in [-1, 1], or None where a number would mean nothing; then `reason` says why.
    camera: how much of the reference's camera the video shows (`camera_share`); None if it rests.
    """

    score: float | None
    reason: str = ""
    camera: float | None = None


class ReferenceMotion:
    """The motion of a reference, to compare generated clips with.

    Args:
        adapter: the backbone. Its transformer runs once per comparison: not inside of `applied`.
        flow: hard flow `(F', F', H', W', 2)` of the reference in patches, integers.
        reading: how it was read: videos are read in the same way.
        encoded: how it was encoded, as `Backbone.encode` takes it: videos are, too.
        unknown: why the flow says nothing of how a video is to move, or "". `ways` may.
        placed: whether what moves in a video moves where it does in the reference.
        several: whether several things do, each its own way.
        whose: motion it is, in words.
        ways: of the things that move, where that is known: in the place of displacements that are
            too few or say another motion (`AGREES`).

    Attributes:
        chance: the score below which a video may follow by chance; by how it is scored.
        seen: `(F,)` bool, the latent frames in which what moves is in the picture, as far as its
            path is what is compared; all, else.
        camera: A_f and b_f of the reference's (`Ways.maps`), of which videos show a share; None
            where it rests.
    """

    def __init__(
        self,
        adapter: Backbone,
        flow: Tensor,
        reading: Reading,
        encoded: tuple[Way | None, ...] | None = None,
        unknown: str = "",
        *,
        placed: bool = False,
        several: bool = False,
        whose: str = "the reference",
        ways: Ways | None = None,
    ) -> None:
        self.adapter = adapter
        self.unknown, self.placed, self.several = unknown, placed, several
        self.whose = whose
        self.encoded = encoded
        self.reading = reading
        self.grid = TokenGrid(*flow.shape[1:4])
        self.followed = followed_share(flow)
        self.moves, self.seen = mean_displacements(flow), torch.ones(len(flow), dtype=torch.bool)
        self.wanted, self.parts = flow, [followed_mask(flow)]
        self.in_place = placed and several
        self.by_path = ways is not None and self._take(ways, flow)
        self.chance = self._chance(ways)
        self.camera = None
        if ways is not None and ways.camera is not None:
            self.camera = ways.maps(self.grid)
        self._silence = adapter.encode_text([""])

    def _take(self, ways: Ways, flow: Tensor) -> bool:
        """Whether the paths say more than the displacements, whose place they take then."""
        enough = self.followed >= LITTLE and not self.unknown
        if self.several or ways.camera is not None:
            if not self.placed or ways.discs is None:
                return False
            wanted, parts = in_place(ways, self.grid)
            if enough and agreement_by_part(flow, wanted, parts) >= AGREES:
                return False
            self.wanted, self.parts, self.in_place = wanted, parts, True
            return True
        (path,) = ways.paths.double()
        moves = path[None] - path[:, None]
        seen = ways.seen(self.grid)[0]
        moves[torch.eye(len(moves), dtype=torch.bool) | ~(seen & seen[:, None])] = torch.nan
        if enough and agreement(self.moves, moves) >= AGREES:
            return False
        self.moves, self.seen = moves, seen
        return True

    def _chance(self, ways: Ways | None) -> float:
        """The score below which a video may follow by chance."""
        if not self.in_place:
            return CHANCE
        if not self.by_path or ways is None or ways.camera is None:
            return CHANCE_IN_PLACE
        linear, _ = ways.maps(self.grid)
        turned = float((linear - torch.eye(2).to(linear)).abs().max()) >= TURNED
        return CHANCE_TURNED if turned else CHANCE_IN_PLACE

    @classmethod
    def of_card(cls, adapter: Backbone, card: MotionCard) -> ReferenceMotion:
        """The motion that a card holds; of its reference, never of what it generates. Of one that
        was put together of frames or patches that were read apart (`PATCHED`) only paths say it.
        """
        done = dict.fromkeys(edit.what for edit in card.spec.edits or () if edit.what in PATCHED)
        why = f"the card was edited ({', '.join(done)}): its displacements are not those of a clip"
        why = why if done else ""
        blocks, by, timestep = card.spec.recipe.reads()
        reading, encoded = Reading(blocks, by, timestep), ways.again(card.spec.reference.encoded)
        if by == "content" and not card.spec.edits and nothing_was_seen(card.spec.reference.motion):
            why = "in the reference, nothing moves that can be followed"
        return cls(
            adapter,
            torch.tensor(card.tensors["flow"]),
            reading,
            encoded,
            why,
            placed=card.spec.recipe.phase is not None,
            several=several_move(card.spec),
            whose="the edited motion" if card.spec.edits else "the reference",
            ways=_ways_of(card.spec),
        )

    def compare(self, frames: NDArray[np.uint8]) -> Following:
        """Score uint8 RGB frames `(F, H, W, 3)`: by the mean displacement, or patch by patch where
        several things, or a camera, move in the place of the reference's (`evaluation.in_place`);
        and measure how much of its camera they show.

        Raises:
            UsageError: frames of another kind, such as floats in [0, 1].
        """
        check_frames(frames)
        if self._grid(frames) != self.grid:
            return Following(None, self.silent or OTHER)
        if self.camera is None:
            return self._scored(frames)
        return replace(self._scored(frames), camera=camera_share(frames, self.camera, self.grid))

    def _scored(self, frames: NDArray[np.uint8]) -> Following:
        """The score alone, of frames of the reference's count and size."""
        if self.silent:
            return Following(None, self.silent)
        if self.in_place:
            found = self.rank(frames)
            return Following(found, "" if found is not None else f"in {self.whose}, {NOTHING}")
        if reason := nothing_moves(self.moves, self.seen):
            return Following(None, f"in {self.whose}, {reason}")
        moves = mean_displacements(self.flow(frames), self.seen)
        if reason := nothing_moves(moves, self.seen):
            return Following(None, f"in the video, {reason}")
        score = agreement(moves, self.moves)
        if math.isnan(score):
            return Following(None, f"in {self.whose}, {NOTHING}")
        return Following(score)

    @property
    def silent(self) -> str:
        """Why no video can be compared with it, or ""."""
        if self.by_path:
            return ""
        if self.unknown:
            return self.unknown
        if self.followed < LITTLE:
            share = followed(self.followed)
            return f"of {self.whose}, only {share}: too little to compare with"
        return ""

    def rank(self, frames: NDArray[np.uint8]) -> float | None:
        """Which of some videos of one card follows best, uint8 RGB `(F, H, W, 3)` each: higher is
        better, in [-1, 1]; None where `compare` says nothing.

        Where things move in the place of the reference's (its phase is in the noise), patches are
        compared, which ranks several things as well; else it is the score.

        Raises:
            UsageError: as `compare`.
        """
        if not self.placed or (self.by_path and not self.in_place):
            return self.compare(frames).score
        check_frames(frames)
        if self.silent or self._grid(frames) != self.grid:
            return None
        found = agreement_by_part(self.flow(frames), self.wanted, self.parts)
        return None if math.isnan(found) else found

    def _grid(self, frames: NDArray[np.uint8]) -> TokenGrid | None:
        count, height, width = frames.shape[:3]
        try:
            return self.adapter.grid_for(count, width, height)
        except UsageError:  # tiny VAEs decode in tiles to odd sizes
            return None

    @torch.no_grad()
    def flow(self, frames: NDArray[np.uint8]) -> Tensor:
        """The hard flow `(F', F', H', W', 2)` of a clip, read as that of a reference is."""
        adapter, (count, height, width) = self.adapter, frames.shape[:3]
        with adapter.sent_away():
            q, k = adapter.reference_queries_and_keys(
                adapter.encode(frames, self.encoded).latents, self.reading, count, width, height,
                adapter.encode_image(frames), self._silence,
            )  # fmt: skip
        grid = adapter.grid_for(count, width, height)
        return hard_displacement(q, k, grid, mutual=self.reading.mutual)[0].cpu()


def _ways_of(spec: CardSpec) -> Ways | None:
    """Of what moves in a card's reference; None where nothing does."""
    motion = spec.reference.motion
    if motion is None or (motion.rests and not motion.subjects):
        return None
    discs = [one.disc for one in motion.subjects if one.disc is not None]
    known = len(discs) == len(motion.subjects)
    paths = torch.tensor([one.path for one in motion.subjects])
    return Ways(
        paths.reshape(-1, len(motion.camera), 2),
        torch.tensor(discs).reshape(-1, 3) if known else None,
        None if motion.rests else torch.tensor(motion.camera),
    )


def several_move(spec: CardSpec) -> bool:
    """Whether in a card's reference more than one thing was seen to move on its own, or parts of
    the picture were made to (`pe edit --region`, `--mask`).
    """
    parts = any(edit.what == "mask" for edit in spec.edits or ())
    motion = spec.reference.motion
    return parts or (motion is not None and len(motion.subjects) > 1)


def check_frames(frames: object) -> None:
    """Refuse what is no uint8 RGB clip `(F, H, W, 3)`: floats in [0, 1] would be read as black.

    Raises:
        UsageError: says what came.
    """
    shape: tuple[int, ...] = getattr(frames, "shape", ())
    kind = getattr(frames, "dtype", type(frames).__name__)
    if kind != np.uint8 or len(shape) != 4 or shape[-1] != 3:
        raise UsageError(
            f"Expected frames (F, H, W, 3) uint8, got {tuple(shape)} {kind}.",
            "Of floats in [0, 1]: (frames * 255).round().astype('uint8').",
        )


def mean_displacements(flow: Tensor, seen: Tensor | None = None) -> Tensor:
    """`(F, F, 2)` float64: mean displacement in patches of what is followed from frame i to j; NaN
    where nothing is, and for i = j.

    Args:
        flow: hard flow `(F, F, H, W, 2)` of integers.
        seen: `(F,)` bool, the frames in which what moves is in the picture, and can be followed; in
            the others, all is NaN. None: in all of them.
    """
    if seen is not None and not bool(seen.all()):
        out = flow.new_full((*flow.shape[:2], 2), torch.nan, dtype=torch.float64)
        out[seen & seen[:, None]] = mean_displacements(flow[seen][:, seen]).flatten(0, 1)
        return out
    # Never a mask of chance matches instead; and in a clip at rest, the argmax wanders by one.
    away = (flow.abs().amax((1, 4)) >= AWAY)[:, None]  # (F, 1, H, W)
    mask = (followed_mask(flow) & away).flatten(2).double()
    total = (flow.flatten(2, 3).double() * mask[..., None]).sum(2)
    means = total / mask.sum(2)[..., None]  # 0 / 0 is NaN
    means[torch.eye(len(means), dtype=torch.bool)] = torch.nan
    return means


def nothing_moves(moves: Tensor, seen: Tensor | None = None) -> str:
    """Why `mean_displacements` of the frames that are `seen` say nothing, or "" if they do."""
    known = moves.isfinite().all(-1)
    count = len(moves) if seen is None else int(seen.sum())
    if int(known.sum()) < LEAST_PAIRS * count * (count - 1):
        return "nothing could be followed from frame to frame"
    reach = moves[known].square().sum(-1).mean().sqrt().item()
    if reach < LEAST_MOTION:
        return f"what could be followed hardly moves ({reach:.1f} patches)"
    return ""


def agreement(moves: Tensor, wanted: Tensor) -> float:
    """Mean cosine of two `(F, F, 2)` mean displacements over the near pairs of frames between which
    `wanted` moves; where `moves` is not known, or is zero, a pair counts 0. NaN without such pairs.
    """
    frames = torch.arange(len(wanted))
    near = (frames[:, None] - frames).abs() <= FAR
    counts = near & (wanted.norm(dim=-1) >= REST)  # NaN is not
    a, b = moves[counts].nan_to_num(0.0), wanted[counts]
    size = a.norm(dim=-1) * b.norm(dim=-1)
    cosines = torch.where(size > 1e-9, (a * b).sum(-1) / size.clamp(min=1e-9), 0.0)
    return float(cosines.mean())
