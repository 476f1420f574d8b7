"""What shrinking makes of every planted fault: ``python -m tests.validator.replay.campaign``; minutes.

Each is recorded in a run of its own, read from disk, shrunk, and written as a test that is tried.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from reports.read.trace import find_traces, read_trace
from reports.reader import read_run
from reports.record.words import Fault
from tests.validator.replay.faulty import broken, name_of, sound
from validator.config import ValidationConfig
from validator.proof.appends.stream import AppendPlayer, calls
from validator.proof.mappings import CAPACITY, MappingPlayer, mapping_steps
from validator.proof.selftest import EVERYTHING, TERRAIN, shape_of, surroundings_kept
from validator.proof.stream import Player, steps
from validator.replay.caches import Sides
from validator.replay.program import Program
from validator.replay.repro import repro
from validator.replay.shrinking import shrink_divergence
from validator.session import Lockstep

NAMED = "tests.validator.replay.faulty:"


def record(planted: Any, out: Path, operations: int = 600) -> Path:
    """Play a stream on a sound control and a candidate with the fault; return the run directory."""
    settings = ValidationConfig(run_id=name_of(planted)[:60], selftest=False, overhead_budget=0.0)
    shape = shape_of(planted)
    with surroundings_kept(), Lockstep(out, settings) as lockstep:
        cache = lockstep.shadow(control=sound(planted), candidate=broken(planted))
        player, stream = Player, steps(0, operations, TERRAIN)
        if shape == "mapping":
            player, stream = MappingPlayer, mapping_steps(0, operations, CAPACITY)
        elif shape == "append":
            player, stream = AppendPlayer, islice(calls(planted.windows), operations)
        player(cache, lockstep.pairs[-1]).play_all(stream)
    return lockstep.run_dir


def main() -> int:
    wanted = sys.argv[1:]
    good = 0
    chosen = [
        one for one in EVERYTHING if not wanted or shape_of(one) in wanted or any(word in one.name for word in wanted)
    ]
    for planted in chosen:
        with tempfile.TemporaryDirectory() as out:
            path = record(planted, Path(out))
            divergences = [one for one in read_run(path).divergences if one.fault is not Fault.HOST]
            if not divergences:
                print(f"{planted.name:44} nothing was recorded")
                continue
            program = Program(read_trace(find_traces(path)[0]))
            one = next((d for d in divergences if d.cause in planted.causes), divergences[0])
            sides = Sides(program.about, candidate=NAMED + name_of(planted))
            began = time.process_time()
            with surroundings_kept():
                found = shrink_divergence(program, one, sides, 40.0)
            spent = time.process_time() - began
            if found is None:
                print(f"{planted.name:44} {one.cause.value:32} does not come again")
                continue
            with surroundings_kept():
                test = repro(found, sides, one, one.id, "campaign")
            form = "plain" if test.plain else "watched"
            shown = f"{test.calls:3} calls {form} fails={test.fails} passes={test.passes}"
            print(f"{planted.name:44} {one.cause.value:32} {found.began:4} -> {shown} {spent:.1f} s", flush=True)
            good += test.fails and test.passes and test.calls <= 12
    print(f"{good} of {len(chosen)}: a test of at most 12 calls that fails as it should, and passes on a sound cache")
    return 0


if __name__ == "__main__":
    sys.exit(main())
