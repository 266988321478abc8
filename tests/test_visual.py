"""Contact sheets, clips side by side, arrows and curves, read back from their pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pe_toolkit.errors import UsageError
from pe_toolkit.visual import contact_sheet, flow_arrows, label, loss_curve, side_by_side
from pe_toolkit.visual.labels import BACKGROUND, font, readable, shorten, wrapped
from pe_toolkit.visual.motion import latent_of


def ramp(frames: int, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """Frame `i` is plain grey of value `10 * i`."""
    clip = np.empty((frames, size[1], size[0], 3), np.uint8)
    clip[:] = (np.arange(frames) * 10)[:, None, None, None]
    return clip


@pytest.mark.parametrize(
    ("frames", "latent", "starts"),
    [
        (33, 9, [0, 1, 5, 9, 13, 17, 21, 25, 29]),
        (49, 13, [0, *range(1, 49, 4)]),
        (24, 6, [0, 4, 8, 12, 16, 20]),  # as CogVideoX encodes 4k frames
        (9, 3, [0, 1, 5]),
        (1, 1, [0]),
        (5, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_which_latent_frame_is_shown(frames: int, latent: int, starts: list[int]) -> None:
    shown = [latent_of(index, frames, latent) for index in range(frames)]
    assert [shown.index(at) for at in range(latent)] == starts
    assert shown == sorted(shown)


class TestLabel:
    def test_draws_inside(self) -> None:
        strip = label("hello", 100)
        assert strip.shape == (22, 100, 3)
        assert strip.max() > 200
        assert (strip[:, -20:] == BACKGROUND).all()

    @pytest.mark.parametrize("text", ["", "x" * 500, "two\nlines", "影片 🎬", "a" * 3])
    @pytest.mark.parametrize("width", [1, 10, 200])
    def test_any_text_fits(self, text: str, width: int) -> None:
        assert label(text, width).shape == (22, width, 3)
        assert font(14).getlength(shorten(text, 200, 14)) <= 200

    def test_letters_that_the_font_lacks_are_said_in_others(self) -> None:
        assert readable("ein weißer Kreis über Grün: carré, à côté \u2013 5\u00d75") == (
            "ein weisser Kreis uber Grun: carre, a cote - 5x5"
        )
        assert readable("\u5149") == "\\u5149"
        car, family = "\U0001f697", "\U0001f468\U0001f3fd\u200d\U0001f469\ufe0f"
        assert readable(f"a red {car}circle, {family} 1\ufe0f\u20e3") == "a red circle,  1"
        assert readable("\u5149\u5f71") != readable("\u5149\u5149")
        assert (label("\u5149", 200) != label("\u5f71", 200)).any()

    def test_long_text_goes_on_in_the_next_line(self) -> None:
        text = "a red circle on a black background"
        lines = wrapped(text, 100, 14)
        assert " ".join(lines) == text
        assert len(lines) > 1
        assert all(font(14).getlength(line) <= 100 for line in lines)
        assert wrapped("", 100, 14) == [""]
        (word,) = wrapped("x" * 100, 100, 14)
        assert word.endswith("...")

    def test_cut_text_says_so(self) -> None:
        assert shorten("a red circle on a black background", 100, 14).endswith("...")


class TestContactSheet:
    def test_frames_in_order(self) -> None:
        sheet = contact_sheet([("one", ramp(17)), ("two", ramp(9))], columns=9, height=24)
        assert sheet.shape == (2 * (22 + 24 + 4), 9 * 32 + 10 * 4, 3)
        centres = [4 + 16 + k * 36 for k in range(9)]
        assert [int(sheet[22 + 12, x, 0]) for x in centres] == list(range(0, 161, 20))
        assert [int(sheet[50 + 22 + 12, x, 0]) for x in centres] == list(range(0, 81, 10))

    def test_short_and_differently_sized_clips(self) -> None:
        sheet = contact_sheet([("a", ramp(3)), ("b", ramp(20, (64, 24)))], columns=4, height=48)
        assert sheet.shape[1] == 4 * 128 + 5 * 4
        assert (sheet[30, 3 * 68 + 10 :] == BACKGROUND).all()

    def test_refusals(self) -> None:
        with pytest.raises(UsageError, match="at least one clip"):
            contact_sheet([])
        with pytest.raises(UsageError, match="uint8 for 'x'"):
            contact_sheet([("x", ramp(3).astype(np.float32))])
        with pytest.raises(UsageError, match="columns"):
            contact_sheet([("x", ramp(3))], columns=0)


class TestSideBySide:
    def test_time_and_height(self) -> None:
        joined = side_by_side([("long", ramp(17)), ("short", ramp(9, (20, 12)))])
        assert joined.shape == (17, 22 + 24, 32 + 4 + 40, 3)
        assert [int(f[34, 16, 0]) for f in joined] == list(range(0, 161, 10))
        shown = [int(f[34, 32 + 4 + 20, 0]) for f in joined]
        assert (shown[0], shown[8], shown[16]) == (0, 40, 80)
        assert shown == sorted(shown)

    def test_sides_are_even(self) -> None:
        joined = side_by_side([("a", ramp(2, (31, 25)))])
        assert joined.shape == (2, 48, 32, 3)

    def test_refuses_nothing(self) -> None:
        with pytest.raises(UsageError):
            side_by_side([])


class TestFlowArrows:
    def flow(self, dx: int, dy: int) -> tuple[np.ndarray, np.ndarray]:
        flow = np.zeros((3, 3, 8, 8, 2), np.int8)
        mask = np.zeros((3, 3, 8, 8), bool)
        flow[0, 1, 2, 3] = (dx, dy)
        mask[0, 1, 2, 3] = True
        return flow, mask

    @pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-3, 0), (0, 3), (0, -2), (2, 2)])
    def test_from_centre_to_where_it_goes(self, dx: int, dy: int) -> None:
        frames = np.full((9, 128, 128, 3), 90, np.uint8)
        drawn = flow_arrows(frames, *self.flow(dx, dy))
        assert drawn.shape == (3, 128, 128, 3)
        assert (drawn[1:] == 90).all()
        ys, xs = np.nonzero((drawn[0] != 90).any(axis=-1))
        start, end = (3.5 * 16, 2.5 * 16), ((3.5 + dx) * 16, (2.5 + dy) * 16)
        for values, a, b in ((xs, start[0], end[0]), (ys, start[1], end[1])):
            if a != b:  # across the arrow its head is wider
                assert values.min() == pytest.approx(min(a, b), abs=6)
                assert values.max() == pytest.approx(max(a, b), abs=6)
            else:
                assert abs(values - a).max() <= 10
        middle = drawn[0][round((start[1] + end[1]) / 2), round((start[0] + end[0]) / 2)]
        assert int(middle.max()) - int(middle.min()) > 100, "coloured by direction"

    def test_masked_out_is_not_drawn(self) -> None:
        frames = np.full((9, 64, 64, 3), 90, np.uint8)
        flow, mask = self.flow(2, 1)
        assert (flow_arrows(frames, flow, np.zeros_like(mask)) == 90).all()

    def test_kept_without_motion_is_a_dot(self) -> None:
        frames = np.full((9, 64, 64, 3), 90, np.uint8)
        drawn = flow_arrows(frames, *self.flow(0, 0))
        ys, xs = np.nonzero((drawn[0] != 90).any(axis=-1))
        assert 0 < len(xs) < 30
        assert xs.mean() == pytest.approx(3.5 * 8, abs=1)
        assert ys.mean() == pytest.approx(2.5 * 8, abs=1)

    def test_pictures_are_spread_over_the_clip(self) -> None:
        flow, mask = self.flow(0, 0)
        drawn = flow_arrows(ramp(17), flow, np.zeros_like(mask))
        assert [int(f[0, 0, 0]) for f in drawn] == [0, 80, 160]

    def test_does_not_touch_its_input(self) -> None:
        frames = np.full((9, 64, 64, 3), 90, np.uint8)
        flow_arrows(frames, *self.flow(1, 1))
        assert (frames == 90).all()

    def test_shapes(self) -> None:
        flow, mask = self.flow(1, 1)
        with pytest.raises(UsageError, match="mask"):
            flow_arrows(ramp(9), flow, mask[..., :-1])


class TestLossCurve:
    def test_falls(self) -> None:
        image = loss_curve([1 / (i + 1) for i in range(50)])
        assert image.shape == (240, 480, 3)
        line = (image == (96, 165, 250)).all(axis=-1)
        top = [int(np.nonzero(line[:, x])[0].min()) for x in (70, 200, 460)]
        assert top[0] < top[1] < top[2]

    @pytest.mark.parametrize(
        "losses", [[1.0], [2.0, 2.0], [1.0, math.nan, 0.5], [1e-9, 1e9], [1e308, -1e308]]
    )
    def test_any_values(self, losses: list[float]) -> None:
        assert (loss_curve(losses) == (96, 165, 250)).all(axis=-1).any()

    def test_the_largest_numbers_of_numpy(self) -> None:
        losses = np.array([1e308, 0.0, -1e308])
        assert (loss_curve(losses) == loss_curve([1.0, 0.0, -1.0]))[:, 70:].all()

    def test_refusals(self) -> None:
        for losses in ([], [math.nan, math.inf]):
            with pytest.raises(UsageError, match="finite"):
                loss_curve(losses)
        with pytest.raises(UsageError, match="160x100"):
            loss_curve([1.0], size=(20, 20))
