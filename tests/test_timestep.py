"""The timestep is read off the device once for a whole generation, whoever asks."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pe_toolkit.acceleration.timestep import Reader
from pe_toolkit.apply import generate
from pe_toolkit.training import TrainConfig, train
from tests.tiny import moving_square, tiny_adapter


class Reads(TorchDispatchMode):
    """Counts scalars that are read out of one storage."""

    def __init__(self, storage_of):
        super().__init__()
        self.storage_of, self.count = storage_of, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            ours = self.storage_of().untyped_storage().data_ptr()
            self.count += args[0].untyped_storage().data_ptr() == ours
        return func(*args, **(kwargs or {}))


def test_views_of_a_schedule_say_which_they_are():
    first, schedule = Reader(), torch.tensor([999, 799, 599])
    with torch.no_grad(), Reads(lambda: schedule) as reads:
        passes = [t.expand(2) for t in schedule]  # as a pipeline makes them
        assert [first(t) for t in passes] == [999, 799, 599]
    assert reads.count == 0
    assert first(schedule[1:]) == 799
    schedule[1] = 5  # in place: the same tensor, other values
    assert first(schedule[1].expand(2)) == 5


def test_any_other_tensor_is_read_as_it_is():
    first = Reader()
    assert first(torch.full((2,), 7)) == 7
    assert first(torch.full((2,), 8)) == 8  # perhaps at the address of the one before
    assert first(torch.tensor(9)) == 9
    assert first(torch.tensor([3.0, 2.0])) == 3
    assert first(torch.arange(10).reshape(2, 5).T[1]) == 1  # not the whole storage in order
    assert first(torch.arange(9_999)[9_998:]) == 9_998
    with torch.inference_mode():
        assert first(torch.full((2,), 6)) == 6


@pytest.mark.parametrize("cache", ["none", "taylorseer"])
@pytest.mark.filterwarnings("ignore:The card was trained with keys and values")
def test_an_applied_generation_reads_no_more_than_a_plain_one(cache):
    adapter, clip = tiny_adapter(), moving_square()
    config = TrainConfig(prompts=("a red circle",), samples=1, seed=3, kv=True)
    card = list(train(adapter, clip, config))[-1].card
    counts = []
    for given in ({}, {"card": card, "kv_from": clip, "cache": cache}):
        with Reads(lambda: adapter.pipe.scheduler.timesteps) as reads:
            (made,) = generate(adapter, ["a red circle"], [3], steps=5, **given)
        counts.append(reads.count)
    assert made.guided_steps > 0
    assert counts[1] == counts[0]
