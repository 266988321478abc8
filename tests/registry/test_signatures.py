"""Signed cards, with the real ssh-keygen: whose signature passes, and everything that must not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UsageError
from pe_toolkit.registry import lockfile, signature_files, signatures
from pe_toolkit.registry.errors import SignatureError
from pe_toolkit.registry.remotes import hub as hub_module
from pe_toolkit.registry.remotes.retry import Backoff
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online
from tests.registry.hub_server import Fault, HubServer

__all__ = ["card", "folder", "hub", "online"]
pytestmark = [
    QUIET,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here"),
]
LOCK, SIG = Path("pe.lock"), "card.safetensors.sig"


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def make_key(folder: Path, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
    path = folder / name
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", name, "-f", str(path)]
    subprocess.run(words, check=True)
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of zoe and eve."""
    made = tmp_path_factory.mktemp("keys")
    for name in ("zoe", "eve"):
        make_key(made, name)
    return made


@pytest.fixture
def zoe(keys: Path) -> Path:
    return keys / "zoe"


@pytest.fixture
def eve(keys: Path) -> Path:
    return keys / "eve"


@pytest.fixture
def project(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current folder; the Hub of the test is the one that is asked."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub_module, "Backoff", lambda: Backoff(2, 0.01, 0.02, 2))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    made = tmp_path / "project"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def fingerprint(key: Path) -> str:
    """As OpenSSH itself says it."""
    words = ["ssh-keygen", "-l", "-f", f"{key}.pub"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[1]


def put_signature(hub: HubServer, data: bytes) -> None:
    """Replace the signature on the Hub, as somebody with write access would."""
    hub.put("zoe/wave", {SIG: data})


# The signature itself


def test_a_signature_is_of_these_bytes_and_of_this_key(card: Path, zoe: Path, eve: Path) -> None:
    before = card.read_bytes()
    made = signatures.sign(card, zoe)
    assert card.read_bytes() == before
    assert signatures.signer(card, made) == signatures.Signer(fingerprint(zoe), "ED25519")
    for text in (fingerprint(zoe), f"{zoe}.pub"):
        assert signatures.check(card, [made], signatures.who(text)).fingerprint == fingerprint(zoe)
    with pytest.raises(SignatureError, match=re.escape(f"got {fingerprint(zoe)[:12]}")):
        signatures.check(card, [made], signatures.who(f"{eve}.pub"))
    with pytest.raises(SignatureError, match="got none"):
        signatures.check(card, [], signatures.who(f"{zoe}.pub"))
    # one good signature among others is enough
    both = [signatures.sign(card, eve), b"-----BEGIN SSH SIGNATURE-----\nx", made]
    assert signatures.check(card, both, signatures.who(f"{zoe}.pub"))


def test_every_changed_byte_is_found(card: Path, zoe: Path, tmp_path: Path) -> None:
    made, data = signatures.sign(card, zoe), card.read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        other = tmp_path / "other.safetensors"
        other.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(SignatureError, match="Expected a sound signature of this card"):
            signatures.signer(other, made)
    lines = made.splitlines(keepends=True)
    changed = lines[3].swapcase()
    for broken in (b"", b"x", lines[0], made[:-40], b"".join([*lines[:3], changed, *lines[4:]])):
        with pytest.raises(SignatureError):
            signatures.signer(card, broken)


def test_a_signature_for_another_purpose_does_not_pass(card: Path, zoe: Path) -> None:
    words = ["ssh-keygen", "-Y", "sign", "-f", str(zoe), "-n", "file", str(card)]
    subprocess.run(words, check=True, capture_output=True)
    made = signature_files.read(signature_files.beside(card))
    assert made is not None
    with pytest.raises(SignatureError, match="namespace"):
        signatures.signer(card, made)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_other_kinds_of_keys(card: Path, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, "-key", kind)  # a dash is no option
    found = signatures.signer(card, signatures.sign(card, key))
    assert found == signatures.Signer(fingerprint(key.absolute()), kind.upper())


def test_a_name_in_a_list_of_allowed_signers(card: Path, zoe: Path, eve: Path) -> None:
    made = signatures.sign(card, zoe)
    name, file = "zoe@example.org", card.parent / "signers"
    with pytest.raises(UsageError, match="there is no file"):
        signatures.who(name, file)
    file.write_text(f'{name} namespaces="pe-card" {Path(f"{zoe}.pub").read_text()}')
    assert signatures.check(card, [made], signatures.who(name, file)).fingerprint == fingerprint(
        zoe
    )
    for other in ("eve@example.org", "zoe@example.or"):
        with pytest.raises(SignatureError):
            signatures.check(card, [made], signatures.who(other, file))
    with pytest.raises(SignatureError):
        signatures.check(card, [signatures.sign(card, eve)], signatures.who(name, file))
    file.write_text(f"{name} valid-before=20200101 {Path(f'{zoe}.pub').read_text()}")
    with pytest.raises(SignatureError):  # OpenSSH's own rules count
        signatures.check(card, [made], signatures.who(name, file))


@pytest.mark.parametrize("text", ["", "-x", "a b", "a\nb", "SHA256:short", "SHA256:" + "é" * 43])
def test_who_is_nobody(text: str) -> None:
    with pytest.raises(UsageError):
        signatures.who(text)


def test_a_public_key_that_is_none(zoe: Path, tmp_path: Path) -> None:
    for text in ("", "ssh-ed25519", "ssh-ed25519 eA==", "ssh-ed25519 ###", zoe.read_text()):
        path = tmp_path / "x.pub"
        path.write_text(text)
        with pytest.raises(UsageError, match="Expected a public key"):
            signatures.who(str(path))
    with pytest.raises(UsageError, match="No such file"):
        signatures.who("nobody.pub")


def test_a_key_that_cannot_sign(card: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is none"):
        signatures.sign(card, tmp_path / "nowhere")
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(SignatureError, match="Expected to sign with"):
        signatures.sign(card, tmp_path / "junk")


def test_without_ssh_keygen(
    card: Path, zoe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = signatures.sign(card, zoe)
    signature_files.beside(card).write_bytes(made)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = pe("verify", card, "--signed-by", f"{zoe}.pub")
    assert result.exit_code == 1
    assert "Expected ssh-keygen to make and check signatures" in result.stderr
    assert "Install OpenSSH" in result.stderr
    shown = pe("show", card)  # looking is still possible
    assert shown.exit_code == 0
    assert "signed by" in shown.stdout
    assert "not checked: ssh-keygen is not there" in shown.stdout


# Commands


def test_a_file_signed_by_hand(card: Path, zoe: Path, eve: Path) -> None:
    words = ["ssh-keygen", "-Y", "sign", "-f", str(zoe), "-n", "pe-card", str(card)]
    subprocess.run(words, check=True, capture_output=True)
    good = pe("verify", card, "--signed-by", f"{zoe}.pub")
    assert good.exit_code == 0, good.output
    assert f"{fingerprint(zoe)} (ED25519)" in pe("show", card).stdout
    bad = pe("verify", card, "--signed-by", f"{eve}.pub")
    assert bad.exit_code == 1
    assert f"got {fingerprint(zoe)}" in bad.stderr
    # the registry keeps it
    assert pe("add", card, "wave").exit_code == 0
    for cards in (["wave"], ["--all"]):
        assert pe("verify", *cards, "--signed-by", fingerprint(zoe)).exit_code == 0
        assert pe("verify", *cards, "--signed-by", fingerprint(eve)).exit_code == 1


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_push_and_pull_over_the_hub(
    hub: HubServer, project: Path, card: Path, tmp_path: Path, kind: str
) -> None:
    key = make_key(tmp_path, "key", kind)
    words = ("push", card, "zoe/wave", "--tag", "v1.0.0", "--sign", "--key", key)
    first = pe(*words)
    assert first.exit_code == 0, first.output
    assert f"{SIG}  new" in first.stdout
    files = hub.repos["zoe/wave"].files
    assert files["card.safetensors"].data == card.read_bytes()
    again = pe(*words)
    assert again.stdout.endswith("Nothing to do: all of it is there already.\n"), again.output
    assert hub.repos["zoe/wave"].files == files
    for name in ("zoe/wave", "zoe/wave@v1.0.0"):
        assert pe("verify", name, "--signed-by", f"{key}.pub").exit_code == 0
        assert fingerprint(key) in pe("show", name).stdout
        assert json.loads(pe("show", name, "--json").stdout)["signers"] == [
            f"{fingerprint(key)} ({kind.upper()})"
        ]
    assert "signed" in pe("search", "wave").stdout
    out = tmp_path / "out.safetensors"
    assert pe("pull", "zoe/wave", "-o", out).exit_code == 0
    assert pe("verify", out, "--signed-by", f"{key}.pub").exit_code == 0
    # the cache has it too
    hub.faults.append(Fault("GET|HEAD", ".*", times=10_000, status=503))
    assert pe("verify", "zoe/wave", "--signed-by", f"{key}.pub").exit_code == 0


def test_signing_what_is_tagged_already_moves_the_tag_to_the_same_card(
    hub: HubServer, project: Path, card: Path, zoe: Path
) -> None:
    assert pe("push", card, "zoe/wave", "--tag", "v1.0.0").exit_code == 0
    assert "signed" not in pe("search", "wave").stdout
    signed = pe("push", card, "zoe/wave", "--tag", "v1.0.0", "--sign", "--key", zoe)
    assert signed.exit_code == 0, signed.output
    assert pe("verify", "zoe/wave@v1.0.0", "--signed-by", f"{zoe}.pub").exit_code == 0


def test_another_card_does_not_keep_the_signature(
    hub: HubServer, project: Path, card: Path, folder: Path, zoe: Path
) -> None:
    pe("push", card, "zoe/wave", "--sign", "--key", zoe)
    assert f"{SIG}  deleted" in pe("push", make_card(folder, seed=7), "zoe/wave").stdout
    assert SIG not in hub.repos["zoe/wave"].files
    assert pe("verify", "zoe/wave", "--signed-by", f"{zoe}.pub").exit_code == 1


@pytest.mark.parametrize("data", [b"", b"junk", b"-----BEGIN SSH SIGNATURE-----\n" + b"x" * 99_999])
def test_a_signature_that_is_none_keeps_nobody_from_the_card(
    hub: HubServer, project: Path, card: Path, zoe: Path, data: bytes
) -> None:
    pe("push", card, "zoe/wave", "--sign", "--key", zoe)
    put_signature(hub, data)
    assert pe("pull", "zoe/wave").exit_code == 0
    assert pe("verify", "zoe/wave", "--signed-by", f"{zoe}.pub").exit_code == 1


def test_push_and_pull_over_a_folder(
    card: Path, folder: Path, zoe: Path, eve: Path, tmp_path: Path
) -> None:
    team = tmp_path / "team"
    team.mkdir()
    words = ("push", card, team.as_uri(), "--sign", "--key")
    first = pe(*words, zoe)
    assert "1.0.0.safetensors.sig  new" in first.stdout, first.output
    name = json.loads(pe(*words, zoe, "--json").stdout.splitlines()[-1])["reference"]
    assert "Nothing to do" in pe(*words, zoe).stdout
    assert "Nothing to do" in pe("push", card, team.as_uri()).stdout  # and it stays
    assert pe("verify", name, "--signed-by", f"{zoe}.pub").exit_code == 0
    assert "signed" in pe("search", "--in", team.as_uri()).stdout
    other = pe(*words, eve)
    assert other.exit_code == 1
    assert "Expected nobody else's signature" in other.stderr
    assert "  changed" in pe(*words, eve, "--force").stdout
    assert pe("verify", name, "--signed-by", f"{eve}.pub").exit_code == 0
    replaced = pe("push", make_card(folder, seed=7), team.as_uri(), "--force")
    assert "1.0.0.safetensors.sig  deleted" in replaced.stdout
    assert pe("verify", name, "--signed-by", f"{eve}.pub").exit_code == 1


def test_a_signature_that_a_killed_push_left_goes(
    card: Path, folder: Path, zoe: Path, tmp_path: Path
) -> None:
    """The card came into the place of another one, whose signature was still there."""
    team = tmp_path / "team"
    team.mkdir()
    pe("push", card, team.as_uri(), "--sign", "--key", zoe)
    other = make_card(folder, seed=7)
    (team / "wave" / "1.0.0.safetensors").write_bytes(other.read_bytes())
    assert "1.0.0.safetensors.sig  deleted" in pe("push", other, team.as_uri()).stdout
    assert "Nothing to do" in pe("push", other, team.as_uri()).stdout


def test_keys_of_nobody(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PE_SIGNING_KEY", "~nobody-of-that-name/key")
    result = pe("push", card, tmp_path.as_uri(), "--sign")
    assert "Unexpected" not in result.stderr
    assert "~nobody-of-that-name/key" in result.stderr
    result = pe("verify", card, "--signed-by", "~nobody-of-that-name/zoe.pub")
    assert result.exit_code == 2
    assert "Unexpected" not in result.stderr


def test_the_default_key(
    card: Path, zoe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PE_SIGNING_KEY", raising=False)
    result = pe("push", card, tmp_path.as_uri(), "--sign")
    assert result.exit_code == 2
    assert "Expected a key to sign with" in result.stderr
    assert pe("push", card, tmp_path.as_uri(), "--key", zoe).exit_code == 2
    monkeypatch.setenv("PE_SIGNING_KEY", str(zoe))
    assert pe("push", card, tmp_path.as_uri(), "--sign").exit_code == 0


# Pins of who


def test_a_pin_of_who(
    hub: HubServer,
    project: Path,
    card: Path,
    folder: Path,
    zoe: Path,
    eve: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pe("push", card, "zoe/wave", "--sign", "--key", zoe)
    wrong = pe("lock", "zoe/wave", "--signed-by", f"{eve}.pub")
    assert wrong.exit_code == 1
    assert not LOCK.exists()
    locked = pe("lock", "zoe/wave", "--signed-by", f"{zoe}.pub")
    assert locked.exit_code == 0, locked.output
    assert [pin.signer for pin in lockfile.read(LOCK)] == [fingerprint(zoe)]
    assert pe("lock", "--check").exit_code == 0
    before = LOCK.read_bytes()
    # A colleague, whose registry is empty, and a thief of the account, who has no key.
    newer = make_card(folder, seed=7)
    for how in ((), ("--sign", "--key", eve)):
        assert pe("push", newer, "zoe/wave", *how).exit_code == 0
        monkeypatch.setenv("PE_HOME", str(tmp_path / f"colleague{len(how)}"))
        for words in (("lock",), ("lock", "zoe/wave"), ("pull", "zoe/wave")):
            result = pe(*words)
            assert result.exit_code == 1, result.output
            assert f"Expected a signature by {fingerprint(zoe)}" in result.stderr
            assert "pe lock --remove hf://zoe/wave" in result.stderr
        assert Store().entries() == []
        assert LOCK.read_bytes() == before
    # Zoe's own new version is welcome.
    assert pe("push", newer, "zoe/wave", "--sign", "--key", zoe).exit_code == 0
    assert pe("pull", "zoe/wave").exit_code == 0
    assert pe("lock").stdout.endswith("  changed\n")
    assert pe("lock", "--check").exit_code == 0
    assert [pin.signer for pin in lockfile.read(LOCK)] == [fingerprint(zoe)]


def test_the_pinned_card_without_its_signature_is_refused(
    hub: HubServer,
    project: Path,
    card: Path,
    zoe: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pe("push", card, "zoe/wave", "--sign", "--key", zoe)
    assert pe("lock", "zoe/wave", "--signed-by", f"{zoe}.pub").exit_code == 0
    hub.requests.clear()
    assert pe("show", "zoe/wave").exit_code == 0
    assert hub.requests == []  # card and signature are here
    repo = hub.repos["zoe/wave"]
    repo.commit({k: v for k, v in repo.files.items() if k != SIG}, "unsigned")
    monkeypatch.setenv("PE_HOME", str(tmp_path / "colleague"))
    for words in (("show",), ("verify",), ("add",)):
        result = pe(*words, "zoe/wave")
        assert result.exit_code == 1, result.output
        assert "hf://zoe/wave: Expected a signature by" in result.stderr
        assert "got none" in result.stderr
    assert Store().entries() == []
    # The same bytes, here under a name of their own: still not signed.
    assert pe("add", card, "wave").exit_code == 0
    assert pe("show", "zoe/wave").exit_code == 1
    assert pe("lock", "--check").exit_code == 1
    put_signature(hub, signatures.sign(card, zoe))
    assert pe("show", "zoe/wave").exit_code == 0
    assert pe("lock", "--check").exit_code == 0


def test_files_and_local_names_can_be_pinned_with_a_signer(
    project: Path, card: Path, zoe: Path
) -> None:
    mine = project / "wave.safetensors"
    mine.write_bytes(card.read_bytes())
    signature_files.beside(mine).write_bytes(signatures.sign(mine, zoe))
    assert pe("add", mine, "wave").exit_code == 0
    assert pe("lock", mine, "wave", "--signed-by", f"{zoe}.pub").exit_code == 0
    assert pe("lock", "--check").exit_code == 0
    signature_files.beside(mine).unlink()
    result = pe("lock", "--check")
    assert result.exit_code == 1
    assert result.stdout.count(": ok") == 1
    assert pe("lock").exit_code == 1  # pinned again only with the signature
    assert pe("lock", "--remove", mine).exit_code == 0
    assert pe("lock", mine).exit_code == 0


@pytest.mark.parametrize("signer", ["", "zoe", "SHA256:short", "SHA256:" + "a" * 44])
def test_a_signer_that_is_none(project: Path, signer: str) -> None:
    LOCK.write_text(
        f'version = 1\n\n[[card]]\ncard = "wave"\nsha256 = "{"0" * 64}"\nsize = 1\n'
        f'version = "1.0.0"\nsigner = "{signer}"\n'
    )
    result = pe("lock", "--check")
    assert result.exit_code == 1
    assert "signer is" in result.stderr
