"""Time to pull a card from a Hub on loopback, against the plain download of huggingface_hub.

    python -m benchmarks.pull                  # a card of 5 MB, 15 rounds, some seconds
    python -m benchmarks.pull --processes      # whole processes too: `pe pull`, imports included

From the root of the repository. The server is that of the tests, in a process of its own. Every
round takes an empty cache, and does both, in turns first; the registry is there, without the card:

    plain     hf_hub_download: the file lies in the client's cache, nothing is checked but its size
    pe pull   the same download, its digest compared with the announced one, the card checked
              completely (shapes, every number, digest), copied into the registry and synced

Both processes find their modules compiled, as pip leaves them. Prints the median of each with
lowest and highest, wall and processor time (which other work on the machine hardly changes), and
the ratio: the median of the rounds' own ratios. Exits with 1 if a pulled card differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

REPO = "zoe/wave"
SERVE = """
import sys
from pathlib import Path
from tests.registry.hub_server import HubServer
with HubServer() as hub:
    hub.put("zoe/wave", {"card.safetensors": Path(sys.argv[1]).read_bytes()})
    print(hub.url, flush=True)
    sys.stdin.read()
"""
PLAIN = "from huggingface_hub import hf_hub_download as d; d('zoe/wave', 'card.safetensors')"
PE = """
import sys
from pe_toolkit.cli.main import main
sys.argv = ["pe", "pull", "zoe/wave"]
main()
"""


def make_card(path: Path, megabytes: float) -> None:
    """A sound card of about this size; its positions are noise, as hard to read as real ones."""
    import runpy

    import numpy as np

    from pe_toolkit.card import MotionCard

    small = runpy.run_path("tests/golden/make.py")["build"]()
    old = small.tensors["positions"]
    steps, rest = 10, 2 * 12
    half = max(int(megabytes * 1e6 / (2 * steps * rest)), 1)
    shape = (steps, 2, 12, half)
    noise = np.random.default_rng(0).standard_normal(shape).astype(old.dtype)
    plan = small.spec.schedule
    plan = replace(
        plan, timesteps=tuple(range(999, 999 - steps, -1)), noise=tuple([0.9] * steps)
    )  # fmt: skip
    training = replace(small.spec.training, loss=((1.0, 0.5),) * steps)
    spec = replace(small.spec, schedule=plan, training=training, digest="")
    MotionCard(spec, {**small.tensors, "positions": noise}).save(path)


Times = dict[str, list[tuple[float, float]]]
"""What -> (wall, processor) seconds of each round."""


def timed(action: Callable[[], object], who: int) -> tuple[float, float]:
    """Wall and processor seconds of this process or its children."""
    used, start = resource.getrusage(who), time.perf_counter()
    action()
    wall, now = time.perf_counter() - start, resource.getrusage(who)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def in_process(url: str, card: Path, rounds: int, stack: contextlib.ExitStack) -> Times:
    """Times of each round, in this process, after everything was imported and used once."""
    from huggingface_hub import constants, hf_hub_download

    from pe_toolkit.registry.references import HubReference, LocalReference
    from pe_toolkit.registry.remotes import receive
    from pe_toolkit.registry.remotes.hub import HubRemote
    from pe_toolkit.registry.store import Store

    times: Times = {"plain": [], "pe pull": []}
    home = stack.enter_context(tempfile.TemporaryDirectory())
    os.environ["PE_HOME"] = home
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:

            def plain(folder: str = first) -> None:
                hf_hub_download(REPO, "card.safetensors", cache_dir=folder, endpoint=url)

            kept: list[Path] = []

            def ours(folder: str = second, kept: list[Path] = kept) -> None:
                constants.HF_HUB_CACHE = f"{folder}/hub"
                _, entry = receive(HubRemote(HubReference("zoe", "wave"), endpoint=url))
                kept.append(entry.path)

            order = [("plain", plain), ("pe pull", ours)]
            for name, action in order if number % 2 else reversed(order):
                seconds = timed(action, resource.RUSAGE_SELF)
                if number:  # the first round is for warming up
                    times[name].append(seconds)
            if kept[0].read_bytes() != card.read_bytes():
                raise SystemExit("the pulled card differs")
            Store().remove(LocalReference("wave"))
            Store().gc()
    return times


def in_processes(url: str, rounds: int, folder: Path) -> Times:
    """Times of each round, a new process each, with its imports."""
    from pe_toolkit.registry.store import Store

    compiled, registry = folder / "compiled", folder / "registry"
    Store(registry).add(Path("tests/golden/rotary-angle.safetensors"))
    times: Times = {"plain": [], "pe pull": []}
    for number in range(rounds + 1):
        order = [("plain", PLAIN), ("pe pull", PE)]
        for name, code in order if number % 2 else reversed(order):
            with tempfile.TemporaryDirectory() as home:
                shutil.copytree(registry, f"{home}/pe")
                environment = {
                    **os.environ, "HF_ENDPOINT": url, "HF_HOME": f"{home}/hf",
                    "PE_HOME": f"{home}/pe", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                    "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(compiled),
                }  # fmt: skip
                command = [sys.executable, "-c", code]
                seconds = timed(
                    lambda c=command, e=environment: subprocess.run(  # type: ignore[misc]
                        c, env=e, check=True, stdout=subprocess.DEVNULL
                    ),
                    resource.RUSAGE_CHILDREN,
                )
                if number:  # the first round compiles
                    times[name].append(seconds)
    return times


def show(title: str, times: Times) -> None:
    """One line each for wall and processor time."""
    for kind, label in enumerate(("wall", "processor")):
        plain, ours = ([both[kind] for both in times[name]] for name in ("plain", "pe pull"))
        ratios = [b / a for a, b in zip(plain, ours, strict=True)]
        columns = [spread([s * 1e3 for s in plain], 0), spread([s * 1e3 for s in ours], 0)]
        print(f"{title:12}{label:10}{columns[0]:>24}{columns[1]:>24}{spread(ratios, 2):>24}")


def spread(values: list[float], digits: int) -> str:
    """Median, lowest and highest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description="Time of `pe pull` against hf_hub_download.")
    parser.add_argument("--megabytes", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--processes", action="store_true", help="measure whole processes too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "card.safetensors"
        make_card(card, options.megabytes)
        with subprocess.Popen(
            [sys.executable, "-c", SERVE, str(card)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            assert server.stdin is not None
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            size = card.stat().st_size / 1e6
            print(f"a card of {size:.1f} MB, {options.rounds} rounds, median [lowest, highest] ms")
            print(f"{'':22}{'plain':>24}{'pe pull':>24}{'ratio':>24}")
            with contextlib.ExitStack() as stack:
                show("in process", in_process(url, card, options.rounds, stack))
            if options.processes:
                show("processes", in_processes(url, options.rounds, Path(folder)))
            server.stdin.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
