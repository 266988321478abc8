"""`applied` and `replay` take what people type; `pipe_kwargs` gives a pipeline the rest."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import pe_toolkit
from pe_toolkit import apply
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import PeError, UsageError
from pe_toolkit.registry.store import Store
from pe_toolkit.training import TrainConfig, train
from tests.registry.hub import QUIET, TOKEN, hub, online
from tests.registry.hub_server import HubServer
from tests.tiny import TOKENS, moving_square, tiny_adapter

__all__ = ["hub", "online"]
pytestmark = QUIET


def trained(**changes):
    config = TrainConfig(prompts=("a red circle",), samples=1, name="wave", **changes)
    adapter = tiny_adapter()
    return adapter, list(train(adapter, moving_square(), config))[-1].card


def make(adapter, card, **extra):
    generator = torch.Generator("cpu").manual_seed(1)
    kwargs = card.pipe_kwargs() | {"max_sequence_length": TOKENS} | extra
    return adapter.pipe("a red circle", generator=generator, output_type="latent", **kwargs).frames


def test_a_card_a_path_a_name_and_a_repository(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    adapter, card = trained()
    path = tmp_path / "made.safetensors"
    card.save(path)
    Store().add(path, "wave")
    pe_toolkit.push_to_hub(card, "zoe/wave")
    with pe_toolkit.applied(adapter.pipe, card):
        wanted = make(adapter, card)
    for given in (path, str(path), "made.safetensors", "wave", "wave@1.0.0", "zoe/wave"):
        with pe_toolkit.applied(adapter.pipe, given) as log:
            assert torch.equal(make(adapter, card), wanted), given
        assert log.guided_steps == card.spec.guided_steps
    with apply.applied(adapter.pipe, "made.safetensors"):  # the core knows paths
        assert torch.equal(make(adapter, card), wanted)
    with pytest.raises(UsageError, match=r"got 'wave'") as caught, apply.applied(adapter, "wave"):
        pass
    assert "pe_toolkit.applied" in str(caught.value.hint)
    with pytest.raises(PeError, match="ghost"):
        pe_toolkit.applied(adapter, "ghost")


def test_a_latents_card_by_name(tmp_path: Path) -> None:
    adapter, card = trained(mode="latents", learning_rates=(0.05, 0.05))
    path = tmp_path / "made.safetensors"
    card.save(path)
    Store().add(path, "still")
    made = []
    for given in (card, path, "still"):
        with pe_toolkit.replay(adapter.pipe, given) as r:
            made.append(make(adapter, card, **r.arguments()))
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], make(adapter, card))


def test_what_a_card_tells_a_pipeline() -> None:
    _, card = trained(steps=4, guidance_scale=3.0)
    assert card.pipe_kwargs() == {
        "num_frames": 9, "width": 32, "height": 32, "num_inference_steps": 4,
        "guidance_scale": 3.0, "use_dynamic_cfg": False, "max_sequence_length": 16,
    }  # fmt: skip
    for name, row in VARIANTS.items():
        spec = card.spec
        backbone = dataclasses.replace(spec.backbone, variant=name)
        schedule = dataclasses.replace(spec.schedule, negative_prompt="blurred", dynamic_cfg=True)
        other = MotionCard(
            dataclasses.replace(spec, backbone=backbone, schedule=schedule, digest=""), card.tensors
        )
        told = other.pipe_kwargs()
        assert told["max_sequence_length"] == row.max_text_tokens
        assert (told["negative_prompt"], told["use_dynamic_cfg"]) == ("blurred", True)
    custom = dataclasses.replace(card.spec.backbone, variant="custom")
    card = MotionCard(dataclasses.replace(card.spec, backbone=custom, digest=""), card.tensors)
    assert "max_sequence_length" not in card.pipe_kwargs()


def test_applying_by_path_warns_of_nothing(tmp_path: Path) -> None:
    adapter, card = trained()
    path = tmp_path / "made.safetensors"
    card.save(path)
    with warnings.catch_warnings(), pe_toolkit.applied(adapter, path):
        warnings.simplefilter("error")
        make(adapter, card)


def test_what_is_neither_a_card_nor_a_name_of_one() -> None:
    spec = trained()[1].spec
    for wrong in (5, None, spec):
        for asked in (
            lambda card: pe_toolkit.load(card),
            lambda card: pe_toolkit.applied(None, card),
            lambda card: pe_toolkit.replay(None, card),
            lambda card: pe_toolkit.push_to_hub(card, "zoe/wave"),
        ):
            with pytest.raises(UsageError, match="the path or the name of a card, got"):
                asked(wrong)
