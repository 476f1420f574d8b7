"""Finds and reads everything that a judgement may rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from reports.conformance import find_conformance
from reports.consistency import count_what_was_written
from reports.reader import find_runs, links_among, read_run
from reports.trainings import find_trainings, read_trainings
from validator.commands.show import console, counting
from validator.gate import Evidence
from validator.run import Run
from validator.waivers import Waiver

_WINDOWS = 16  # of one pair that are kept apart, at most twice as many: enough for an interval, and a thousand runs fit
_WRITTEN = 100  # divergences of one run that are kept, without their tensors' statistics and histories


class Sources(NamedTuple):
    """Where evidence lies.

    Attributes:
        runs: Run directories.
        conformance: Files with results of adversarial streams.
        trainings: Directories with results of trainings with one cache alone.
        unread: What was found and is not read, one sentence each.
    """

    runs: list[Path]
    conformance: list[Path]
    trainings: list[Path]
    unread: list[str]


def find_sources(given: Sequence[Path]) -> Sources:
    """Find runs, and what lies beside them.

    Args:
        given: Run directories, directories of runs, or result directories of ``kv-lockstep ab``.

    Returns:
        Where the evidence lies.

    Raises:
        RunUnreadable: If one of them holds nothing of that kind.
    """
    own = [one for one in given if find_trainings(one) == [one]]
    runs = [path for one in given if one not in own for path in find_runs(one)]
    folders = list(dict.fromkeys(path.resolve().parent for path in runs))
    trainings = {path.resolve(): path for one in (*own, *folders) for path in find_trainings(one)}
    return Sources(
        runs,
        [result.path for folder in folders for result in find_conformance(folder)],
        list(trainings.values()),
        [f"{link} is a symbolic link, which is not followed" for one in given for link in links_among(one)],
    )


def gather(sources: Sources, waivers: Sequence[Waiver] = ()) -> Evidence:
    """Read evidence.

    Args:
        sources: Where it lies.
        waivers: Permissions that were named.

    Returns:
        The evidence.

    Raises:
        RunUnreadable: If a run or an A/B is gone.
    """
    runs = []
    with counting(console(stderr=True), "runs", len(sources.runs)) as shown:
        for number, path in enumerate(sources.runs, 1):
            runs.append(_slim(read_run(path, _WINDOWS)))
            if shown is not None:
                shown(number, len(sources.runs))
    folders = dict.fromkeys(path.parent for path in sources.conformance)
    results = [result for folder in folders for result in find_conformance(folder)]
    return Evidence(
        runs,
        waivers,
        [result for result in results if result.path in sources.conformance],
        sources.unread,
        [read_trainings(path) for path in sources.trainings],
    )


def _slim(run: Run) -> Run:
    """Keep of a run what is judged: counts are whole, of divergences in full only the first."""
    count_what_was_written(run)
    run.divergences = [replace(one, leaves=(), history=()) for one in run.divergences[:_WRITTEN]]
    run.events = []
    return run
