"""`--offload auto`: what the memory model picks for GPUs of several sizes, without having one."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.catalogue.variants import VARIANTS, auto
from pe_toolkit.backbones.machine import checkpointing as training_memory
from pe_toolkit.backbones.machine import memory, placement
from pe_toolkit.backbones.machine.offload import OFFLOADS, settle
from pe_toolkit.backbones.machine.placement import GB, Purpose, decide, plan
from pe_toolkit.cli import doctor_estimate as estimate
from pe_toolkit.cli.requests.doctor import DoctorOptions
from pe_toolkit.errors import DeviceError, UnsupportedError
from tests.test_memory import CONFIGS
from tests.tiny import tiny_pipe

TRAIN, APPLY = Purpose(("train",)), Purpose(("apply",))


def parts(name: str, **changes) -> tuple:
    return name, architectures.ARCHITECTURES[name], memory.Request.of(VARIANTS[name], 10, **changes)


def pick(name: str, purpose: Purpose, free: float, wanted: str = "auto", total: float = 0.0):
    return decide(*parts(name), purpose, wanted, free * GB, (total or free) * GB)


@pytest.mark.parametrize(
    ("name", "purpose", "free", "mode"),
    [
        ("cogvideox-5b", TRAIN, 25.2, "model"),  # a 24 GB card
        ("cogvideox-5b", TRAIN, 80.0, "model"),  # one part after the other is no slower
        ("cogvideox-5b", APPLY, 25.2, "model"),
        ("cogvideox-5b", Purpose(), 25.2, "model"),  # the dearer of both
        ("cogvideox-5b", TRAIN, 16.5, "group"),
        ("cogvideox-5b", APPLY, 16.5, "model"),
        ("cogvideox-5b", APPLY, 12.0, "group"),
        ("cogvideox-5b", APPLY, 80.0, "none"),
        ("cogvideox-5b", Purpose(), 80.0, "none"),
        ("cogvideox-2b", APPLY, 25.2, "none"),
        ("cogvideox1.5-5b", TRAIN, 25.2, "group"),
        ("cogvideox1.5-5b", Purpose(("train",), 9, (720, 480)), 25.2, "model"),
    ],
)
def test_the_fastest_mode_that_fits(name: str, purpose: Purpose, free: float, mode: str) -> None:
    chosen, sentence = pick(name, purpose, free)
    assert chosen == mode
    assert sentence is not None
    assert f"Offload: {mode} (" in sentence
    assert f"{free:.1f} GB free" in sentence
    assert ("without" in sentence) == (mode != "none")


def test_what_auto_takes_for_a_backbone_can_be_trained_and_applied_there() -> None:
    for gigabytes in (16.0, 22.8, 24.0, 40.0, 80.0):
        name, _ = auto(gigabytes)
        for purpose in (TRAIN, APPLY):
            _, sentence = pick(name, purpose, gigabytes * 0.97)
            assert sentence is not None
            assert "may not be enough" not in sentence


def test_what_a_generation_keeps_besides_is_planned_for() -> None:
    """PAB keeps the attention of 42 blocks, both halves of guidance: 9.2 GB on 5b at 49 frames."""
    _, a, r = parts("cogvideox-5b")
    plain, pab = (memory.apply_estimate(a, Purpose(cache=c).of(r)) for c in ("none", "pab"))
    assert pab.parts["cache"] / GB == pytest.approx(9.17, abs=0.01)
    assert pab.stage == "denoising" != plain.stage
    assert pick("cogvideox-5b", Purpose(("apply",)), 20.0)[0] == "model"
    assert pick("cogvideox-5b", Purpose(("apply",), cache="pab"), 20.0)[0] == "group"
    assert pick("cogvideox-5b", Purpose(("apply",), tiling=False), 27.0)[0] != "none"


def test_a_compiled_training_that_would_be_moved_in_parts_is_refused_before_the_download() -> None:
    compiled = Purpose(("train",), compiled=True)
    assert pick("cogvideox-5b", compiled, 25.2)[0] == "model"
    with pytest.raises(UnsupportedError, match="compiled training, got group"):
        pick("cogvideox-5b", compiled, 12.0, total=24.0)
    assert pick("cogvideox-5b", Purpose(("apply",), compiled=True), 12.0)[0] == "group"


def test_a_busy_gpu_is_tried_and_a_small_one_refused() -> None:
    mode, sentence = pick("cogvideox-5b", TRAIN, 5.0, total=24.0)
    assert mode == "group"
    assert sentence is not None
    assert "may not be enough" in sentence
    with pytest.raises(DeviceError, match=r"got 4\.0 GB"):
        pick("cogvideox-5b", TRAIN, 4.0)
    with pytest.raises(DeviceError, match="--offload none") as caught:
        pick("cogvideox-5b", APPLY, 16.0, "none")
    assert "auto" in str(caught.value.hint)
    assert pick("cogvideox-5b", APPLY, 24.0, "none") == ("none", None)  # the user's own choice
    assert pick("cogvideox-5b", APPLY, 4.0, "sequential") == ("sequential", None)


def test_training_without_checkpointing_cannot_let_weights_leave() -> None:
    purpose = Purpose(("train",), checkpointing="off")
    assert pick("cogvideox-5b", purpose, 70.0)[0] == "model"
    mode, sentence = pick("cogvideox-5b", purpose, 30.0, total=80.0)
    assert mode == "model"  # not group, which would be refused
    assert sentence is not None
    assert "may not be enough" in sentence
    both = Purpose(checkpointing="off")  # applying alone would take group
    assert pick("cogvideox-5b", both, 12.0, total=80.0)[0] == "model"
    for refused in (
        lambda: pick("cogvideox-5b", purpose, 30.0, "group", 80.0),
        lambda: decide(*parts("cogvideox-5b", quantize="fp8"), purpose, "auto", 80e9, 80e9),
        lambda: plan(*parts("cogvideox-5b", quantize="fp8")[1:], "train", 80e9, "off"),
        # Before anything is downloaded or loaded, whatever the device.
        lambda: load_backbone("owner/none", quantize="fp8", device="cpu", purpose=purpose),
    ):
        with pytest.raises(UnsupportedError, match="Expected checkpointing"):
            refused()
    assert pick("cogvideox-5b", APPLY, 30.0, "group", 80.0) == ("group", None)
    with pytest.raises(DeviceError) as caught:
        pick("cogvideox-5b", purpose, 30.0)
    assert "--checkpointing off" in str(caught.value.hint)
    _, a, r = parts("cogvideox-5b")
    free = (80e9, 60e9, 30e9, 20e9)
    plans = [plan(a, r, "train", f) for f in free]
    assert [p.checkpointing["none"] for p in plans] == ["off", "little", "partly", "on"]
    peaks = [p.peak("none") for p in plans]
    assert peaks == sorted(peaks, reverse=True)
    assert plans[0].checkpointing["group"] == "little"
    assert plan(a, r, "train", 12e9).checkpointing["group"] == "on"
    assert plan(a, r, "train", None).checkpointing["none"] == "on"


@pytest.mark.parametrize("mode", ["none", "model"])
@pytest.mark.parametrize("free", [20.0, 40.0, 60.0, 70.0, 80.0])
@pytest.mark.parametrize("name", ["cogvideox-2b", "cogvideox-5b"])
def test_the_trainer_will_find_what_the_plan_says(
    name: str, free: float, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer asks the GPU once the transformer is on it, and the VAE is not any more."""
    _, a, r = parts(name, offload=mode)
    with torch.device("meta"):
        config = {**CONFIGS[name], "num_layers": 1}  # neither asks for the depth
        transformer = CogVideoXTransformer3DModel(**config).bfloat16()
    pipe = tiny_pipe()
    pipe.vae.register_to_config(latent_channels=16)
    pipe.register_modules(transformer=transformer)
    pipe.vae_scale_factor_spatial = 8
    adapter = CogVideoXAdapter(pipe, VARIANTS[name])
    weights = memory.train_weights(a, r)
    left = free * GB - weights["transformer"]
    monkeypatch.setattr(training_memory, "free_bytes", lambda _: left)
    found = training_memory.checkpointing_level(
        "auto", adapter, adapter.grid.tokens, r.block, rotary=a.positions == "rotary"
    )
    assert plan(a, r, "train", free * GB).checkpointing[mode] == found


