"""How a reference is encoded: whole where it fits, and the same way wherever it is compared."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pe_toolkit.apply import CardWarning, applied
from pe_toolkit.apply.checks import keys_values
from pe_toolkit.backbones import ways
from pe_toolkit.backbones.cogvideox import encoding
from pe_toolkit.backbones.cogvideox.tiling import enable
from pe_toolkit.card import MotionCard
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.training import TrainConfig, train
from tests.tiny import moving_square, tiny_adapter

CONFIG = TrainConfig(prompts=("a red circle",), samples=1, kv=True)
SIDE = 48


def pixels(adapter, frames):
    x = torch.from_numpy(frames).to(adapter.pipe.vae.dtype)
    return (x / 127.5 - 1).permute(3, 0, 1, 2)[None]


def state(vae):
    return {name: getattr(vae, name) for name in encoding._STATE}


def tiled_adapter():
    adapter = tiny_adapter()
    adapter.pipe.vae.enable_tiling(SIDE // 2, SIDE // 2)
    enable(adapter.pipe.vae)
    return adapter


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames", [9, 16, 17, 24])
def test_whole_is_one_pass_of_the_encoder_of_diffusers(frames, dtype):
    adapter = tiled_adapter()  # as `load_backbone` leaves a CogVideoX
    adapter.pipe.to(dtype)
    vae, clip = adapter.pipe.vae, moving_square(frames, SIDE).frames
    before = state(vae)
    latents, way = adapter.encode(clip)
    assert way == "whole"
    assert state(vae) == before
    with torch.no_grad():
        moments, _ = vae.encoder(pixels(adapter, clip))
    wanted = moments[:, : vae.config.latent_channels] * vae.config.scaling_factor
    assert torch.equal(latents, wanted.permute(0, 2, 1, 3, 4))


def test_batches_and_tiles_are_those_of_diffusers():
    adapter = tiled_adapter()
    vae, clip = adapter.pipe.vae, moving_square(24, SIDE).frames
    made = {}
    for way in ways.WAYS:
        latents, did = adapter.encode(clip, (way,))
        assert did == way
        made[way] = latents
    made["kept"], did = adapter.encode(clip, (None,))
    assert did is None
    with torch.no_grad():
        tiles = vae.encode(pixels(adapter, clip)).latent_dist.mode()
        vae.disable_tiling()
        batches = vae.encode(pixels(adapter, clip)).latent_dist.mode()
    for way, wanted in (("tiles", tiles), ("batches", batches), ("kept", tiles)):
        wanted = (wanted * vae.config.scaling_factor).permute(0, 2, 1, 3, 4)
        assert torch.equal(made[way], wanted), way
    assert not torch.equal(made["whole"], made["batches"])
    assert not torch.equal(made["batches"], made["tiles"])


def test_what_does_not_fit_is_not_tried():
    vae = tiny_adapter().pipe.vae
    huge = torch.empty(1).expand(1, 3, 10_000, 8192, 8192)  # one number
    assert not encoding.fits(vae, huge, "whole")
    assert encoding.fits(vae, torch.empty(1).expand(1, 3, 9, 32, 32), "whole")
    long = torch.empty(1).expand(1, 3, 1_000_000, 96, 96)
    assert not encoding.fits(vae, long, "whole")
    assert encoding.fits(vae, long, "batches")


@pytest.mark.parametrize(("first", "way"), [("whole", "batches"), ("batches", "tiles")])
def test_out_of_memory_takes_the_next_way(first, way):
    adapter = tiled_adapter()
    vae, clip = adapter.pipe.vae, moving_square(24, SIDE).frames
    order = ways.again(first)
    wanted = adapter.encode(clip, (way,)).latents
    before = state(vae)
    most = []

    def short_of_memory(module, args):
        most.append(args[0].numel())
        if args[0].numel() >= limit:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    limit = 3 * SIDE * SIDE * (24 if first == "whole" else 8)
    handle = vae.encoder.register_forward_pre_hook(short_of_memory)
    latents, did = adapter.encode(clip, order)
    handle.remove()
    assert did == way
    assert torch.equal(latents, wanted)
    assert max(most) >= limit  # the dearer one was tried
    assert state(vae) == before

    def nonsense(module, args):
        raise RuntimeError("nonsense")

    handle = vae.encoder.register_forward_pre_hook(nonsense)
    with pytest.raises(RuntimeError, match="nonsense"):  # other errors are no reason to go on
        adapter.encode(clip, order)
    handle.remove()
    assert state(vae) == before


@pytest.mark.parametrize(("wanted", "way"), [(None, "whole"), (False, "whole"), (True, "tiles")])
def test_a_card_says_what_was_done(wanted, way):
    adapter = tiny_adapter()
    adapter.vae_tiling = wanted
    adapter.pipe.vae.enable_tiling(16, 16)
    enable(adapter.pipe.vae)
    card = list(train(adapter, moving_square(), CONFIG))[-1].card
    assert card.spec.reference.encoded == way
    # Keys and values, and what is scored, are encoded in that way, whatever is chosen now.
    adapter.vae_tiling = None if wanted else True
    kv = keys_values(adapter, card, moving_square(), False)
    assert torch.equal(kv.latents, adapter.encode(moving_square().frames, (way,)).latents)
    assert ReferenceMotion.of_card(adapter, card).encoded[0] == way


def test_older_cards_and_less_memory():
    adapter = tiny_adapter()
    adapter.pipe.vae.enable_tiling(16, 16)
    enable(adapter.pipe.vae)
    card = list(train(adapter, moving_square(), CONFIG))[-1].card
    reference = dataclasses.replace(card.spec.reference, encoded=None)
    old = MotionCard(dataclasses.replace(card.spec, reference=reference, digest=""), card.tensors)
    kv = keys_values(adapter, old, moving_square(), False)  # as the VAE is kept, as it was then
    assert torch.equal(kv.latents, adapter.encode(moving_square().frames, ("tiles",)).latents)

    def short_of_memory(module, args):
        if args[0].shape[3] >= 32:  # anything but a tile
            raise MemoryError

    handle = adapter.pipe.vae.encoder.register_forward_pre_hook(short_of_memory)
    with (
        pytest.warns(CardWarning, match="in the way `whole` when the card was trained"),
        applied(adapter, card, kv_from=moving_square()),
    ):
        pass
    handle.remove()


def test_the_choices():
    assert ways.choices(None) == ("whole", "batches", "tiles")
    assert ways.choices(False) == ("whole", "batches")
    assert ways.choices(True) == ("tiles",)
    assert ways.again(None) == (None,)
    assert ways.again("batches") == ("batches", "tiles")
