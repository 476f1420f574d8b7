"""Takes away, one at a time, the checks that tests guard, and shows that each test notices: ``python -m tests.mutate``.

Each check is taken away in a scratch copy of the checkout, in which the one test then runs. A test that passes there
guards nothing, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.guards import ROOT, Guard, found

NOTICED = "noticed"
LIMIT_S = 300


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
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", guard.test]
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"no end after {LIMIT_S} s"
        crashed = -done.returncode in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)  # a guard of memory was gone
        noticed = done.returncode == 1 or crashed
        return NOTICED if noticed else "SURVIVED" if not done.returncode else f"pytest ended with {done.returncode}"


def main(arguments: list[str] | None = None) -> int:
    """Take away what is asked for and print a table; return 1 where a test did not notice."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only guards that one of these occurs in")
    parser.add_argument("--share", default="0/1", metavar="N/M", help="only one of M equal shares; N counts modulo M")
    asked = parser.parse_args(arguments)
    number, shares = map(int, asked.share.split("/"))
    chosen = [guard for guard in found() if not asked.words or any(word in str(guard) for word in asked.words)]
    chosen = chosen[number % shares :: shares]
    n_noticed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for guard, said in zip(chosen, pool.map(outcome, chosen), strict=True):
            n_noticed += said == NOTICED
            print(f"{said:10} {guard.file} {guard.old.strip()[:60]!r} by {guard.test}", flush=True)
    print(f"{n_noticed} of {len(chosen)} noticed")
    return int(n_noticed < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
