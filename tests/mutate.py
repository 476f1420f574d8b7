"""Takes away, one at a time, the checks that tests guard, and shows that each test notices: ``python -m tests.mutate``.

Each check is taken away in a scratch copy of the checkout, in which the one test then runs. A test that passes there
guards nothing, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.guards import ROOT, Guard, found

NOTICED, SURVIVED = "noticed", "SURVIVED"
LIMIT_S = 300

# Begins where what takes longest to import is imported already, none of it of the checkout, and forks for each test.
_RUNNER = """
import gc, json, os, sys
import numpy, pandas, pytest, torch
gc.freeze()
for line in sys.stdin:
    checkout, test = json.loads(line)
    if not (child := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for number in range(3):
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
os.chdir(checkout)
os.environ["PYTHONPATH"] = sys.path[0] = checkout
code = 70
try:
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", test])
finally:
    os._exit(code)
"""
_running = threading.local()


def outcome(guard: Guard, root: Path = ROOT) -> str:
    """Run the test where what it guards is gone; return ``NOTICED``, or what happened instead."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as scratch:
        copy = Path(scratch) / "checkout"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".*", "runs", "build", "dist"))
        path = copy / guard.file
        source = path.read_text(encoding="utf-8")
        if source.count(guard.old) != 1:
            return f"the text stands there {source.count(guard.old)} times"
        path.write_text(source.replace(guard.old, guard.new), encoding="utf-8")
        code = _tested(copy, guard.test)
        if code is None:
            return f"no end after {LIMIT_S} s"
        crashed = -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)  # a guard of memory was gone
        noticed = code == 1 or crashed
        return NOTICED if noticed else SURVIVED if not code else f"pytest ended with {code}"


def _tested(checkout: Path, test: str) -> int | None:
    """Run a test of a checkout; return pytest's exit code, or minus the signal that ended it, or None for no end."""
    runner: subprocess.Popen[bytes] | None = getattr(_running, "runner", None)
    if runner is None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _RUNNER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        runner = _running.runner = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    assert runner.stdin is not None
    assert runner.stdout is not None
    runner.stdin.write(json.dumps([str(checkout), test]).encode() + b"\n")
    if not select.select([runner.stdout], [], [], LIMIT_S)[0]:
        os.killpg(runner.pid, signal.SIGKILL)
        del _running.runner
        return None
    return int(runner.stdout.readline())


def main(arguments: list[str] | None = None) -> int:
    """Take away what is asked for and print a table; return 1 where a test did not notice."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only guards that one of these occurs in")
    parser.add_argument("--share", default="0/1", metavar="N/M", help="only one of M equal shares; N counts modulo M")
    asked = parser.parse_args(arguments)
    number, shares = map(int, asked.share.split("/"))
    chosen = [guard for guard in found() if not asked.words or any(word in str(guard) for word in asked.words)]
    chosen = chosen[number % shares :: shares]
    untouched = [guard._replace(new=guard.old) for guard in chosen[:1]]
    if any(outcome(guard) != SURVIVED for guard in untouched):
        print(f"{untouched[0].test} fails although nothing was taken away: this shows nothing")
        return 1
    n_noticed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for guard, said in zip(chosen, pool.map(outcome, chosen), strict=True):
            n_noticed += said == NOTICED
            print(f"{said:10} {guard.file} {guard.old.strip()[:60]!r} by {guard.test}", flush=True)
    print(f"{n_noticed} of {len(chosen)} noticed")
    return int(n_noticed < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
