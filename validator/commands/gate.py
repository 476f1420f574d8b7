"""``kv-lockstep gate``: judge runs by a policy; the exit code is the verdict's."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.conformance import find_conformance
from reports.consistency import count_what_was_written
from reports.reader import find_runs, links_among, read_run
from validator.commands.show import console, counting, show_judgement
from validator.errors import ConfigError
from validator.gate import Evidence, judge
from validator.policy import GatePolicy
from validator.run import Run
from validator.shipped import find_file
from validator.waivers import Waiver, load_waivers

_WINDOWS = 16  # of one pair that are kept apart, at most twice as many: enough for an interval, and a thousand runs fit
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
    runs = []
    with counting(console(stderr=True), "runs", len(paths)) as shown:
        for number, path in enumerate(paths, 1):
            runs.append(_slim(read_run(path, _WINDOWS)))
            if shown is not None:
                shown(number, len(paths))
    folders = dict.fromkeys(path.resolve().parent for path in paths)
    conformance = [result for folder in folders for result in find_conformance(folder)]
    unread = [f"{link} is a symbolic link, which is not followed" for one in given for link in links_among(one)]
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


def _slim(run: Run) -> Run:
    """Keep of a run what is judged: counts are whole, of divergences in full only the first."""
    count_what_was_written(run)
    run.divergences = [replace(one, leaves=(), history=()) for one in run.divergences[:_WRITTEN]]
    run.events = []
    return run
