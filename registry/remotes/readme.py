"""The README of a card's repository: generated between two markers, yours around them.

A push writes the metadata that it knows and what stands between the markers. Everything else that
somebody wrote stays: text above and below, further metadata keys, further tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from pe_toolkit.card import CardInfo, CardSpec
from pe_toolkit.card.followed import followed
from pe_toolkit.registry.remotes.base import TAG
from pe_toolkit.registry.remotes.markdown import code, license_lines, quoted

README = "README.md"
MAX_README = 1 << 20
"""Bytes of a README that we are willing to take apart. A longer one is left alone."""
BEGIN = "<!-- pe-toolkit: begin. Written by `pe push`: what you write above or below stays. -->"
END = "<!-- pe-toolkit: end -->"
_BEGINS, _ENDS = "<!-- pe-toolkit: begin", "<!-- pe-toolkit: end"
OURS = (
    "library_name", "base_model", "base_model_relation", "pipeline_tag", "license", "license_name",
    "tags", "widget", "motion_card",
)  # fmt: skip
MOST_PROMPTS = 8


def readme(info: CardInfo, repo_id: str, *, preview: str | None = None, previous: str = "") -> str:
    """The README for a card.

    The same card, repository, preview and previous text give the same bytes, and
    `readme(..., previous=readme(...))` is `readme(...)`: pushing twice changes nothing.

    Args:
        preview: name of a picture or video beside the README, or None.
        previous: the README that is there, of which everything that is not ours stays.
    """
    previous = previous.replace("\r\n", "\n").replace("\r", "\n")
    front, body = split(previous)
    above, below = around(body)
    parts = ["---", *metadata(info, front, preview), *_theirs(previous, front), "---"]
    text = "\n".join(parts) + "\n\n"
    if above:
        text += above + "\n\n"
    text += "\n".join([BEGIN, "", *section(info, repo_id, preview), "", END]) + "\n"
    if below:
        text += "\n" + below + "\n"
    return text


def split(text: str) -> tuple[dict[str, Any], str]:
    """The metadata of a README and the rest; what is not sound metadata belongs to the rest."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return {}, text
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            try:
                front = yaml.safe_load("\n".join(lines[1:number]))
            except (yaml.YAMLError, ValueError, RecursionError):
                return {}, text
            if front is None or isinstance(front, dict):
                return dict(front or {}), "\n".join(lines[number + 1 :])
            return {}, text
    return {}, text


def around(body: str) -> tuple[str, str]:
    """What somebody wrote above and below our section; without one, all of it is below."""
    lines = body.split("\n")
    begin = _first(lines, _BEGINS, 0)
    end = None if begin is None else _first(lines, _ENDS, begin)
    if begin is None or end is None:
        # A marker alone: somebody edited it away. Better twice than lost.
        kept = [line for line in lines if not line.startswith((_BEGINS, _ENDS))]
        return "", "\n".join(kept).strip("\n")
    return "\n".join(lines[:begin]).strip("\n"), "\n".join(lines[end + 1 :]).strip("\n")


def _first(lines: list[str], start: str, after: int) -> int | None:
    # Only at the start of a line: no string of a card can be a marker, they are all inside lines.
    return next((n for n in range(after, len(lines)) if lines[n].startswith(start)), None)


def metadata(info: CardInfo, front: Mapping[str, Any], preview: str | None) -> list[str]:
    """Our lines between the dashes."""
    spec = info.spec
    lines = ["library_name: pe-toolkit", "pipeline_tag: text-to-video"]
    lines += license_lines(spec.license)
    if not spec.license and isinstance(front.get("license"), str):
        lines += _dumped({k: front[k] for k in ("license", "license_name") if k in front})
    if spec.backbone.model_id and "/" in spec.backbone.model_id:
        lines += [f"base_model: {quoted(spec.backbone.model_id)}", "base_model_relation: adapter"]
    ours = [TAG, "pe-toolkit", "motion-transfer", spec.backbone.family, spec.backbone.variant]
    theirs: Any = front.get("tags")
    tags = (
        ours + [tag for tag in theirs if isinstance(tag, str)] if isinstance(theirs, list) else ours
    )
    lines += ["tags:", *(f"- {quoted(tag)}" for tag in dict.fromkeys(tags))]
    if preview is not None:
        prompt = spec.samples[0].prompt or spec.name
        lines += [
            "widget:",
            f"- text: {quoted(prompt)}",
            "  output:",
            f"    url: {quoted(preview)}",
        ]
    lines += [
        "motion_card:",
        f"  version: {quoted(spec.version)}",
        f"  backbone: {quoted(spec.backbone.variant)}",
        f"  author: {quoted(spec.author)}",
        f"  sha256: {quoted(info.sha256)}",
    ]
    return lines


