"""A backbone of the Hub, with the real client on loopback: fetched once, then found without a
network; what stands in the way of that; and what a stranger may put into a repository.
"""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import constants

from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.loading import device, hub
from pe_toolkit.errors import BackboneError, DependencyError, UsageError
from tests.registry.hub import QUIET, online
from tests.registry.hub_server import Fault, HubServer
from tests.tiny import tiny_pipe

__all__ = ["online"]
pytestmark = QUIET
NAME = "zoe/tiny"
WEIGHTS = 3  # one file for each part with weights


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a repository from those of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tiny pipeline as it lies on the Hub, with what is there beside."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipe().save_pretrained(folder)
    more = {"README.md": b"# tiny", "transformer/diffusion_pytorch_model.bin": b"pickle" * 1000}
    return contents(folder) | more


@pytest.fixture
def server(online: None, monkeypatch: pytest.MonkeyPatch, model: dict[str, bytes]) -> Any:
    """A Hub with the model, which the client asks."""
    with HubServer() as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        made.put(NAME, model)
        yield made


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def fetched(server: HubServer) -> list[str]:
    """The files whose bytes were fetched from the endpoint, weights by their digest."""
    return [r.path for r in server.sent("GET", "/resolve/|/download/")]


def load(name: str = NAME, **more: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    return load_backbone(name, device="cpu", on_event=said.append, **more), said


def test_it_is_fetched_once_and_found_offline_by_name_and_by_commit(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, said = load()
    commit = server.repos[NAME].head
    assert (adapter.model_id, adapter.revision) == (NAME, commit)
    assert "downloading 0.0 GB, once" in said[0]
    paths = [request.path for request in server.requests]
    assert not [path for path in paths if path.endswith((".bin", "README.md"))]
    assert len(server.sent("GET", "/download/")) == WEIGHTS
    server.requests.clear()
    again, said = load()
    assert said[0] == f"{NAME}: from the cache."
    assert not server.requests
    assert torch.equal(
        adapter.transformer.proj_out.weight, again.transformer.proj_out.weight
    )
    offline(monkeypatch)
    for revision in (None, "main", commit):
        assert load(revision=revision)[0].revision == commit
    assert not server.requests
    # And diffusers finds by the same name what we fetched.
    assert hub.cached(NAME) == hub.cached(NAME, commit)


def test_a_newer_commit_is_not_asked_for_but_can_be_had(server: HubServer) -> None:
    first = load()[0].revision
    newer = server.put(NAME, {"README.md": b"# newer"}, tag="v2")
    assert load()[0].revision == first
    assert load(revision=newer)[0].revision == newer
    assert load(revision="v2")[0].revision == newer
    assert load()[0].revision == first


def test_what_diffusers_left_in_the_cache_is_enough(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Path(constants.HF_HUB_CACHE) / "models--zoe--tiny"
    commit = server.repos[NAME].head
    for name, data in model.items():
        if name.startswith(("README", "transformer/d")) and not name.endswith(".safetensors"):
            continue
        place = repository / "snapshots" / commit / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    offline(monkeypatch)
    assert load()[1] == [f"{NAME}: from the cache."]


def test_a_partial_cache_is_completed_and_said_to_be(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.append(Fault("GET", "/download/", times=99, cut="before", method="GET")
                         if False else Fault("GET", "/download/", times=99, cut="before"))
    with pytest.raises(BackboneError, match="no connection"):
        load()
    server.faults.clear()
    offline(monkeypatch)
    with pytest.raises(BackboneError, match="in the cache without transformer/diff") as caught:
        load()
    assert "HF_HUB_OFFLINE" in str(caught.value.hint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.requests.clear()
    said = load()[1]
    assert "downloading the rest" in said[0]
    assert len(fetched(server)) == WEIGHTS  # not the configurations again


def test_one_missing_file_is_completed(server: HubServer) -> None:
    folder = hub.fetch(NAME, None, lambda text: None)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    os.remove(weights.resolve())  # the link leads nowhere now
    server.requests.clear()
    said = load()[1]
    assert "the rest" in said[0]
    assert "2 of 3 files are in the cache" in said[0]
    assert len(fetched(server)) == 2  # the redirect, and the bytes
