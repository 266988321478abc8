"""Disks whose locks do nothing, or that know none: a library answers in place of the kernel."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pe_toolkit.registry import locks
from pe_toolkit.registry.errors import RegistryBusyError
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or COMPILER is None, reason="needs Linux and a C compiler"
)
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>

static int answer(const char *name, int fd, int cmd, va_list rest) {
    void *argument = va_arg(rest, void *);
    if (cmd == F_SETLK || cmd == F_SETLKW || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW) {
        if (getenv("NO_LOCKS")) { errno = atoi(getenv("NO_LOCKS")); return -1; }
        return 0;
    }
    if (cmd == F_GETLK || cmd == F_OFD_GETLK) {
        ((struct flock *)argument)->l_type = F_UNLCK;
        return 0;
    }
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
    return real(fd, cmd, argument);
}

int fcntl(int fd, int cmd, ...) {
    va_list rest; va_start(rest, cmd);
    int result = answer("fcntl", fd, cmd, rest);
    va_end(rest); return result;
}

int fcntl64(int fd, int cmd, ...) {
    va_list rest; va_start(rest, cmd);
    int result = answer("fcntl64", fd, cmd, rest);
    va_end(rest); return result;
}
"""
ADD = """
import sys
from pathlib import Path
from pe_toolkit.registry.store import Store
for number in range(int(sys.argv[4])):
    Store(Path(sys.argv[1])).add(Path(sys.argv[2]), f"{sys.argv[3]}-{number}")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    source, library = folder / "locks.c", folder / "locks.so"
    source.write_text(SHIM)
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "registry", timeout=5)


def lockless(shim: Path, kind: str) -> dict[str, str]:
    """The environment of a process on such a disk: "nothing", or the number of an error."""
    made = {**os.environ, "LD_PRELOAD": str(shim)}
    return made if kind == "nothing" else {**made, "NO_LOCKS": kind}


@linux
@pytest.mark.parametrize("kind", ["nothing", "37", "95"], ids=["nothing", "ENOLCK", "EOPNOTSUPP"])
def test_nothing_is_lost_where_locks_do_nothing(
    kind: str, shim: Path, store: Store, tmp_path: Path
) -> None:
    path, runs = make_card(tmp_path), []
    for number in range(4):
        command = [sys.executable, "-c", ADD, str(store.root), str(path), f"p{number}", "6"]
        environment = lockless(shim, kind)
        runs.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        )
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, said
    assert sum(text.count("does not lock files") for text in said) == 1, said
    assert (store.root / locks.MARK).exists()
    assert not (store.root / locks.FILE).exists()
    assert len(store.entries()) == 24  # also where the locks work: the mark is for all
    assert not store.index.damaged()


@linux
def test_the_command_says_what_is_wrong_and_works(shim: Path, store: Store, tmp_path: Path) -> None:
    environment = {**lockless(shim, "37"), "PE_HOME": str(store.root)}

    def pe(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pe_toolkit", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = pe("add", str(make_card(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"Warning: The disk of the registry {store.root} does not lock")
    assert "No locks available" in done.stderr
    listed = pe("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.startswith("wave@1.0.0")
    assert pe("rm", "wave").stderr == "1 card removed. Back with: pe rm --undo\n"


def test_locks_that_work_leave_no_trace(store: Store, tmp_path: Path) -> None:
    store.add(make_card(tmp_path))
    assert sorted(path.name for path in store.root.iterdir()) == ["index.sqlite3", "objects", "tmp"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_a_second_process_tells_too(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    assert locks.in_a_child(probe) is None


@linux
def test_a_second_process_tells_of_locks_that_do_nothing(shim: Path, tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    code = (
        "import sys; from pathlib import Path; from pe_toolkit.registry import locks; "
        "print(locks.in_a_child(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "probe")],
        cwd=ROOT, env=lockless(shim, "nothing"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "two processes get the same lock\n"


@pytest.mark.skipif(os.name == "nt", reason="looks for the process")
def test_a_dead_process_keeps_no_lock_file_and_a_living_one_does(
    store: Store, tmp_path: Path
) -> None:
    path = make_card(tmp_path)
    store.add(path)
    (store.root / locks.MARK).touch()
    lock = store.root / locks.FILE
    code = (
        "import sys, time; from pathlib import Path; from pe_toolkit.registry import locks\n"
        "with locks.alone(Path(sys.argv[1]), 1):\n    print('held', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    store.index.timeout = 0.2
    with pytest.raises(RegistryBusyError, match=f"process {child.pid} on {socket.gethostname()}"):
        store.add(path, "x")
    child.kill()
    child.communicate()
    assert lock.exists()
    store.add(path, "x")
    assert not lock.exists()


def test_the_lock_file_of_another_machine_ends_after_an_hour(store: Store, tmp_path: Path) -> None:
    path = make_card(tmp_path)
    store.add(path)
    (store.root / locks.MARK).touch()
    lock = store.root / locks.FILE
    lock.write_text('{"host": "elsewhere", "pid": 1, "token": "x"}')
    store.index.timeout = 0.2
    with pytest.raises(RegistryBusyError, match="process 1 on elsewhere") as caught:
        store.entries()
    assert f"delete {lock}" in (caught.value.hint or "")
    old = time.time() - locks.STALE_SECONDS - 60
    os.utime(lock, (old, old))
    assert len(store.entries()) == 1
    assert not lock.exists()


@pytest.mark.skipif(os.name == "nt", reason="asks whether a process lives")
def test_whoever_died_while_it_broke_a_lock_file_does_not_hold_up_the_others(
    tmp_path: Path,
) -> None:
    (tmp_path / locks.MARK).touch()
    dead = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from pe_toolkit.registry import locks"
    for name in (locks.FILE, f"{locks.FILE}.breaking"):
        made = f"locks._make(Path({str(tmp_path / name)!r}), locks._token())"
        code = f"{dead}; from pathlib import Path; {made}"
        subprocess.run([sys.executable, "-c", code], check=True)
    began = time.monotonic()
    with locks.alone(tmp_path, timeout=5) as by_file:
        assert by_file
    assert time.monotonic() - began < 5
    assert {path.name for path in tmp_path.iterdir()} == {locks.MARK}


def test_a_lock_file_is_never_there_without_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may be killed at any point: what it leaves says whose it was."""
    seen: list[str | None] = []

    def watched(source: Path, target: Path) -> None:
        seen.append(Path(source).read_text(encoding="ascii"))
        linked(source, target)

    linked = os.link
    monkeypatch.setattr(os, "link", watched)
    path = tmp_path / locks.FILE
    locks._make(path, "whose it is")
    assert seen == ["whose it is"] == [path.read_text(encoding="ascii")]
    with pytest.raises(FileExistsError):
        locks._make(path, "another's")
    assert path.read_text(encoding="ascii") == "whose it is"
    assert [left.name for left in tmp_path.iterdir()] == [locks.FILE]


def test_disks_without_hard_links_have_lock_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    locks._make(tmp_path / locks.FILE, "whose it is")
    with pytest.raises(FileExistsError):
        locks._make(tmp_path / locks.FILE, "another's")
    assert (tmp_path / locks.FILE).read_text(encoding="ascii") == "whose it is"
