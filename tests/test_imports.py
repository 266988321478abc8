"""What starts fast: commands that read no model must import none of the heavy packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "av", "cv2", "gradio")
CARD = Path(__file__).parent / "golden" / "rotary-angle.safetensors"

# Runs `pe ARGS` and then reports, on the last line, which modules are there.
RUN_PE = """
import sys
sys.argv = ["pe", *sys.argv[1:]]
from pe_toolkit.cli.main import main
try:
    main()
except SystemExit as exit:
    code = exit.code or 0
print("\\n" + " ".join(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(code)
"""


def modules_after(code: str, *args: str) -> set[str]:
    """Top-level modules in a fresh interpreter that ran `code`, which prints them last."""
    result = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("--version",),
        ("show", "--help"),
        ("verify", "--help"),
        ("train", "--help"),
        ("eval", "--help"),
        ("apply", "--help"),
        ("demo", "--help"),
        ("doctor", "--help"),
        ("ui", "--help"),
        ("show", str(CARD)),
        ("show", "--json", str(CARD)),
        ("verify", str(CARD)),
    ],
    ids=lambda args: " ".join(Path(arg).name for arg in args),
)
def test_command_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    assert not modules_after(RUN_PE, *args).intersection(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "pe_toolkit",
        "pe_toolkit.errors",
        "pe_toolkit.grid",
        "pe_toolkit.card",
        "pe_toolkit.card.reader",
        "pe_toolkit.backbones",
        "pe_toolkit.backbones.catalogue.variants",
        "pe_toolkit.evaluation",
        "pe_toolkit.evaluation.rows",
        "pe_toolkit.evaluation.trackers.lucas_kanade",
        "pe_toolkit.world.vocabulary",
        "pe_toolkit.training",
        "pe_toolkit.training.config",
        "pe_toolkit.training.events",
    ],
)
def test_module_imports_without_torch(module: str) -> None:
    code = f"import {module}, sys; print(' '.join({{n.partition('.')[0] for n in sys.modules}}))"
    assert not modules_after(code).intersection(HEAVY)
