"""When a training recomputes its activations instead of keeping them: the one rule.

The trainer asks it with the memory that is free once the backbone is in place, `placement.plan`
(and so `pe doctor` and `--offload auto`) with what is going to be. Arithmetic only; no torch.
"""

from __future__ import annotations

# What one block keeps for its backward pass when its weights are frozen, in numbers of one
# (text + video tokens) x channels tensor of the model's dtype. Counted with saved-tensor hooks
# (tests/test_training_memory.py): inputs of four norms, q, k, v, the attention's output and the
# hidden layer of the feed-forward (4); a gradient to rotary tables adds float32 copies of q and k.
KEPT = {"other": 12.3, "rotary-2": 19.2, "rotary-4": 16.0, "checkpointed": 1.0}
# Of the free memory: the rest is for one block's recomputation, the AMF and fragmentation.
SHARE = 0.7


def kept_bytes(
    unit: float, itemsize: int, block: int, *, rotary: bool, checkpointing: bool
) -> float:
    """Bytes kept for the backward pass of one sample through blocks 0 .. block - 1.

    Args:
        unit: bytes of one activation, (text + video tokens) x channels in the model's dtype.
        itemsize: bytes of a number of that dtype.
        block: the tapped block.
        rotary: whether the gradient goes to rotary tables (else to latents or an added table).
        checkpointing: whether each block keeps its input only.
    """
    kind = ("rotary-2" if itemsize == 2 else "rotary-4") if rotary else "other"
    # One block more: the tapped one keeps its part up to Q and K.
    return KEPT["checkpointed" if checkpointing else kind] * unit * (block + 1)


def needed(kept: float, free: float) -> bool:
    """Whether so many bytes of activations would fill the memory that is free beside the weights
    of the transformer and the VAE.
    """
    return kept > free * SHARE
