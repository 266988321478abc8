"""What `pe train` and `pe show` say of how a reference was cropped and sped up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_toolkit.card import ClipSpec, GridSpec, MotionCard, read_info
from pe_toolkit.cli import reference_words, train_steps
from pe_toolkit.cli.commands.show import describe
from pe_toolkit.cli.output import Output
from pe_toolkit.training.request import TrainRequest
from pe_toolkit.training.shape import Shape
from tests.clips import moving_square, write_clip

GOLDEN = Path(__file__).parent / "golden"
SHAPE = Shape("bundled", "rotary", 33, 64, 64, 16.0)


@pytest.mark.parametrize(
    ("source", "fit", "text"),
    [
        ((128, 128), "crop", "128x128 as they are"),
        ((256, 256), "crop", "256x256 scaled to 128x128"),
        ((257, 256), "pad", "257x256 scaled to 128x128"),
        ((1280, 720), "crop", "the middle 720x720 of 1280x720 (44% of the picture cut off)"),
        ((720, 1280), "crop", "the middle 720x720 of 720x1280"),
        ((1280, 720), "pad", "black above and below"),
        ((720, 1280), "pad", "black left and right"),
        ((1280, 720), "stretch", "1.78 times as high as it was"),
        ((720, 1280), "stretch", "1.78 times as wide as it was"),
    ],
)
def test_framing(source: tuple[int, int], fit: str, text: str) -> None:
    assert text in reference_words.framing(source, (128, 128), fit)


def test_pace() -> None:
    assert reference_words.pace(2.0, 33, 16.0) == ("2.00 s at their own speed", 1.0)
    assert reference_words.pace(3.0, 33, 16.0) == ("3.00 s play in 2.00 s, 1.50 times faster", 1.5)
    assert reference_words.pace(1.0, 33, 16.0) == ("1.00 s play in 2.00 s, 2.00 times slower", 0.5)
    # What a card may say, though no training makes it.
    assert reference_words.pace(1.5, 1, 16.0) == ("1.50 s", 1.0)
    assert reference_words.pace(1.5, 33, 1e-320) == ("1.50 s", 1.0)
    assert reference_words.pace(5e-324, 33, 1e-300) == ("0.00 s", 1.0)


def test_train_says_what_is_cut_off_and_sped_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.mp4"
    write_clip(path, np.repeat(moving_square(97), 2, axis=2), fps=32)
    height, width = moving_square(2).shape[1:3]
    clip = train_steps.read_reference(TrainRequest(reference=path), SHAPE, Output())
    text = capsys.readouterr().err
    assert f"97 frames of {2 * width}x{height}" in text
    assert "3.00 s play in 2.00 s, 1.50 times faster" in text
    assert f"the middle {height}x{height} of {2 * width}x{height}" in text
    assert "--fit pad keeps the whole picture" in text
    assert "--fps 16 keeps the speed and takes 2.00 s" in text
    assert (clip.source_size, clip.fit) == ((2 * width, height), "crop")
    assert clip.used == pytest.approx(3.0)

    request = TrainRequest(reference=path, fps=16.0, fit="pad")
    clip = train_steps.read_reference(request, SHAPE, Output())
    text = capsys.readouterr().err
    assert "2.00 s at their own speed" in text
    assert "keeps" not in text
    assert clip.used == pytest.approx(2.0)


def test_a_reference_that_cannot_be_followed_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    frames, _, height, width, _ = card.tensors["flow"].shape
    nothing = np.zeros((frames, frames, height, width, 2), np.int8)
    spec = replace(card.spec, digest="")
    train_steps.warn_unfollowed(MotionCard(spec, {**card.tensors, "flow": nothing}), Output())
    assert "could be followed" in capsys.readouterr().err
    # Layers come from pictures and covers.
    card = MotionCard.load(GOLDEN / "rotary-offset-ground.safetensors")
    spec = replace(card.spec, recipe=replace(card.spec.recipe, start="layers"), digest="")
    nothing = np.zeros_like(card.tensors["flow"])
    train_steps.warn_unfollowed(MotionCard(spec, {**card.tensors, "flow": nothing}), Output())
    assert capsys.readouterr().err == ""


def on_a_grid(flow: np.ndarray[Any, Any]) -> MotionCard:
    """A card with any flow."""
    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    grid = GridSpec(*flow.shape[1:4])
    tensors = {
        "positions": np.zeros((2, 2, grid.tokens, 4), np.float16),
        "flow": flow.astype(np.int8),
        "flow_mask": np.ones(flow.shape[:4], np.uint8),
    }
    return MotionCard(replace(card.spec, grid=grid, digest=""), tensors)


@pytest.mark.parametrize("step", [1, 2])
def test_a_picture_that_swings(step: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Out and back; by one patch, the argmax wanders also in a clip at rest."""
    frames, side = 5, 6
    moving = np.zeros((frames, frames, side, side, 2), np.int8)
    for i in range(frames):
        for j in range(frames):
            by = step * (j % 2 - i % 2)
            moving[i, j, :, max(0, -by) : side - max(0, by), 0] = by
    train_steps.warn_unfollowed(on_a_grid(moving), Output())
    assert ("could be followed" in capsys.readouterr().err) == (step == 1)


def test_matches_at_random_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    frames, side = 5, 6
    ys, xs = np.mgrid[:side, :side]
    ends = np.random.default_rng(0).integers(0, side, (frames, frames, side, side, 2))
    train_steps.warn_unfollowed(on_a_grid(ends - np.stack([xs, ys], -1)), Output())
    assert "could be followed" in capsys.readouterr().err


def test_show_knows_it_from_the_card(tmp_path: Path) -> None:
    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    assert describe(read_info(GOLDEN / "rotary-angle.safetensors"))["used"] == "-"
    clip = card.spec.clip
    used = 2 * (clip.frames - 1) / clip.fps
    reference = replace(
        card.spec.reference, width=4 * clip.width, height=2 * clip.height, used=used, fit="crop"
    )
    spec = replace(card.spec, reference=reference, format_version="1.2", digest="")
    path = tmp_path / "c.safetensors"
    MotionCard(spec, card.tensors).save(path)
    row = describe(read_info(path))["used"]
    assert "2.00 times faster" in row
    assert "50% of the picture cut off" in row


def test_show_of_a_card_of_one_frame(tmp_path: Path) -> None:
    card = MotionCard.load(GOLDEN / "rotary-angle-used.safetensors")
    spec = replace(card.spec, clip=ClipSpec(1, 32, 32, 8.0), digest="")
    MotionCard(spec, card.tensors).save(tmp_path / "c.safetensors")
    assert describe(read_info(tmp_path / "c.safetensors"))["used"].startswith("2.00 s, from 0.25 s")
