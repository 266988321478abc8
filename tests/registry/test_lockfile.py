"""`pe.lock`: the bytes that a project means, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pe_toolkit.cli.main import cli
from pe_toolkit.errors import OutputError, PeError
from pe_toolkit.registry import lockfile, locktext, pinning
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError
from pe_toolkit.registry.locktext import Pin, key_of
from pe_toolkit.registry.references import local
from pe_toolkit.registry.store import Store
from tests.registry.cards import GOLDEN, make_card

ROOT = Path(__file__).parents[2]
CARD = GOLDEN / "rotary-angle.safetensors"


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "cards").mkdir(parents=True)
    monkeypatch.chdir(folder)
    Store().add(CARD, "wave")
    return folder


def test_lock_and_check(project: Path) -> None:
    path = make_card(project / "cards")
    locked = pe("lock", "wave", f"cards/{path.name}")
    assert locked.exit_code == 0, locked.stderr
    assert locked.stdout.count("  new\n") == 2
    assert [pin.card for pin in lockfile.read(Path("pe.lock"))] == [f"cards/{path.name}", "wave"]
    before = Path("pe.lock").read_bytes()
    assert pe("lock", "--check").stdout.count(": ok, file sha256:") == 2
    assert pe("lock").stdout.count("  same\n") == 2
    assert Path("pe.lock").read_bytes() == before
    assert str(project).encode() not in before


def test_the_folder_from_which_does_not_matter(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_card(project / "cards")
    monkeypatch.chdir(project / "cards")
    assert pe("lock", path.name, "-f", "../pe.lock").exit_code == 0
    assert pe("lock", "--check", "-f", "../pe.lock").exit_code == 0
    assert pe("lock", "-f", "../pe.lock").stdout.count("  same\n") == 1
    monkeypatch.chdir(project)
    assert pe("lock", "--check").exit_code == 0


def test_a_changed_file_and_a_moved_name_are_found(project: Path) -> None:
    path = make_card(project / "cards", seed=1)
    pe("lock", "wave", path)
    path.write_bytes(make_card(project / "cards", seed=2).read_bytes())
    Store().add(path, "wave", "2.0.0")
    result = pe("lock", "--check", "--json")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["ok"] for line in lines] == [False, False, False]
    assert result.stderr.count("If the change is wanted: pe lock") == 2
    assert pe("lock", "wave").stdout.endswith("  changed\n")
    assert pe("lock", "--check").exit_code == 1
    assert pe("lock", "--remove", path).exit_code == 0
    assert pe("lock", "--check").exit_code == 0


def test_missing_and_damaged_cards_are_found(project: Path) -> None:
    pe("lock", "wave")
    (entry,) = Store().entries()
    os.chmod(entry.path, 0o600)
    entry.path.write_bytes(b"x")
    assert "its file has sha256:" in pe("lock", "--check").stderr
    Store().remove(local("wave"))
    result = pe("lock", "--check")
    assert result.exit_code == 1
    assert "wave: Expected the card wave" in result.stderr


def test_a_hub_card_is_known_by_its_bytes_without_asking_the_hub(project: Path) -> None:
    (entry,) = Store().entries()
    sha256 = entry.digest.removeprefix("sha256:")
    pin = Pin("hf://owner/wave@main", sha256, entry.size, "1.0.0", "hf://owner/wave@abc123")
    assert lockfile.check(pin, project) is None
    other = Pin(pin.card, "0" * 64, entry.size, "1.0.0", pin.origin)
    problem = lockfile.check(other, project)
    assert problem is not None
    assert problem.hint == "`origin` in the lock file says where the pinned one came from."


def test_remove_of_what_is_not_there(project: Path) -> None:
    pe("lock", "wave")
    result = pe("lock", "--remove", "orbit")
    assert result.exit_code == 2
    assert "It has: wave" in result.stderr


PINNED = f'''
[[card]]
card = "hf://zoe/wave"
sha256 = "{"0" * 64}"
size = 1
version = "1.0.0"
'''


@pytest.mark.parametrize(
    "text",
    [
        "", "version = 2\n", "version = 1\ncard = 3\n", "version = 1\n[[card]]\n", "\x00", "[",
        'version = 1\n[[card]]\ncard = "x"\nsha256 = "12"\nsize = 1\nversion = "1"\n',
        'version = 1\n[[card]]\ncard = "x"\nsha256 = 12\nsize = 1\nversion = "1"\n',
        f'version = 1\n[[card]]\ncard = "x"\nsha256 = "{"0" * 64}"\nsize = "1"\nversion = "1"\n',
        f'version = 1\n[[card]]\ncard = "x"\nsha256 = "{"0" * 64}"\nsize=1\nversion="1"\ny=1\n',
        "x = " + "[" * 5000,
        "# " + "x" * (5 << 20),
        "version = 1\n" + "a." * 30_000 + "a = 1\n",
        "version = 1\nversion = 1\n",
        "version = 1\n" + PINNED + PINNED,
        "version = 1\n" + PINNED + PINNED.replace("0" * 64, "1" * 64),
        "version = 1\n" + PINNED + PINNED.replace("zoe/wave", "Zoe/Wave"),
        "version = 1\n" + PINNED.replace('"hf://zoe/wave"', '"zoe/wave"'),
        "version = 1\n" + PINNED.replace('"hf://zoe/wave"', '"WAVE"'),
        "version = 1\n" + PINNED.replace('"hf://zoe/wave"', '"a b c"'),
        "version = 1\n" + PINNED.replace("version", "'version'"),
        "version = 1\n" + PINNED.replace("size = 1", "size = 1_0"),
        "version = 1\n" + PINNED.replace("1.0.0", "\\ud800"),
        "version = 1\n" + PINNED + "size = 1\n",
    ],
    ids=range(24),
)  # fmt: skip
def test_what_is_no_lock_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pe.lock"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RegistryError, match="to be a lock file"):
        lockfile.read(path)
    assert pe("lock", "--check", "-f", path).exit_code == 1


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "pe.lock"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RegistryError):
        lockfile.read(path)
    with pytest.raises(PeError):
        lockfile.read(tmp_path)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    # Another name of the same file (`./`, `.//`) is no other pin.
    st.lists(TEXT.map(lambda t: f"./{t}".replace("\0", "")), max_size=4, unique_by=key_of),
    TEXT,
)
def test_any_text_survives(tmp_path: Path, names: list[str], origin: str) -> None:
    pins = [Pin(name, "a" * 64, 7, "1.0.0", origin) for name in sorted(names)]
    path = tmp_path / "pe.lock"
    lockfile.write(path, pins)
    assert lockfile.read(path) == pins


def test_what_a_merge_or_an_editor_leaves_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pe.lock"
    path.write_text("# ours\nversion = 1\n\n\n# zoe's\n" + PINNED, newline="\r\n")
    assert [pin.card for pin in lockfile.read(path)] == ["hf://zoe/wave"]


def test_more_pins_than_are_read_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "pe.lock"
    pins = [Pin(f"wave-{n}", "a" * 64, 7, "1.0.0", "x" * 200) for n in range(4000)]
    with pytest.raises(PeError, match="at most 1048576 bytes"):
        lockfile.write(path, pins)
    assert not path.exists()
    lockfile.write(path, pins[:3000])
    assert len(lockfile.read(path)) == 3000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_no_lock_file(project: Path) -> None:
    os.mkfifo("pe.lock")
    for words in (("lock", "--check"), ("lock", "wave"), ("show", "zoe/wave")):
        result = pe(*words)
        assert result.exit_code == 1
        assert "got a folder, device or pipe" in result.stderr


HOSTILE = {
    "dotted key": b"version = 1\n" + b"a." * 524_000 + b"a = 1",
    "tables": b"version = 1\n" + b"[[card]]\n" * 116_000,
    "empty lines": b"version = 1\n" + b"\n" * 1_048_000,
    "carriage returns": b"\r" * 1_048_000,
    "comments": b"version = 1\n" + b"#\n" * 524_000,
    "nested": b"version = " + b"[" * 1_048_000,
    "digits": b"version = " + b"9" * 1_048_000,
    "a long text": b'version = 1\n[[card]]\ncard = "' + b"\\n" * 524_000 + b'"\n',
    "quotes": b'version = "' + b'"' * 1_048_000,
    "pins": b"version = 1\n"
    + b"".join(PINNED.replace("wave", f"wave{n}").encode() for n in range(7400)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_is_bounded_by_the_bytes(name: str) -> None:
    data = HOSTILE[name]
    assert len(data) <= 1 << 20
    start = time.perf_counter()
    _read(data)
    assert time.perf_counter() - start < 1
    tracemalloc.start()
    try:
        _read(data)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_is_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(b"version = 1\n" + PINNED.encode())
    start = data.draw(st.integers(0, len(text)))
    text[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    for pin in _read(bytes(text)):
        assert pin == locktext.read(locktext.render([pin]))[0]


def _read(data: bytes) -> list[Pin]:
    try:
        return locktext.read(data)
    except ValueError:
        return []


needs_locks = pytest.mark.skipif(os.name == "nt", reason="a folder cannot be locked there")


@needs_locks
def test_many_at_once_lose_no_pin(tmp_path: Path) -> None:
    path, start = tmp_path / "pe.lock", threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        with lockfile.changing(path) as pins:
            time.sleep(0.01)  # whoever does not wait reads what we have not written yet
            pins[f"card-{number}"] = Pin(f"card-{number}", "a" * 64, 7, "1.0.0")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert [pin.card for pin in lockfile.read(path)] == [f"card-{n}" for n in range(8)]
    assert [path.name for path in tmp_path.iterdir()] == ["pe.lock"]


@needs_locks
def test_a_lock_file_that_another_process_keeps(project: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pe_toolkit.registry import lockfile\n"
        "with lockfile.changing(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(project / "pe.lock")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RegistryBusyError, match="another `pe lock` is changing it"),
            lockfile.changing(Path("pe.lock"), timeout=0.1),
        ):
            pass
        holder.kill()
    assert pe("lock", "wave").exit_code == 0  # a killed process keeps no lock


def test_a_change_that_fails_writes_nothing(project: Path) -> None:
    pe("lock", "wave")
    before = Path("pe.lock").read_bytes()

    def interrupted() -> None:
        with lockfile.changing(Path("pe.lock")) as pins:
            pins.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Path("pe.lock").read_bytes() == before
    with pytest.raises(OutputError), lockfile.changing(project / "nowhere" / "pe.lock"):
        pass


def test_pinning_all_again_does_not_bring_back_what_another_took_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pe("lock", "wave", make_card(project / "cards"))
    before = pinning.pin

    def slow(text: str, folder: Path, **options: Any) -> Pin:
        with lockfile.changing(Path("pe.lock")) as pins:
            pins.pop("wave", None)
        return before(text, folder, **options)

    monkeypatch.setattr(pinning, "pin", slow)
    assert pe("lock").exit_code == 0
    assert "wave" not in [pin.card for pin in lockfile.read(Path("pe.lock"))]


def test_a_file_and_a_card_of_one_name_are_two_pins(project: Path) -> None:
    make_card(project).rename(project / "wave")
    assert pe("lock", "./wave", "wave").stdout.count("  new\n") == 2
    assert [pin.card for pin in lockfile.read(Path("pe.lock"))] == ["./wave", "wave"]
    assert pe("lock", "--remove", "./wave").exit_code == 0
    assert [pin.card for pin in lockfile.read(Path("pe.lock"))] == ["wave"]


def test_links_lead_where_they_lead(project: Path, tmp_path: Path) -> None:
    """`..` of a linked folder is not the folder that the link lies in."""
    here = make_card(project)
    (tmp_path / "other" / "dir").mkdir(parents=True)
    there = make_card(tmp_path / "other", seed=5)
    (project / "lnk").symlink_to(tmp_path / "other" / "dir")
    assert pe("lock", here.name, "-f", "lnk/pe.lock").exit_code == 0
    assert pe("lock", "--check", "-f", "lnk/pe.lock").exit_code == 0
    assert pe("lock", f"lnk/../{there.name}").exit_code == 0
    assert pe("lock", "--check").exit_code == 0
    (pin,) = lockfile.read(Path("pe.lock"))
    assert pin.card == f"../other/{there.name}"


def test_a_card_in_a_linked_folder_keeps_its_name(project: Path, tmp_path: Path) -> None:
    """The project's own spelling is what everybody else has as well."""
    (tmp_path / "big").mkdir()
    card = make_card(tmp_path / "big")
    (project / "data").symlink_to(tmp_path / "big")
    assert pe("lock", f"data/{card.name}").exit_code == 0
    assert [pin.card for pin in lockfile.read(Path("pe.lock"))] == [f"data/{card.name}"]


def test_a_lock_file_that_is_a_link_stays_one(project: Path) -> None:
    (project / "sub").mkdir()
    pe("lock", "wave")
    (project / "sub" / "pe.lock").symlink_to("../pe.lock")
    card = make_card(project / "sub")
    assert pe("lock", f"sub/{card.name}", "-f", "sub/pe.lock").exit_code == 0
    assert (project / "sub" / "pe.lock").is_symlink()
    cards = [pin.card for pin in lockfile.read(project / "pe.lock")]
    assert cards == [f"sub/{card.name}", "wave"]
    assert pe("lock", "--check", "-f", "sub/pe.lock").exit_code == 0


def test_a_pin_goes_as_a_whole(project: Path) -> None:
    pe("lock", "wave")
    refused = pe("lock", "--remove", "wave", "--signed-by", "SHA256:" + "A" * 43)
    assert refused.exit_code == 2
    assert "without --signed-by" in refused.stderr
