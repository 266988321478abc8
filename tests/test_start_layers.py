"""Positions that start from camera and subjects, as layers of offsets; and from zero where nothing
is read.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from pe_toolkit.apply import generate
from pe_toolkit.backbones import VARIANTS, load_backbone
from pe_toolkit.card import BelowSpec, MotionCard
from pe_toolkit.card.followed import LITTLE
from pe_toolkit.cli.look_words import look_words
from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.apart import taken_apart
from pe_toolkit.motion.blending import AGAINST
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.layers import inside
from pe_toolkit.motion.moves import ONE_PATH, Moves, Subject
from pe_toolkit.motion.path import one_path
from pe_toolkit.motion.similarities import similarity
from pe_toolkit.motion.subjects import not_against
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.describe import motion_spec
from pe_toolkit.training.events import Finished, PreviewFrames
from pe_toolkit.training.looking import Look
from pe_toolkit.training.prepare import prepare
from pe_toolkit.training.start import (
    BESIDE,
    BEYOND,
    THEN,
    UNTIL,
    ZOOMED,
    begun,
    first_layers,
    layers_below,
    path_alone,
    scale,
    things_left_out,
    turn_left_out,
    unsaid,
)
from pe_toolkit.video import Clip
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render

GRID = TokenGrid(3, 4, 4)
ROW, COGVIDEOX = VARIANTS["bundled"], VARIANTS["cogvideox-5b"]
ZERO = torch.zeros(3, dtype=torch.float64)
SHARE = 1.2  # how much of a ground there is
PATH = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def moves(*subjects: Subject, pan: float = 0.0, zoom: float = 1.0, roll: float = 0.0) -> Moves:
    shift = torch.tensor([[0.0, -pan], [0, 0], [0, pan]], dtype=torch.float64)
    steps = torch.tensor([-1, 0, 1], dtype=torch.float64)
    return Moves(1, similarity(steps * math.log(zoom), steps * roll), shift, subjects)


def subject(size: torch.Tensor = ZERO, *, far: float = 1.0) -> Subject:
    return Subject(PATH * far, PATH * far + 1.5, size, ZERO, 0.9)


def flow(displacement: torch.Tensor) -> AttentionMotionFlow:
    mask = torch.ones(3, 3, 4, 4, dtype=torch.bool)
    return AttentionMotionFlow(displacement.to(torch.int8), mask, GRID)


def along() -> AttentionMotionFlow:
    """All that can be matched moves right by a patch a frame."""
    x = torch.arange(4)
    step = torch.arange(3)[None, :] - torch.arange(3)[:, None]
    move = step[:, :, None, None].expand(3, 3, 4, 4)
    inside = (x + move >= 0) & (x + move < 4)
    displacement = torch.stack([move * inside, torch.zeros_like(move)], -1)
    return AttentionMotionFlow(displacement.to(torch.int8), inside, GRID)


def by_chance() -> AttentionMotionFlow:
    found = torch.randint(-1, 2, (3, 3, 4, 4, 2), generator=torch.Generator().manual_seed(0))
    found[:, :, [0, -1]] = found[:, :, :, [0, -1]] = 0
    return flow(found)


def settings(**changes: object) -> object:
    return TrainConfig(**changes).resolve(ROW)  # type: ignore[arg-type]


def test_layers_are_coordinates_read_by_content() -> None:
    resolved = TrainConfig(start="layers").resolve(VARIANTS["cogvideox-5b"])
    assert resolved.parametrisation == "offset"
    assert resolved.reading.by == "content"
    assert TrainConfig(start="flow").resolve(VARIANTS["cogvideox-5b"]).reading.by == "attention"
    given = TrainConfig(start="layers", parametrisation="angle").resolve(ROW)
    assert given.parametrisation == "angle"
    with pytest.raises(UsageError, match="a start out of zero, flow, layers, auto, got layer"):
        TrainConfig(start="layer").resolve(ROW)


def test_camera_and_subject_are_layers_of_their_own() -> None:
    found = first_layers(
        along(), moves(subject(), pan=1.0), settings(start="layers", start_scale=1.0)
    )
    assert list(found) == ["camera", "subject"]
    camera, own = (layer.unflatten(0, tuple(GRID)) for layer in found.values())
    assert torch.equal(camera[2], torch.tensor([0.0, -1.0, 0.0]).expand(4, 4, 3))
    assert torch.equal(own[2], torch.tensor([0.0, 0.0, -1.0]).expand(4, 4, 3))
    assert not own[1].any()
    assert not camera[1].any()


def at(places: list[float], size: torch.Tensor = ZERO) -> Subject:
    """A thing of one patch in the second row, whose middle is at these x, in patches."""
    place = torch.tensor([[x, 1.0] for x in places], dtype=torch.float64)
    cover = torch.zeros(3, 4, 4, dtype=torch.bool)
    cover[:, 1, 0] = True
    return Subject(place - place[1], place, size, ZERO, 0.9, cover, seen=True)


@pytest.mark.parametrize("start", ["layers", "flow"])
def test_what_moves_is_put_back_to_the_middle_of_the_picture(start: str) -> None:
    """So it is drawn where the reference has it, if the noise bears its phase."""
    thing = moves(at([2.0, 1.0, 0.5]))
    without = settings(start=start, start_scale=1.0)
    (layer,) = first_layers(along(), thing, without).values()
    assert not layer.unflatten(0, tuple(GRID))[1].any()  # the middle frame is as it is
    asked = settings(start=start, start_scale=1.0, phase=(1.5, 3.0))
    (layer,) = first_layers(along(), thing, asked).values()
    _, y, x = layer.unflatten(0, tuple(GRID)).unbind(-1)
    columns = torch.arange(4.0).expand(4, 4)
    torch.testing.assert_close(x[0], torch.full((4, 4), -0.5))
    torch.testing.assert_close(x[1], torch.full((4, 4), 0.5))
    # Half a token beyond the border, and so as far inside of it.
    torch.testing.assert_close(x[2, :, :3], torch.ones(4, 3))
    torch.testing.assert_close(x[2, :, 3], torch.zeros(4))
    torch.testing.assert_close(y[:, :3], torch.full((3, 3, 4), 0.5))
    assert float((columns + x).max()) <= 3.5


def test_what_leaves_is_put_back_half_of_the_way_from_where_it_is_seen() -> None:
    asked = settings(start="layers", start_scale=1.0, phase=(1.5, 3.0))
    leaving = moves(at([2.0, -1.5, -5.0]))
    torch.testing.assert_close(leaving.away(GRID), torch.tensor([-3.25, -0.25]).double())
    (layer,) = first_layers(along(), leaving, asked).values()
    x = layer.unflatten(0, tuple(GRID))[..., 2] + torch.arange(4.0)
    torch.testing.assert_close(x[0, 0], torch.tensor([-0.25, 0.75, 1.75, 2.75]))
    # Once it is outside, all of the picture shows what is at the other side of it.
    torch.testing.assert_close(x[1, 0], torch.tensor([3.25, 2.75, 3.25, 2.75]))
    assert bool((x[2] >= 2.5).all())
    assert bool((x[2] <= 3.5).all())


def test_several_are_put_back_to_their_layout_about_the_middle() -> None:
    left, right = at([0.0, 0.0, 1.0]), at([1.0, 2.0, 2.0])
    both = moves(left, right)
    assert both.origin(GRID) == 1
    torch.testing.assert_close(both.away(GRID), torch.tensor([-0.5, -0.5]).double())
    first, second = both.layers(GRID, placed=True).values()
    found = (first + second).unflatten(0, tuple(GRID))
    assert torch.equal(found[1], torch.tensor([0.0, 0.5, 0.5]).expand(4, 4, 3))


def test_the_layout_is_that_of_a_frame_in_which_things_are_seen() -> None:
    other = at([1.0, 2.0, 2.0])
    # One leaves before the middle of the clip, or comes in after it.
    assert moves(at([2.0, -1.5, -5.0]), other).origin(GRID) == 0
    assert moves(at([-5.0, -1.5, 2.0]), other).origin(GRID) == 2
    assert moves(at([2.0, -1.5, -5.0]), at([-0.4, 0.0, 1.0])).origin(GRID) == 0
    # Cut by the border, but mostly inside; and cut less in another frame.
    assert moves(at([-1.0, -0.05, 2.0]), other).origin(GRID) == 1
    assert moves(at([-1.0, -0.3, 2.0]), other).origin(GRID) == 2
    # Where nothing says how large they are, or a camera moves: the middle one.
    assert moves(subject(far=5.0), subject()).origin(GRID) == 1
    panned = moves(at([2.0, -1.5, -5.0]), other, pan=1.0)
    assert panned.origin(GRID) == 1
    assert not panned.away(GRID).any()


def test_growth_is_about_the_middle_of_the_picture() -> None:
    size = torch.tensor([0.4, 0.0, -0.4], dtype=torch.float64)
    (found,) = moves(at([1.0, 2.0, 2.0], size)).layers(GRID, placed=True).values()
    x = found.unflatten(0, tuple(GRID))[..., 2] + torch.arange(4.0)
    torch.testing.assert_close(x[1, 0], torch.arange(4.0) - 0.5)
    # Where the thing is, all frames show the middle.
    torch.testing.assert_close(x[0, 0, 1], torch.tensor(1.5))
    torch.testing.assert_close(x[2, 0, 2], torch.tensor(1.5))


def test_a_path_through_chance_matches_is_no_start() -> None:
    for start in ("flow", "layers"):
        asked = settings(start=start)
        found = first_layers(by_chance(), moves(), asked)
        assert not torch.stack(list(found.values())).any()
        assert unsaid(by_chance(), moves(), asked) == "nothing moves that can be followed"
    # Slow, or two things: something moves, and one path does not say it.
    assert "one path explains only" in unsaid(by_chance(), moves(subject()), settings(start="flow"))
    assert unsaid(by_chance(), moves(subject()), settings(start="layers")) == ""
    assert unsaid(along(), moves(subject()), settings(start="flow")) == ""
    for turned in (moves(zoom=1.3), moves(roll=0.3)):
        assert "no path says" in unsaid(along(), turned, settings(start="flow"))
        assert unsaid(along(), turned, settings(start="layers")) == ""
    assert unsaid(by_chance(), moves(subject(), subject()), settings(start="layers")) == ""
    assert first_layers(along(), moves(subject()), settings(start="flow"))["whole"].any()


def test_auto_takes_layers_where_one_path_does_not_say_what_moves() -> None:
    auto = settings(start="auto")
    assert begun(along(), moves(subject()), auto) == "flow"
    assert begun(along(), moves(pan=1.0), auto) == "flow"
    assert begun(by_chance(), moves(pan=1.0), auto) == "layers"
    assert begun(by_chance(), moves(subject()), auto) == "layers"
    assert begun(by_chance(), moves(subject(), subject()), auto) == "layers"
    assert begun(by_chance(), moves(), auto) == "zero"
    # No path says a zoom or a roll, nor do a few matches, by chance along one, what a thing does.
    assert begun(along(), moves(zoom=1.3), auto) == "layers"
    assert begun(along(), moves(roll=0.3), auto) == "layers"
    growing = moves(subject(torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)))
    assert begun(along(), growing, auto) == "flow"
    assert path_alone(along(), growing, auto)
    assert not path_alone(along(), moves(subject()), auto)
    assert not path_alone(along(), growing, settings(start="layers"))
    # Where the pictures show it, growth is exact enough to be said with the path.
    shown = moves(dataclasses.replace(growing.subjects[0], seen=True))
    assert begun(along(), shown, auto) == "layers"
    assert not path_alone(along(), shown, auto)
    assert begun(along(), shown, TrainConfig(start="auto").resolve(COGVIDEOX)) == "layers"
    few = along()  # moves of a patch, which also a clip at rest seems to have
    few.displacement[:, :, :, 1:] = 0
    few.mask[:, :, :, 1:] = False
    assert one_path(few) > ONE_PATH
    assert few.followed < LITTLE
    assert begun(few, moves(subject(far=2.0)), auto) == "layers"
    asked = settings(start="layers", start_scale=1.25)
    once = settings(start="auto", start_scale=1.0)
    found = first_layers(by_chance(), moves(zoom=1.3), once)["camera"]
    assert torch.equal(found, first_layers(by_chance(), moves(zoom=1.3), asked)["camera"])
    # A pan goes as far as it was read.
    found, asked = (
        first_layers(by_chance(), moves(pan=1.0), once)["camera"],
        settings(start="layers"),
    )
    as_read = dataclasses.replace(asked, start_scale=1.0)
    assert torch.equal(found, first_layers(by_chance(), moves(pan=1.0), as_read)["camera"])
    by_attention = TrainConfig(start="auto").resolve(COGVIDEOX)
    assert begun(by_chance(), moves(pan=1.0), by_attention) == "layers"
    assert begun(by_chance(), moves(), by_attention) == "flow"
    assert list(first_layers(by_chance(), moves(subject(), pan=1.0), auto)) == ["camera", "subject"]


def turning(far: float) -> Moves:
    turn = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    return moves(dataclasses.replace(subject(far=far), turn=turn, seen=True))


def test_what_turns_in_its_place_is_turned_and_what_turns_on_its_way_goes() -> None:
    auto, few = settings(start="auto", start_scale=1.0), by_chance()
    asked = settings(start="layers", start_scale=1.0)
    inner = [5, 10]  # patches that are not sent beyond the border
    for far, left_out in ((0.2, False), (0.8, True)):
        assert turn_left_out(few, turning(far), auto) == left_out
        assert not turn_left_out(few, turning(far), asked)
        turned = first_layers(few, turning(far), asked)["subject"].reshape(3, 16, 3)
        begins = first_layers(few, turning(far), auto)["subject"].reshape(3, 16, 3)
        # A path is the same on all tokens, a turn is not.
        assert not torch.allclose(turned[0, inner[0]], turned[0, inner[1]], atol=1e-3)
        alike = torch.allclose(begins[0, inner[0]], begins[0, inner[1]], atol=1e-3)
        assert alike == left_out
    assert not turn_left_out(few, moves(subject(far=2.0)), auto)
    assert not turn_left_out(few, moves(turning(2.0).subjects[0], pan=1.0), auto)


def test_one_thing_grows_about_the_middle_of_the_picture() -> None:
    """Wherever it is drawn; of several, and before a camera, each about its own."""
    size = torch.tensor([-0.2, 0.0, 0.2], dtype=torch.float64)
    stays = Subject(PATH * 0, PATH * 0 + 0.5, size, ZERO, 0.9, seen=True)
    alone = moves(stays).layers(GRID)["subject"].reshape(3, 4, 4, 3)
    # What is in the middle stays: opposite corners go opposite ways.
    torch.testing.assert_close(alone[0, 0, 0], -alone[0, 3, 3])
    camera = moves(stays, pan=1.0).layers(GRID)["subject"].reshape(3, 4, 4, 3)
    assert not torch.allclose(camera[2, 0, 0], -camera[2, 3, 3])


def test_of_what_is_held_before_a_camera_that_pans_the_camera_is_left() -> None:
    """The whole of its layer would cancel the camera's, and no background would move."""
    held = dataclasses.replace(subject(), path=PATH[:, [1, 0]] * -1)
    auto = settings(start="auto", start_scale=1.0)
    # Even where one path says what is matched: it is that of one of the two.
    assert begun(along(), moves(held, pan=1.0), auto) == "layers"
    found = first_layers(along(), moves(held, pan=1.0), auto)
    assert found["camera"].any()
    torch.testing.assert_close(found["subject"], found["camera"] * -AGAINST)
    # Before one that rests, all of it, as far as the picture reaches.
    alone = first_layers(by_chance(), moves(held), auto)["subject"].unflatten(0, tuple(GRID))
    whole = -found["camera"].unflatten(0, tuple(GRID))
    torch.testing.assert_close(alone[:, 1:-1], whole[:, 1:-1])
    assert torch.equal(alone[[0, 2], [0, -1]].abs().amax(-1), torch.full((2, 4), 0.5))


