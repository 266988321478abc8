"""The CogVideoX adapter: our attention equals the stock one, the tap, sizes, published shapes on
meta.
"""

from __future__ import annotations

import dataclasses
import pickle
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed, get_3d_sincos_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

from pe_toolkit.backbones import VARIANTS, CogVideoXAdapter, load_backbone, variant_for
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.loading import device, nearest_dtype
from pe_toolkit.backbones.machine import memory, placement
from pe_toolkit.embedding import form_class, names
from pe_toolkit.embedding.absolute import SincosTable, sincos_3d
from pe_toolkit.embedding.rotary import RotaryAngle, RotaryTable, steps
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.training import TrainConfig, train
from tests.tiny import FRAMES, SIDE, moving_square, tiny_adapter, tiny_pipe, tiny_variant


def inputs(adapter, batch=2):
    torch.manual_seed(1)
    shape = adapter.latent_shape(FRAMES, SIDE, SIDE)
    return torch.randn(batch, *shape), torch.randn(batch, 8, 16), torch.tensor([500] * batch)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_our_processor_equals_the_stock_one(positions):
    adapter = tiny_adapter(positions)
    x, text, t = inputs(adapter)
    rotary = adapter.base_positions(FRAMES, SIDE, SIDE) if positions == "rotary" else None
    with torch.no_grad():
        stock = adapter.transformer(x, text, t, image_rotary_emb=rotary, return_dict=False)[0]
        with hooks.processors(adapter.transformer):
            ours = adapter.transformer(x, text, t, image_rotary_emb=rotary, return_dict=False)[0]
    assert torch.equal(stock, ours)


def test_gradients_reach_positions_in_every_form():
    for positions, form in (("rotary", "angle"), ("rotary", "table"), ("absolute", "table")):
        adapter = tiny_adapter(positions)
        x, text, _ = inputs(adapter)
        embedding = adapter.form(form, FRAMES, SIDE, SIDE)
        delta = torch.zeros(embedding.shape, requires_grad=True)
        with hooks.positions(
            adapter.transformer, positions, lambda _, e=embedding, d=delta: e.embed(d)
        ):
            rotary = adapter.base_positions(FRAMES, SIDE, SIDE) if positions == "rotary" else None
            q, k = adapter.queries_and_keys(x, text, 500, 2, rotary)
        (q * k).sum().backward()
        assert delta.grad is not None
        assert delta.grad.abs().sum() > 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_tap_sees_what_the_stock_processor_computes_and_stops_there(checkpointing):
    adapter = tiny_adapter()
    if checkpointing:
        adapter.transformer.enable_gradient_checkpointing()
    x, text, _ = inputs(adapter)
    rotary = adapter.base_positions(FRAMES, SIDE, SIDE)
    seen = {}
    block = adapter.transformer.transformer_blocks[1]
    handle = block.attn1.register_forward_pre_hook(
        lambda m, a, kw: seen.update(kw), with_kwargs=True
    )
    later = []
    adapter.transformer.transformer_blocks[2].register_forward_pre_hook(lambda *_: later.append(1))
    q, k = adapter.queries_and_keys(x, text, 500, 1, rotary)
    handle.remove()
    assert not later
    assert q.shape == k.shape == (2, 2, adapter.grid.tokens, 16)
    with torch.no_grad():
        joint = torch.cat([seen["encoder_hidden_states"], seen["hidden_states"]], 1)
        raw = block.attn1.norm_q(block.attn1.to_q(joint).view(2, -1, 2, 16).transpose(1, 2))[
            :, :, 8:
        ]
        from diffusers.models.embeddings import apply_rotary_emb

        assert torch.equal(q, apply_rotary_emb(raw, rotary))
    assert type(block.attn1.processor).__name__ == "CogVideoXAttnProcessor2_0"
    (q.sum() + k.sum()).backward()


def test_embeddings_are_exact_at_zero_and_angles_stay_rotations():
    adapter = tiny_adapter()
    base = adapter.base_positions(FRAMES, SIDE, SIDE)
    for form in (RotaryAngle(base, adapter.grid), RotaryTable(base, adapter.grid)):
        for tables in form.embed(torch.zeros(form.shape)):
            assert all(torch.equal(a, b) for a, b in zip(tables, base, strict=True))
    form = RotaryAngle(base, adapter.grid)
    (cos, sin), _ = form.embed(torch.randn(form.shape))
    torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos))


