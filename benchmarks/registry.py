"""The registry under load: mutated cards, a long list, kill -9, a damaged index, a crowd.

python -m benchmarks.registry fuzz [--cards 100000] [--seed 0]
python -m benchmarks.registry list [--cards 10000] [--runs 5]
python -m benchmarks.registry kill [--times 200]
python -m benchmarks.registry rebuild [--times 200] [--cards 40]
python -m benchmarks.registry damage [--times 1000] [--cards 5]
python -m benchmarks.registry remote [--times 200]
python -m benchmarks.registry hub [--times 200]
python -m benchmarks.registry crowd [--processes 8] [--seconds 60]

Everything happens in a temporary folder. A violated promise is an error, not a number.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchmarks.registry_remotes import folder_kills, hub_kills, sources
from pe_toolkit.card import verify_card
from pe_toolkit.errors import CardError
from pe_toolkit.registry.store import Store
from tests.registry import damage
from tests.registry.killing import Toll, fill_disk, kill, kill_rebuilds
from tests.registry.mutate import huge_headers, judge, mutants

MOST_SECONDS = 1.0
MEMORY_FACTOR, MEMORY_BYTES = 10, 16 << 20
MEASURE_MEMORY_EVERY = 20  # tracing makes reading several times slower


def fuzz(folder: Path, cards: int, seed: int) -> None:
    """Mutated cards through the reader: each an error that says why, or sound; soon, and small."""
    path = folder / "mutant.safetensors"
    seconds, sizes, valid, worst, reasons = [], 0, 0, 0.0, Counter[str]()
    for number, raw in enumerate(islice(mutants(seed), cards)):
        path.write_bytes(raw)
        try:
            verdict = judge(path)
        except Exception as error:
            raise SystemExit(f"mutant {number} of seed {seed}: {error!r}") from error
        seconds.append(verdict.seconds)
        sizes += len(raw)
        valid += verdict.valid
        if not verdict.valid:
            reasons[" ".join(verdict.message.split()[1:6])] += 1
        if number % MEASURE_MEMORY_EVERY == 0:
            worst = max(worst, _memory(path) / allowed(len(raw)))
        if verdict.seconds > MOST_SECONDS:
            raise SystemExit(f"mutant {number} of seed {seed} took {verdict.seconds:.2f} s")
    print(f"{cards} mutated cards, seed {seed}, mean {sizes / cards:.0f} bytes")
    print(f"  sound {valid}, refused {cards - valid}, anything else 0")
    print(f"  seconds: median {statistics.median(seconds):.5f}, slowest {max(seconds):.4f}")
    print(f"  memory: at most {worst:.2f} of the allowed 10 x file + 16 MB (every 20th card)")
    print(f"  peak of the process {_peak_mb():.0f} MB; {len(reasons)} kinds of refusal")
    for name, raw in huge_headers().items():
        path.write_bytes(raw)
        verdict = judge(path)
        share = _memory(path) / allowed(len(raw))
        flag = "" if verdict.seconds <= MOST_SECONDS and share <= 1 else "  <-- TOO MUCH"
        print(
            f"  header of {len(raw) / 1e6:.2f} MB, {name}: {verdict.seconds:.3f} s, "
            f"{share:.2f} of the allowed memory{flag}"
        )


def allowed(size: int) -> int:
    """Bytes of memory that reading a file may take."""
    return MEMORY_FACTOR * size + MEMORY_BYTES


def _memory(path: Path) -> int:
    """Peak of what reading a file allocates, in bytes."""
    tracemalloc.start()
    try:
        verify_card(path)
    except CardError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def long_list(folder: Path, cards: int, runs: int) -> None:
    """`pe list` with many cards, process start included."""
    store = Store(folder / "registry")
    began = time.perf_counter()
    added = [store.add(path) for path in sorted(sources(folder, 20).iterdir())[:20]]
    each = (time.perf_counter() - began) / len(added)
    print(f"adding a card: {each * 1e3:.1f} ms")
    with store.index.writing() as change:  # the other rows in one go: `pe list` reads rows only
        for number in range(cards - len(added)):
            entry = added[number % len(added)]
            facts = {**entry.facts, "name": f"card {number}", "author": f"author {number % 97}"}
            change.insert(replace(entry, name=f"card-{number}", facts=facts))
    index = store.index.path.stat().st_size / 1e6
    print(f"{len(store.entries())} cards, index {index:.1f} MB")
    environment = {**os.environ, "PE_HOME": str(store.root)}
    for words in (["list"], ["list", "--json"], ["list", "card-77"], ["--help"]):
        seconds, spent = [], []
        for _ in range(runs):
            before, began = os.times(), time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "pe_toolkit", *words],
                env=environment, capture_output=True, check=True,
            )  # fmt: skip
            seconds.append(time.perf_counter() - began)
            after = os.times()
            spent.append(
                after.children_user
                + after.children_system
                - before.children_user
                - before.children_system
            )
        lines = done.stdout.count(b"\n")
        middle = statistics.median(seconds)
        print(
            f"  pe {' '.join(words):14} {lines:6d} lines: median {middle:.2f} s "
            f"[{min(seconds):.2f}, {max(seconds):.2f}], processor {statistics.median(spent):.2f} s"
        )


def kills(folder: Path, times: int, seed: int) -> None:
    """kill -9 at random points of add, replace, tag, rm, undo and gc."""
    began = time.perf_counter()
    toll: Toll = kill(folder / "registry", sources(folder, 8), times, seed=seed, longest=0.12)
    print(f"{times} kills in {time.perf_counter() - began:.0f} s, no card lost, none half there")
    print(f"  killed in: {dict(toll.kills.most_common())}")
    print(f"  finished before: {dict(toll.finished.most_common())}")
    print(f"  slowest first command after a kill: {toll.slowest:.3f} s")


def rebuilds(folder: Path, times: int, cards: int, seed: int) -> None:
    """kill -9 at random points of a rebuild, and rebuilds on a full disk."""
    root, began = folder / "registry", time.perf_counter()
    toll = kill_rebuilds(root, sources(folder, cards), times, seed=seed, longest=0.003 * cards)
    seconds = time.perf_counter() - began
    print(f"{times} killed rebuilds of {cards} cards (seed {seed}) in {seconds:.0f} s")
    print("  no card lost, every next command worked")
    print(f"  killed, by what was wrong before: {dict(toll.kills.most_common())}")
    print(f"  finished before: {dict(toll.finished.most_common())}")
    index = Store(root).index.path.stat().st_size
    toll.finished.clear()
    fill_disk(root, range(0, 2 * index, index // 16), toll)
    print(f"  no room for files above 0 to {2 * index} bytes (index {index}): "
          f"{dict(toll.finished)}, no card lost, every next command worked")  # fmt: skip
    print(f"  slowest gc after that: {toll.slowest:.3f} s")


def damaged(folder: Path, times: int, cards: int, seed: int) -> None:
    """An index with one changed byte, or changed by SQL: every command, and a rebuild."""
    rng = random.Random(seed)
    made = damage.ward(folder, cards)
    index = made.root / "index.sqlite3"
    data = index.read_bytes()
    changes = {
        "bytes": (("a byte", raw) for raw in damage.bytes_changed(data, rng)),
        "statements of SQL": damage.tables_changed(index, folder / "scratch", rng),
    }
    print(f"index of {len(data)} bytes, {len(damage.COMMANDS)} commands each, seed {seed}")
    for kind, stream in changes.items():
        began, verdicts = time.perf_counter(), []
        for number, (what, raw) in enumerate(islice(stream, times // 2)):
            try:
                verdicts.append(damage.judge(made, folder, raw, damage.COMMANDS))
            except Exception as error:
                where = [at for at, (a, b) in enumerate(zip(data, raw, strict=False)) if a != b]
                raise SystemExit(f"{kind} {number}, {what} at {where[:3]}: {error!r}") from error
        print(f"  {len(verdicts)} changed {kind} in {time.perf_counter() - began:.0f} s: "
              f"{damage.tally(verdicts)}, each mended, no card file touched")  # fmt: skip


def crowd(folder: Path, processes: int, seconds: float) -> None:
    """Many processes that add, list, tag, remove and collect in one registry."""
    root = folder / "registry"
    command = [sys.executable, "-m", "tests.registry.crowd", str(root), str(sources(folder, 12))]
    runs = [
        subprocess.Popen([*command, str(i), str(seconds)], stdout=subprocess.PIPE, text=True)
        for i in range(processes)
    ]
    results = [json.loads(run.communicate()[0]) for run in runs]
    errors = [error for result in results for error in result["errors"]]
    expected = {name: digest for result in results for name, digest in result["mine"].items()}
    store = Store(root)
    have = {entry.name: entry.digest for entry in store.entries()}
    bad = [error for _, error in store.verify_all() if error is not None]
    done: Counter[str] = sum((Counter(result["done"]) for result in results), Counter())
    print(f"{processes} processes for {seconds:g} s: {sum(done.values())} operations {dict(done)}")
    print(f"  errors {len(errors)}, lost or extra cards {len(set(have) ^ set(expected))}, "
          f"damaged {len(bad)}, cards now {len(have)}")  # fmt: skip
    if errors or bad or have != expected:
        raise SystemExit("\n".join(errors) or "cards were lost")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registry", description=__doc__)
    parser.add_argument("what", choices=[
        "fuzz", "list", "kill", "rebuild", "damage", "remote", "hub", "crowd",
    ])  # fmt: skip
    parser.add_argument("--cards", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--times", type=int)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    a = parser.parse_args()
    seed = random.randrange(10**6) if a.seed is None else a.seed
    jobs: dict[str, Callable[[Path], None]] = {
        "fuzz": lambda folder: fuzz(folder, a.cards or 100_000, seed),
        "list": lambda folder: long_list(folder, a.cards or 10_000, a.runs),
        "kill": lambda folder: kills(folder, a.times or 200, seed),
        "rebuild": lambda folder: rebuilds(folder, a.times or 200, a.cards or 40, seed),
        "damage": lambda folder: damaged(folder, a.times or 1000, a.cards or 5, seed),
        "remote": lambda folder: folder_kills(folder, a.times or 200, seed),
        "hub": lambda folder: hub_kills(folder, a.times or 200, seed),
        "crowd": lambda folder: crowd(folder, a.processes, a.seconds),
    }
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        jobs[a.what](Path(scratch))


if __name__ == "__main__":
    main()
