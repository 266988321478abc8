"""The events of a training for those who have a dashboard: TensorBoard or trackio.

    for event in tracked(train(...), "tensorboard", "wave"): ...

Events pass through as they are. What is written on the way: `loss` at every inner step, counted
over the whole training; `loss_first`, `loss_last`, `noise` and `seconds` at every guided step;
what of the reference was matched, moves and was followed, at the first one. Extra `[track]`; both
write to this machine only, unless trackio's own environment variables say otherwise. What goes
wrong with a dashboard never ends a training that has begun.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pe_toolkit.errors import DependencyError, UsageError, option
from pe_toolkit.training import events as kinds

Log = Callable[[Mapping[str, float], int], None]
"""`log(numbers, step)`."""
KINDS = {"tensorboard": "runs", "trackio": "pe-toolkit"}
"""What may follow the colon, if nothing does: a folder, and the name of a project."""


class TrackWarning(UserWarning):
    """A dashboard cannot be written to any more; the training goes on."""


def parse(where: str) -> tuple[str, str]:
    """`tensorboard[:DIR]` or `trackio[:PROJECT]` -> the dashboard, and the folder or project.

    Raises:
        UsageError: something else.
    """
    kind, colon, rest = where.partition(":")
    if kind not in KINDS or (colon and not rest.strip()):
        raise UsageError(
            f"Expected {option('track')} trackio[:PROJECT] or tensorboard[:DIR], got {where!r}."
        )
    return kind, rest or KINDS[kind]


def check(where: str) -> None:
    """Refuse before any work what cannot be written to.

    Raises:
        UsageError: as `parse`.
        DependencyError: the package is not installed.
    """
    kind, _ = parse(where)
    if importlib.util.find_spec(kind) is None:
        raise DependencyError(
            f"Expected the package {kind} for {option('track')} {where}, found none.",
            'Install it: pip install "pe-toolkit[track]"',
        )


def show(where: str) -> str:
    """The command that shows what was written; raises as `parse`."""
    kind, rest = parse(where)
    command = {"tensorboard": "tensorboard --logdir", "trackio": "trackio show --project"}[kind]
    return f"{command} {shlex.quote(rest)}"


def tracked(
    events: Iterator[kinds.Event],
    where: str,
    name: str,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[kinds.Event]:
    """`events` of a training as they come, written to a dashboard on the way.

    Args:
        where: as `parse` takes it.
        name: of the run; a run of that name is continued.
        settings: recorded with the run as text.

    Raises:
        UsageError, DependencyError: as `check`.
        OSError: the folder cannot be written to, before the training. Later on that is a
            `TrackWarning`, and nothing more is written.
    """
    check(where)
    kind, rest = parse(where)
    opened = {"tensorboard": _tensorboard, "trackio": _trackio}[kind]
    about = {key: str(value) for key, value in (settings or {}).items()}
    stack = contextlib.ExitStack()
    log = stack.enter_context(opened(rest, name, about))
    inner, well = 1, True
    try:
        for event in events:
            if isinstance(event, kinds.Started):
                inner = max(1, event.inner_steps)
            if well and (found := numbers(event, inner)) is not None:
                well = _harmless(partial(log, *found), where)
            yield event
    finally:
        if well:
            _harmless(stack.close, where)
        else:  # which was said
            with contextlib.suppress(Exception):
                stack.close()


def _harmless(write: Callable[[], None], where: str) -> bool:
    """Whether `write` did its work; warns if it did not."""
    try:
        write()
    except Exception as error:  # of whatever kind: both are made by others
        why = getattr(error, "strerror", None) or error
        warnings.warn(
            f"Nothing more is written to {where}: {why}. The training goes on.",
            TrackWarning,
            stacklevel=3,
        )
        return False
    return True


def numbers(event: kinds.Event, inner: int) -> tuple[dict[str, float], int] | None:
    """What of an event is a number, and its step: that of inner steps goes on over all guided ones,
    `inner` of them each.
    """
    match event:
        case kinds.ReferenceMatched():
            found = {
                "reference/matched": event.fraction, "reference/moving": event.moving,
                "reference/followed": event.followed,
            }  # fmt: skip
            return found, 0
        case kinds.InnerStep():
            return {"loss": event.loss}, event.step * inner + event.inner
        case kinds.GuidedStep():
            found = {"noise": event.noise, "seconds": event.seconds}
            if event.loss_first is not None and event.loss_last is not None:
                found |= {"loss_first": event.loss_first, "loss_last": event.loss_last}
            step = event.index * inner + inner - 1
            return {f"guided step/{key}": value for key, value in found.items()}, step
        case _:
            return None


@contextlib.contextmanager
def _tensorboard(folder: str, name: str, settings: Mapping[str, str]) -> Iterator[Log]:
    """A run in `folder/name`, for `tensorboard --logdir folder`.

    Written here and not by torch's `SummaryWriter`: its thread prints what goes wrong, and raises
    it later, elsewhere.
    """
    from pathlib import Path

    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import scalar, text

    run = Path(folder) / name.replace("/", "_")
    run.mkdir(parents=True, exist_ok=True)
    path = run / f"events.out.tfevents.{time.time_ns()}"  # they are read in this order

    def write(**fields: Any) -> None:
        with path.open("ab") as file:
            RecordWriter(file).write(Event(wall_time=time.time(), **fields).SerializeToString())

    def log(found: Mapping[str, float], step: int) -> None:
        for key, value in found.items():
            write(summary=scalar(key, value), step=step)

    write(file_version="brain.Event:2")
    for key, value in settings.items():
        write(summary=text(f"settings/{key}", value))
    yield log


@contextlib.contextmanager
def _trackio(project: str, name: str, settings: Mapping[str, str]) -> Iterator[Log]:
    """A run of a project, for `trackio show --project PROJECT`. What it says on stdout goes
    nowhere: stdout is the caller's.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from importlib import import_module

        trackio: Any = import_module("trackio")
        run = trackio.init(
            project, name=name, config=dict(settings), resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
    try:
        yield lambda found, step: run.log(dict(found), step=step)
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                trackio.finish()  # which also forgets it: at exit it would talk once more
            except RuntimeError:  # another thread began it
                run.finish()
