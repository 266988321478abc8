"""Faster and smaller generation with a loaded transformer: step caches, quantized weights.

The names here are torch-free, for the command line; the modules beside this one import torch.
"""

from __future__ import annotations

CACHES = ("none", "pab", "taylorseer", "first-block", "mag")
"""Step caches of `pe apply --cache`."""
QUANTIZATIONS = ("none", "fp8", "int8")
"""Weight formats of `pe apply --quantize`."""

__all__ = ["CACHES", "QUANTIZATIONS"]
