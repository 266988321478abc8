"""The bundled backbone is a real, trained, stock-loadable CogVideoX that knows its world."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel

from pe_toolkit.backbones import bundled, load_backbone
from pe_toolkit.backbones.loading import prepare_download
from pe_toolkit.errors import BackboneError, DeviceError, UsageError
from pe_toolkit.world.metrics import track
from pe_toolkit.world.scenes import render, sample_scene, trajectory
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS, WORDS

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def adapter():
    return load_backbone("bundled")


def test_everything_fits_in_25_megabytes():
    size = sum(f.stat().st_size for f in bundled.ROOT.rglob("*") if f.is_file())
    assert size < 25 * MEGABYTE


def test_stock_diffusers_loads_both_variants_and_generates():
    for folder in ("transformer", "transformer_absolute"):
        transformer = CogVideoXTransformer3DModel.from_pretrained(bundled.ROOT / folder)
        pipe = CogVideoXPipeline.from_pretrained(bundled.ROOT, transformer=transformer)
        pipe.set_progress_bar_config(disable=True)
        video = pipe(
            TRAINING_PROMPTS[0],
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            max_sequence_length=16,
            output_type="np",
        ).frames[0]
        assert video.shape == (33, 128, 128, 3)
        assert np.isfinite(video).all()
        rotary = folder == "transformer"
        assert transformer.config.use_rotary_positional_embeddings is rotary


def test_the_tokenizer_knows_the_vocabulary(adapter):
    tokenizer = adapter.pipe.tokenizer
    unknown = tokenizer.unk_token_id
    assert all(tokenizer(word).input_ids[0] != unknown for word in WORDS)
    assert tokenizer("dragon").input_ids[0] == unknown
    assert tokenizer("A Red circle").input_ids == tokenizer("a red circle").input_ids
    assert tokenizer("an orange circle").input_ids == tokenizer("a orange circle").input_ids


def test_whose_colour_a_colour_is_reaches_the_transformer(adapter):
    # It gives words no place: what the encoder says in all of both captions has to differ.
    captions = ["a blue cross on a green background", "a green cross on a blue background"]
    one, other = adapter.encode_text(captions).mean(1)
    assert torch.linalg.vector_norm(one - other) > 0.1 * torch.linalg.vector_norm(one)


def test_the_vae_keeps_the_object_where_it_is(adapter):
    rng = np.random.default_rng(21)
    scene = sample_scene(rng, ("line",), styles=("flat",))
    frames = render(scene)
    latents = adapter.encode_clip(frames)
    assert tuple(latents.shape) == (1, 9, 16, 16, 16)
    back = adapter.decode(latents, 33)
    path = track(back, scene.things[0].colour)
    truth = trajectory(scene)[0][np.linspace(0, 32, 9).astype(int)]
    assert np.nanmax(np.abs(path - truth)) < 0.05


def test_fingerprints_tell_the_variants_apart(adapter):
    absolute = load_backbone("bundled-absolute")
    assert adapter.fingerprint() != absolute.fingerprint()
    assert adapter.fingerprint() == load_backbone("bundled").fingerprint()
    assert adapter.weights_digest != absolute.weights_digest
    assert adapter.weights_digest.startswith("sha256:")


def test_model_index_names_stock_classes_only():
    index = json.loads((bundled.ROOT / "model_index.json").read_text())
    assert {value[0] for key, value in index.items() if not key.startswith("_")} <= {
        "diffusers",
        "transformers",
    }


def test_loading_errors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="Expected a backbone out of"):
        load_backbone("sora")
    with pytest.raises(BackboneError, match="there is no model_index"):
        load_backbone(str(tmp_path))
    with pytest.raises(UsageError, match="--dtype"):
        load_backbone("bundled", dtype="int4")
    with pytest.raises(UsageError, match="--offload"):
        load_backbone("bundled", offload="disk")
    with pytest.raises(UsageError, match="device"):
        load_backbone("bundled", device="toaster")
    with pytest.raises(DeviceError, match="does not have it"):
        load_backbone("bundled", device="meta")
    if not torch.xpu.is_available():
        with pytest.raises(DeviceError, match="does not have it"):
            load_backbone("bundled", device="xpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="24 GB"):
            load_backbone("cogvideox-5b")
        with pytest.raises(DeviceError, match="does not have it"):
            load_backbone("bundled", device="cuda")
        with pytest.raises(UsageError, match="nothing to move"):
            load_backbone("bundled", offload="model")


def test_a_model_that_is_neither_cached_nor_reachable_is_a_clear_error():
    said: list[str] = []
    with pytest.raises(BackboneError, match="local cache"):
        prepare_download("nobody/nothing", None, said.append)
    assert not said


def test_auto_says_what_it_took():
    said: list[str] = []
    adapter = load_backbone("auto", device="cpu", on_event=said.append)
    assert adapter.variant is not None
    assert adapter.variant.name == "bundled"
    assert "no CUDA GPU" in said[0]