@pytest.mark.parametrize(
    ("camera", "asked", "low", "ground"),
    [
        ({"pan": 1.0}, {}, 0.0, 1.3),
        ({"zoom": 1.3}, {}, 0.0, 1.3),
        ({"roll": 0.3}, {}, ROW.guided_range[0], 0.0),
        ({}, {}, ROW.guided_range[0], 1.0),
        ({}, {"mode": "latents"}, ROW.guided_range[0], 0.0),
        ({"pan": 1.0}, {"guided_range": (0.99, 1.0)}, 0.99, 1.3),
        ({}, {"ground": 2.0}, ROW.guided_range[0], 2.0),
        ({"pan": 1.0}, {"ground": 0.0}, ROW.guided_range[0], 0.0),
        ({"pan": 1.0}, {"inner_steps": 1}, ROW.guided_range[0], 1.3),
        ({"pan": 1.0}, {"start": "flow"}, ROW.guided_range[0], 1.3),
        ({"pan": 1.0}, {"start": "flow", "ground": 2.0}, ROW.guided_range[0], 2.0),
    ],
)
def test_a_camera_that_pans_or_zooms_guides_all_steps_and_has_a_ground(
    camera: dict[str, float], asked: dict[str, object], low: float, ground: float
) -> None:
    adapter = load_backbone("bundled")
    config = TrainConfig(recipe="rich", **asked)  # type: ignore[arg-type]
    frames = render(scenes_of("pan", 1)[0])
    run = prepare(adapter, Clip(frames, 16, "pan.mp4", "0" * 64, 2.0, 33), config, None)
    sampler = run.sampler()
    seen, guided = run.seeing(moves(**camera), sampler)
    assert (seen.settings.guided_range[0], seen.settings.ground) == (low, ground)
    assert all(sampler.noise[i] >= low - 1e-6 for i in guided)
    assert (len(guided) == ROW.steps) == (low == 0)


