"""A card as a picture: `pe show --plot`, `pe_toolkit.card.plot`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pe_toolkit.card import MotionCard
from pe_toolkit.card.plot import card_plot, path_of
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UsageError
from pe_toolkit.visual import field_picture, path_picture, phase_pictures
from pe_toolkit.visual.fields import fitting, heading

GOLDEN = Path(__file__).parent / "golden"


def test_every_kind_of_card_can_be_drawn() -> None:
    heights = {}
    for path in sorted(GOLDEN.glob("*.safetensors")):
        picture = card_plot(MotionCard.load(path))
        assert picture.dtype == np.uint8
        assert picture.shape[1:] == (960, 3)
        heights[path.stem] = len(picture)
    assert heights["rotary-offset"] > heights["rotary-angle"]  # its layers
    assert heights["rotary-angle-phase"] != heights["rotary-angle"]


def test_the_path_is_the_one_of_the_displacements() -> None:
    """Two patches of a grid of 4x5 follow a known path; what the mask leaves out says nonsense."""
    path = np.array([[0, 0], [1, 0], [2, 1], [1, 2]])
    flow = np.full((4, 4, 4, 5, 2), 3, np.int8)
    mask = np.zeros((4, 4, 4, 5), bool)
    mask[:, :, 1, 2:4] = True
    flow[:, :, 1, 2:4] = (path[None] - path[:, None])[:, :, None]
    assert np.allclose(path_of(flow, mask), path)
    assert np.allclose(path_of(flow, mask & False), 0)


def test_an_arrow_points_where_the_patch_goes() -> None:
    field = np.zeros((4, 4, 2))
    field[1, 1] = (2, 0)
    kept = np.zeros((4, 4), bool)
    kept[1, 1] = True
    picture = field_picture(field, kept, height=80).astype(int)
    red = picture[..., 0] - picture[..., 2] > 60  # to the right is red
    y, x = np.nonzero(red)
    assert 20 <= y.min() <= y.max() < 40
    assert 25 <= x.min() < 35 <= 60 <= x.max() < 80
    still = field_picture(field, kept & False, height=80)
    assert len(np.unique(still.reshape(-1, 3), axis=0)) == 1


def test_a_phase_shows_what_moves() -> None:
    """A bump that goes from left to right by half a picture, as phases of three frequencies."""
    frequencies = [(0, 0), (0, 1), (0, 2), (1, 0)]
    kx = np.array([f[1] for f in frequencies])
    turns = np.stack([-2 * np.pi * kx * x for x in (0.25, 0.5, 0.75)])[:, None]
    pictures = phase_pictures(turns, frequencies, side=40).astype(int)
    brightest = pictures[..., 0].mean(1).argmax(1)
    darkest = pictures[..., 0].mean(1).argmin(1)
    moved = brightest if abs(brightest[1] - 20) <= 2 else darkest  # the sign is free
    assert np.allclose(moved, [10, 20, 30], atol=2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError):
        field_picture(np.zeros((4, 4, 3)))
    with pytest.raises(UsageError):
        phase_pictures(np.zeros((2, 1, 3)), [(0, 0)])


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: field_picture(np.full((4, 4, 2), np.nan)), "finite displacements"),
        (lambda: field_picture(np.zeros((0, 4, 2))), "at least one token"),
        (lambda: field_picture(np.zeros((4, 4, 2)), height=0), "height of at least 1 pixel, got 0"),
        (lambda: path_picture([("a", np.zeros((0, 2)))], (4, 4)), "path .* as 'a', got .0, 2."),
        (lambda: path_picture([("a", np.full((3, 2), np.nan))], (4, 4)), "finite numbers as 'a'"),
        (lambda: path_picture([("a", np.zeros((3, 2)))], (0, 4)), "at least 1x1 patches, got 4x0"),
        (lambda: path_picture([("a", np.zeros((3, 2)))], (4, 4), height=0), "height"),
        (lambda: phase_pictures(np.full((2, 1, 1), np.nan), [(0, 1)]), "finite phases"),
        (lambda: phase_pictures(np.zeros((2, 1, 1)), [(0, 1)], side=0), "side of at least 1 pixel"),
        (lambda: phase_pictures(np.zeros((2, 1, 0)), []), "at least one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        draw()


def test_what_is_not_kept_may_be_anything() -> None:
    field, kept = np.zeros((4, 4, 2)), np.ones((4, 4), bool)
    field[0, 0], kept[0, 0] = np.nan, False
    assert field_picture(field, kept).shape == (120, 120, 3)


def test_paths_go_from_ring_to_dot() -> None:
    picture = path_picture([("a", np.array([[-1.0, 0.0], [1.0, 0.0]]))], (4, 4), height=80)
    assert picture.shape == (80, 80, 3)
    light = picture.astype(int).sum(-1) > 300
    assert light[38:42, 20:60].any()
    assert not light[:20].any()


def test_paths_stay_in_the_picture() -> None:
    far = [("a", np.array([[-30.0, 0.0], [30.0, 0.0]])), ("b", np.array([[0.0, -3.0], [0.0, 3.0]]))]
    shown, times = fitting(far, (30, 45))
    assert times == pytest.approx(0.69)
    assert np.abs(shown[0][1]).max() < 22.5
    assert shown[1][1] == pytest.approx(far[1][1] * times)
    assert fitting(far[1:], (30, 45))[1] == 1.0


def test_pe_show_draws_a_card_without_torch(tmp_path: Path) -> None:
    out = tmp_path / "card.png"
    code = (
        "import sys; from pe_toolkit.cli.main import cli; "
        f"cli(['show', {str(GOLDEN / 'rotary-angle-phase.safetensors')!r}, '--plot', {str(out)!r}],"
        " standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    with Image.open(out) as picture:
        assert picture.size[0] == 960


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    card, out = str(GOLDEN / "rotary-angle.safetensors"), tmp_path / "card.png"
    out.write_bytes(b"mine")
    refused = CliRunner().invoke(cli, ["show", card, "--plot", str(out)])
    assert refused.exit_code == 2
    assert out.read_bytes() == b"mine"
    assert CliRunner().invoke(cli, ["show", card, "--plot", str(out), "--force"]).exit_code == 0
    mine = tmp_path / "mine.png"
    mine.write_bytes(Path(card).read_bytes())  # a card, whatever its name
    refused = CliRunner().invoke(cli, ["show", str(mine), "--plot", str(mine), "--force"])
    assert refused.exit_code == 2
    assert mine.read_bytes() == Path(card).read_bytes()
    wrong = CliRunner().invoke(cli, ["show", card, "--plot", "card.jpg"])
    assert wrong.exit_code == 2
    assert "card.png" in wrong.stderr


def test_a_heading_stays_on_its_sheet() -> None:
    long = heading("card " * 60, "words " * 90, 300)
    assert long.shape == (58, 300, 3)
    assert (long[:, -6:] == long[0, 0]).all()
