"""A stranger's card with `pe apply`: it decides neither what is downloaded nor what is run. On a
real server on loopback, which would give everything that is asked for.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

from pe_toolkit.card import MotionCard
from pe_toolkit.cli import loggers
from pe_toolkit.cli.main import cli
from pe_toolkit.cli.output import Output
from tests.registry.cards import BUILD
from tests.registry.hub import QUIET, online
from tests.registry.hub_server import HubServer

__all__ = ["online"]
pytestmark = QUIET


@pytest.fixture
def server(online: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A Hub with whatever a card may name; the current folder has folders of the same names."""
    monkeypatch.chdir(tmp_path)
    with HubServer() as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        index = {"model_index.json": b"{}"}
        for name in ("evil/model", "zai-0rg/CogVideoX-5b", "THUDM/CogVideoX-5b"):
            made.put(name, index)
        for name in ("evil/model", "gpt2", "THUDM/CogVideoX-5b"):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "model_index.json").write_text('{"_class_name": "evil"}')
        yield made


def apply(*more: str, **backbone: Any) -> Result:
    """`pe apply` of a card whose backbone says what is given."""
    card = BUILD("rotary-angle")
    own = replace(card.spec.backbone, **{"weights_digest": None} | backbone)
    MotionCard(replace(card.spec, backbone=own, digest=""), card.tensors).save("c.safetensors")
    words = ["apply", "c.safetensors", "--prompt", "a red circle", "-o", "o.mp4", *more]
    result = CliRunner().invoke(cli, words)
    Path("c.safetensors").unlink()
    assert "Traceback" not in result.stderr
    return result


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model under a known name": (
        {"variant": "bundled", "model_id": "evil/model"}, "--backbone evil/model"
    ),
    "another model": ({"variant": "custom", "model_id": "evil/model"}, "--backbone evil/model"),
    "its revision": (
        {"variant": "custom", "model_id": "evil/model", "revision": "v1"},
        "--backbone evil/model --revision v1",
    ),
    "an id like a folder": ({"variant": "custom", "model_id": "gpt2"}, "name it yourself"),
    "a near name": (
        {"variant": "cogvideox-5b", "model_id": "zai-0rg/CogVideoX-5b"},
        "--backbone zai-0rg/CogVideoX-5b",
    ),
    "another known model": (
        {"variant": "cogvideox-2b", "model_id": "THUDM/CogVideoX-5b"},
        "--backbone THUDM/CogVideoX-5b",
    ),
    "a proposal": (
        {"variant": "cogvideox-5b", "model_id": "THUDM/CogVideoX-5b", "revision": "refs/pr/1"},
        "--backbone THUDM/CogVideoX-5b --revision refs/pr/1 (loads THUDM/CogVideoX-5b at refs/pr/1,"
        " 21.6 GB,",
    ),
    "a path as revision": (
        {"variant": "cogvideox-5b", "revision": "../../../tmp/x"},
        "--backbone THUDM/CogVideoX-5b (loads",
    ),
    "a command as revision": (
        {"variant": "cogvideox-5b", "revision": "main; rm -rf ~"},
        "--backbone THUDM/CogVideoX-5b (loads",
    ),
    "a folder of somebody": ({"variant": "custom", "model_id": None}, "Name the folder"),
    "a variant of nothing": ({"variant": "sora", "model_id": None}, "Name the folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_card_chooses_no_model(
    name: str, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, says = REFUSED[name]
    monkeypatch.setattr(
        "pe_toolkit.backbones.loading.load.load_backbone", lambda *_, **__: pytest.fail("loaded")
    )
    result = apply(**backbone)
    assert result.exit_code == 2, result.stderr
    said = " ".join(result.stderr.split())
    assert says in said
    assert "rm -rf" not in said.partition("Hint:")[2]
    if "--backbone" in says:
        assert "pe apply c.safetensors --prompt 'a red circle' -o o.mp4 --backbone" in said
    assert not server.requests
    assert not Path("o.mp4").exists()


def test_what_the_line_names_is_asked_for(server: HubServer) -> None:
    """The line that was printed is one that works: here as far as the server's model goes."""
    result = apply("--backbone", "evil/model", variant="bundled", model_id="evil/model")
    assert result.exit_code == 1
    assert "a pipeline out of CogVideoXPipeline" in " ".join(result.stderr.split())
    assert server.sent("GET", "/evil/model/resolve/.*model_index")
    assert {r.path for r in server.sent("GET", "/resolve/")} == {
        f"/evil/model/resolve/{server.repos['evil/model'].head}/model_index.json"
    }


def test_its_own_weights_have_their_digest(server: HubServer, tmp_path: Path) -> None:
    """Known on both sides and different: refused, also with --force."""
    from pe_toolkit.backbones import load_backbone

    adapter = load_backbone("bundled", device="cpu")
    same = {"variant": "bundled", "model_id": None, "fingerprint": adapter.fingerprint()}
    result = apply("--force", "--device", "cpu", **same, weights_digest="sha256:" + "00" * 32)
    assert result.exit_code == 2
    assert f"this backbone's are {adapter.weights_digest}" in " ".join(result.stderr.split())
    assert not Path("o.mp4").exists()


def test_what_libraries_log_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    import diffusers  # noqa: F401

    names = [name for name in loggers.LIBRARIES if logging.getLogger(name).handlers]
    before = {name: list(logging.getLogger(name).handlers) for name in names}
    loggers.take(Output())
    logging.getLogger("diffusers.evil").warning("a class \x1b]0;evil\x07")
    logging.getLogger("diffusers").debug("nothing")
    said = capsys.readouterr().err
    logging.getLogger("diffusers").warning("a row " * 1000)
    assert len(capsys.readouterr().err) < 500
    for name in loggers.LIBRARIES:
        logging.getLogger(name).handlers[:] = before.get(name, [])
        logging.getLogger(name).propagate = True
    assert "\x1b" not in said
    assert said.startswith("Warning: diffusers: a class ")
    assert len(said.splitlines()) == 1


def test_under_json_the_loading_is_an_event(server: HubServer) -> None:
    result = apply("--json", "--device", "cpu", variant="bundled", model_id=None)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    parts = [event for event in events if event["event"] == "part-loaded"]
    assert [event["part"] for event in parts][:1] == [""]
    assert parts[-1]["done"] == parts[-1]["total"] > 0


def test_a_large_model_has_a_line_for_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    from pe_toolkit.backbones.loading import PartLoaded
    from pe_toolkit.cli.loading import drawn

    for total, lines in ((21_600_000_000, 3), (25_000_000, 0)):
        with drawn(Output()) as on_part:
            on_part(PartLoaded("", 0, total))
            on_part(PartLoaded("transformer", total // 2, total))
            on_part(PartLoaded("vae", total, total))
        said = capsys.readouterr().err.splitlines()
        assert len(said) == lines
        assert not lines or said[1] == "loading: transformer, 10.8 of 21.6 GB"