def _theirs(previous: str, front: Mapping[str, Any]) -> list[str]:
    """Somebody else's metadata, every value spelled as it was: `no` is Norwegian, 1.10 not 1.1."""
    if not set(front) - set(OURS):
        return []
    lines = previous.split("\n")[1:]
    end = next(n for n, line in enumerate(lines) if line.rstrip() == "---")  # as `split` found it
    node = yaml.compose("\n".join(lines[:end]), yaml.SafeLoader)
    node.value = [(key, value) for key, value in node.value if key.value not in OURS]
    node.flow_style = False
    text = yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=1000)
    return str(text).rstrip("\n").split("\n")


def _dumped(values: Mapping[str, Any]) -> list[str]:
    """Some of somebody else's metadata as YAML."""
    if not values:
        return []
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return str(text).rstrip("\n").split("\n")


def section(info: CardInfo, repo_id: str, preview: str | None) -> list[str]:
    """Our part of the text: what the card is, how to use it, where it comes from."""
    spec = info.spec
    lines = [f"# {code(spec.name)} {code(spec.version)}", ""]
    lines += [
        "A motion card of [DiTFlow](https://arxiv.org/abs/2412.07776) kind: it gives the motion of "
        "one reference clip to new videos. Made and used with pe-toolkit; it works with the "
        f"backbone {code(spec.backbone.variant)} only.",
        "",
    ]
    if preview is not None:
        lines += ["<Gallery />", ""]
    lines += ["## Use", "", "```sh", *_shell(repo_id), "```", ""]
    lines += ["```python", *_python(spec, repo_id), "```", ""]
    lines += ["## Facts", "", *_facts(info), ""]
    lines += ["## Training", "", *_training(spec)]
    if spec.scores:
        lines += ["", "## Scores", "", "As measured by whoever made the card.", ""]
        lines += [f"- {code(name)}: {value:.4g}" for name, value in sorted(spec.scores.items())]
    return lines


def _shell(repo_id: str) -> list[str]:
    return [
        f"pe show {repo_id}",
        f'pe apply {repo_id} --prompt "a red circle on a grey background" -o out.mp4',
    ]


def _python(spec: CardSpec, repo_id: str) -> list[str]:
    sample = spec.samples[0]
    latents = spec.kind == "latents"  # bound to one prompt and seed
    prompt = "card.spec.samples[0].prompt" if latents else '"a red circle on a grey background"'
    return [
        "import pe_toolkit",
        "",
        f'card = pe_toolkit.load("{repo_id}")',
        "backbone = card.spec.backbone",
        "adapter = pe_toolkit.load_backbone(backbone.model_id or backbone.variant)",
        f"prompts, seeds = [{prompt}], [{sample.seed if latents else 0}]",
        "for video in pe_toolkit.generate(adapter, prompts, seeds, card=card):",
        '    pe_toolkit.write_video("out.mp4", video.frames, fps=video.fps)',
    ]


def _facts(info: CardInfo) -> list[str]:
    spec = info.spec
    back, clip = spec.backbone, spec.clip
    model = f" ({code(back.model_id)})" if back.model_id else ""
    return [
        f"- author: {code(spec.author)}",
        f"- license: {code(spec.license)}",
        f"- created: {code(spec.created)}",
        f"- backbone: {code(back.variant)}{model}, {back.positions} positions",
        f"- generates: {clip.frames} frames of {clip.width}x{clip.height} at {clip.fps:g} fps",
        f"- kind: {spec.kind}, {spec.guided_steps} guided steps of {spec.schedule.steps}",
        f"- size: {info.size_bytes} bytes",
        f"- SHA-256 of the file: `{info.sha256}`",
        f"- digest of the content: `{spec.digest}`",
    ]


def _training(spec: CardSpec) -> list[str]:
    recipe, ref, losses = spec.recipe, spec.reference, spec.training.loss
    prompts = list(dict.fromkeys(sample.prompt for sample in spec.samples))
    first, last = recipe.learning_rates
    lines = [
        f"- reference clip (not included): {ref.duration:.2f} s, {ref.frames} frames of "
        f"{ref.width}x{ref.height} at {ref.fps:g} fps; "
        f"{followed(ref.matched, spec.backbone.variant)}",
        f"- recipe: {code(recipe.name)}, objective {recipe.objective}, block {recipe.block}, "
        f"tau {recipe.tau:g}, mask {recipe.mask}",
        f"- optimisation: {recipe.inner_steps} inner steps, learning rate {first:g} to {last:g}, "
        f"{recipe.dtype}",
        f"- scheduler: {code(spec.schedule.scheduler)}, guidance {spec.schedule.guidance_scale:g}",
    ]
    if losses:
        lines.append(f"- loss: {losses[0][0]:.4g} at the start, {losses[-1][1]:.4g} at the end")
    lines += [f"- pairs of prompt and seed: {len(spec.samples)}, with the prompts"]
    lines += [f"  - {code(prompt)}" for prompt in prompts[:MOST_PROMPTS]]
    if len(prompts) > MOST_PROMPTS:
        lines.append(f"  - and {len(prompts) - MOST_PROMPTS} more")
    return lines
