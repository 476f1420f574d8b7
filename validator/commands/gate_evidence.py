"""Finds and reads everything that a judgement may rest on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from reports.errors import RunUnreadable
from reports.read.campaign import is_campaign, read_campaign
from reports.read.conformance import find_conformance, read_conformance
from reports.read.consistency import count_what_was_written
from reports.read.drills import find_drills, read_drill
from reports.read.trainings import find_trainings, holds_trainings, read_trainings
from reports.reader import find_runs, read_run, unread_below
from reports.record.run import Run
from validator.commands.show import console, counting
from validator.gate.judgement import Evidence
from validator.gate.waivers import Waiver

_WINDOWS = 1  # no rule looks at when something was counted, so those of a pair are added up as they are read
_MANY = 50
_WRITTEN = 100  # divergences of one run that are kept, without their tensors' statistics and histories


class Sources(NamedTuple):
    """Where evidence lies.

    Attributes:
        runs: Run directories.
        conformance: Files with results of adversarial streams.
        trainings: Directories with results of trainings with one cache alone.
        unread: What was found and is not read, one sentence each.
        campaigns: Directories of campaigns, whose runs are among the runs.
        superseded: Run directories of attempts that do not count.
        drills: Directories of drills.
    """

    runs: list[Path]
    conformance: list[Path]
    trainings: list[Path]
    unread: list[str]
    campaigns: Sequence[Path] = ()
    superseded: Sequence[Path] = ()
    drills: Sequence[Path] = ()


def find_sources(given: Sequence[Path]) -> Sources:
    """Find runs, and what lies beside them.

    Args:
        given: Run directories, directories of runs, campaigns, or result directories of ``kv-lockstep ab``.

    Returns:
        Where the evidence lies.

    Raises:
        RunUnreadable: If one of them holds nothing of that kind.
    """
    campaigns = [read_campaign(one) for one in given if is_campaign(one)]
    jobs = [each.path / one.directory for each in campaigns for one in each.counting().values()]
    rest = [one for one in given if not is_campaign(one)]
    own = [one for one in (*rest, *jobs) if holds_trainings(one)]
    runs = [path for one in rest if one not in own for path in find_runs(one)] + _runs_of(jobs)
    folders = {(whole := path.resolve().parent): whole for path in runs} | {path.resolve(): path for path in jobs}
    trainings = {path.resolve(): path for one in (*own, *folders.values()) for path in find_trainings(one)}
    conformance = {path.resolve(): path for folder in folders.values() for path in find_conformance(folder)}
    drills = {path.resolve(): path for folder in folders.values() for path in find_drills(folder)}
    return Sources(
        runs,
        list(conformance.values()),
        list(trainings.values()),
        [sentence for one in (*rest, *jobs) for sentence in unread_below(one)],
        [each.path for each in campaigns],
        _runs_of(each.path / one.directory for each in campaigns for one in each.superseded()),
        list(drills.values()),
    )


def _runs_of(attempts: Iterable[Path]) -> list[Path]:
    """Find the runs of attempts at jobs, of which some leave none."""
    found = []
    for path in attempts:
        with suppress(RunUnreadable):
            found += find_runs(path)
    return found


def read_sources(sources: Sources, waivers: Sequence[Waiver] = ()) -> Evidence:
    """Read evidence.

    Args:
        sources: Where it lies.
        waivers: Permissions that were named.

    Returns:
        The evidence.

    Raises:
        RunUnreadable: If a run or an A/B is gone.
    """
    paths = [*sources.runs, *sources.superseded]
    with _reading(paths) as reading, counting(console(stderr=True), "runs", len(paths)) as shown:
        runs = []
        for run in reading:
            runs.append(run)
            shown(len(runs), len(paths))
    return Evidence(
        runs[: len(sources.runs)],
        waivers,
        [read_conformance(path) for path in sources.conformance],
        sources.unread,
        [read_trainings(path) for path in sources.trainings],
        [read_campaign(path) for path in sources.campaigns],
        runs[len(sources.runs) :],
        [read_drill(path) for path in sources.drills],
    )


@contextmanager
def _reading(paths: Sequence[Path]) -> Iterator[Iterator[Run]]:
    """Read runs one after the other, or on all cores where there are very many."""
    if len(paths) < _MANY or sys.platform != "linux":  # elsewhere a process costs more than it saves
        yield map(_read, paths)
        return
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8), get_context("fork")) as pool:
        yield pool.map(_read, paths, chunksize=20)  # forks here, before anything starts a thread


def _read(path: Path) -> Run:
    """Keep of a run what is judged: counts are whole, of divergences in full only the first."""
    run = read_run(path, _WINDOWS, with_latency=False)
    count_what_was_written(run)
    run.divergences = [replace(one, leaves=(), history=()) for one in run.divergences[:_WRITTEN]]
    run.events = []
    return run
