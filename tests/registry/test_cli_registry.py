"""The commands of the local registry, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from pe_toolkit.cli.main import cli
from pe_toolkit.registry.store import Store
from tests.registry.cards import GOLDEN, make_card

CARD = GOLDEN / "rotary-angle.safetensors"
ROOT = Path(__file__).parents[2]


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def summary(result: Result) -> dict[str, object]:
    data = json.loads(result.stdout.splitlines()[-1])
    assert data["event"] == "summary"
    return data


def test_add_list_show_verify(tmp_path: Path) -> None:
    path = make_card(tmp_path, "My Wave", "1.2.0")
    added = pe("add", path)
    assert added.exit_code == 0
    assert added.stdout.startswith("my-wave@1.2.0  file sha256:")
    listed = pe("list").stdout.splitlines()
    assert len(listed) == 1
    assert listed[0].split()[:2] == [added.stdout.split()[0], added.stdout.split()[-1]]
    for word in (
        "my-wave",
        "my-wave@1.2.0",
        "MY-WAVE",
        added.stdout.split()[-1].join(["my-wave@", ""]),
    ):
        shown = pe("show", word)
        assert shown.exit_code == 0, shown.stderr
        said = "my-wave@1.2.0 (the card itself says My Wave 1.2.0)"
        assert f"name       {said}" in shown.stdout
    assert pe("verify", "my-wave").stdout.startswith("my-wave: ok, file sha256:")
    assert pe("verify", "--all").stdout.startswith("my-wave@1.2.0: ok, file sha256:")


def test_add_with_a_name_again_and_taken(tmp_path: Path) -> None:
    assert pe("add", CARD, "wave@2.0.0").stdout.startswith("wave@2.0.0  ")
    assert pe("add", CARD, "wave@2.0.0").exit_code == 0
    other = make_card(tmp_path, seed=5)
    taken = pe("add", other, "wave@2.0.0")
    assert taken.exit_code == 2
    assert "Expected wave@2.0.0 to be free" in taken.stderr
    assert "--force" in taken.stderr
    assert pe("add", other, "wave@2.0.0", "--force").exit_code == 0
    made: Any = summary(pe("add", other, "x", "--json"))["entry"]
    assert made["reference"] == "x@1.0.0"
    assert pe("add", "x", "copy@3.0.0").stdout.split() == ["copy@3.0.0", "file", made["digest"]]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["add", "none.safetensors"], 1, "no such file"),
        (["add", CARD, "../x"], 2, "Expected a name"),
        (["add", CARD, "x@1"], 2, "Expected a version"),
        (["add", CARD, "x@sha256:12345678"], 2, "Expected NAME"),
        (["add", "nothing"], 1, "Expected the card nothing in the local registry"),
        (["show", "nothing"], 1, "Expected the card nothing in the local registry"),
        (["show", "a b"], 2, "Expected a name"),
        (["verify", "nothing"], 1, "Expected the card nothing in the local registry"),
        (["verify"], 2, "Expected cards or --all"),
        (["verify", "--all", CARD], 2, "not both"),
        (["verify", "--rebuild", CARD], 2, "Expected --all"),
        (["verify", "--all", "--rebuild"], 2, "sound"),
        (["tag", "nothing", "x"], 1, "Expected the card nothing"),
        (["tag", "a/b", "x"], 2, "Expected a name"),
        (["tag", "./x.safetensors", "y"], 2, "Hint: A card in the local registry is named wave"),
        (["rm", "zoe/wave"], 2, "Hint: A card in the local registry is named wave"),
        (["rm"], 2, "Expected the name of a card"),
        (["rm", "nothing"], 1, "Expected the card nothing"),
        (["rm", "./wave"], 2, "Expected a name"),
        (["rm", "--undo"], 1, "among the removed ones"),
        (["rm", "--undo", "--all", "x"], 2, "not both"),
        (["lock"], 2, "Expected the lock file"),
        (["lock", "--check"], 2, "Expected the lock file"),
        (["lock", "--check", "x"], 2, "alone"),
        (["lock", "--remove"], 2, "take out"),
        (["lock", "nothing"], 1, "Expected the card nothing"),
        (["apply", "nothing", "--prompt", "p", "-o", "out.mp4"], 1, "Expected the card nothing"),
    ],
    ids=lambda value: " ".join(Path(v).name for v in value) if isinstance(value, list) else "",
)
def test_what_goes_wrong(
    words: list[object], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = pe(*words)
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert "Hint: " in result.stderr
    assert "Unexpected" not in result.stderr
    assert not (tmp_path / "pe.lock").exists()


@pytest.mark.parametrize("command", ["tag", "rm"])
def test_what_takes_names_only_does_not_say_card(command: str) -> None:
    usage = pe(command, "--help").stdout
    assert "NAME[@V]" in usage
    assert "CARD" not in usage


def test_a_bare_name_is_never_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wave").write_bytes(CARD.read_bytes())
    result = pe("show", "wave")
    assert result.exit_code == 1
    assert "write ./wave" in result.stderr
    assert pe("show", "./wave").exit_code == 0


def test_a_damaged_card_is_not_handed_out() -> None:
    pe("add", CARD, "wave")
    (entry,) = Store().entries()
    os.chmod(entry.path, 0o600)
    entry.path.write_bytes((GOLDEN / "latents.safetensors").read_bytes())
    for command in ("show", "verify"):
        result = pe(command, "wave")
        assert result.exit_code == 1
        assert "its file has sha256:" in result.stderr
    result = pe("verify", "--all", "--json")
    assert result.exit_code == 1
    assert summary(result) == {"event": "summary", "ok": False, "cards": 1, "bad": 1}


def test_a_new_index_says_what_it_leaves_out(tmp_path: Path) -> None:
    sound, broken = (Store().add(make_card(tmp_path, f"card {seed}", seed=seed)) for seed in (1, 2))
    os.chmod(broken.path, 0o600)
    broken.path.write_bytes(broken.path.read_bytes()[:-1])
    said = pe("verify", "--all").stderr
    assert f"Expected the card card-2@1.0.0 with {broken.digest}, but: " in said
    assert "Hint: The file in the registry was damaged or deleted." in said
    Store().index.path.unlink()
    done = pe("verify", "--all", "--rebuild", "--json")
    assert done.exit_code == 1
    assert summary(done) == {"event": "summary", "ok": False, "cards": 2, "bad": 1}
    assert f"{broken.path}: Expected a sound card" in done.stderr
    assert [line.split()[0] for line in pe("list").stdout.splitlines()] == [str(sound.reference)]


def test_a_new_index_does_not_call_a_newer_card_damaged(tmp_path: Path) -> None:
    newer = Store().add(make_card(tmp_path)).path
    os.chmod(newer, 0o600)
    newer.write_bytes(re.sub(rb'(format_version\\+":\\+")\d', rb"\g<1>9", newer.read_bytes()))
    Store().index.path.unlink()
    done = pe("verify", "--all", "--rebuild")
    assert done.exit_code == 1
    assert "damaged" not in done.stderr
    assert f"{newer}: Expected a card of format 2.x, got format 9" in done.stderr
    assert f"Hint: Install a newer pe-toolkit, then: pe add {newer}." in done.stderr
    collected = pe("gc")
    assert collected.stdout == "Deleted 0 removed cards and 0 files, 0 bytes.\n"
    assert collected.stderr.startswith("Warning: Left alone, because only a newer pe-toolkit")
    assert ": 1 file without a name." in collected.stderr
    assert summary(pe("gc", "--json"))["spared"] == 1
    assert newer.exists()


def test_gc_lists_sound_cards_without_a_name() -> None:
    pe("add", CARD, "wave")
    (entry,) = Store().entries()
    data = entry.path.read_bytes()
    pe("rm", "wave")
    pe("gc")
    entry.path.write_bytes(data)  # as an `add` that was killed leaves it
    for words in (["gc", "--dry-run"], ["gc"]):
        done = pe(*words)
        assert done.exit_code == 0
        assert f"{entry.path}  14.0 days left" in done.stdout.splitlines()
        assert "1 sound card that no name leads to" in done.stderr
    (listed,) = summary(pe("gc", "--json"))["unnamed"]  # type: ignore[misc]
    assert listed["path"] == str(entry.path)  # type: ignore[index]
    rebuilt = pe("verify", "--all", "--rebuild")
    assert rebuilt.exit_code == 0
    assert "golden-rotary-angle@1.0.0 had no name" in rebuilt.stderr
    assert pe("list").stdout.startswith("golden-rotary-angle@1.0.0  ")


def test_undo_of_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pe("add", CARD, name)
        pe("rm", name)
    failed = pe("rm", "--undo", "a", "typo")
    assert failed.exit_code == 1
    assert "the card typo among the removed ones" in failed.stderr
    assert pe("list").stdout == ""
    done = pe("rm", "--undo", "b", "a")
    assert done.stderr == "2 cards brought back.\n"
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["b@1.0.0", "a@1.0.0"]


def test_tag_rm_undo_gc() -> None:
    pe("add", CARD, "wave")
    assert pe("tag", "wave", "wave@2.0.0").exit_code == 0
    assert pe("tag", "wave", "other").stdout.startswith("other@2.0.0  ")
    assert pe("list", "--removed").stderr == "Nothing was removed.\n"
    several = pe("rm", "wave")
    assert several.exit_code == 2
    assert "--all" in several.stderr
    assert pe("rm", "wave", "--all").stdout.count("wave@") == 2
    assert pe("list").stdout.split()[0] == "other@2.0.0"
    assert pe("list", "--removed").stdout.count("wave@") == 2
    assert "Nothing was removed." not in pe("list", "--removed").stderr
    assert len(summary(pe("rm", "--undo", "--json"))["restored"]) == 2  # type: ignore[arg-type]
    pe("rm", "wave@1.0.0", "other")
    pe("rm", "wave")
    assert pe("gc", "--dry-run").stdout.startswith("Would delete 3 removed cards and 1 file, ")
    assert summary(pe("gc", "--json"))["cards"] == 3
    assert pe("rm", "--undo").exit_code == 1
    assert pe("list").stdout == ""


def test_list_json_and_pages(tmp_path: Path) -> None:
    for seed in range(7):
        pe("add", make_card(tmp_path, seed=seed), f"card-{seed}")
    lines = [json.loads(line) for line in pe("list", "--json").stdout.splitlines()]
    assert [line["entry"]["reference"] for line in lines[:-1]] == [
        f"card-{i}@1.0.0" for i in range(7)
    ]
    assert lines[-1] == {"event": "summary", "cards": 7, "total": 7}
    assert pe("list", "--limit", 3, "--page", 3).stdout.split()[0] == "card-6@1.0.0"
    assert "no page 4" in pe("list", "--limit", 3, "--page", 4).stderr
    assert pe("list", "card-3").stdout.count("\n") == 1
    assert "No card" in pe("list", "nothing-like-it").stderr
    assert pe("list", "--limit", 0).exit_code == 2


def test_hostile_text_is_neutralised(tmp_path: Path) -> None:
    path = make_card(tmp_path, "x\x1b]0;owned\x07", author="a\x1b[2Jb\u202e\nfake line  [red]")
    pe("add", path)
    for words in (("list",), ("list", "--json"), ("list", "nope\x1b[2J"), ("show", "x-0-owned")):
        result = pe(*words)
        assert not set(result.output) & set("\x1b\x07\u202e"), words
    assert pe("list").stdout.count("\n") == 1
    assert "\\x1b[2Jb\\u202e\\nfake line  [red]" in pe("list").stdout


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_list_on_a_terminal_has_pages(tmp_path: Path) -> None:
    import pty

    store, path = Store(), make_card(tmp_path, "orbit", author="x\x1b[2J" + "y" * 80)
    entry = store.add(path)
    with store.index.writing() as change:  # many rows at once
        for number in range(60):
            name = f"c{number:02d}"
            change.insert(type(entry)(**{**vars(entry), "name": name}))
    main, side = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "pe_toolkit", "list"], cwd=ROOT, stdout=side, stderr=side
    )
    os.close(side)
    text = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(main)
    assert run.wait(30) == 0
    lines = text.decode().replace("\r\n", "\n").splitlines()
    assert lines[0].startswith("NAME")
    assert len(lines) == 52
    assert lines[-1] == "1 to 50 of 61 cards; more: --page 2"
    assert b"\x1b" not in text
    assert max(map(len, lines)) < 160


def test_completion_of_local_names() -> None:
    pe("add", CARD, "wave@1.0.0")
    pe("add", CARD, "wave@2.0.0")
    pe("add", CARD, "orbit")
    complete = ShellComplete(cli, {}, "pe", "_PE_COMPLETE").get_completions

    def names(args: list[str], incomplete: str) -> list[str]:
        return [i.value for i in complete(args, incomplete) if i.type == "plain"]

    assert names(["show"], "w") == ["wave"]
    assert names(["show"], "") == ["orbit", "wave"]
    assert names(["apply"], "wave@") == ["wave@1.0.0", "wave@2.0.0"]
    assert names(["rm"], "o") == ["orbit"]
    assert names(["tag"], "W") == ["wave"]
    assert [i.type for i in complete(["show"], "no-such")] == ["file"]
    assert [i.type for i in complete(["show"], "w")] == ["file", "plain"]  # bash: a file forgets
    Store().index.path.write_bytes(os.urandom(4096))
    assert names(["rm"], "") == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_without_room(tmp_path: Path) -> None:
    """No file may outgrow 50 kB: a card of a megabyte does not fit, what is there stays."""
    big = make_card(tmp_path, "big", width=20_000)
    pe("add", CARD, "wave")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        "from pe_toolkit.cli.main import main; sys.argv[0] = 'pe'; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "add", str(big)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("Error: Expected to write into the registry"), run.stderr
    assert "free space" in run.stderr
    assert pe("list").stdout.split()[0] == "wave@1.0.0"
    assert not list((Store().root / "tmp").iterdir())
    assert pe("add", big).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [["list"], ["add", str(CARD)], ["tag", "wave", "w2"], ["rm", "wave"], ["show", "wave"], ["gc"],
     ["verify", "--all"], ["lock", "wave", "-f", "LOCK"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_nothing_heavy_is_imported(words: list[str], tmp_path: Path) -> None:
    pe("add", CARD, "wave")
    words = [str(tmp_path / "pe.lock") if word == "LOCK" else word for word in words]
    code = (
        "import sys; from pe_toolkit.cli.main import cli; "
        "code = cli.main(sys.argv[1:], standalone_mode=False); "
        "heavy = {'torch', 'diffusers', 'transformers', 'huggingface_hub', 'rich', 'av', 'numpy'} "
        "& set(sys.modules); print('heavy:', sorted(heavy), 'code:', code or 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "heavy: [] code: 0", run.stdout + run.stderr


def test_the_form_of_a_card_decides_where_its_edit_goes(tmp_path: Path) -> None:
    """A card on a remote is one, whether or not its bytes have a name here."""
    shared = tmp_path / "shared"
    shared.mkdir()
    assert pe("push", CARD, shared.as_uri()).exit_code == 0
    (name,) = [path.name for path in shared.iterdir() if path.is_dir()]
    for hint in ("pe pull", "wave@"):
        result = pe("edit", f"{shared.as_uri()}/{name}", "--card-version", "9.0.0")
        assert result.exit_code == 2
        assert "for a card that is on a remote" in result.stderr
        assert hint in result.stderr
        pe("add", CARD, "wave")


def test_settings_of_the_hub_that_are_none(tmp_path: Path) -> None:
    """huggingface_hub reads them when it is imported, and says what is wrong without a name."""
    for name, value in (("HF_HUB_ETAG_TIMEOUT", "abc"), ("HF_ENDPOINT", "http://[::1")):
        done = subprocess.run(
            [sys.executable, "-m", "pe_toolkit", "pull", "owner/wave"],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env=os.environ | {name: value, "PE_HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert name in done.stderr.partition("Correct one of these variables: ")[2]
