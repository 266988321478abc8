"""Noise that keeps a phase where a scheduler draws its own at every step."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, DDPMScheduler

from pe_toolkit.backbones.cogvideox.drawing import fresh, redraw, restore
from pe_toolkit.motion.phase import disc
from pe_toolkit.motion.renewed import renewed, renewing

RADIUS, SHAPE = 1.5, (2, 3, 4, 9, 8)
# As the schedulers of CogVideoX are published: it begins with pure noise.
PUBLISHED = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True,
}  # fmt: skip


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inside(planes: torch.Tensor) -> torch.Tensor:
    ky, kx = disc(RADIUS, *planes.shape[-2:]).unbind(-1)
    return torch.fft.fft2(planes)[..., ky, kx]


def outside(planes: torch.Tensor) -> torch.Tensor:
    ky, kx = disc(RADIUS, *planes.shape[-2:]).unbind(-1)
    spectrum = torch.fft.fft2(planes)
    spectrum[..., ky, kx] = spectrum[..., -ky, -kx] = 0
    return torch.fft.ifft2(spectrum).real


@pytest.mark.parametrize("part", [1e-3, 0.3, 0.9, 1.0])
def test_the_disc_stays_and_the_rest_is_new(part: float) -> None:
    began, drawn = noise(1), noise(2)
    began[:, 1] *= 0.5  # a plane that is weaker than the others
    made = renewed(drawn, began, part, RADIUS)
    after = (1 - part**2) ** 0.5 * began + part * made
    torch.testing.assert_close(inside(after), inside(began), rtol=1e-9, atol=1e-9)
    # Outside, the drawn noise, one factor a plane: with the disc at its full strength, the plane
    # would have the energy of the drawn one.
    factor = outside(made).flatten(-2) / outside(drawn).flatten(-2)
    assert float((factor.std(-1) / factor.mean(-1)).max()) < 1e-6
    whole = renewed(drawn, began, 1.0, RADIUS).square().sum((-2, -1))
    torch.testing.assert_close(whole, drawn.square().sum((-2, -1)))


def test_what_is_not_used_and_other_dtypes() -> None:
    assert renewed(noise(2), noise(1), 0.0, RADIUS).isfinite().all()
    half = renewed(noise(2).bfloat16(), noise(1).bfloat16(), 0.5, RADIUS)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(
        half.double(), renewed(noise(2), noise(1), 0.5, RADIUS), rtol=0.02, atol=0.02
    )


def dpm(steps: int = 8) -> CogVideoXDPMScheduler:
    scheduler = CogVideoXDPMScheduler(**PUBLISHED)
    scheduler.set_timesteps(steps)
    return scheduler


def denoised(scheduler: CogVideoXDPMScheduler, began: torch.Tensor, x: torch.Tensor, seed: int):
    """Steps with a model that knows the clean latents `x`; after each, what noise there is."""
    z, old, generator = began, None, torch.Generator().manual_seed(seed)
    times = list(scheduler.timesteps)
    found = []
    for index, t in enumerate(times):
        a = scheduler.alphas_cumprod[int(t)].double()
        epsilon = (z - a.sqrt() * x) / (1 - a).sqrt()
        output = a.sqrt() * epsilon - (1 - a).sqrt() * x
        z, old = scheduler.step(
            output, old, t, times[index - 1] if index else None, z, generator=generator,
            return_dict=False,
        )  # fmt: skip
        if index + 1 < len(times):
            a = scheduler.alphas_cumprod[int(times[index + 1])].double()
            found.append((z - a.sqrt() * x) / (1 - a).sqrt())
    return z, found, generator.get_state()


def test_the_noise_of_a_generation_keeps_its_disc_through_all_steps() -> None:
    began, x = noise(1), noise(5)
    plain_z, plain, plain_state = denoised(dpm(), began, x, 7)
    # As it is, the first step leaves nothing of what the generation began with.
    first = inside(plain[0])
    assert float((first * inside(began).conj()).real.sum() / first.abs().square().sum()) < 0.3
    scheduler = dpm()
    ended: list[int] = []
    redraw(scheduler, renewing(RADIUS), began, lambda: ended.append(1))
    z, found, state = denoised(scheduler, began, x, 7)
    assert ended == [1]
    assert len(found) == 7
    for epsilon in found:
        torch.testing.assert_close(inside(epsilon), inside(began), rtol=1e-4, atol=1e-3)
        assert 0.8 < float(outside(epsilon).std() / outside(began).std()) < 1.2
    # What is outside is as new as ever, and the generator went on as ever.
    similar = float((outside(found[-1]) * outside(plain[-1])).sum() / plain[-1].square().sum())
    assert similar > 0.6
    assert torch.equal(state, plain_state)
    torch.testing.assert_close(z, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain_z, x, rtol=1e-4, atol=1e-4)


def test_other_schedulers_of_the_class_draw_as_ever() -> None:
    began, x = noise(1), noise(5)
    plain = denoised(dpm(), began, x, 7)
    changed, other = dpm(), dpm()
    redraw(changed, renewing(RADIUS), began)
    assert torch.equal(denoised(other, began, x, 7)[1][3], plain[1][3])
    # A pipeline asks for these before it passes a generator.
    assert {"generator", "timestep"} < set(inspect.signature(changed.step).parameters)
    # Nor are generations of another size its own.
    assert torch.equal(
        denoised(changed, began[:1], x[:1], 7)[1][3], denoised(dpm(), began[:1], x[:1], 7)[1][3]
    )
    # A copy acts on itself.
    copied = copy.deepcopy(changed)
    copied.set_timesteps(4)
    assert len(denoised(copied, began, x, 7)[1]) == 3
    restore(copied)
    assert "step" not in copied.__dict__
    assert "step" in changed.__dict__
    restore(changed)
    assert torch.equal(denoised(changed, began, x, 7)[1][3], plain[1][3])


class Another(CogVideoXDPMScheduler):
    """As people write them."""

    def step(self, *args, **options):  # type: ignore[no-untyped-def]
        return super().step(*args, **options)


def test_a_step_of_the_users_own_is_left_alone_and_warned_of() -> None:
    scheduler, calls = dpm(), []
    own = scheduler.step

    def counted(*args, **options):  # type: ignore[no-untyped-def]
        calls.append(1)
        return own(*args, **options)

    scheduler.step = counted
    with pytest.warns(UserWarning, match="the card's phase gets lost"):
        redraw(scheduler, renewing(RADIUS), noise(1))
    denoised(scheduler, noise(1), noise(5), 7)
    assert len(calls) == 8
    restore(scheduler)
    assert scheduler.step is counted
    with pytest.warns(UserWarning, match="Another draws noise at every step"):
        redraw(Another(**PUBLISHED), renewing(RADIUS), noise(1))


def test_the_share_of_a_step() -> None:
    scheduler = dpm()
    times = [int(t) for t in scheduler.timesteps]
    parts = [fresh(scheduler, t) for t in times]
    assert parts[0] == 1
    assert all(0 < part <= 1 for part in parts)
    now, then = (float(scheduler.alphas_cumprod[t]) for t in times[3:5])
    h = 0.5 * torch.log(torch.tensor(then / (1 - then) / (now / (1 - now)), dtype=torch.float64))
    assert parts[3] == pytest.approx(float((1 - torch.exp(-2 * h)).sqrt()), rel=1e-5)


def test_schedulers_that_draw_nothing_are_left_alone_and_others_warned_of() -> None:
    z, out = noise(1).float(), noise(2).float()
    still = CogVideoXDDIMScheduler(**PUBLISHED)
    still.set_timesteps(8)
    expected = still.step(out, 900, z).prev_sample
    redraw(still, renewing(RADIUS), z)
    assert torch.equal(still.step(out, 900, z).prev_sample, expected)
    draws = DDPMScheduler()
    expected = draws.step(out, 900, z, generator=torch.Generator().manual_seed(1)).prev_sample
    redraw(draws, renewing(RADIUS), z)
    with pytest.warns(UserWarning, match="DDPMScheduler draws noise at every step"):
        found = draws.step(out, 900, z, generator=torch.Generator().manual_seed(1)).prev_sample
    assert torch.equal(found, expected)
