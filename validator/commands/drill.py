"""``kv-lockstep drill``: would your own host show a fault? Runs it with planted ones; each has to be found."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from reports.disk.run_id import run_id
from reports.errors import RunDirectoryError
from reports.read.drills import write_drill
from reports.record.codec import to_json
from reports.record.drills import WRONG, Drilled, DrillOutcome, DrillRecord
from reports.record.run import Run
from reports.record.words import EXIT_CODE, Fault, Verdict
from validator.commands.drill_series import PRINTED, Command, Ended, Series, last_words
from validator.commands.drill_shown import Progress, drilling, list_faults, show_drill
from validator.commands.show import console
from validator.errors import ConfigError, LockstepError
from validator.gate.rules.identity import candidates
from validator.gate.shipped import TRAININGS, find_file
from validator.proof.drill.exercised import AnyPlanted, exercised, handful, lacking
from validator.proof.drill.judged import charges, drilled
from validator.proof.drill.planting import FAULT, FITS, plantable

UNFAULTED = "00-unfaulted"
_CLI = (sys.executable, "-m", "validator.cli")


def main(arguments: Namespace) -> int:
    """Run the host without a fault, choose what it could show, and run it with each of these.

    Args:
        arguments: ``config, program, faults, fault, all, list, jobs, timeout, settings, out, json``; see
            ``arguments.py``.

    Returns:
        That of PASS if every fault that was planted and did something was found and named, of FAIL if one was not, and
        of INCONCLUSIVE if nothing could be shown.

    Raises:
        LockstepError: If there is nothing to run, no such fault, or the host leaves no run that can be used.
    """
    out, err = console(), console(stderr=True)
    if arguments.list:
        list_faults(plantable(), out)
        return 0
    if os.environ.get(FAULT) is not None:
        raise ConfigError(f"{FAULT} is set: a drill in a drill would show nothing; unset it")
    named = named_faults([*arguments.fault, *arguments.faults.split(",")])
    command, told = _program(arguments)
    if arguments.jobs < 1 or arguments.timeout < 0:
        raise ConfigError("--jobs must be at least 1, --timeout at least 0 seconds")
    path = Path(arguments.out or "runs") / f"drill-{run_id()}"
    try:
        path.mkdir(parents=True)
    except OSError as problem:
        raise RunDirectoryError(f"{path}: can't be made ({problem.strerror}); choose another --out") from None
    drill = DrillRecord(path, manifest={"drill_id": path.name, "created": time.time(), "command": told})
    series = Series(command, path, arguments.timeout)
    with drilling(err) as shown:
        try:
            shown.begin(1, "without a fault")
            before = series.one("", UNFAULTED)
            _look_at(drill, before)
            _drill(drill, series, before.runs, named, arguments, shown)
            drill.state = "complete"
        except KeyboardInterrupt:
            drill.state = "interrupted"
            err.print("interrupted; what was found until then is no passed drill")
        finally:
            write_drill(drill)
    verdict = verdict_of(drill)
    if arguments.json:
        print(json.dumps({**drill.manifest, "verdict": verdict.value, "faults": [to_json(f) for f in drill.faults]}))
    else:
        show_drill(drill, verdict, out)
    return EXIT_CODE[verdict]


def verdict_of(drill: DrillRecord) -> Verdict:
    """Return what a drill comes to: FAIL if a fault was not found, PASS if all that did something were."""
    if drill.of(*WRONG):
        return Verdict.FAIL
    whole = drill.state == "complete" and not drill.of(DrillOutcome.NO_RESULT)
    return Verdict.PASS if whole and drill.of(DrillOutcome.FOUND) else Verdict.INCONCLUSIVE


def named_faults(names: Sequence[str]) -> list[AnyPlanted]:
    """Return the planted faults that a person names, each by its name or by a part that no other has.

    Raises:
        ConfigError: If there is none of that name, or several.
    """
    found = []
    for name in filter(None, map(str.strip, names)):
        fitting = [each for each in plantable() if each.name == name] or [e for e in plantable() if name in e.name]
        if len(fitting) != 1:
            which = f"{len(fitting)} planted faults are called so" if fitting else "no planted fault is called so"
            some = f", such as {fitting[0].name!r}" if fitting else ""
            raise ConfigError(f"{name!r:.80}: {which}{some}; kv-lockstep drill --list names them all")
        found += fitting
    return found


def _program(arguments: Namespace) -> tuple[Command, list[str]]:
    """Return what runs the host, and what a person typed for it."""
    config, program = arguments.config, arguments.program[arguments.program[:1] == ["--"] :]
    if (config is None) is not bool(program):
        raise ConfigError("drill: expected either --config CONFIG for the embedded agent, or -- and your own program")
    settings = [part for each in arguments.settings for part in ("--set", each)]
    if config is not None:
        find_file(TRAININGS, config, "training configuration")
        return lambda path: (*_CLI, "train", "--quiet", "--config", config, *settings), ["train", "--config", config]
    if program[0] == "-m":
        if len(program) < 2:
            raise ConfigError("drill: -m needs the name of a module, as after 'python'")
        return lambda path: (sys.executable, *program), program
    if not Path(program[0]).is_file():
        raise ConfigError(f"{program[0]}: expected a Python script; paths are relative to {Path.cwd()}")
    if find_spec("lzero") is None:
        if settings:
            raise ConfigError("--set changes a LightZero script, and LightZero is not installed here; leave it away")
        return lambda path: (sys.executable, *program), program

    def lightzero(path: Path) -> Sequence[str]:
        experiment = os.path.relpath(path / "experiment")  # relative, because LightZero puts './' before it
        return (*_CLI, "run", *settings, "--set", f"exp_name={experiment}", "--", *program)

    return lightzero, program


def _look_at(drill: DrillRecord, before: Ended) -> None:
    """Learn from the run without a fault what the host is, and refuse one that can't be drilled."""
    folder = drill.path / UNFAULTED
    see = f"see {folder / PRINTED}"
    if before.problem:
        raise LockstepError(f"the program as it is, without a fault: {before.problem}; {see}")
    broken = next((run for run in before.runs if run.state != "complete" or run.problems), None)
    if broken is not None:
        why = "; ".join(broken.problems[:1]) or f"{broken.state}, the host ended {broken.ended or 'early'}"
        raise LockstepError(
            f"{broken.path}: the run without a fault is not whole ({why}): {last_words(folder / PRINTED)}"
        )
    suspect = [f"{cause} ({side})" for cause, side in charges(before.runs) if side in _NOT_TOLD_APART]
    if suspect:
        raise LockstepError(
            f"{before.runs[0].path}: diverges without a planted fault: {', '.join(suspect[:3])}; settle that first, "
            "a drill could not tell it from what is planted"
        )
    first = before.runs[0].manifest
    whose = sorted({candidate for run in before.runs for candidate in candidates(run)})
    done = exercised(before.runs)
    drill.manifest |= {name: first.get(name) for name in ("host", "git", "versions", "script", "argv", "seed")}
    drill.manifest["candidates"] = [{"kind": one.kind, "source": one.source} for one in whose]
    drill.manifest["exercised"] = sorted(done)
    drill.manifest["operations"] = sum(sum(run.totals.ops.values()) for run in before.runs)


