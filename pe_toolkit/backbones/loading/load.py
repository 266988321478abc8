"""From a name to a loaded adapter: bundled weights, a local folder, or a checkpoint on the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pe_toolkit.acceleration import quantize as weights
from pe_toolkit.backbones import bundled
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.catalogue.names import Named, like_folder, named
from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant, nearest
from pe_toolkit.backbones.cogvideox import tiling
from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
from pe_toolkit.backbones.loading import build, files, hub
from pe_toolkit.backbones.loading import device as _device
from pe_toolkit.backbones.loading.device import DTYPES, Say
from pe_toolkit.backbones.machine import memory, placement
from pe_toolkit.backbones.machine.offload import OFFLOADS, place, settle
from pe_toolkit.backbones.machine.placement import Purpose, architecture_of, request_of
from pe_toolkit.errors import BackboneError, UsageError, option


@dataclass(frozen=True)
class Source:
    """Where a pipeline is: its folder, and for one of the Hub its name and commit."""

    folder: Path
    where: str
    hub_id: str | None = None
    commit: str | None = None


def load_backbone(
    name: str | Path = "auto",
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    offload: str = "auto",
    quantize: str = "none",
    vae_tiling: bool | None = None,
    copy_of: str | None = None,
    of_card: bool = False,
    published: bool = False,
    purpose: Purpose | None = None,
    on_event: Say | None = None,
    on_offload: Say | None = None,
    on_part: Callable[[build.PartLoaded], None] | None = None,
) -> CogVideoXAdapter:
    """Load a backbone and wrap it: known classes, weights as safetensors, no code of its own.

    Args:
        name: `auto`, a name of `VARIANTS`, `owner/name` on the Hub (also where there is a folder of
            that name), or a folder, written as `./folder` or in full, or a `Path`.
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
        copy_of: a name of `VARIANTS`, of which the folder or repository is a copy: it gets the
            defaults of that row, and cards made with it name that model.
        of_card: name and revision come from a card, as `loading.trust.of_card` gives them: a commit
            has to be one of the repository's own branches or tags.
        published: a folder, or a repository without a row, gets the scheduler that the published
            model of its kind is run with (the official code does so); default: it keeps its own,
            and `on_event` says where they differ.
        purpose: what `auto` has to have room for; default: training and applying, at the
            backbone's own frames and size.
        on_event: gets one sentence for whatever a person should know (choice of `auto`, download
            size).
        on_offload: gets the offload mode before anything is placed.
        on_part: gets a `PartLoaded` before the first part of the model is read and after each.

    Raises:
        UsageError: an unknown name, dtype, offload or quantization; a copy that is none; a revision
            of what is not on the Hub.
        UnsupportedError: as `placement.decide`, for a training.
        DependencyError: a quantization or a proxy whose package is missing.
        DeviceError: the device is missing or too small.
        BackboneError: the model cannot be found, downloaded or loaded, or may not be.
    """
    say, purpose = on_event or (lambda _: None), purpose or Purpose()
    name = str(name.absolute()) if isinstance(name, Path) else name
    _check_names(offload, dtype)
    weights.check(quantize)
    placement.check(purpose, offload, quantize)
    where = _device.pick_device(device)
    if name == "auto":
        name = _device.choose(where, say)
    found = named(name, copy_of)
    row = found.row
    _check_device(row, where, offload)
    if row is not None:  # known before anything is downloaded
        dtype = dtype or _device.default_dtype(row, where)
        architecture = architectures.architecture_for(row)
        if architecture is not None:
            request = memory.Request.of(row, guided=1, dtype=dtype, quantize=quantize)
            offload = settle(offload, where, row.name, architecture, request, purpose, say)
    source = _find(found, name, revision, say, of_card=of_card)
    if copy_of is not None:
        _check_copy(source, VARIANTS[copy_of])
    dtype = _dtype(dtype, source, where, say)
    pipe, digest = _pipeline(source, row, getattr(torch, dtype), on_part)
    _schedule(pipe, row, source, published, say, training="train" in purpose.tasks)
    if offload == "auto":
        offload = "none"  # what is bundled is a few megabytes: there is nothing to gain
        if row is None:
            config = pipe.transformer.config
            request = request_of(config, dtype=dtype, quantize=quantize)
            offload = _settled(config, where, name, request, purpose, say)
    if on_offload is not None:
        on_offload(offload)
    weights.quantize(pipe.transformer, quantize)  # before it is moved: half as much to move
    place(pipe, where, offload)
    pipe.set_progress_bar_config(disable=True)
    _tile(pipe, row, where, vae_tiling)
    return CogVideoXAdapter(
        pipe,
        row,
        model_id=source.hub_id if copy_of is None else VARIANTS[copy_of].hub_id,
        revision=source.commit if copy_of is None else None,
        weights_digest=digest,
        vae_tiling=vae_tiling,
    )


def _check_names(offload: str, dtype: str | None) -> None:
    if offload not in OFFLOADS:
        raise UsageError(f"Expected --offload out of {', '.join(OFFLOADS)}, got {offload!r}.")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"Expected --dtype out of {', '.join(DTYPES)}, got {dtype!r}.")


def _check_device(row: Variant | None, where: torch.device, offload: str) -> None:
    if row is not None:
        _device.check_device(row, where)
    if offload not in ("auto", "none") and where.type == "cpu":
        raise UsageError(
            f"Expected a GPU for --offload {offload}, got the CPU: there is nothing to move parts "
            "off.",
            "Leave --offload out.",
        )


def _settled(
    config: Any, where: torch.device, name: str, request: memory.Request, purpose: Purpose, say: Say
) -> str:
    """`auto` for a model without a row, once its configuration is there."""
    architecture, purpose = architecture_of(config), purpose.within(config)
    return settle("auto", where, name, architecture, request, purpose, say)


def _schedule(
    pipe: Any, row: Variant | None, source: Source, published: bool, say: Say, *, training: bool
) -> None:
    """The scheduler that the model is to be run with."""
    if row is None:  # a card was trained with what it is applied with: said once
        _compare(pipe, source, published, say if training or published else lambda _: None)
    elif not row.bundled:
        _recommend(pipe, row)


def _tile(pipe: Any, row: Variant | None, where: torch.device, wanted: bool | None) -> None:
    """Decode in tiles, if that is wanted, or everywhere but with the bundled backbone on a CPU."""
    whole = where.type == "cpu" and row is not None and row.bundled
    if wanted or (wanted is None and not whole):
        tiling.enable(pipe.vae)


def _find(found: Named, name: str, revision: str | None, say: Say, *, of_card: bool) -> Source:
    """Where the pipeline is; one of the Hub is fetched if it is not in the cache.

    Raises:
        UsageError: a revision of what is not on the Hub.
    """
    if revision is not None and found.hub_id is None:
        raise _no_revision(found, name, revision)
    if found.folder is not None:
        return Source(found.folder.absolute(), name)
    if found.hub_id is None:
        assert found.row is not None
        return Source(bundled.ROOT, "the installed package")
    hub_id = found.hub_id
    if found.row is not None:  # in the cache under another name of its owner?
        others = [i for i in found.row.hub_ids if hub_id in found.row.hub_ids]
        hub_id = next((i for i in (hub_id, *others) if hub.cached(i, revision)), hub_id)
    if like_folder(hub_id):
        say(f"{hub_id}: the repository of that name on the Hub. {like_folder(hub_id)}".strip())
    folder = hub.fetch(hub_id, revision, say, of_card=of_card)
    return Source(folder, hub_id, hub_id, folder.name)


def _no_revision(found: Named, name: str, revision: str) -> UsageError:
    what = "a folder" if found.folder is not None else "which ships with pe-toolkit"
    return UsageError(
        f"Expected no {option('revision')} with {name}, {what}, got {revision!r}: only "
        "repositories on the Hub have revisions.",
        "Leave it out.",
    )


def _dtype(asked: str | None, source: Source, where: torch.device, say: Say) -> str:
    """What was asked for, or what the model is published in, or float32."""
    if asked is not None:
        if where.type == "cpu" and asked == "float16":
            say("float16 on a CPU is many times slower than bfloat16 or float32 (--dtype).")
        return asked
    dtype = _device.nearest_dtype(source.folder, where)
    if dtype is not None:
        say(
            f"{source.where}: in {dtype}, as CogVideoX of its kind is published (--dtype: another)."
        )
    return dtype or "float32"


def _pipeline(
    source: Source,
    row: Variant | None,
    dtype: torch.dtype,
    on_part: Callable[[build.PartLoaded], None] | None,
) -> tuple[Any, str | None]:
    """The pipeline, and the digest of its weights where it is known."""
    if row is None or not row.bundled:
        return build.pipeline(source.folder, source.where, dtype, on_part), None
    own = bundled.path(row.name)
    pipe = build.pipeline(source.folder, source.where, dtype, on_part, transformer=own)
    data = (own / f"{files.STEMS['transformer']}.safetensors").read_bytes()
    return pipe, "sha256:" + hashlib.sha256(data).hexdigest()


def _check_copy(source: Source, row: Variant) -> None:
    """Refuse a copy of another architecture than its model's.

    Raises:
        BackboneError: says what differs.
    """
    known = architectures.architecture_for(row)
    assert known is not None, "every row of the Hub has an architecture"
    config = files.read_json(source.folder / "transformer" / "config.json")
    wanted = {
        "num_layers": known.layers,
        "num_attention_heads": known.heads,
        "in_channels": known.in_channels,
        "use_rotary_positional_embeddings": known.positions == "rotary",
        "patch_size_t": known.patch_size_t,
    }
    for key, value in wanted.items():
        if (got := config.get(key, None)) != value:
            raise BackboneError(
                f"Expected a copy of {row.name} at {source.where}, with {key} {value}, got {got}.",
                "Name the model that it is a copy of, or leave --copy-of out.",
            )


def _compare(pipe: Any, source: Source, published: bool, say: Say) -> None:
    """Say that a model that no row names has another scheduler than its kind is run with, or give
    it that one.
    """
    config, own = pipe.transformer.config, type(pipe.scheduler).__name__
    row = nearest(
        rotary=config.use_rotary_positional_embeddings,
        in_time=bool(config.patch_size_t),
        image_to_video=config.in_channels != config.out_channels,
        scheduler=own,
    )
    if own == row.scheduler:
        return
    guided = " and dynamic guidance" if VARIANTS[row.name].dynamic_cfg else ""
    kind = f"{row.scheduler}{guided}, as {row.name} is run"
    if published:
        say(f"{source.where}: with {kind}, in place of its own {own}.")
        _recommend(pipe, row)
    else:
        say(f"{source.where}: with its own {own}, not {kind} (--recipe paper takes that).")


def _recommend(pipe: Any, variant: Variant) -> None:
    """Give a published checkpoint that we loaded the scheduler of its row in the table.

    Not every checkpoint comes with the one that its authors recommend: 1.5 is published with DDIM,
    where their script takes DPM. Pipelines that users load themselves keep theirs.
    """
    import diffusers

    kind, own = getattr(diffusers, variant.scheduler), pipe.scheduler
    if type(own) is not kind or own.config.timestep_spacing != "trailing":
        pipe.scheduler = kind.from_config(own.config, timestep_spacing="trailing")
