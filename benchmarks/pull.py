"""Time to pull a card from a Hub on loopback, against the plain download of huggingface_hub.

    python -m benchmarks.pull                  # a card of 5 MB, 15 rounds, some seconds
    python -m benchmarks.pull --processes      # whole processes too: `pe pull`, imports included

From the root of the repository. The server is that of the tests, in a process of its own. Every
round takes an empty cache, and does both in turn; the registry is there, without the card:

    plain     hf_hub_download: the file lies in the client's cache, nothing is checked but its size
    pe pull   the same download, its digest compared with the announced one, the card checked
              completely (shapes, every number, digest), copied into the registry and synced

Prints the median of each and the ratio of the medians. Exits with 1 if a pulled card differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
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


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_process(
    url: str, card: Path, rounds: int, stack: contextlib.ExitStack
) -> dict[str, list[float]]:
    """Seconds of each round, in this process, after everything was imported and used once."""
    from huggingface_hub import constants, hf_hub_download

    from pe_toolkit.registry.references import HubReference, LocalReference
    from pe_toolkit.registry.remotes import keep
    from pe_toolkit.registry.remotes.hub import HubRemote
    from pe_toolkit.registry.store import Store

    times: dict[str, list[float]] = {"plain": [], "pe pull": []}
    home = stack.enter_context(tempfile.TemporaryDirectory())
    os.environ["PE_HOME"] = home
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:

            def plain(folder: str = first) -> None:
                hf_hub_download(REPO, "card.safetensors", cache_dir=folder, endpoint=url)

            kept: list[Path] = []

            def ours(folder: str = second, kept: list[Path] = kept) -> None:
                constants.HF_HUB_CACHE = f"{folder}/hub"
                entry = keep(HubRemote(HubReference("zoe", "wave"), endpoint=url).pull())
                kept.append(entry.path)

            order = [("plain", plain), ("pe pull", ours)]
            for name, action in order if number % 2 else reversed(order):
                seconds = timed(action)
                if number:  # the first round is for warming up
                    times[name].append(seconds)
            if kept[0].read_bytes() != card.read_bytes():
                raise SystemExit("the pulled card differs")
            Store().remove(LocalReference("wave"))
            Store().gc()
    return times


def in_processes(url: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, a new process each, with its imports."""
    times: dict[str, list[float]] = {"plain": [], "pe pull": []}
    for number in range(rounds + 1):
        for name, code in (("plain", PLAIN), ("pe pull", PE)):
            with tempfile.TemporaryDirectory() as folder:
                environment = {
                    **os.environ, "HF_ENDPOINT": url, "HF_HOME": f"{folder}/hf",
                    "PE_HOME": f"{folder}/pe", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                }  # fmt: skip
                command = [sys.executable, "-c", code]
                seconds = timed(
                    lambda c=command, e=environment: subprocess.run(  # type: ignore[misc]
                        c, env=e, check=True, stdout=subprocess.DEVNULL
                    )
                )
                if number:
                    times[name].append(seconds)
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    plain, ours = (statistics.median(times[name]) for name in ("plain", "pe pull"))
    print(f"{title:12}{plain * 1e3:10.1f}{ours * 1e3:10.1f}{ours / plain:9.2f}x")


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
            print(f"a card of {card.stat().st_size / 1e6:.1f} MB, medians of {options.rounds}, ms")
            print(f"{'':12}{'plain':>10}{'pe pull':>10}{'ratio':>10}")
            with contextlib.ExitStack() as stack:
                show("in process", in_process(url, card, options.rounds, stack))
            if options.processes:
                show("processes", in_processes(url, min(options.rounds, 7)))
            server.stdin.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
