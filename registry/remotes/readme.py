"""The README of a card's repository: generated between two markers, yours around them.

A push writes the metadata that it knows and what stands between the markers. Everything else that
somebody wrote stays: text above and below, further metadata keys, further tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.card import CardInfo, CardSpec
from pe_toolkit.card.followed import followed_by
from pe_toolkit.registry.remotes.base import TAG
from pe_toolkit.registry.remotes.frontmatter import MAX_FRONT, dumped, kept, parts, size
from pe_toolkit.registry.remotes.markdown import code, license_lines, quoted
from pe_toolkit.registry.remotes.previews import NAMES

README = "README.md"
MAX_README = 1 << 20
"""Bytes of a README that we are willing to take apart. A longer one is left alone."""
BEGIN = "<!-- pe-toolkit: begin. Written by `pe push`: what you write above or below stays. -->"
END = "<!-- pe-toolkit: end -->"
_BEGINS, _ENDS = "<!-- pe-toolkit: begin", "<!-- pe-toolkit: end"
MOST_PROMPTS = 8
_INSTALL = (
    "With pe-toolkit, which is installed from a checkout of its repository: `pip install .` "
    "(Python 3.11 or newer). It reads safetensors only, and runs no code of a repository."
)


def readme(info: CardInfo, repo_id: str, *, preview: str | None = None, previous: str = "") -> str:
    """The README for a card.

    The same card, repository, preview and previous text give the same bytes, and
    `readme(..., previous=readme(...))` is `readme(...)`: pushing twice changes nothing.

    Args:
        preview: name of a picture or video beside the README, or None.
        previous: the README that is there, of which everything that is not ours stays.
    """
    previous = _plain(previous)
    front, body = parts(previous)
    ours = metadata(info, front.values, preview)
    try:
        theirs = kept(front, _replaced(ours, front.values, body))
    except Exception:  # it can be read, but not taken apart: then it is text like any other
        ours, theirs, body = metadata(info, {}, preview), [], previous
    above, below = around(body)
    text = "\n".join(["---", *ours, *theirs, "---"]) + "\n\n"
    if above:
        text += above + "\n\n"
    text += "\n".join([BEGIN, "", *section(info, repo_id, preview), "", END]) + "\n"
    if below:
        text += "\n" + below + "\n"
    return text


def editable(data: bytes) -> tuple[str | None, str]:
    """The text of a README that `readme` may edit; else None, and a warning that says why not."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None, f"{README} is not UTF-8: it was left as it is."
    front = size(_plain(text))
    if front > MAX_FRONT:
        return None, (
            f"{README} begins with {front} bytes of metadata: it was left as it is. Make it "
            f"shorter than {MAX_FRONT} bytes to have the part about the card written."
        )
    return text, ""


