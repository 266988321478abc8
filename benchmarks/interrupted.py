"""Is a suite that is killed at random points and restarted the same as one that is left alone?

    python -m benchmarks.interrupted -o FOLDER             24 references, alone, killed, Ray
    python -m benchmarks.interrupted -o FOLDER --speed     8 jobs by one worker and by two

Every run is `pe eval` in a process of its own, with the bundled backbone at few steps. It is killed
(SIGKILL) after a random number of jobs have begun, and started again until it ends by itself; on
Ray (a cluster of two nodes, both here), in turn a worker is killed and the whole run. What is
finished in FOLDER is not measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PE = [sys.executable, "-m", "pe_toolkit", "eval", "--suite", "bundled", "--backbone", "bundled"]
WORDS = ["--kind", "Caption", "--method", "none,rich"]
FEWEST, MOST = 5, 20
"""Jobs that begin before a kill."""


def begin(out: Path, *words: str) -> subprocess.Popen[bytes]:
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen([*PE, *WORDS, "-o", str(out), *words], stdout=log, stderr=log)


def journal(out: Path) -> list[dict[str, Any]]:
    path = out / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(out: Path) -> Any:
    """The table without times."""
    value = json.loads((out / "table.json").read_text())
    for entry in (*value["rows"], *value["videos"]):
        entry.pop("seconds"), entry.pop("training", None)
    return {key: value[key] for key in ("kinds", "metrics", "rows", "videos", "done", "planned")}


def until_it_ends(out: Path, words: list[str], rng: random.Random, workers: bool) -> dict[str, Any]:
    """Kill and restart until it ends by itself."""
    kills = Counter[str]()
    began = time.monotonic()
    while True:
        process = begin(out, *words)
        last = len([line for line in journal(out) if line["what"] == "begin"])
        limit = last + rng.randint(FEWEST, MOST)
        while process.poll() is None:
            time.sleep(0.2)
            lines = journal(out)
            if len([line for line in lines if line["what"] == "begin"]) < limit:
                continue
            time.sleep(rng.uniform(0, 2))  # somewhere in the middle of a job
            if workers and kills["worker"] <= kills["run"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(journal(out)[-1]["pid"], signal.SIGKILL)
                kills["worker"] += 1
                limit += rng.randint(FEWEST, MOST)
            elif process.poll() is None:
                process.kill()
                kills["run"] += 1
                break
        if process.wait() == 0:
            seconds = round(time.monotonic() - began, 1)
            return {"kills": dict(kills), "seconds": seconds} | counted(out)
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"pe eval ended with {process.returncode}: see {out}.log")


def counted(out: Path) -> dict[str, Any]:
    ends = Counter(line["job"] for line in journal(out) if line["what"] == "end")
    begins = sum(line["what"] == "begin" for line in journal(out))
    twice = [job for job, count in ends.items() if count > 1]
    return {"jobs": len(ends), "begun": begins, "done_twice": twice}


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    nodes.add_node(**small)
    try:
        yield nodes.address
    finally:
        nodes.shutdown()


def interrupted(folder: Path, words: list[str], seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rng = random.Random(seed)
    for name in ("alone", "killed", "ray"):
        done = folder / f"{name}.json"
        if not done.exists():
            out = folder / name
            if name == "alone":
                assert begin(out, *words).wait() == 0
                value = counted(out)
            elif name == "killed":
                value = until_it_ends(out, words, rng, workers=False)
            else:
                with two_nodes() as address:
                    value = until_it_ends(out, [*words, "--ray", address], rng, workers=True)
            done.write_text(json.dumps(value))
        found[name] = json.loads(done.read_text())
        found[name]["same_table"] = table(folder / name) == table(folder / "alone")
        print(name, found[name], flush=True)
    return found


def speed(folder: Path, words: list[str]) -> dict[str, Any]:
    """Seconds of 8 jobs that need no other one, by one worker and by two in turn, each with one
    thread. From the beginning of the first job to the end of the last: two load the model at once.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, Any] = {}
    for repeat in range(2):
        for jobs in (1, 2):
            out = folder / f"speed-{jobs}-{repeat}"
            if not (out / "table.json").exists():
                options = [*words, "--method", "none", "--references", "8", "--jobs", str(jobs)]
                assert begin(out, *options).wait() == 0
            clock = [line["clock"] for line in journal(out)]
            found[f"{jobs} at a time, {repeat}"] = round(max(clock) - min(clock), 1)
            print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--references", type=int, default=24)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    words = ["--steps", str(args.steps)]
    if args.speed:
        found = speed(args.output, words)
    else:
        found = interrupted(args.output, [*words, "--references", str(args.references)], args.seed)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