def before(pan: float, *ways: torch.Tensor, zoom: float = 1.0) -> Moves:
    """Things that the pictures show on their ways beyond a camera, in the middle of the grid."""
    still = moves(pan=pan, zoom=zoom)
    things = []
    for way in ways:
        place = torch.einsum("fij,fj->fi", still.linear, way) + still.shift + 1.5
        things.append(Subject(way, place, ZERO, ZERO, 0.0, seen=True))
    return dataclasses.replace(still, subjects=tuple(things))


def test_what_goes_its_own_way_before_a_camera_gets_more_of_its_layer_than_what_is_held() -> None:
    down = PATH.flip(1) * 0.3
    auto = settings(start="auto", start_scale=1.0)
    for pan, way, own in (
        (0.4, down, BESIDE),
        (0.4, PATH * 0.3, BESIDE),
        (0.4, PATH.flip(1) * -0.4, AGAINST),
    ):
        read = before(pan, way)
        assert read.held == (own == AGAINST)
        found = first_layers(along(), read, auto)
        assert list(found) == ["camera", "subject"]
        wanted = read.layers(GRID, own=own)["subject"]
        torch.testing.assert_close(found["subject"], wanted)
        # What a cut says of a thing's way before a camera is believed less.
        (thing,) = read.subjects
        cut = dataclasses.replace(read, subjects=(dataclasses.replace(thing, seen=False),))
        torch.testing.assert_close(
            first_layers(along(), cut, auto)["subject"], read.layers(GRID, own=AGAINST)["subject"]
        )


