"""The published DiTFlow algorithm (positions of a rotary or absolute CogVideoX), written plainly.

Ours, from the paper and from a description of the official code; nothing of it is copied. It keeps
what the official code does at the cost of time and memory, because it is what we compare with:

- every parameter requires a gradient, and weight gradients are kept (never zeroed);
- gradient checkpointing is always on;
- the AMF takes the logits of every head, `(heads, S, S)`, then their mean, then a softmax per pair
  of frames with int64 tables of relative coordinates;
- keys and values of the noised reference are recorded by a pass through all blocks;
- block n runs in full although only its queries and keys are used;
- the allocator's cache is emptied at every inner step.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn import functional

from benchmarks.amf import official_loss
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.machine import memory
from pe_toolkit.motion.flow import AttentionMotionFlow


class Leave(Exception):  # noqa: N818  (control flow)
    """Raised after block n: the rest of the model is bypassed."""


@dataclass
class Shared:
    """What the attention processors of one transformer exchange."""

    tables: Any = None
    """`((cos_q, sin_q), (cos_k, sin_k))`, or None on absolute backbones."""
    tap: int = -1
    record: bool = False
    inject: tuple[Tensor, Tensor] | None = None
    caught: dict[str, Tensor] = field(default_factory=dict)


class Processor:
    """Attention of one block; records and injects keys and values in block 0, taps block n."""

    def __init__(self, shared: Shared, index: int) -> None:
        self.shared, self.index = shared, index

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Any = None,
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        text, shared = encoder_hidden_states.shape[1], self.shared
        x = torch.cat([encoder_hidden_states, hidden_states], 1)
        q, k, v = (
            layer(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        q, k = attn.norm_q(q), attn.norm_k(k)
        if shared.tables is not None:
            for_q, for_k = shared.tables
            q = torch.cat([q[:, :, :text], apply_rotary_emb(q[:, :, text:], for_q)], 2)
            k = torch.cat([k[:, :, :text], apply_rotary_emb(k[:, :, text:], for_k)], 2)
        if self.index == 0 and shared.record:
            shared.caught |= {"k": k[:, :, text:], "v": v[:, :, text:]}
        if self.index == 0 and shared.inject is not None:
            key, value = (t.expand_as(k[:, :, text:]) for t in shared.inject)
            k = torch.cat([k[:, :, :text], key], 2)
            v = torch.cat([v[:, :, :text], value], 2)
        if self.index == shared.tap:
            shared.caught |= {"tap_q": q[:, :, text:], "tap_k": k[:, :, text:]}
        out = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        return out[:, text:], out[:, :text]


class Official:
    """One guided generation, step by step.

    Args:
        adapter: the backbone; its transformer is changed for good (processors, checkpointing).
        reference: latents of the reference `(1, F', C, h, w)`.
        text, negative: embeddings `(1, tokens, channels)`.
        block, tau, inner: n, temperature and K.
    """

    def __init__(
        self,
        adapter: Any,
        reference: Tensor,
        text: Tensor,
        negative: Tensor,
        *,
        block: int,
        size: tuple[int, int, int],
        tau: float = 2.0,
        inner: int = 5,
    ) -> None:
        self.adapter, self.reference, self.text, self.negative = adapter, reference, text, negative
        self.block, self.inner = block, inner
        self.model = adapter.transformer
        self.model.requires_grad_(True)
        self.model.enable_gradient_checkpointing()
        self.shared = Shared()
        for index, layer in enumerate(self.model.transformer_blocks):
            layer.attn1.processor = Processor(self.shared, index)
        base = adapter.base_positions(*size)
        if adapter.positions == "rotary":
            cos, sin = (t.float() for t in base)
            self.free = [t.clone().requires_grad_() for t in (cos, sin, cos, sin)]
        else:
            self.free = [torch.zeros_like(base).float().requires_grad_()]
        self.grid = adapter.grid_for(*size)
        with torch.no_grad():
            q, k = self._tapped(reference, torch.zeros_like(text), 0, grad=False)
            self.flow = AttentionMotionFlow.from_qk(q.float(), k.float(), self.grid, mask="nonzero")
        self.noise = torch.randn_like(reference)
        self.collecting = 0.0
        """Seconds in Python's garbage collector so far: they grow with the whole process, so that
        whoever times a step takes them off.
        """

    def _tables(self) -> Any:
        if len(self.free) == 1:
            return None
        a, b, c, d = self.free
        return (a, b), (c, d)

    def _forward(self, x: Tensor, text: Tensor, t: int) -> Tensor:
        self.shared.tables = self._tables()
        add: list[Any] = []
        if len(self.free) == 1:

            def moved(module: Any, args: Any, out: Tensor) -> Tensor:
                n = args[0].shape[1]
                return torch.cat([out[:, :n], out[:, n:] + self.free[0].to(out)], 1)

            add.append(self.model.patch_embed.register_forward_hook(moved))
        try:
            times = torch.full((x.shape[0],), t, device=x.device)
            given = {"hidden_states": x, "encoder_hidden_states": text, "timestep": times}
            out: Tensor = self.model(**given, return_dict=False)[0]
            return out
        finally:
            for handle in add:
                handle.remove()

    def _tapped(self, x: Tensor, text: Tensor, t: int, *, grad: bool) -> tuple[Tensor, Tensor]:
        """Queries and keys of block n, which runs in full; later blocks do not."""

        def leave(module: Any, args: Any, out: Any) -> None:
            raise Leave

        # Checkpointing cannot be left in the middle of a block, but after it.
        self.shared.tap = self.block
        inner = self.model._gradient_checkpointing_func
        blocks = self.model.transformer_blocks

        def run(block: Any, *args: Any) -> Any:
            if block is blocks[self.block]:
                block(*args)
                raise Leave
            return inner(block, *args)

        handle = None
        if grad:
            self.model._gradient_checkpointing_func = run
        else:
            handle = blocks[self.block].register_forward_hook(leave)
        try:
            self._forward(x, text, t)
        except Leave:
            pass
        finally:
            self.model._gradient_checkpointing_func = inner
            self.shared.tap = -1
            if handle is not None:
                handle.remove()
        return self.shared.caught.pop("tap_q"), self.shared.caught.pop("tap_k")

    def guided_step(self, latents: Tensor, t: int, rate: float, scale: float) -> Tensor:
        """KV pass, K inner steps, one denoising step; returns the guided prediction."""
        with torch.no_grad():
            self.shared.record = True
            times = torch.tensor([t], device=latents.device)
            noisy = self.adapter.pipe.scheduler.add_noise(self.reference, self.noise, times)
            self._forward(noisy, torch.zeros_like(self.text), t)  # all blocks
            self.shared.record = False
        self.shared.inject = self.shared.caught.pop("k"), self.shared.caught.pop("v")
        adam = torch.optim.Adam(self.free, lr=rate)
        for _ in range(self.inner):
            adam.zero_grad()  # of the positions; the weights' gradients pile up
            q, k = self._tapped(latents, self.text, t, grad=True)
            official_loss(q, k, self.flow).backward()
            adam.step()
            for _ in range(2):
                if latents.is_cuda:  # emptying waits for the device anyway
                    torch.cuda.synchronize()
                began = time.perf_counter()
                gc.collect()
                self.collecting += time.perf_counter() - began
                if latents.is_cuda:
                    torch.cuda.empty_cache()
        out = self.plain_step(latents, t, scale)
        self.shared.inject = None
        return out

    @torch.no_grad()
    def plain_step(self, latents: Tensor, t: int, scale: float) -> Tensor:
        """One step of classifier-free guidance: the prediction."""
        both = torch.cat([self.negative, self.text])
        uncond, cond = self._forward(torch.cat([latents] * 2), both, t).float().chunk(2)
        return uncond + scale * (cond - uncond)


def logits_bytes(heads: int, tokens: int, size: int = 2) -> int:
    """Bytes of the `(heads, S, S)` logits, once."""
    return heads * tokens * tokens * size


def amf_bytes(heads: int, tokens: int, size: int = 2) -> int:
    """Bytes at the peak of the official code's AMF: the logits twice, queries and keys once.

    That is what a count of its own function on fake tensors comes to: 12.70 and 59.4 GB on 5b at 24
    and 49 frames, 7.94 and 37.1 GB on 2b. The transcription here is kinder: it drops the logits
    once their mean is taken, so that they and their gradients are never there together.
    """
    return 2 * logits_bytes(heads, tokens, size) + 2 * heads * tokens * architectures.HEAD * size


def gradient_parameters(a: architectures.Architecture, block: int) -> int:
    """Parameters that get a gradient: all up to block n, and of that what makes queries and keys.

    Published rotary and absolute models; none with learned positions.
    """
    d, t = a.channels, a.time_channels
    patch = a.patch**2 * (a.patch_size_t or 1)
    embed = (a.in_channels * patch + 1) * d + (a.text_channels + 1) * d
    time = d * t + t + t * t + t
    norm = 6 * d * t + 6 * d + 2 * d
    head = 2 * architectures.HEAD
    whole = 2 * norm + 4 * (d * d + d) + 2 * head + 8 * d * d + 5 * d
    return embed + time + block * whole + norm + 2 * (d * d + d) + 2 * head


def step_flops(a: architectures.Architecture, request: memory.Request) -> float:
    """Operations of a guided step, counted as `memory.train_flops` counts ours.

    The reference's pass through all blocks; K times blocks 0 .. n - 1 forward, again (they are
    checkpointed) and back, to activations and to weights, block n forward and from there back
    through what makes its queries and keys (a third of its forward matrices), and the AMF; the
    denoising step.
    """
    whole = sum(memory.pass_flops(a, request, a.layers))
    matrices, attention = memory.pass_flops(a, request, request.block)
    last_matrices, last_attention = memory.pass_flops(a, request, 1)
    inner = 4 * matrices + 4.5 * attention + 4 / 3 * last_matrices + last_attention
    inner += 3 * 2 * 2.0 * memory.amf_pairs(a, request) * a.channels
    return whole + request.inner * inner + 2 * whole


def least_bytes(a: architectures.Architecture, request: memory.Request) -> dict[str, float]:
    """What the official code needs at its AMF, at least: bytes of weights, weight gradients and
    AMF. Its activations, text encoder and VAE come on top.
    """
    f, h, w = a.grid(request.frames, request.width, request.height)
    size = memory.BYTES[request.dtype]
    return {
        "logits": float(logits_bytes(a.heads, f * h * w, size)),
        "AMF": float(amf_bytes(a.heads, f * h * w, size)),
        "weights": float(a.parameters * size),
        "gradients": float(gradient_parameters(a, request.block) * size),
    }
