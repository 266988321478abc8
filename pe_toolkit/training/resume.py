"""The resumable state of a run: one safetensors file, no pickle, written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from pe_toolkit.errors import ResumeError, option
from pe_toolkit.writing import write_atomically

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Sampler
    from pe_toolkit.training.modes import Mode
    from pe_toolkit.training.prepare import Run

_FIRST = {"objective": "amf", "phase": None, "phase_mean": True, "noise_of": None, "ground": 0.0,
          "feedback": 0}  # fmt: skip
"""Settings that came later than the first resumable states, as they were before."""


class ResumeState:
    """Everything that the next denoising step needs: latents, generators, positions, finished
    results.
    """

    def __init__(
        self,
        path: Path,
        run: Run,
        encoded: str | None,
    ) -> None:
        settings, clip, adapter, image = run.settings, run.clip, run.backbone, run.image
        self.path = path
        facts = {
            "settings": dataclasses.asdict(settings),
            "prompts": run.prompts,
            "clip": hashlib.sha256(clip.frames.tobytes()).hexdigest(),
            "backbone": [adapter.fingerprint(), adapter.weights_digest, adapter.model_id],
            "dtype": str(adapter.dtype),
            "quantize": adapter.quantized,
            "encoded": encoded,  # the latents of the reference are computed again
            "preview": run.config.preview,  # without one the last step is not taken
            "image": None if image is None else hashlib.sha256(image.tobytes()).hexdigest(),
        }
        self.identity = json.dumps(facts, sort_keys=True)
        # Not part of the identity, which is that of the frames themselves: for the message.
        count, height, width = clip.frames.shape[:3]
        self.sampling = {
            "file": clip.sha256,
            "frames": count,
            "size": f"{width}x{height}",
            "fps": round(clip.fps, 4),
            "start": clip.start,
            "end": clip.end,
            "fit": clip.fit,
        }

    def save(
        self, next_step: int, sampler: Sampler, mode: Mode, losses: list[tuple[float, float]]
    ) -> None:
        """Write the state after a finished step.

        Results are float16, as the card stores them; positions go on from the last one.

        Raises:
            OutputError: if it cannot be written.
        """
        tensors = sampler.state()
        if not mode.results:
            tensors["carried"] = mode.carried
        tensors |= {f"result.{i:03d}": r for i, r in enumerate(mode.results)}
        about = {
            "identity": self.identity,
            "sampling": self.sampling,
            "next_step": next_step,
            "losses": losses,
            "gradient_limit": mode.problem.scaling.limit,
        }
        data = safetensors.torch.save(
            {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()},
            {"pe": json.dumps(about)},
        )
        write_atomically(self.path, [data], force=True)

    def load(self, sampler: Sampler, mode: Mode, losses: list[tuple[float, float]]) -> int:
        """Put the state back; returns the step to go on with.

        Raises:
            ResumeError: no state, a damaged one, or one of another run.
        """
        if not self.path.is_file():
            raise ResumeError(
                f"Expected a resume state at {self.path.name}, found none.",
                f"Run again without {option('resume')}.",
            )
        try:
            with safe_open(self.path, "pt") as file:
                about: dict[str, Any] = json.loads(file.metadata()["pe"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if _settled(about["identity"]) == _settled(self.identity):
                self._restore(sampler, mode, tensors)
                scaling = mode.problem.scaling  # of which older states know nothing
                scaling.limit = float(about.get("gradient_limit", scaling.limit))
                losses.extend((a, b) for a, b in about["losses"])
                return int(about["next_step"])
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise ResumeError(
                f"Expected a sound resume state, got a damaged {self.path.name} ({error}).",
                f"Start over with {option('force')} instead of {option('resume')}.",
            ) from error
        raise ResumeError(
            f"Expected a resume state of this very run, but {self.path.name} was made with "
            f"{_difference(about['identity'], self.identity, self._other_clip(about))}.",
            f"Repeat the options of the interrupted run, or start over with {option('force')} "
            f"instead of {option('resume')}.",
        )

    def _other_clip(self, about: dict[str, Any]) -> str:
        """How the clip differs, in words: another file, or other parts of the same one."""
        theirs = about.get("sampling")  # of which older states know nothing
        if not isinstance(theirs, dict) or theirs.get("file") != self.sampling["file"]:
            return "another reference clip"
        parts = [
            f"{option(key)} {theirs.get(key)} (now {value})"
            for key, value in self.sampling.items()
            if theirs.get(key) != value
        ]
        return ", ".join(parts) or "other frames of the same clip"

    @staticmethod
    def _restore(sampler: Sampler, mode: Mode, tensors: dict[str, torch.Tensor]) -> None:
        sampler.restore(tensors)
        device = sampler.latents.device
        # Older states hold results in float32, which are exactly float16 too.
        mode.results[:] = [
            tensors[n].to(device, torch.float16) for n in sorted(tensors) if n.startswith("result.")
        ]
        started = bool(mode.results)
        mode.carried = mode.results[-1].float() if started else tensors["carried"].to(device)


def _settled(identity: str) -> dict[str, Any]:
    """The facts of a run; settings of which its version knows nothing were what they first were."""
    facts: dict[str, Any] = json.loads(identity)
    facts["settings"] = _FIRST | facts["settings"]
    facts["settings"].pop("radius_of_two", None)  # always None, and `noise_of` since
    return facts


def _difference(theirs: str, ours: str, clip: str) -> str:
    """Which top-level facts differ, in words; `clip`: how the clip does, if it does."""
    a, b = _settled(theirs), _settled(ours)
    flat_a = {**a, **a.pop("settings", {})}
    flat_b = {**b, **b.pop("settings", {})}
    keys = [key for key in flat_b if key != "settings" and flat_a.get(key) != flat_b[key]]
    names = {
        "clip": clip,
        "backbone": "another backbone",
        "image": "another image",
        "phase_mean": "the noise of an earlier version",
    }
    parts = [names.get(key, f"{key} {flat_a.get(key)} (now {flat_b[key]})") for key in keys]
    return ", ".join(parts) or "other settings"