def test_doctor_says_on_where_most_of_the_rest_would_fill() -> None:
    """5b, 49 frames: all in all 58 GB, but 44 of it are activations, over 70 % of what is left."""
    _, a, r = parts("cogvideox-5b")
    whole = memory.train_estimate(a, r, checkpointing="off").gpu_bytes
    assert plan(a, r, "train", whole / placement.SHARE + 1).checkpointing["none"] == "little"
    said = estimate.estimate(
        VARIANTS["cogvideox-5b"], DoctorOptions(samples=1, offload="none"), 65.0, None
    )
    assert said.train.checkpointing == "little"


def test_quantized_weights_need_less() -> None:
    _, a, r = parts("cogvideox-5b", quantize="fp8")
    assert plan(a, r, "apply", 25.2e9).chosen == "none"


@pytest.mark.parametrize("free", [None, 12.0, 25.2, 80.0])
@pytest.mark.parametrize("name", ["cogvideox-2b", "cogvideox-5b", "cogvideox1.5-5b"])
def test_doctor_says_the_same(name: str, free: float | None) -> None:
    said = estimate.estimate(VARIANTS[name], DoctorOptions(samples=1, offload="auto"), free, None)
    fits, verdict = estimate.verdict(said, free)
    for task in ("train", "apply"):
        mode = said.tasks[task].offload
        figures = said.by_offload[mode][f"{task}_gb"]
        assert figures == said.tasks[task].gpu_gb
        assert f"{figures:.1f} GB" in estimate.rows(said)[task]
        if free is None:
            assert f"{said.by_offload['group'][f'{task}_gb']:.1f} GB to {task}" in verdict
            continue
        assert mode == pick(name, Purpose((task,)), free, total=80.0)[0]
        assert fits == (said.train.fits and said.apply.fits)
        if not said.tasks[task].fits:
            assert f"{figures:.1f} GB of GPU memory to {task}" in verdict


