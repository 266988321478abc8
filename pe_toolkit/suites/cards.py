"""Cards for many references: `pe train A B ... -o DIR` as a list of jobs.

DIR/NAME.safetensors     a card for each reference, named after it
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.errors import OutputExistsError
from pe_toolkit.jobs.folder import JobFolder
from pe_toolkit.jobs.job import Job, Place
from pe_toolkit.jobs.locks import held
from pe_toolkit.training.request import TrainRequest
from pe_toolkit.video.names import file_name
from pe_toolkit.video.sources import digest

if TYPE_CHECKING:
    from pe_toolkit.card import CardInfo, MotionCard

WORK = f"{__name__}:card"
_PATHS = ("reference", "kv_from", "image")


def jobs(requests: Sequence[TrainRequest], backbone: Mapping[str, Any]) -> list[Job]:
    """One job for each request.

    Args:
        requests: what is to be learned. Cards are named after the references; of two of one name,
            the second is called `NAME-2`.
        backbone: what `load_backbone` takes, `name` and whatever else is not at its default.
    """
    made: list[Job] = []
    names: set[str] = set()
    for request in requests:
        path = request.reference
        stem = file_name(path.stem or path.resolve().stem)
        # `A` and `a` are one file to some systems.
        name = next(n for n in _numbered(stem) if n.casefold() not in names)
        names.add(name.casefold())
        args = {"request": as_dict(request), "backbone": dict(backbone), "card": name}
        made.append(Job(name, WORK, args))
    return made


def _numbered(stem: str) -> Any:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def as_dict(request: TrainRequest) -> dict[str, Any]:
    """The fields that are not at their defaults, as JSON holds them; paths in full."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(TrainRequest):
        value = getattr(request, field.name)
        if value == field.default:
            continue
        out[field.name] = str(value.absolute()) if isinstance(value, Path) else value
    for name in ("size", "prompts"):
        if name in out:
            out[name] = list(out[name])
    if "overrides" in out:
        out["overrides"] = [list(pair) for pair in out["overrides"]]
    return out


def from_dict(data: Mapping[str, Any]) -> TrainRequest:
    """What `as_dict` made."""
    values = dict(data)
    values |= {name: Path(values[name]) for name in _PATHS if name in values}
    values |= {name: tuple(values[name]) for name in ("size", "prompts") if name in values}
    if "overrides" in values:
        values["overrides"] = tuple((key, value) for key, value in values["overrides"])
    return TrainRequest(**values)


def check_free(path: Path, id: str, folder: JobFolder) -> None:
    """Refuse to write over a card that is not this job's own.

    Raises:
        OutputExistsError: there is one.
    """
    if path.exists() and digest(path) not in folder.owned(id):
        raise OutputExistsError(
            f"Expected no file at {path}, but there is one, made otherwise.",
            "Use --force to overwrite it, or choose another -o.",
        )


def _put(made: MotionCard, path: Path, id: str, folder: JobFolder) -> CardInfo:
    """Write a card, having noted whose it is."""
    beside = folder.records / f"{id}.safetensors"
    try:
        info = made.save(beside, force=True)
        check_free(path, id, folder)
        folder.own(id, info.sha256)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return info


def card(args: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Learn the motion of one reference and write its card.

    Raises:
        OutputExistsError: another list has put one there.
    """
    folder = JobFolder(place.folder)
    # Of two lists with a reference of this name the second one waits, and is refused.
    with held(folder.records / f".{args['card']}.card.lock", wait=True):
        return _learned(args, place, folder)


def _learned(args: Mapping[str, Any], place: Place, folder: JobFolder) -> dict[str, Any]:
    from pe_toolkit.card.followed import followed_by, little
    from pe_toolkit.suites.doing import trained
    from pe_toolkit.suites.loaded import backbone, machine
    from pe_toolkit.training.shape import Shape
    from pe_toolkit.video import require_motion

    request = from_dict(args["request"])
    asked = dict(args["backbone"]) | {"device": place.device}
    adapter = backbone(asked | {"published": request.recipe == "paper"}, request.purpose(None))
    shape = Shape.of_adapter(adapter)
    request.check_for(shape)
    clip = request.read(shape)
    require_motion(clip)
    path = place.folder / f"{args['card']}.safetensors"
    check_free(path, place.id, folder)
    state = path.with_name(f"{path.name}.resume")
    config = request.config(adapter.variant)
    made, _, seconds = trained(adapter, clip, config, state, request.read_image())
    info = _put(made, path, place.id, folder)
    state.unlink(missing_ok=True)
    loss = info.spec.training.loss
    return {
        "card": path.name,
        "sha256": info.sha256,
        "clip": clip.sha256,
        "image": None if request.image is None else digest(request.image),
        "size_bytes": info.size_bytes,
        "seconds": round(seconds, 3),
        "matched": info.spec.reference.matched,
        "followed": followed_by(info.spec),
        "little_to_learn_from": little(info.spec),
        "loss_first": loss[0][0] if loss else None,
        "loss_last": loss[-1][1] if loss else None,
    } | machine(adapter)
