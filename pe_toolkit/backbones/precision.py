"""In what numbers latents are held beside a transformer of half precision."""

from __future__ import annotations

import torch


def unrounded(dtype: torch.dtype) -> torch.dtype:
    """In what z_t of half precision are held where a pipeline works in `dtype`: float32 instead of
    bfloat16.
    """
    return torch.promote_types(dtype, torch.float16)
