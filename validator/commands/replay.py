"""``kv-lockstep replay``: play what a run recorded, under the whole harness; the exit code is the verdict's."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console

from reports.content.text import plural
from reports.disk.trace import TRACE_DIR
from reports.errors import RunUnreadable
from reports.formats.terminal.layout import Page
from reports.read.trace import find_traces, read_trace
from reports.reader import find_runs, read_run
from reports.record.run import Run
from reports.record.words import EXIT_CODE, Verdict
from validator.commands.at_close import closed_run, judge_at_close
from validator.commands.show import console, counting
from validator.config import ValidationConfig
from validator.errors import LockstepError
from validator.replay.again import Again, again, by_cause
from validator.replay.caches import Sides
from validator.replay.play import Replay, about_replay, settings_of
from validator.replay.program import Program
from validator.session import Lockstep

_PRIMARY = {None: "", "legacy": "control", "new": "candidate"}


def main(arguments: Namespace) -> int:
    """Replay.

    Args:
        arguments: ``run, out, control, candidate, primary``; see ``arguments.py``.

    Returns:
        The verdict's exit code; that of INCONCLUSIVE in place of PASS, where what was recorded did not come again
        on the same two classes.

    Raises:
        LockstepError: If there is no trace, or a cache can't be built.
    """
    out, err = console(), console(stderr=True)
    recorded, programs = programs_of(arguments.run, err)
    primary = _PRIMARY[arguments.primary]
    sides = [Sides(one.about, arguments.control, arguments.candidate, primary) for one in programs]
    for each in sides:
        each.trial(each.setting, ValidationConfig())  # before there is a run directory
    config = ValidationConfig.from_mapping(settings_of(recorded.manifest), "the settings of the recorded run")
    run_id = recorded.manifest.get("run_id") or programs[0].about.get("run_id", "")
    more: dict[str, Any] = {"run_id": str(run_id), "bodies": bodies_of(programs)}
    about = about_replay(recorded.manifest, **more, operations=sum(one.n_operations for one in programs))
    total = sum(map(len, programs))
    with Lockstep(arguments.out or "runs", config, manifest_extra=about) as lockstep:
        with counting(err, "records", total) as shown:
            replay = Replay(lockstep, lambda done: shown(done, total))
            for program, side in zip(programs, sides, strict=True):
                replay.play(program, side)
        for what, count in replay.left_out.items():
            lockstep.event("not_replayed", f"{count:,} {what}")
    code = judge_at_close(lockstep, out, err) or 0
    run = closed_run(lockstep, err)
    found = again(recorded.divergences, run.divergences if run else [], replay.names)
    same = all(each.same for each in sides)
    _show(Page(out), recorded, replay, found, same, more["bodies"])
    if same and found.missing and code == EXIT_CODE[Verdict.PASS]:
        return EXIT_CODE[Verdict.INCONCLUSIVE]
    return code


def programs_of(path: Path, err: Console) -> tuple[Run, list[Program]]:
    """Read a run and its traces; what is wrong with them is said.

    Args:
        path: A run directory, a directory of runs, or the index of a trace.
        err: Where to say it.

    Raises:
        LockstepError: If nothing of it can be played.
    """
    if path.is_file():
        run_path = path.resolve().parent.parent
        try:
            run = read_run(run_path)
        except RunUnreadable:
            run = Run(run_path, "unreadable")
    else:
        run = read_run(find_runs(path)[-1])
        path = run.path
    programs = []
    for index in find_traces(path):
        trace = read_trace(index)
        said = [*trace.problems, *([f"it ended before the run did: {trace.ended}"] if trace.ended else [])]
        said += [f"{plural(trace.first, 'older record')} gave way, so it begins in the middle"] if trace.first else []
        for problem in said:
            err.print(f"{TRACE_DIR}/{index.name}: {problem}", soft_wrap=True, markup=False)
        programs.append(Program(trace))
    if not any(one.n_operations for one in programs):
        raise LockstepError(f"{path}: its traces hold no operation that could be played")
    return run, sorted(programs, key=lambda one: bool(one.about.get("copy_of")))


def bodies_of(programs: list[Program]) -> str:
    """Say of what entries are made."""
    kept = sum(len(one.kept) for one in programs)
    return f"made of digests, but for {kept:,} that were kept" if kept else "made of digests"


def _show(page: Page, recorded: Run, replay: Replay, found: Again, same: bool, bodies: str) -> None:
    name = recorded.manifest.get("run_id", recorded.path.name)
    page.heading(f"Replayed from run {name}", f"{plural(replay.operations, 'operation')}, bodies {bodies}")
    n = len(recorded.divergences)
    which = "the same two classes" if same else "other classes"
    page.points(
        page.text(text)
        for text in (
            f"{len(found.came):,} of {plural(n, 'recorded divergence')} came again on {which}: operation, cause, side",
            *(_each("did not come again", found.missing)),
            *(_each("rest on what the host did to entries, which no trace holds", found.unrecorded)),
            *(_each("more, found by looks that the run did not take", found.more)),
            *(f"not replayed: {count:,} {what}" for what, count in replay.left_out.items()),
        )
    )


def _each(what: str, divergences: Any) -> list[str]:
    counted = by_cause(divergences)
    named = ", ".join(f"{cause} ({side} at fault) {count:,}" for (cause, side), count in counted.most_common())
    return [f"{len(divergences):,} {what}: {named}"] if divergences else []
