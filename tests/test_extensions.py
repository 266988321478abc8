"""Parts of other packages: a real installed one, made in a folder on the path."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pe_toolkit import evaluation, extensions
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import DependencyError, TrainingError, UsageError
from pe_toolkit.evaluation import trackers
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.pair import score
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, GuidedStep
from tests import clips
from tests.clips import write_clip
from tests.tiny import moving_square, tiny_adapter

GROUP = "pe_toolkit.objectives"
OWN = {"dumps": "json:dumps"}


def install(
    folder: Path,
    name: str,
    module: str | None,
    entries: str,
    version: str = "0.3",
    group: str = GROUP,
) -> None:
    """What `pip install` leaves: the module, and a dist-info that declares its entry points."""
    folder.mkdir(exist_ok=True)
    if module is not None:
        (folder / f"{name}.py").write_text(module, encoding="utf-8")
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
    )
    (about / "entry_points.txt").write_text(f"[{group}]\n{entries}\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("away", "broken", "other", "smooth"):
        sys.modules.pop(name, None)


def load(name: str) -> object:
    return extensions.load(GROUP, OWN, name, "an objective")


def test_without_other_packages_there_are_ours() -> None:
    assert extensions.names_in("pe_toolkit.nothing", OWN) == ("dumps",)
    import json

    assert load("dumps") is json.dumps


def test_an_installed_package_adds_a_name(site) -> None:
    install(
        site, "smooth", "class Smooth:\n    pass\n", "smooth = smooth:Smooth\na = smooth:Smooth"
    )
    assert extensions.names_in(GROUP, OWN) == ("dumps", "a", "smooth")
    assert "smooth" not in sys.modules  # listing imports nothing of it
    assert load("smooth").__name__ == "Smooth"


def test_names_that_ship_are_not_taken_over(site) -> None:
    install(site, "smooth", "Smooth = None\n", "dumps = smooth:Smooth")
    assert extensions.names_in(GROUP, OWN) == ("dumps",)
    assert load("dumps") is not None


def test_unknown_names_are_refused_with_those_there_are(site) -> None:
    install(site, "smooth", "class Smooth: ...\n", "smooth = smooth:Smooth")
    with pytest.raises(UsageError, match=r"an objective out of dumps, smooth, got 'none'"):
        load("none")


@pytest.mark.parametrize(
    ("module", "entry", "said"),
    [
        (None, "bad = away:Thing", "ModuleNotFoundError"),
        ("raise RuntimeError('no licence')\n", "bad = broken:Thing", "RuntimeError: no licence"),
        ("", "bad = broken:Thing", "AttributeError"),
        ("Thing = 1\n", "BAD NAME = broken:Thing", "rename"),
    ],
)
def test_a_bad_one_names_its_package(site, module, entry, said) -> None:
    install(site, "broken", module, entry)
    with pytest.raises(DependencyError) as caught:
        load(entry.partition(" =")[0])
    assert "broken 0.3" in caught.value.message
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_two_packages_for_one_name_are_both_named(site) -> None:
    for name in ("smooth", "other"):
        install(site, name, "class Thing: ...\n", f"same = {name}:Thing")
    with pytest.raises(DependencyError, match=r"other 0\.3 and smooth 0\.3"):
        load("same")


def test_one_that_does_not_fit_is_refused_by_its_package(site) -> None:
    install(site, "smooth", "Smooth = 3\n", "smooth = smooth:Smooth")
    error = extensions.refused(GROUP, "smooth", "an objective", "it has no `loss`")
    assert "smooth 0.3" in error.message
    assert "it has no `loss`" in error.message


OBJECTIVE = """
class Own:
    reads = "attention"
    @classmethod
    def of(cls, reference, tau):
        {of}
        return cls()
    def loss(self, q, k):
        return {loss}
"""


@pytest.mark.parametrize(
    ("of", "loss", "said"),
    [
        ("raise KeyError('x')", "q.mean() ** 2", "KeyError"),
        ("raise SystemExit(7)", "q.mean() ** 2", "SystemExit: 7"),
        ("return None", "q.mean() ** 2", "returned NoneType, which has no `loss`"),
        ("pass", "1.0", "a scalar tensor, and is float"),
        ("pass", "(q ** 2).mean((1, 2, 3))", r"a scalar tensor, and is \(1,\)"),
        ("pass", "(q.detach() ** 2).mean()", "has no gradient"),
        ("pass", "q.nothing", "AttributeError"),
    ],
)
def test_an_objective_that_fails_names_its_package(site, of, loss, said) -> None:
    install(site, "smooth", OBJECTIVE.format(of=of, loss=loss), "own = smooth:Own")
    config = TrainConfig(prompts=("a",), samples=1, objective="own", inner_steps=1)
    with pytest.raises(DependencyError, match=said) as caught:
        list(train(tiny_adapter(), moving_square(), config))
    assert "smooth 0.3" in caught.value.message


def test_a_loss_below_zero_is_refused_before_all_steps_are_done(site) -> None:
    install(
        site, "smooth", OBJECTIVE.format(of="pass", loss="-(q ** 2).mean()"), "own = smooth:Own"
    )
    config = TrainConfig(prompts=("a",), samples=1, objective="own", inner_steps=1)
    steps = []
    with pytest.raises(TrainingError, match="a loss of at least 0"):
        steps += train(tiny_adapter(), moving_square(), config)
    assert not [event for event in steps if isinstance(event, GuidedStep)]
    install(site, "other", OBJECTIVE.format(of="pass", loss="(q ** 2).mean()"), "good = other:Own")
    config = TrainConfig(prompts=("a",), samples=1, objective="good", inner_steps=1)
    *_, last = train(tiny_adapter(), moving_square(), config)
    assert isinstance(last, Finished)


METRIC = """
from pe_toolkit.evaluation.contract import Metric
def fail(): raise ZeroDivisionError
made = Metric("m", lambda pair: 0.5, 0, 1, {more})
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("needs=frozenset({'track'})", "needs track"),
        ("better='up'", "'up', not 'higher'"),
        ("needs=None", "`needs` are no set"),
        ("prepare=exit", "SystemExit"),
        ("prepare=fail", "ZeroDivisionError"),
    ],
)
def test_a_metric_that_does_not_fit_is_found_before_any_work(site, more, said) -> None:
    install(site, "smooth", METRIC.format(more=more), "own = smooth:made", group=evaluation.GROUP)
    with pytest.raises(DependencyError, match=said) as caught:
        evaluation.prepare("own", evaluation.metric("own"))
    assert "smooth 0.3" in caught.value.message


