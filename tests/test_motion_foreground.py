"""Latents without what is behind the things."""

from __future__ import annotations

import pytest
import torch

from pe_toolkit.backbones import load_backbone
from pe_toolkit.errors import UsageError
from pe_toolkit.motion.foreground import foreground
from pe_toolkit.motion.phase import phases, quantised
from pe_toolkit.training import TrainConfig
from pe_toolkit.training.prepare import prepare
from pe_toolkit.training.reference import read_reference
from pe_toolkit.video import Clip
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render


def clip(background: torch.Tensor, things: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of one patch that goes right by a patch a frame: latents `(4, 2, 8, 8)` before
    `(2, 8, 8)`, and its covers `(4, 4, 4)`.
    """
    latents, cover = background.repeat(4, 1, 1, 1), torch.zeros(4, 4, 4, dtype=torch.bool)
    for f in range(4):
        latents[f, :, 2:4, 2 * f : 2 * f + 2] = things
        cover[f, 1, f] = True
    return latents, cover


def test_what_is_left_is_the_thing() -> None:
    background = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    latents, cover = clip(background)
    left = foreground(latents, cover)
    wanted, _ = clip(torch.zeros(2, 8, 8))
    inside = wanted != 0
    assert float(left[~inside].abs().max()) < 1e-5
    torch.testing.assert_close(
        left[inside], (wanted - background.repeat(4, 1, 1, 1))[inside], atol=1e-5, rtol=0
    )


def test_the_phase_is_the_same_before_any_flat_background() -> None:
    found = [
        phases(foreground(*clip(torch.full((2, 8, 8), value), value + 3)), 1.5)
        for value in (-1.0, 4.0)
    ]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)


def test_what_no_frame_shows_is_taken_for_the_mean_of_the_rest() -> None:
    background = torch.ones(2, 8, 8)
    background[:, 4:] = 3
    latents = background.repeat(4, 1, 1, 1)
    latents[:, :, :2, :2] = 9  # it stays
    cover = torch.zeros(4, 4, 4, dtype=torch.bool)
    cover[:, 0, 0] = True
    left = foreground(latents, cover)
    mean = float(background[:, 3:].sum() + background[:, :3, 3:].sum()) / (2 * (64 - 9))
    torch.testing.assert_close(left[:, :, :2, :2], torch.full((4, 2, 2, 2), 9 - mean))
    assert not left[:, :, 4:].any()


def test_where_nothing_of_the_background_is_seen_all_is_left() -> None:
    latents, _ = clip(torch.ones(2, 8, 8))
    assert torch.equal(foreground(latents, torch.ones(4, 4, 4, dtype=torch.bool)), latents)


def test_a_refusal() -> None:
    with pytest.raises(UsageError, match="covers of a part of 4 latent frames"):
        foreground(clip(torch.ones(2, 8, 8))[0], torch.ones(3, 4, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("name", "asked", "alone"),
    [
        ("translation", {}, True),
        ("translation", {"ground": 0.0}, False),  # without a ground there is nothing in its place
        ("two", {}, False),
        ("pan", {}, False),
    ],
)
def test_a_card_of_one_thing_has_the_phase_of_the_thing_alone(
    name: str, asked: dict[str, float], alone: bool
) -> None:
    frames, backbone = render(scenes_of(name, 1)[0]), load_backbone("bundled")
    clip = Clip(frames, 16.0, "scene", "0" * 64, len(frames) / 16, len(frames))
    run = prepare(backbone, clip, TrainConfig(recipe="rich", **asked), None)  # type: ignore[arg-type]
    reference = read_reference(run, backbone.encode_text([""]))
    run, _ = run.seeing(reference.moves, run.sampler())
    latents, cover, phase = reference.latents[0], reference.moves.cover, run.settings.phase
    assert phase is not None
    if alone:
        assert cover is not None
        latents = foreground(latents, cover)
    stored = reference.phase(run)
    assert stored is not None
    assert torch.equal(stored, quantised(phases(latents, phase[0])))


def test_a_frame_without_a_thing_keeps_what_it_shows() -> None:
    latents, cover = clip(torch.ones(2, 8, 8))
    latents[3], cover[3] = 1.5, False  # it has left
    left = foreground(latents, cover)
    assert torch.equal(left[3], latents[3])
    assert not torch.equal(left[2], latents[2])


def test_a_cover_of_patches_of_two_latent_frames() -> None:
    latents, cover = clip(torch.ones(2, 8, 8))
    twice = foreground(latents.repeat_interleave(2, 0), cover)
    torch.testing.assert_close(twice, foreground(latents, cover).repeat_interleave(2, 0))
