"""The numbers of a card, checked as bytes: the same verdicts as numpy's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_toolkit.card import CardSpec, GridSpec, MotionCard, read_info
from pe_toolkit.card.migrations import forward
from pe_toolkit.card.tensors import packed, unpacked
from pe_toolkit.card.values import check_flow, check_mask, check_numbers
from pe_toolkit.errors import CardError

GOLDEN = Path(__file__).parent / "golden"
SPEC = read_info(GOLDEN / "rotary-angle.safetensors").spec


def test_every_float16_there_is() -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(numbers)
    check_numbers("positions", numbers[finite].astype("<f2").tobytes(), 0)
    for number in numbers[~finite]:
        data = np.array([1.0, number, 65504.0], "<f2").tobytes()
        with pytest.raises(CardError, match=r"NaN or infinity at guided step 7\."):
            check_numbers("positions", data, 7)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_displacements_inside_the_grid(data: st.DataObject) -> None:
    """Narrow and wide grids, where every displacement is inside but perhaps one."""
    sides = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    frames, height, width = sides
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    ends_x = rng.integers(0, width, (frames, frames, height, width))
    ends_y = rng.integers(0, height, (frames, frames, height, width))
    x, y = np.arange(width), np.arange(height)[:, None]
    flow = np.stack([ends_x - x, ends_y - y], axis=-1).astype(np.int8)
    spec = replace(SPEC, grid=GridSpec(frames, height, width), digest="")
    check_flow(spec, flow.tobytes())
    place = data.draw(st.integers(0, flow.size - 1))
    flow.reshape(-1)[place] = data.draw(st.integers(-128, 127))
    moved = flow.astype(int) + np.stack(np.broadcast_arrays(x, y), axis=-1)
    inside = (moved >= 0).all() and (moved < [width, height]).all()
    if inside:
        check_flow(spec, flow.tobytes())
    else:
        with pytest.raises(CardError, match="leaves it"):
            check_flow(spec, flow.tobytes())


def test_a_mask_of_zeros_and_ones() -> None:
    check_mask(SPEC, bytes([0, 1, 1, 0]))
    for wrong in (2, 128, 255):
        with pytest.raises(CardError, match="0 and 1"):
            check_mask(SPEC, bytes([0, 1, wrong]))


def test_a_mask_of_bits_ends_with_zeros() -> None:
    spec = replace(CardSpec.from_dict(forward(SPEC.to_dict())), grid=GridSpec(3, 1, 1))
    check_mask(spec, bytes([0xFF, 0x80]))  # 9 displacements
    for wrong in (0x81, 0x40):
        with pytest.raises(CardError, match="last bits"):
            check_mask(spec, bytes([0, wrong]))


def test_masks_of_bits_are_the_masks_that_were_packed() -> None:
    old = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    spec = CardSpec.from_dict(forward(SPEC.to_dict()))
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((3, 3, 2, 2)) < 0.5
        bits = {"flow_mask": packed(mask)}
        np.testing.assert_array_equal(unpacked(spec, bits), mask)
        check_mask(spec, bits["flow_mask"].tobytes())
    np.testing.assert_array_equal(unpacked(SPEC, old.tensors), old.tensors["flow_mask"] == 1)
