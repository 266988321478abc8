"""What `pe edit` does to fields, against fields whose edit is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pe_toolkit.editing import fields as edit
from pe_toolkit.editing import phase as phases
from pe_toolkit.editing.fields import Fields
from pe_toolkit.motion import phase as torch_phase
from pe_toolkit.motion.blending import AGAINST
from pe_toolkit.motion.stored import quantised, radians

RADIUS = 2.83
GRID = (5, 4, 6)
LATENT = (8, 12)


def _latents(seed: int = 0, size: tuple[int, int] = LATENT, frames: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, 3, *size))


def _phase(latents: np.ndarray) -> np.ndarray:
    return torch_phase.phases(torch.from_numpy(latents), RADIUS).double().numpy()


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """The largest angle between two phases; the sign of zero at a mean is not one."""
    return float(np.abs(np.angle(np.exp(1j * (first - second)))).max())


def _path(frames: int = 5) -> np.ndarray:
    """(F, 2) as (dx, dy): to the right and, later, down."""
    u = np.linspace(0, 1, frames)
    return np.stack([2 * u, u**2], 1)


def _fields(path: np.ndarray, layers: tuple[str, ...] = ("whole",), seed: int = 0) -> Fields:
    """Everything moves along `path`; whole patches in the flow."""
    frames, height, width = len(path), *GRID[1:]
    offsets = np.zeros((1, len(layers), frames, height, width, 3))
    offsets[0, -1, ..., 1] = -path[:, 1, None, None]
    offsets[0, -1, ..., 2] = -path[:, 0, None, None]
    moves = np.rint(path[None] - path[:, None])  # (F, F, 2)
    flow = np.broadcast_to(moves[:, :, None, None], (frames, frames, height, width, 2)).copy()
    x, y = np.arange(width), np.arange(height)[:, None]
    flow[..., 0] = np.clip(flow[..., 0], -x, width - 1 - x)
    flow[..., 1] = np.clip(flow[..., 1], -y, height - 1 - y)
    mask = np.random.default_rng(seed).random((frames, frames, height, width)) > 0.5
    return Fields(
        offsets, layers, flow.astype(np.int8), mask, _phase(_latents(seed, frames=frames)), RADIUS,
        LATENT,
    )  # fmt: skip


def _path_of(fields: Fields) -> np.ndarray:
    """(F, 2) the path that the offsets of one token ask for."""
    total = -fields.offsets.sum(1)[0, :, 0, 0]
    return np.stack([total[:, 2], total[:, 1]], 1)


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (16, 16)])
@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_phase_is_that_of_mirrored_latents(size: tuple[int, int], axis: int) -> None:
    latents = _latents(size=size)
    found = phases.mirrored(_phase(latents), RADIUS, size, axis)
    assert _apart(found, _phase(np.flip(latents, 2 + axis).copy())) < 1e-5


@pytest.mark.parametrize("size", [(16, 12), (8, 24), (12, 18), (6, 10)])
def test_phase_of_another_size_is_that_of_the_same_picture_there(size: tuple[int, int]) -> None:
    """A spot at the same place of the picture, a good deal from its border."""

    def spot(height: int, width: int) -> np.ndarray:
        y, x = (np.arange(height) + 0.5) / height - 0.45, (np.arange(width) + 0.5) / width - 0.6
        plane = np.exp(-(y[:, None] ** 2 + x**2) / (2 * 0.12**2))
        return np.broadcast_to(plane, (5, 3, height, width)).copy()

    fields = replace(_fields(_path()), phase=_phase(spot(*LATENT)))
    found = edit.sized(fields, size[0] // 2, size[1] // 2, size).phase
    assert found is not None
    assert _apart(found, _phase(spot(*size))) < 0.05


def test_moved_phase_is_that_of_moved_latents_and_is_found_again() -> None:
    latents = _latents()
    there = _phase(np.roll(latents, (2, -3), (2, 3)))
    here = _phase(latents)
    assert _apart(phases.moved(here, RADIUS, LATENT, (2, -3)), there) < 1e-5
    assert phases.between(there[0], here[0], RADIUS, LATENT) == (2, -3)


def test_planes_have_the_phase_they_are_made_of() -> None:
    angles = _phase(_latents())
    planes = phases.planes(angles, RADIUS, LATENT)
    assert _apart(phases.of_planes(planes, RADIUS), angles) < 1e-5


def test_stored_phases_are_those_of_the_tensor_functions() -> None:
    angles = _phase(_latents())
    stored = quantised(angles)
    np.testing.assert_array_equal(stored, torch_phase.quantised(torch.from_numpy(angles)).numpy())
    np.testing.assert_allclose(
        radians(stored), torch_phase.radians(torch.from_numpy(stored)).numpy(), rtol=1e-6
    )
    resampled = torch_phase.over_time(torch.from_numpy(angles), 9).numpy()
    assert _apart(phases.at_times(angles, np.linspace(0, 4, 9)), resampled) < 1e-9


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_turns_the_path_around(axis: int) -> None:
    path = _path()
    found = edit.mirrored(_fields(path), axis)
    sign = np.where(np.arange(2) == 1 - axis, -1, 1)
    wanted = _fields(path * sign)
    np.testing.assert_allclose(found.offsets, wanted.offsets)
    np.testing.assert_array_equal(found.flow, wanted.flow)
    np.testing.assert_array_equal(edit.mirrored(found, axis).mask, _fields(path).mask)
    assert _apart(edit.mirrored(found, axis).phase, _fields(path).phase) < 1e-9


def test_reversed_runs_back() -> None:
    fields = _fields(_path())
    found = edit.reversed_(fields)
    np.testing.assert_allclose(_path_of(found), _path()[::-1])
    np.testing.assert_array_equal(found.flow, fields.flow[::-1, ::-1])
    assert _apart(found.phase, fields.phase[::-1]) < 1e-9


def test_pace_stretches_time_from_the_first_frame() -> None:
    fields = _fields(_path(9))
    u = np.linspace(0, 1, 9)

    def at(times: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(times, u, _path(9)[:, i]) for i in (0, 1)], 1)

    np.testing.assert_allclose(_path_of(edit.paced(fields, 0.5)), at(u * 0.5))
    fast = edit.paced(fields, 2)
    np.testing.assert_allclose(_path_of(fast), at(np.minimum(2 * u, 1)))
    assert _apart(fast.phase[4:], np.repeat(fields.phase[-1:], 5, 0)) < 1e-9
    assert not fast.flow[4:, 4:].any()  # it stands still there


def test_another_size_keeps_the_share_of_the_picture() -> None:
    found = edit.sized(_fields(_path()), 8, 12, (16, 24))
    np.testing.assert_allclose(_path_of(found), 2 * _path())
    assert found.grid.height == 8
    assert found.flow.shape == (5, 5, 8, 12, 2)
    x = np.arange(12) + found.flow[..., 0]
    assert x.min() >= 0
    assert x.max() < 12


def test_more_frames_end_where_fewer_did() -> None:
    found = edit.with_frames(_fields(_path()), 9)
    path = _path_of(found)
    np.testing.assert_allclose(path[[0, -1]], _path()[[0, -1]])
    assert found.grid.frames == 9
    assert len(found.phase) == 9
    assert found.flow.shape[:2] == (9, 9)


def test_a_region_moves_and_the_rest_stands_still() -> None:
    fields = _fields(_path())
    mask = np.zeros(LATENT)
    mask[:, :6] = 1
    found = edit.masked(fields, edit.stilled(fields), mask)
    still = np.broadcast_to(fields.offsets[:, :, 2, None], fields.offsets.shape)
    share = 1 / (1 + np.exp((np.arange(6) - 2.5) / 0.5))[:, None]  # an eighth of four patches
    np.testing.assert_allclose(found.offsets, fields.offsets * share + still * (1 - share))
    np.testing.assert_allclose(share[[0, 2, 3, 5], 0], [0.993, 0.731, 0.269, 0.007], atol=1e-3)
    assert not found.mask[..., 3:].any()
    whole = edit.masked(fields, edit.stilled(fields), np.ones(LATENT))
    assert _apart(whole.phase, fields.phase) < 1e-5
    # Outside, what the phase says of the layout is that of the middle frame, all the time.
    planes = phases.planes(found.phase, RADIUS, LATENT)
    before = phases.planes(fields.phase, RADIUS, LATENT)
    moves = [np.abs(np.diff(p, axis=0)).mean((0, 1)) for p in (planes, before)]
    assert moves[0][:, 8:10].mean() < 0.5 * moves[1][:, 8:10].mean()
    assert moves[0][:, 2:4].mean() > 0.5 * moves[1][:, 2:4].mean()


def test_a_mask_gets_a_soft_border() -> None:
    share = np.zeros((5, 6))
    share[1:4, 1:5] = 1
    soft = edit.softened(share, 0.5)
    away = np.array([1.5, 0.5, -0.5, -1.5, -0.5])  # from the border, along a column in the middle
    np.testing.assert_allclose(soft[:, 2][:4], 1 / (1 + np.exp(away[[1, 2, 3, 2]] / 0.5)))
    corner = np.hypot(1, 1) - 0.5
    np.testing.assert_allclose(soft[0, 0], 1 / (1 + np.exp(corner / 0.5)))
    # Who draws a softer one gets it; and there is no border to soften in what is all one.
    ramp = np.tile(np.linspace(0, 1, 6), (5, 1))
    np.testing.assert_array_equal(edit.softened(ramp, 0.2)[:, 1:5], ramp[:, 1:5])
    assert edit.softened(ramp, 0.2)[0, 0] < 1e-5
    for whole in (np.ones((3, 4)), np.full((3, 4), 0.4)):
        np.testing.assert_array_equal(edit.softened(whole, 1.0), whole)


def test_combined_layers_keep_their_names() -> None:
    first, second = _fields(_path(), ("camera", "subject")), _fields(-_path(), seed=1)
    mask = np.zeros(LATENT)
    mask[:4] = 1
    found = edit.masked(first, second, mask)
    assert found.layers == ("camera", "subject", "whole")
    # In the middle frame, all sit where those of the first do.
    own, others = first.offsets.sum(1), second.offsets.sum(1)
    there = others + (own - others)[:, 2, None]
    share = 1 / (1 + np.exp((np.arange(4) - 1.5) / 0.5))[:, None, None]
    np.testing.assert_allclose(found.offsets.sum(1), own * share + there * (1 - share), atol=1e-12)
    np.testing.assert_allclose(found.offsets.sum(1)[:, 2], own[:, 2], atol=1e-12)
    bare = edit.masked(first, replace(second, phase=None), mask)
    assert bare.phase is None


def test_layers_that_act_alike_in_later_steps_stay_so_and_others_act_in_all() -> None:
    names, later = ("camera", "subject"), (0.75, (1.5, 0.0))
    first = replace(_fields(_path(), names), below=later)
    second = replace(_fields(-_path(), names, seed=1), below=later)
    other_noise = replace(second, below=(0.5, (1.5, 0.0)))
    alone = _fields(_path(), ("subject",))
    for put in (edit.joined, lambda a, b: edit.masked(a, b, np.eye(*LATENT))):
        assert put(first, second).below == later
        assert put(first, other_noise).below is None
        assert put(first, _fields(_path())).below == (0.75, (1.5, 0.0, 1.0))
        assert put(_fields(_path()), first).below == (0.75, (1.0, 1.5, 0.0))
        for one, other in ((first, alone), (alone, first)):
            found = put(one, other)
            assert found.below is None
            # As much of the one as where all act in the same steps.
            less = first.offsets * np.array([1, AGAINST])[:, None, None, None, None]
            once = replace(first, offsets=less, below=None)
            pair = (once, alone) if one is first else (alone, once)
            np.testing.assert_array_equal(found.offsets, put(*pair).offsets)
    for done in (edit.mirrored(first, 1), edit.paced(first, 0.5), edit.sized(first, 5, 6, LATENT)):
        assert done.below == later


def test_one_after_the_other_goes_on_where_the_first_ends() -> None:
    first, second = _fields(_path(9)), _fields(_path(9)[:, ::-1].copy())
    found = edit.joined(first, second)
    path = _path_of(found)
    np.testing.assert_allclose(path[4], _path(9)[-1])
    np.testing.assert_allclose(path[-1] - path[4], _path(9)[-1, ::-1])
    assert found.grid == first.grid
    assert len(found.phase) == 9
    assert not found.mask[:4, 5:].any()  # what ends the first begins the second
    np.testing.assert_array_equal(
        found.flow[4, 5:], edit.timed(second, np.linspace(0, 8, 5)).flow[0, 1:]
    )
    # The same latents: the second's layout already is where the first's ended or it is moved there.
    assert _apart(found.phase[:5], edit.timed(first, np.linspace(0, 8, 5)).phase) < 1e-9
