"""From a name to a loaded adapter: bundled weights, a local folder, or a checkpoint on the Hub."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pe_toolkit.acceleration import quantize as weights
from pe_toolkit.backbones import bundled
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant, auto, is_folder, row_of
from pe_toolkit.backbones.cogvideox import tiling
from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
from pe_toolkit.backbones.machine import memory, placement
from pe_toolkit.backbones.machine.offload import OFFLOADS, place, settle
from pe_toolkit.backbones.machine.placement import Purpose, architecture_of, request_of
from pe_toolkit.errors import BackboneError, DeviceError, PeError, UsageError

DTYPES = ("float32", "bfloat16", "float16")
Say = Callable[[str], None]


def load_backbone(
    name: str = "auto",
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    offload: str = "auto",
    quantize: str = "none",
    vae_tiling: bool | None = None,
    purpose: Purpose | None = None,
    on_event: Say | None = None,
    on_offload: Say | None = None,
) -> CogVideoXAdapter:
    """Load a backbone the ordinary diffusers way and wrap it.

    Args:
        name: `auto`, a name of `VARIANTS`, a local folder, or a Hub id.
        revision: branch, tag or commit on the Hub.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; default: a GPU if there is one.
        dtype: one of `DTYPES`; default: see `default_dtype` and `nearest_dtype`.
        offload: `none`, `model`, `group` or `sequential`: keep parts off the GPU while unused.
            `auto` takes the first of none, model and group that the memory model expects to fit
            into what is free (for a training alone model first: `placement.ALONE`); without a CUDA
            GPU it is `none`.
        quantize: one of `acceleration.QUANTIZATIONS`: weights of 8 bits.
        vae_tiling: encode and decode in tiles, or never; default: decode in tiles everywhere but
            with the bundled backbone on a CPU, and encode whole where memory allows
            (`cogvideox.encoding`).
        purpose: what `auto` has to have room for; default: training and applying, at the
            backbone's own frames and size.
        on_event: gets one sentence for whatever a person should know (choice of `auto`, download
            size).
        on_offload: gets the offload mode before anything is placed.

    Raises:
        UsageError: an unknown name, dtype, offload or quantization.
        UnsupportedError: as `placement.decide`, for a training.
        DependencyError: a quantization whose package is missing.
        DeviceError: the device is missing or too small.
        BackboneError: the model cannot be found, downloaded or loaded.
    """
    say = on_event or (lambda _: None)
    if offload not in OFFLOADS:
        raise UsageError(f"Expected --offload out of {', '.join(OFFLOADS)}, got {offload!r}.")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"Expected --dtype out of {', '.join(DTYPES)}, got {dtype!r}.")
    weights.check(quantize)
    placement.check(purpose or Purpose(), offload, quantize)
    where = pick_device(device)
    if name == "auto":
        name = choose(where, say)
    folder = Path(name)
    local, variant = is_folder(name), row_of(name)
    if variant is not None:
        check_device(variant, where)
    if offload not in ("auto", "none") and where.type == "cpu":
        raise UsageError(
            f"Expected a GPU for --offload {offload}, got the CPU: there is nothing to move parts "
            "off.",
            "Leave --offload out.",
        )
    model_id = None if local or (variant and variant.bundled) else name
    if model_id is not None and "/" not in model_id and variant is not None:
        model_id = variant.hub_id
    source = model_id or str(folder.expanduser())
    if dtype is None and variant is not None:
        dtype = default_dtype(variant, where)
    elif dtype is None:
        dtype = nearest_dtype(source, revision if model_id else None, where)
        if dtype is not None:
            say(f"{source}: in {dtype}, as CogVideoX of its kind is published (--dtype: another).")
        dtype = dtype or "float32"
    wanted = getattr(torch, dtype)
    purpose = purpose or Purpose()
    architecture = architectures.architecture_for(variant) if variant is not None else None
    if variant is not None and architecture is not None:  # known before anything is downloaded
        request = memory.Request.of(variant, guided=1, dtype=dtype, quantize=quantize)
        offload = settle(offload, where, variant.name, architecture, request, purpose, say)
    digest = None
    if variant is not None and variant.bundled:
        pipe, digest = _load_bundled(variant, wanted)
    elif model_id is None:
        pipe = _from_pretrained(source, wanted, None)
    else:
        revision = prepare_download(model_id, revision, say)
        pipe = _from_pretrained(model_id, wanted, revision)
        if variant is not None:
            _recommend(pipe, variant)
    if offload == "auto":
        offload = "none"  # what is bundled is a few megabytes: there is nothing to gain
        if variant is None:
            config = pipe.transformer.config
            request = request_of(config, dtype=dtype, quantize=quantize)
            architecture = architecture_of(config)
            purpose = purpose.within(config)
            offload = settle("auto", where, name, architecture, request, purpose, say)
    if on_offload is not None:
        on_offload(offload)
    weights.quantize(pipe.transformer, quantize)  # before it is moved: half as much to move
    place(pipe, where, offload)
    pipe.set_progress_bar_config(disable=True)
    tiled = vae_tiling
    if tiled is None:
        tiled = where.type != "cpu" or variant is None or not variant.bundled
    if tiled:
        tiling.enable(pipe.vae)
    return CogVideoXAdapter(
        pipe,
        variant,
        model_id=model_id,
        revision=revision if model_id else None,
        weights_digest=digest,
        vae_tiling=vae_tiling,
    )


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or a GPU if there is one, else the CPU.

    Raises:
        UsageError: not a device name.
        DeviceError: not on this machine.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"Expected a device like cpu, cuda or cuda:1, got {device!r}.") from error
    missing = (where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count()) or (
        where.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise DeviceError(
            f"Expected the device {device}, but this machine does not have it (or torch was built "
            "without it).",
            "Use --device cpu with the bundled backbone, or install a CUDA build of torch "
            "(docs/install.md).",
        )
    return where


def default_dtype(variant: Variant, device: torch.device) -> str:
    """The dtype of a backbone that was asked for without one.

    On a GPU what its authors recommend. On a CPU float32, except for the bundled backbone where the
    CPU multiplies bfloat16 in hardware: measured 2.7 times faster with AMX (docs/experiments.md).
    """
    if device.type == "cpu" and not variant.bundled:
        return "float32"
    if device.type != "cpu":
        return variant.dtype
    # torch has no public question for this; without an answer, the safe choice.
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if fast else "float32"


def nearest_dtype(source: str, revision: str | None, device: torch.device) -> str | None:
    """The dtype of a folder or a Hub model that no row names, from its configuration: on a GPU that
    of the published model with the same kind of positions (float32 would need twice the memory,
    without tensor cores). None on a CPU, and where there is no configuration.
    """
    from diffusers import CogVideoXTransformer3DModel

    if device.type == "cpu":
        return None
    try:
        config = CogVideoXTransformer3DModel.load_config(
            source, subfolder="transformer", revision=revision
        )
    except (OSError, ValueError):  # what is wrong with it, loading says
        return None
    rotary = config.get("use_rotary_positional_embeddings", False)
    return VARIANTS["cogvideox-5b" if rotary else "cogvideox-2b"].dtype


def choose(device: torch.device, say: Say) -> str:
    """What `auto` means on a device (see `variants.auto`); says why."""
    gigabytes = None
    if device.type == "cuda":
        gigabytes = torch.cuda.get_device_properties(device).total_memory / 1e9
    name, why = auto(gigabytes)
    say(f"auto: {name}, because {why}.")
    return name


def check_device(variant: Variant, device: torch.device) -> None:
    """Refuse what cannot run here before anything is downloaded.

    Raises:
        DeviceError: says what is needed and what would work.
    """
    if variant.bundled:
        return
    if device.type == "cpu":
        raise DeviceError(
            f"Expected a CUDA GPU with about {variant.min_gpu_gb:.0f} GB for {variant.name}, got "
            "no GPU.",
            "Use --backbone bundled here, or run on a machine with a GPU (`pe doctor` shows what "
            "fits).",
        )


def _load_bundled(variant: Variant, dtype: torch.dtype) -> tuple[Any, str]:
    from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel

    folder = bundled.path(variant.name)
    transformer = CogVideoXTransformer3DModel.from_pretrained(folder, dtype=dtype)
    pipe = CogVideoXPipeline.from_pretrained(bundled.ROOT, transformer=transformer, dtype=dtype)
    weights = folder / "diffusion_pytorch_model.safetensors"
    return pipe, "sha256:" + hashlib.sha256(weights.read_bytes()).hexdigest()


def _from_pretrained(source: str, dtype: torch.dtype, revision: str | None) -> Any:
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(
            source, dtype=dtype, revision=revision, use_safetensors=True
        )
    except PeError:
        raise
    except (
        Exception
    ) as error:  # whatever diffusers, transformers or the hub raise about a model folder
        raise BackboneError(
            f"Expected a CogVideoX model at {source}, but it could not be loaded: "
            f"{str(error).splitlines()[0]}",
            "Check the name and your network; `pe doctor` lists known backbones.",
        ) from error


def _recommend(pipe: Any, variant: Variant) -> None:
    """Give a published checkpoint that we loaded the scheduler of its row in the table.

    Not every checkpoint comes with the one that its authors recommend: 1.5 is published with DDIM,
    where their script takes DPM. Folders, and pipelines that users load themselves, keep theirs.
    """
    import diffusers

    kind, own = getattr(diffusers, variant.scheduler), pipe.scheduler
    if type(own) is not kind or own.config.timestep_spacing != "trailing":
        pipe.scheduler = kind.from_config(own.config, timestep_spacing="trailing")


def prepare_download(model_id: str, revision: str | None, say: Say) -> str | None:
    """Say how much the first use downloads and check the disk; returns the commit, None if offline.

    Raises:
        BackboneError: not on the Hub, no network and not in the cache, or too little disk.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        cached = snapshot_download(model_id, revision=revision, local_files_only=True)
        say(f"{model_id}: from the cache.")
        return Path(cached).name
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, FileNotFoundError):
        pass
    try:
        info = HfApi().model_info(model_id, revision=revision, files_metadata=True)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise BackboneError(
            f"Expected the model {model_id} in the local cache or on the Hugging Face Hub, got: "
            f"{str(error).splitlines()[0]}",
            "Check the name and the network, or log in with `hf auth login` if the model is gated.",
        ) from error
    size = sum(
        f.size or 0
        for f in info.siblings or ()
        if not f.rfilename.endswith((".bin", ".pt", ".ckpt"))
    )
    cache = Path(constants.HF_HUB_CACHE)
    root = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(root).free
    say(f"{model_id}: downloading {size / 1e9:.1f} GB, once (free disk: {free / 1e9:.0f} GB).")
    if size > free:
        raise BackboneError(
            f"Expected {size / 1e9:.1f} GB of free disk for {model_id}, got {free / 1e9:.1f} GB.",
            "Free some space, or point HF_HOME to another disk (now "
            f"{os.environ.get('HF_HOME', 'the default')}).",
        )
    return info.sha
