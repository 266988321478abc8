"""Caches hook what they should, quantization refuses what it cannot, ratios belong to weights."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from diffusers import TaylorSeerCacheConfig

from pe_toolkit.acceleration import CACHES, caches, ratios
from pe_toolkit.acceleration.quantize import check, how_quantized, quantize
from pe_toolkit.apply import generate
from pe_toolkit.backbones import bundled
from pe_toolkit.errors import DependencyError, UnsupportedError, UsageError
from tests.tiny import tiny_adapter, tiny_pipe

TIMES = tuple(range(999, 0, -100))
PROMPT = "a red circle"


def hooks(transformer) -> int:
    return len(list(caches._hooks(transformer)))


def test_each_cache_hooks_the_transformer_and_goes():
    transformer = tiny_pipe().transformer
    blocks = len(transformer.transformer_blocks)
    counts = {"pab": blocks, "taylorseer": blocks + 1, "first-block": blocks, "mag": blocks}
    for name in CACHES[1:]:
        values = [1.0] * len(TIMES) if name == "mag" else None
        with caches.cached(transformer, name, caches.Schedule(TIMES), values) as count:
            assert count == counts[name] == hooks(transformer)
        assert hooks(transformer) == 0


def test_taylorseers_defaults_hook_nothing():
    """Why identifiers are passed; if this changes, ours may be simplified."""
    transformer = tiny_pipe().transformer
    transformer.enable_cache(TaylorSeerCacheConfig())
    assert hooks(transformer) == 0


def test_bad_requests_are_refused():
    transformer = tiny_pipe().transformer
    with pytest.raises(UsageError, match="out of none, pab"):
        caches.config_for("nope", caches.Schedule(TIMES))
    with pytest.raises(UnsupportedError, match="calibrated"):
        caches.config_for("mag", caches.Schedule(TIMES))
    with pytest.raises(UsageError, match="10 ratios"):
        caches.config_for("mag", caches.Schedule(TIMES), [1.0])
    with pytest.raises(UsageError, match="out of none, fp8"):
        quantize(transformer, "int3")
    if find_spec("torchao") is None:
        with pytest.raises(DependencyError, match="torchao"):
            check("int8")


def test_float8_is_stored_and_not_stacked():
    transformer = tiny_pipe().transformer
    assert how_quantized(transformer) is None
    quantize(transformer, "none")
    quantize(transformer, "fp8")
    assert how_quantized(transformer) == "fp8"
    assert transformer.proj_out.weight.dtype == torch.float32
    with pytest.raises(UnsupportedError, match="plain weights"):
        quantize(transformer, "fp8")


def test_ratios_are_exact_where_measured_and_multiply_up_in_between():
    row = {"timesteps": [900.0, 600.0, 300.0], "log_size": [0.0, -0.2, -0.8]}
    assert ratios.ratios_for(row, (900, 600, 300)) == pytest.approx([1, np.exp(-0.2), np.exp(-0.6)])
    fine = ratios.ratios_for(row, (999, 900, 750, 600, 450, 300, 10))
    assert np.prod(fine) == pytest.approx(np.exp(-0.8))
    assert fine[1] == fine[-1] == 1.0


def test_measured_ratios_are_those_of_the_residuals():
    adapter = tiny_adapter()
    transformer = adapter.transformer
    row = ratios.measure(transformer, lambda: list(generate(adapter, [PROMPT], [1], steps=4)))
    assert row["timesteps"] == sorted(row["timesteps"], reverse=True)
    assert len(row["timesteps"]) == 4
    assert row["log_size"][0] == 0
    assert any(row["log_size"])
    assert not transformer.transformer_blocks[-1]._forward_hooks


def test_shipped_ratios_belong_to_the_shipped_weights():
    for name in ("bundled", "bundled-absolute"):
        file = bundled.path(name) / "diffusion_pytorch_model.safetensors"
        digest = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
        row = ratios.load(name, digest)  # else: python -m benchmarks.caches --calibrate
        assert len(row["timesteps"]) == len(row["log_size"]) > 10
        with pytest.raises(UnsupportedError, match="that were calibrated"):
            ratios.load(name, "sha256:other")


def test_generate_counts_steps_and_takes_a_cache():
    adapter = tiny_adapter()
    seen = []
    exact = next(generate(adapter, [PROMPT], [1], steps=10, on_step=lambda *a: seen.append(a)))
    assert seen == [(i, 10) for i in range(1, 11)]
    made = list(generate(adapter, [PROMPT], [1, 1], steps=10, cache="taylorseer"))
    assert np.array_equal(made[0].frames, made[1].frames)  # nothing is left over from the first
    assert not np.array_equal(made[0].frames, exact.frames)
    assert hooks(adapter.transformer) == 0
