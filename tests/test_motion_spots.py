"""Where things are in the pictures, before a camera that rests, against known truth."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pe_toolkit.backbones import load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import backdrop, shrunk
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import frames_of, pictures_of
from pe_toolkit.motion.moves import Moves
from pe_toolkit.motion.pieces import CLEARLY, pieces_of
from pe_toolkit.motion.read import read_moves
from pe_toolkit.motion.spots import Spot, spots
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from pe_toolkit.video import Clip

Film = NDArray[np.uint8]
Way = Callable[[float], tuple[float, float]]
GRID = TokenGrid(9, 8, 8)
COUNT, SIZE = 33, 128
MOMENTS = frames_of(COUNT, GRID.frames)
Y, X = np.mgrid[:SIZE, :SIZE].astype(float)
PLAIN = np.full((SIZE, SIZE, 3), 105.0)
TWO_TONE = np.where(Y[..., None] > 84, (90.0, 110.0, 70.0), (150.0, 180.0, 220.0))
RED, BLUE, YELLOW = (220, 40, 40), (50, 90, 240), (240, 220, 60)


def rough() -> NDArray[Any]:
    """A ground of many colours, as of leaves."""
    rng = np.random.default_rng(5)
    coarse = torch.from_numpy(rng.uniform(50, 200, (1, 3, 8, 8)))
    fine = functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=True)
    return fine[0].permute(1, 2, 0).numpy()


def disc(picture: NDArray[Any], x: float, y: float, radius: float, colour: Any) -> NDArray[Any]:
    cover = np.clip(radius - np.hypot(X - x, Y - y) + 0.5, 0, 1)[..., None]
    return picture * (1 - cover) + np.array(colour) * cover


def shadow(picture: NDArray[Any], x: float, y: float, radius: float) -> NDArray[Any]:
    far = ((X - x) / radius) ** 2 + ((Y - y) / (0.35 * radius)) ** 2
    return picture * (1 - 0.5 * np.exp(-far))[..., None]


def film(draw: Callable[[float], NDArray[Any]]) -> Film:
    frames = [draw(t) for t in np.linspace(0, 1, COUNT)]
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


def of(ways: list[Way], ground: NDArray[Any] = PLAIN, shadows: bool = False) -> Film:
    """A disc on each way, the last one in front."""

    def draw(t: float) -> NDArray[Any]:
        picture = ground
        for way in ways if shadows else []:
            picture = shadow(picture, way(t)[0] + 6, way(t)[1] + 24, 12)
        for way, colour in zip(ways, (RED, BLUE, YELLOW), strict=False):
            picture = disc(picture, *way(t), 11, colour)
        return picture

    return film(draw)


def truth(way: Way) -> NDArray[Any]:
    """`(F, 2)` of the latent frames in patches, middles of patches at whole numbers."""
    at = (np.array([way(t) for t in np.linspace(0, 1, COUNT)]) + 0.5) / 16 - 0.5
    return np.array([at[list(pair)].mean(0) for pair in MOMENTS])


def off(found: list[Any], ways: list[Way]) -> float:
    """Patches from the truth of the one that is farthest from it, each with its own."""
    assert len(found) == len(ways)

    def far(place: torch.Tensor, way: Way) -> float:
        return float(np.sqrt(np.square(place.numpy() - truth(way)).sum(1).mean()))

    return min(
        max(far(one.place, way) for one, way in zip(order, ways, strict=True))
        for order in permutations(found)
    )


def found_in(frames: Film) -> list[Spot]:
    return spots(shrunk(frames), GRID, MOMENTS)


def straight(x: float, y: float, to_x: float, to_y: float) -> Way:
    return lambda t: (x + (to_x - x) * t, y + (to_y - y) * t)


CROSS = [straight(20, 20, 105, 105), straight(105, 20, 20, 105)]
LANES = [straight(20, 30, 100, 30), straight(105, 64, 25, 64), straight(30, 100, 95, 100)]


def bounced(side: int) -> Way:
    return lambda t: (64 + side * (13 + 60 * abs(t - 0.5)), 60)


@pytest.mark.parametrize("ground", [PLAIN, TWO_TONE, rough()], ids=["plain", "two tones", "rough"])
@pytest.mark.parametrize(
    ("ways", "within"),
    [(LANES[:1], 0.05), (LANES[:2], 0.05), (LANES, 0.05), (CROSS, 0.4)],
    ids=["one", "two", "three", "crossing"],
)
def test_things_are_where_they_are(ways: list[Way], within: float, ground: NDArray[Any]) -> None:
    assert off(found_in(of(ways, ground)), ways) < within


def test_what_collides_goes_back_and_what_crosses_goes_on() -> None:
    """Touching in the middle, both look alike from afar: their colours say who is who."""
    ways = [bounced(-1), bounced(1)]
    assert off(found_in(of(ways)), ways) < 0.1


@pytest.mark.parametrize("ground", [PLAIN, rough()], ids=["plain", "rough"])
def test_shadows_are_no_things(ground: NDArray[Any]) -> None:
    assert off(found_in(of(LANES[:2], ground, shadows=True)), LANES[:2]) < 0.1


def test_behind_a_pillar_it_goes_on() -> None:
    pillar = of(LANES[:1])
    pillar[:, :, 52:76] = 60
    assert off(found_in(pillar), LANES[:1]) < 0.3


def test_of_what_is_slow_for_its_size_the_median_is_no_backdrop() -> None:
    """Most pixels that it ever covers it covers in most frames, some in all."""
    slow = straight(56, 64, 72, 60)
    frames = film(lambda t: disc(PLAIN, *slow(t), 26, RED))
    pictures = shrunk(frames)
    assert float((pictures.median(0).values - 105).abs().max()) > 60
    assert float((backdrop(pictures) - 105).abs().max()) < CLEARLY  # at the edge of what is hidden
    assert off(found_in(frames), [slow]) < 0.05


def test_the_backdrop_of_a_clip_that_stays_is_the_clip() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(rough()[None] + rng.normal(0, 5, (COUNT, SIZE, SIZE, 3)), 0, 255)
    pictures = shrunk(noisy.astype(np.uint8))
    ground = backdrop(pictures)
    assert float((ground - shrunk(rough()[None].astype(np.uint8))[0]).abs().mean()) < 1
    assert pieces_of(pictures, ground) == [[]] * COUNT
    assert found_in(noisy.astype(np.uint8)) == []


def gone(way: Way, radius: float = 11) -> NDArray[Any]:
    """`(F,)` bool, latent frames in which nothing of it is in the picture."""
    at = np.array([way(t) for t in np.linspace(0, 1, COUNT)])
    outside = ((at < -radius) | (at > SIZE - 1 + radius)).any(1)
    return np.array([outside[list(pair)].all() for pair in MOMENTS])


LEAVES: dict[str, Way] = {
    "leaves": straight(50, 40, 170, 60),
    "comes in": straight(60, -40, 70, 90),
    "passes": straight(-30, 90, 160, 40),
    "is cut at the end": straight(30, 60, 125, 70),
    "comes and goes": lambda t: (-25 + 90 * np.sin(np.pi * t), 60),
    "is never seen whole": straight(-30, 124, 160, 126),
}


@pytest.mark.parametrize("ground", [PLAIN, TWO_TONE, rough()], ids=["plain", "two tones", "rough"])
@pytest.mark.parametrize("what", LEAVES)
def test_the_middle_of_what_the_border_cuts_is_beyond_it(what: str, ground: NDArray[Any]) -> None:
    way, true = LEAVES[what], truth(LEAVES[what])
    (spot,) = found_in(of([way], ground))
    away = gone(way)
    seen = spot.place.numpy()[~away]
    exact = 0.6 if what == "is never seen whole" else 0.1
    if what == "is never seen whole":  # where its middle is below the border is not known
        seen, true = seen[:, :1], true[:, :1]
    np.testing.assert_allclose(seen, true[~away], atol=exact)
    for place, cover in zip(spot.place[away], spot.cover[away], strict=True):
        assert bool(((place < -0.5) | (place > GRID.width - 0.5)).any())
        assert not bool(cover.any())


def test_one_leaves_while_another_comes_in() -> None:
    ways = [straight(70, 40, 175, 30), straight(-45, 90, 70, 95)]
    found = sorted(found_in(of(ways, TWO_TONE)), key=lambda spot: float(spot.place[4, 1]))
    for spot, way in zip(found, ways, strict=True):
        there = ~gone(way)
        np.testing.assert_allclose(spot.place.numpy()[there], truth(way)[there], atol=0.1)


def test_what_comes_in_elsewhere_is_not_the_one_that_left() -> None:
    """Alike in everything, and never there at once."""
    ways = [straight(60, 40, 240, 40), straight(-130, 90, 80, 95)]
    frames = film(lambda t: disc(disc(PLAIN, *ways[0](t), 11, RED), *ways[1](t), 11, RED))
    found = sorted(found_in(frames), key=lambda spot: float(spot.place[4, 1]))
    assert len(found) == 2
    for spot, way in zip(found, ways, strict=True):
        there = ~gone(way)
        np.testing.assert_allclose(spot.place.numpy()[there], truth(way)[there], atol=0.1)


def test_what_is_left_at_the_border_is_not_what_left() -> None:
    """A reflection where it went out, and a mark at the other side that is seen for a while. It
    goes on, until it is far outside.
    """
    way = LEAVES["leaves"]

    def draw(t: float) -> NDArray[Any]:
        picture = disc(PLAIN, *way(t), 11, RED)
        picture = disc(picture, 127, 57, 4, RED) if t > 0.75 else picture
        return disc(picture, 2, 100, 5, YELLOW) if t > 0.85 else picture

    (spot,) = found_in(film(draw))
    there = ~gone(way)
    np.testing.assert_allclose(spot.place.numpy()[there], truth(way)[there], atol=0.1)
    outside = spot.place[~there][:, 0].numpy()
    np.testing.assert_allclose(outside, truth(way)[~there][:, 0], atol=0.3)
    assert bool((outside > GRID.width - 0.5).all())


def test_what_left_goes_on_until_it_is_half_a_picture_outside() -> None:
    (spot,) = found_in(of([straight(30, 60, 400, 60)]))
    assert GRID.width * 1.5 < float(spot.place[:, 0].max()) < GRID.width * 1.5 + 4


def square(picture: NDArray[Any], x: float, y: float, turn: float) -> NDArray[Any]:
    """Of 22 pixels, half of it blue: it looks the same after a whole turn only."""
    u = (X - x) * np.cos(turn) + (Y - y) * np.sin(turn)
    v = (Y - y) * np.cos(turn) - (X - x) * np.sin(turn)
    cover = np.clip(11 - np.maximum(abs(u), abs(v)) + 0.5, 0, 1)[..., None]
    colour = np.where(u[..., None] > 0, BLUE, RED)
    return picture * (1 - cover) + colour * cover


@pytest.mark.parametrize(("turn", "way"), [(2.5, LANES[0]), (-6.5, lambda t: (60.0, 50.0))])
def test_how_far_a_thing_turns(turn: float, way: Way) -> None:
    frames = film(lambda t: square(TWO_TONE, *way(t), turn * t))
    (spot,) = found_in(frames)
    assert spot.turn is not None
    angles = turn * np.linspace(0, 1, COUNT)
    true = np.array([angles[list(pair)].mean() for pair in MOMENTS])
    found = (spot.turn - spot.turn[0]).numpy()
    np.testing.assert_allclose(found, true - true[0], atol=0.1)
    (subject,) = read(frames).subjects
    np.testing.assert_allclose(subject.turn.numpy(), found - found[GRID.frames // 2])


def test_what_keeps_its_angle_does_not_turn() -> None:
    upright = film(lambda t: square(TWO_TONE, *LANES[0](t), 0.3))
    round_ = of(LANES[:1], rough())
    for frames in (upright, round_):
        (subject,) = read(frames).subjects
        assert not bool((subject.turn != 0).any())


def test_of_what_is_round_no_turn_is_seen() -> None:
    """What grows on its way was turned as it lay best on itself."""
    frames = film(lambda t: disc(PLAIN, 50 + 20 * t, 60 + 10 * t, 14 + 14 * t, RED))
    (spot,) = found_in(frames)
    assert spot.turn is not None
    assert not bool(spot.turn.any())
    (subject,) = read(frames).subjects
    assert bool((subject.size != 0).any())
    assert not bool((subject.turn != 0).any())


GROWS: dict[str, tuple[float, float, float]] = {
    "grows": (10, 20, 0.05),
    "shrinks": (22, 12, 0.05),
    "hardly": (16, 17, 0.01),
}


@pytest.mark.parametrize("what", GROWS)
def test_growth_is_of_what_it_covers(what: str) -> None:
    first, last, within = GROWS[what]
    frames = film(lambda t: disc(TWO_TONE, 40 + 30 * t, 50, first * (last / first) ** t, RED))
    (spot,) = found_in(frames)
    assert spot.size is not None
    ends = float(spot.size[-1] - spot.size[0])
    radii = first * (last / first) ** np.linspace(0, 1, COUNT)
    logs = np.log([radii[list(pair)].mean() for pair in MOMENTS])
    true = 0.0 if what == "hardly" else float(logs[-1] - logs[0])
    assert abs(ends - true) <= within
    (subject,) = read(frames).subjects
    assert bool((subject.size != 0).any()) == (what != "hardly")


def test_what_goes_behind_something_or_is_cut_does_not_shrink() -> None:
    pillar = of(LANES[:1])
    pillar[:, :, 58:70] = 60
    for frames in (pillar, of([LEAVES["leaves"]]), of(CROSS)):
        for subject in read(frames).subjects:
            assert not bool((subject.size != 0).any())


@pytest.mark.parametrize("what", ["one that goes out", "rain", "one frame"])
def test_what_is_not_clear_is_nothing(what: str) -> None:
    rng = np.random.default_rng(1)
    drops = rng.uniform(4, 124, (30, 2))

    def draw(t: float) -> NDArray[Any]:
        if what == "one that goes out":
            return disc(PLAIN, 40 + 60 * t, 60, 10, RED) if t < 0.6 else PLAIN
        picture = PLAIN
        for x, y in drops:
            picture = disc(picture, x, (y + 300 * t) % 124, 3, BLUE)
        return picture

    frames = film(draw)[: 1 if what == "one frame" else COUNT]
    moments = frames_of(len(frames), GRID.frames if len(frames) > 1 else 1)
    grid = GRID if len(frames) > 1 else TokenGrid(1, 8, 8)
    assert spots(shrunk(frames), grid, moments) == []


def nothing() -> AttentionMotionFlow:
    """A reading in which nothing matches."""
    moves = torch.zeros(GRID.frames, *GRID, 2, dtype=torch.int8)
    return AttentionMotionFlow(moves, torch.zeros(moves.shape[:-1], dtype=torch.bool), GRID)


def read(frames: Film) -> Moves:
    return read_moves(nothing(), None, pictures_of(frames, GRID.frames), frames)


def test_a_reading_by_attention_has_them_too() -> None:
    moves = read(of(LANES[:2], TWO_TONE))
    assert (moves.kind, moves.camera) == ("two", False)
    assert off(list(moves.subjects), LANES[:2]) < 0.05
    assert all(subject.seen for subject in moves.subjects)
    assert set(moves.layers(GRID)) == {"subject", "subject-2"}


def test_three_have_a_layer_each() -> None:
    moves = read(of(LANES))
    assert set(moves.layers(GRID)) == {"subject", "subject-2", "subject-3"}


def test_what_keeps_its_distance_is_one_and_what_rests_is_none() -> None:
    alike: list[Way] = [straight(20, 40, 90, 50), straight(30, 80, 100, 90)]
    assert len(read(of(alike)).subjects) == 1
    beside: list[Way] = [straight(20, 40, 100, 40), lambda t: (64 + np.sin(40 * t), 100)]
    (subject,) = read(of(beside)).subjects
    assert off([subject], beside[:1]) < 0.05


def test_a_card_read_by_attention_begins_from_them() -> None:
    def card(ways: list[Way]) -> MotionCard:
        config = TrainConfig(recipe="rich").with_overrides({"reading": "attention"})
        clip = Clip(of(ways, TWO_TONE), 16, "clip.mp4", "0" * 64, 2.0, COUNT)
        *_, last = train(load_backbone("bundled"), clip, config)
        assert isinstance(last, Finished)
        return last.card

    assert card(LANES[:2]).spec.recipe.layers == ("subject", "subject-2")
    one = card(LANES[:1])
    moved = one.tensors["positions"].reshape(GRID.frames, -1, 3)[..., 2].mean(1)
    where = truth(LANES[0])[:, 0]
    # Put back to where it is in the middle frame, but for what would leave the picture.
    assert np.corrcoef(moved, where[GRID.frames // 2] - where)[0, 1] > 0.95
