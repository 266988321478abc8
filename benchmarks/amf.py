"""Time and memory of the AMF loss, forward and backward: official formulation against ours.

    python -m benchmarks.amf            # 6x30x45, 16 heads of 64: needs some 10 GB
    python -m benchmarks.amf --quick    # a small grid: seconds, some 100 MB

From the root of the repository. Every row runs in a process of its own, so that its peak memory
is its own: `ru_maxrss` less what it was after the inputs were there and the code was warm. Rows:

    official    [heads, S, S] logits, their mean, per pair of frames a softmax and int64 tables of
                relative coordinates, as the official code does it (written from its description)
    ours        `AmfObjective`, everything kept by the mask, as above
    ours-10%    the same with one patch in ten kept, as a mask does on a still background

Exits with 1 if ours and the official formulation disagree about the loss or its gradients.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import no_mask
from pe_toolkit.objectives.amf import AmfObjective

TAU = 2.0
ROWS = ("official", "ours", "ours-10%")
Loss = Callable[[Tensor, Tensor], Tensor]


def official_loss(q: Tensor, k: Tensor, flow: AttentionMotionFlow) -> Tensor:
    """The loss as the official code computes it; `(1, heads, S, d)` queries and keys."""
    grid = flow.grid
    logits = (q[0] @ k[0].transpose(-1, -2)).mean(0) / math.sqrt(q.shape[-1]) * TAU
    n = grid.per_frame
    displacement = []
    for i in range(grid.frames):
        for j in range(grid.frames):
            pair = logits[i * n : (i + 1) * n, j * n : (j + 1) * n].softmax(-1)
            places = grid.coordinates(device=q.device, dtype=torch.int64)
            rel_x = places[None, :, 0] - places[:, None, 0]
            rel_y = places[None, :, 1] - places[:, None, 1]
            displacement.append(
                torch.stack([(pair * rel_x).sum(-1), (pair * rel_y).sum(-1)], dim=-1)
            )
    kept = flow.mask.reshape(-1, n).to(q.device)
    # The mean square error has no gradient between two dtypes; places are whole numbers below 256.
    target = flow.displacement.reshape(-1, n, 2).to(q.device)[kept].to(q.dtype)
    return torch.nn.functional.mse_loss(torch.stack(displacement)[kept], target)


def make(row: str, grid: TokenGrid, heads: int, channels: int) -> tuple[Loss, Tensor, Tensor]:
    """The loss of a row and its inputs, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, heads, grid.tokens, channels, generator=generator) for _ in range(2))
    places = grid.coordinates()
    target = torch.randint(
        grid.per_frame, (grid.frames, grid.frames, grid.per_frame), generator=generator
    )
    displacement = (places[target] - places).to(torch.int8)
    displacement = displacement.reshape(grid.frames, grid.frames, grid.height, grid.width, 2)
    mask = no_mask(displacement)
    if row == "ours-10%":
        few = torch.randperm(grid.per_frame, generator=generator) < max(grid.per_frame // 10, 1)
        mask = mask & few.reshape(grid.height, grid.width)
    flow = AttentionMotionFlow(displacement, mask, grid)
    q, k = q.requires_grad_(), k.requires_grad_()
    if row == "official":
        return lambda q, k: official_loss(q, k, flow), q, k
    return AmfObjective(flow, TAU).loss, q, k


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(row: str, grid: TokenGrid, heads: int, channels: int, repeats: int) -> dict[str, float]:
    """Run one row in this process."""
    loss, q, k = make(row, TokenGrid(2, 2, 2), heads, channels)
    torch.autograd.grad(loss(q, k), (q, k))  # loads and warms what is lazy
    loss, q, k = make(row, grid, heads, channels)
    before = peak_bytes()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = loss(q, k)
        gradients = torch.autograd.grad(value, (q, k))
        seconds.append(time.perf_counter() - start)
        norms = [float(g.double().norm()) for g in gradients]
        del gradients
    return {
        "seconds": min(seconds),
        "bytes": peak_bytes() - before,
        "loss": value.item(),
        "gradient_q": norms[0],
        "gradient_k": norms[1],
    }


def in_own_process(row: str, options: argparse.Namespace) -> dict[str, float]:
    arguments = [f"--{name}={getattr(options, name)}" for name in ("grid", "heads", "channels")]
    command = [sys.executable, "-m", "benchmarks.amf", f"--row={row}", *arguments]
    done = subprocess.run(
        [*command, f"--repeats={options.repeats}"],
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory of the AMF loss on the CPU.")
    parser.add_argument("--quick", action="store_true", help="a 6x12x18 grid")
    parser.add_argument("--grid", default="6x30x45", help="FRAMESxHEIGHTxWIDTH in tokens")
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--channels", type=int, default=64, help="channels per head")
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    parser.add_argument("--row", choices=ROWS, help="measure only this, here, and print JSON")
    options = parser.parse_args()
    if options.quick:
        options.grid = "6x12x18"
    grid = TokenGrid(*map(int, options.grid.split("x")))
    if options.row:
        result = measure(options.row, grid, options.heads, options.channels, options.repeats)
        say(json.dumps(result))
        return 0
    say(f"AMF loss, forward + backward, {grid} tokens, {options.heads} heads x {options.channels},")
    say(f"float32, {torch.get_num_threads()} threads, best of {options.repeats}")
    say(f"{'':12}{'seconds':>10}{'peak MB':>10}{'faster':>9}{'smaller':>9}")
    results = {}
    for row in ROWS:
        now = results[row] = in_own_process(row, options)
        faster = results["official"]["seconds"] / now["seconds"]
        smaller = results["official"]["bytes"] / max(now["bytes"], 1)
        numbers = f"{now['seconds']:10.3f}{now['bytes'] / 1e6:10.1f}{faster:8.1f}x{smaller:8.1f}x"
        say(f"{row:12}{numbers}")
    official, ours = results["official"], results["ours"]
    wrong = [
        f"{name}: official {official[name]}, ours {ours[name]}"
        for name in ("loss", "gradient_q", "gradient_k")
        if not math.isclose(official[name], ours[name], rel_tol=1e-4)
    ]
    say("DISAGREE: " + "; ".join(wrong) if wrong else "same loss and gradient norms (1e-4)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
