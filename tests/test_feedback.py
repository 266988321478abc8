"""Positions corrected by what generations make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pe_toolkit.apply import generate
from pe_toolkit.backbones import VARIANTS, load_backbone
from pe_toolkit.card.spec import LARGEST_SEED
from pe_toolkit.cli.train_steps import corrected_words
from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.moves import Moves, Subject
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.config import GENERATIONS
from pe_toolkit.training.events import Corrected, FeedbackStep, Finished, PreviewFrames
from pe_toolkit.training.feedback import Feedback, after, corrected, errors, generations, same
from pe_toolkit.training.modes import PositionMode
from pe_toolkit.training.prepare import prepare
from pe_toolkit.training.reference import read_reference
from pe_toolkit.video import Clip
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render

FRAMES = 5


def _subject(place: torch.Tensor) -> Subject:
    none = torch.zeros(FRAMES, dtype=torch.float64)
    return Subject(place - place[FRAMES // 2], place, none, none, 0.5)


def _moves(*places: torch.Tensor, pan: float = 0.0) -> Moves:
    rest = torch.eye(2, dtype=torch.float64).repeat(FRAMES, 1, 1)
    shift = torch.zeros(FRAMES, 2, dtype=torch.float64)
    shift[:, 0] = pan * torch.arange(FRAMES)
    return Moves(FRAMES // 2, rest, shift, tuple(map(_subject, places)))


def _line(dx: float, dy: float, at: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    u = torch.linspace(0, 1, FRAMES, dtype=torch.float64)[:, None]
    return torch.tensor(at, dtype=torch.float64) + u * torch.tensor([[dx, dy]])


def _clip(name: str) -> Clip:
    return Clip(render(scenes_of(name, 1)[0]), 16, f"{name}.mp4", "0" * 64, 2.0, 33)


def test_errors_are_of_ways_and_not_of_places_in_the_order_that_fits() -> None:
    wanted = _moves(_line(4, 0), _line(0, 4, (3, 0)))
    made = _moves(_line(0, 3, (1, 1)), _line(4, 1, (2, 2)))  # the other way round, elsewhere
    found = errors(made, wanted)
    assert found is not None
    steps = found.diff(dim=1).sum(1)  # from the first frame to the last
    torch.testing.assert_close(steps, torch.tensor([[0.0, 1.0], [0.0, -1.0]]).double())
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 2).double())
    assert errors(_moves(_line(4, 0)), wanted) is None
    assert errors(_moves(_line(4, 0), _line(0, 4), pan=1.0), wanted) is None


def test_only_what_is_the_same_in_all_is_believed() -> None:
    rng = torch.Generator().manual_seed(0)
    way = torch.stack([_line(1, 0), _line(0, -1)])
    noise = torch.randn(6, 2, FRAMES, 2, generator=rng, dtype=torch.float64)
    mean, trust = same(way + 0 * noise)
    torch.testing.assert_close(mean, way)
    assert trust == 1
    # Of noise alone the expectation of what seems to be the same is 1 / N: nothing is left of it.
    chances = [same(torch.randn(4, 2, 9, 2, generator=rng))[1] for _ in range(200)]
    assert np.median(chances) < 0.1
    _, some = same(way + 0.5 * noise)
    assert 0.5 < some < 1
    assert same(way[None])[1] == 0  # one says nothing of others
    assert same(torch.zeros(3, 2, FRAMES, 2))[1] == 0


def test_ways_get_shorter_and_places_stay() -> None:
    moves = _moves(_line(4, 0), _line(0, 4, (3, 0)))
    less = torch.stack([_line(1, 0, (7, 7)), _line(0, 0)])
    found = corrected(moves, less)
    torch.testing.assert_close(found.subjects[0].path, moves.subjects[0].path * 0.75)
    torch.testing.assert_close(found.subjects[1].path, moves.subjects[1].path)
    assert found.subjects[0].path[moves.anchor].tolist() == [0, 0]
    for new, old in zip(found.subjects, moves.subjects, strict=True):
        assert torch.equal(new.place, old.place)
    grid = TokenGrid(FRAMES, 8, 8)
    assert torch.equal(found.away(grid), moves.away(grid))


def test_what_no_generation_shows_changes_nothing() -> None:
    wanted = _moves(_line(4, 0), _line(0, 4, (3, 0)))
    assert after(wanted, [_moves(_line(4, 0))] * 3, wanted) == (wanted, 0, 0.0, 0.0)
    told, count, off, trust = after(wanted, [_moves(_line(2, 0), _line(0, 4))], wanted)
    assert (told, count, trust) == (wanted, 1, 0.0)
    assert off > 0.1


def test_rounds_end_where_generations_do_as_the_reference() -> None:
    """Of generations that go 0.6 times as far as they are told, and turn off a little, the same way
    for all seeds.
    """
    wanted = _moves(_line(4, 0), _line(0, 4, (3, 0)))
    told, rng = wanted, np.random.default_rng(0)
    beside = []
    for _ in range(4):
        made = []
        for _ in range(GENERATIONS):
            drift = torch.from_numpy(rng.normal(0, 0.05, (2, FRAMES, 2)))
            ways = [
                0.6 * s.path + _line(0.5, 0.5) + d
                for s, d in zip(told.subjects, drift, strict=True)
            ]
            made.append(_moves(*ways))
        made.append(_moves(_line(1, 1)))  # a generation of one thing, which says nothing
        told, count, off, trust = after(told, made, wanted)
        assert count == GENERATIONS
        assert trust > 0.5
        beside.append(off)
    assert beside[-1] < 0.2 * beside[0]
    assert beside == sorted(beside, reverse=True)


def test_a_card_of_two_things_is_corrected_and_says_so() -> None:
    config = TrainConfig(recipe="rich", steps=8, seed=1, feedback=1, preview=True)
    backbone, clip = load_backbone("bundled"), _clip("two")
    plain = [e for e in train(backbone, clip, replace(config, feedback=0, preview=False))][-1]
    events = list(train(backbone, clip, config))
    steps = [e for e in events if isinstance(e, FeedbackStep)]
    assert [(e.step, e.steps) for e in steps] == [(i + 1, 8) for i in range(8)]
    (round_,) = [e for e in events if isinstance(e, Corrected)]
    assert (round_.round, round_.rounds) == (1, 1)
    assert 0 <= round_.generations <= GENERATIONS
    assert isinstance(plain, Finished)
    assert isinstance(events[-1], Finished)
    card, before = events[-1].card, plain.card
    moved = not np.array_equal(card.tensors["positions"], before.tensors["positions"])
    assert moved == (round_.trust > 0)
    assert card.spec.recipe.feedback == (1 if moved else None)
    for name in ("flow", "flow_mask", "phase"):
        np.testing.assert_array_equal(card.tensors[name], before.tensors[name])
    assert card.spec.reference.motion == before.spec.reference.motion
    # The preview is what the card makes of the first training sample.
    (shown,) = [e for e in events if isinstance(e, PreviewFrames)]
    sample = card.spec.samples[0]
    (made,) = generate(backbone, [sample.prompt], [sample.seed], card=card)
    assert np.abs(shown.frames.astype(int) - made.frames.astype(int)).mean() < 2
    assert moved  # else nothing was tried here


def test_of_one_thing_nothing_is_corrected() -> None:
    config = TrainConfig(recipe="rich", steps=4, feedback=2)
    *events, last = train(load_backbone("bundled"), _clip("translation"), config)
    assert [e for e in events if isinstance(e, Corrected)] == [Corrected(0, 0, 0, 0.0, 0.0)]
    assert not [e for e in events if isinstance(e, FeedbackStep)]
    assert isinstance(last, Finished)
    assert last.card.spec.recipe.feedback is None


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (Corrected(0, 0, 0, 0.0, 0.0), "several things"),
        (Corrected(1, 2, 4, 0.52, 0.6), "0.52 patches off in the mean, 60% of it the same in all"),
        (Corrected(2, 2, 3, 0.52, 0.0), "is the same in all: positions stay as they are"),
        (Corrected(2, 2, 1, 0.52, 0.0), "of 1 of the generations could be read, which is too few"),
    ],
)
def test_rounds_in_words(event: Corrected, says: str) -> None:
    assert says in corrected_words(event)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({"feedback": "17"}, "rounds of feedback from 0 to 16, got 17"),
        ({"feedback": "-1"}, "rounds of feedback from 0 to 16, got -1"),
        ({"feedback": "2", "K": "3"}, "a K of 0"),
        ({"feedback": "two"}, "feedback=2, got feedback=two"),
        ({"feedback": "2", "start_scale": "1.5"}, "a start scale of 1 .* got 1.5"),
    ],
)
def test_what_feedback_cannot_be(pairs: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        TrainConfig(recipe="rich").with_overrides(pairs).resolve(VARIANTS["bundled"])


def test_latents_get_none() -> None:
    with pytest.raises(UsageError, match="positions and a K of 0"):
        TrainConfig(recipe="rich", mode="latents", prompts=("a",), feedback=1).resolve(
            VARIANTS["bundled"]
        )


def test_feedback_is_asked_for_in_whole_numbers() -> None:
    with pytest.raises(UsageError, match="whole number of feedback"):
        TrainConfig(recipe="rich", feedback=1.5).resolve(VARIANTS["bundled"])  # type: ignore[arg-type]
    assert TrainConfig(feedback=1).resolve(VARIANTS["bundled"]).feedback == 1


def test_generations_are_of_captions_of_two_things_or_of_the_prompts_that_were_given() -> None:
    backbone, clip = load_backbone("bundled"), _clip("two")
    own = ("a red circle and a blue cross on a grey background",)
    for prompts, seed in (
        ((), 3),
        (own, LARGEST_SEED),
        (("a red circle on a grey background",), 3),
    ):
        config = TrainConfig(recipe="rich", feedback=2, seed=seed, prompts=prompts, samples=1)
        run = prepare(backbone, clip, config, None)
        first, second = generations(run)
        assert len(first.latents) == len(second.latents) == GENERATIONS
        assert not torch.equal(first.latents[0], second.latents[0])
        same_text = all(torch.equal(one, first.text[0]) for one in first.text)
        assert same_text == (prompts == own)


def test_other_backbones_need_prompts_that_name_what_moves() -> None:
    config, row = TrainConfig(recipe="rich", feedback=1), VARIANTS["cogvideox-2b"]
    with pytest.raises(UsageError, match="as many things as move"):
        config.resolve(row)
    assert replace(config, prompts=("a cat and a dog",)).resolve(row).feedback == 1


def test_of_three_things_nothing_is_corrected_on_the_bundled_backbone() -> None:
    """Captions name two at most."""
    backbone, clip = load_backbone("bundled"), _clip("two")
    run = prepare(backbone, clip, TrainConfig(recipe="rich", feedback=1, steps=4), None)
    ways = [_line(4, 0), _line(0, 4, (3, 0)), _line(0, -4, (6, 4))]
    silence = backbone.encode_text([""])
    read = read_reference(run, silence)
    three = replace(read, moves=_moves(*[way.repeat_interleave(2, 0)[:9] for way in ways]))
    sampler = run.sampler()
    mode = run.mode(sampler, read, silence)
    found = list(Feedback.asked(run).rounds(run, [0], mode, three, silence))
    assert found == [Corrected(0, 0, 0, 0.0, 0.0)]


def test_a_training_that_is_gone_on_with_tells_its_generations_where_to_go() -> None:
    """What is injected is no part of the state that is kept."""
    backbone, clip = load_backbone("bundled"), _clip("two")
    run = prepare(backbone, clip, TrainConfig(recipe="rich", feedback=1, steps=2), None)
    silence = backbone.encode_text([""])
    read = read_reference(run, silence)
    mode = run.mode(run.sampler(), read, silence)
    assert isinstance(mode, PositionMode)
    assert mode.current is None
    mode.results = [mode.carried.half()]
    assert isinstance(
        next(Feedback.asked(run).rounds(run, [0, 1], mode, read, silence)), FeedbackStep
    )
    assert mode.current is not None
