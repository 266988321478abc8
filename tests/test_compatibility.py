"""The compatibility matrix: each cell works or is refused, and docs/compatibility.md says so.

PE_WRITE_DOCS=1 writes the page; otherwise it is compared, except for rows whose optional package is
not here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.matrix import CELLS, available, make_card, outcome

PAGE = Path(__file__).parent.parent / "docs" / "compatibility.md"
KINDS = ("rotary", "absolute")
# Only what enters the attention minds these: absolute positions do not enter it.
ATTENTION = {
    "fused QKV projections",
    "own attention processor",
    "own attention processor without `image_rotary_emb",
    "another attention in place of `attn1",
}
# Where rotary and absolute positions enter differently, both are run; elsewhere one of them is.
BOTH = {
    "nothing else",
    "several prompts in one call",
    "model offload",
    "sequential offload",
    "group offload, block level",
    "pipe.enable_group_offload`, leaf level",
    "torch.compile(pipe.transformer)",
    "image-to-video pipeline",
    *ATTENTION,
}
COMMAND = 'PE_WRITE_DOCS=1 python -m pytest -m "slow or not slow" tests/test_compatibility.py'
HEAD = f"""# Compatibility

What people do to their pipelines, with a motion card applied. Written by
`tests/test_compatibility.py` from what it saw on tiny real pipelines on a CPU
(`{COMMAND}`, with peft and torchao installed), and compared by every test run.
Offload rows ran with the CPU as the execution device: the hooks are the same, the transfers are
not. `=`: run on rotary positions only, because nothing in the row depends on them. Combinations
were not tried.

| with a card applied | rotary (5b, 1.5) | absolute (2b) | what was checked, or the message |
|---|---|---|---|
"""


@pytest.fixture(scope="module")
def cards():
    return {kind: make_card(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def seen():
    return {}


CASES = [
    (cell, kind)
    for cell in CELLS
    for kind in KINDS
    if kind == "rotary" or cell.name.strip("`") in BOTH
]


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        pytest.param(
            cell,
            kind,
            id=f"{cell.name.replace('`', '')}-{kind}",
            marks=[pytest.mark.slow] if cell.slow else [],
        )
        for cell, kind in CASES
    ],
)
@pytest.mark.filterwarnings("ignore")  # of compilers and quantizers, about themselves
def test_cell(cell, kind, cards, seen, tmp_path):
    if not available(cell):
        pytest.skip(f"needs {cell.needs}")
    state, text = outcome(cell, kind, cards[kind], tmp_path)
    seen[cell.name, kind] = (state, text)
    refused = cell.refused and not (kind == "absolute" and cell.name.strip("`") in ATTENTION)
    assert state == ("refused" if refused else "works"), text


def row(cell, seen):
    words = [seen.get((cell.name, kind)) for kind in KINDS]
    # Where one was run for both, the other column says so by an equals sign.
    columns = [words[0][0], words[1][0] if words[1] else "="]
    text = words[0][1] if words[0][1] != "works" else ""
    if words[1] and words[1][0] != words[0][0]:
        text += f" / {words[1][1]}"
    name = cell.name
    if cell.needs and not cell.needs.startswith("!"):
        name += f" (package {cell.needs})"
    return f"| {name} | {columns[0]} | {columns[1]} | {text.replace('|', '/')} |"


def test_the_page_is_up_to_date(seen):
    if len(seen) < sum(available(cell) and not cell.slow for cell, _ in CASES):
        pytest.skip("not every cell ran")
    rows = {cell.name: row(cell, seen) for cell in CELLS if (cell.name, "rotary") in seen}
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if os.environ.get("PE_WRITE_DOCS"):
        kept = {line.split(" |")[0]: line for line in old.splitlines()}
        lines = []
        for cell in CELLS:
            package = f" (package {cell.needs})" if cell.needs and cell.needs[0] != "!" else ""
            line = rows.get(cell.name) or kept.get(f"| {cell.name}{package}")
            if line is not None:
                lines.append(line)
        PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
        return
    assert old.startswith(HEAD)
    missing = [line for line in rows.values() if line not in old.splitlines()]
    assert not missing, "run with PE_WRITE_DOCS=1: " + "\n".join(missing)
