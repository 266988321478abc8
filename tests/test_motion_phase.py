"""The phase of a reference in the initial noise: analytic cases of the pure functions."""

from __future__ import annotations

import math

import pytest
import torch

from pe_toolkit.errors import UsageError
from pe_toolkit.motion.phase import disc, imprinted, over_time, phases, quantised, radians

SHAPES = [(16, 16), (15, 16), (9, 13), (30, 45)]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def wave(height: int, width: int, ky: int, kx: int, phase: float) -> torch.Tensor:
    """cos(2 pi (ky y / h + kx x / w) + phase): its FFT at (ky, kx) has that phase."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    return torch.cos(2 * math.pi * (ky * y + kx * x) + phase)


class TestDisc:
    def test_half_of_a_disc(self) -> None:
        rows = [tuple(f) for f in disc(2.83, 16, 16).tolist()]
        assert rows[0] == (0, 0)
        assert len(rows) == 13  # 25 frequencies: the mean, and 12 with their conjugates
        whole = {*rows, *((-y, -x) for y, x in rows)}
        inside = {(y, x) for y in range(-8, 9) for x in range(-8, 9) if y * y + x * x <= 2.83**2}
        assert whole == inside
        lengths = [y * y + x * x for y, x in rows]
        assert lengths == sorted(lengths)

    def test_the_mean_alone(self) -> None:
        assert disc(0, 4, 4).tolist() == [[0, 0]]

    @pytest.mark.parametrize("radius", [-1, math.nan, math.inf, 8, 20])
    def test_refusals(self, radius: float) -> None:
        with pytest.raises(UsageError, match="Expected a radius"):
            disc(radius, 16, 32)


class TestPhases:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("turn", [-2.0, 0.0, 0.3, 3.0])
    def test_of_a_wave(self, shape: tuple[int, int], turn: float) -> None:
        angles = phases(wave(*shape, 1, 2, turn), 3)
        at = disc(3, *shape).tolist().index([1, 2])
        assert angles[at] == pytest.approx(turn, abs=1e-4)

    def test_the_mean_is_real(self) -> None:
        planes = torch.stack([torch.full((8, 8), 2.0), torch.full((8, 8), -2.0)])
        assert phases(planes, 0)[:, 0].abs().tolist() == pytest.approx([0, math.pi])

    def test_moving_the_picture_turns_the_phase(self) -> None:
        """What makes it carry motion: a shift by s pixels is a turn of -2 pi k s / w."""
        plane = noise(16, 16)
        before, after = phases(plane, 2), phases(plane.roll(3, dims=-1), 2)
        wanted = before - 2 * math.pi * disc(2, 16, 16)[:, 1] * 3 / 16
        assert torch.allclose(
            torch.polar(torch.ones(7), after), torch.polar(torch.ones(7), wanted), atol=1e-4
        )

    def test_eight_bits(self) -> None:
        angles = torch.linspace(-math.pi, math.pi, 1000)
        back = radians(quantised(angles))
        off = torch.remainder(back - angles + math.pi, 2 * math.pi) - math.pi
        assert off.abs().max() <= math.pi / 256 + 1e-5
        assert quantised(torch.tensor([0.0, math.pi, -math.pi])).tolist() == [0, 128, 128]


class TestImprinted:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("gamma", [1.0, 2.0, 30.0])
    def test_phase_and_energy(self, shape: tuple[int, int], gamma: float) -> None:
        n, z = noise(2, 3, 4, *shape), noise(3, 4, *shape, seed=1)
        made = imprinted(n, phases(z, 3), 3, gamma)
        assert made.shape == n.shape
        assert made.dtype == n.dtype
        assert torch.allclose(made.square().sum((-2, -1)), n.square().sum((-2, -1)), rtol=1e-4)
        ky, kx = disc(3, *shape).unbind(-1)
        got = torch.fft.fft2(made)[..., ky, kx]
        want = torch.polar(
            torch.fft.fft2(n)[..., ky, kx].abs() / gamma, phases(z, 3).expand(2, -1, -1, -1)
        )
        assert torch.allclose(got, want, atol=2e-3)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_what_is_outside_keeps_its_phase(self, shape: tuple[int, int]) -> None:
        n, z = noise(1, 1, *shape), noise(1, 1, *shape, seed=1)
        a, b = torch.fft.fft2(n), torch.fft.fft2(imprinted(n, phases(z, 1), 1, 2))
        outside = torch.ones(shape, dtype=torch.bool)
        for ky, kx in disc(1, *shape).tolist():
            outside[ky, kx] = outside[-ky, -kx] = False
        ratio = (b / a)[..., outside]
        assert torch.allclose(ratio.imag, torch.zeros(()), atol=1e-3)
        assert ratio.real.std() < 1e-3
        assert (ratio.real > 1).all()  # it makes up for what the disc lost

    def test_the_mean_can_be_left_to_the_noise(self) -> None:
        n, z = noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
        bears, left = (imprinted(n, phases(z, 2), 2, 3, mean=mean) for mean in (True, False))
        assert torch.allclose(left.mean((-2, -1)), n.mean((-2, -1)), atol=1e-6)
        assert not torch.allclose(bears.mean((-2, -1)), n.mean((-2, -1)), atol=1e-3)
        a, b = (torch.fft.fft2(x)[..., 1, 1] for x in (bears, left))
        assert torch.allclose(a, b, atol=1e-4)  # nothing else inside of the disc
        assert torch.allclose(left.square().sum((-2, -1)), n.square().sum((-2, -1)), rtol=1e-4)

    def test_its_own_phase_changes_nothing_at_gamma_1(self) -> None:
        n = noise(2, 3, 16, 16)
        assert torch.allclose(imprinted(n, phases(n, 3), 3, 1), n, atol=1e-5)

    def test_off_is_bit_for_bit(self) -> None:
        n = noise(2, 3, 16, 16)
        assert imprinted(n, phases(noise(2, 3, 16, 16, seed=1), 3), 3, 2, strength=0) is n

    def test_half_strength_goes_half_the_shorter_way(self) -> None:
        n = wave(16, 16, 0, 1, 3.0)[None, None] + noise(1, 1, 16, 16) * 0.01
        at = disc(1, 16, 16).tolist().index([0, 1])
        made = imprinted(n, phases(wave(16, 16, 0, 1, -3.0), 1)[None, None], 1, 1, strength=0.5)
        off = torch.remainder(phases(made, 1)[0, 0, at], 2 * math.pi)
        assert float(off) == pytest.approx(math.pi, abs=0.02)  # from 3 to -3 leads over pi, not 0

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_dtypes(self, dtype: torch.dtype) -> None:
        n, z = noise(2, 3, 16, 16, dtype=dtype), noise(2, 3, 16, 16, seed=1)
        made = imprinted(n, phases(z, 2), 2, 2)
        assert made.dtype == dtype
        assert torch.allclose(made.float(), imprinted(n.float(), phases(z, 2), 2, 2), atol=2e-2)

    def test_refusals(self) -> None:
        n, angles = noise(2, 3, 16, 16), phases(noise(2, 3, 16, 16, seed=1), 2)
        with pytest.raises(UsageError, match="Expected phases of shape"):
            imprinted(n, angles[:1], 2, 2)
        with pytest.raises(UsageError, match="Expected phases of shape"):
            imprinted(n, angles, 3, 2)
        with pytest.raises(UsageError, match="gamma of the phase above 0"):
            imprinted(n, angles, 2, 0)
        with pytest.raises(UsageError, match="leaves the noise its energy"):
            imprinted(n, angles, 2, 1e-3)


class TestOverTime:
    def test_the_same_number_is_the_same(self) -> None:
        angles = noise(5, 2, 3)
        assert over_time(angles, 5) is angles

    def test_ends_stay_and_between_is_between(self) -> None:
        angles = torch.linspace(0, 2.0, 5)[:, None, None].expand(5, 2, 3)
        made = over_time(angles, 9)
        assert torch.allclose(made[:, 0, 0], torch.linspace(0, 2.0, 9), atol=1e-5)

    def test_across_the_turn(self) -> None:
        made = over_time(torch.tensor([3.0, -3.0])[:, None, None], 3)
        assert abs(float(made[1])) == pytest.approx(math.pi, abs=1e-5)

    def test_refusal(self) -> None:
        with pytest.raises(UsageError, match="at least one latent frame"):
            over_time(noise(5, 2, 3), 0)
