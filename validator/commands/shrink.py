"""``kv-lockstep shrink``: divergences of a run, each as a test of about ten lines that fails for the same reason."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from reports.content.text import line, plural
from reports.disk.layout import write_atomically
from reports.record.records import Divergence
from reports.record.run import Run
from reports.record.words import EXIT_CODE, Fault, Verdict
from validator.commands.replay import programs_of
from validator.commands.show import console, counting
from validator.errors import LockstepError
from validator.replay.caches import Sides
from validator.replay.program import Program
from validator.replay.repro import Repro, repro
from validator.replay.shrinking import Found, shrink_divergence

_FOLDER = "repros"  # in the run directory


def main(arguments: Namespace) -> int:
    """Shrink.

    Args:
        arguments: ``run, divergence, cause, out, seconds, control, candidate``; see ``arguments.py``.

    Returns:
        0 if each became a test, that of INCONCLUSIVE if one did not come again, or no test shows it.

    Raises:
        LockstepError: If there is no such divergence, or nothing to play.
    """
    out, err = console(), console(stderr=True)
    run, programs = programs_of(arguments.run, err)
    wanted = _wanted(run, arguments.divergence, arguments.cause)
    folder = Path(arguments.out) if arguments.out else run.path / _FOLDER
    all_shown = True
    for one in wanted:
        all_shown &= _shrink(run, one, _program_of(programs, one), arguments, folder, out, err)
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
    for one in run.divergences:
        if cause is None or one.cause.value == cause:
            first.setdefault((one.cause.value, one.fault.value), one)
    return list(first.values())


def _program_of(programs: list[Program], one: Divergence) -> Program | None:
    return next((p for p in programs if (p.about.get("rank"), p.about.get("cache")) == (one.rank, one.cache)), None)


def _shrink(
    run: Run, one: Divergence, program: Program | None, arguments: Namespace, folder: Path, out: Console, err: Console
) -> bool:
    """Shrink one divergence and write its test; False if there is nothing to write."""
    name = f"#{one.id} {one.cause.value}, {one.fault.value} at fault"
    if program is None:
        out.print(line(f"{name}: {one.cache} was not recorded", 400), soft_wrap=True)
        return False
    if one.fault is Fault.HOST:
        out.print(line(f"{name}: no test of the caches alone can show what the host does", 400), soft_wrap=True)
        return True
    sides = Sides(program.about, arguments.control, arguments.candidate, kept=program.kept)
    began = time.monotonic()
    with counting(err, f"{name}: calls") as shown:
        found = shrink_divergence(program, one, sides, arguments.seconds, lambda calls: shown(calls, calls))
    if found is None:
        why = "it does not come again when what was recorded is played; it may rest on what is not recorded"
        out.print(line(f"{name}: {why}", 400), soft_wrap=True)
        return False
    written = repro(found, sides, one, one.id, str(run.manifest.get("run_id", run.path.name)))
    path = folder / f"test_divergence_{one.id:03d}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, written.source.encode())
    except OSError as problem:
        raise LockstepError(f"{path}: can't be written ({problem.strerror})") from None
    spent = f"{time.monotonic() - began:.1f} s"
    out.print(line(f"{name}: {plural(written.calls, 'call')} in {spent}: {path}", 4000), soft_wrap=True)
    return _told(written, found, out)


def _told(written: Repro, found: Found, out: Console) -> bool:
    out.print(line(f"  {found.explanation}", 400), soft_wrap=True)
    if not written.fails:
        out.print("  the test was tried and does not fail", soft_wrap=True)
    if not written.passes:
        out.print("  the test was tried with a sound cache and fails on that too", soft_wrap=True)
    return written.fails and written.passes
