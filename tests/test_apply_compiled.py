"""`pe apply --compile` and `generate(compile=True)`: the same motion, and everything put back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pe_toolkit import apply
from pe_toolkit.acceleration.compiling import compiled
from pe_toolkit.apply import generate
from pe_toolkit.cli import loading
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import DependencyError
from pe_toolkit.training import TrainConfig, train
from tests.tiny import moving_square, tiny_adapter


def card_of(adapter):
    config = TrainConfig(prompts=("a red circle",), samples=1, seed=3)
    return list(train(adapter, moving_square(), config))[-1].card


def blocks_of(adapter):
    return list(adapter.transformer.transformer_blocks)


def without_code(monkeypatch):
    """The graphs without code generation: a C++ compiler is not needed for these questions."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: real(*a, **{**k, "backend": "aot_eager"}))


def test_the_command_hands_it_on(tmp_path, monkeypatch):
    """Nothing is compiled here: what arrives at `generate` is looked at, by the real command."""
    adapter = tiny_adapter()
    card = card_of(adapter)
    card.save(tmp_path / "card.safetensors")
    seen, real = [], apply.generate

    def generating(*args, **kwargs):
        seen.append(kwargs.pop("compile"))
        return real(*args, **kwargs)

    monkeypatch.setattr("pe_toolkit.apply.generation.generate", generating)
    monkeypatch.setattr(loading, "load", lambda *args, **how: adapter)
    common = ["apply", str(tmp_path / "card.safetensors"), "--prompt", "a red circle", "--no-score"]
    for name, switches in (("a", ["--compile"]), ("b", [])):
        out = str(tmp_path / f"{name}.mp4")
        result = CliRunner().invoke(cli, [*common, "-o", out, *switches], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert seen == [True, False]


def test_blocks_are_compiled_meanwhile_and_put_back(monkeypatch):
    adapter = tiny_adapter()
    own = object()
    first, second, *_ = blocks_of(adapter)
    second._compiled_call_impl = own  # the user's
    with compiled(adapter.transformer, True):
        assert first._compiled_call_impl is not None
        assert second._compiled_call_impl is own
    assert first._compiled_call_impl is None
    assert second._compiled_call_impl is own
    with compiled(adapter.transformer, False):
        assert first._compiled_call_impl is None


def test_a_missing_compiler_is_named(monkeypatch):
    def no_compiler(graph, inputs):
        raise RuntimeError("Failed to find C compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: real(*a, **{**k, "backend": no_compiler}))
    adapter = tiny_adapter()
    with pytest.raises(DependencyError) as caught:
        list(generate(adapter, ["a red circle"], [3], steps=2, compile=True))
    assert "Failed to find C compiler" in caught.value.message
    assert "--compile" in (caught.value.hint or "")
    assert all(block._compiled_call_impl is None for block in blocks_of(adapter))


@pytest.mark.slow  # dynamo traces for half a minute
@pytest.mark.filterwarnings("ignore")  # of dynamo, about itself
@pytest.mark.parametrize("cache", ["none", "pab", "taylorseer", "first-block"])
def test_compiled_generations_are_the_same(monkeypatch, cache):
    without_code(monkeypatch)
    torch._dynamo.reset()
    adapter = tiny_adapter()
    card = card_of(adapter)
    videos = {}
    for on in (False, True):
        made = generate(
            adapter, ["a red circle"], [3, 4], card=card, steps=8, cache=cache, compile=on
        )
        videos[on] = [video.frames.astype(int) for video in made]
    for plain, fast in zip(videos[False], videos[True], strict=True):
        assert np.abs(plain - fast).max() <= 1
    assert all(block._compiled_call_impl is None for block in blocks_of(adapter))
    torch._dynamo.reset()
