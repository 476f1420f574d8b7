"""``kv-lockstep gate``: judge runs by a policy; the exit code is the verdict's."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from reports.conformance import find_conformance
from reports.consistency import count_what_was_written
from reports.reader import find_runs, read_run, unread_below
from validator.commands.show import console, counting, show_judgement
from validator.errors import ConfigError
from validator.gate import Evidence, judge
from validator.policy import GatePolicy
from validator.run import Run
from validator.shipped import find_file
from validator.waivers import Waiver, load_waivers

_WINDOWS = 8  # half of how many windows of one pair are kept apart, so that a thousand runs fit into memory
_MANY = 50
_WRITTEN = 100  # divergences of one run that are kept, without their tensors' statistics and histories


def main(arguments: Namespace) -> int:
    """Judge.

    Args:
        arguments: ``runs``, ``policy`` and ``waivers``; see ``validator.cli``.

    Returns:
        The verdict's exit code.
    """
    policy = GatePolicy()
    if arguments.policy:
        policy = GatePolicy.load(find_file("gate", arguments.policy, "gate policy"))
    judgement = judge(gather(arguments.runs, _waivers(arguments.waivers)), policy)
    show_judgement(judgement, console())
    return judgement.exit_code


def gather(given: Sequence[Path], waivers: Sequence[Waiver] = ()) -> Evidence:
    """Read runs, and what lies beside them.

    Args:
        given: Run directories, or directories of runs.
        waivers: Permissions that were named.

    Returns:
        The evidence.

    Raises:
        RunUnreadable: If one of them holds no run.
    """
    paths = [path for one in given for path in find_runs(one)]
    with _reading(paths) as reading, counting(console(stderr=True), "runs", len(paths)) as shown:
        runs = []
        for run in reading:
            runs.append(run)
            if shown is not None:
                shown(len(runs), len(paths))
    folders = dict.fromkeys(path.resolve().parent for path in paths)
    conformance = [result for folder in folders for result in find_conformance(folder)]
    unread = [sentence for one in given for sentence in unread_below(one)]
    return Evidence(runs, waivers, conformance, unread)


def _waivers(given: Sequence[str]) -> list[Waiver]:
    found: dict[str, Waiver] = {}
    for name in given:
        path = find_file("waivers", name, "file of waivers")
        for waiver in load_waivers(path):
            if waiver.id in found:
                raise ConfigError(f"{path}: waiver {waiver.id!r} is in another of the files as well; name one of them")
            found[waiver.id] = waiver
    return list(found.values())


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
