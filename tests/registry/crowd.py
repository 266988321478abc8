"""Processes that do things to one registry, for tests and `benchmarks.registry`.

    python -m tests.registry.crowd ROOT CARDS SEED SECONDS

does random operations for that long, and at least LEAST of them however slow the machine is, and
prints one JSON line at the end: how many of which, what went wrong, and
which of its own cards (nobody else removes them) must be there.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

from pe_toolkit.errors import PeError
from pe_toolkit.registry.references import local
from pe_toolkit.registry.store import Store

LEAST = 12


def work(root: Path, cards: Path, seed: int, seconds: float) -> dict[str, object]:
    """Add, list, resolve, tag, remove, collect and check for a while."""
    rng, store, done = random.Random(seed), Store(root), Counter[str]()
    sources = sorted(cards.iterdir())
    mine: dict[str, str] = {}
    errors: list[str] = []
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end or done.total() + len(errors) < LEAST:
        action = rng.choice(
            ("add", "add", "list", "resolve", "tag", "remove", "shadow", "gc", "check")
        )
        name = rng.choice(sorted(mine)) if mine else ""
        try:
            if action == "add":
                number += 1
                made = store.add(rng.choice(sources), f"p{seed}-{number}")
                mine[made.name] = made.digest
            elif action == "list":
                have = {entry.name: entry.digest for entry in store.entries()}
                errors += [f"{n} is not listed" for n, d in mine.items() if have.get(n) != d]
            elif action == "gc":
                store.gc()
            elif name:
                _touch(store, rng, action, name, mine)
            done[action] += 1
        except PeError as error:
            errors.append(f"{action} {name}: {type(error).__name__}: {error.message}")
    return {"done": dict(done), "errors": errors[:20], "mine": mine}


def _touch(store: Store, rng: random.Random, action: str, name: str, mine: dict[str, str]) -> None:
    """Do something to one card of ours."""
    if action in ("resolve", "check"):
        entry = store.resolve(local(name))
        assert store.check(entry).digest == mine[name]
    elif action == "tag":
        new = f"{name[:60]}t{rng.randrange(10**6)}"
        mine[new] = store.tag(local(name), local(new)).digest
    elif action == "remove":
        store.remove(local(name))
        del mine[name]
    else:  # a name that comes and goes; each process has its own
        shadow = local(name.split("-")[0] + "-shadow")
        store.tag(local(name), shadow, force=True)
        store.remove(shadow, every=True)


if __name__ == "__main__":
    where, sources, number, time_left = sys.argv[1:]
    result = work(Path(where), Path(sources), int(number), float(time_left))
    sys.stdout.write(json.dumps(result) + "\n")
