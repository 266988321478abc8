"""A card on a remote, given to a command: an old copy is told of, and `pe.lock` is honoured."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

import pe_toolkit
from pe_toolkit.cli.main import cli
from pe_toolkit.registry import lockfile
from pe_toolkit.registry.errors import CopyWarning, RegistryError
from pe_toolkit.registry.remotes import hub as hub_module
from pe_toolkit.registry.remotes.retry import Backoff
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online"]
pytestmark = QUIET
LOCK = Path("pe.lock")


@pytest.fixture(autouse=True)
def project(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current folder; the Hub of the test is the one that is asked, without long waits."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub_module, "Backoff", lambda: Backoff(2, 0.01, 0.02, 2))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    made = tmp_path / "project"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def put(hub: HubServer, path: Path, tag: str | None = None) -> str:
    """Make a card the newest of zoe/wave, tag included, whatever was there; its SHA-256."""
    assert pe("push", path, "zoe/wave", "--force", *(("--tag", tag) if tag else ())).exit_code == 0
    return hub.repos["zoe/wave"].files["card.safetensors"].sha256


def moved_while_down(hub: HubServer, card: Path, folder: Path) -> tuple[str, str]:
    """The card of before, which is in the cache, and the one of now, when the Hub fails."""
    old = put(hub, card)
    assert pe("show", "zoe/wave").exit_code == 0
    new = put(hub, make_card(folder, seed=7))
    hub.faults.append(Fault("GET|HEAD", ".*", times=10_000, status=503))
    return old, new


@pytest.mark.parametrize("words", [["show"], ["verify"], ["show", "--json"]], ids=str)
def test_an_old_copy_is_told(hub: HubServer, card: Path, folder: Path, words: list[str]) -> None:
    moved_while_down(hub, card, folder)
    result = pe(*words, "zoe/wave")
    assert result.exit_code == 0, result.output
    assert "This is the copy in the cache, which may be older." in result.stderr


def test_an_old_copy_is_told_in_python(hub: HubServer, card: Path, folder: Path) -> None:
    moved_while_down(hub, card, folder)
    with pytest.warns(CopyWarning, match="hf://zoe/wave: .*copy in the cache") as said:
        pe_toolkit.load("zoe/wave")
    assert [Path(warning.filename).name for warning in said] == [Path(__file__).name]


def test_a_fresh_copy_is_not_told(hub: HubServer, card: Path) -> None:
    put(hub, card)
    assert pe("show", "zoe/wave").stderr == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pe_toolkit.load("zoe/wave")


def test_an_old_copy_is_not_pinned(hub: HubServer, card: Path, folder: Path) -> None:
    old, _ = moved_while_down(hub, card, folder)
    commits = hub.repos["zoe/wave"].commits
    (commit,) = (c for c, files in commits.items() if old in {f.sha256 for f in files.values()})
    refused = pe("lock", "zoe/wave")
    assert refused.exit_code == 1
    assert "Error: Expected to ask what hf://zoe/wave is now" in refused.stderr
    assert f"pe lock hf://zoe/wave@{commit}" in refused.stderr
    assert not LOCK.exists()
    exact = pe("lock", f"zoe/wave@{commit}")  # a commit is never older
    assert exact.exit_code == 0, exact.output
    assert [pin.sha256 for pin in lockfile.read(LOCK)] == [old]


def test_a_moved_tag_does_not_change_a_project(hub: HubServer, card: Path, folder: Path) -> None:
    old = put(hub, card, "v1.0.0")
    assert pe("lock", "zoe/wave@v1.0.0").exit_code == 0
    new = put(hub, make_card(folder, seed=7), "v1.0.0")
    assert new != old
    hub.requests.clear()
    for words in (("verify",), ("show", "--json"), ("add",)):
        result = pe(*words, "zoe/wave@v1.0.0")
        assert result.exit_code == 0, result.output
        assert old in result.stdout
        assert new not in result.stdout
    assert pe_toolkit.load("hf://zoe/wave@v1.0.0").digest == pe_toolkit.load(card).digest
    assert hub.requests == []  # the pinned card is here
    assert pe("lock", "--check").exit_code == 0
    changed = pe("lock", "zoe/wave@v1.0.0")  # asked for: take the new one
    assert changed.stdout.endswith("  changed\n"), changed.output
    assert new in pe("verify", "zoe/wave@v1.0.0").stdout


def test_every_spelling_of_a_pinned_card_is_pinned(
    hub: HubServer, card: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub, card)
    shared = tmp_path / "shared"
    shared.mkdir()
    assert pe("push", card, shared.as_uri()).exit_code == 0
    there = f"{shared.as_uri()}/wave"
    assert pe("lock", "zoe/wave", there).exit_code == 0
    new = put(hub, make_card(folder, seed=7))
    assert pe("push", make_card(folder, seed=8), shared.as_uri(), "--force").exit_code == 0
    monkeypatch.setenv("PE_HOME", str(tmp_path / "colleague"))
    host = there.replace("file://", "file://localhost")
    spellings = [there, f"{shared.as_uri()}/Wave", f"{shared.as_uri()}//wave", host,
                 f"{shared.as_uri()}/w%61ve", "zoe/wave", "Zoe/WAVE", "hf://zoe/Wave"]  # fmt: skip
    for spelling in spellings:
        refused = pe("show", spelling)
        assert refused.exit_code == 1, spelling
        assert "as pe.lock pins it" in refused.stderr
    changed = pe("lock", "Zoe/Wave")  # one pin, not a second
    assert changed.stdout.endswith("  changed\n"), changed.output
    assert sorted(pin.card for pin in lockfile.read(LOCK)) == [there, "hf://Zoe/Wave"]
    assert new in pe("verify", "zoe/wave").stdout
    assert pe("lock", "--remove", "ZOE/wave").exit_code == 0
    assert [pin.card for pin in lockfile.read(LOCK)] == [there]


def test_another_card_than_the_pinned_one_is_refused(
    hub: HubServer, card: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path
) -> None:
    old = put(hub, card, "v1.0.0")
    assert pe("lock", "zoe/wave@v1.0.0").exit_code == 0
    new = put(hub, make_card(folder, seed=7), "v1.0.0")
    monkeypatch.setenv("PE_HOME", str(isolated / "colleague"))
    (origin,) = (pin.origin for pin in lockfile.read(LOCK))
    clip = ("--prompt", "a red circle on a black background", "-o", "out.mp4")
    target = folder.as_uri()
    for words in (("show",), ("verify",), ("add",), ("apply", *clip), ("push",)):
        card_last = ["zoe/wave@v1.0.0", *([target] if words == ("push",) else [])]
        result = pe(*words, *card_last)
        assert result.exit_code == 1, result.output
        assert f"sha256:{old}" in result.stderr
        assert f"sha256:{new}" in result.stderr
        assert "`origin` in the lock file says where the pinned one came from." in result.stderr
        assert str(origin) not in result.stderr  # whoever wrote the lock file chose that text
        assert "pe lock hf://zoe/wave@v1.0.0" in result.stderr
    with pytest.raises(RegistryError, match=new):
        pe_toolkit.load("zoe/wave@v1.0.0")
    assert Store().entries() == []  # it was not kept either
    assert pe("pull", str(origin)).exit_code == 0
    assert old in pe("verify", "zoe/wave@v1.0.0").stdout


def test_a_lock_file_that_cannot_be_read_stops_what_it_may_pin(hub: HubServer, card: Path) -> None:
    put(hub, card)
    LOCK.write_text("[")
    result = pe("show", "zoe/wave")
    assert result.exit_code == 1
    assert "Expected pe.lock to be a lock file" in result.stderr
    assert pe("show", card).exit_code == 0  # files are what they are


def test_a_traceback_hides_the_token_and_steers_nothing(hub: HubServer, card: Path) -> None:
    said = json.dumps({"error": f"bad \x1b[31m {TOKEN} hf_{'x' * 34}"}).encode()
    for words in ((), ("--debug",)):
        hub.faults.append(Fault("POST", "/commit/", status=403, body=said))
        result = pe("push", card, "zoe/wave", *words)
        assert result.exit_code == 1
        assert "bad \\x1b[31m ***" in result.stderr
        assert "\x1b" not in result.output
        assert TOKEN not in result.output
    assert "x" * 34 not in result.output
    assert "Traceback (most recent call last):\n  File " in result.stderr
