"""Make the golden cards: `python tests/golden/make.py`.

Run it once for a new case. Existing cards are never rewritten: they stand for cards that users
have, and a change that alters them is a change of the format. The numbers come from integer
arithmetic, so that every machine makes the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pe_toolkit.card import CardSpec, MotionCard

HERE = Path(__file__).parent
CASES = (
    "rotary-angle", "rotary-table", "absolute-table", "latents", "rotary-angle-tracked",
    "rotary-angle-used", "rotary-angle-read", "rotary-angle-edited",
    "rotary-angle-kv", "rotary-angle-phase",
    "rotary-offset", "rotary-offset-combined", "absolute-offset", "rotary-angle-shared",
    "latents-2", "rotary-offset-ground", "rotary-offset-mean", "rotary-offset-disc",
    "rotary-offset-feedback", "rotary-offset-below",
)  # fmt: skip
FRAMES, HEIGHT, WIDTH, GUIDED = 3, 2, 2, 2
TOKENS = FRAMES * HEIGHT * WIDTH
SECOND = CASES[-10:]
"""Cards of format 2.0."""


def description(case: str = "rotary-angle") -> dict[str, Any]:
    """A complete description as JSON values, not sealed yet."""
    latents = case.startswith("latents")
    absolute = case.startswith("absolute")
    made: dict[str, Any] = {
        "format": "pe-motion-card",
        "format_version": "1.0",
        "name": f"golden-{case}",
        "version": "1.0.0",
        "author": "Zoë 🎬",
        "license": "CC-BY-4.0",
        "created": "2026-01-31T12:00:00Z",
        "kind": "latents" if latents else "positions",
        "backbone": {
            "family": "cogvideox",
            "variant": "bundled-absolute" if absolute else "bundled",
            "model_id": None,
            "revision": None,
            "fingerprint": "sha256:" + "a1" * 32,
            "weights_digest": "sha256:" + "b2" * 32,
            "positions": "absolute" if absolute else "rotary",
        },
        "grid": {"frames": FRAMES, "height": HEIGHT, "width": WIDTH},
        "clip": {"frames": 9, "width": 32, "height": 32, "fps": 8.0},
        "schedule": {
            "scheduler": "CogVideoXDDIMScheduler",
            "steps": 20,
            "guidance_scale": 6.0,
            "dynamic_cfg": False,
            "timesteps": [999, 949],
            "noise": [1.0, 0.9765625],
        },
        "recipe": {
            "name": "default",
            "objective": "amf",
            "block": 3,
            "tau": 2.0,
            "mask": "forward-backward",
            "inner_steps": 5,
            "learning_rates": [0.002, 0.001],
            "parametrisation": None if latents else case.split("-")[1],
            "dtype": "float32",
            "guided_range": [0.5, 1.0],
            "start": "zero",
            "seed": 42,
            "kv": "none",
        },
        "samples": [{"prompt": "a red circle on a black background", "seed": 42}],
        "reference": {
            "sha256": "c3" * 32,
            "duration": 1.125,
            "frames": 9,
            "width": 64,
            "height": 48,
            "fps": 8.0,
            "start": 0.0,
            "matched": 0.75,
        },
        "training": {"loss": [[1.5, 0.75], [0.875, 0.5]], "device": "cpu"},
        "scores": {"cosine": 0.5},
        "software": {"pe-toolkit": "0.1.0", "numpy": "2.0.0"},
        "digest": "",
    }
    if case in SECOND:
        made["format_version"] = "2.0"
    if "offset" in case:
        made["recipe"] |= {"start": "flow", "inner_steps": 0, "layers": ["whole"]}
        made["training"]["loss"] = []
    if case == "rotary-offset-ground":
        made["recipe"] |= {"phase": {"radius": 1.5, "gamma": 3.0}, "ground": 1.25}
        made["reference"]["motion"] = {
            "camera": [[1.0, 0.0, 0.0, 1.0, 0.5 * (f - 1), 0.0] for f in range(FRAMES)],
            "subjects": [],
        }
    if case == "rotary-offset-disc":
        made["recipe"]["phase"] = {"radius": 1.5, "gamma": 3.0}
        made["recipe"]["layers"] = ["subject", "subject-2"]
        made["reference"]["motion"] = {
            "camera": [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]] * FRAMES,
            "subjects": [
                {
                    "path": [[way * (f - 1), 0.0] for f in range(FRAMES)],
                    "share": 0.375,
                    "disc": [0.5, row, 0.5625],
                }
                for way, row in ((1.0, 0.0), (-0.75, 1.0))
            ],
        }
    if case == "rotary-offset-feedback":
        made["recipe"] |= {"start": "layers", "layers": ["subject", "subject-2"], "feedback": 2}
    if case == "rotary-offset-below":
        made["recipe"] |= {"start": "layers", "layers": ["camera", "subject"]}
        made["recipe"]["below"] = {"noise": 0.9375, "times": [1.5, 0.0]}
    if case == "rotary-offset-mean":
        made["recipe"]["phase"] = {"radius": 1.5, "gamma": 3.0, "mean": False}
    if case == "rotary-offset":
        made["recipe"] |= {"name": "rich", "phase": {"radius": 1.5, "gamma": 2.0}}
        made["recipe"]["layers"] = ["camera", "subject", "subject-2"]
        made["reference"]["motion"] = {
            "camera": [[1.0, 0.0, 0.0, 1.0, 0.5 * f, -0.25] for f in range(FRAMES)],
            "subjects": [
                {"path": [[0.0, 0.1235 * f] for f in range(FRAMES)], "share": 0.625},
                {"path": [[-1.0 * f, 0.0] for f in range(FRAMES)], "share": 0.25},
            ],
        }
    if case == "rotary-offset-combined":
        made["parents"] = ["sha256:" + "d4" * 32, "sha256:" + "e5" * 32]
        made["edits"] = [
            {"what": "mirror", "settings": {"axis": "left-right"}},
            {"what": "combine", "settings": {"mask": "Maske é.png", "from": 0.5}},
            {"what": "reverse", "settings": {}},
        ]
    if case.endswith("-tracked"):
        made["format_version"] = "1.1"
        made["recipe"] |= {"mask": "tracked", "reference_block": 5}
    if case.endswith("-used"):
        made["format_version"] = "1.2"
        made["reference"] |= {"duration": 2.25, "frames": 18, "start": 0.25}
        made["reference"] |= {"used": 2.0, "fit": "pad"}
    if case.endswith("-read"):
        made["format_version"] = "1.3"
        made["recipe"] |= {"mask": "tracked", "start": "flow", "start_scale": 1.5}
        made["recipe"]["reading"] = {"blocks": [4, 5], "by": "content", "timestep": 200}
        made["schedule"]["negative_prompt"] = "schlechte Qualität, blurred"
    if case.endswith("-edited"):
        made["format_version"] = "1.4"
        made["parent"] = "sha256:" + "d4" * 32
        made["scores"] = {"cosine": 0.75, "cosine_videos": 4.0}
    if case.endswith("-kv"):
        made["format_version"] = "1.4"
        made["recipe"] |= {"kv": "required", "kv_noise": "generation"}
        made["reference"]["encoded"] = "whole"
    if case.endswith("-phase"):
        made["format_version"] = "1.4"
        made["recipe"] |= {"name": "rich", "start": "flow"}
        made["recipe"]["phase"] = {"radius": 1.5, "gamma": 2.0}
    return made


def tensors(case: str = "rotary-angle") -> dict[str, np.ndarray[Any, Any]]:
    """Tensors that fit `description(case)`."""
    name, shape = {
        "rotary-angle": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-angle-tracked": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-angle-used": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-angle-read": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-angle-edited": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-angle-kv": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-angle-phase": ("positions", (GUIDED, 2, TOKENS, 4)),
        "rotary-table": ("positions", (GUIDED, 2, 2, TOKENS, 8)),
        "absolute-table": ("positions", (GUIDED, TOKENS, 16)),
        "latents": ("latents", (GUIDED, FRAMES, 4, 2 * HEIGHT, 2 * WIDTH)),
        "rotary-offset": ("positions", (1, 3, TOKENS, 3)),
        "rotary-offset-combined": ("positions", (GUIDED, 1, TOKENS, 3)),
        "absolute-offset": ("positions", (1, 1, TOKENS, 3)),
        "rotary-angle-shared": ("positions", (1, 2, TOKENS, 4)),
        "rotary-offset-ground": ("positions", (1, 1, TOKENS, 3)),
        "rotary-offset-mean": ("positions", (1, 1, TOKENS, 3)),
        "rotary-offset-disc": ("positions", (1, 2, TOKENS, 3)),
        "rotary-offset-feedback": ("positions", (1, 2, TOKENS, 3)),
        "rotary-offset-below": ("positions", (1, 2, TOKENS, 3)),
        "latents-2": ("latents", (GUIDED, FRAMES, 4, 2 * HEIGHT, 2 * WIDTH)),
    }[case]
    count = int(np.prod(shape))
    values = (np.arange(count) * 37 % 201 - 100) / 256  # exact in float16
    # Everything in frame i is at column 0 in frame j if i < j, else where it was.
    flow = np.zeros((FRAMES, FRAMES, HEIGHT, WIDTH, 2), np.int8)
    for first in range(FRAMES):
        flow[first, first + 1 :, ..., 0] = -np.arange(WIDTH)
    made = {
        name: values.astype(np.float16).reshape(shape),
        "flow": flow,
        "flow_mask": (flow != 0).any(-1).astype(np.uint8),
    }
    if case in SECOND:
        made["flow_mask"] = np.packbits(made["flow_mask"])
    if "phase" in description(case)["recipe"]:  # 5 of the 9 frequencies of a disc of 1.5 cycles
        made["phase"] = (np.arange(FRAMES * 4 * 5) * 37 % 256).astype(np.uint8).reshape(-1, 4, 5)
    return made


def build(case: str = "rotary-angle") -> MotionCard:
    """A sealed card."""
    return MotionCard(CardSpec.from_dict(description(case)), tensors(case))


def main() -> None:
    """Write the cards that are not there yet, and their entries of the manifest."""
    path = HERE / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for case in CASES:
        if case in manifest:
            continue
        info = build(case).save(HERE / f"{case}.safetensors")
        layout = {name: [dtype, list(shape)] for name, (dtype, shape) in info.tensors.items()}
        manifest[case] = {
            "sha256": info.sha256,
            "size_bytes": info.size_bytes,
            "spec": info.spec.to_dict(),
            "tensors": layout,
        }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
