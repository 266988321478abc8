"""The method written down a second time, as plainly as possible, in float64: no hooks, no diffusers
modules, no code of ours. Slow, and only for tests to compare with.

CogVideoX up to the queries and keys of one block, the AMF with logits of every head and a loop over
pairs of frames, the masked mean squared error, and Adam's update, from the published descriptions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

Tensor = torch.Tensor


class PlainModel:
    """A CogVideoX 1.0 transformer as a dictionary of float64 weights."""

    def __init__(self, state: dict[str, Tensor], heads: int, patch: int, time_dim: int) -> None:
        self.w = {name: value.detach().double() for name, value in state.items()}
        self.heads, self.patch, self.time_dim = heads, patch, time_dim

    def linear(self, name: str, x: Tensor) -> Tensor:
        bias = self.w.get(f"{name}.bias")
        y = x @ self.w[f"{name}.weight"].T
        return y if bias is None else y + bias

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        y = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        if f"{name}.weight" in self.w:
            y = y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]
        return y

    def time(self, t: int) -> Tensor:
        half = self.time_dim_in // 2
        angle = t * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        wave = torch.cat([angle.cos(), angle.sin()])[None]
        hidden = F.silu(self.linear("time_embedding.linear_1", wave))
        return self.linear("time_embedding.linear_2", hidden)

    @property
    def time_dim_in(self) -> int:
        return self.w["time_embedding.linear_1.weight"].shape[1]

    def patches(self, x: Tensor) -> Tensor:
        """(B, F, C, h, w) -> (B, F * h/p * w/p, D): frame by frame, row by row."""
        b, f, c, h, w = x.shape
        p = self.patch
        cut = x.reshape(b, f, c, h // p, p, w // p, p)
        y = torch.einsum("bfchiwj,dcij->bfhwd", cut, self.w["patch_embed.proj.weight"])
        return (y + self.w["patch_embed.proj.bias"]).flatten(1, 3)

    def queries_keys(
        self,
        x: Tensor,
        text: Tensor,
        t: int,
        block: int,
        tables: Any,
        added: Tensor | None,
        injected: tuple[Tensor, Tensor] | None = None,
        want: str = "qk",
    ) -> tuple[Tensor, Tensor]:
        """q and k (or k and v: `want`) of the video tokens at `block`, (B, heads, S, d).

        `tables` is ((cos_q, sin_q), (cos_k, sin_k)) or None; `added` the whole sincos table;
        `injected` takes the place of the video tokens' k and v at block 0.
        """
        temb = self.time(t)
        video, words = self.patches(x), self.linear("patch_embed.text_proj", text)
        if added is not None:
            video = video + added
        for index in range(block + 1):
            name = f"transformer_blocks.{index}"
            v, w, gate_v, gate_w = self.modulated(f"{name}.norm1", video, words, temb)
            joint = torch.cat([w, v], 1)
            q, k, value = (
                self.split(self.linear(f"{name}.attn1.to_{part}", joint)) for part in "qkv"
            )
            q, k = (
                self.norm(f"{name}.attn1.norm_{part}", y, 1e-6)
                for part, y in zip("qk", (q, k), strict=True)
            )
            n = words.shape[1]
            if tables is not None:
                q = torch.cat([q[:, :, :n], rotated(q[:, :, n:], *tables[0])], 2)
                k = torch.cat([k[:, :, :n], rotated(k[:, :, n:], *tables[1])], 2)
            if index == 0 and injected is not None:
                k, value = (
                    torch.cat([own[:, :, :n], other.expand_as(own[:, :, n:])], 2)
                    for own, other in zip((k, value), injected, strict=True)
                )
            if index == block and want == "kv":
                return k[:, :, n:], value[:, :, n:]
            if index == block:
                return q[:, :, n:], k[:, :, n:]
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            out = self.linear(
                f"{name}.attn1.to_out.0", (weights @ value).transpose(1, 2).flatten(2)
            )
            words, video = words + gate_w * out[:, :n], video + gate_v * out[:, n:]
            v, w, gate_v, gate_w = self.modulated(f"{name}.norm2", video, words, temb)
            hidden = F.gelu(
                self.linear(f"{name}.ff.net.0.proj", torch.cat([w, v], 1)), approximate="tanh"
            )
            out = self.linear(f"{name}.ff.net.2", hidden)
            words, video = words + gate_w * out[:, :n], video + gate_v * out[:, n:]
        raise AssertionError("unreachable")

    def modulated(
        self, name: str, video: Tensor, words: Tensor, temb: Tensor
    ) -> tuple[Tensor, ...]:
        parts = self.linear(f"{name}.linear", F.silu(temb)).chunk(6, dim=1)
        shift, scale, gate, shift_w, scale_w, gate_w = (p[:, None] for p in parts)
        v = self.norm(f"{name}.norm", video, 1e-5) * (1 + scale) + shift
        w = self.norm(f"{name}.norm", words, 1e-5) * (1 + scale_w) + shift_w
        return v, w, gate, gate_w

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Columns (2k, 2k + 1) turned: x cos + (-x_odd, x_even) sin."""
    out = torch.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    out[..., 0::2] = even * cos[:, 0::2] - odd * sin[:, 0::2]
    out[..., 1::2] = odd * cos[:, 1::2] + even * sin[:, 1::2]
    return out