def test_a_loss_of_something_else_is_no_loss(site) -> None:
    loss = "torch.ones((), requires_grad=True) * 1.0"
    install(site, "smooth", "import torch\n" + OBJECTIVE.format(of="pass", loss=loss), OWN_ENTRY)
    config = TrainConfig(prompts=("a",), samples=1, objective="own", inner_steps=1)
    with pytest.raises(TrainingError, match="depends on what is optimised"):
        list(train(tiny_adapter(), moving_square(), config))


OWN_ENTRY = "own = smooth:Own"
WRITES = """
import numpy as np
from pe_toolkit.evaluation.contract import Metric
from pe_toolkit.evaluation.tracks import Tracks

def blacken(pair):
    pair.video[:] = 0
    return 0.5

made = Metric("m", blacken, 0, 1)

class Own:
    def track(self, frames, starts):
        frames[:] = 0
        points = np.repeat(starts[:, None], len(frames), 1)
        return Tracks(points, np.ones(points.shape[:2], bool), {size})
"""


def test_what_others_write_on_is_theirs(site) -> None:
    text = WRITES.format(size="frames.shape[2:0:-1]")
    install(site, "smooth", text, "own = smooth:made", group=evaluation.GROUP)
    frames = np.full((5, 8, 12, 3), 9, np.uint8)
    (result,) = score(Pair(frames.copy(), frames), ["own"])
    assert result.value == 0.5
    assert (frames == 9).all()


@pytest.mark.parametrize("size", ["frames.shape[2:0:-1]", "(1920, 1080)"])
def test_tracks_are_of_the_clip_that_was_followed(site, size) -> None:
    text = WRITES.format(size=size)
    install(site, "smooth", text, "own = smooth:Own", group=trackers.GROUP)
    frames, starts = np.full((5, 8, 12, 3), 9, np.uint8), np.full((2, 2), 3.0)
    right = size.startswith("frames")
    wrong = pytest.raises(DependencyError, match=r"in \(12, 8\) pixels, got \(1920, 1080\)")
    with contextlib.nullcontext() if right else wrong:
        trackers.tracker("own").track(frames, starts)
    assert (frames == 9).all()


LOUD = """
from pe_toolkit.evaluation.contract import Metric
def say(): print("prepared")
def score(pair): print("scored"); return 0.5
made = Metric("m", score, 0, 1, prepare=say)
"""


def test_what_others_print_is_no_data(site, tmp_path) -> None:
    install(site, "smooth", LOUD, "own = smooth:made", group=evaluation.GROUP)
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, clips.moving_square(6))
    words = ["eval", "--ref", "a.mp4", "--video", "b.mp4", "--metrics", "own", "--json"]
    words = [str(tmp_path / word) if word.endswith(".mp4") else word for word in words]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert [json.loads(line) for line in result.stdout.splitlines()]
    assert "prepared\nscored" in result.stderr


PREPARED = """
class Own:
    def prepare(self): raise OSError("no network")
    def track(self, frames, starts): raise AssertionError("before it was prepared")
"""


def test_a_tracker_whose_prepare_cannot_be_looked_at_is_named(site) -> None:
    text = PREPARED.replace("def prepare", "@property\n    def prepare")
    install(site, "smooth", text, "own = smooth:Own", group=trackers.GROUP)
    with pytest.raises(DependencyError, match="no network") as caught:
        trackers.tracker("own").prepare()
    assert "smooth 0.3" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "raise OSError('no\\nnetwork.')",
        "class Own:\n    def track(self, frames, starts): raise OSError('no network.')",
        "class Own:\n    def track(self, frames, starts): return starts",
        "from pe_toolkit.errors import UsageError\n"
        "class Own:\n    def track(self, frames, starts): raise UsageError('Expected no network.')",
    ],
)
def test_errors_of_trackers_end_in_one_full_stop(site, text) -> None:
    install(site, "smooth", text, "own = smooth:Own", group=trackers.GROUP)
    with pytest.raises(DependencyError) as caught:
        trackers.tracker("own").track(np.zeros((3, 8, 8, 3), np.uint8), np.full((2, 2), 3.0))
    assert caught.value.message.rstrip(".") + "." == caught.value.message
    assert "\n" not in caught.value.message


def test_a_tracker_that_cannot_be_prepared_is_named(site) -> None:
    install(site, "smooth", PREPARED, "own = smooth:Own", group=trackers.GROUP)
    with pytest.raises(DependencyError, match="no network") as caught:
        trackers.tracker("own").prepare()
    assert "smooth 0.3" in caught.value.message
