"""A second family keeps the contract: nothing above `backbones` knows the first one only."""

from __future__ import annotations

import pytest
import torch

from pe_toolkit.backbones.families import FAMILIES
from tests.backbones.contract import PROMPT, Contract
from tests.backbones.wan import LINE, WanBackbone, tiny_wan, wan_row


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch):
    monkeypatch.setitem(FAMILIES, "wan", LINE)


class TestWan(Contract):
    def make(self):
        return WanBackbone(tiny_wan(), wan_row())

    def test_the_noise_level_is_the_noises_share_of_the_amplitude(self, backbone):
        scheduler = backbone.pipe.scheduler
        scheduler.set_timesteps(7)
        clean, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        for t in scheduler.timesteps:
            signal, share = scheduler.scale_noise(clean, t[None], noise)[0].tolist()
            level = share / (signal**2 + share**2) ** 0.5
            assert backbone.noise_level(int(t)) == pytest.approx(level, abs=2e-3)

    def test_latents_have_the_layout_of_the_contract_and_not_its_own(self, backbone):
        own = backbone.pipe(
            PROMPT, num_frames=9, width=64, height=64, num_inference_steps=1,
            max_sequence_length=8, output_type="latent",
        ).frames  # fmt: skip
        assert own.shape == (1, 16, 3, 8, 8)
        assert self.sampler(backbone, [PROMPT], [3]).latents.shape == (1, 3, 16, 8, 8)
