"""How fast is recorded, played again and shrunk?

Records a training of the embedded host on CartPole, plays it again, and shrinks a divergence at the end of long traces.
All in processor time of one thread, so that a busy machine changes little. Exits with 1 if a figure is not as wanted.

    python benchmarks/replay_speed.py            # a minute of training first
    python benchmarks/replay_speed.py RUN        # of a recorded run
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import torch

from reports.disk.trace import Room, TraceFile, index_file
from reports.read.trace import find_traces, read_trace
from reports.reader import find_runs, read_run
from reports.record.records import Divergence
from reports.record.trace import RECORD
from validator.cli import main as run_command
from validator.config import ValidationConfig
from validator.proof.stream import Player
from validator.replay.caches import Sides
from validator.replay.play import Replay, settings_of
from validator.replay.program import Program
from validator.replay.recording import Recording
from validator.replay.shrinking import shrink_divergence
from validator.session import Lockstep

TRAIN = ["train", "--config", "small_pools", "--set", "total_env_steps=300"]
LONG = (60_000, 10_000_000)


def main(argv: list[str]) -> int:
    """Measure, and print a line for each figure."""
    torch.set_num_threads(1)
    met = []

    def tell(what: str, found: float, unit: str, wanted: float, at_least: bool = False) -> None:
        is_met = found >= wanted if at_least else found <= wanted
        met.append(is_met)
        sign = ">=" if at_least else "<="
        print(f"{what:58} {found:12,.1f} {unit:8} wanted {sign} {wanted:,g}{'' if is_met else '  MISSED'}", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        run = read_run(find_runs(Path(argv[0]) if argv else _recorded(out / "runs"))[-1])
        programs = [Program(read_trace(path)) for path in find_traces(run.path)]
        count = sum(program.n_operations for program in programs)
        n_bytes = sum(file.stat().st_size for file in (run.path / "trace").iterdir())
        print(f"{count:,} operations of {run.path.name}")
        tell("recorded, index and all", n_bytes / count, "B/op", 40)
        tell("recording", 1e6 * _recording(out, programs[0]), "us/op", 2)
        settings = ValidationConfig.from_mapping({**settings_of(run.manifest), "selftest": False})
        tell(
            "the pair played again, judged", count / _spent(lambda: _judged(out, programs, settings)), "op/s", 1e4, True
        )
        tell("one candidate alone, bodies made per set", count / _spent(lambda: _alone(programs)), "op/s", 3e4, True)
        program = next(each for each in programs if any(d.cache == each.about["cache"] for d in run.divergences))
        one = next(d for d in run.divergences if d.cache == program.about["cache"] and d.outcome is not None)
        for length in LONG:
            spent, calls = _shrunk(out, program, one, length)
            tell(f"a divergence at the end of {length:,} operations shrunk", spent, "s", 10 if length < 10**6 else 60)
            tell("  which leaves", calls, "calls", 12)
        tell("greatest memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "MB", 2000)
    return 0 if all(met) else 1


def _recorded(out: Path) -> Path:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        run_command([*TRAIN, "--out", str(out)])
    return out


def _spent(do: Callable[[], Any]) -> float:
    began = thread_time()
    do()
    return thread_time() - began


def _recording(out: Path, program: Program) -> float:
    """Return what noting and writing a row takes, seconds: the rows of a session that is watched meanwhile."""
    noted: list[Any] = []
    cache = Lockstep(out / "noted", ValidationConfig(selftest=False))
    control, candidate = Sides(program.about).build()
    shadowed = cache.shadow(control=control, candidate=candidate)
    cache.pairs[-1].note = noted.append
    Player(shadowed, cache.pairs[-1], Sides(program.about).kind.bodies(program.kept)).play_all(
        program.steps(np.arange(min(20_000, len(program))))
    )
    cache.close()
    recording = Recording(TraceFile(out, index_file(0, 99), {}, RECORD.itemsize, Room(1 << 30)))

    def record() -> None:
        for row in noted:
            recording.note(row)
            if recording.is_due:
                recording.write()
        recording.close()

    return _spent(record) / len(noted)


def _judged(out: Path, programs: list[Program], settings: ValidationConfig) -> None:
    with Lockstep(out / "again", settings) as lockstep:
        replay = Replay(lockstep)
        for program in programs:
            replay.play(program, Sides(program.about))


def _alone(programs: list[Program]) -> None:
    for program in programs:
        sides = Sides(program.about)
        Player(sides.build()[1], None, sides.kind.bodies(program.kept)).play_all(program.steps())


def _shrunk(out: Path, program: Program, one: Divergence, length: int) -> tuple[float, int]:
    """Shrink a divergence before which what was recorded was done over and over; return seconds, and calls left."""
    end = int(np.searchsorted(program.ops, one.op_index, side="right"))
    index = Path(program.path)
    records = np.resize(read_trace(index).records[:end], length)
    records = np.roll(records, -(length % end))  # so that it is the divergence that comes last
    records["op"] = np.arange(length)
    file = TraceFile(out, index_file(0, 90 + len(str(length))), program.about, RECORD.itemsize, Room(1 << 40))
    for line in index.read_bytes().splitlines()[1:]:
        if line.startswith((b'{"verb"', b'{"layout"', b'{"key"')):
            file.line(json.loads(line))
    file.append(records.tobytes())
    file.close()
    del records
    found = None

    def shrink() -> None:
        nonlocal found
        long = Program(read_trace(out / "trace" / index_file(0, 90 + len(str(length)))))
        found = shrink_divergence(long, replace(one, op_index=length - 1), Sides(long.about))

    spent = _spent(shrink)
    return spent, len(found.shrunk.steps) if found else length


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
