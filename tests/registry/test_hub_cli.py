"""`pe push`, `pe pull`, `pe search`, and the same from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

import pe_toolkit
from pe_toolkit.card import MotionCard
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UsageError
from pe_toolkit.registry.remotes.errors import AccessError
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online"]
pytestmark = QUIET


@pytest.fixture(autouse=True)
def here(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub of the test is the one that commands and functions ask."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def pe(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert TOKEN not in result.output
    return result


def summary(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert data["event"] == "summary"
    return data


def test_push_says_what_it_did(hub: HubServer, card: Path) -> None:
    result = pe("push", card, "zoe/wave", "--tag", "v1.0.0")
    assert result.exit_code == 0, result.output
    assert "card.safetensors  new, 2.3 kB" in result.stdout
    assert "tag v1.0.0  set" in result.stdout
    assert "pe pull zoe/wave@v1.0.0" in result.stdout
    again = pe("push", card, "hf://zoe/wave", "--tag", "v1.0.0")
    assert "Nothing to do" in again.stdout


def test_push_dry_run(hub: HubServer, card: Path) -> None:
    result = pe("push", card, "zoe/wave", "--private", "--dry-run")
    assert "would be made, private" in result.stdout
    assert "README.md  would be new" in result.stdout
    assert hub.repos == {}
    data = summary(pe("push", card, "zoe/wave", "--dry-run", "--json"))
    assert data["files"] == {"card.safetensors": "new", "README.md": "new"}
    assert data["readme"].startswith("---\nlibrary_name: pe-toolkit\n")


def test_push_from_the_local_registry(hub: HubServer, card: Path) -> None:
    Store().add(card)
    assert summary(pe("push", "wave@1.0.0", "zoe/wave", "--json"))["committed"]
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()


def test_pull_into_the_registry_and_to_a_file(hub: HubServer, card: Path, tmp_path: Path) -> None:
    pe("push", card, "zoe/wave")
    data = summary(pe("pull", "zoe/wave", "--json"))
    assert data["reference"] == "wave@1.0.0"
    assert not data["offline"]
    assert Path(data["path"]).read_bytes() == card.read_bytes()
    assert Store().entries()[0].origin == data["origin"]
    assert pe("pull", "zoe/wave", "--as", "tide@2.0.0").stdout.startswith("tide@2.0.0")
    out = tmp_path / "out.safetensors"
    assert pe("pull", "zoe/wave", "-o", out).exit_code == 0
    assert out.read_bytes() == card.read_bytes()


def test_pull_overwrites_nothing_unasked(
    hub: HubServer, card: Path, folder: Path, tmp_path: Path
) -> None:
    pe("push", card, "zoe/wave")
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"mine")
    hub.requests.clear()
    assert pe("pull", "zoe/wave", "-o", out).exit_code == 2
    assert hub.requests == []  # found before any work
    assert out.read_bytes() == b"mine"
    assert pe("pull", "zoe/wave", "-o", out, "--force").exit_code == 0
    assert out.read_bytes() == card.read_bytes()
    mine = Store().add(make_card(folder, seed=5))
    result = pe("pull", "zoe/wave")
    assert result.exit_code == 2
    assert "another card" in result.stderr
    assert Store().resolve(mine.reference).digest == mine.digest


def test_a_card_on_the_hub_is_a_card_for_every_command(hub: HubServer, card: Path) -> None:
    pe("push", card, "zoe/wave", "--tag", "v1.0.0")
    result = pe("show", "zoe/wave@1.0.0")
    assert result.exit_code == 0, result.output
    assert "wave 1.0.0" in result.stdout
    assert "no name: `pe pull` gives it one" in result.stdout
    assert Store().entries() == []
    result = pe("add", "zoe/wave@1.0.0")
    assert result.exit_code == 0, result.output
    (entry,) = Store().entries()
    assert (str(entry.reference), entry.source) == ("wave@1.0.0", "hf://zoe/wave")


def test_looking_at_a_card_takes_over_no_name(hub: HubServer, folder: Path) -> None:
    """`orbit@1.0.0` is mine; a stranger has an `orbit@9.0.0`."""
    hub.users["hf_evil_token"] = "evil"
    hub.put("evil/orbit", {"card.safetensors": make_card(folder, "orbit", "9.0.0").read_bytes()})
    hub.put("me/orbit", {"card.safetensors": make_card(folder, "orbit", "1.0.0").read_bytes()})
    mine = pe("pull", "me/orbit")
    assert mine.exit_code == 0, mine.output
    assert "alone" not in mine.stderr
    for words in (["show", "evil/orbit"], ["verify", "evil/orbit"]):
        assert pe(*words).exit_code == 0
        assert "name       orbit@1.0.0" in pe("show", "orbit").stdout
    pulled = pe("pull", "evil/orbit")
    assert pulled.exit_code == 0
    both = "orbit@9.0.0 (hf://evil/orbit) or orbit@1.0.0 (hf://me/orbit)."
    assert pulled.stderr.startswith("Warning: orbit alone means nothing any more")
    assert both in pulled.stderr
    for words in (["show", "orbit"], ["lock", "orbit", "-f", folder / "pe.lock"]):
        refused = pe(*words)
        assert refused.exit_code == 2, refused.output
        assert f"Hint: Write {both}" in refused.stderr
    assert "name       orbit@9.0.0" in pe("show", "orbit@9.0.0").stdout
    listed = [line.split("  ") for line in pe("list").stdout.splitlines()]
    assert [line[7].partition("@")[0] for line in listed] == ["hf://me/orbit", "hf://evil/orbit"]
    pe("rm", "orbit@9.0.0")
    assert "name       orbit@1.0.0" in pe("show", "orbit").stdout
    hub.put("me/orbit", {"card.safetensors": make_card(folder, "orbit", "1.1.0").read_bytes()})
    newer = pe("pull", "me/orbit")
    assert newer.stderr.startswith("orbit alone now means orbit@1.1.0, before orbit@1.0.0.")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("pull", "zoe/nothing"), 1),
        (("pull", "wave"), 2),
        (("pull", "./wave.safetensors"), 2),
        (("pull", "zoe/wave", "-o", "a.txt"), 2),
        (("pull", "zoe/wave", "-o", "a.safetensors", "--as", "x"), 2),
        (("pull", "zoe/wave", "--as", "sha256:0000"), 2),
        (("push", "CARD", "wave"), 2),
        (("push", "CARD", "zoe/wave", "--tag", "v2.0.0"), 2),
        (("push", "CARD", "zoe/wave@main"), 2),
        (("push", "gone.safetensors", "zoe/wave"), 1),
        (("push", "CARD", "bob/wave"), 1),
        (("search", "--in", "zoe/wave"), 2),
        (("search", "--limit", "0"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes(hub: HubServer, card: Path, words: tuple[str, ...], code: int) -> None:
    result = pe(*[card if word == "CARD" else word for word in words])
    assert result.exit_code == code, result.output
    assert "Error:" in result.stderr
    assert "Traceback" not in result.output


def test_search(hub: HubServer, card: Path, folder: Path) -> None:
    pe("push", card, "zoe/wave")
    pe("push", make_card(folder, name="tide", seed=1), "zoe/tide")
    hub.put("bob/model", {"README.md": b"---\ntags: [text-to-video]\n---\n"})
    assert [line.split()[0] for line in pe("search").stdout.splitlines()] == [
        "zoe/wave", "zoe/tide"
    ]  # fmt: skip
    assert pe("search", "tide", "--backbone", "bundled", "--author", "zoe").stdout.split()[:3] == [
        "zoe/tide", "1.0.0", "bundled"
    ]  # fmt: skip
    assert "Nothing found" in pe("search", "wave", "--backbone", "cogvideox-5b").stderr
    assert "--limit 1 was reached" in pe("search", "--limit", "1").stderr
    lines = [json.loads(line) for line in pe("search", "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["card", "card", "summary"]
    assert lines[0]["reference"] == "zoe/wave"


def test_search_of_a_model_by_its_hub_id(hub: HubServer) -> None:
    front = b"---\ntags: [motion-card]\nbase_model: THUDM/CogVideoX-5b\n---\n"
    hub.put("zoe/wave", {"README.md": front})
    assert "zoe/wave" in pe("search", "--backbone", "THUDM/CogVideoX-5b").stdout
    assert "zoe/wave" not in pe("search", "--backbone", "THUDM/CogVideoX-2b").stdout


def test_what_strangers_write_cannot_steer_the_terminal(hub: HubServer) -> None:
    answer = [
        {
            "id": "evil/\x1b[31mwave\n\rx", "author": "\x07", "likes": "many", "downloads": [1],
            "tags": 7, "lastModified": None, "private": "yes",
            "cardData": {"motion_card": {"version": "\u202e" * 500, "backbone": {"a": 1}},
                         "license": ["\x1b]8;;x"]},
        },
        "not even an object",
    ]  # fmt: skip
    body = json.dumps(answer).encode()
    hub.faults.append(Fault("GET", "/api/models$", times=2, status=200, body=body))
    result = pe("search")
    assert result.exit_code == 0, result.output
    assert not set(result.output) & set("\x1b\x07\r\u202e")
    assert len(result.stdout.splitlines()) == 1
    assert len(result.stdout) < 200
    assert summary(pe("search", "--json"))["cards"] == 1


def test_search_survives_an_answer_that_is_no_list(hub: HubServer) -> None:
    hub.faults.append(Fault("GET", "/api/models$", status=200, body=b'{"error": "x"}'))
    result = pe("search")
    assert result.exit_code == 1
    assert "Expected to search" in result.stderr


def test_a_push_has_the_same_keys_everywhere(hub: HubServer, card: Path, tmp_path: Path) -> None:
    for words, tagged in ((["--dry-run"], False), ([], False), (["--tag", "1.0.0"], True)):
        there = summary(pe("push", card, "zoe/wave", *words, "--json"))
        here = summary(pe("push", card, tmp_path.as_uri(), *words, "--json"))
        assert set(there) == set(here)
        assert (there["private"], here["private"]) == (False, None)
        assert here["commit"] is None
        assert there["tag"] == here["tag"] == ("v1.0.0" if tagged else None)
        assert (there["tagged"], here["tagged"]) == (tagged, False)  # the file was there already
        assert (there["readme"] is None) == ("--dry-run" not in words)
        assert here["readme"] == ("" if "--dry-run" in words else None)
        keys = set(there) - {"event"}
        page = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")
        assert all(f"`{key}`" in page for key in keys)


def test_folder_remote(card: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    data = summary(pe("push", card, shared.as_uri(), "--json"))
    assert data["files"] == {"wave/1.0.0.safetensors": "new"}
    assert pe("search", "wave", "--in", shared.as_uri()).stdout.startswith(data["reference"])
    assert summary(pe("pull", data["reference"], "--json"))["reference"] == "wave@1.0.0"
    assert pe("show", f"{shared.as_uri()}/wave").exit_code == 0
    Store().add(card, "my-name")
    said = pe("push", "my-name", shared.as_uri()).stdout
    assert said.startswith("my-name/1.0.0.safetensors  new")
    assert "repository" not in said
    assert "public" not in said
    assert said.endswith(f"Get it with: pe pull {shared.as_uri()}/my-name@1.0.0\n")


def test_python_push_and_load(hub: HubServer, card: Path) -> None:
    loaded = pe_toolkit.load(card)
    done = pe_toolkit.push_to_hub(loaded, "zoe/wave", private=True, tag="v1.0.0")
    assert done.reference == "zoe/wave@v1.0.0"
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()
    again = pe_toolkit.load("zoe/wave@v1.0.0")
    assert isinstance(again, MotionCard)
    assert again.digest == loaded.digest
    assert Store().entries() == []  # looked at, not named
    assert not pe_toolkit.push_to_hub("zoe/wave", "zoe/wave").committed


def test_python_errors(hub: HubServer, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="owner/name"):
        pe_toolkit.push_to_hub(card, "wave")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AccessError, match="there is none"):
        pe_toolkit.push_to_hub(card, "zoe/wave")


HEAVY = {"torch", "diffusers", "transformers", "accelerate", "av", "numpy", "rich"}
RUN = """
import sys
sys.argv = ["pe", *sys.argv[1:]]
from pe_toolkit.cli.main import main
try:
    main()
