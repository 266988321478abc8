"""Checkpoints, schedules and progress shared by the training stages."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ADAM = ("exp_avg", "exp_avg_sq")
MUON = "momentum_buffer"


def autocast(device: torch.device) -> torch.autocast:
    """bf16 autocast: on CPUs with AMX and on GPUs it is several times faster, and needs no loss
    scaling.
    """
    return torch.autocast(device.type, torch.bfloat16)


def learning_rate(
    step: int, done: float, peak: float, *, warmup: int = 50, hold: float = 0.0
) -> float:
    """Linear warm-up, the peak until the share `hold` of the stage is done, then a cosine down to
    2 %; `done` is in [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    after = min(1.0, max(0.0, (done - hold) / max(1e-9, 1 - hold)))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * after)))


class Run:
    """One resumable training stage: modules, optimiser, exponential moving average, step counter.

    State lives in `folder/NAME.safetensors` (weights, average, moments; no pickle) and is
    written every `every` seconds, so that a session that stops at once loses little.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        module: nn.Module,
        *,
        steps: int,
        peak: float,
        decay: float,
        hold: float = 0.0,
        hidden: re.Pattern[str] | None = None,
        minutes: float | None = None,
    ) -> None:
        """`hidden` matches the names of the matrices that Muon trains; AdamW trains the rest. With
        `minutes` the stage ends, and the learning rate falls, by the clock: for a machine that is
        lent for so long.
        """
        self.name, self.folder, self.module = name, folder, module
        self.seconds = None if minutes is None else 60 * minutes
        self._began = time.monotonic()
        self.steps, self.peak, self.decay, self.hold = steps, peak, decay, hold
        self.parameters = {k: p for k, p in module.named_parameters() if p.requires_grad}
        self.frozen = {k: p for k, p in module.named_parameters() if not p.requires_grad}
        matrices = [
            k for k, p in self.parameters.items() if p.ndim == 2 and hidden and hidden.search(k)
        ]
        rest = [p for k, p in self.parameters.items() if k not in matrices]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        ]
        if matrices:
            self.optimizers.append(
                torch.optim.Muon(
                    [self.parameters[k] for k in matrices],
                    lr=peak,
                    weight_decay=0.01,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        self.average = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.step = 0
        self._saved = time.monotonic()
        self._log = time.monotonic()
        self._losses: list[torch.Tensor] = []
        if self.path.exists():
            self._load()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def __iter__(self) -> Iterator[int]:
        while (done := self.done) < 1:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(self.step, done, self.peak, hold=self.hold)
            yield self.step
        self.save()

    @property
    def done(self) -> float:
        """The share of the stage that is done, by steps or by the clock: whichever is more."""
        by_step = self.step / max(1, self.steps)
        if self.seconds is None:
            return by_step
        return max(by_step, (time.monotonic() - self._began) / self.seconds)

    def update(self, loss: torch.Tensor) -> None:
        """Backward, clip, step, average, log, and now and then a checkpoint."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            keys = list(self.parameters)
            torch._foreach_lerp_(
                [self.average[k] for k in keys],
                [self.parameters[k].detach() for k in keys],
                1 - decay,
            )
        self.step += 1
        # Read when it is printed: a GPU need not wait for every step.
        self._losses.append(loss.detach())
        if self.step % 50 == 0:
            mean = float(torch.stack(self._losses).mean())
            seconds = (time.monotonic() - self._log) / len(self._losses)
            self._losses.clear()
            left = (time.monotonic() - self._began) / 60 * (1 / max(1e-9, self.done) - 1)
            if self.seconds is None:
                left = (self.steps - self.step) * seconds / 60
            print(
                f"{self.name} {self.step}/{self.steps} loss {mean:.4f} {seconds:.3f} s/step "
                f"{left:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
            self._log = time.monotonic()
        if time.monotonic() - self._saved > 300:
            self.save()

    def save(self) -> None:
        tensors = {f"weight.{k}": p.detach() for k, p in (self.parameters | self.frozen).items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for key, p in self.parameters.items():
            for optimizer in self.optimizers:
                state = optimizer.state.get(p, {})
                for field in (*ADAM, MUON):
                    if field in state:
                        tensors[f"{field}.{key}"] = state[field]
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        save_file(
            {k: v.contiguous().cpu() for k, v in tensors.items()},
            part,
            {"step": json.dumps(self.step)},
        )
        os.replace(part, self.path)
        self._saved = time.monotonic()

    def _load(self) -> None:
        from safetensors import safe_open

        with safe_open(self.path, "pt") as f:
            self.step = json.loads(f.metadata()["step"])
        tensors = load_file(self.path)
        for key, p in self.parameters.items():
            p.data.copy_(tensors[f"weight.{key}"])
            average = tensors.get(f"average.{key}", tensors[f"weight.{key}"])  # it was frozen
            self.average[key] = average.to(p.device)
            for optimizer, fields in zip(self.optimizers, (ADAM, (MUON,)), strict=False):
                if f"{fields[0]}.{key}" in tensors:
                    optimizer.state[p] = {
                        name: tensors[f"{name}.{key}"].to(p.device) for name in fields
                    }
                    if fields is ADAM:
                        # The fused kernel wants it beside the parameter.
                        step = torch.tensor(float(self.step), device=p.device)
                        optimizer.state[p]["step"] = step

    def use_average(self) -> None:
        """Copy the averaged weights into the module: what is evaluated and shipped."""
        for key, p in self.parameters.items():
            p.data.copy_(self.average[key])