def rotary_tables(grid: tuple[int, int, int], d: int) -> tuple[Tensor, Tensor]:
    """cos and sin (S, d) of the token's frame, row and column times the usual frequencies."""
    rows = []
    for f in range(grid[0]):
        for y in range(grid[1]):
            for x in range(grid[2]):
                angles: list[float] = []
                for place, size in ((f, d // 4), (y, d // 8 * 3), (x, d // 8 * 3)):
                    for i in range(0, size, 2):
                        angles += [place / 10000 ** (i / size)] * 2
                rows.append(angles)
    table = torch.tensor(rows, dtype=torch.float64)
    return table.cos(), table.sin()


def sincos_table(grid: tuple[int, int, int], dim: int) -> Tensor:
    """(S, dim): a quarter for the frame, then column, then row, sines before cosines."""

    def wave(place: int, size: int) -> list[float]:
        angles = [place / 10000 ** (i / (size / 2)) for i in range(size // 2)]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

    space = dim * 3 // 8
    return torch.tensor(
        [
            wave(f, dim // 4) + wave(x, space) + wave(y, space)
            for f in range(grid[0])
            for y in range(grid[1])
            for x in range(grid[2])
        ],
        dtype=torch.float64,
    )


def displacement(q: Tensor, k: Tensor, grid: tuple[int, int, int], tau: float | None) -> Tensor:
    """(F * F, HW, 2) as (dx, dy) of one clip; (heads, S, d). The argmax without tau, else soft."""
    frames, height, width = grid
    n = height * width
    logits = torch.stack([a @ b.T for a, b in zip(q, k, strict=True)]).mean(0) / math.sqrt(
        q.shape[-1]
    )
    places = torch.tensor([[p % width, p // width] for p in range(n)], dtype=torch.float64)
    out = []
    for i in range(frames):
        for j in range(frames):
            pair = logits[i * n : (i + 1) * n, j * n : (j + 1) * n]
            relative = places[None] - places[:, None]  # (from, to, 2)
            if tau is None:
                out.append(relative[torch.arange(n), pair.argmax(1)])
            else:
                out.append(((tau * pair).softmax(-1)[..., None] * relative).sum(1))
    return torch.stack(out)


def loss(soft: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference where the reference moves."""
    kept = reference.norm(dim=-1) > 0
    return (soft[kept] - reference[kept]).square().mean()


class Adam:
    """Kingma and Ba, algorithm 1, with the usual constants."""

    def __init__(self, rate: float) -> None:
        self.rate, self.m, self.v, self.t = rate, 0.0, 0.0, 0

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient  # type: ignore[assignment]
        self.v = 0.999 * self.v + 0.001 * gradient.square()  # type: ignore[assignment]
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return x - self.rate * m / (torch.as_tensor(v).sqrt() + 1e-8)
