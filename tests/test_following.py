"""The score without a known trajectory: exact on flows made by hand, right on rendered clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card.followed import LITTLE, followed
from pe_toolkit.editing import Change, changed
from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.following import (
    CHANCE,
    CHANCE_IN_PLACE,
    CHANCE_TURNED,
    MEANING,
    ReferenceMotion,
    agreement,
    mean_displacements,
    nothing_moves,
)
from pe_toolkit.evaluation.in_place import Ways, agreement_by_part, in_place
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from pe_toolkit.video import read_clip, write_video
from pe_toolkit.world.scenes import Scene, Thing, render
from tests.test_camera_share import camera as zooming
from tests.test_camera_share import video as filmed
from tests.test_motion_steady import PAN, film, latent, line
from tests.tiny import tiny_adapter

BUNDLED = Path(__file__).parents[1] / "pe_toolkit" / "backbones" / "bundled"
SIDE = 10
RIGHT = [(0, 2), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2)]


def flow_of(path: Sequence[tuple[int, int]]) -> Tensor:
    """The flow of a block of 3x3 patches whose corner goes along `path`, on a still background."""
    flow = torch.zeros(len(path), len(path), SIDE, SIDE, 2, dtype=torch.int8)
    for i, (x, y) in enumerate(path):
        for j, (u, v) in enumerate(path):
            flow[i, j, y : y + 3, x : x + 3] = torch.tensor([u - x, v - y])
    return flow


def random_flow(frames: int, side: int, rng: np.random.Generator) -> Tensor:
    """Every patch goes to any other one."""
    ends = rng.integers(0, side, (frames, frames, side, side, 2))
    ys, xs = np.mgrid[:side, :side]
    return torch.tensor(ends - np.stack([xs, ys], -1), dtype=torch.int8)


def score(path: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> float:
    return agreement(mean_displacements(flow_of(path)), mean_displacements(flow_of(wanted)))


def test_the_mean_is_that_of_what_moves() -> None:
    moves = mean_displacements(flow_of(RIGHT))
    assert moves.shape == (6, 6, 2)
    assert moves[0, 0].isnan().all()
    torch.testing.assert_close(moves[1, 3], torch.tensor([2.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(moves[3, 0], torch.tensor([-3.0, 0.0], dtype=torch.float64))


def test_same_motion_elsewhere_is_one_opposite_minus_one_across_zero() -> None:
    assert score(RIGHT, RIGHT) == pytest.approx(1)
    assert score([(x + 1, 6) for x, _ in RIGHT], RIGHT) == pytest.approx(1)
    assert score([(x // 2, y) for x, y in RIGHT], RIGHT) < 1  # it rests in every other step
    assert score(RIGHT[::-1], RIGHT) == pytest.approx(-1)
    assert score([(2, x) for x, _ in RIGHT], RIGHT) == pytest.approx(0)


def test_where_the_reference_rests_nothing_counts() -> None:
    stops = [(0, 2), (1, 2), (2, 2), (3, 2), (3, 2), (3, 2)]
    assert score(stops, stops) == pytest.approx(1)
    assert score(RIGHT, stops) == pytest.approx(1)
    assert score(stops, RIGHT) < 0.9


def test_nothing_is_no_motion() -> None:
    assert nothing_moves(mean_displacements(flow_of(RIGHT))) == ""
    still = mean_displacements(flow_of([(2, 2)] * 6))
    assert "followed" in nothing_moves(still)
    jitter = torch.full((6, 6, 2), 0.01, dtype=torch.float64)
    assert "hardly moves (0.0 patches)" in nothing_moves(jitter)


def test_matches_at_random_are_nothing_that_could_be_followed() -> None:
    """The argmax always points somewhere, and here and there back by chance."""
    for seed in range(20):
        flow = random_flow(9, 8, np.random.default_rng(seed))
        assert "could be followed" in nothing_moves(mean_displacements(flow))


@pytest.fixture(scope="module")
def adapter() -> CogVideoXAdapter:
    if not (BUNDLED / "transformer").is_dir():
        pytest.skip("the bundled weights are not there")
    return load_backbone("bundled")


def scene(colour: str, shape: str, path: np.ndarray) -> Scene:
    thing = Thing(colour, shape, path.astype(np.float32), np.full(len(path), 0.2, np.float32))
    return Scene("line", (thing,), "black", "flat", np.zeros((len(path), 2), np.float32), 0)


def test_on_rendered_clips(adapter: CogVideoXAdapter) -> None:
    along = np.linspace(0, 0.4, 33)[:, None] * np.array([1.0, 0.6])
    seen = scene("red", "circle", along + np.array([0.25, 0.25]))
    elsewhere = scene("cyan", "square", along + np.array([0.35, 0.45]))
    back = replace(
        elsewhere, things=(replace(elsewhere.things[0], path=seen.things[0].path[::-1]),)
    )
    variant = adapter.variant
    assert variant is not None
    reading = variant.reading
    assert reading is not None
    size = (33, 128, 128)
    q, k = adapter.reference_queries_and_keys(adapter.encode_clip(render(seen)), reading, *size)
    flow = hard_displacement(q, k, adapter.grid_for(*size), mutual=reading.mutual)[0]
    motion = ReferenceMotion(adapter, flow, reading)
    assert motion.compare(render(seen)).score == pytest.approx(1)
    same, opposite = (motion.compare(render(s)).score for s in (elsewhere, back))
    assert same is not None
    assert opposite is not None
    assert same > 0.6
    assert opposite < -0.6
    nothing = motion.compare(np.full((33, 128, 128, 3), 90, np.uint8))
    assert nothing.score is None
    assert "in the video" in nothing.reason
    for size in ((100, 102), (64, 64)):
        other = motion.compare(np.full((33, *size, 3), 90, np.uint8))
        assert other.score is None
        assert "size" in other.reason


def test_two_things_that_pass_each_other_are_scored_each_for_itself(
    adapter: CogVideoXAdapter,
) -> None:
    down = np.linspace(0.2, 0.8, 33)[:, None] * np.array([0.0, 1.0])

    def two(left: np.ndarray, right: np.ndarray, colours: tuple[str, str]) -> np.ndarray:
        one = scene(colours[0], "circle", left + np.array([0.25, 0.0]))
        other = scene(colours[1], "square", right + np.array([0.75, 0.0]))
        return render(replace(one, things=(*one.things, *other.things)))

    assert adapter.variant is not None
    assert adapter.variant.reading is not None
    wanted = two(down, down[::-1], ("red", "cyan"))
    reading, size = adapter.variant.reading, (33, 128, 128)
    q, k = adapter.reference_queries_and_keys(adapter.encode_clip(wanted), reading, *size)
    flow = hard_displacement(q, k, adapter.grid_for(*size), mutual=reading.mutual)[0]
    motion = ReferenceMotion(adapter, flow, reading, placed=True, several=True)
    same = motion.compare(two(down, down[::-1], ("green", "yellow"))).score
    swapped = motion.compare(two(down[::-1], down, ("green", "yellow"))).score
    one = motion.compare(two(down, down, ("green", "yellow"))).score
    assert same is not None
    assert swapped is not None
    assert one is not None
    assert same > CHANCE_IN_PLACE
    assert swapped < 0
    assert swapped < one < CHANCE_IN_PLACE
    assert motion.compare(np.zeros((33, 64, 64, 3), np.uint8)).reason.endswith("count and size")


def test_paths_of_several_things_speak_where_displacements_do_not(
    adapter: CogVideoXAdapter,
) -> None:
    """Of shaded things in a clip nothing is followed; of flat ones in a video, everything is."""
    still = torch.zeros(9, 9, 8, 8, 2, dtype=torch.int8)
    way = torch.stack([torch.zeros(9), torch.linspace(-2.4, 2.4, 9)], 1)
    paths = torch.stack([way, -way])
    discs = torch.tensor([[1.5, 3.5, 1.2], [5.5, 3.5, 1.2]])
    reading = adapter.variant.reading
    silent = ReferenceMotion(adapter, still, reading, placed=True, several=True, ways=Ways(paths))
    assert "too little" in silent.silent
    motion = ReferenceMotion(
        adapter, still, reading, placed=True, several=True, ways=Ways(paths, discs)
    )
    assert motion.by_path
    down = np.linspace(0.2, 0.8, 33)[:, None] * np.array([0.0, 1.0])

    def two(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        one = scene("green", "circle", left + np.array([0.25, 0.0]))
        other = scene("yellow", "square", right + np.array([0.75, 0.0]))
        return render(replace(one, things=(*one.things, *other.things)))

    same = motion.compare(two(down, down[::-1])).score
    swapped = motion.compare(two(down[::-1], down)).score
    one = motion.compare(two(down, down)).score
    assert same is not None
    assert swapped is not None
    assert one is not None
    assert same > 0.85
    assert swapped < -0.2  # where things should be, there is mostly background
    assert swapped < one < CHANCE_IN_PLACE
    assert motion.rank(two(down, down[::-1])) == same


def test_what_may_be_chance_depends_on_how_a_video_is_scored(adapter: CogVideoXAdapter) -> None:
    assert adapter.variant is not None
    assert adapter.variant.reading is not None
    still = torch.zeros(9, 9, 8, 8, 2, dtype=torch.int8)
    camera = torch.tensor([[1.0, 0, 0, 1, 0, 0]]).repeat(9, 1)
    pans, zooms = camera.clone(), camera.clone()
    pans[:, 4] = torch.linspace(-2, 2, 9)
    zooms[:, [0, 3]] = torch.linspace(0.7, 1.4, 9)[:, None]
    nothing, no_discs = torch.zeros(0, 9, 2), torch.zeros(0, 3)
    one = Ways(torch.linspace(-2, 2, 9)[None, :, None].repeat(1, 1, 2))

    def chance(ways: Ways | None, *, several: bool = False) -> float:
        reading = adapter.variant.reading
        more = {"placed": True, "several": several, "ways": ways}
        return ReferenceMotion(adapter, still, reading, **more).chance

    assert chance(None) == chance(one) == CHANCE
    assert chance(None, several=True) == CHANCE_IN_PLACE
    assert chance(Ways(nothing, no_discs, pans)) == CHANCE_IN_PLACE
    assert chance(Ways(nothing, no_discs, zooms)) == CHANCE_TURNED


def test_of_a_camera_the_share_that_a_video_shows(adapter: CogVideoXAdapter) -> None:
    """Also where no score can be given, and never of a camera that rests."""
    assert adapter.variant is not None
    assert adapter.variant.reading is not None
    still, nothing = torch.zeros(9, 9, 8, 8, 2, dtype=torch.int8), torch.zeros(0, 9, 2)
    ways = Ways(nothing, torch.zeros(0, 3), zooming(zoom=0.3))
    motion = ReferenceMotion(adapter, still, adapter.variant.reading, placed=True, ways=ways)
    found = motion.compare(filmed(0.8, zoom=0.3))
    assert found.score is not None
    assert found.camera == pytest.approx(0.8, abs=0.06)
    motion = ReferenceMotion(adapter, still, adapter.variant.reading, ways=ways)
    assert motion.silent
    assert motion.compare(filmed(0.8, zoom=0.3)).camera == found.camera
    assert motion.compare(np.zeros((33, 64, 64, 3), np.uint8)).camera is None
    motion = ReferenceMotion(adapter, still, adapter.variant.reading)
    assert motion.compare(filmed(0.8, zoom=0.3)).camera is None


def test_where_two_things_lie_on_each_other_neither_is_told() -> None:
    paths = torch.tensor(
        [[[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], [[2.0, 0.0], [0.0, 0.0], [-2.0, 0.0]]]
    )
    discs = torch.tensor([[3.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
    wanted, parts = in_place(Ways(paths, discs), TokenGrid(3, 3, 7))
    (told,) = parts
    assert not told[1].any()
    assert told[0, 2, 1].tolist() == [True, True, True, False, True, True, True]
    assert wanted[0, 2, 1, 1].tolist() == [4.0, 0.0]
    assert wanted[0, 2, 1, 5].tolist() == [-4.0, 0.0]
    assert not wanted[0, 2, 1, 3].any()
    assert agreement_by_part(wanted, wanted, parts) == pytest.approx(1)
    assert agreement_by_part(-wanted, wanted, parts) == pytest.approx(-1)


def test_around_a_thing_the_ground_goes_as_the_camera_has_it() -> None:
    """A camera that pans and comes nearer: the ground, a thing on its way, each half of it."""
    rows = [[0.5, 0, 0, 0.5, -1, 0], [1, 0, 0, 1, 0, 0], [2, 0, 0, 2, 2, 0]]
    way = torch.tensor([[[0.0, -0.5], [0.0, 0.0], [0.0, 0.5]]])
    ways = Ways(way, torch.tensor([[2.0, 2.0, 0.9]]), torch.tensor(rows).double())
    wanted, (thing, ground) = in_place(ways, TokenGrid(3, 5, 7))
    c = torch.tensor([3.0, 2.0])
    # From c + 0.5 ((2, 1.5) - c) + (-1, 0) in frame 0 to c + 2 ((2, 2.5) - c) + (2, 0) in frame 2.
    assert thing[0, 2].nonzero().tolist() == [[2, 1], [2, 2]]
    assert wanted[0, 2, 2, 1].tolist() == [1.5, 1.25]
    # What stands in the middle goes from (2, 2) to (5, 2); what would leave is not told.
    at = torch.tensor([2.0, 0.0])
    assert ground[1, 0, 0, 2]
    assert (
        wanted[1, 0, 0, 2].tolist() == (c + 0.5 * (at - c) - torch.tensor([1.0, 0]) - at).tolist()
    )
    assert not ground[1, 2, 0, 0]
    assert not (thing & ground).any()
    half = torch.where(thing[..., None], -wanted, wanted)
    assert agreement_by_part(half, wanted, [thing, ground]) == pytest.approx(0)


def test_before_a_camera_both_are_scored_where_little_can_be_followed(
    adapter: CogVideoXAdapter,
) -> None:
    way, still = line((-30, 20), (25, -25)), torch.zeros(9, 9, 8, 8, 2, dtype=torch.int8)
    disc = [*(np.mean([way[n] for n in (14, 15)], 0) / 16 + 3.5), 0.8]
    camera = np.zeros((9, 6))
    camera[:, [0, 3]], camera[:, 4:] = 1, latent(PAN) / 16
    ways = Ways(
        torch.from_numpy(latent(way) / 16)[None], torch.tensor([disc]), torch.from_numpy(camera)
    )
    reading = adapter.variant.reading
    motion = ReferenceMotion(adapter, still, reading, placed=True, ways=ways)
    assert motion.in_place
    assert not motion.silent

    def score(thing: np.ndarray, pan: np.ndarray) -> float:
        found = motion.compare(film([thing], pan, np.ones(33), seed=9, radius=14)).score
        assert found is not None
        return found

    same, back = score(way, PAN), score(way[::-1], PAN[::-1])
    thing_alone, camera_alone = score(way, 0 * PAN), score(-way, PAN)
    assert same > 0.6
    assert back < 0.2  # where things should be, there is mostly ground
    assert back < thing_alone < same
    assert back < camera_alone < same
    # Without a phase nothing says that things are in their places.
    assert not ReferenceMotion(adapter, still, reading, ways=ways).in_place


def test_of_an_edited_card_paths_say_the_edited_motion(
    adapter: CogVideoXAdapter, tmp_path: Path
) -> None:
    """At half the speed displacements are put together from others; paths are those of a clip."""
    left = np.linspace(0.15, 0.85, 33)[:, None] * np.array([0.0, 1.0])

    def clip(times: np.ndarray, way: int = 1) -> np.ndarray:
        one = scene("red", "circle", left[times][::way] + np.array([0.25, 0.0]))
        other = scene("cyan", "square", left[::-1][times][::way] + np.array([0.75, 0.0]))
        return render(replace(one, things=(*one.things, *other.things)))

    now = np.arange(33)
    write_video(tmp_path / "ref.mp4", clip(now), 16.0)
    *_, last = train(adapter, read_clip(tmp_path / "ref.mp4"), TrainConfig(recipe="rich"))
    assert isinstance(last, Finished)
    motion = last.card.spec.reference.motion
    assert motion is not None
    discs = sorted(one.disc for one in motion.subjects if one.disc is not None)
    # Between frames 13 and 16, in patches of 16 pixels; what it covers, wholly or in part.
    np.testing.assert_allclose(discs, [[1.5, 3.24, 2], [5.5, 3.76, 2]], atol=0.35)
    slow = ReferenceMotion.of_card(adapter, changed(last.card, Change(speed=0.5)))
    assert slow.by_path
    half, back = (slow.compare(clip(now // 2, way)).score for way in (1, -1))
    assert half is not None
    assert back is not None
    assert half > 0.8
    assert back < -0.5


def test_a_reference_with_little_to_follow_has_no_score(adapter: CogVideoXAdapter) -> None:
    """One patch that goes its way over a still picture: a motion, but of 1 % of the picture."""
    assert adapter.variant is not None
    assert adapter.variant.reading is not None
    flow = torch.zeros(9, 9, 16, 16, 2, dtype=torch.int8)
    for i in range(9):
        for j in range(9):
            flow[i, j, 3, i] = torch.tensor([j - i, 0])
    assert nothing_moves(mean_displacements(flow)) == ""
    motion = ReferenceMotion(adapter, flow, adapter.variant.reading)
    assert motion.followed < LITTLE
    found = motion.compare(np.full((33, 128, 128, 3), 90, np.uint8))
    assert found.score is None
    assert "of the reference, only 0.4% of the picture moves and can be followed" in found.reason
    assert "validated on rendered shapes" in MEANING


def test_what_is_read_from_the_pictures_needs_no_patches_that_are_followed() -> None:
    assert followed(0.0, read=True) == (
        "its motion is read from the pictures; 0.0% of them can be followed by patches"
    )
    assert followed(0.2, read=True) == followed(0.2)


def test_frames_in_floats_are_refused() -> None:
    """Those of diffusers' `output_type="np"` would be read as black."""
    adapter = tiny_adapter()
    grid = adapter.grid
    still = torch.zeros(grid.frames, grid.frames, grid.height, grid.width, 2, dtype=torch.int8)
    motion = ReferenceMotion(adapter, still, Reading((1,)))
    for frames in (np.zeros((9, 32, 32, 3)), np.zeros((9, 3, 32, 32), np.uint8), [1]):
        with pytest.raises(UsageError, match=r"Expected frames \(F, H, W, 3\) uint8"):
            motion.compare(frames)  # type: ignore[arg-type]


