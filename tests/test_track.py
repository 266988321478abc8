"""The events of a training on real dashboards."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pe_toolkit.cli.main import cli
from pe_toolkit.errors import DependencyError, UsageError
from pe_toolkit.training import TrainConfig, events, track, train
from tests.tiny import moving_square, tiny_adapter

CONFIG = TrainConfig(prompts=("a red circle",), samples=1, inner_steps=2)


def trained(where: str, name: str = "wave") -> list[events.Event]:
    run = train(tiny_adapter(), moving_square(), CONFIG)
    return list(track.tracked(run, where, name, {"recipe": "default"}))


def losses(seen: list[events.Event]) -> list[float]:
    return [event.loss for event in seen if isinstance(event, events.InnerStep)]


def trackio_rows(folder: Path) -> list[tuple[str, int, dict[str, float]]]:
    """Run, step and numbers, in the order in which they were written."""
    with contextlib.closing(sqlite3.connect(folder / "waves.db")) as base:
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    return [(name, step, json.loads(text)) for name, step, text in rows]


@pytest.mark.parametrize("where", ["wandb", "tensorboard:", "trackio: ", ""])
def test_other_dashboards_are_refused(where) -> None:
    with pytest.raises(UsageError, match=r"--track trackio\[:PROJECT\] or tensorboard\[:DIR\]"):
        track.check(where)


def test_a_missing_package_is_said_with_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)  # as Python does for what it must not find
    with pytest.raises(DependencyError, match="trackio") as caught:
        track.check("trackio")
    assert "pe-toolkit[track]" in str(caught.value.hint)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    seen = trained(f"tensorboard:{tmp_path}")
    read = accumulator(str(tmp_path / "wave"))
    read.Reload()
    found = read.Scalars("loss")
    assert [one.value for one in found] == pytest.approx(losses(seen))
    assert [one.step for one in found] == list(range(len(found)))
    last = read.Scalars("guided step/loss_last")
    assert last[-1].step == found[-1].step
    assert last[-1].value == pytest.approx(losses(seen)[-1])
    assert 0 <= read.Scalars("reference/followed")[0].value <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_trackio(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    seen = trained("trackio:waves")
    assert capsys.readouterr().out == ""
    rows = trackio_rows(tmp_path)
    found = [loss for _, _, values in rows if (loss := values.get("loss"))]
    assert found == pytest.approx(losses(seen))
    assert {name for name, _, _ in rows} == {"wave"}


def interrupted(where: str, state: Path) -> list[events.Event]:
    """A training that ends within its third guided step, and is continued; all losses in order."""
    seen, first = [], train(tiny_adapter(), moving_square(), CONFIG, state=state)
    with contextlib.closing(track.tracked(first, where, "wave", {"card": "a"})) as run:
        for event in run:
            if isinstance(event, events.InnerStep) and (event.step, event.inner) == (2, 1):
                break
            seen.append(event)
    again = train(tiny_adapter(), moving_square(), CONFIG, state=state, resume=True)
    rest = list(track.tracked(again, where, "wave", {"card": "a"}, resume=True))
    return [e for e in seen if not isinstance(e, events.InnerStep) or e.step < 2] + rest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_training_continues_its_run_on_tensorboard(tmp_path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    runs = tmp_path / "runs"
    seen = interrupted(f"tensorboard:{runs}", tmp_path / "state")
    assert [path.name for path in runs.iterdir()] == ["wave"]
    read = accumulator(str(runs / "wave"))
    read.Reload()
    found = read.Scalars("loss")
    assert [one.step for one in found] == list(range(len(found)))
    assert [one.value for one in found] == pytest.approx(losses(seen))
    steps = [one.step for one in read.Scalars("guided step/noise")]
    assert steps == sorted(set(steps))
    assert len(read.Scalars("reference/followed")) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_training_continues_its_run_on_trackio(tmp_path, monkeypatch) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    seen = interrupted("trackio:waves", tmp_path / "state")
    rows = trackio_rows(tmp_path)
    found = [(step, loss) for _, step, values in rows if (loss := values.get("loss")) is not None]
    assert [step for step, _ in found] == list(range(len(found)))
    assert [loss for _, loss in found] == pytest.approx(losses(seen))
    assert len([1 for _, _, values in rows if "reference/followed" in values]) == 1
    assert {name for name, _, _ in rows} == {"wave"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["tensorboard", "trackio"])
def test_trainings_of_one_name_have_runs_of_their_own(tmp_path, monkeypatch, kind) -> None:
    pytest.importorskip(kind)
    where = f"{kind}:{tmp_path / 'runs' if kind == 'tensorboard' else 'waves'}"
    if kind == "trackio":
        monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    for card in ("a", "b", "a"):
        list(track.tracked(iter([events.InnerStep(0, 0, 1.0)]), where, "wave", {"card": card}))
    resumed = iter([events.InnerStep(0, 1, 2.0)])
    list(track.tracked(resumed, where, "wave", {"card": "b"}, resume=True))
    if kind == "tensorboard":
        files = {path.name: len(list(path.iterdir())) for path in (tmp_path / "runs").iterdir()}
    else:
        files = collections.Counter(name for name, _, _ in trackio_rows(tmp_path))
    assert files == {"wave": 1, "wave-2": 2, "wave-3": 1}


def test_trackio_says_nothing_on_stdout_not_even_at_exit(tmp_path) -> None:
    pytest.importorskip("trackio")
    code = (
        "from pe_toolkit.training import events, track\n"
        "list(track.tracked(iter([events.InnerStep(0, 0, 1.5)]), 'trackio', 'wave'))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert (tmp_path / "pe-toolkit.db").exists()


def test_events_pass_as_they_are_and_an_error_closes_the_run(tmp_path) -> None:
    pytest.importorskip("tensorboard")

    def broken():
        yield events.InnerStep(0, 0, 1.5)
        raise RuntimeError("lost")

    run = track.tracked(broken(), f"tensorboard:{tmp_path}", "wave")
    assert next(run) == events.InnerStep(0, 0, 1.5)
    with pytest.raises(RuntimeError, match="lost"):
        next(run)
    assert list((tmp_path / "wave").iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("fault", ["deleted", "full"])
def test_a_fault_of_the_dashboard_is_one_warning(tmp_path, fault) -> None:
    pytest.importorskip("tensorboard")
    if fault == "full" and not Path("/dev/full").exists():
        pytest.skip("no disk that is full")

    def meanwhile():
        for event in train(tiny_adapter(), moving_square(), CONFIG):
            yield event
            if isinstance(event, events.Started):
                (path,) = (tmp_path / "wave").iterdir()
                path.unlink()
                if fault == "deleted":
                    path.parent.rmdir()
                else:
                    path.symlink_to("/dev/full")

    with pytest.warns(track.TrackWarning, match="The training goes on") as said:
        seen = list(track.tracked(meanwhile(), f"tensorboard:{tmp_path}", "wave"))
    assert len([one for one in said if one.category is track.TrackWarning]) == 1
    assert isinstance(seen[-1], events.Finished)
    assert len(losses(seen)) >= 2


def test_a_folder_that_is_a_file_is_refused_before_the_training(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "runs").write_text("")
    run = track.tracked(iter(()), f"tensorboard:{tmp_path / 'runs'}", "wave")
    with pytest.raises(OSError, match="runs"):
        next(run)


def test_the_command_refuses_before_any_work() -> None:
    result = CliRunner().invoke(cli, ["train", __file__, "--track", "wandb"])
    assert result.exit_code == 2
    assert "--track" in result.output