except SystemExit as exit:
    code = exit.code or 0
print(" ".join({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def test_a_real_process_with_the_environment_of_users(
    hub: HubServer, card: Path, isolated: Path
) -> None:
    """HF_ENDPOINT, a token from `hf auth login`, and xet on, which not every server has."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(isolated / "huggingface")}
    token = isolated / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(TOKEN)
    for words in (("push", str(card), "zoe/wave"), ("pull", "zoe/wave"), ("search", "wave")):
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert TOKEN not in done.stdout
        assert not HEAVY & set(done.stdout.splitlines()[-1].split())
    assert hub.sent("GET", "xet-write-token")
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("name", ["HF_HOME", "HF_HUB_CACHE"])
def test_a_cache_that_is_a_file(
    hub: HubServer, card: Path, isolated: Path, name: str, token: bool
) -> None:
    assert pe("push", card, "zoe/wave").exit_code == 0
    file = isolated / "file"
    file.touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(isolated / "hf"), name: str(file)}
    environment |= {"HF_TOKEN": TOKEN} if token else {}
    done = subprocess.run(
        [sys.executable, "-m", "pe_toolkit", "pull", "zoe/wave"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "but a file lies where a folder is expected." in done.stderr
    assert f"{name} says where: {file}" in done.stderr