def goes_right(start: int, step: int) -> np.ndarray:
    """A red square of 32 pixels, `step` pixels a frame."""
    frames = np.zeros((33, 128, 128, 3), np.uint8)
    for n, frame in enumerate(frames):
        frame[48:80, start + step * n : start + 32 + step * n] = (220, 30, 30)
    return frames


def followed_but_not_backwards(
    known: ReferenceMotion, frames: np.ndarray, opposite: np.ndarray
) -> None:
    found, against = known.compare(frames), known.compare(opposite)
    assert found.score is not None
    assert found.score > 0.8
    assert against.score is not None
    assert against.score < -0.5


def test_a_path_speaks_where_displacements_do_not(adapter: CogVideoXAdapter) -> None:
    """Behind a pillar next to nothing is followed, or the pillar: the path is known."""
    still = torch.zeros(9, 9, 8, 8, 2, dtype=torch.int8)
    way = torch.stack([torch.linspace(-2, 2, 9), torch.zeros(9)], 1)
    reading = adapter.variant.reading
    silent = ReferenceMotion(adapter, still, reading)
    assert "too little" in silent.silent
    known = ReferenceMotion(adapter, still, reading, placed=True, ways=Ways(way[None]))
    assert known.by_path
    assert not known.silent
    frames = goes_right(20, 2)
    followed_but_not_backwards(known, frames, frames[::-1].copy())
    assert known.rank(frames) == known.compare(frames).score


