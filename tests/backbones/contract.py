"""What a backbone of a new family has to pass (docs/backbones.md).

    class TestMine(Contract):
        def make(self): return MyBackbone(a_tiny_pipeline(), a_row_of_defaults())

At a tiny size with random weights; `PROMPT` and `OTHER` must be prompts that its tokenizer knows.
Whoever needs more than one pipeline of a family (rotary and absolute, say) writes one class for
each.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch

from pe_toolkit.apply import applied, generate, replay
from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.backbones.contract import Backbone, KeysValues, Sampler
from pe_toolkit.backbones.families import FAMILIES, backbone_of
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card import MotionCard
from pe_toolkit.embedding import names
from pe_toolkit.errors import BackboneError, MismatchError, ResumeError, UsageError
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.training import TrainConfig, train
from tests.tiny import moving_square

PROMPT, OTHER = "a red circle", "a blue square"


class Contract:
    """Tests of the promises of `pe_toolkit.backbones.contract`, one each."""

    def make(self) -> Backbone:
        """A fresh backbone with a row of defaults; the same weights every time."""
        raise NotImplementedError

    @pytest.fixture
    def backbone(self) -> Backbone:
        return self.make()

    def test_it_has_all_that_the_contract_names(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])
        latents = backbone.encode(self.clip(backbone).frames).latents
        kv = backbone.keys_values(latents, 3, backbone.frames, *backbone.size)
        for have, promised in ((backbone, Backbone), (sampler, Sampler), (kv, KeysValues)):
            names = {n for n in (*vars(promised), *promised.__annotations__) if n[0] != "_"}
            assert {name for name in names if not hasattr(have, name)} == set()

    # Identity and sizes ---------------------------------------------------------------------------

    def test_its_family_is_in_the_table_and_its_pipeline_is_known_by_it(self, backbone):
        assert type(backbone_of(backbone.pipe)) is type(backbone)
        assert backbone_of(backbone) is backbone
        assert type(backbone.transformer).__name__ == FAMILIES[backbone.family].transformer

    def test_a_fingerprint_is_of_the_architecture(self, backbone):
        assert backbone.fingerprint() == self.make().fingerprint()
        assert backbone.fingerprint().startswith("sha256:")
        assert len(backbone.fingerprint()) == 71

    def test_defaults_are_a_row_that_the_backbone_can_serve(self, backbone):
        row = backbone.defaults()
        assert isinstance(row, Variant)
        assert row.positions == backbone.positions
        backbone.check_block(row.block)
        assert (row.frames, (row.width, row.height)) == (backbone.frames, backbone.size)
        assert type(backbone_of(backbone.pipe).defaults()) is Variant  # without a row, too

    def test_the_grid_counts_the_video_tokens(self, backbone):
        q, k = self.tapped(backbone)
        assert q.shape == k.shape
        assert q.shape[2] == backbone.grid.tokens
        assert q.shape[1] * q.shape[3] == backbone.channels

    def test_sizes_that_cannot_be_are_refused(self, backbone):
        width, height = backbone.size
        for frames, w, h in ((2, width, height), (backbone.frames, width + 1, height)):
            with pytest.raises(UsageError):
                backbone.grid_for(frames, w, h)

    # Refusals -------------------------------------------------------------------------------------

    def test_what_cannot_be_is_refused_before_any_work(self, backbone):
        backbone.check_prompt(PROMPT)
        for prompt in ("", "  ", "red " * (backbone.max_text_tokens + 1)):
            with pytest.raises(UsageError):
                backbone.check_prompt(prompt)
        for block in (-1, backbone.blocks):
            with pytest.raises(UsageError):
                backbone.check_block(block)
        with pytest.raises(UsageError):
            backbone.check_image(None if backbone.image_to_video else self.clip(backbone).frames[0])
        with pytest.raises(UsageError):
            backbone.timesteps(backbone.most_steps + 1)
        with pytest.raises(UsageError), backbone.scheduler_swapped("nothing of the kind"):
            pass
        backbone.check_decoder()
        backbone.check_trainable(compiled=False)

    # Clips and words ------------------------------------------------------------------------------

    def test_clips_come_back_in_their_size_and_always_the_same(self, backbone):
        clip = self.clip(backbone)
        latents = backbone.encode(clip.frames).latents
        assert torch.equal(latents, backbone.encode(clip.frames).latents)
        assert latents.ndim == 5
        assert latents.shape[0] == 1
        assert latents.shape[1] % backbone.grid.frames == 0
        assert latents.shape[3] % backbone.grid.height == 0
        frames = backbone.decode(latents, backbone.frames)
        assert frames.shape == clip.frames.shape
        assert frames.dtype == np.uint8

    def test_numbers_that_are_not_finite_are_refused(self, backbone):
        latents = backbone.encode(self.clip(backbone).frames).latents
        with pytest.raises(BackboneError):
            backbone.decode(latents * torch.nan, backbone.frames)

    def test_whoever_decodes_can_be_told_before(self, backbone):
        told = []
        with backbone.before_decoding(lambda: told.append(1)):
            backbone.decode(backbone.encode(self.clip(backbone).frames).latents, backbone.frames)
        assert told

    def test_each_prompt_has_its_text(self, backbone):
        both = backbone.encode_text([PROMPT, OTHER])
        assert len(both) == 2
        assert not torch.equal(both[0], both[1])
        torch.testing.assert_close(both[:1], backbone.encode_text([PROMPT]))

    # Generations ----------------------------------------------------------------------------------

    def test_the_sampler_is_the_pipeline_step_by_step(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])
        for index in range(len(sampler.times)):
            sampler.step(index)
        assert np.array_equal(
            backbone.decode(sampler.latents, backbone.frames), self.video(backbone)
        )

    def test_generations_side_by_side_do_not_see_each_other(self, backbone):
        both, one = (
            self.sampler(backbone, prompts, seeds)
            for prompts, seeds in (([OTHER, PROMPT], [5, 3]), ([PROMPT], [3]))
        )
        assert torch.equal(both.latents[1:], one.latents)
        torch.testing.assert_close(both.step(0)[1:], one.step(0), rtol=1e-4, atol=1e-4)

    def test_a_sampler_goes_on_from_its_state(self, backbone):
        first, second = (self.sampler(backbone, [PROMPT], [3]) for _ in range(2))
        first.step(0)
        first.step(1)
        state = {name: tensor.clone() for name, tensor in first.state().items()}
        second.restore({**state, "another": torch.zeros(1)})
        assert torch.equal(first.step(2), second.step(2))

    def test_noise_levels_fall_from_noise_to_nearly_nothing(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])
        assert sampler.noise[0] > 0.95
        assert all(0 <= b < a <= 1 for a, b in zip(sampler.noise, sampler.noise[1:], strict=False))
        assert sampler.noise == [backbone.noise_level(t) for t in sampler.times]
        assert sampler.times == backbone.timesteps(len(sampler.times))
        assert all(isinstance(t, int) for t in sampler.times)

    def test_the_first_latents_are_noise(self, backbone):
        noise = self.sampler(backbone, [PROMPT], [3]).initial_noise()
        assert float(noise.std()) == pytest.approx(1, abs=0.1)

    def test_a_generation_can_begin_with_something_else(self, backbone):
        seen = []

        def change(noise: torch.Tensor) -> torch.Tensor:
            seen.append(noise)
            return torch.zeros_like(noise)

        plain = self.video(backbone)
        with backbone.beginning_with(change):
            assert not np.array_equal(self.video(backbone), plain)
        assert np.array_equal(self.video(backbone), plain)
        torch.testing.assert_close(seen[0], self.sampler(backbone, [PROMPT], [3]).initial_noise())

    def test_what_comes_between_steps_is_told_the_next_one(self, backbone):
        seen = []

        def act(t: int | None, latents: torch.Tensor) -> torch.Tensor:
            seen.append((t, tuple(latents.shape)))
            return latents

        self.video(backbone, callback_on_step_end=backbone.step_callback(act))
        shape = tuple(self.sampler(backbone, [PROMPT], [3]).latents.shape)
        assert seen == [(t, shape) for t in (*backbone.timesteps(self.steps(backbone))[1:], None)]

    def test_every_pass_says_its_grid(self, backbone):
        seen = []
        with backbone.watching_grid(seen.append):
            self.video(backbone)
        assert set(seen) == {backbone.grid}
        assert len(seen) >= self.steps(backbone)

    # Queries and keys -----------------------------------------------------------------------------

    def test_a_tapped_pass_stops_there(self, backbone):
        calls = []
        handles = [
            module.register_forward_hook(lambda *_: calls.append(1))
            for module in backbone.transformer.modules()
        ]
        counts = []
        for block in range(backbone.blocks):
            calls.clear()
            self.tapped(backbone, block)
            counts.append(len(calls))
        for handle in handles:
            handle.remove()
        assert counts == sorted(set(counts))

    def test_features_are_what_the_block_gives_on(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])
        latents = sampler.latents.float().clone().requires_grad_()
        calls = []
        handles = [
            module.register_forward_hook(lambda *_: calls.append(1))
            for module in backbone.transformer.modules()
        ]
        counts = []
        for block in range(backbone.blocks):
            calls.clear()
            found = sampler.features(1, latents, slice(0, 1), block)
            assert found.shape == (1, backbone.grid.tokens, backbone.channels)
            counts.append(len(calls))
        for handle in handles:
            handle.remove()
        assert counts == sorted(set(counts))  # each pass stops behind its block
        (gradient,) = torch.autograd.grad((found**2).sum(), latents)
        assert bool(gradient.isfinite().all())
        assert bool(gradient.abs().sum() > 0)

    def test_features_of_a_reference(self, backbone):
        clip, size = self.clip(backbone), (backbone.frames, *backbone.size)
        latents, image = backbone.encode(clip.frames).latents, backbone.encode_image(clip.frames)
        found = [backbone.reference_features(latents, block, *size, image) for block in (0, 1, 1)]
        assert found[0].shape == (1, backbone.grid.tokens, backbone.channels)
        assert not found[0].requires_grad
        assert torch.equal(found[1], found[2])
        assert not torch.equal(found[0], found[1])

    def test_positions_reach_features(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])
        plain = sampler.features(1, sampler.latents, slice(0, 1), 1)
        for form in self.forms(backbone):
            delta = (0.1 * torch.randn(form.shape)).requires_grad_()
            with backbone.positions_from(lambda _, f=form, d=delta: f.embed(d)):
                found = sampler.features(1, sampler.latents, slice(0, 1), 1)
            assert not torch.equal(found, plain)
            (gradient,) = torch.autograd.grad((found**2).sum(), delta)
            assert bool(gradient.abs().sum() > 0)

    def test_queries_and_keys_have_gradients_in_the_latents(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])
        latents = sampler.latents.float().clone().requires_grad_()
        q, k = sampler.queries_and_keys(0, latents, slice(0, 1), 1)
        (gradient,) = torch.autograd.grad(q.sum() + (k**2).sum(), latents)
        assert bool(gradient.abs().sum() > 0)

    def test_recomputation_changes_no_gradient(self, backbone):
        sampler = self.sampler(backbone, [PROMPT], [3])

        def gradient() -> torch.Tensor:
            latents = sampler.latents.float().clone().requires_grad_()
            q, k = sampler.queries_and_keys(0, latents, slice(0, 1), backbone.blocks - 1)
            return torch.autograd.grad((q * k).sum(), latents)[0]

        plain = gradient()
        backbone.transformer.enable_gradient_checkpointing()
        torch.testing.assert_close(gradient(), plain)

    def test_a_reference_is_read_at_several_blocks_and_by_content(self, backbone):
        clip, size = self.clip(backbone), (backbone.frames, *backbone.size)
        latents, image = backbone.encode(clip.frames).latents, backbone.encode_image(clip.frames)

        def read(*reading: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return backbone.reference_queries_and_keys(latents, Reading(*reading), *size, image)

        both, second = read((0, 1)), read((1,))
        assert not both[0].requires_grad
        assert both[0].shape[1] == 2 * second[0].shape[1]
        assert torch.equal(both[1][:, second[1].shape[1] :], second[1])
        by_content = read((1,), "content", 0)
        assert by_content[0].shape == second[0].shape
        if backbone.positions == "rotary":  # absolute positions are in the tokens themselves
            assert not torch.equal(by_content[0], second[0])
            torch.testing.assert_close(by_content[0].norm(dim=-1), second[0].norm(dim=-1))

    # Positions, keys and values in ----------------------------------------------------------------

    def forms(self, backbone: Backbone) -> list[Any]:
        size = (backbone.frames, *backbone.size)
        return [backbone.form(name, *size) for name in names(backbone.positions)]

    def test_a_delta_of_zero_is_the_model_itself_bit_for_bit(self, backbone):
        plain = self.tapped(backbone)
        for form in self.forms(backbone):
            with backbone.positions_from(lambda _, f=form: f.embed(torch.zeros(f.shape))):
                assert all(map(torch.equal, self.tapped(backbone), plain))

    def test_positions_reach_queries_and_keys_and_give_gradients(self, backbone):
        plain = self.tapped(backbone)
        for form in self.forms(backbone):
            delta = (0.1 * torch.randn(form.shape)).requires_grad_()
            with backbone.positions_from(lambda _, f=form, d=delta: f.embed(d)):
                q, k = self.tapped(backbone)
            assert not torch.equal(q, plain[0])
            assert not torch.equal(k, plain[1])
            (gradient,) = torch.autograd.grad((q * k).sum(), delta)
            assert bool(gradient.isfinite().all())
            assert bool(gradient.abs().sum() > 0)
        assert all(map(torch.equal, self.tapped(backbone), plain))  # and leave nothing behind

    def test_offsets_say_in_every_form_the_same(self, backbone):
        """Coordinates, evaluated by the family's own frequencies, at whole tokens and between."""
        offsets = torch.randn(backbone.grid.tokens, 3)
        seen = []
        for form in self.forms(backbone):
            delta = form.from_offsets(offsets)
            assert tuple(delta.shape) == tuple(form.shape)
            with backbone.positions_from(lambda _, f=form, d=delta: f.embed(d)):
                seen.append(self.tapped(backbone))
        for one in seen[1:]:
            for have, want in zip(one, seen[0], strict=True):
                torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-5)

    def test_gradients_of_coordinates_are_those_of_the_pass(self, backbone):
        form = backbone.form("offset", backbone.frames, *backbone.size)
        delta = (0.3 * torch.randn(form.shape)).requires_grad_()
        weights = torch.randn(2, *self.tapped(backbone)[0].shape)

        def value(at: torch.Tensor) -> torch.Tensor:
            with backbone.positions_from(lambda _: form.embed(at)):
                q, k = self.tapped(backbone)
            return (q * weights[0] + k * weights[1]).double().sum()

        (gradient,) = torch.autograd.grad(value(delta), delta)
        for _ in range(3):
            step = 1e-2 * torch.randn(form.shape)
            with torch.no_grad():
                change = value(delta + step) - value(delta - step)
            assert float(change) == pytest.approx(2 * float((gradient * step).sum()), rel=0.02)

    def test_moving_every_token_alike_moves_none_away_from_another(self, backbone):
        for form in self.forms(backbone):
            still = form.from_offsets(torch.zeros(backbone.grid.tokens, 3))
            assert still.shape == torch.Size(form.shape)
            assert float(still.abs().max()) < 1e-5
            if backbone.positions != "rotary":
                continue
            with backbone.positions_from(
                lambda _, f=form: f.embed(f.from_offsets(torch.ones(backbone.grid.tokens, 3)))
            ):
                q, k = self.tapped(backbone, 0)
            own = self.tapped(backbone, 0)
            torch.testing.assert_close(
                q @ k.transpose(-1, -2), own[0] @ own[1].transpose(-1, -2), rtol=1e-3, atol=1e-3
            )

    def test_positions_reach_the_pipeline_and_none_of_them_is_the_model_itself(self, backbone):
        plain, form = self.video(backbone), self.forms(backbone)[0]
        seen = []
        with backbone.positions_from(lambda t: seen.append(int(t.flatten()[0]))):
            assert np.array_equal(self.video(backbone), plain)
        assert sorted(set(seen), reverse=True) == backbone.timesteps(self.steps(backbone))
        moved = form.embed(3 * torch.randn(form.shape))
        with backbone.positions_from(lambda _: moved):
            assert not np.array_equal(self.video(backbone), plain)
        assert np.array_equal(self.video(backbone), plain)

    def test_keys_and_values_of_a_reference_act_where_they_guide(self, backbone):
        clip, size = self.clip(backbone), (backbone.frames, *backbone.size)
        latents, image = backbone.encode(clip.frames).latents, backbone.encode_image(clip.frames)
        kv, plain = backbone.keys_values(latents, 3, *size, image), self.video(backbone)
        with kv.injected(lambda t: False):
            assert np.array_equal(self.video(backbone), plain)
        with kv.injected(lambda t: True):
            changed = self.video(backbone)
        assert not np.array_equal(changed, plain)
        assert np.array_equal(self.video(backbone), plain)
        with pytest.raises(MismatchError):
            kv.follow(latents[:, :, :, 1:])

    # Cards ----------------------------------------------------------------------------------------

    def test_a_card_is_trained_saved_and_applied(self, backbone, tmp_path):
        weights = {name: p.clone() for name, p in backbone.transformer.named_parameters()}
        before = copy.copy(backbone.pipe.scheduler.__dict__)
        card = self.card(backbone)
        assert all(torch.equal(p, weights[n]) for n, p in backbone.transformer.named_parameters())
        assert before.keys() == backbone.pipe.scheduler.__dict__.keys()
        assert card.spec.backbone.family == backbone.family
        card.save(tmp_path / "card.safetensors")
        card = MotionCard.load(tmp_path / "card.safetensors")
        assert card.guided_steps >= 1

        [made] = generate(backbone, [OTHER], [9], card=card, image=self.image(backbone))
        [still] = generate(
            backbone, [OTHER], [9], card=card, strength=0, image=self.image(backbone)
        )
        assert made.guided_steps == card.guided_steps
        assert made.frames.shape == (backbone.frames, *backbone.size[::-1], 3)
        assert not np.array_equal(made.frames, still.frames)
        with applied(backbone.pipe, card) as log:  # the pipeline itself is known by the table
            self.video(backbone)
        assert log.guided_steps == card.guided_steps
        ReferenceMotion.of_card(backbone, card).compare(made.frames)

    def test_a_start_is_the_same_motion_in_every_form(self, backbone):
        """One set of positions each, and frames that differ by what half precision rounds."""
        frames = []
        for name in names(backbone.positions):
            card = self.card(backbone, parametrisation=name, start="flow", inner_steps=0)
            assert len(card.tensors["positions"]) == 1
            [made] = generate(backbone, [OTHER], [9], card=card, image=self.image(backbone))
            frames.append(made.frames.astype(int))
        for other in frames[1:]:
            assert np.abs(other - frames[0]).max() <= 2

    def test_losses_fall_in_coordinates(self, backbone):
        rates = (0.05, 0.05)
        card = self.card(
            backbone, parametrisation="offset", inner_steps=12, learning_rates=rates, start="zero"
        )
        first, last = zip(*card.spec.training.loss, strict=True)
        assert sum(last) < sum(first)
        assert card.spec.recipe.layers == ("whole",)
        assert card.tensors["positions"].shape[1:] == (1, backbone.grid.tokens, 3)

    def test_losses_fall(self, backbone):
        card = self.card(backbone, inner_steps=12, learning_rates=(0.05, 0.05), start="zero")
        first, last = zip(*card.spec.training.loss, strict=True)
        assert sum(last) < sum(first)

    def test_a_latents_card_gives_the_video_that_it_was_trained_with(self, backbone):
        *events, last = train(
            backbone, self.clip(backbone),
            TrainConfig(mode="latents", prompts=(PROMPT,), seed=3, steps=self.steps(backbone),
                        inner_steps=2, learning_rates=(0.05, 0.05), preview=True),
        )  # fmt: skip
        shown = next(e.frames for e in events if type(e).__name__ == "PreviewFrames")
        image = self.image(backbone)
        [made] = generate(backbone, [PROMPT], [3], card=last.card, image=image)
        assert np.array_equal(made.frames, shown)
        with replay(backbone.pipe, last.card):  # by the table
            pass

    def test_an_interrupted_training_goes_on_to_the_same_card(self, backbone, tmp_path):
        state, config = tmp_path / "state", self.config(backbone)
        whole = list(train(backbone, self.clip(backbone), config))[-1].card
        running = train(self.make(), self.clip(backbone), config, state=state)
        for event in running:
            if type(event).__name__ == "Saved":
                break
        running.close()
        resumed = list(train(self.make(), self.clip(backbone), config, state=state, resume=True))
        assert resumed[-1].card.digest != ""
        for name, tensor in whole.tensors.items():
            assert np.array_equal(resumed[-1].card.tensors[name], tensor)
        other = TrainConfig(steps=self.steps(backbone) + 1)
        with pytest.raises(ResumeError):
            list(train(self.make(), self.clip(backbone), other, state=state, resume=True))

    def test_the_published_recipe_with_keys_and_values(self, backbone):
        card = self.card(backbone, recipe="paper", kv=True, samples=1)
        clip, image = self.clip(backbone), self.image(backbone)
        [made] = generate(backbone, [OTHER], [9], card=card, kv_from=clip, image=image)
        assert made.guided_steps == card.guided_steps
        with pytest.raises(UsageError):
            next(generate(backbone, [OTHER], [9], card=card, image=image))

    def test_the_phase_of_a_reference_moves_the_noise(self, backbone):
        card = self.card(backbone, phase=(2.83, 2.0), inner_steps=0, start="zero")
        image = self.image(backbone)
        [made] = generate(backbone, [OTHER], [9], card=card, image=image)
        [plain] = generate(backbone, [OTHER], [9], card=card, strength=0, image=image)
        assert not np.array_equal(made.frames, plain.frames)

    # Helpers --------------------------------------------------------------------------------------

    @staticmethod
    def steps(backbone: Backbone) -> int:
        return backbone.defaults().steps

    @staticmethod
    def clip(backbone: Backbone) -> Any:
        return moving_square(backbone.frames, backbone.size[0])

    def image(self, backbone: Backbone) -> Any:
        return self.clip(backbone).frames[0] if backbone.image_to_video else None

    def how(self, backbone: Backbone) -> dict[str, Any]:
        width, height = backbone.size
        return {
            "steps": self.steps(backbone), "guidance_scale": 3.0, "dynamic_cfg": False,
            "frames": backbone.frames, "width": width, "height": height, "negative_prompt": "",
        }  # fmt: skip

    def sampler(self, backbone: Backbone, prompts: list[str], seeds: list[int]) -> Any:
        image = self.image(backbone)
        return backbone.sampler(prompts, seeds, **self.how(backbone), image=image)

    def video(self, backbone: Backbone, **more: Any) -> Any:
        """PROMPT with seed 3: uint8 `(F, H, W, 3)`."""
        generator = torch.Generator("cpu").manual_seed(3)
        video = backbone.video(PROMPT, **self.how(backbone), generator=generator, **more)
        return np.rint(video * 255).astype(np.uint8)

    def tapped(self, backbone: Backbone, block: int = 1) -> Any:
        sampler = self.sampler(backbone, [PROMPT], [3])
        return sampler.queries_and_keys(1, sampler.latents, slice(0, 1), block)

    def config(self, backbone: Backbone, **changes: Any) -> TrainConfig:
        usual = {"steps": self.steps(backbone), "samples": 2, "inner_steps": 2, "seed": 3}
        return TrainConfig(**usual | changes)

    def card(self, backbone: Backbone, **changes: Any) -> MotionCard:
        with contextlib.closing(
            train(backbone, self.clip(backbone), self.config(backbone, **changes))
        ) as events:
            return list(events)[-1].card
