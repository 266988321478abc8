"""The events of a training for those who have a dashboard: TensorBoard or trackio.

    for event in tracked(train(...), "tensorboard", "wave"): ...

Events pass through as they are. What is written on the way: `loss` at every inner step, counted
over the whole training; `loss_first`, `loss_last`, `noise` and `seconds` at every guided step;
what of the reference was matched, moves and was followed, at the first one. Extra `[track]`; both
write to this machine only, unless trackio's own environment variables say otherwise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pe_toolkit.errors import DependencyError, UsageError, option
from pe_toolkit.training import events as kinds

Log = Callable[[Mapping[str, float], int], None]
"""`log(numbers, step)`."""
KINDS = {"tensorboard": "runs", "trackio": "pe-toolkit"}
"""What may follow the colon, if nothing does: a folder, and the name of a project."""


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
    """
    check(where)
    kind, rest = parse(where)
    opened = {"tensorboard": _tensorboard, "trackio": _trackio}[kind]
    about = {key: str(value) for key, value in (settings or {}).items()}
    with opened(rest, name, about) as log:
        inner = 1
        for event in events:
            if isinstance(event, kinds.Started):
                inner = max(1, event.inner_steps)
            if (found := numbers(event, inner)) is not None:
                log(*found)
            yield event


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
    """A run in `folder/name`, for `tensorboard --logdir folder`."""
    from pathlib import Path

    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(Path(folder) / name.replace("/", "_")))
    try:
        for key, value in settings.items():
            writer.add_text(f"settings/{key}", value)

        def log(found: Mapping[str, float], step: int) -> None:
            for key, value in found.items():
                writer.add_scalar(key, value, step)

        yield log
    finally:
        writer.close()


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
