"""Bars of `pe push` and `pe pull`: where a person sees them. In processes of their own, with
xet on, as it is for everybody, and a server that has none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tests.registry.cards import make_card
from tests.registry.hub import TOKEN, folder, hub, online
from tests.registry.hub_server import HubServer

__all__ = ["folder", "hub", "online"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


def pe(hub: HubServer, *words: object) -> tuple[str, str]:
    """What a command writes to stdout, and to stderr, which is a terminal of 120 columns."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_HUB_")}
    env |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1"}
    ours, theirs = os.openpty()  # without a size nothing is drawn
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # a terminal that is closed is an error
            while piece := os.read(ours, 1 << 16):
                shown.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-m", "pe_toolkit", *map(str, words)],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, timeout=120,
    )  # fmt: skip
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = shown.decode()
    assert done.returncode == 0, text
    return done.stdout.decode(), text


def test_bars(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    card = make_card(folder, width=20_000)  # about 1 MB
    out, shown = pe(hub, "push", card, "zoe/wave")
    assert "card.safetensors  new" in out
    assert f"{card.name}: 100%|" in shown
    out, shown = pe(hub, "pull", "zoe/wave", "-o", tmp_path / "out.safetensors")
    assert "out.safetensors" in out
    assert ": 100%|" in shown  # named after the digest
    assert shown.count("\r") > 1
    assert pe(hub, "pull", "zoe/wave", "--json")[1] == ""
