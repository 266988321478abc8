"""What `pe apply` suggests when memory runs out while it decodes."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from pe_toolkit.backbones.cogvideox import tiling
from pe_toolkit.cli import loading
from pe_toolkit.cli.errors import Session, describe
from pe_toolkit.cli.main import cli
from pe_toolkit.training import TrainConfig, train
from tests.tiny import moving_square, tiny_adapter


@pytest.mark.parametrize("tiled", [False, True])
def test_tiles_are_the_first_thing_to_try_where_there_are_none(tmp_path, monkeypatch, tiled):
    adapter = tiny_adapter()
    if tiled:
        tiling.enable(adapter.pipe.vae)
    config = TrainConfig(prompts=("a red circle",), samples=1, seed=3)
    list(train(adapter, moving_square(), config))[-1].card.save(tmp_path / "c.safetensors")

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("tried to allocate 12 GiB")

    monkeypatch.setattr(adapter.pipe.vae, "decode", full)
    monkeypatch.setattr(loading, "load", lambda *args, **how: adapter)
    result = CliRunner().invoke(
        cli,
        [
            "apply", str(tmp_path / "c.safetensors"), "--prompt", "a red circle", "--no-score",
            "-o", str(tmp_path / "out.mp4"),
        ],
    )  # fmt: skip
    assert result.exit_code == 1
    hint = " ".join(result.stderr.split("Hint: ")[1].split())
    assert hint.startswith("Try --vae-tiling, ") == (not tiled)
    assert "--backbone" in hint


def test_other_switches_follow():
    session = Session(untiled=True, gpu=True, quantize="none", offload="model")
    hint = describe(torch.OutOfMemoryError("CUDA"), session)[1]
    assert hint == "Try --vae-tiling, --offload group, --quantize fp8, or a smaller --backbone."
    session = Session(untiled=True, gpu=True, quantize="none", offload="none")
    hint = describe(torch.OutOfMemoryError("CUDA"), session)[1]
    assert hint == "Try --vae-tiling, --offload model, or a smaller --backbone."
