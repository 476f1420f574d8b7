"""``kv-lockstep shrink``: divergences of a run, each as a test of about ten lines that fails for the same reason."""

from __future__ import annotations

import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from reports.content.groups import grouped
from reports.content.text import line, plural
from reports.disk.layout import write_atomically
from reports.disk.repros import keep_repro
from reports.record.records import Divergence
from reports.record.repro import KeptRepro
from reports.record.run import Run
from reports.record.words import EXIT_CODE, Fault, Verdict
from validator.commands.replay import programs_of
from validator.commands.show import console, counting
from validator.errors import LockstepError
from validator.replay.caches import Sides
from validator.replay.program import Program
from validator.replay.repro import repro
from validator.replay.shrinking import shrink_divergence


def main(arguments: Namespace) -> int:
    """Shrink.

    Args:
        arguments: ``run, divergence, cause, out, seconds, within, control, candidate``; see ``arguments.py``.

    Returns:
        0 if each became a test, that of INCONCLUSIVE if one did not come again, or no test shows it.

    Raises:
        LockstepError: If there is no such divergence, or nothing to play.
    """
    out, err = console(), console(stderr=True)
    run, programs = programs_of(arguments.run, err)
    wanted = _wanted(run, arguments.divergence, arguments.cause)
    end = time.monotonic() + (arguments.within or float("inf"))
    all_shown = True
    for position, one in enumerate(wanted):
        share = max(0.0, end - time.monotonic()) / (len(wanted) - position)
        kept = _shrunk(run, one, _program_of(programs, one), arguments, min(arguments.seconds, share), out, err)
        all_shown &= one.fault is Fault.HOST or (kept.fails and kept.passes)
        _keep(run, kept, arguments, out)
    return 0 if all_shown else EXIT_CODE[Verdict.INCONCLUSIVE]


def _wanted(run: Run, number: int | None, cause: str | None) -> list[Divergence]:
    """Return the divergences that are asked for: by default the first of each cause and side."""
    known = sorted({one.cause.value for one in run.divergences})
    if not known:
        raise LockstepError(f"{run.path}: holds no divergence to shrink")
    if number is not None:
        found = [one for one in run.divergences if one.id == number]
        if not found:
            raise LockstepError(
                f"{run.path}: holds no divergence {number}; expected one of 0 to {len(run.divergences) - 1}"
            )
        return found[:1]
    if cause is not None and cause not in known:
        raise LockstepError(f"{run.path}: holds no divergence of cause {cause!r:.80}; it holds {', '.join(known)}")
    first: dict[tuple[str, str], Divergence] = {}
    for group in grouped(run):  # as the report does, the gravest first: time may end before the last
        if group.first is not None and cause in (None, group.cause):
            first.setdefault((group.cause, group.fault), group.first)
    return list(first.values())


def _program_of(programs: list[Program], one: Divergence) -> Program | None:
    return next((p for p in programs if (p.about.get("rank"), p.about.get("cache")) == (one.rank, one.cache)), None)


def _shrunk(
    run: Run, one: Divergence, program: Program | None, arguments: Namespace, seconds: float, out: Console, err: Console
) -> KeptRepro:
    """Shrink one divergence, and say what it came to."""
    name = f"#{one.id} {one.cause.value}, {one.fault.value} at fault"

    def none(why: str) -> KeptRepro:
        out.print(line(f"{name}: {why}", 400), soft_wrap=True)
        return KeptRepro(one.rank, one.id, one.cause, one.fault, said=why)

    if program is None:
        return none(f"{one.cache} was not recorded")
    if one.fault is Fault.HOST:
        return none("no test of the caches alone can show what the host does")
    sides = Sides(program.about, arguments.control, arguments.candidate, kept=program.kept)
    began = time.monotonic()
    with counting(err, f"{name}: calls") as shown:
        found = shrink_divergence(program, one, sides, seconds, lambda calls: shown(calls, calls))
    if found is None and time.monotonic() - began >= seconds:
        return none(f"{seconds:.3g} s were not enough to see it again")
    if found is None:
        return none("it does not come again when what was recorded is played; it may rest on what is not recorded")
    made = repro(found, sides, one, one.id, str(run.manifest.get("run_id", run.path.name)))
    calls, spent = plural(made.calls, "call"), f"{time.monotonic() - began:.1f} s"
    out.print(line(f"{name}: {calls} in {spent}: {found.explanation}", 4000), soft_wrap=True)
    return KeptRepro(one.rank, one.id, one.cause, one.fault, made.source, made.calls, made.fails, made.passes)


def _keep(run: Run, kept: KeptRepro, arguments: Namespace, out: Console) -> None:
    """Write a test into the run directory, where the report finds it, and into a folder if one is named."""
    path, folder = run.path, Path(arguments.out) if arguments.out else None
    try:
        if not (folder and (arguments.control or arguments.candidate)):  # of other classes it is no test of this run
            with suppress(*[OSError] * bool(folder)):  # a run may lie where nobody may write
                path = keep_repro(run.path, kept)
        if folder and kept.source:
            path = folder / kept.file
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, kept.source.encode("utf-8", "backslashreplace"))
    except OSError as problem:
        why = f"can't be written ({problem.strerror or problem}); name a folder that can: --out DIR"
        raise LockstepError(f"{path}: {why}") from None
    if not kept.source:
        return
    out.print(line(f"  {path}", 4000), soft_wrap=True)
    if not kept.fails:
        out.print("  the test was tried and does not fail", soft_wrap=True)
    if not kept.passes:
        out.print("  the test was tried with a sound cache and fails on that too", soft_wrap=True)
