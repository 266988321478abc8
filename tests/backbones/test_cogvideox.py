"""CogVideoX, rotary, absolute and 1.5, keeps the contract."""

from __future__ import annotations

from pe_toolkit.backbones import CogVideoXAdapter
from tests.backbones.contract import Contract
from tests.tiny import tiny_adapter, tiny_pipe, tiny_variant


class TestRotary(Contract):
    def make(self):
        return tiny_adapter("rotary")


class TestAbsolute(Contract):
    def make(self):
        return tiny_adapter("absolute")


class TestDpm(Contract):
    """A scheduler that remembers a step and draws noise at every one."""

    def make(self):
        return tiny_adapter("rotary", "dpm")


class TestOneFive(Contract):
    """Two latent frames in a token, and a latent frame of padding in front."""

    def make(self):
        return CogVideoXAdapter(tiny_pipe(patch_size_t=2), tiny_variant())
