"""CogVideoX, rotary and absolute, keeps the contract."""

from __future__ import annotations

from tests.backbones.contract import Contract
from tests.tiny import tiny_adapter


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
