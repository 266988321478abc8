"""The part of the noise that is fixed to the camera: analytic cases."""

from __future__ import annotations

import math

import pytest
import torch

from pe_toolkit.errors import UsageError
from pe_toolkit.motion.ground import Ground, grounded, still
from pe_toolkit.motion.phase import disc, imprinted, imprinting, phases, quantised


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def panning(frames: int, width: int, pixels: int, share: float = 1.5) -> Ground:
    """So many pixels to the right from frame to frame, at rest in the middle one."""
    x = (torch.arange(frames) - frames // 2) * pixels / width
    return Ground(share, torch.eye(2).repeat(frames, 1, 1), torch.stack([x, x * 0], 1))


def rolling(frames: int, degrees: float, growth: float = 1.0) -> Ground:
    at = torch.arange(frames) - frames // 2
    turn, size = torch.deg2rad(at * degrees), growth**at
    c, s = size * turn.cos(), size * turn.sin()
    rows = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
    return Ground(1.0, rows, torch.zeros(frames, 2))


@pytest.mark.parametrize("shape", [(16, 16), (9, 14), (30, 45)])
def test_before_a_camera_that_rests_it_is_the_mean(shape: tuple[int, int]) -> None:
    n = noise(2, 5, 3, *shape)
    made = grounded(n, still(1.0, 5))
    wanted = n.sum(1, keepdim=True) / math.sqrt(5)
    torch.testing.assert_close(made, wanted.expand_as(n), atol=1e-4, rtol=0)


def test_it_moves_with_the_camera() -> None:
    n = noise(5, 4, 16, 16)
    made = grounded(n, panning(5, 16, 2))
    for f in range(1, 5):
        # Two pixels to the right: what comes in at the left is another part of the plane.
        torch.testing.assert_close(made[f, ..., 2:], made[f - 1, ..., :-2], atol=1e-5, rtol=0)
    assert (made[1] - made[0]).abs().mean() > 0.5


@pytest.mark.parametrize(
    "ground", [still(1.0, 5), panning(5, 16, 2), panning(5, 16, 9), rolling(5, 20, 1.2)]
)
def test_its_low_frequencies_are_as_strong_as_those_of_noise(ground: Ground) -> None:
    n = noise(40, 5, 4, 16, 16)
    ky, kx = disc(2.83, 16, 16)[1:].unbind(-1)
    strength = torch.fft.fft2(grounded(n, ground))[..., ky, kx].abs().square().mean() / 256
    assert float(strength) == pytest.approx(1, abs=0.2)


def test_what_no_frame_shows_is_the_noise_of_its_own_frame() -> None:
    ground = panning(3, 16, 40)  # no two frames show the same
    n = noise(3, 2, 16, 16)
    torch.testing.assert_close(grounded(n, ground), n, atol=1e-5, rtol=0)


def test_alone_or_in_a_batch_it_is_the_same() -> None:
    n = noise(3, 5, 4, 15, 16, dtype=torch.bfloat16)
    whole = grounded(n, rolling(5, 10))
    assert whole.dtype == torch.float32
    assert torch.equal(whole[1], grounded(n[1], rolling(5, 10)))


def test_another_number_of_frames_has_the_same_ends() -> None:
    five = panning(5, 16, 2)
    nine = five.over_time(9)
    assert nine.linear.shape == (9, 2, 2)
    torch.testing.assert_close(nine.shift[::2], five.shift.double())
    torch.testing.assert_close(nine.shift[1], five.shift[:2].double().mean(0))
    assert five.over_time(5) is five
    assert five.over_time(1).shift.tolist() == five.shift[:1].double().tolist()


def test_refusals() -> None:
    with pytest.raises(UsageError, match="5 latent frames"):
        grounded(noise(5, 1, 8, 8), still(1.0, 4))
    flat = Ground(1.0, torch.zeros(2, 2, 2), torch.zeros(2, 2))
    with pytest.raises(UsageError, match="flattens"):
        grounded(noise(2, 1, 8, 8), flat)


class TestInTheNoise:
    @pytest.mark.parametrize("shape", [(16, 16), (7, 7), (30, 45)])
    @pytest.mark.parametrize("share", [0.5, 1.5, 20.0])
    def test_every_plane_keeps_its_energy(self, shape: tuple[int, int], share: float) -> None:
        n, z = noise(2, 5, 4, *shape), noise(5, 4, *shape, seed=1)
        ground = panning(5, shape[1], 1, share)
        made = imprinted(n, phases(z, 2.83), 2.83, 3.0, 1.0, ground)
        assert made.isfinite().all()
        energy = made.square().sum((-2, -1)) / n.square().sum((-2, -1))
        torch.testing.assert_close(energy, torch.ones_like(energy), atol=1e-3, rtol=0)

    @pytest.mark.parametrize(
        ("ground", "lowest"), [(panning(5, 16, 1, 1.5), 1.5), (still(1.5, 5), 3.0)]
    )
    def test_it_is_added_to_the_phase(self, ground: Ground, lowest: float) -> None:
        """Before a camera that rests twice as much of the mean and the slopes."""
        n, z = noise(5, 4, 16, 16), noise(5, 4, 16, 16, seed=1)
        angles = phases(z, 2.83)
        ky, kx = disc(2.83, 16, 16).unbind(-1)

        def low(x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft2(x)[..., ky, kx]

        with_it, without = (
            imprinted(n, angles, 2.83, 3.0, 1.0, ground),
            imprinted(n, angles, 2.83, 3),
        )
        kappa = torch.where(torch.hypot(ky.float(), kx.float()) <= 1, lowest, 1.5)
        added = low(with_it) - low(without)
        torch.testing.assert_close(
            added, low(grounded(n, ground)) * kappa / math.sqrt(5), atol=1e-3, rtol=0
        )

    @pytest.mark.parametrize("ground", [None, still(0.0, 5)])
    def test_none_of_it_is_the_published_form(self, ground: Ground | None) -> None:
        n, angles = noise(5, 4, 16, 16), phases(noise(5, 4, 16, 16, seed=1), 2.83)
        assert torch.equal(
            imprinted(n, angles, 2.83, 2, 1.0, ground), imprinted(n, angles, 2.83, 2)
        )

    def test_no_strength_leaves_the_noise_alone(self) -> None:
        n, angles = noise(5, 4, 16, 16), phases(noise(5, 4, 16, 16, seed=1), 2.83)
        assert imprinted(n, angles, 2.83, 2, 0.0, still(1.5, 5)) is n

    def test_generations_of_another_length(self) -> None:
        stored = quantised(phases(noise(5, 4, 16, 16, seed=1), 2.83))
        change = imprinting(stored, 2.83, 3.0, ground=panning(5, 16, 2))
        assert change(noise(1, 9, 4, 16, 16)).shape == (1, 9, 4, 16, 16)
