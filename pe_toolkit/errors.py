"""Every error that pe-toolkit raises on purpose.

    PeError                     anything below; carries a `hint`: what to do next
    ├── UsageError              the request itself makes no sense (exit code 2)
    │   ├── OutputExistsError   the output is there and --force was not given
    │   ├── UnsupportedError    known, but not possible with this backbone or pipeline
    │   └── MismatchError       a card and a backbone, grid or frame count that do not fit
    ├── ClipError               a reference clip cannot be read or cannot be used
    │   └── MotionError         it can be read, but nothing in it can be matched or moves
    ├── SuiteError              a suite of clips cannot be read
    ├── CardError               a file is not a card that may be trusted
    │   └── CardVersionError    a card of a newer format
    ├── BackboneError           a backbone cannot be found, loaded or run here
    │   └── DeviceError         the device is missing or too small
    ├── TrainingError           training went wrong (not finite, out of memory)
    │   └── ResumeError         a resume state does not belong to this run
    ├── OutputError             a result cannot be written (disk full, folder not writable)
    └── DependencyError         an optional package is missing

`UsageError` and its children end the command line with exit code 2, all others with 1.
"""

from __future__ import annotations

import errno
import re

OPTIONS = {
    "prompts": "--prompt",
    "seeds": "--seed",
    "parametrisation": "--param",
    "overrides": "--set",
    "loras": "--lora",
    "scores": "--score",
    "reference": "--ref",
    "names": "--metrics",
    "seed_count": "--seeds",
    "methods": "--method",
    "kinds": "--kind",
    "with_kv": "--kv",
}
"""Fields of a request that the command line calls otherwise."""
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|_ALLOC(ATION)?_FAILED"
)
"""What torch says in a plain RuntimeError: its CPU allocator, CUDA's runtime and driver, cuBLAS,
cuDNN, MPS.
"""


class PeError(Exception):
    """Base of all deliberate errors.

    Args:
        message: what was expected and what came instead, one or two sentences.
        hint: what to do next, or None.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PeError, ValueError):
    """The request itself makes no sense."""

    exit_code = 2


class OutputExistsError(UsageError):
    """The output is already there."""


class UnsupportedError(UsageError):
    """A known request that this backbone, pipeline or card cannot serve."""


class MismatchError(UsageError):
    """A card does not fit the backbone, the grid or the frame count."""


class ClipError(PeError):
    """A reference clip cannot be read, or cannot be used."""


class MotionError(ClipError):
    """A readable clip without motion that could be learned."""


class SuiteError(PeError):
    """A suite of clips to evaluate with cannot be read."""


class CardError(PeError):
    """A file is not a motion card, or is damaged."""


class CardVersionError(CardError):
    """A card of a newer format version."""


class BackboneError(PeError):
    """A backbone cannot be found, loaded or run."""


class DeviceError(BackboneError):
    """The device is missing, or has too little memory."""


class TrainingError(PeError):
    """Training cannot go on."""


class ResumeError(TrainingError):
    """A resume state does not belong to this run."""


class OutputError(PeError):
    """A result cannot be written."""


class DependencyError(PeError):
    """An optional package is missing."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a CPU or a GPU; does not import torch to find out."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None)
    )


def option(field: str) -> str:
    """What the command line calls a field of a request: `card_version` -> `--card-version`."""
    return OPTIONS.get(field, f"--{field.replace('_', '-')}")