@pytest.mark.parametrize(("width", "height"), [(SIDE + 8, SIDE), (SIDE, SIDE + 8)])
def test_sizes_beyond_the_positions_of_1_5_are_refused(width, height):
    adapter = CogVideoXAdapter(tiny_pipe(patch_size_t=2), tiny_variant())
    for ask in (adapter.latent_shape, adapter.grid_for, adapter.base_positions):
        with pytest.raises(UsageError, match=f"up to {SIDE}x{SIDE} pixels.*got {width}x{height}"):
            ask(FRAMES, width, height)
        ask(FRAMES, SIDE, SIDE)
    with pytest.raises(UsageError, match=f"up to {SIDE}x{SIDE} pixels"):
        list(train(adapter, moving_square(side=SIDE + 8), TrainConfig(samples=1)))
    tiny_adapter().base_positions(FRAMES, width, height)  # 1.0 stretches its positions


def test_offsets_are_positions_of_other_tokens():
    """A token that pretends to sit one column to the right gets that token's own embedding."""
    one_five = CogVideoXAdapter(tiny_pipe(patch_size_t=2), tiny_variant())
    interpolated = tiny_adapter("absolute")
    interpolated.transformer.register_to_config(spatial_interpolation_scale=1.875)
    interpolated.transformer.patch_embed.spatial_interpolation_scale = 1.875
    for adapter in (tiny_adapter(), one_five, tiny_adapter("absolute"), interpolated):
        for frames, width, height in ((FRAMES, SIDE, SIDE), (2 * FRAMES - 1, SIDE // 2, SIDE)):
            grid, base = (
                find(frames, width, height) for find in (adapter.grid_for, adapter.base_positions)
            )
            for name in names(adapter.positions):
                form = adapter.form(name, frames, width, height)
                for axis, stride in enumerate((grid.per_frame, grid.width, 1)):
                    offsets = torch.zeros(grid.tokens, 3)
                    offsets[0, axis] = 1
                    made = form.embed(form.from_offsets(offsets))
                    for have, own in (
                        zip(made[0], base, strict=True)
                        if adapter.positions == "rotary"
                        else [(base + made, base)]
                    ):
                        torch.testing.assert_close(have[0], own[stride], atol=1e-5, rtol=0)
                        torch.testing.assert_close(have[1:], own[1:], atol=1e-5, rtol=0)


def test_rotary_steps_are_read_off_stretched_tables():
    base = get_3d_rotary_pos_embed(64, ((0, 0), (4, 12)), (8, 8), 3, device="cpu")
    assert steps(base, TokenGrid(3, 8, 8)) == pytest.approx((1.0, 0.5, 1.5), abs=1e-5)
    base = get_3d_rotary_pos_embed(64, ((0, 0), (30, 68)), (4, 5), 3, device="cpu")
    assert steps(base, TokenGrid(3, 4, 5)) == pytest.approx((1.0, 7.5, 13.6), abs=1e-4)


@pytest.mark.parametrize(
    "grid", [(13, 30, 45), (13, 15, 22), (3, 15, 23), (3, 8, 12), (3, 45, 30), (3, 20, 20)]
)
def test_rotary_steps_without_the_model(grid):
    crop = get_resize_crop_region_for_grid(grid[1:], 45, 30)
    base = get_3d_rotary_pos_embed(64, crop, grid[1:], grid[0], device="cpu")
    found = architectures.coordinate_steps(VARIANTS["cogvideox-5b"], grid)
    assert found == pytest.approx(steps(base, TokenGrid(*grid)), abs=1e-4)
    found = architectures.coordinate_steps(VARIANTS["cogvideox1.5-5b"], grid)
    assert found == (1.0, 1.0, 1.0)  # `grid_type="slice"`


def test_sincos_equals_diffusers():
    ours_grid = torch.stack(
        torch.meshgrid(*[torch.arange(n) for n in (3, 4, 5)], indexing="ij"), -1
    ).reshape(-1, 3)
    theirs = get_3d_sincos_pos_embed(32, (5, 4), 3, output_type="pt").flatten(0, 1)
    torch.testing.assert_close(
        sincos_3d(ours_grid.double(), 32), theirs.double(), atol=1e-5, rtol=0
    )


def test_forms_say_why_they_cannot():
    with pytest.raises(UnsupportedError, match="angle"):
        form_class("absolute", "angle")
    with pytest.raises(UsageError, match="'table' or 'angle' or 'offset'"):
        form_class("rotary", "places")
    assert form_class("absolute", "table") is SincosTable


def test_clips_round_trip_in_shape_and_sizes_are_checked():
    adapter = tiny_adapter()
    latents = adapter.encode_clip(moving_square().frames)
    assert tuple(latents.shape) == (1, 3, 4, 8, 8)
    assert adapter.decode(latents, FRAMES).shape == (FRAMES, SIDE, SIDE, 3)
    for frames, width, height in (
        (7, 32, 32),
        (5, 32, 32),
        (20, 32, 32),
        (1, 32, 32),
        (9, 30, 32),
        (9, 32, 4),
    ):
        with pytest.raises(UsageError):
            adapter.latent_shape(frames, width, height)


def test_the_papers_24_frames_make_six_latent_frames_and_come_back():
    adapter = tiny_adapter()
    frames = moving_square(24).frames
    latents = adapter.encode_clip(frames)
    assert latents.shape[1] == adapter.latent_shape(24, SIDE, SIDE)[0] == 6
    assert adapter.decode(latents, 24).shape[0] == 24


def test_other_pipelines_are_refused():
    class Other:
        transformer = torch.nn.Linear(1, 1)

    with pytest.raises(UnsupportedError, match="CogVideoX"):
        CogVideoXAdapter(Other())


def in_the_cache(hub_id, pipe):
    """A pipeline where the Hub's cache would keep the checkpoint of that name."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    pipe.save_pretrained(folder / "snapshots" / ("0" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("cogvideox-2b", "ddim"),
        ("cogvideox-5b", "dpm"),
        ("cogvideox1.5-5b", "ddim"),  # as it is published
        ("cogvideox-2b", "dpm"),
        ("zai-org/CogVideoX-5b", "ddim"),  # its owner's other name
    ],
)
def test_a_published_checkpoint_gets_the_scheduler_its_authors_recommend(name, saved, monkeypatch):
    monkeypatch.setattr(device, "check_device", lambda *_: None)  # no GPU here
    row = variant_for(name)
    pipe = tiny_pipe(row.positions, saved)
    pipe.scheduler.register_to_config(timestep_spacing="linspace", beta_start=0.001)
    in_the_cache(name if "/" in name else row.hub_id, pipe)
    said = []
    adapter = load_backbone(name, device="cpu", on_event=said.append)
    scheduler = adapter.pipe.scheduler
    assert type(scheduler).__name__ == row.scheduler
    assert scheduler.config.timestep_spacing == "trailing"
    # What belongs to the weights stays the checkpoint's.
    assert scheduler.config.beta_start == 0.001
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.rescale_betas_zero_snr
    assert not [line for line in said if "scheduler" in line.lower()]


def test_schedulers_that_are_the_users_stay(tmp_path):
    pipe = tiny_pipe("rotary", "ddim")
    before = pipe.scheduler
    assert CogVideoXAdapter(pipe, variant_for("cogvideox-5b")).pipe.scheduler is before
    pipe.save_pretrained(tmp_path / "CogVideoX-5b")
    folder = load_backbone(str(tmp_path / "CogVideoX-5b"), device="cpu")
    assert type(folder.pipe.scheduler) is type(before)
    bundled = load_backbone("bundled", device="cpu")
    assert type(bundled.pipe.scheduler).__name__ == VARIANTS["bundled"].scheduler


@pytest.mark.parametrize(("positions", "dtype"), [("rotary", "bfloat16"), ("absolute", "float16")])
def test_a_folder_is_loaded_on_a_gpu_as_its_kind_is_published(positions, dtype, tmp_path):
    tiny_pipe(positions).transformer.save_pretrained(tmp_path / "transformer")
    for place, expected in (("cuda", dtype), ("cpu", None)):
        assert nearest_dtype(str(tmp_path), torch.device(place)) == expected
    # Loading says what is wrong with it.
    assert nearest_dtype(str(tmp_path / "none"), torch.device("cuda")) is None


def test_dynamic_guidance_goes_with_dpm():
    """The authors' own script: with DDIM it should be off."""
    for row in VARIANTS.values():
        assert row.dynamic_cfg == (row.scheduler == CogVideoXDPMScheduler.__name__), row.name


def test_every_default_has_a_source():
    fields = {field.name for field in dataclasses.fields(Variant)} - {"name", "hub_id", "sources"}
    paper = "arxiv.org/abs/2412.07776"
    method = ("block", "guided_range", "tau", "mask", "inner_steps", "learning_rates")
    for row in VARIANTS.values():
        assert set(row.sources) == fields, row.name
        for name, source in row.sources.items():
            assert len(source) > 20 or source == "docs/experiments.md", (row.name, name)
        if row.bundled:
            continue
        ran_by_the_paper = row.name in ("cogvideox-2b", "cogvideox-5b")
        for name in method:
            taken_over = "not measured" in row.sources[name]
            assert (paper in row.sources[name], taken_over) == (True, not ran_by_the_paper)
        for name in ("frames", "width", "height", "fps", "guidance_scale", "dtype"):
            assert f"https://huggingface.co/{row.hub_id}" in row.sources[name]
        for name in ("scheduler", "dynamic_cfg"):
            assert "https://github.com/THUDM/CogVideo" in row.sources[name]


def test_a_row_is_a_value():
    for row in VARIANTS.values():
        for copy in (pickle.loads(pickle.dumps(row)), deepcopy(row)):
            assert copy == row
            assert hash(copy) == hash(row)
        assert dataclasses.asdict(row)["sources"]["block"] == row.sources["block"]


def test_the_smallest_gpu_is_enough_by_the_memory_model():
    """What `sources` says of `min_gpu_gb`."""
    for row in VARIANTS.values():
        architecture = architectures.architecture_for(row)
        if architecture is None:
            continue
        request = memory.Request.of(row, guided=10)
        for task in ("train", "apply"):
            peak = placement.plan(architecture, request, task, None).peak("model")
            assert peak <= row.min_gpu_gb * 1e9, (row.name, task)


# Published configurations (transformer/config.json of each checkpoint), fields that differ from the
# defaults.
PUBLISHED = {
    "cogvideox-2b": {"num_layers": 30, "num_attention_heads": 30},
    "cogvideox-5b": {
        "num_layers": 42,
        "num_attention_heads": 48,
        "use_rotary_positional_embeddings": True,
    },
    "cogvideox1.5-5b": {
        "num_layers": 42,
        "num_attention_heads": 48,
        "use_rotary_positional_embeddings": True,
        "patch_size_t": 2,
        "sample_width": 170,
        "sample_height": 96,
        "sample_frames": 81,
        "patch_bias": False,
    },
}
GRIDS = {
    "cogvideox-2b": (13, 30, 45),
    "cogvideox-5b": (13, 30, 45),
    "cogvideox1.5-5b": (11, 48, 85),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_at_native_size_on_meta(name):
    variant = variant_for(name)
    with torch.device("meta"):
        transformer = CogVideoXTransformer3DModel(**PUBLISHED[name])
    pipe = tiny_pipe("rotary")
    vae = pipe.vae
    vae.register_to_config(latent_channels=16)
    pipe.register_modules(transformer=transformer)
    pipe.vae_scale_factor_spatial = 8
    adapter = CogVideoXAdapter(pipe, variant)
    grid = adapter.grid_for(variant.frames, variant.width, variant.height)
    assert tuple(grid) == GRIDS[name]
    heads = PUBLISHED[name]["num_attention_heads"]
    latents = torch.empty(
        1, *adapter.latent_shape(variant.frames, variant.width, variant.height), device="meta"
    )
    text = torch.empty(1, 226, 4096, device="meta")
    form = adapter.form(variant.parametrisation, variant.frames, variant.width, variant.height)
    delta = torch.zeros(form.shape, device="meta", requires_grad=True)
    value = delta
    if adapter.positions == "rotary":
        half = torch.empty(grid.tokens, 64, device="meta")
        value = type(form)((half, half), grid).embed(delta)
    with hooks.positions(transformer, adapter.positions, lambda _: value):
        q, k = adapter.queries_and_keys(latents, text, 999, variant.block, None)
    assert q.shape == k.shape == (1, heads, grid.tokens, 64)
    assert grid.tokens == q.shape[2]


def test_a_block_that_is_not_there_gets_one_that_is():
    """A model that no row names has the default of a published one, perhaps beyond its last."""
    for adapter, block in ((CogVideoXAdapter(tiny_pipe()), 1), (tiny_adapter(block=2), 2)):
        with pytest.raises(UsageError, match="a block from 0 to 2, got 20") as caught:
            adapter.check_block(20)
        assert f"--set block={block}" in caught.value.hint
        adapter.check_block(block)
        with pytest.raises(UsageError) as caught:
            adapter.check_block(-1)
        assert f"--set block={block}" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        tiny_adapter(block=20).check_block(20)
    assert "--set block=1" in caught.value.hint
