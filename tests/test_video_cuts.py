"""Where one shot ends and another one begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pe_toolkit.cli.main import cli
from pe_toolkit.video import write_video
from pe_toolkit.video.cuts import cuts
from pe_toolkit.world.motions import CLASSES, scenes_of
from pe_toolkit.world.scenes import render


def shot(seed: int, frames: int = 12, side: int = 96) -> np.ndarray:
    """A disc that goes over a ground of soft colours."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform(20, 235, (4, 4, 3)).repeat(side // 4, 0).repeat(side // 4, 1)
    y, x = np.mgrid[:side, :side]
    out = np.repeat(ground[None], frames, 0)
    for n, picture in enumerate(out):
        picture[(x - 20 - 4 * n) ** 2 + (y - side / 2) ** 2 < 150] = (240, 240, 240)
    return out.round().astype(np.uint8)


@pytest.mark.parametrize("lengths", [(12, 12), (5, 9, 11), (1, 12)])
def test_cuts_are_where_shots_meet(lengths: tuple[int, ...]) -> None:
    film = np.concatenate([shot(seed, length) for seed, length in enumerate(lengths)])
    assert cuts(film) == np.cumsum(lengths)[:-1].tolist()


def test_one_shot_has_none() -> None:
    film = shot(3, 24)
    assert cuts(film) == []
    flash = film.copy()
    flash[12] = 255
    assert cuts(flash) == []
    dark = film.copy()
    dark[12:] = dark[12:] // 3  # the light goes out
    assert cuts(dark) == []
    passing = film.copy()
    for n in range(8, 16):  # something large, right before the camera
        passing[n, :, 12 * (n - 8) : 12 * (n - 8) + 60] = (200, 40, 10 * n)
    assert cuts(passing) == []
    assert cuts(film[:1]) == cuts(film[:2]) == []


@pytest.mark.parametrize("name", CLASSES)
def test_no_motion_is_a_cut(name: str) -> None:
    for scene in scenes_of(name, 3):
        assert cuts(render(scene)) == []


def test_flow_says_where_a_clip_is_cut(tmp_path: Path) -> None:
    film = np.concatenate([shot(0, 16), shot(1, 17)])
    write_video(tmp_path / "a.mp4", film, 16.0)
    arguments = ["flow", str(tmp_path / "a.mp4"), "-o", str(tmp_path / "f.png")]
    said = " ".join(CliRunner().invoke(cli, arguments).stderr.split())
    assert "the clip is cut at 1.0 s, and is read as if it were not" in said
    assert "--end 0.9" in said
    after = CliRunner().invoke(cli, [*arguments, "--force", "--start", "1.05"])
    assert after.exit_code == 0
    assert "cut" not in after.stderr
