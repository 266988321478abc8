"""NaN out of a network is an error that names the dtype to use, and never a black video."""

from __future__ import annotations

import pytest
import torch

from pe_toolkit.apply import applied, generate
from pe_toolkit.backbones import finite
from pe_toolkit.errors import BackboneError, TrainingError
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, PreviewFrames
from tests.tiny import FRAMES, SIDE, TOKENS, moving_square, tiny_adapter

CONFIG = TrainConfig(prompts=("a red circle",), samples=1, preview=True)


def broken(adapter, part):
    layer = {
        "transformer": adapter.pipe.transformer.proj_out,
        "decoder": adapter.pipe.vae.decoder.conv_out.conv,
        "encoder": adapter.pipe.vae.encoder.conv_out.conv,
    }[part]
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    return adapter


@pytest.mark.parametrize(("part", "name"), [("transformer", "transformer"), ("decoder", "VAE")])
def test_a_generation_is_refused(part, name):
    adapter = broken(tiny_adapter(), part)
    steps = []
    with pytest.raises(BackboneError, match=f"from the {name} in float32") as caught:
        list(generate(adapter, ["a red circle"], [1], on_step=lambda *at: steps.append(at)))
    assert caught.value.exit_code == 1
    assert len(steps) == (0 if part == "transformer" else 5)  # at once, not after all steps
    assert not adapter.pipe.vae.decoder._forward_hooks
    assert not adapter.pipe.vae.decoder._forward_pre_hooks


@pytest.mark.parametrize("part", ["transformer", "decoder"])
def test_a_pipeline_with_a_card_is_refused(part):
    adapter = tiny_adapter()
    card = list(train(adapter, moving_square(), CONFIG))[-1].card
    broken(adapter, part)
    with pytest.raises(BackboneError, match="Expected finite"), applied(adapter.pipe, card):
        adapter.pipe(
            prompt="a red circle", num_frames=FRAMES, width=SIDE, height=SIDE,
            num_inference_steps=5, max_sequence_length=TOKENS, output_type="pil",
        )  # fmt: skip


@pytest.mark.parametrize("part", ["transformer", "encoder", "decoder"])
def test_a_training_gives_neither_a_preview_nor_a_card(part):
    adapter = broken(tiny_adapter(), part)
    events = []
    with pytest.raises((BackboneError, TrainingError)):
        events.extend(train(adapter, moving_square(), CONFIG))
    assert not [e for e in events if isinstance(e, PreviewFrames | Finished)]


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (torch.float16, "--dtype bfloat16"),
        (torch.bfloat16, "--dtype float32"),
        (torch.float32, "LoRA"),
    ],
)
def test_the_dtype_that_works_is_named(dtype, advice):
    name = str(dtype).removeprefix("torch.")
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(BackboneError, match=f"the VAE in {name}") as caught:
            finite.check(torch.tensor([0.0, value], dtype=dtype), "VAE", dtype)
        assert advice in str(caught.value.hint)
    finite.check(torch.tensor([65504.0], dtype=dtype), "VAE", dtype)
