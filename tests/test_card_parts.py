"""Layers of a card add up, each as much as is asked for; parts that are not there are refused."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import pe_toolkit
from pe_toolkit import apply
from pe_toolkit.apply import ApplyRequest, applied, generate
from pe_toolkit.apply.parts import check_parts, layer_strengths, phase_strength
from pe_toolkit.card import BelowSpec, MotionCard, renewed
from pe_toolkit.card.spec import STILL, MotionSpec
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UsageError
from pe_toolkit.training import TrainConfig, train
from tests.tiny import FRAMES, SIDE, TOKENS, moving_square, tiny_adapter

PROMPT = "a red circle"
CONFIG = TrainConfig(start="flow", inner_steps=0, samples=1, prompts=(PROMPT,))


def trained(adapter, form):
    config = dataclasses.replace(CONFIG, parametrisation=form)
    return list(train(adapter, moving_square(), config))[-1].card


def layered(card, names, layers):
    """That card with such layers; `(S, 3)` each."""
    recipe = dataclasses.replace(card.spec.recipe, layers=names)
    stored = torch.stack(layers)[None].half().numpy()
    spec = dataclasses.replace(card.spec, recipe=recipe, digest="")
    return MotionCard(spec, card.tensors | {"positions": stored})


def latents(adapter, card, *strength, **parts):
    with applied(adapter, card, *strength, **parts) as log:
        made = adapter.pipe(
            PROMPT, num_frames=FRAMES, width=SIDE, height=SIDE, num_inference_steps=5,
            max_sequence_length=TOKENS, generator=torch.Generator().manual_seed(3),
            output_type="latent",
        ).frames  # fmt: skip
    assert log.guided_steps == (card.guided_steps if strength != (0.0,) else 0)
    return made


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_layers_add_up_each_with_its_strength(positions):
    adapter = tiny_adapter(positions)
    card = trained(adapter, "offset")
    torch.manual_seed(0)
    # Halves of halves are exact in half precision, and so are their sums.
    camera, one, two = (torch.randint(-8, 8, (adapter.grid.tokens, 3)) / 8 for _ in range(3))
    both = layered(card, ("camera", "subject", "subject-2"), [camera, one, two])

    def single(offsets):
        return latents(adapter, layered(card, ("whole",), [offsets]))

    plain = latents(adapter, card, 0.0)
    assert torch.equal(latents(adapter, both), single(camera + one + two))
    assert torch.equal(latents(adapter, both, camera=0.0), single(one + two))
    assert torch.equal(latents(adapter, both, subject=0.0), single(camera))
    assert torch.equal(
        latents(adapter, both, camera=0.5, subject=2.0), single(camera / 2 + 2 * (one + two))
    )
    assert torch.equal(latents(adapter, both, 0.5, camera=2.0), single(camera + one / 2 + two / 2))
    assert torch.equal(latents(adapter, both, camera=0.0, subject=0.0), plain)
    assert torch.equal(
        latents(adapter, layered(card, ("whole",), [one]), subject=0.5), single(one / 2)
    )
    assert not torch.equal(single(one), plain)


def test_layers_act_otherwise_in_later_steps():
    adapter = tiny_adapter("rotary")
    card = trained(adapter, "offset")
    torch.manual_seed(0)
    camera, one = (torch.randint(-8, 8, (adapter.grid.tokens, 3)) / 8 for _ in range(2))
    both = layered(card, ("camera", "subject"), [camera, one])
    noise = card.spec.schedule.noise
    assert len(noise) > 2

    def below(least, *times):
        own = BelowSpec(noise=least, times=times)
        recipe = dataclasses.replace(both.spec.recipe, below=own)
        spec = dataclasses.replace(both.spec, recipe=recipe, digest="")
        return MotionCard(spec, both.tensors)

    def each(sums):
        """A set of positions for each guided step."""
        recipe = dataclasses.replace(both.spec.recipe, layers=("whole",))
        stored = torch.stack(sums)[:, None].half().numpy()
        spec = dataclasses.replace(both.spec, recipe=recipe, digest="")
        return latents(adapter, MotionCard(spec, both.tensors | {"positions": stored}))

    for at in range(len(noise)):
        first = [camera + one if i <= at else 1.5 * camera for i in range(len(noise))]
        assert torch.equal(latents(adapter, below(noise[at], 1.5, 0.0)), each(first))
    assert torch.equal(latents(adapter, below(0.5, 1.0, 1.0)), latents(adapter, both))
    card = below(noise[0], 2.0, 0.0)
    rest = [one / 2 if i == 0 else 0 * one for i in range(len(noise))]
    assert torch.equal(latents(adapter, card, camera=0.0, subject=0.5), each(rest))
    rest = [camera / 2 if i == 0 else camera for i in range(len(noise))]
    assert torch.equal(latents(adapter, card, camera=0.5, subject=0.0), each(rest))
    assert not torch.equal(latents(adapter, card), latents(adapter, both))


def test_requests_and_videos_take_the_strengths_of_layers():
    adapter = tiny_adapter()
    card = trained(adapter, "offset")
    torch.manual_seed(0)
    camera, one = (torch.randn(adapter.grid.tokens, 3) for _ in range(2))
    both = layered(card, ("camera", "subject"), [camera, one])
    [off] = generate(adapter, [PROMPT], [3], card=both, camera=0.0)
    [only] = generate(adapter, [PROMPT], [3], card=layered(card, ("whole",), [one]))
    assert np.array_equal(off.frames, only.frames)
    request = ApplyRequest(prompts=(PROMPT,), camera=0.0)
    assert request.seeds_for(both.spec)
    [asked] = request.generate(adapter, both, [PROMPT], [3])
    assert np.array_equal(asked.frames, off.frames)
    plain = ApplyRequest(prompts=(PROMPT,), camera=0.0, no_card=True)
    assert plain.seeds_for(card.spec)
    assert len(list(plain.generate(adapter, card, [PROMPT], [3]))) == 1


def test_parts_that_a_card_does_not_have_are_refused_everywhere(tmp_path):
    adapter = tiny_adapter()
    offsets, angles = trained(adapter, "offset"), trained(adapter, "angle")
    latent = dataclasses.replace(CONFIG, mode="latents")
    replayed = list(train(adapter, moving_square(), latent))[-1].card
    spec, _ = renewed(offsets)
    only = dataclasses.replace(spec, recipe=dataclasses.replace(spec.recipe, layers=("camera",)))
    cases = (
        (offsets, {"camera": 0.5}, "--camera .*its layers are whole"),
        (angles, {"camera": 0.5}, "--camera .*it has no layers"),
        (angles, {"subject": 1.0}, "--subject .*it has no layers"),
        (MotionCard(only, offsets.tensors), {"subject": 0.5}, "its layers are camera"),
        (offsets, {"phase": 0.5}, "--phase with a card that holds no phase, got 0.5"),
        (offsets, {"subject": float("nan")}, "finite"),
        (replayed, {"camera": 0.5}, "--camera"),
    )
    for card, parts, says in cases:
        if card.spec.kind == "positions":
            with pytest.raises(UsageError, match=says), applied(adapter, card, **parts):
                pass
        with pytest.raises(UsageError, match=says):
            list(generate(adapter, [PROMPT], [3], card=card, **parts))
        with pytest.raises(UsageError, match=says):
            ApplyRequest(prompts=(PROMPT,), **parts).seeds_for(card.spec)
    with applied(adapter, offsets, phase=0.0):  # none of what is not there
        pass
    angles.save(tmp_path / "angles.safetensors")
    said = CliRunner().invoke(
        cli, ["apply", str(tmp_path / "angles.safetensors"), "--prompt", "x", "--camera", "0.5"]
    )
    assert said.exit_code == 2
    assert "pe show" in said.stderr


def test_what_is_not_said_is_as_trained():
    spec = trained(tiny_adapter(), "offset").spec
    recipe = dataclasses.replace(spec.recipe, layers=("camera", "subject", "subject-2"))
    three = dataclasses.replace(spec, recipe=recipe)
    assert layer_strengths(three, None, 0.5) == (1.0, 0.5, 0.5)
    assert layer_strengths(spec, 0.5, None) == (1.0,)
    bare = dataclasses.replace(recipe, layers=None, parametrisation="angle")
    assert layer_strengths(dataclasses.replace(spec, recipe=bare), None, None) is None


def test_a_path_that_is_the_cameras_goes_by_its_strength():
    """A pan that one path says: its layer is that of everything, and what moves is the camera."""
    spec = trained(tiny_adapter(), "offset").spec
    pans = MotionSpec(camera=((1.0, 0.0, 0.0, 1.0, 0.5, 0.0), STILL, STILL), subjects=())
    rests = MotionSpec(camera=(STILL,) * 3, subjects=())
    for motion, own in ((pans, "camera"), (rests, "subject")):
        reference = dataclasses.replace(spec.reference, motion=motion)
        of = dataclasses.replace(spec, reference=reference)
        strengths = {"camera": None, "subject": None} | {own: 0.0}
        assert layer_strengths(of, **strengths) == (0.0,)
        check_parts(of, **strengths, phase=None)
        (other,) = {"camera", "subject"} - {own}
        with pytest.raises(UsageError, match=f"Expected no --{other}") as said:
            check_parts(of, **({"camera": None, "subject": None} | {other: 0.0}), phase=None)
        assert f"turns the whole card up or down, and --{own} what it has." in said.value.hint
        assert phase_strength(of, 1.0, 0.0) == (1.0 if own == "camera" else 0.0)


def test_applying_by_name_takes_all_that_applying_takes():
    core, public = (inspect.signature(f).parameters for f in (apply.applied, pe_toolkit.applied))
    assert list(core) == list(public)
    assert [p.default for p in core.values()] == [p.default for p in public.values()]


def test_an_older_card_and_its_form_of_today_give_the_same_video():
    """Cards of 1.x hold a set for each guided step, and their mask in bytes."""
    adapter = tiny_adapter()
    new = trained(adapter, "angle")
    tensors = new.tensors | {
        "positions": new.tensors["positions"].repeat(new.guided_steps, 0),
        "flow_mask": new.mask.astype(np.uint8),
    }
    reference = dataclasses.replace(new.spec.reference, motion=None)
    spec = dataclasses.replace(new.spec, format_version="1.4", digest="", reference=reference)
    old = MotionCard(spec, tensors)
    [wanted] = generate(adapter, [PROMPT], [3], card=old)
    for card in (new, MotionCard(*renewed(old))):
        assert len(card.tensors["positions"]) == 1
        [made] = generate(adapter, [PROMPT], [3], card=card)
        assert np.array_equal(made.frames, wanted.frames)
    [plain] = generate(adapter, [PROMPT], [3], card=old, strength=0)
    assert not np.array_equal(plain.frames, wanted.frames)
