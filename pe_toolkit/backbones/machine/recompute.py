"""What of its activations a training recomputes instead of keeping them: the one rule.

The trainer asks it with the memory that is free once the backbone is in place, `placement.plan`
(and so `pe doctor` and `--offload auto`) with what is going to be. Arithmetic only; no torch.
"""

from __future__ import annotations

from typing import Literal

Level = Literal["off", "little", "partly", "on"]
LEVELS: tuple[Level, ...] = ("off", "little", "partly", "on")
CHECKPOINTING = ("auto", *LEVELS)
"""What of a block is computed again in the backward pass: nothing; all but its attention and its
feed-forward's matrices; all but its attention and the second of those, whose outputs are small for
what they cost (`KEPT`); all of it.
"""

# What one block keeps for its backward pass when its weights are frozen, in numbers of one
# (text + video tokens) x channels tensor of the model's dtype. Counted with saved-tensor hooks
# (tests/test_training_memory.py): inputs of four norms, q, k, v, the attention's output and the
# hidden layer of the feed-forward (4); a gradient to rotary tables adds float32 copies of q and k.
# Recomputed, it keeps its input; partly two more, a little four besides (counted on fake tensors,
# tests/test_memory.py).
KEPT = {"other": 12.3, "rotary-2": 19.2, "rotary-4": 16.0, "little": 7.1, "partly": 3.1, "on": 1.0}
# Of the free memory: the rest is for one block's recomputation and the AMF. Where the kept is less,
# the rest is more of the whole.
SHARE = {"off": 0.7, "little": 0.7, "partly": 0.6}
# Before that: what the allocator loses. Capped at 22 GiB, 5b with `little` (24 frames, an H100),
# which was to keep 0.61 of the free memory, ran out of it with 18.3 GiB in use, as expected, and
# 3.6 that could not be used.
LOST, LOST_AT_MOST = 4 * 2**30, 0.2
"""Bytes, and the share of a small GPU's free memory that is taken off instead."""


def kept_bytes(unit: float, itemsize: int, block: int, *, rotary: bool, level: Level) -> float:
    """Bytes kept for the backward pass of one sample through blocks 0 .. block - 1.

    Args:
        unit: bytes of one activation, (text + video tokens) x channels in the model's dtype.
        itemsize: bytes of a number of that dtype.
        block: the tapped block.
        rotary: whether the gradient goes to rotary tables (else to latents or an added table).
        level: how much of each block is recomputed.
    """
    kind = ("rotary-2" if itemsize == 2 else "rotary-4") if rotary else "other"
    # One block more: the tapped one keeps its part up to Q and K.
    return KEPT[kind if level == "off" else level] * unit * (block + 1)


def level_for(
    unit: float, itemsize: int, block: int, free: float, *, rotary: bool, least: Level = "off"
) -> Level:
    """The level that recomputes least and fits.

    Args:
        free: bytes beside the weights of the transformer; `LOST` of them count as taken.
        least: not less than this; the others as in `kept_bytes`.
    """
    free -= min(LOST, LOST_AT_MOST * free)
    for level in LEVELS[LEVELS.index(least) : -1]:
        kept = kept_bytes(unit, itemsize, block, rotary=rotary, level=level)
        if kept <= free * SHARE[level]:
            return level
    return "on"