@pytest.mark.parametrize(
    ("read", "changes", "one_by_one"),
    [
        (before(0.4, PATH * 0.3), {}, True),
        (before(0.4, PATH.flip(1) * -0.4), {}, True),  # held
        (before(0.4, PATH * 0.3, PATH.flip(1) * 0.3), {}, True),
        (before(0.4, PATH * 0.3, zoom=1.3), {}, True),
        (before(0.4), {}, False),
        (before(0.0, PATH * 0.3), {}, False),
        (dataclasses.replace(before(0.4, PATH * 0.3), **vars(moves(roll=0.3)) | {
            "subjects": before(0.4, PATH * 0.3).subjects}), {}, False),
        (before(0.4, PATH * 0.3), {"guided_range": (UNTIL, 1.0)}, False),
        (before(0.4, PATH * 0.3), {"start": "layers"}, False),
        (before(0.4, PATH * 0.3), {"inner_steps": 1}, False),
        (before(0.4, PATH * 0.3), {"parametrisation": "angle"}, False),
    ],
)  # fmt: skip
def test_before_a_camera_things_go_first_and_then_the_camera_alone(
    read: Moves, changes: dict[str, object], one_by_one: bool
) -> None:
    """Where things go is decided before where a texture is."""
    basis = {"start": "auto", "start_scale": 1.0, "inner_steps": 0, "parametrisation": "offset"}
    asked = settings(**(basis | changes))
    found = first_layers(along(), read, asked)
    below = layers_below(list(found), along(), read, asked)
    assert (below is not None) == one_by_one
    if below is None:
        return
    camera = 1.0 if read.turns else THEN
    assert below.noise == UNTIL
    assert below.times == tuple(camera if name == "camera" else 0.0 for name in found)
    # All of their layers, as far as the picture reaches.
    whole = read.layers(GRID, scale("layers", read, asked))
    wanted = inside(GRID, whole, ZOOMED if read.turns else BEYOND)
    for name, layer in found.items():
        torch.testing.assert_close(layer, wanted[name])


