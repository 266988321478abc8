"""Compiled blocks save weights for the backward pass: those that leave before it are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from pe_toolkit.acceleration.quantize import quantize
from pe_toolkit.backbones.machine.offload import group_offload
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UnsupportedError
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from tests.tiny import moving_square, tiny_adapter


def fp8(pipe: Any) -> None:
    quantize(pipe.transformer, "fp8")


def cast(pipe: Any) -> None:  # a user's own: no float8 anywhere
    pipe.transformer.enable_layerwise_casting(
        storage_dtype=torch.bfloat16, compute_dtype=torch.float32
    )


def group(pipe: Any) -> None:
    group_offload(pipe, torch.device("cpu"))


def sequential(pipe: Any) -> None:
    from accelerate import cpu_offload

    cpu_offload(pipe.transformer, torch.device("cpu"))


def blocks(pipe: Any) -> None:
    for block in pipe.transformer.transformer_blocks:
        block.compile(backend="aot_eager")


def whole(pipe: Any) -> None:
    pipe.transformer = torch.compile(pipe.transformer, backend="aot_eager")


def in_place(pipe: Any) -> None:
    pipe.transformer.compile(backend="aot_eager")


def started(adapter: Any, **changes: Any) -> Any:
    """The first event of a training: every refusal comes before it, every compilation after."""
    config = TrainConfig(prompts=("a red circle",), samples=1, seed=3, **changes)
    return next(iter(train(adapter, moving_square(), config)))


@pytest.mark.parametrize(
    ("leave", "which"),
    [(fp8, "fp8"), (cast, "cast back"), (group, "group"), (sequential, "sequential")],
)
@pytest.mark.parametrize("checkpointing", ["auto", "on"])
def test_weights_that_leave_are_refused(leave: Any, which: str, checkpointing: str) -> None:
    adapter = tiny_adapter()
    leave(adapter.pipe)
    with pytest.raises(UnsupportedError, match=which) as caught:
        started(adapter, compile=True, checkpointing=checkpointing)
    assert "compiled blocks" in caught.value.message
    assert "Leave --compile out" in (caught.value.hint or "")
    assert started(adapter, checkpointing=checkpointing)  # without it they are trained on


@pytest.mark.parametrize("compiled", [blocks, whole, in_place])
def test_what_the_user_compiled_counts(compiled: Any) -> None:
    adapter = tiny_adapter()
    quantize(adapter.transformer, "fp8")
    compiled(adapter.pipe)
    with pytest.raises(UnsupportedError, match="fp8"):
        started(adapter)


def test_weights_that_stay_are_compiled() -> None:
    adapter = tiny_adapter()
    assert started(adapter, compile=True)
    adapter.pipe.enable_model_cpu_offload(device="cpu")
    assert started(adapter, compile=True)


def pe(tmp_path: Path, *words: str) -> Result:
    base = ("train", "missing.mp4", "-o", str(tmp_path / "c.safetensors"), "--backbone", "./none")
    return CliRunner().invoke(cli, [*base, *words])


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (("--quantize", "fp8"), "fp8"),
        (("--offload", "group"), "group"),
        (("--offload", "sequential"), "sequential"),
        (("--offload", "group", "--quantize", "fp8"), "fp8"),
    ],
)
def test_the_command_refuses_it_before_anything_is_read(
    tmp_path: Path, words: tuple[str, ...], which: str
) -> None:
    result = pe(tmp_path, *words, "--compile")
    assert result.exit_code == 2, result.stderr
    text = " ".join(result.stderr.split())
    assert text.startswith("Error: Expected weights that stay")
    assert which in text
    assert "Hint: Leave --compile out" in text
    alone = pe(tmp_path, *words)  # the reference is what is missing then
    assert "missing.mp4" in alone.stderr
    assert "missing.mp4" in pe(tmp_path, "--compile", "--offload", "model").stderr


def test_a_whole_graph_without_breaks_can_be_trained() -> None:
    """What reads queries leaves a block in its middle, which one graph of everything cannot."""
    adapter = tiny_adapter()
    whole = torch.compile(adapter.pipe.transformer, backend="aot_eager", fullgraph=True)
    adapter.pipe.transformer = whole
    config = TrainConfig(prompts=("a red circle",), samples=1, seed=3)
    *_, last = train(adapter, moving_square(), config)
    assert isinstance(last, Finished)
    assert adapter.pipe.transformer is whole