def _plain(text: str) -> str:
    """`text` with plain line ends, without a byte order mark, which would hide the metadata."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def around(body: str) -> tuple[str, str]:
    """What somebody wrote above and below our section; without one, all of it is below."""
    lines = body.split("\n")
    begin = _first(lines, _BEGINS, 0)
    end = None if begin is None else _first(lines, _ENDS, begin)
    if begin is None or end is None:
        # A marker alone: somebody edited it away. Better twice than lost.
        left = [line for line in lines if not line.startswith((_BEGINS, _ENDS))]
        return "", "\n".join(left).strip("\n")
    return "\n".join(lines[:begin]).strip("\n"), "\n".join(lines[end + 1 :]).strip("\n")


def _between(body: str) -> str:
    """What the last push wrote between the markers, or nothing."""
    lines = body.split("\n")
    begin = _first(lines, _BEGINS, 0)
    end = None if begin is None else _first(lines, _ENDS, begin)
    return "\n".join(lines[begin:end]) if end is not None else ""


def _first(lines: list[str], start: str, after: int) -> int | None:
    # Only at the start of a line: no string of a card can be a marker, they are all inside lines.
    return next((n for n in range(after, len(lines)) if lines[n].startswith(start)), None)


def metadata(info: CardInfo, front: Mapping[str, Any], preview: str | None) -> list[str]:
    """Our lines between the dashes."""
    spec = info.spec
    lines = ["library_name: pe-toolkit", "pipeline_tag: text-to-video"]
    lines += license_lines(spec.license)
    if spec.backbone.model_id and "/" in spec.backbone.model_id:
        lines += [f"base_model: {quoted(spec.backbone.model_id)}", "base_model_relation: adapter"]
    ours = [TAG, "pe-toolkit", "motion-transfer", spec.backbone.family, spec.backbone.variant]
    theirs = [tag for tag in _list(front.get("tags")) if isinstance(tag, str)]
    lines += ["tags:", *(f"- {quoted(tag)}" for tag in dict.fromkeys(ours + theirs))]
    lines += _widget(spec, front.get("widget"), preview)
    lines += [
        "motion_card:",
        f"  version: {quoted(spec.version)}",
        f"  backbone: {quoted(spec.backbone.variant)}",
        f"  author: {quoted(spec.author)}",
        f"  sha256: {quoted(info.sha256)}",
    ]
    return lines


def _list(value: Any) -> list[Any]:
    """YAML of other hands: a list, or one thing."""
    return value if isinstance(value, list) else [value]


def _widget(spec: CardSpec, theirs: Any, preview: str | None) -> list[str]:
    """What the Hub plays: our preview, and whatever somebody else listed."""
    entries = _list(theirs) if theirs else []
    others = [entry for entry in entries if not _is_ours(entry)]
    if preview is None:
        return dumped("widget", others) if others and others != entries else []
    return [
        "widget:",
        f"- text: {quoted(spec.samples[0].prompt or spec.name)}",
        "  output:",
        f"    url: {quoted(preview)}",
        *(dumped("widget", others)[1:] if others else ()),
    ]


def _is_ours(entry: Any) -> bool:
    """Whether an entry of the widget shows a file that only pushes write."""
    output = entry.get("output") if isinstance(entry, dict) else None
    return isinstance(output, dict) and output.get("url") in NAMES


def _replaced(ours: list[str], front: Mapping[str, Any], body: str) -> set[str]:
    """The keys of the README before that do not stay: those that we write, now or last time."""
    gone = {line.partition(":")[0] for line in ours if line[0] not in " -"}
    if "license" in gone:
        gone.add("license_name")
    if any(_is_ours(entry) for entry in _list(front.get("widget"))):
        gone.add("widget")
    model = front.get("base_model")  # our text names the model that a push wrote
    if isinstance(model, str) and f"({code(model)})" in _between(body):
        gone |= {"base_model", "base_model_relation"}
    return gone


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
    lines += ["## Use", "", _INSTALL, "", "```sh", *_shell(repo_id), "```", ""]
    lines += ["```python", *_python(spec, repo_id), "```", ""]
    lines += ["## Facts", "", *_facts(info), ""]
    lines += ["## Training", "", *_training(spec)]
    if spec.scores:
        lines += ["", "## Scores", "", "As measured by whoever made the card.", ""]
        lines += [f"- {code(name)}: {value:.4g}" for name, value in sorted(spec.scores.items())]
    return lines


def _backbone(spec: CardSpec) -> list[str]:
    """Lines that load the backbone: one that pe-toolkit knows by name, or one that the reader
    chooses. Whoever made the card decides neither what is downloaded nor what is run.
    """
    if spec.backbone.variant in VARIANTS:
        return [f'adapter = pe_toolkit.load_backbone("{spec.backbone.variant}")']
    return [
        "# The model that the card was made for, in a folder: look at it before you load it.",
        'adapter = pe_toolkit.load_backbone("./model")',
    ]


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
        *_backbone(spec),
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
        f"{followed_by(spec)}",
        f"- recipe: {code(recipe.name)}, objective {recipe.objective}, block {recipe.block}, "
        f"tau {recipe.tau:g}, mask {recipe.mask}",
        f"- optimisation: {recipe.inner_steps} inner steps, learning rate {first:g} to {last:g}, "
        f"{recipe.dtype}",
        f"- scheduler: {code(spec.schedule.scheduler)}, guidance {spec.schedule.guidance_scale:g}",
    ]
    if spec.schedule.negative_prompt:
        lines.append(f"- negative prompt: {code(spec.schedule.negative_prompt)}")
    if losses:
        lines.append(f"- loss: {losses[0][0]:.4g} at the start, {losses[-1][1]:.4g} at the end")
    lines += [f"- pairs of prompt and seed: {len(spec.samples)}, with the prompts"]
    lines += [f"  - {code(prompt)}" for prompt in prompts[:MOST_PROMPTS]]
    if len(prompts) > MOST_PROMPTS:
        lines.append(f"  - and {len(prompts) - MOST_PROMPTS} more")
    return lines