def test_before_a_camera_things_are_put_back_to_the_middle_where_they_go_first() -> None:
    """With the phase in the noise: they are drawn where the reference has them."""
    read = before(0.1, PATH * 0.1)
    (thing,) = read.subjects
    right = dataclasses.replace(thing, place=thing.place + torch.tensor([0.4, 0.0]))
    read = dataclasses.replace(read, subjects=(right,))
    found = {}
    for name, changes in {
        "first": {}, "without phase": {"phase": ()}, "at once": {"guided_range": (UNTIL, 1.0)}
    }.items():  # fmt: skip
        asked = settings(recipe="rich", **changes)
        layers = first_layers(along(), read, asked)
        found[name] = layers["subject"].unflatten(0, tuple(GRID))
        torch.testing.assert_close(layers["camera"], read.layers(GRID)["camera"])
    whole = read.layers(GRID)["subject"].unflatten(0, tuple(GRID))
    inner = (slice(None), slice(1, -1), slice(1, -1))  # what the border does not hold
    torch.testing.assert_close(found["without phase"][inner], whole[inner])
    torch.testing.assert_close(found["first"][inner], whole[inner] - torch.tensor([0.0, 0.0, 0.4]))
    torch.testing.assert_close(found["at once"][inner], BESIDE * whole[inner])