_NOT_TOLD_APART = (Fault.CANDIDATE.value, Fault.BOTH.value, Fault.UNKNOWN.value)


def _drill(
    drill: DrillRecord,
    series: Series,
    before: list[Run],
    named: list[AnyPlanted],
    arguments: Namespace,
    shown: Progress,
) -> None:
    """Run the host with each fault, and keep what came of it as it comes."""
    done = exercised(before)
    fitting = {str(event.get("detail")) for run in before for event in run.events if event.get("event") == FITS}
    possible = [each for each in plantable() if each.name in fitting]
    if not possible:
        raise LockstepError(f"{before[0].path}: no planted fault fits its caches")
    shows = [each for each in possible if not lacking(each, done)]
    chosen = named or (shows if arguments.all else list(handful(shows, done)))
    if not named:
        drill.faults += [_never(each, lacking(each, done)) for each in possible if each not in shows]
    charged = charges(before)
    shown.begin(len(chosen), "")
    for each, folder, ended in series.all(chosen, arguments.jobs, lambda each: shown.started(each.name)):
        found = drilled(each, ended.runs, charged, done, folder, ended.seconds, ended.problem)
        drill.faults.append(found)
        shown.ended(found)
        write_drill(drill)


def _never(planted: AnyPlanted, why: str) -> Drilled:
    wanted = tuple(cause.value for cause in planted.causes)
    return Drilled(planted.name, planted.family, DrillOutcome.NOT_EXERCISED, wanted, why=why)
