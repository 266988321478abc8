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
    step: int, steps: int, peak: float, *, warmup: int = 50, hold: float = 0.0
) -> float:
    """Linear warm-up, the peak for the share `hold` of the steps, then a cosine down to 2 %."""
    if step < warmup:
        return peak * (step + 1) / warmup
    begin = max(warmup, hold * steps)
    done = min(1.0, max(0.0, (step - begin) / max(1.0, steps - begin)))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


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
    ) -> None:
        """`hidden` matches the names of the matrices that Muon trains; AdamW trains the rest."""
        self.name, self.folder, self.module = name, folder, module
        self.steps, self.peak, self.decay, self.hold = steps, peak, decay, hold
        self.parameters = {k: p for k, p in module.named_parameters() if p.requires_grad}
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
        self._losses: list[float] = []
        if self.path.exists():
            self._load()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def __iter__(self) -> Iterator[int]:
        while self.step < self.steps:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(self.step, self.steps, self.peak, hold=self.hold)
            yield self.step
        self.save()

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
        self._losses.append(float(loss.detach()))
        if self.step % 50 == 0:
            seconds = (time.monotonic() - self._log) / 50
            mean = sum(self._losses[-50:]) / 50
            left = (self.steps - self.step) * seconds / 60
            print(
                f"{self.name} {self.step}/{self.steps} loss {mean:.4f} {seconds:.2f} s/step "
                f"{left:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
            self._log = time.monotonic()
        if time.monotonic() - self._saved > 300:
            self.save()

    def save(self) -> None:
        tensors = {f"weight.{k}": p.detach() for k, p in self.parameters.items()}
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
            self.average[key] = tensors[f"average.{key}"].to(p.device)
            for optimizer, fields in zip(self.optimizers, (ADAM, (MUON,)), strict=False):
                if f"{fields[0]}.{key}" in tensors:
                    optimizer.state[p] = {
                        name: tensors[f"{name}.{key}"].to(p.device) for name in fields
                    }
                    if fields is ADAM:
                        optimizer.state[p]["step"] = torch.tensor(float(self.step))

    def use_average(self) -> None:
        """Copy the averaged weights into the module: what is evaluated and shipped."""
        for key, p in self.parameters.items():
            p.data.copy_(self.average[key])