def test_of_a_camera_alone_there_is_nothing_to_put_back() -> None:
    for read in (before(0.4), before(0.0, zoom=1.3)):
        found = first_layers(by_chance(), read, settings(recipe="rich"))
        assert list(found) == ["camera"]
        assert layers_below(["camera"], by_chance(), read, settings(recipe="rich")) is None


def test_several_things_before_a_pan_have_a_layer_each_and_before_a_zoom_none() -> None:
    auto, down = settings(start="auto", start_scale=1.0), PATH.flip(1) * 0.3
    assert list(first_layers(along(), before(0.4, PATH * 0.3, down), auto)) == [
        "camera",
        "subject",
        "subject-2",
    ]
    zoomed = before(0.0, PATH * 0.3, down, zoom=1.3)
    assert zoomed.turns
    still = flow(torch.zeros(3, 3, 4, 4, 2))
    assert list(first_layers(still, zoomed, auto)) == ["camera"]
    assert things_left_out(still, zoomed, auto)
    assert not things_left_out(along(), before(0.4, PATH * 0.3, down), auto)
    assert not things_left_out(still, before(0.0, down, zoom=1.3), auto)


def test_what_a_camera_brings_comes_from_close_beyond_its_border() -> None:
    """An eighth of the picture, half a token here; what rolls has its corners from farther out."""
    as_read = settings(start="layers", start_scale=1.0)
    at = GRID.coordinates(dtype=torch.float32).repeat(3, 1)[:, [1, 0]]  # (S, 2) as (y, x)
    free = moves(pan=2.0).layers(GRID)["camera"]
    ends = at + first_layers(by_chance(), moves(pan=2.0), as_read)["camera"][:, 1:]
    assert (float(ends.min()), float(ends.max())) == (-1.0, 4.0)
    asked = at + free[:, 1:]
    assert float(asked.min()) < -1
    torch.testing.assert_close(ends, asked.clamp(-1, 4))
    far = settings(start="layers", start_scale=4.0)
    zoomed = moves(zoom=1.3).layers(GRID, 4.0)["camera"]
    assert float((at + zoomed[:, 1:]).min()) < -0.75
    ends = at + first_layers(by_chance(), moves(zoom=1.3), far)["camera"][:, 1:]
    assert (float(ends.min()), float(ends.max())) == (-0.75, 3.75)  # a sixteenth
    rolled = moves(roll=1.0).layers(GRID)["camera"]
    assert float((at + rolled[:, 1:]).min()) < -0.5
    assert torch.equal(first_layers(by_chance(), moves(roll=1.0), as_read)["camera"], rolled)


def test_cards_of_a_bundled_backbone_are_guided_more_strongly_than_plain_videos() -> None:
    """The published recipes, and latents, keep the backbone's own."""
    scale = TrainConfig(recipe="rich").resolve(ROW).guidance_scale
    assert scale > ROW.guidance_scale
    assert TrainConfig(recipe="rich", guidance_scale=2.0).resolve(ROW).guidance_scale == 2
    for config in (TrainConfig(recipe="default"), TrainConfig(recipe="rich", mode="latents")):
        assert config.resolve(ROW).guidance_scale == ROW.guidance_scale
    big = VARIANTS["cogvideox-5b"]
    assert TrainConfig(recipe="rich").resolve(big).guidance_scale == big.guidance_scale


def test_backbones_on_which_no_ground_was_measured_keep_their_guided_steps() -> None:
    found = TrainConfig(recipe="rich").resolve(VARIANTS["cogvideox-5b"])
    assert (found.start, found.ground) == ("auto", 0.0)
    assert found.guided_range == VARIANTS["cogvideox-5b"].guided_range


