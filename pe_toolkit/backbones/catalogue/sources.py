"""Where each default of a backbone comes from: `Variant.sources`."""

from __future__ import annotations

_PAPER = (
    "DiTFlow, https://arxiv.org/abs/2412.07776 section 5, and its official configuration, "
    "https://ditflow.github.io"
)
_SCRIPT = "CogVideoX's own inference/cli_demo.py, https://github.com/THUDM/CogVideo"
_HUB = "https://huggingface.co/"
_MEASURED = "docs/experiments.md"
_TRAINED = "as it was trained: benchmarks/backbone/transformer.py"
_FORM = (
    "tables where positions are absolute, as in the official code; where they are rotary, angles: "
    "ours, always a rotation (pe_toolkit/embedding/rotary.py)"
)
_NO_DOWNLOAD = "the weights ship with pe-toolkit"


def published(hub_id: str, *, ran: bool) -> dict[str, str]:
    """Sources of a published checkpoint; `ran`: the paper itself used it."""
    paper = _PAPER if ran else f"taken over from cogvideox-5b, not measured here: {_PAPER}"
    card = f"the model's card, {_HUB}{hub_id}"
    config = f"{_HUB}{hub_id}/blob/main/transformer/config.json"
    method = ("block", "tau", "inner_steps", "learning_rates", "latent_learning_rates", "samples")
    return dict.fromkeys(method, paper) | {
        "block": f"{paper}. DiffTrack, https://arxiv.org/abs/2506.17220, finds correspondence "
        "best at layer 17 of 2b and 5b: `--set block=17`, docs/reproduce.md",
        "guided_range": f"{paper}: the first 10 of 50 steps, by noise (tests/test_recipes.py)",
        "mask": f"{paper}: where the displacement is not 0, as in the code",
        "start": f"{paper}: the model's own positions",
        "start_scale": f"{paper}: no start by flow, so that it scales nothing",
        "reading": f"{paper}: the attention of the same block, without noise",
        "parametrisation": _FORM,
        **dict.fromkeys(
            ("frames", "width", "height", "fps", "guidance_scale", "steps", "dtype"), card
        ),
        "negative_prompt": f"{card}: none",
        "phase": f"{paper}: none (`--recipe rich` has it)",
        "training_prompts": "ours: what CogVideoX draws well, and most references do not show",
        "scheduler": _SCRIPT,
        "dynamic_cfg": f"{_SCRIPT}: with DPM only",
        **dict.fromkeys(("positions", "max_text_tokens", "fixed_size"), config),
        "download_gb": f"sizes of the files of {_HUB}{hub_id}/tree/main",
        "min_gpu_gb": "above what pe_toolkit/backbones/machine/memory.py expects with "
        "--offload model",
    }


BUNDLED = (
    dict.fromkeys(
        (
            "block", "reading", "guided_range", "tau", "mask", "inner_steps", "learning_rates",
            "latent_learning_rates", "samples", "start", "start_scale",
            "guidance_scale",
        ),
        _MEASURED,
    )
    | dict.fromkeys(
        (
            "positions", "frames", "width", "height", "fps", "scheduler", "max_text_tokens",
            "fixed_size",
        ),
        _TRAINED,
    )
    | {
        "dynamic_cfg": "off: with DDIM it should be, " + _SCRIPT,
        "phase": "none yet: `--recipe rich` has it, docs/experiments.md",
        "training_prompts": "ours: every colour, shape and background of the bundled world",
        "negative_prompt": _TRAINED + ", on empty prompts without guidance",
        "steps": "what docs/experiments.md was measured with; fewer than 50, for CPUs",
        "parametrisation": _FORM,
        "dtype": "docs/decisions.md: bfloat16 instead where the CPU multiplies it in hardware",
    }
    | dict.fromkeys(("download_gb", "min_gpu_gb"), _NO_DOWNLOAD)
)  # fmt: skip