def test_where_a_thing_is_outside_nothing_is_asked_of_it(adapter: CogVideoXAdapter) -> None:
    still = torch.zeros(9, 9, 8, 8, 2, dtype=torch.int8)
    way = torch.stack([torch.linspace(0, 12, 9) - 6, torch.zeros(9)], 1)  # it leaves on the right
    ways = Ways(way[None], torch.tensor([[8.0, 3.5, 1.0]]))
    assert ways.seen(adapter.grid_for(33, 128, 128)).tolist() == [[True] * 5 + [False] * 4]
    known = ReferenceMotion(adapter, still, adapter.variant.reading, placed=True, ways=ways)
    frames = goes_right(24, 6)
    followed_but_not_backwards(known, frames, frames[:, :, ::-1].copy())


def test_of_two_that_leave_no_displacement_is_asked_out_of_the_picture() -> None:
    way = torch.stack([torch.linspace(-3, 3, 4), torch.zeros(4)], 1)
    ways = Ways(torch.stack([way, -way]), torch.tensor([[5.0, 1.0, 1.0], [2.0, 6.0, 1.0]]))
    wanted, (part,) = in_place(ways, TokenGrid(4, 8, 8))
    f, g, y, x = part.nonzero(as_tuple=True)
    there = x + wanted[f, g, y, x, 0]
    assert bool(((there > -0.5) & (there < 7.5)).all())
    assert bool(part[0, 1, 1, 2])
    assert not bool(part[0, 3, 1, 3])
