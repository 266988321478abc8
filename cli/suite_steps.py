"""`pe eval --suite`: the jobs of a suite, drawn as they end, and the tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.cli import eval_report, job_pools, machine, prompts, suite_table
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.folding import width_of
from pe_toolkit.cli.progress import Progress
from pe_toolkit.cli.requests.eval import SuiteOptions

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.jobs.folder import JobFolder
    from pe_toolkit.jobs.job import Outcome
    from pe_toolkit.jobs.pools import Pool
    from pe_toolkit.jobs.run import Tally
    from pe_toolkit.suites.plan import Plan
    from pe_toolkit.suites.results import RunRecord


def run_suite(session: Session, options: SuiteOptions, html: Path) -> None:
    """From the options to the tables and the page `html`. Errors of single jobs end with exit
    code 1, after all others were done.
    """
    from pe_toolkit.jobs.folder import JobFolder
    from pe_toolkit.suites.results import RunRecord, check_clips, check_folder, settings_in_words

    out = session.out
    check_folder(options.output)
    planned, variant = _plan(options, session)
    folder = JobFolder(options.output)
    check_clips(planned, folder)
    small = variant is not None and variant.bundled
    pool, words = job_pools.pool_for(options, options.output, options.device, small=small)
    out.talk(
        f"{planned.suite.name}: {len(planned.suite.clips)} references, {len(planned.methods)} "
        f"methods, {len(planned.videos)} videos -> {options.output}; {words}; "
        f"{settings_in_words(planned)}"
    )
    if variant is not None:
        prompts.warn_unknown(out, [video.prompt for video in planned.videos], variant.name)
    session.rerun = True
    record = RunRecord(options.output, planned, ["pe", *session.argv], words)
    tally = _work(session, planned, folder, pool, record)
    _finish(session, planned, folder, tally, record, html)


def _plan(options: SuiteOptions, session: Session) -> tuple[Plan, Variant | None]:
    """Everything that can be found out before any work.

    Raises:
        UsageError, SuiteError: as `load_suite`, `choose`, `plan` and `check`.
    """
    from pe_toolkit.suites.methods import choose
    from pe_toolkit.suites.named import load_suite
    from pe_toolkit.suites.plan import check, plan

    methods = choose(options.methods)
    suite = load_suite(options.suite, options.references, options.seed_count).of_kinds(
        options.kinds
    )
    backbone, variant, remark = machine.resolve(options.backbone, options.device, options.copy_of)
    if remark:
        session.out.talk(remark)
    planned = plan(suite, methods, options.settings(backbone))
    check(planned, variant)
    return planned, variant


def _work(
    session: Session, planned: Plan, folder: JobFolder, pool: Pool, record: RunRecord
) -> Tally:
    from pe_toolkit.jobs.run import Tally, run

    tally, jobs, state = Tally(), planned.jobs, "interrupted"
    try:
        with pool, Progress(session.out, "job", len(jobs)) as bar:
            for outcome in run(jobs, folder, pool):
                tally.add(outcome)
                _tell(session, outcome, tally, bar)
        state = "with failures" if tally.failed else "finished"
    finally:
        record.write(tally, state)
    return tally


def _tell(session: Session, outcome: Outcome, tally: Tally, bar: Progress) -> None:
    out, found = session.out, outcome.record
    seconds = None if found is None else found["run"]["seconds"]
    out.event(
        "job",
        job=outcome.job.id,
        state=outcome.state,
        seconds=seconds,
        message=outcome.message or None,
        hint=outcome.hint,
    )
    done = len(tally.there) + len(tally.done) + len(tally.failed)
    if outcome.state == "there":
        bar.reach(done)
        return
    if outcome.state == "failed":
        out.fail(f"{outcome.job.name}: {outcome.message}", outcome.hint)
        if session.debug and outcome.trace:
            out.trace(outcome.trace)
        return
    bar.at(done, f"{outcome.job.name}, {seconds:.1f} s")


def _finish(
    session: Session,
    planned: Plan,
    folder: JobFolder,
    tally: Tally,
    record: RunRecord,
    html: Path,
) -> None:
    """Tables on the disk and on the terminal, failures once more, and the exit code."""
    from pe_toolkit.suites.page import columns, scored_videos
    from pe_toolkit.suites.results import other_videos, write_tables
    from pe_toolkit.suites.tables import build_table

    out = session.out
    table = build_table(planned, folder)
    if table.metrics and not out.json:
        suite_table.draw(table, out, width_of(sys.stdout))
    out.talk(
        f"{len(tally.done)} jobs done, {len(tally.there)} were there, {len(tally.failed)} failed."
    )
    files: list[Path] = []
    if table.done:
        files = write_tables(folder.path, table, record.about)
        out.talk(f"Wrote {_listed(files)}")
        title = f"Motion transfer: {table.suite}"
        eval_report.write(html, scored_videos(table), folder.path, title, columns(table), out)
    else:
        out.warn("No tables and no report: no video was made. Those of before are as they were.")
    if others := other_videos(planned, folder):
        out.talk(
            f"Not in the tables, which are of this command: {others} other "
            f"{'video' if others == 1 else 'videos'} in "
            f"{folder.path}. Name all methods and references to have them together."
        )
    for outcome in tally.failed:
        out.fail(f"{outcome.job.name}: {outcome.message}", None)
    if tally.failed:
        out.talk("The same command does what failed again, and nothing else.")
        session.code = 1
    out.event(
        "summary",
        folder=folder.path,
        files=files,
        done=len(tally.done),
        there=len(tally.there),
        failed=[outcome.job.id for outcome in tally.failed],
        videos=table.done,
        planned=table.planned,
        rows=table.rows,
    )


def _listed(files: list[Path]) -> str:
    return f"{files[0].parent}: {', '.join(path.name for path in files)}"
