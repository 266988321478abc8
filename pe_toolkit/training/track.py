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
import hashlib
import importlib.util
import io
import json
import shlex
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
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
    *,
    resume: bool = False,
) -> Iterator[kinds.Event]:
    """`events` of a training as they come, written to a dashboard on the way.

    Args:
        where: as `parse` takes it.
        name: of the run; if there is one, `name-2` and so on.
        settings: recorded with the run as text.
        resume: whether the training continues an interrupted one: so does the last run of that name
            with these settings, if there is one.

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
    log, continued = stack.enter_context(opened(rest, name, about, resume))
    inner, well = 1, True
    try:
        for event in events:
            if isinstance(event, kinds.Started):
                inner = max(1, event.inner_steps)
            there = continued and isinstance(event, kinds.ReferenceMatched)  # from before
            if well and not there and (found := numbers(event, inner)) is not None:
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


def _chosen(name: str, taken: Collection[str], mine: Collection[str]) -> tuple[str, bool]:
    """The last run among `mine` to continue, else a name that is free; and whether it continues."""
    names = [name, *(f"{name}-{n}" for n in range(2, len(taken) + 2))]
    own = [each for each in names if each in mine]
    return (own[-1], True) if own else (next(n for n in names if n not in taken), False)


@contextlib.contextmanager
def _tensorboard(
    folder: str, name: str, settings: Mapping[str, str], resume: bool
) -> Iterator[tuple[Log, bool]]:
    """A run in `folder/name`, for `tensorboard --logdir folder`.

    Written here and not by torch's `SummaryWriter`: its thread prints what goes wrong, and raises
    it later, elsewhere.
    """
    from pathlib import Path

    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import scalar, text

    home, facts = Path(folder), json.dumps(settings, sort_keys=True)
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    taken = {path.name for path in home.iterdir()} if home.is_dir() else set()
    mine = {path.parent.name for path in home.glob(f"*/*.{key}")} if resume else set()
    chosen, continued = _chosen(name.replace("/", "_"), taken, mine)
    run, again = home / chosen, continued
    run.mkdir(parents=True, exist_ok=continued)
    path = run / f"events.out.tfevents.{time.time_ns()}.{key}"  # they are read in this order

    def write(**fields: Any) -> None:
        with path.open("ab") as file:
            RecordWriter(file).write(Event(wall_time=time.time(), **fields).SerializeToString())

    def log(found: Mapping[str, float], step: int) -> None:
        nonlocal again
        if again:  # what the interrupted step had written from here on is hidden
            write(step=step, session_log=SessionLog(status=SessionLog.START))
            again = False
        for key, value in found.items():
            write(summary=scalar(key, value), step=step)

    write(file_version="brain.Event:2")
    for key, value in ({} if continued else settings).items():
        write(summary=text(f"settings/{key}", value))
    yield log, continued


@contextlib.contextmanager
def _trackio(
    project: str, name: str, settings: Mapping[str, str], resume: bool
) -> Iterator[tuple[Log, bool]]:
    """A run of a project, for `trackio show --project PROJECT`. What it says on stdout goes
    nowhere: stdout is the caller's.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from importlib import import_module

        trackio: Any = import_module("trackio")
        try:
            runs = list(trackio.Api().runs(project))
        except ValueError:  # no such project yet
            runs = []
        same = [r.name for r in runs if resume and settings.items() <= (r.config or {}).items()]
        chosen, continued = _chosen(name, {r.name for r in runs}, same)
        storage: Any = import_module("trackio.sqlite_storage").SQLiteStorage
        last = storage.get_max_step_for_run(project, chosen) if continued else None
        run = trackio.init(
            project, name=chosen, config=dict(settings), resume="allow" if resume else "never",
            embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(found: Mapping[str, float], step: int) -> None:
        # Some of an interrupted step was written before; of its losses only: it had not ended.
        if last is None or step > last or "loss" not in found:
            run.log(dict(found), step=step)

    try:
        yield log, continued
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                trackio.finish()  # which also forgets it: at exit it would talk once more
            except RuntimeError:  # another thread began it
                run.finish()
