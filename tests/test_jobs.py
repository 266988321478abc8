"""Lists of jobs: skipped if done, kept if others fail, never done twice, by one or by many."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pe_toolkit.errors import DependencyError, OutputError, PeError
from pe_toolkit.jobs.folder import JobFolder
from pe_toolkit.jobs.job import Job, Outcome
from pe_toolkit.jobs.locks import HeldError, held
from pe_toolkit.jobs.pools import Here
from pe_toolkit.jobs.processes import Processes
from pe_toolkit.jobs.run import Tally, run
from pe_toolkit.jobs.work import do


def job(number: int, work: str = "square", needs: tuple[str, ...] = (), **more: object) -> Job:
    return Job(f"n{number}", f"tests.jobs_work:{work}", {"number": number, **more}, needs)


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.job.name: outcome.state for outcome in outcomes}


def counted(folder: Path) -> list[int]:
    return sorted(int(line) for line in (folder / "done").read_text().split())


def all_of(jobs: list[Job], path: Path, pool: object = None) -> list[Outcome]:
    with pool or Here(path) as place:  # type: ignore[attr-defined]
        return list(run(jobs, JobFolder(path), place))


def test_a_list_is_done_once(tmp_path: Path) -> None:
    jobs = [job(1), job(2), job(3)]
    assert set(states(all_of(jobs, tmp_path)).values()) == {"done"}
    again = all_of([*jobs, job(4)], tmp_path)
    assert states(again) == {"n1": "there", "n2": "there", "n3": "there", "n4": "done"}
    assert counted(tmp_path) == [1, 2, 3, 4]
    record = JobFolder(tmp_path).record(jobs[2])
    assert record is not None
    assert record["result"]["square"] == 9
    assert record["run"]["versions"]["pe-toolkit"]
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["begin", "end"] * 4
    assert not list((tmp_path / "records").glob(".*"))  # no locks and no half files


def test_other_arguments_are_another_job(tmp_path: Path) -> None:
    assert job(1).id == job(1).id != job(1, steps=3).id
    all_of([job(1)], tmp_path)
    assert states(all_of([job(1, steps=3)], tmp_path)) == {"n1": "done"}


def test_what_fails_stops_nothing_else(tmp_path: Path) -> None:
    bad, bug = job(1, "refuse"), job(2, "break_down")
    after = job(4, needs=(bad.id,))
    tally = Tally()
    for outcome in all_of([bad, bug, job(3), after], tmp_path):
        tally.add(outcome)
    assert [outcome.job.name for outcome in tally.failed] == ["n1", "n4", "n2"]
    assert tally.failed[0].message == "Expected a clip, got 1."
    assert tally.failed[0].hint == "Use another one."
    assert "n1" in tally.failed[1].message
    assert "a bug" in tally.failed[2].message
    assert "break_down" in tally.failed[2].trace
    assert tally.done == [job(3).id]
    assert not JobFolder(tmp_path).file(bad).exists()


def test_what_is_needed_comes_first(tmp_path: Path) -> None:
    first = job(1)
    done = all_of([first, job(2, needs=(first.id,))], tmp_path)
    assert [outcome.job.name for outcome in done] == ["n1", "n2"]
    with pytest.raises(ValueError, match="needs"):
        all_of([job(2, needs=("never",))], tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    JobFolder(tmp_path).file(job(1)).write_text("{")
    with pytest.raises(PeError, match="record of a job") as caught:
        all_of([job(1)], tmp_path)
    assert "Delete the file" in str(caught.value.hint)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Expected to make the folder"):
        JobFolder(tmp_path / "file")


def test_a_lock_waits_or_refuses(tmp_path: Path) -> None:
    place, order = tmp_path / "lock", []

    def second() -> None:
        with held(place, wait=True):
            order.append("second")

    with held(place, wait=False):
        with pytest.raises(HeldError), held(place, wait=False):
            pass
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert not place.exists()


def test_two_who_want_one_job_do_it_once(tmp_path: Path) -> None:
    """As when a run is restarted while a worker of the last one is still at its job."""
    go = tmp_path / "go"
    one = job(7, "wait_for", go=str(go))
    both = [
        multiprocessing.get_context("spawn").Process(target=do, args=(one, tmp_path, None))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    wait_until(lambda: list(tmp_path.glob("began-*")))
    go.touch()
    for process in both:
        process.join()
    assert counted(tmp_path) == [7]
    assert len(list(tmp_path.glob("began-*"))) == 1


def wait_until(found: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found():  # type: ignore[operator]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def test_processes_do_what_one_does(tmp_path: Path) -> None:
    """Also when a worker is killed, once or for good."""
    jobs = [job(n) for n in range(3)]
    jobs += [job(10, "die_once"), job(11, "die"), job(12, "refuse")]
    pool = Processes(tmp_path, [None, None], threads=1)
    outcomes = all_of(jobs, tmp_path, pool)
    assert states(outcomes) == {
        "n0": "done", "n1": "done", "n2": "done", "n10": "done", "n11": "failed", "n12": "failed",
    }  # fmt: skip
    dead = next(outcome for outcome in outcomes if outcome.job.name == "n11")
    assert "3 of them died (signal 9)" in dead.message
    assert counted(tmp_path) == [0, 1, 2, 10]
    pids = {o.record["result"]["pid"] for o in outcomes if o.record is not None}
    assert os.getpid() not in pids
    assert pool.pids == []


def test_a_worker_killed_from_outside(tmp_path: Path) -> None:
    """kill -9 in the middle of a job: it is given to another one, and done once."""
    go = tmp_path / "go"
    one = job(5, "wait_for", go=str(go))
    with Processes(tmp_path, [None]) as pool:
        pool.submit(one)
        wait_until(lambda: list(tmp_path.glob("began-*")))
        os.kill(pool.pids[0], signal.SIGKILL)
        go.touch()
        assert pool.wait().state == "done"
    assert counted(tmp_path) == [5]
    assert len(list(tmp_path.glob("began-*"))) == 2


def test_ray_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pe_toolkit.jobs.cluster import Cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match="Ray"):
        Cluster(tmp_path, "auto")


@pytest.fixture
def two_nodes() -> Iterator[tuple[str, object]]:
    """A Ray cluster of two machines, both here: its address, and the cluster."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000}
    )
    nodes.add_node(num_cpus=1, object_store_memory=80_000_000)
    try:
        yield nodes.address, nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_does_what_one_does(tmp_path: Path, two_nodes: tuple[str, object]) -> None:
    """Two machines, a worker that dies once, one that always dies, and one killed from outside."""
    from pe_toolkit.jobs.cluster import Cluster

    address, _ = two_nodes
    go = tmp_path / "go"
    jobs = [job(n) for n in range(4)]
    jobs += [job(10, "die_once"), job(11, "die"), job(12, "refuse")]
    jobs += [job(20, "wait_for", go=str(go))]

    def kill() -> None:
        wait_until(lambda: list(tmp_path.glob("began-*")))
        (mark,) = tmp_path.glob("began-*")
        os.kill(int(mark.name.partition("-")[2]), signal.SIGKILL)
        go.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = all_of(jobs, tmp_path, Cluster(tmp_path, address))
    killer.join()
    assert states(outcomes) == {f"n{n}": "done" for n in (0, 1, 2, 3, 10, 20)} | {
        "n11": "failed",
        "n12": "failed",
    }
    assert counted(tmp_path) == [0, 1, 2, 3, 10, 20]
    pids = {o.record["result"]["pid"] for o in outcomes if o.record is not None}
    assert os.getpid() not in pids
    refused = next(outcome for outcome in outcomes if outcome.job.name == "n12")
    assert refused.hint == "Use another one."


