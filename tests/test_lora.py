"""LoRA weights under the names that people's files have; what is refused, and by which name."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pe_toolkit.acceleration.quantize import quantize
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.loading.lora import Lora, find
from pe_toolkit.backbones.loading.lora_keys import assign
from pe_toolkit.backbones.loading.lora_weights import LoraWarning, layers_of, load_loras, read_lora
from pe_toolkit.backbones.machine.offload import group_offload
from pe_toolkit.errors import DependencyError, UnsupportedError, UsageError
from tests.tiny import FRAMES, SIDE, tiny_pipe

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
RANK = 4
Weights = dict[str, torch.Tensor]


def plain(pipe: Any, *, rank: int = RANK, attention: bool = False, seed: int = 1) -> Weights:
    """Matrices for the attention, or for every layer, with diffusers' names without the prefix."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, weight in layers_of(pipe.transformer).items():
        if attention and not name.endswith(ATTENTION):
            continue
        out, *rest = weight.shape
        down = torch.randn(rank, *rest, generator=generator) * 0.3
        up = torch.randn(out, rank, *[1] * (len(rest) - 1), generator=generator) * 0.3
        made |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return made


def prefixed(prefix: str) -> Callable[[str], str]:
    return lambda key: prefix + key


def old(key: str) -> str:
    """As diffusers 0.20 saved it."""
    for layer in ATTENTION:
        short = layer.removesuffix(".0")
        for letter, word in (("A", "down"), ("B", "up")):
            key = key.replace(
                f".{layer}.lora_{letter}.weight", f".processor.{short}_lora.{word}.weight"
            )
    return "transformer." + key


def flat(prefix: str) -> Callable[[str], str]:
    """As kohya, and CogVideoX-Fun with two underscores."""

    def rename(key: str) -> str:
        for letter, word in (("A", "down"), ("B", "up")):
            if key.endswith(end := f".lora_{letter}.weight"):
                return prefix + key.removesuffix(end).replace(".", "_") + f".lora_{word}.weight"
        raise AssertionError(key)

    return rename


def with_adapter_name(key: str) -> str:
    return "base_model.model." + key.replace(".weight", ".default.weight")


FORMATS = {
    "diffusers": prefixed("transformer."),
    "PEFT": prefixed("base_model.model."),
    "PEFT in training": with_adapter_name,
    "ComfyUI": prefixed("diffusion_model."),
    "ComfyUI, whole": prefixed("model.diffusion_model."),
    "none": prefixed(""),
    "kohya": flat("lora_unet_"),
    "CogVideoX-Fun": flat("lora_unet__"),
    "older diffusers": lambda key: (
        "transformer." + key.replace("lora_A", "lora.down").replace("lora_B", "lora.up")
    ),
}


def write(path: Path, weights: Weights, metadata: dict[str, str] | None = None) -> str:
    save_file({key: value.contiguous() for key, value in weights.items()}, path, metadata)
    return str(path)


def generate(pipe: Any) -> np.ndarray[Any, Any]:
    made = pipe(
        "a red circle", num_frames=FRAMES, height=SIDE, width=SIDE, num_inference_steps=2,
        max_sequence_length=8, generator=torch.Generator().manual_seed(0), output_type="np",
    )  # fmt: skip
    return np.asarray(made.frames[0])


def change(pipe: Any, layer: str) -> torch.Tensor:
    """What the active LoRAs add to the weight of a layer."""
    module = pipe.transformer.get_submodule(layer)
    return sum((module.get_delta_weight(name) for name in module.active_adapters), torch.zeros(()))


def product(weights: Weights, layer: str) -> torch.Tensor:
    """The same by hand."""
    down, up = (weights[f"{layer}.lora_{kind}.weight"] for kind in "AB")
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


# --- the names -----------------------------------------------------------------------------------


@needs_peft
@pytest.mark.parametrize("form", FORMATS)
def test_every_layer_of_every_format_acts_as_by_hand(form: str, tmp_path: Path) -> None:
    pipe = tiny_pipe()
    weights = plain(pipe)
    layers = list(layers_of(pipe.transformer))
    file = write(tmp_path / "x.safetensors", {FORMATS[form](k): v for k, v in weights.items()})
    assert load_loras(pipe, [file]) == ("lora1",)
    for layer in layers:
        torch.testing.assert_close(change(pipe, layer), product(weights, layer))


