"""kill -9 at random points of what changes a registry, and what must hold afterwards.

A child process is forked that adds, replaces, tags, removes, restores and collects without end. It
writes what it begins and what it has finished into a pipe. It is killed at a random moment; then
the registry must hold exactly what was finished, plus or minus the one thing that was under way.
POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pe_toolkit.card import verify_card
from pe_toolkit.errors import OutputError, UsageError
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.references import local
from pe_toolkit.registry.store import Store

State = dict[str, str]


@dataclass
class Toll:
    """What happened in a series of kills."""

    kills: Counter[str] = field(default_factory=Counter)
    """What was under way when the process was killed."""
    finished: Counter[str] = field(default_factory=Counter)
    """What children finished."""
    slowest: float = 0.0
    """Longest time in seconds that the first command after a kill took."""


def kill(root: Path, cards: Path, times: int, *, seed: int = 0, longest: float = 0.05) -> Toll:
    """Kill a child `times` times, and check the registry after each.

    Raises:
        AssertionError: if a card is lost, half there, or if the next command does not work.
    """
    rng, toll = random.Random(seed), Toll()
    sources = {f"sha256:{verify_card(path).sha256}": path for path in sorted(cards.iterdir())}
    state: State = {}
    for round_ in range(times):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # never returns
            os.close(reader)
            with contextlib.suppress(BaseException):
                _live(Store(root), writer, sources, dict(state), random.Random(f"{seed}-{round_}"))
            os._exit(3)
        os.close(writer)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child failed before it was killed"
        with os.fdopen(reader) as pipe:
            lines = [line.split() for line in pipe]
        before, after, what = _replay(state, lines, toll)
        toll.kills[what] += 1
        began = time.perf_counter()
        store = Store(root)
        state = {str(entry.reference): entry.digest for entry in store.entries()}
        toll.slowest = max(toll.slowest, time.perf_counter() - began)
        assert state in (before, after), f"round {round_}, {what}: {state} != {before} or {after}"
        assert all(error is None for _, error in store.verify_all())
        made = store.add(next(iter(sources.values())), f"after-{round_ % 5}", force=True)
        state[str(made.reference)] = made.digest
    store = Store(root)
    unnamed = {card.path.stem for card in store.gc().unnamed}  # of an add that was killed
    left = {path.stem for path in (root / "objects").rglob("*.safetensors")}
    assert left - unnamed == {digest.removeprefix("sha256:") for digest in state.values()}
    return toll


def kill_rebuilds(
    root: Path, cards: Path, times: int, *, seed: int = 0, longest: float = 0.05
) -> Toll:
    """Kill `pe verify --all --rebuild` until `times` were hit, collect, and look what is left.

    Before each, the index is lost, overwritten, or made to forget rows. After each, `gc` runs if
    it can; then a rebuild that nobody kills must have every card.

    Raises:
        AssertionError: if a card is lost, or if a command does not work.
    """
    rng, toll = random.Random(seed), Toll()
    store = Store(root)
    for number, path in enumerate(sorted(cards.iterdir())):
        store.add(path, f"card-{number}")
    expected = {entry.digest for entry in store.entries()}
    round_ = 0
    while sum(toll.kills.values()) < times:
        round_ += 1
        how = rng.choice(("gone", "garbage", "byte", "rows", "sound"))
        damage_index(store, how, rng)
        child = os.fork()
        if child == 0:  # never returns
            with contextlib.suppress(BaseException):
                Store(root).rebuild()
                os._exit(0)
            os._exit(3)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1]
        toll.kills[how] += os.WIFSIGNALED(ended)
        toll.finished[how] += not os.WIFSIGNALED(ended)
        assert_nothing_lost(store, expected, f"round {round_}, {how}", toll)
    return toll


def fill_disk(root: Path, sizes: Iterable[int], toll: Toll) -> None:
    """Rebuild where no file may outgrow `sizes` bytes, one after the other, as on a full disk.

    Raises:
        AssertionError: if a card is lost, or if a command does not work.
    """
    import resource

    store = Store(root)
    expected = {entry.digest for entry in store.entries()}
    for size in sizes:
        damage_index(store, "gone", random.Random(size))
        child = os.fork()
        if child == 0:  # never returns
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                Store(root).rebuild()
            except OutputError:
                os._exit(1)
            except BaseException:
                os._exit(3)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 1), f"{size} bytes: exit code {code}"
        toll.finished["full" if code else "fits"] += 1
        assert_nothing_lost(store, expected, f"files of {size} bytes", toll)


def damage_index(store: Store, how: str, rng: random.Random) -> None:
    """Bring the index into a state that asks for a rebuild."""
    index = store.index.path
    if how == "gone":
        index.unlink()
    elif how == "garbage":
        index.write_bytes(rng.randbytes(4096))
    elif how == "byte":
        data = bytearray(index.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        index.write_bytes(data)
    elif how == "rows":  # sound, but it does not name every card, as an old pe left it
        with store.index.writing() as change:
            change.remove(rng.sample(change.entries, len(change.entries) // 2), "")
            change.forget()
        assert store.entries()


def assert_nothing_lost(store: Store, expected: set[str], where: str, toll: Toll) -> None:
    """Whatever a rebuild left: `gc` deletes no card, and another rebuild names all."""
    began = time.perf_counter()
    with contextlib.suppress(RegistryError):
        store.gc()
    toll.slowest = max(toll.slowest, time.perf_counter() - began)
    files = {digest for digest, _ in store.objects.all()}
    assert files == expected, f"{where}: {len(expected - files)} cards were lost"
    with contextlib.suppress(UsageError):  # it is sound already
        store.rebuild()
    assert {entry.digest for entry in store.entries()} == expected, where
    assert all(error is None for _, error in store.verify_all()), where
    for aside in store.root.glob("*.old"):
        aside.unlink()


def _replay(state: State, lines: list[list[str]], toll: Toll) -> tuple[State, State, str]:
    """The state that was finished, the one that was under way, and its name."""
    before = dict(state)
    under_way: list[str] = []
    for word, action, name, digest in lines:
        if word == "begin":
            under_way = [action, name, digest]
            continue
        toll.finished[action] += 1
        before = _applied(before, action, name, digest)
        under_way = []
    if not under_way:
        return before, before, "between"
    return before, _applied(before, *under_way), under_way[0]


def _applied(state: State, action: str, name: str, digest: str) -> State:
    """The state after an action."""
    if action in ("add", "replace", "tag", "restore"):
        return state | {name: digest}
    return {key: value for key, value in state.items() if action != "remove" or key != name}


def _live(
    store: Store, pipe: int, sources: dict[str, Path], state: State, rng: random.Random
) -> None:
    """Change the registry without end."""

    def say(*words: str) -> None:
        os.write(pipe, (" ".join(words) + "\n").encode())  # short: whole or not at all

    def step(action: str, name: str, digest: str, do: Callable[[], object]) -> None:
        nonlocal state
        say("begin", action, name, digest)
        do()
        say("end", action, name, digest)
        state = _applied(state, action, name, digest)

    for action in _actions(rng):
        digest = rng.choice(sorted(sources))
        new = f"n{rng.randrange(10**9)}@1.0.0"
        old = rng.choice(sorted(state)) if state else ""
        if action == "add":
            step(action, new, digest, lambda d=digest, n=new: store.add(sources[d], n[:-6]))
        elif action == "gc":
            step(action, "-", "-", store.gc)
        elif not old:
            continue
        elif action == "replace":
            name, version = old.split("@")
            step(
                action, old, digest,
                lambda d=digest, n=name, v=version: store.add(sources[d], n, v, force=True),
            )  # fmt: skip
        elif action == "tag":
            step(action, new, state[old], lambda o=old, n=new: store.tag(local(o), local(n)))
        else:
            kept = state[old]
            step("remove", old, kept, lambda o=old: store.remove(local(o)))
            if action == "restore":
                step("restore", old, kept, store.restore)


def _actions(rng: random.Random) -> Iterator[str]:
    while True:
        yield rng.choice(("add", "add", "replace", "tag", "remove", "remove", "restore", "gc"))
