"""What training keeps in memory, and the switches that make it keep less without changing a bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import CpuOffload, add_hook_to_module
from torch.utils.checkpoint import CheckpointPolicy

from pe_toolkit.acceleration.quantize import quantize
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.machine import checkpointing as memory
from pe_toolkit.backbones.machine import offload, recompute
from pe_toolkit.backbones.machine.offload import group_offload
from pe_toolkit.backbones.machine.recompute import kept_bytes
from pe_toolkit.errors import TrainingError, UnsupportedError
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, GuidedStep, InnerStep
from tests.fake import Operations
from tests.tiny import FRAMES, SIDE, moving_square, tiny_adapter

CONFIG = TrainConfig(prompts=("a red circle", "a blue square"), recipe="default", seed=3)


def finished(adapter, **changes):
    events = list(train(adapter, moving_square(), dataclasses.replace(CONFIG, **changes)))
    assert isinstance(events[-1], Finished)
    return events[-1].card


def kept(adapter, blocks, dtype, *, rotary):
    """Bytes that autograd keeps for the first `blocks` blocks and the tap, weights left out."""
    transformer = adapter.transformer.to(dtype).requires_grad_(False)
    weights = {p.untyped_storage().data_ptr() for p in transformer.parameters()}
    seen: dict[int, int] = {}
    alive = []  # or a freed storage could come back under the same address

    def pack(tensor):
        alive.append(tensor)
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    latents = torch.randn(1, *adapter.latent_shape(FRAMES, SIDE, SIDE), dtype=dtype)
    text = torch.randn(1, 8, 16, dtype=dtype)
    form = adapter.form("angle" if rotary else "table", FRAMES, SIDE, SIDE)
    delta = torch.zeros(form.shape, requires_grad=True)
    value = form.embed(delta)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        hooks.positions(transformer, adapter.positions, lambda _: value),
    ):
        adapter.queries_and_keys(latents, text, 500, blocks, None)
    return sum(size for place, size in seen.items() if place not in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_the_estimate_counts_what_autograd_keeps(positions, dtype):
    adapter = tiny_adapter(positions)
    rotary = positions == "rotary"
    adapter.transformer.to(dtype)
    # The difference of two depths: one block, without embeddings and the tap.
    one = kept(adapter, 2, dtype, rotary=rotary) - kept(adapter, 1, dtype, rotary=rotary)
    unit = memory.unit_bytes(adapter, adapter.grid.tokens)

    def expected(blocks, level):
        return kept_bytes(unit, dtype.itemsize, blocks, rotary=rotary, level=level)

    estimate = expected(2, "off") - expected(1, "off")
    assert estimate == pytest.approx(one, rel=0.15)
    assert expected(2, "on") < expected(2, "off") / 10
    assert expected(2, "on") < expected(2, "partly") < expected(2, "off") / 3
    assert expected(2, "partly") < expected(2, "little") < expected(2, "off") / 1.7


def test_auto_asks_the_free_memory(monkeypatch):
    adapter = tiny_adapter()
    asked = (adapter, adapter.grid.tokens, 1)
    for choice, level in [*zip(recompute.LEVELS, recompute.LEVELS, strict=True), ("auto", "off")]:
        assert memory.checkpointing_level(choice, *asked, rotary=True) == level  # a CPU
    assert memory.checkpointing_level("partly", *asked, rotary=True, compiled=True) == "on"
    assert memory.free_bytes(torch.device("cpu")) is None
    unit = memory.unit_bytes(adapter, adapter.grid.tokens)
    for units, level in ((1000, "off"), (26, "little"), (15, "partly"), (8, "on")):
        monkeypatch.setattr(memory, "free_bytes", lambda _, units=units: units * unit)
        assert memory.checkpointing_level("auto", *asked, rotary=True) == level
        at_least = "off" if level == "off" else "on"
        assert memory.checkpointing_level("auto", *asked, rotary=True, compiled=True) == at_least
    block = adapter.transformer.transformer_blocks[1]
    block._compiled_call_impl = object()  # the user's `block.compile()`
    assert memory.checkpointing_level("partly", *asked, rotary=True) == "on"
    block._compiled_call_impl = None
    quantize(adapter.transformer, "fp8")
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000 * unit)
    assert memory.checkpointing_level("auto", *asked, rotary=True) == "little"


def test_a_cap_on_the_process_counts_as_full(monkeypatch):
    gib = 2**30
    for name, value in {
        "mem_get_info": (130 * gib, 140 * gib),
        "memory_allocated": 8 * gib,
        "memory_reserved": 9 * gib,
        "get_per_process_memory_fraction": 0.125,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    assert memory.free_bytes(torch.device("cuda", 0)) == int(9.5 * gib)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)
    assert memory.free_bytes(torch.device("cuda", 0)) == 131 * gib


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_checkpointing_changes_no_bit_and_is_put_back(positions):
    cards = []
    for choice in recompute.LEVELS:
        adapter = tiny_adapter(positions)
        cards.append(finished(adapter, checkpointing=choice).tensors["positions"])
        assert not adapter.transformer.gradient_checkpointing
    assert all(np.array_equal(cards[0], other) for other in cards[1:])

    def own(block, *args):
        return block(*args)

    adapter.transformer.enable_gradient_checkpointing(own)
    for level in recompute.LEVELS:
        with memory.checkpointed(adapter.transformer, level):
            assert adapter.transformer.gradient_checkpointing == (level != "off")
            assert adapter.transformer._gradient_checkpointing_func is not own
        assert adapter.transformer.gradient_checkpointing
        assert adapter.transformer._gradient_checkpointing_func is own


@pytest.mark.parametrize("level", recompute.LEVELS)
def test_what_is_recomputed_at_each_level(level):
    """`train_flops` and KEPT say so; with frozen weights no other matrix is in a forward pass."""
    adapter, block = tiny_adapter(), 2
    transformer = adapter.transformer.requires_grad_(False)
    form = adapter.form("angle", FRAMES, SIDE, SIDE)
    delta = torch.zeros(form.shape, requires_grad=True)
    latents = torch.randn(1, *adapter.latent_shape(FRAMES, SIDE, SIDE))
    with (
        memory.checkpointed(transformer, level),
        hooks.positions(transformer, adapter.positions, lambda _: form.embed(delta)),
        Operations() as counted,
    ):
        q, k = adapter.queries_and_keys(latents, torch.randn(1, 8, 16), 500, block, None)
        before = counted.attention, counted.addmm
        (q * k).sum().backward()
    again = counted.attention - before[0], counted.addmm - before[1]
    tokens, width = adapter.grid.tokens + 8, 32
    of_blocks = block * 24 * tokens * width**2  # q, k, v, out: 8; feed-forward: 16
    share = {"off": 0.0, "little": 1 / 3, "partly": 2 / 3, "on": 1.0}[level]
    assert before[0] == block
    assert again[0] == (block if level == "on" else 0)
    # The two norms of a block turn the time embedding (one token) into shifts, scales and gates.
    assert again[1] == pytest.approx(share * of_blocks, rel=0.1, abs=1)
    assert delta.grad.abs().sum() > 0


def test_what_is_worth_keeping_goes_by_operator_and_shape():
    def kept(op, *shapes, level="partly"):
        policy = memory._keep(level, None, op, *(torch.empty(shape) for shape in shapes))
        return policy is CheckpointPolicy.MUST_SAVE

    aten = torch.ops.aten
    wide, hidden, narrow = (7, 128), (7, 512), (7, 8)
    assert kept(aten.addmm.default, (128,), hidden, (512, 128))  # the feed-forward's second
    assert kept(aten.mm.default, hidden, (512, 128))  # the same with weights of 8 bits
    assert not kept(aten.addmm.default, (512,), wide, (128, 512))
    assert kept(aten.addmm.default, (512,), wide, (128, 512), level="little")
    assert not kept(aten.mm.default, narrow, (8, 128), level="little")  # a LoRA's second
    assert not kept(aten.addmm.default, (128,), wide, (128, 128), level="little")
    assert not kept(aten.addmm.default, (128,), wide, (128, 128))
    assert not kept(aten.mm.default, wide, (128, 8))  # a LoRA's first
    assert not kept(aten.mm.default, narrow, (8, 128))
    assert not kept(aten.mul.Tensor, wide, wide)


@pytest.mark.parametrize("kind", ["fp8", "group", "model", "kv"])
def test_no_level_changes_a_bit_where_weights_leave_either(kind):
    cards = []
    for choice in ("on", "partly", "little"):
        adapter = tiny_adapter()
        if kind == "fp8":
            quantize(adapter.transformer, "fp8")
        elif kind == "group":
            group_offload(adapter.pipe, torch.device("cpu"))
        elif kind == "model":
            adapter.pipe.enable_model_cpu_offload(device="cpu")
        cards.append(finished(adapter, checkpointing=choice, kv=kind == "kv").tensors["positions"])
    assert all(np.array_equal(cards[0], other) for other in cards[1:])


@pytest.mark.slow  # dynamo traces for half a minute
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # asked for by dynamo itself
def test_compiled_blocks_learn_the_same_and_are_put_back(monkeypatch):
    # The graphs without code generation: a C++ compiler is not needed for this question.
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *a, **k: compile_(*a, **{**k, "backend": "aot_eager"})
    )
    plain = finished(tiny_adapter())
    adapter = tiny_adapter()
    card = finished(adapter, compile=True, checkpointing="on")
    assert all(b._compiled_call_impl is None for b in adapter.transformer.transformer_blocks)
    want, got = plain.spec.training.loss, card.spec.training.loss
    assert np.asarray(got) == pytest.approx(np.asarray(want), rel=1e-3)


def test_parked_leaves_alone_what_is_there_or_hooked():
    pipe = tiny_adapter().pipe
    with offload.parked(pipe, ("text_encoder", "vae", "nothing")):
        assert next(pipe.vae.parameters()).device.type == "cpu"
    pipe.vae._hf_hook = object()
    assert offload._hooked(pipe.vae)
    assert not offload._hooked(pipe.text_encoder)


class Sending(CpuOffload):
    """The hook of `enable_model_cpu_offload`; counts how often it sends its module away."""

    sent = 0

    def init_hook(self, module):
        self.sent += 1
        return super().init_hook(module)


def test_parked_sends_away_what_model_offloading_would_leave_until_the_next_part_is_called():
    pipe = tiny_adapter().pipe
    hook = Sending("cpu")
    add_hook_to_module(pipe.text_encoder, hook)
    before = hook.sent
    with offload.parked(pipe, ("text_encoder",)):  # it is away already: on the CPU
        assert hook.sent == before
    with offload.parked(pipe, ("text_encoder",), away="elsewhere"):
        assert hook.sent == before + 1
        assert next(pipe.text_encoder.parameters()).device.type == "cpu"
    assert hook.sent == before + 1


def test_a_training_with_model_offload_leaves_nothing_on_the_gpu():
    """Or the text encoder of what comes next would be brought in beside the transformer."""
    adapter = tiny_adapter()
    hooks_ = {}
    for name in ("text_encoder", "transformer", "vae"):
        hooks_[name] = Sending("cpu")
        add_hook_to_module(getattr(adapter.pipe, name), hooks_[name])
    before = {name: hook.sent for name, hook in hooks_.items()}
    run = train(adapter, moving_square(), CONFIG)
    for event in run:
        if isinstance(event, GuidedStep):
            break
    assert hooks_["transformer"].sent == before["transformer"]  # at work until the end
    run.close()
    assert all(hook.sent > before[name] for name, hook in hooks_.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_one_part_after_the_other_is_on_the_gpu_in_a_training_with_model_offload():
    adapter = tiny_adapter()
    adapter.pipe.enable_model_cpu_offload(device="cuda")
    there = {}
    for event in train(adapter, moving_square(), TrainConfig(samples=1, recipe="default", steps=5)):
        if isinstance(event, GuidedStep):
            parts = ("text_encoder", "transformer", "vae")
            there = {n: next(getattr(adapter.pipe, n).parameters()).device.type for n in parts}
    assert there == {"text_encoder": "cpu", "transformer": "cuda", "vae": "cpu"}


def test_group_offload_brings_what_is_called():
    """Weights come with a module's `forward`; a VAE is called by `encode` and `decode`."""
    plain, adapter = tiny_adapter(), tiny_adapter()
    group_offload(adapter.pipe, torch.device("cpu"))

    def hooked(module):
        return [m for m in module.modules() if getattr(m, "_diffusers_hook", None) is not None]

    assert not hooked(adapter.pipe.vae)
    blocks = adapter.transformer.transformer_blocks
    assert set(blocks) <= set(hooked(adapter.transformer))
    layers = [m for m in adapter.pipe.text_encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert set(layers) <= set(hooked(adapter.pipe.text_encoder))
    cards = [finished(a).tensors["positions"] for a in (plain, adapter)]
    assert np.allclose(*cards, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parked_moves_away_and_back():
    pipe = tiny_adapter().pipe.to("cuda")
    with offload.parked(pipe, ("text_encoder", "vae")):
        assert next(pipe.vae.parameters()).device.type == "cpu"
        assert next(pipe.transformer.parameters()).device.type == "cuda"
    assert next(pipe.vae.parameters()).device.type == "cuda"


def gradient(adapter):
    """Of an arbitrary loss at block 2, to the positions."""
    transformer = adapter.transformer.requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    shape = adapter.latent_shape(FRAMES, SIDE, SIDE)
    latents = torch.randn(1, *shape, generator=generator)
    text = torch.randn(1, 8, 16, generator=generator)
    form = adapter.form("angle", FRAMES, SIDE, SIDE)
    delta = torch.zeros(form.shape, requires_grad=True)
    with hooks.positions(transformer, "rotary", lambda _: form.embed(delta)):
        q, k = adapter.queries_and_keys(latents, text, 500, 2, None)
        (q * k.roll(1, 2)).sum().backward()
    return delta.grad


def test_float8_weights_have_the_gradients_of_the_rounded_weights():
    rounded, small = tiny_adapter(), tiny_adapter()
    quantize(small.transformer, "fp8")
    names = dict(small.transformer.named_parameters())
    for name, weight in rounded.transformer.named_parameters():
        weight.data = names[name].data.to(weight.dtype)
    small.transformer.enable_gradient_checkpointing()
    assert names["transformer_blocks.0.ff.net.2.weight"].dtype == torch.float8_e4m3fn
    assert torch.equal(gradient(small), gradient(rounded))


def test_weights_that_leave_after_the_forward_pass_are_checkpointed():
    """As group offloading does on a GPU: between two uses of a block its weights are elsewhere."""
    want = gradient(tiny_adapter())
    adapter = tiny_adapter()
    adapter.transformer.enable_gradient_checkpointing()
    for block in adapter.transformer.transformer_blocks:
        home = {name: p.data.clone() for name, p in block.named_parameters()}

        def bring(module, args, home=home):
            for name, p in module.named_parameters():
                p.data = home[name].clone()

        def take(module, args, output):
            for p in module.parameters():
                p.data = torch.full_like(p.data, float("nan"))

        block.register_forward_pre_hook(bring)
        block.register_forward_hook(take)
    assert torch.equal(gradient(adapter), want)

    adapter = tiny_adapter()
    assert not memory.weights_leave(adapter.transformer)
    quantize(adapter.transformer, "fp8")
    assert memory.weights_leave(adapter.transformer)
    finished(adapter)
    with pytest.raises(UnsupportedError, match="checkpointing"):
        finished(adapter, checkpointing="off")
    adapter = tiny_adapter()
    cpu_offload(adapter.transformer, torch.device("cpu"))  # as sequential offloading does
    assert memory.weights_leave(adapter.transformer)
    adapter = tiny_adapter()
    adapter.pipe.enable_model_cpu_offload(device="cpu")
    assert not memory.weights_leave(adapter.transformer)
    adapter = tiny_adapter()
    adapter.transformer.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    assert memory.weights_leave(adapter.transformer)


def test_backends_that_cannot_train_are_refused_by_name():
    class Backend:  # what diffusers leaves on a model that was loaded quantized
        is_trainable = False

        class quantization_config:  # noqa: N801
            quant_method = "gguf"

    adapter = tiny_adapter()
    adapter.transformer.hf_quantizer = Backend()
    with pytest.raises(UnsupportedError, match="gguf"):
        finished(adapter)
    Backend.is_trainable = True
    finished(adapter)


def test_a_reused_gradient_is_a_second_step_of_the_same_kind():
    """With reuse 2, K = 4 makes two backward passes; the loss of the first serves two steps."""
    adapter = tiny_adapter()
    config = dataclasses.replace(CONFIG, inner_steps=4, reuse=2)
    losses = [e.loss for e in train(adapter, moving_square(), config) if isinstance(e, InnerStep)]
    assert losses[0] == losses[1] != losses[2] == losses[3]


def test_a_loss_that_is_not_finite_stops_the_training():
    adapter = tiny_adapter()
    config = dataclasses.replace(CONFIG, parametrisation="table", learning_rates=(9.0, 9.0))
    block = adapter.transformer.transformer_blocks[0]
    calls = []

    def poison(module, args, output):
        calls.append(1)
        return tuple(x * float("nan") for x in output) if len(calls) > 2 else output

    handle = block.register_forward_hook(poison)
    with pytest.raises(TrainingError, match="finite loss, got nan at step 0"):
        list(train(adapter, moving_square(), config))
    handle.remove()
    assert all(p.requires_grad for p in adapter.transformer.parameters())
