"""Help in sections: what a beginner needs first, what an expert looks up below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

ALWAYS = "Output and help"
"""The last section: everything that no other one names."""


class Sectioned(click.Command):
    """A command whose options are listed in sections.

    Args:
        sections: title -> names of parameters. The first needs no title of its own; what none
            names, as `--json` and `--help`, comes last.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = {p.name: p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        chosen = [
            (title, [left.pop(name) for name in names if name in left])
            for title, names in self.sections.items()
        ]
        chosen.append((ALWAYS, list(left.values())))
        for title, params in chosen:
            rows = [row for param in params if (row := param.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


CLIP = ("start", "end", "frames", "fps", "size", "fit")
CARD = ("name", "author", "license", "card_version")
MACHINE = ("device", "dtype", "offload", "quantize", "checkpointing", "cache", "compile",
           "vae_tiling")  # fmt: skip
TRAIN = {
    "Options": (
        "output", "backbone", "prompts", "samples", "preview", "plot", "resume", "force", "image",
    ),
    "Which part of the clip": CLIP,
    "Many at a time": ("jobs", "ray", "gpus_per_job"),
    "What stands in the card": CARD,
    "For experts: the method": (
        "mode", "recipe", "parametrisation", "objective", "steps", "guidance_scale", "seed",
        "overrides", "kv_from", "revision", "copy_of", "track",
    ),
    "For experts: memory and speed": MACHINE,
}  # fmt: skip
APPLY = {
    "Options": (
        "output", "prompts", "prompt_file", "seeds", "drafts", "strength", "camera", "subject",
        "no_card",
        "negative_prompt", "image", "side_by_side", "sheet", "score", "scored_card", "resume",
        "force",
    ),
    "For experts: the generation": (
        "steps", "guidance_scale", "scheduler", "loras", "kv_from", "no_kv", "phase", "backbone",
        "revision",
    ),
    "For experts: memory and speed": MACHINE,
}  # fmt: skip
_CLIPS = ("reference", "video", "card", "prompt", "unrelated")
_FOLLOWED = ("tracks_ref", "tracks_video")
_DIFFERENT = ("align", "frames", "size")
EVAL = {
    "One pair of clips": _CLIPS,
    "A suite of clips": (
        "suite", "methods", "output", "backbone", "references", "seed_count", "kinds",
    ),
    "Of both": ("names", "tracker", "grid", "html"),
    "Many at a time": ("jobs", "ray", "gpus_per_job"),
    "For experts, a pair: tracks from elsewhere": _FOLLOWED,
    "For experts, a pair: clips that differ": _DIFFERENT,
    "For experts: the methods": (
        "recipe", "with_kv", "steps", "guidance_scale", "samples", "overrides", "revision",
        "copy_of",
    ),
    "For experts: memory and speed": MACHINE,
}  # fmt: skip
EDIT = {
    "What it says of itself": ("output", "name", "author", "license", "card_version", "scores",
                               "force"),
    "Another motion, in this order": (
        "reverse", "speed", "mirror", "frames", "size", "then", "region", "mask", "outside",
    ),
}  # fmt: skip
FLOW = {
    "Options": ("output", "backbone", "image", "force"),
    "Which part of the clip": CLIP,
    "For experts": ("recipe", "overrides", "revision", "copy_of"),
    "For experts: memory and speed": MACHINE,
}
