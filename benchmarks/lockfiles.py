"""`pe.lock` of any bytes: read, or refused with a reason, soon and small.

python -m benchmarks.lockfiles [--files 2000] [--seed 0]

Files of up to 1 MiB: noise, one piece repeated, pieces in any order, and sound files with changed
bytes. Anything but pins or a RegistryError is an error here.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
import tracemalloc
from pathlib import Path

from pe_toolkit.registry import lockfile, locktext
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.locktext import Pin

PIECES = (
    b"[[card]]\n", b"version = 1\n", b'card = "a"\n', b"size = 1\n", b"size = ", b"a.", b"a = {",
    b"#", b"\n", b"\r", b'"', b"\\n", b"\\u0000", b"9", b"[", b"]", b",", b" ", b"\x00", b"\xff",
)  # fmt: skip
MEASURE_MEMORY_EVERY = 20  # tracing makes reading several times slower


def hostile(rng: random.Random) -> bytes:
    """Bytes of a lock file that nobody meant well with."""
    size, kind = rng.randrange(locktext.MAX_BYTES + 1), rng.randrange(4)
    head = rng.choice((b"", b"version = 1\n"))
    if kind == 0:
        return (head + rng.randbytes(size))[:size]
    if kind == 1:
        piece = b"".join(rng.choices(PIECES, k=rng.randint(1, 4)))
        return (head + piece * (size // len(piece)))[:size]
    if kind == 2:
        return (head + b"".join(rng.choices(PIECES, k=size // 4)))[:size]
    pins = [Pin(f"wave-{n}", "a" * 64, n, "1.0.0", "x" * 99) for n in range(size // 256)]
    data = bytearray(locktext.render(pins))
    for _ in range(rng.randint(0, 3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lockfiles", description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    rng, slowest, largest, sound = random.Random(a.seed), 0.0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pe.lock"
        for number in range(a.files):
            path.write_bytes(hostile(rng))
            traced = number % MEASURE_MEMORY_EVERY == 0
            if traced:
                tracemalloc.start()
            start = time.perf_counter()
            with contextlib.suppress(RegistryError):
                sound += bool(lockfile.read(path))
            if traced:
                largest = max(largest, tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
            else:
                slowest = max(slowest, time.perf_counter() - start)
    print(
        f"{a.files} files (seed {a.seed}), {sound} of them sound: slowest {slowest:.2f} s, ", end=""
    )
    print(f"memory at most {largest / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
