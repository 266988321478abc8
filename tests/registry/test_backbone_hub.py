"""A backbone of the Hub, with the real client on loopback: fetched once, then found without a
network; what stands in the way of that; and what a stranger may put into a repository.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from diffusers import DiffusionPipeline
from huggingface_hub import constants

from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.loading import device, hub, hub_get
from pe_toolkit.card import MotionCard
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import BackboneError, DependencyError, UsageError
from pe_toolkit.video import write_video
from tests.registry.hub import QUIET, online, telling, with_xet
from tests.registry.hub_server import Fault, HubServer
from tests.tiny import moving_square, tiny_pipe

__all__ = ["online", "telling", "with_xet"]
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
    assert "downloading 0.5 MB, once" in said[0]
    paths = [request.path for request in server.requests]
    assert not [path for path in paths if path.endswith((".bin", "README.md"))]
    assert len(server.sent("GET", "/download/")) == WEIGHTS
    server.requests.clear()
    again, said = load()
    assert said[0] == f"{NAME}: from the cache."
    assert not server.requests
    assert torch.equal(adapter.transformer.proj_out.weight, again.transformer.proj_out.weight)
    offline(monkeypatch)
    for revision in (None, "main", commit):
        assert load(revision=revision)[0].revision == commit
    assert not server.requests
    # And diffusers finds by the same name what we fetched.
    assert hub.cached(NAME) == hub.cached(NAME, commit)


def test_a_list_of_agents_that_is_none_stops_nothing(server: HubServer, telling: None) -> None:
    assert load()[0].revision == server.repos[NAME].head
    assert not server.sent("GET", "/api/agent-harnesses")


def test_a_newer_commit_is_not_asked_for_but_can_be_had(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load()[0].revision
    newer = server.put(NAME, {"README.md": b"# newer"}, tag="v2")
    assert load()[0].revision == first
    monkeypatch.setattr(hub, "_free", lambda cache: 0)  # the weights are the same: none needed
    adapter, said = load(revision=newer)
    assert adapter.revision == newer
    assert not [line for line in said if "downloading" in line]
    assert load(revision="v2")[0].revision == newer
    assert load()[0].revision == first


def test_through_a_card_it_is_found_offline(
    server: HubServer, model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(device, "check_device", lambda *_: None)  # no GPU here
    commit = server.put("THUDM/CogVideoX-5b", model)
    write_video("ref.mp4", moving_square(24).frames, fps=8)
    words = "train ref.mp4 -o c.safetensors --backbone cogvideox-5b --device cpu --frames 9 "
    words += "--size 32x32 --prompt a --steps 5 --set K=1 --set block=1"
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code in (0, 3), result.stderr
    own = MotionCard.load("c.safetensors").spec.backbone
    named = (own.variant, own.model_id, own.revision)
    assert named == ("cogvideox-5b", "THUDM/CogVideoX-5b", commit)
    offline(monkeypatch)
    server.requests.clear()
    words = "apply c.safetensors --prompt a -o o.mp4 --device cpu"
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 0, result.stderr
    assert "THUDM/CogVideoX-5b: from the cache." in result.stderr
    assert not server.requests


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
    assert load()[1][0] == f"{NAME}: from the cache."


def test_a_partial_cache_is_completed_and_said_to_be(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.append(Fault("GET", "/download/", times=99, cut="before"))
    with pytest.raises(BackboneError, match="does not answer"):
        load()
    server.faults.clear()
    offline(monkeypatch)
    with pytest.raises(BackboneError, match="in the cache without text_enc") as caught:
        load()
    assert "HF_HUB_OFFLINE" in str(caught.value.hint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.requests.clear()
    said = load()[1]
    assert "downloading the rest" in said[0]
    assert not [path for path in fetched(server) if path.endswith("json")]


def test_one_missing_file_is_completed(server: HubServer) -> None:
    folder = hub.fetch(NAME, None, lambda text: None)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    os.remove(weights.resolve())  # the link leads nowhere now
    server.requests.clear()
    said = load()[1]
    assert "the rest" in said[0]
    assert "2 of 3 files are in the cache" in said[0]
    assert len(server.sent("GET", "/download/")) == 1


def test_partial_shards_are_completed(server: HubServer, tmp_path: Path) -> None:
    tiny_pipe().save_pretrained(tmp_path / "model", max_shard_size="50KB")
    server.put("zoe/shards", contents(tmp_path / "model"))
    server.faults.append(Fault("HEAD", "/resolve/.*-00003-of", times=99, status=403))
    with pytest.raises(BackboneError, match="403"):
        load("zoe/shards")
    server.faults.clear()
    assert hub.cached("zoe/shards") is None
    adapter, said = load("zoe/shards")
    assert "the rest" in said[0]
    assert hub.cached("zoe/shards") is not None
    assert adapter.frames == 9


@pytest.mark.parametrize(
    ("where", "method"),
    [("/api/models/", "GET"), ("/resolve/", "HEAD"), ("/resolve/.*json", "GET"),
     ("/download/", "GET")],
)  # fmt: skip
def test_a_silent_server_is_given_up_on(
    where: str, method: str, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    server.faults.append(Fault(method, where, times=99, delay=3))
    began = time.monotonic()
    with pytest.raises(BackboneError, match="does not answer"):
        load()
    assert time.monotonic() - began < 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "method"), [("/api/models/", "GET"), ("/resolve/", "HEAD"), ("/download/", "GET")]
)
def test_a_silent_server_holds_nobody_for_a_minute(
    where: str, method: str, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", time)  # it really waits
    server.faults.append(Fault(method, where, times=99, delay=100))
    began = time.monotonic()
    with pytest.raises(BackboneError, match="does not answer"):
        load()
    assert time.monotonic() - began < 60


def test_no_server_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, online: None) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackboneError, match="no connection") as caught:
        load()
    assert "network" in str(caught.value.hint)


def test_a_model_that_is_not_there_or_not_for_us(server: HubServer) -> None:
    with pytest.raises(BackboneError, match="no model of that name, or it is private"):
        load("zoe/none")
    with pytest.raises(BackboneError, match="no such branch, tag or commit"):
        load(revision="v9")
    server.create("zoe/empty")
    with pytest.raises(BackboneError, match="has no model_index"):
        load("zoe/empty")
    with pytest.raises(UsageError, match="a branch, a tag or a commit"):
        load(revision="../../main")
    server.repos[NAME].gated = True
    with pytest.raises(BackboneError, match="gated"):
        load()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_named(status: int, server: HubServer) -> None:
    server.faults.append(Fault("GET", "/api/models/", times=99, status=status))
    with pytest.raises(BackboneError, match=f"answered {status}"):
        load()


def test_socks_without_its_package(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import close_session

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    close_session()
    try:
        with pytest.raises(DependencyError, match="socksio") as caught:
            load()
    finally:
        monkeypatch.delenv("ALL_PROXY")
        close_session()
    assert "pip install socksio" in str(caught.value.hint)


def test_too_little_disk_is_found_before_weights_are_fetched(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_free", lambda cache: 100_000)
    with pytest.raises(BackboneError, match="free disk") as caught:
        load()
    assert "HF_HOME" in str(caught.value.hint)
    assert not server.sent("GET", "/download/")
    monkeypatch.undo()


def test_what_is_in_the_cache_needs_no_room(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.setattr(hub, "_free", lambda cache: 0)
    load()


def test_a_disk_that_fills_up_meanwhile(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(BackboneError, match="the disk, but it is full") as caught:
        load()
    assert "what was fetched is kept" in str(caught.value.hint)


def test_hf_home_as_a_file(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(BackboneError, match="a folder for the cache of models, got the file"):
        load()


@pytest.mark.parametrize("lie", ["X-Repo-Commit", "ETag"])
def test_names_of_the_server_become_no_paths(lie: str, server: HubServer, isolated: Path) -> None:
    server.faults.append(Fault("HEAD", "/resolve/", times=99, lies={lie: '"../../../../evil"'}))
    with pytest.raises(BackboneError, match="hex digits"):
        load()
    assert not list(isolated.rglob("*evil*"))


def test_damaged_bytes_are_fetched_again_and_never_kept(server: HubServer) -> None:
    server.faults.append(Fault("GET", "/download/", times=1, corrupt=True))
    adapter, said = load()
    assert "other bytes came than the server announced" in said[1]
    assert torch.equal(adapter.transformer.proj_out.weight, tiny_pipe().transformer.proj_out.weight)
    server.put("zoe/damaged", {k: f.data + b"" for k, f in server.repos[NAME].files.items()})
    server.faults.append(Fault("GET", "/download/", times=99, corrupt=True))
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(BackboneError, match="twice others came"):
        load("zoe/damaged")
    assert hub.cached("zoe/damaged") is None
    server.faults.clear()
    load("zoe/damaged")


@pytest.mark.parametrize("ill", ["silent", "refuses"])
def test_a_xet_storage_that_stands_still_is_given_up_on(
    ill: str, server: HubServer, with_xet: None, model: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(hub_get, "STILL", 0.5)
    for name, data in model.items():
        if name.endswith(".safetensors"):
            server.xet_hashes[hashlib.sha256(data).hexdigest()] = ("a" * 64, len(data))
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        port = silent.getsockname()[1] if ill == "silent" else 9
        server.xet = f"http://127.0.0.1:{port}"
        adapter, said = load()
    assert adapter.frames == 9
    assert [line for line in said if "The xet storage stands still" in line]
    assert len([line for line in said if "xet" in line]) == 1
    assert server.sent("GET", "xet-read-token")
    assert len(server.sent("GET", "/download/")) == WEIGHTS
    assert time.monotonic() - began < 20


def changed(model: dict[str, bytes], name: str, **values: Any) -> dict[str, bytes]:
    return model | {name: json.dumps(json.loads(model.get(name, b"{}")) | values).encode()}


HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "community pipeline": ("model_index.json", {"_class_name": "clip_guided"}, "a pipeline out of"),
    "custom pipeline": ("model_index.json", {"_class_name": ["pipeline", "Mine"]}, "pipeline out"),
    "escapes": (
        "model_index.json", {"_class_name": "\x1b]0;evil\x07"}, r"got '\\x1b\]0;evil\\x07'"
    ),
    "no class": ("model_index.json", {"_class_name": None}, "a pipeline out of"),
    "own module": ("model_index.json", {"vae": ["evil", "AutoencoderKLCogVideoX"]}, "diffusers's"),
    "nested": ("model_index.json", {"vae": ["diffusers", "CogVideoXPipeline"]}, "Autoencoder"),
    "more parts": ("model_index.json", {"safety": ["evil", "Evil"]}, "no parts but"),
    "no vae": ("model_index.json", {"vae": [None, None]}, "none for vae"),
    "layers": ("transformer/config.json", {"num_layers": 2_000_000}, "num_layers from 1 to"),
    "negative": ("transformer/config.json", {"num_layers": -1}, "num_layers from 1 to"),
    "text": ("transformer/config.json", {"num_layers": "3"}, "num_layers from 1 to"),
    "table": (
        "transformer/config.json",
        {"use_rotary_positional_embeddings": False, "sample_width": 2048, "sample_height": 2048,
         "sample_frames": 2048, "num_attention_heads": 64},
        "a table of positions",
    ),
    "blocks": ("vae/config.json", {"block_out_channels": [8] * 5000}, "at most 4096 entries"),
    "channels": ("vae/config.json", {"block_out_channels": [8, 8, 10**9]}, "block_out_channels"),
    "text encoder": ("text_encoder/config.json", {"num_layers": 10**6}, "num_layers from 1 to"),
    "vocabulary": ("text_encoder/config.json", {"vocab_size": 10**12}, "vocab_size from 1 to"),
    "timesteps": ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "from 1 to"),
    "kernels": (
        "text_encoder/config.json", {"attn_implementation": "evil/kernels"}, "no code of its own"
    ),
    "kernels within": (
        "text_encoder/config.json", {"_attn_implementation": {"": "evil/kernels"}}, "no code of"
    ),
    "quantizer": (
        "transformer/config.json", {"quantization_config": {"quant_method": "evil"}}, "no code of"
    ),
    "labels": ("text_encoder/config.json", {"num_labels": 50_000_000}, "'num_labels' of at most"),
    "width": (
        "transformer/config.json", {"num_attention_heads": 256, "attention_head_dim": 512},
        "num_attention_heads x attention_head_dim of at most",
    ),
    "any number": ("scheduler/scheduler_config.json", {"solver_order": 10**9}, "solver_order"),
    "depth": ("vae/config.json", json.loads('{"a":' * 20 + "1" + "}" * 20), "at most 8 levels"),
    "file elsewhere": (
        "tokenizer/tokenizer_config.json", {"vocab_file": "/dev/zero"}, "vocab_file beside"
    ),
    "many words": ("tokenizer/tokenizer_config.json", {"extra_ids": 10**8}, "extra_ids of at most"),
    "adapter": ("text_encoder/adapter_config.json", {"peft_type": "LORA"}, "without an adapter"),
    "remote code": ("text_encoder/config.json", {"auto_map": {"AutoModel": "x.Y"}}, "no code of"),
    "remote tokenizer": (
        "tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}, "no code"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_stranger_put_there_is_refused_before_its_weights_are_fetched(
    name: str, server: HubServer, model: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file, values, says = HOSTILE[name]
    hostile = changed(model, file, **values)
    server.put("evil/model", hostile)
    with pytest.raises(BackboneError, match=says) as caught:
        load("evil/model")
    assert "\x1b" not in caught.value.message
    assert not server.sent("GET", "/download/")
    asked = {r.path.split("/")[1] for r in server.requests}
    assert asked <= {"api", "evil"}  # no other repository
    # The same in a folder.
    for path, data in hostile.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_bytes(data)
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(BackboneError, match=says):
        load(str(tmp_path))


def test_shards_are_files_beside_their_index(
    server: HubServer, model: dict[str, bytes], tmp_path: Path
) -> None:
    stem = "transformer/diffusion_pytorch_model"
    left = {k: v for k, v in model.items() if not k.startswith(stem)}
    index = {"metadata": {}, "weight_map": {"a": "../../../etc/passwd.safetensors"}}
    server.put("evil/model", left | {f"{stem}.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(BackboneError, match="files beside it"):
        load("evil/model")


def test_pickled_weights_are_not_opened(server: HubServer, model: dict[str, bytes]) -> None:
    left = {k: v for k, v in model.items() if "transformer/diff" not in k or k.endswith(".bin")}
    server.put("evil/pickle", left)
    with pytest.raises(BackboneError, match="as safetensors, got diffusion_pytorch_model"):
        load("evil/pickle")
    assert not server.sent("GET", "/download/")


def test_a_name_is_never_a_path(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (NAME, "gpt2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model_index.json").write_text("{}")
    adapter, said = load()
    assert adapter.model_id == NAME
    assert any(f"./{NAME}" in line for line in said)
    with pytest.raises(UsageError) as caught:
        load("gpt2")
    assert "./gpt2" in str(caught.value.hint)


def test_a_near_name_is_no_known_model(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "check_device", lambda *_: None)  # no GPU here
    server.put("zai-0rg/CogVideoX-5b", model)
    server.put("zai-org/CogVideoX-5b", model)
    assert load("zai-0rg/CogVideoX-5b")[0].variant is None
    assert load("zai-org/CogVideoX-5b")[0].variant.name == "cogvideox-5b"
    # In the cache under one name of its owner: not fetched again under the other.
    server.requests.clear()
    assert load("cogvideox-5b")[0].model_id == "zai-org/CogVideoX-5b"
    assert not server.requests


def test_a_card_chooses_no_proposal_of_a_stranger(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "check_device", lambda *_: None)  # no GPU here
    name = "THUDM/CogVideoX-5b"
    first = server.put(name, model)
    server.put(name, {"README.md": b"# newer"}, tag="v2")
    proposal = server.propose(name, {"vae/config.json": b"{}"})
    for revision in (proposal, proposal[:10], "refs/pr/1"):
        with pytest.raises(UsageError) as caught:
            load(name, revision=revision, of_card=True)
        line = f"--backbone {name} --revision {proposal}"
        assert revision != proposal or line in str(caught.value.hint)
    assert not server.sent("GET", "/download/")
    for revision in (first, "main", "v2"):
        assert load(name, revision=revision, of_card=True)[0].variant is not None


def test_what_we_fetched_is_what_diffusers_loads(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, _ = load()
    assert hub.cached(NAME) is not None
    theirs = DiffusionPipeline.from_pretrained(hub.cached(NAME), use_safetensors=True)
    assert torch.equal(theirs.transformer.proj_out.weight, adapter.transformer.proj_out.weight)
    assert theirs.vae.config == adapter.pipe.vae.config
    assert type(theirs.scheduler) is type(adapter.pipe.scheduler)
