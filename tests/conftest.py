"""What every test gets: an empty home, no network, no terminal, fixed seeds."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from pathlib import Path

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Cores are shared among the workers, and what tests start has no more than they.
    own = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(own))

# Before huggingface_hub is imported: it reads these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
for name in ("cli", "registry"):
    # An sdist holds every file once, and so no links; without them, `pe_toolkit.cli` would not be
    # there for tests that run in its folder. Where no link can be made, it is installed (or not).
    link = ROOT / "pe_toolkit" / name
    if (ROOT / name).is_dir() and not os.path.lexists(link):
        with contextlib.suppress(OSError):
            link.symlink_to(Path("..") / name, target_is_directory=True)

# How long an example takes says how busy the machine is.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder: no test may see, or change, what belongs to whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.setenv("PE_HOME", str(home / "pe"))
    for name in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if "huggingface_hub.constants" in sys.modules:
        constants = sys.modules["huggingface_hub.constants"]
        monkeypatch.setattr(constants, "HF_HOME", str(home / "huggingface"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "huggingface" / "hub"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return home


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # tests that do not need torch must not pay for it
        sys.modules["torch"].manual_seed(0)
