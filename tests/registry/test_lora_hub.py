"""LoRA weights from the Hub, with the real client on loopback: fetched once, then offline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from huggingface_hub import constants

from pe_toolkit.backbones.loading import hub
from pe_toolkit.backbones.loading.lora import find
from pe_toolkit.errors import BackboneError, UsageError
from tests.registry.hub import QUIET, online
from tests.registry.hub_server import Fault, HubServer

__all__ = ["online"]
pytestmark = QUIET
NAME = "zoe/style"
WEIGHTS = safetensors.torch.save({"x.lora_A.weight": torch.ones(2, 4)})


@pytest.fixture
def server(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with weights as PEFT saves them, which the client asks."""
    with HubServer() as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        made.put(
            NAME,
            {
                "adapter_model.safetensors": WEIGHTS,
                "adapter_config.json": b'{"lora_alpha": 8}',
                "optimizer.bin": b"pickle",
                "README.md": b"# style",
            },
        )
        yield made


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_it_is_fetched_once_with_its_configuration_and_found_offline(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    file = find(NAME, said.append)
    assert file.read_bytes() == WEIGHTS
    assert file.with_name("adapter_config.json").is_file()
    assert "downloading 0.0 MB, once" in said[0]
    assert not [r.path for r in server.requests if r.path.endswith(("README.md", ".bin"))]
    server.requests.clear()
    commit = server.repos[NAME].head
    offline(monkeypatch)
    for source in (NAME, f"{NAME}@main", f"{NAME}@{commit}", f"hf://{NAME}"):
        assert find(source, said.append) == file
    assert said[-1] == f"{NAME}: from the cache."
    assert not server.requests


def test_weights_of_peft_without_their_configuration_are_not_all(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `hf download NAME adapter_model.safetensors` leaves them: alpha is elsewhere."""
    commit = server.repos[NAME].head
    repository = Path(constants.HF_HUB_CACHE) / "models--zoe--style"
    place = repository / "snapshots" / commit / "adapter_model.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(WEIGHTS)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    with monkeypatch.context() as patch:
        offline(patch)
        with pytest.raises(BackboneError, match="with its adapter_config"):
            find(NAME)
    assert find(NAME).with_name("adapter_config.json").is_file()
    mode = (repository / "refs" / "main").stat().st_mode & 0o777
    assert mode == place.stat().st_mode & 0o777  # others read the cache as well


def test_what_diffusers_left_in_the_cache_is_enough(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Path(constants.HF_HUB_CACHE) / "models--zoe--style"
    place = repository / "snapshots" / ("a" * 40) / "pytorch_lora_weights.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(WEIGHTS)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    offline(monkeypatch)
    assert find(NAME) == place
    with pytest.raises(BackboneError, match="offline mode is on") as caught:
        find("zoe/other")
    assert "HF_HUB_OFFLINE" in str(caught.value.hint)
    assert not server.requests


def test_one_of_several_and_a_revision(server: HubServer) -> None:
    files = {"left.safetensors": WEIGHTS, "more/right.safetensors": WEIGHTS[:-1] + b"\0"}
    server.put("zoe/two", files | {"up.safetensors": WEIGHTS}, tag="v1")
    server.put("zoe/two", {"up.safetensors": WEIGHTS[:-2] + b"\0\0"})
    with pytest.raises(UsageError, match=r"got 2: left.safetensors, up.safetensors") as caught:
        find("zoe/two")
    assert "--lora hf://zoe/two/left.safetensors" in str(caught.value.hint)
    assert find("hf://zoe/two/more/right.safetensors").read_bytes()[-1:] == b"\0"
    assert find("hf://zoe/two@v1/up.safetensors").read_bytes() == WEIGHTS
    assert find("hf://zoe/two/up.safetensors").read_bytes() != WEIGHTS
    with pytest.raises(UsageError, match="without the file"):
        find("hf://zoe/two/down.safetensors")
    with pytest.raises(BackboneError, match="no such branch"):
        find("zoe/two@v9")
    for wrong in ("zoe/two@refs", "zoe/two@..", "zoe/two@-x"):
        with pytest.raises((UsageError, BackboneError)):
            find(wrong)


def test_pickled_weights_are_not_fetched(server: HubServer) -> None:
    server.put("zoe/old", {"pytorch_lora_weights.bin": b"pickle"})
    with pytest.raises(UsageError, match="as safetensors"):
        find("zoe/old")
    with pytest.raises(UsageError, match="as safetensors"):
        find("hf://zoe/old/pytorch_lora_weights.bin")
    assert not server.sent("GET", "/resolve/|/download/")


def test_what_is_not_there(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackboneError, match="no model of that name"):
        find("zoe/nothing")
    monkeypatch.chdir(tmp_path)
    Path("zoe/nothing").mkdir(parents=True)
    with pytest.raises(BackboneError) as caught:
        find("zoe/nothing")
    assert "./zoe/nothing" in str(caught.value.hint)
    server.put("zoe/empty", {"README.md": b"# empty"})
    with pytest.raises(UsageError, match="without the file"):
        find("zoe/empty")


def test_a_network_that_fails(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults.append(Fault("GET", "/api/models/", times=99, status=500))
    with pytest.raises(BackboneError, match="answered 500"):
        find(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackboneError, match="no connection"):
        find(NAME)


def test_a_silent_server(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    began = time.monotonic()
    server.faults.append(Fault("GET", "/api/models/", times=99, delay=5.0))
    with pytest.raises(BackboneError, match="does not answer"):
        find(NAME)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "name", ["../../evil.safetensors", "/evil.safetensors", "a/../b.safetensors"]
)
def test_a_name_that_leaves_the_folder_is_none(name: str, server: HubServer) -> None:
    files: dict[str, Any] = {name: WEIGHTS}
    server.put("evil/names", files)
    with pytest.raises(UsageError, match="without the file"):
        find("evil/names")
    assert not server.sent("GET", "/resolve/|/download/")
