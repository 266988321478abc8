"""Backbones in folders: variants, shards, pickles, copies of known models, schedulers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from pe_toolkit.backbones import VARIANTS, CogVideoXAdapter, load_backbone, variant_for
from pe_toolkit.backbones.catalogue.names import named
from pe_toolkit.backbones.loading import device
from pe_toolkit.card import MotionCard
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import BackboneError, UsageError
from pe_toolkit.video import write_video
from tests.tiny import moving_square, tiny_pipe


def load(folder: Path, **more: Any) -> tuple[CogVideoXAdapter, list[str]]:
    said: list[str] = []
    return load_backbone(str(folder), device="cpu", on_event=said.append, **more), said


def test_a_folder_of_one_variant_or_of_shards_is_loaded(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    ways: dict[str, dict[str, Any]] = {
        "plain": {}, "fp16": {"variant": "fp16"}, "shards": {"max_shard_size": "50KB"},
        "both": {"variant": "fp16", "max_shard_size": "50KB"},
    }  # fmt: skip
    for name, way in ways.items():
        pipe.save_pretrained(tmp_path / name, **way)
        loaded = load(tmp_path / name)[0].transformer
        assert torch.equal(loaded.proj_out.weight, pipe.transformer.proj_out.weight)
        assert not loaded.training


def test_beside_plain_weights_a_variant_is_not_looked_at(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    pipe.save_pretrained(tmp_path)
    (tmp_path / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x")
    load(tmp_path)
    for name in ("fp16", "bf16"):
        (tmp_path / "transformer" / f"diffusion_pytorch_model.{name}.safetensors").write_bytes(b"x")
    (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BackboneError, match="weights of several variants"):
        load(tmp_path)


def test_what_is_wrong_with_a_folder_is_said_and_nothing_of_the_network(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    pipe.save_pretrained(tmp_path / "bin", safe_serialization=False)
    pipe.save_pretrained(tmp_path / "lacking", max_shard_size="50KB")
    next((tmp_path / "lacking" / "transformer").glob("*-00002-of-*")).unlink()
    pipe.save_pretrained(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    pipe.save_pretrained(tmp_path / "none")
    (tmp_path / "none" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    for name, says in (
        ("bin", r"as safetensors, got diffusion_pytorch_model\.bin: opening such a file can run"),
        ("lacking", r"transformer/diffusion_pytorch_model-00002-of-\d+\.safetensors in"),
        ("damaged", "its vae could not be loaded"),
        ("none", r"vae/diffusion_pytorch_model\.safetensors or its shards, got none"),
        ("nowhere", "there is no such folder"),
    ):
        with pytest.raises(BackboneError, match=says) as caught:
            load(tmp_path / name)
        assert "network" not in f"{caught.value.message} {caught.value.hint}"


def test_names() -> None:
    assert named("cogvideox-5b").hub_id == "THUDM/CogVideoX-5b"
    for name in (
        "THUDM/CogVideoX-5b",
        "zai-org/CogVideoX-5b",
        "thudm/cogvideox-5b",
        "CogVideoX-5b",
    ):
        assert named(name).row is VARIANTS["cogvideox-5b"]
    for name in ("zai-0rg/CogVideoX-5b", "someone/CogVideoX-5b", "owner/name"):
        assert named(name).row is None
        assert named(name).hub_id == name
    for name in ("./owner/name", "~/name", "/name", "a/b/c", "..", "C:\\name"):
        assert named(name).folder is not None
    for name in ("", "gpt2", "a b/c", "owner/", "/".join(["-x", "y"])):
        with pytest.raises(UsageError):
            named(name)


def test_only_repositories_have_revisions(tmp_path: Path) -> None:
    for name in ("bundled", "auto", tmp_path):
        with pytest.raises(UsageError, match=r"no --revision with .*, got 'nope'") as caught:
            load_backbone(name, revision="nope", device="cpu")
        assert caught.value.hint == "Leave it out."


@pytest.mark.parametrize("name", [None, 5])
def test_what_is_no_name(name: Any) -> None:
    for asked in (load_backbone, variant_for):
        with pytest.raises(UsageError, match=rf"a backbone out of bundled, .* got {name}"):
            asked(name)


def test_a_subclass_of_the_image_to_video_pipeline_is_one() -> None:
    from diffusers import CogVideoXImageToVideoPipeline

    class Mine(CogVideoXImageToVideoPipeline):  # type: ignore[misc]
        pass

    pipe = tiny_pipe()
    config = {k: v for k, v in pipe.transformer.config.items() if not k.startswith("_")}
    transformer = type(pipe.transformer)(**config | {"in_channels": 8})
    mine = Mine(**pipe.components | {"transformer": transformer})
    assert CogVideoXAdapter(mine).image_to_video


def test_a_copy_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "check_device", lambda *_: None)  # no GPU here
    pipe = tiny_pipe()
    pipe.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="with num_layers 42, got 3"):
        load(tmp_path, copy_of="cogvideox-5b")
    config = tmp_path / "transformer" / "config.json"
    tiny = json.loads(config.read_text())
    from pe_toolkit.backbones.catalogue import architectures

    small = architectures.Architecture(3, 2, "rotary", in_channels=4)
    monkeypatch.setitem(architectures.ARCHITECTURES, "cogvideox-5b", small)
    adapter, _ = load(tmp_path, copy_of="cogvideox-5b")
    assert adapter.variant is VARIANTS["cogvideox-5b"]
    assert adapter.model_id == "THUDM/CogVideoX-5b"
    assert adapter.revision is None
    assert type(adapter.pipe.scheduler).__name__ == "CogVideoXDPMScheduler"
    assert tiny == json.loads(config.read_text())
    for wrong, name in (("bundled", str(tmp_path)), ("sora", str(tmp_path)),
                        ("cogvideox-5b", "cogvideox-2b")):  # fmt: skip
        with pytest.raises(UsageError, match=r"Expected a .*copy of"):
            load_backbone(name, copy_of=wrong)


def test_another_scheduler_than_the_published_one_is_said(tmp_path: Path) -> None:
    tiny_pipe("rotary", "ddim").save_pretrained(tmp_path / "ddim")
    tiny_pipe("rotary", "dpm").save_pretrained(tmp_path / "dpm")
    adapter, said = load(tmp_path / "ddim")
    assert type(adapter.pipe.scheduler).__name__ == "CogVideoXDDIMScheduler"
    assert "CogVideoXDPMScheduler and dynamic guidance, as cogvideox-5b is run" in said[-1]
    assert "--recipe paper" in said[-1]
    assert not load(tmp_path / "dpm")[1]
    adapter, said = load(tmp_path / "ddim", published=True)
    assert type(adapter.pipe.scheduler).__name__ == "CogVideoXDPMScheduler"
    assert adapter.pipe.scheduler.config.timestep_spacing == "trailing"
    assert adapter.defaults().dynamic_cfg
    assert "in place of its own CogVideoXDDIMScheduler" in said[-1]


def test_the_published_recipe_takes_the_published_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_pipe("rotary", "ddim").save_pretrained("folder")
    write_video("ref.mp4", moving_square(24).frames, fps=8)
    words = ["train", "ref.mp4", "-o", "c.safetensors", "--backbone", "./folder", "--prompt", "a"]
    words += ["--recipe", "paper", "--steps", "5", "--set", "K=1", "--set", "block=1"]
    result = CliRunner().invoke(cli, [*words, "--device", "cpu"])
    assert result.exit_code in (0, 3), result.stderr
    schedule = MotionCard.load("c.safetensors").spec.schedule
    assert (schedule.scheduler, schedule.dynamic_cfg) == ("CogVideoXDPMScheduler", True)
    assert "in place of its own" in result.stderr
    words = ["apply", "c.safetensors", "--backbone", "./folder", "--prompt", "a", "-o", "o.mp4"]
    result = CliRunner().invoke(cli, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("o.json").read_text())["scheduler"] == "CogVideoXDPMScheduler"


def test_loading_says_nothing_of_its_own(capfd, monkeypatch) -> None:
    """`on_part` tells how far it is; transformers' bars come back afterwards."""
    from transformers.utils import logging

    monkeypatch.setattr(logging, "_tqdm_active", True)  # the command line switches it off
    load_backbone("bundled")
    assert logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")