@needs_peft
@pytest.mark.parametrize("rename", [FORMATS["PEFT"], FORMATS["CogVideoX-Fun"], old])
def test_the_video_is_that_of_diffusers_own_names(
    rename: Callable[[str], str], tmp_path: Path
) -> None:
    pipe, other = tiny_pipe(), tiny_pipe()
    plainly = generate(other)
    weights = plain(pipe, attention=True)
    pipe.load_lora_weights({f"transformer.{key}": value for key, value in weights.items()})
    file = write(tmp_path / "x.safetensors", {rename(k): v for k, v in weights.items()})
    load_loras(other, [file])
    video = generate(other)
    assert not np.array_equal(video, plainly)
    assert np.array_equal(video, generate(pipe))


PEFT = {
    "alpha": {},
    "stabilised": {"use_rslora": True},
    "pattern": {"alpha_pattern": {"transformer_blocks.1.attn1.to_q": 7}},
    "short pattern": {"alpha_pattern": {"to_q": 7}},
    "ranks": {"rank_pattern": {"transformer_blocks.1.attn1.to_q": 2}},
    "bias": {"lora_bias": True},
    "DoRA": {"use_dora": True},
}


@needs_peft
@pytest.mark.parametrize("kind", PEFT)
@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # of its own biases: "invalid shape"
def test_what_peft_itself_saves_counts_as_it_says(kind: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    pipe = tiny_pipe()
    targets = ["to_q", "to_out.0", "net.0.proj"]
    config = LoraConfig(r=RANK, lora_alpha=3, target_modules=targets, **PEFT[kind])
    model = get_peft_model(tiny_pipe().transformer, config)
    for key, value in model.named_parameters():
        if ".lora_" in key and "magnitude" not in key:
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(tmp_path)
    load_loras(pipe, [str(tmp_path)])
    x = torch.randn(2, 32)
    for layer in ("transformer_blocks.1.attn1.to_q", "transformer_blocks.2.ff.net.0.proj"):
        ours = pipe.transformer.get_submodule(layer)
        theirs = model.base_model.model.get_submodule(layer)
        assert not torch.equal(ours(x), ours.base_layer(x))
        torch.testing.assert_close(ours(x), theirs(x))


@needs_peft
def test_the_metadata_of_diffusers_counts(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    weights = plain(pipe, attention=True)
    told = {
        "transformer.lora_alpha": 2,
        "transformer.alpha_pattern": {"^transformer_blocks.1.attn1.to_q": 12},
    }
    file = write(
        tmp_path / "x.safetensors",
        {f"transformer.{k}": v for k, v in weights.items()},
        {"lora_adapter_metadata": json.dumps(told)},
    )
    load_loras(CogVideoXAdapter(pipe), [file])
    for layer, factor in (
        ("transformer_blocks.1.attn1.to_q", 3.0),
        ("transformer_blocks.0.attn1.to_q", 0.5),
    ):
        torch.testing.assert_close(change(pipe, layer), product(weights, layer) * factor)


@needs_peft
def test_the_alphas_of_kohya_count_also_in_16_bits(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    weights = plain(pipe, attention=True)
    rename, half = flat("lora_unet__"), {k: v.bfloat16() for k, v in weights.items()}
    file = {rename(k): v for k, v in half.items()}
    for key in weights:
        if key.endswith("lora_A.weight"):
            file[rename(key).replace(".lora_down.weight", ".alpha")] = torch.tensor(3.0)
    load_loras(pipe, [write(tmp_path / "x.safetensors", file)])
    exact = {key: value.float() for key, value in half.items()}
    for layer in ("transformer_blocks.0.attn1.to_q", "transformer_blocks.2.attn1.to_out.0"):
        expected = product(exact, layer) * 3 / RANK
        torch.testing.assert_close(change(pipe, layer).float(), expected)


# --- weights -------------------------------------------------------------------------------------


@needs_peft
def test_several_with_their_weights_add_up_beside_those_that_are_on(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    layer = "transformer_blocks.0.attn1.to_q"
    sets = [plain(pipe, attention=True, seed=seed, rank=2 + seed) for seed in range(3)]
    own = {f"transformer.{key}": value for key, value in sets[0].items()}
    pipe.load_lora_weights(own, adapter_name="lora1")
    pipe.set_adapters(["lora1"], [0.25])
    files = [
        write(tmp_path / f"{n}.safetensors", {f"diffusion_model.{k}": v for k, v in s.items()})
        for n, s in enumerate(sets)
    ]
    names = load_loras(pipe, [f"{files[1]}:-0.5", Lora(files[2], 2)])
    assert names == ("lora2", "lora3")
    expected = sum(product(s, layer) * w for s, w in zip(sets, (0.25, -0.5, 2.0), strict=True))
    torch.testing.assert_close(change(pipe, layer), expected)
    pipe.delete_adapters(list(names))
    torch.testing.assert_close(change(pipe, layer), product(sets[0], layer) * 0.25)


@needs_peft
def test_beside_a_backbone_of_8_bits(tmp_path: Path) -> None:
    pipe, layer = tiny_pipe(), "transformer_blocks.0.attn1.to_q"
    weights = plain(pipe, attention=True)
    file = write(tmp_path / "x.safetensors", weights)
    quantize(pipe.transformer, "fp8")
    before = generate(pipe)
    load_loras(pipe, [f"{file}:0.5"])
    assert not np.array_equal(generate(pipe), before)
    assert pipe.transformer.get_submodule(layer).base_layer.weight.dtype == torch.float8_e4m3fn
    torch.testing.assert_close(change(pipe, layer), product(weights, layer) * 0.5)
    for place in (
        lambda pipe: pipe.enable_sequential_cpu_offload(device="cpu"),
        lambda pipe: group_offload(pipe, torch.device("cpu")),
    ):
        moved = tiny_pipe()
        quantize(moved.transformer, "fp8")
        place(moved)
        with pytest.raises(UnsupportedError, match="--quantize fp8"):
            load_loras(moved, [file])


@needs_peft
def test_on_a_pipeline_under_group_offloading(tmp_path: Path) -> None:
    pipe, plainly = tiny_pipe(), tiny_pipe()
    file = write(tmp_path / "x.safetensors", plain(pipe, attention=True))
    group_offload(pipe, torch.device("cpu"))
    before = generate(pipe)
    for each in (pipe, plainly):
        load_loras(each, [file])
    assert not np.array_equal(generate(pipe), before)
    assert np.array_equal(generate(pipe), generate(plainly))


@needs_peft
def test_nothing_is_loaded_unless_all_fit(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    good = write(tmp_path / "good.safetensors", plain(pipe, attention=True))
    before = generate(pipe)
    with pytest.raises(UsageError, match="which is not there"):
        load_loras(pipe, [good, str(tmp_path / "missing.safetensors")])
    assert not getattr(pipe.transformer, "peft_config", {})
    assert np.array_equal(generate(pipe), before)
    assert load_loras(pipe, []) == ()


def test_without_peft(tmp_path: Path) -> None:
    if find_spec("peft") is not None:
        pytest.skip("peft is installed")
    with pytest.raises(DependencyError, match="peft"):
        load_loras(tiny_pipe(), ["x.safetensors"])


@needs_peft
def test_an_old_peft_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata of an installed 0.17.1, in front of the one that is here."""
    folder = tmp_path / "peft-0.17.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.17.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DependencyError, match=r"peft 0\.18 or newer for --lora, got 0\.17\.1"):
        load_loras(tiny_pipe(), ["x.safetensors"])


# --- how they are written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source", "weight"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("./a:b/style.safetensors:-1.5", "./a:b/style.safetensors", -1.5),
        ("./a:b/style.safetensors", "./a:b/style.safetensors", 1.0),
        ("./0:1/style", "./0:1/style", 1.0),
        (r"C:\loras\style.safetensors", r"C:\loras\style.safetensors", 1.0),
        (r"C:\loras\style.safetensors:.5", r"C:\loras\style.safetensors", 0.5),
        ("C:style.safetensors", "C:style.safetensors", 1.0),
        ("C:1", "C:1", 1.0),
        ("C:1:0.5", "C:1", 0.5),
        ("owner/name", "owner/name", 1.0),
        ("owner/name:0.00390625", "owner/name", 1 / 256),
        ("owner/name@v1:1e-2", "owner/name@v1", 0.01),
        ("hf://owner/name", "hf://owner/name", 1.0),
        ("hf://owner/name@v1/left.safetensors:2", "hf://owner/name@v1/left.safetensors", 2.0),
    ],
)
def test_a_weight_stands_behind_the_last_colon(text: str, source: str, weight: float) -> None:
    assert Lora.parse(text) == Lora(source, weight)


@pytest.mark.parametrize(
    "text", ["", ":1", "x.safetensors:", "x.safetensors:heavy", "xx:nan", "xx:101", "xx:-inf"]
)
def test_what_is_no_weight(text: str) -> None:
    with pytest.raises(UsageError, match=r"Expected --lora PATH\[:WEIGHT\]"):
        Lora.parse(text)


def test_a_file_that_ends_like_a_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("style:2").mkdir()
    assert Lora.parse("style:2") == Lora("style:2")
    assert Lora.parse("style:2:0.5") == Lora("style:2", 0.5)


def test_the_record_has_no_path() -> None:
    assert Lora("/home/me/style.safetensors", 0.5).record == {
        "name": "style.safetensors",
        "weight": 0.5,
    }
    assert Lora("owner/name@v1").record == {"name": "owner/name@v1", "weight": 1.0}


# --- which file ----------------------------------------------------------------------------------


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no .safetensors file"):
        find(str(tmp_path))
    one = tmp_path / "one.safetensors"
    one.touch()
    assert find(str(tmp_path)) == one
    (tmp_path / "two.safetensors").touch()
    with pytest.raises(UsageError, match=r"got 2: one.safetensors, two.safetensors") as caught:
        find(str(tmp_path))
    assert str(one) in str(caught.value.hint)
    usual = tmp_path / "pytorch_lora_weights.safetensors"
    usual.touch()
    assert find(str(tmp_path)) == usual


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.ckpt", "lora.pth", "lora"])
def test_pickled_weights_are_refused_unread(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle that writes a file when it is opened."""
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "struck",)

    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    for source in (str(tmp_path / name), str(tmp_path)):
        with pytest.raises(UsageError, match="safetensors"):
            find(source)
    renamed = tmp_path / "lora.safetensors"
    renamed.write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(UsageError, match=r"damaged|safetensors"):
        read_lora(renamed, {}, "lora.safetensors")
    assert not (tmp_path / "struck").exists()


# --- what is something else ----------------------------------------------------------------------

OTHERS = {
    "LoKr": "transformer.transformer_blocks.0.attn1.to_q.lokr_w1",
    "LoHa": "lora_unet_transformer_blocks_0_attn1_to_q.hada_w1_a",
    "OFT": "transformer.transformer_blocks.0.attn1.to_q.oft_blocks",
    "DoRA weights as kohya": "lora_unet_transformer_blocks_0_attn1_to_q.dora_scale",
    "whole differences": "diffusion_model.transformer_blocks.0.attn1.to_q.diff",
    "SAT": "model.diffusion_model.transformer.layers.0.attention.query_key_value.matrix_A.0",
    "Wan": "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
    "Flux or HunyuanVideo": "diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight",
    "Stable Diffusion": "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
    "weights that are no LoRA": "transformer_blocks.0.attn1.to_q.weight",
    "text encoder alone": "text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight",
    "deeper transformer (block 41": "transformer.transformer_blocks.41.attn1.to_q.lora_A.weight",
    "something else": "transformer.transformer_blocks.0.attn2.to_q.lora_A.weight",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_name(name: str) -> None:
    layers = layers_of(tiny_pipe().transformer)
    with pytest.raises(UsageError) as caught:
        assign([OTHERS[name]], layers, "style.safetensors")
    assert name in caught.value.message
    assert "style.safetensors" in caught.value.message
    assert OTHERS[name] in caught.value.message
    assert caught.value.hint


def test_no_key_is_left_out_or_taken_twice() -> None:
    layers = layers_of(tiny_pipe().transformer)
    q = "transformer_blocks.0.attn1.to_q.lora_{}.weight"
    pair = [q.format("A"), q.format("B")]
    assert assign(pair, layers, "x").layers == {
        "transformer_blocks.0.attn1.to_q": {"A": pair[0], "B": pair[1]}
    }
    with pytest.raises(UsageError, match="1 of its 3 keys"):
        assign([*pair, "transformer_blocks.0.attn1.to_z.lora_A.weight"], layers, "x")
    with pytest.raises(UsageError, match="one key for each matrix"):
        assign([*pair, "transformer." + pair[0]], layers, "x")
    with pytest.raises(UsageError, match="two matrices"):
        assign(pair[:1], layers, "x")
    with pytest.raises(UsageError, match="empty"):
        assign([], layers, "x")
    with pytest.raises(UsageError) as caught:
        assign([*pair, "\x1b]0;evil\x07.lora_A.weight"], layers, "x")
    assert "\x1b" not in caught.value.message


def test_what_does_not_fit_or_cannot_be_computed_with(tmp_path: Path) -> None:
    layers = layers_of(tiny_pipe().transformer)
    key = "transformer_blocks.0.attn1.to_q.lora_{}.weight"
    whole = {key.format("A"): torch.ones(2, 32), key.format("B"): torch.ones(32, 2)}
    alpha = "transformer_blocks.0.attn1.to_q.alpha"

    def refused(words: str, **changed: Any) -> None:
        changes = {key.format(k) if len(k) == 1 else alpha: v for k, v in changed.items()}
        file = write(tmp_path / "x.safetensors", whole | changes)
        with pytest.raises(UsageError, match=words):
            read_lora(Path(file), layers, "x.safetensors")

    refused(r"\(2, 3072\).*of \(32, 32\)", A=torch.ones(2, 3072))
    refused(r"\(32, 3\)", B=torch.ones(32, 3))
    refused("rank|32, 0", A=torch.ones(0, 32), B=torch.ones(32, 0))
    refused("finite", B=torch.full((32, 2), torch.nan))
    refused("floating-point", A=torch.ones(2, 32, dtype=torch.int8))
    refused("positive alpha", alpha=torch.tensor(-1.0))
    refused("positive alpha", alpha=torch.ones(2))
    fine = write(tmp_path / "x.safetensors", whole | {alpha: torch.tensor(2)})
    assert len(read_lora(Path(fine), layers, "x")) == 2


def test_float8_and_a_linear_layer_as_a_convolution(tmp_path: Path) -> None:
    layers = layers_of(tiny_pipe().transformer)
    key = "diffusion_model.transformer_blocks.0.attn1.to_q.lora_{}.weight"
    eight = torch.float8_e4m3fn
    made = {
        key.format("down"): torch.ones(2, 32, 1, 1).to(eight),
        key.format("up"): torch.ones(32, 2, 1, 1).to(eight),
    }
    file = write(tmp_path / "x.safetensors", made)
    read = list(read_lora(Path(file), layers, "x").values())
    assert [tuple(t.shape) for t in read] == [(2, 32), (32, 2)]
    assert {t.dtype for t in read} == {torch.float32}


def test_keys_of_the_text_encoder_are_said_to_have_no_effect(tmp_path: Path) -> None:
    pipe = tiny_pipe()
    weights = {f"transformer.{k}": v for k, v in plain(pipe, attention=True).items()}
    more = {"text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight": torch.ones(2, 4)}
    file = write(tmp_path / "x.safetensors", weights | more)
    with pytest.warns(LoraWarning, match=r"1 keys of style are for the text encoder"):
        assert read_lora(Path(file), layers_of(pipe.transformer), "style").keys() == weights.keys()


def test_a_motion_card_is_no_lora() -> None:
    card = Path(__file__).parent / "golden" / "rotary-angle.safetensors"
    with pytest.raises(UsageError, match="got a motion card"):
        read_lora(card, {}, str(card))


@pytest.mark.parametrize("damage", [b"", b"<html>", b"\xff" * 64])
def test_a_damaged_file(damage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(damage)
    with pytest.raises(UsageError, match="as safetensors, got style"):
        read_lora(file, {}, "style")