@pytest.mark.slow  # and only where no cluster is at work, which `auto` would find
@pytest.mark.filterwarnings("ignore")
def test_no_cluster_at_that_address(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from pe_toolkit.jobs.cluster import Cluster

    with pytest.raises(PeError, match="Expected a Ray cluster at auto"):
        Cluster(tmp_path, "auto")


def test_a_job_whose_file_is_gone_is_done_again(tmp_path: Path) -> None:
    made = job(1, "write")
    all_of([made], tmp_path)
    assert (tmp_path / "n1.txt").read_text() == "1"
    assert states(all_of([made], tmp_path)) == {"n1": "there"}
    (tmp_path / "n1.txt").unlink()
    assert JobFolder(tmp_path).record(made) is not None
    assert states(all_of([made], tmp_path)) == {"n1": "done"}
    assert (tmp_path / "n1.txt").exists()


def test_what_a_job_may_replace_is_known_until_it_is_done(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    all_of([job(1)], tmp_path)
    folder.again(job(1))
    assert folder.owned(job(1).id) == set()
    for digest in ("a" * 64, "b" * 64):
        folder.own(job(1).id, digest)
    assert folder.owned(job(1).id) == {"a" * 64, "b" * 64}
    assert states(all_of([job(1)], tmp_path)) == {"n1": "done"}
    assert folder.owned(job(1).id) == set()