@pytest.mark.parametrize("mode", ["none", "model", "sequential"])
def test_doctor_without_a_gpu_answers_for_the_mode_that_was_asked_for(mode: str) -> None:
    said = estimate.estimate(
        VARIANTS["cogvideox-5b"], DoctorOptions(samples=1, offload=mode), None, None
    )
    fits, verdict = estimate.verdict(said, None)
    assert not fits
    assert "at least" not in verdict
    for task in ("train", "apply"):
        assert f"{said.tasks[task].gpu_gb:.1f} GB to {task} with --offload {mode}" in verdict
    assert ("GB without)" in verdict) == (mode != "none")


def test_the_context_that_is_there_already_is_not_counted_again() -> None:
    """`mem_get_info` makes the CUDA context; what it then says is free lies beside it."""
    _, a, r = parts("cogvideox-5b")
    allocated = memory.apply_estimate(a, r).gpu_bytes - memory.OVERHEAD
    just = allocated / placement.SHARE + 1
    assert plan(a, r, "apply", just).chosen == "none"
    assert plan(a, r, "apply", just - 2).chosen == "model"
    chosen, sentence = pick("cogvideox-5b", APPLY, just / GB, total=80.0)
    assert chosen == "none"
    assert f"({allocated / GB:.1f} GB estimated at " in str(sentence)
    # The whole of a GPU holds the context too: 0.85 x (allocated + context) > total is refused.
    total = placement.TRUST * (allocated + memory.OVERHEAD) / GB
    assert pick("cogvideox-5b", APPLY, total, "none", total + 0.01) == ("none", None)
    with pytest.raises(DeviceError):
        pick("cogvideox-5b", APPLY, total, "none", total - 0.01)


def test_nothing_is_moved_off_a_cpu() -> None:
    name, a, r = parts("cogvideox-5b")
    said: list[str] = []
    for wanted, mode in (("auto", "none"), ("model", "model")):
        assert settle(wanted, torch.device("cpu"), name, a, r, Purpose(), said.append) == mode
    assert said == []
    assert set(placement.CHOICES) < set(OFFLOADS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_asked_and_the_choice_is_said() -> None:
    name, a, r = parts("cogvideox-2b")
    said: list[str] = []
    mode = settle("auto", torch.device("cuda", 0), name, a, r, Purpose(), said.append)
    assert mode in placement.CHOICES
    assert said[0].startswith(f"Offload: {mode}")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_architecture_of_a_model_without_a_row(name: str) -> None:
    from diffusers import CogVideoXTransformer3DModel

    with torch.device("meta"):
        config = CogVideoXTransformer3DModel(**CONFIGS[name]).config
    published = architectures.ARCHITECTURES[name]
    mine = placement.architecture_of(config)
    assert mine.parameters == published.parameters
    r = placement.request_of(config, dtype="bfloat16", quantize="none")
    assert mine.grid(r.frames, r.width, r.height) == published.grid(r.frames, r.width, r.height)
    if published.learned is None:
        assert memory.weight_bytes(mine, r) == memory.weight_bytes(published, r)
    assert placement.architecture_of(tiny_pipe().transformer.config).layers == 3
    # The published recipe has 24 frames, but who learned its positions has one size only.
    asked = Purpose(("train",), 24, (640, 480), "on")
    learned = published.learned is not None
    assert asked.within(config) == (Purpose(("train",), checkpointing="on") if learned else asked)