def test_auto_takes_the_layer_of_a_slow_thing_whatever_one_path_says() -> None:
    auto, slowly = settings(start="auto", start_scale=1.0), moves(subject(far=0.5))
    assert begun(along(), slowly, auto) == "layers"
    found = first_layers(along(), slowly, auto)["subject"]
    farther = settings(start="layers", start_scale=1.25)
    assert torch.equal(found, first_layers(along(), slowly, farther)["subject"])
    # What is fast goes as far as was read.
    found = first_layers(by_chance(), moves(subject()), auto)["subject"]
    as_read = settings(start="layers", start_scale=1.0)
    assert torch.equal(found, first_layers(by_chance(), moves(subject()), as_read)["subject"])


def test_two_things_have_a_layer_each_mostly_where_they_are() -> None:
    auto = settings(start="auto", start_scale=1.0)
    left = Subject(PATH, torch.tensor([[0.0, 1.0]] * 3).double(), ZERO, ZERO, 0.5)
    right = Subject(-PATH, torch.tensor([[3.0, 1.0]] * 3).double(), ZERO, ZERO, 0.4)
    assert begun(along(), moves(left, right), auto) == "layers"
    found = first_layers(along(), moves(left, right), auto)
    assert list(found) == ["subject", "subject-2"]
    one, two = (layer.unflatten(0, tuple(GRID)) for layer in found.values())
    # Each alone would move all tokens by a patch; together they share every token out.
    torch.testing.assert_close(two[2, :, 1:3, 2] - one[2, :, 1:3, 2], torch.ones(4, 2))
    assert torch.equal(one[..., 1], torch.zeros(3, 4, 4))
    total = one + two
    assert float(total[2, 1, 1, 2]) < -0.9 * math.tanh(1 / (2 * 0.375 * 4))
    torch.testing.assert_close(total[2, :, 0, 2], -total[2, :, 3, 2])
    assert float(total[2, 1, 0, 2]) == -0.5  # it stays in the picture
    # Before a camera that moves they have none.
    assert list(moves(left, right, pan=1.0).layers(GRID)) == ["camera"]


@pytest.mark.parametrize(
    ("side", "asked", "phase"),
    [
        (128, None, (4.0, 3.0)),
        (128, (2.5, 3.5), (2.5, 3.5)),
        (64, None, (2.83, 3.0)),  # of 8x8 latents 3 is the most
    ],
)
def test_two_things_have_a_finer_phase_unless_one_was_asked_for_or_it_does_not_fit(
    side: int, asked: tuple[float, float] | None, phase: tuple[float, float]
) -> None:
    config = TrainConfig(recipe="rich", phase=asked)
    frames = render(scenes_of("two", 1)[0])[:, :side, :side]
    run = prepare(
        load_backbone("bundled"), Clip(frames, 16, "two.mp4", "0" * 64, 2.0, 33), config, None
    )
    sampler = run.sampler()
    assert run.seeing(moves(subject(), subject()), sampler)[0].settings.phase == phase
    assert run.seeing(moves(subject(), subject()), sampler)[0].settings.ground == 0.0
    # Without a ground means are left to the noise; a phase that was asked for is the published one.
    bears = run.seeing(moves(subject(), subject()), sampler)[0].settings.phase_mean
    assert bears == (asked is not None)
    grounded = dataclasses.replace(run, config=dataclasses.replace(config, ground=1.0))
    assert grounded.seeing(moves(subject(), subject()), sampler)[0].settings.phase_mean
    before_a_pan = run.seeing(moves(subject(), subject(), pan=1.0), sampler)[0].settings
    assert (before_a_pan.phase, before_a_pan.ground) == (asked or (2.83, 3.0), 1.3)
    assert before_a_pan.noise_of is None  # no part of what a resumed run must share
    one = dataclasses.replace(subject(), cover=torch.ones(3, 4, 4, dtype=torch.bool))
    found = run.seeing(moves(one), sampler)[0].settings
    assert (found.phase, found.ground) == (asked or (2.83, 4.0), SHARE)
    # Told from no background, it has the noise of what was not measured.
    assert run.seeing(moves(subject()), sampler)[0].settings.phase == (asked or (2.83, 3.0))
    # Elsewhere nothing was measured.
    assert TrainConfig(recipe="rich").resolve(VARIANTS["cogvideox-5b"]).noise_of is None


def test_what_was_measured_on_one_kind_of_reading_is_not_said_of_another() -> None:
    asked = TrainConfig(start="flow").resolve(VARIANTS["cogvideox-5b"])
    assert unsaid(by_chance(), moves(), asked) == ""


def test_a_card_says_what_was_read_in_numbers() -> None:
    size = torch.tensor([-0.5, 0.0, 0.5]).double()
    spec = motion_spec(moves(subject(size), pan=2.0))
    assert spec.camera[2] == (1.0, 0.0, 0.0, 1.0, 0.0, 2.0)
    (thing,) = spec.subjects
    assert thing.path == ((-1.0, 0.0), (0.0, 0.0), (1.0, 0.0))
    assert thing.size == (0.6065, 1.0, 1.6487)
    assert thing.turn is None
    assert thing.share == 0.9
    assert dataclasses.asdict(motion_spec(moves()))["subjects"] == ()
    assert np.isfinite(np.array(spec.camera)).all()


def test_a_thing_that_fills_no_patch_has_no_disc() -> None:
    """A card has no number for it, and is none that cannot be written."""
    nowhere = torch.zeros(3, 4, 4, dtype=torch.bool)
    tiny = dataclasses.replace(subject(), cover=nowhere, seen=True)
    assert motion_spec(moves(tiny)).subjects[0].disc is None
    there = nowhere.clone()
    there[1, 1, 1:3] = True
    (x, y, r) = motion_spec(moves(dataclasses.replace(tiny, cover=there))).subjects[0].disc or ()
    assert (x, y) == (1.5, 1.5)
    assert math.pi * r**2 == pytest.approx(2, abs=1e-3)


def test_two_things_whose_ways_cancel_are_not_called_little_to_learn_from() -> None:
    rest = flow(torch.zeros(3, 3, 4, 4, 2))
    rich = TrainConfig(recipe="rich").resolve(VARIANTS["bundled"])

    def said(read: Moves) -> str:
        path = np.zeros((3, 2), np.float32)
        apart = taken_apart(rest, read)
        return " ".join(
            look_words(Look(rest, rest.mask.numpy(), path, 0.0, read, apart), "bundled", rich)
        )

    assert "little of its motion will transfer" in said(moves())
    assert "little" not in said(moves(subject(), subject()))


@pytest.mark.parametrize(("explained", "against"), [(0.02, True), (0.9, False)])
def test_a_subject_against_all_that_matches_is_the_gap_between_things(
    explained: float, against: bool
) -> None:
    """Two like things that go right side by side: what is cut out between them goes left."""
    all_right, left = along(), dataclasses.replace(subject(), path=-PATH, share=explained)
    found = not_against(left, all_right)
    assert (found is not left) == against
    if against:
        assert torch.allclose(found.path, PATH, atol=0.1)
    same = dataclasses.replace(subject(), share=explained)
    assert not_against(same, all_right) is same  # it goes the same way


def test_a_card_of_a_thing_that_is_held_shows_what_its_training_did() -> None:
    """Layer by layer: the preview is what the card makes of the first sample."""
    backbone, config = load_backbone("bundled"), TrainConfig(recipe="rich", steps=8, preview=True)
    frames = render(scenes_of("held", 1)[0])
    events = list(train(backbone, Clip(frames, 16, "held.mp4", "0" * 64, 2.0, 33), config))
    (shown,) = [e for e in events if isinstance(e, PreviewFrames)]
    assert isinstance(events[-1], Finished)
    card = events[-1].card
    recipe = card.spec.recipe
    assert recipe.layers == ("camera", "subject")
    assert recipe.below == BelowSpec(noise=UNTIL, times=(THEN, 0.0))
    assert card.spec.schedule.noise[-1] < UNTIL < card.spec.schedule.noise[0]
    assert card.tensors["positions"].shape[:2] == (1, 2)
    sample = card.spec.samples[0]
    (made,) = generate(backbone, [sample.prompt], [sample.seed], card=card)
    assert np.abs(shown.frames.astype(int) - made.frames.astype(int)).mean() < 2
    # Its layers are not all there is in all steps.
    whole = dataclasses.replace(recipe, below=None)
    spec = dataclasses.replace(card.spec, recipe=whole, digest="")
    (other,) = generate(
        backbone, [sample.prompt], [sample.seed], card=MotionCard(spec, card.tensors)
    )
    assert np.abs(other.frames.astype(int) - made.frames.astype(int)).mean() > 2
