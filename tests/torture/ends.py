"""Every way a host can end, and every thing a disk can do: no wrong PASS, no lost divergence, no traceback of ours.

    python -m tests.torture.ends     prints a row a case: what came of it with a sound candidate, and with a wrong one

Each case is a process of its own. The short form of it is in the suite: ``tests/validator/test_endings.py``.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reports.errors import RunUnreadable
from reports.reader import read_run
from reports.record.words import Verdict
from tests.warm import script
from validator.gate.judgement import judge

PRELUDE = """
import atexit, os, resource, shutil, signal, sys, threading, time
from pathlib import Path
from tests.validator.sessions import *
from tests.validator.trials import manager
def session(name="run", **settings):
    return Lockstep({out!r}, ValidationConfig(**{{"run_id": name, "selftest": False, "window_s": 0.5, **settings}}))
def pair(lockstep):
    return lockstep.shadow(control=manager(), candidate={candidate})
out = Path({out!r}, "run")
"""
OPENED = """
lockstep = session()
cache = pair(lockstep)
exercise(lockstep, cache)
"""
# Where no self-test ran, a run that would pass lacks this one thing.
_NO_SELFTEST = "a harness that noticed planted faults"
_OURS = re.compile(r'File "[^"]*/(validator|reports|shadow)/')


class Case(NamedTuple):
    """One way to end, or one accident.

    Attributes:
        code: The exit code that the host has without kv-lockstep; a signal's negative.
        passes: Whether a sound candidate may pass.
        says: What the judgement, or standard output, says.
        then: What the host does after it used the cache.
        opened: How it opens its session.
    """

    code: int
    passes: bool
    says: str
    then: str
    opened: str = OPENED


ENDS = {
    "returns": Case(0, True, "without close", ""),
    "sys.exit()": Case(0, True, "without close", "sys.exit()"),
    "sys.exit(0)": Case(0, True, "without close", "sys.exit(0)"),
    "sys.exit(256)": Case(0, True, "without close", "sys.exit(256)"),
    "sys.exit(3)": Case(3, False, "with exit code 3: sys.exit(3)", "sys.exit(3)"),
    "sys.exit(-1)": Case(255, False, "with exit code 255", "sys.exit(-1)"),
    "sys.exit of a text": Case(1, False, "with exit code 1: sys.exit('no memory')", "sys.exit('no memory')"),
    "exit(4)": Case(4, False, "with exit code 4", "exit(4)"),
    "quit(code=5)": Case(5, False, "with exit code 5", "quit(code=5)"),
    "from sys import exit; exit(8)": Case(8, False, "with exit code 8", "exit(8)", "from sys import exit\n" + OPENED),
    "sys.exit(2), caught": Case(
        0, True, "without close", "try: sys.exit(2)\nexcept SystemExit: pass\nexercise(lockstep, cache)"
    ),
    "sys.exit(2), then a finally that uses the cache": Case(
        2, False, "exit code 2", "try: sys.exit(2)\nfinally: exercise(lockstep, cache)"
    ),
    "sys.exit(2), turned into a good end": Case(
        0, True, "without close", "try: sys.exit(2)\nexcept SystemExit: sys.exit(0)"
    ),
    "raises": Case(1, False, "with exit code 1: ValueError: broke", "raise ValueError('broke')"),
    "raises what can't be shown": Case(
        1, False, "exit code 1: E", "class E(Exception):\n  def __str__(self): raise KeyError(1)\nraise E"
    ),
    "raise SystemExit(1) by hand": Case(1, True, "its code can't be known", "raise SystemExit(1)"),
    "raise SystemExit(0) by hand": Case(0, True, "its code can't be known", "raise SystemExit(0)"),
    "os._exit(0)": Case(0, False, "crashed", "os._exit(0)"),
    "os._exit(1)": Case(1, False, "crashed", "os._exit(1)"),
    **{
        f"SIG{name}": Case(-number, False, "crashed", f"os.kill(os.getpid(), signal.SIG{name}); time.sleep(9)")
        for name, number in (("TERM", 15), ("KILL", 9), ("HUP", 1), ("SEGV", 11), ("ABRT", 6))
    },
    "SIGINT": Case(
        -2, False, "the host ended without close, with exit code 130: KeyboardInterrupt",
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    ),
    "SIGTERM, whose handler calls sys.exit": Case(
        143, False, "exit code 143",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
    ),
    "a thread raises": Case(
        0, True, "without close", "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()"
    ),
    "sys.exit(1) in a thread": Case(
        0, True, "without close", "t = threading.Thread(target=sys.exit, args=(1,)); t.start(); t.join()"
    ),
    "an exit handler raises": Case(0, True, "without close", "atexit.register(lambda: 1 / 0)"),
    "a daemon thread goes on": Case(
        0, True, "without close",
        "threading.Thread(target=lambda: [cache.get_init_cache(0, 5) for _ in iter(int, 1)], daemon=True).start()",
    ),
    "an interrupt strikes in the close": Case(
        -2, False, "the host ended by KeyboardInterrupt",
        "def cut(): raise KeyboardInterrupt\nlockstep.pairs[0].audit = cut\nlockstep.close()",
    ),
    "a forked child exits with 1": Case(
        0, True, "without close", "if not os.fork(): sys.exit(1)\nos.wait()",
    ),
    "a forked child uses the cache": Case(
        0, False, "used in a forked process, not observed",
        "if not os.fork(): exercise(lockstep, cache); os._exit(0)\nos.wait()",
    ),
    "a forked child outlives the parent's close": Case(
        0, False, "used in a forked process, not observed",
        "r, w = os.pipe()\nif not os.fork(): os.read(r, 1); cache.get_recur_cache(1); os._exit(0)\n"
        "lockstep.close(); os.write(w, b'x'); os.wait()",
    ),
    "a forked child finds no lock held": Case(
        0, False, "used in a forked process, not observed",
        """
held, free = threading.Event(), threading.Event()
def hold():
    with lockstep._lock, lockstep.pairs[0].lock, lockstep.recorder._lock, lockstep.recorder._writer._lock:
        held.set(); free.wait()
threading.Thread(target=hold).start(); held.wait()
if not (child := os.fork()):
    signal.alarm(5); exercise(lockstep, cache); lockstep.event("x"); lockstep.totals(); lockstep.close(); os._exit(0)
status = os.waitpid(child, 0)[1]; free.set()
assert status == 0, status
""",
    ),
    "exec": Case(0, False, "crashed", "os.execv('/bin/true', ['true'])"),
    "the host's own excepthook": Case(
        1, False, "exit code 1: ValueError", "sys.excepthook = lambda *_: None\nraise ValueError"
    ),
    "the host's own sys.exit": Case(
        6, False, "exit code 6", "before = sys.exit\nsys.exit = lambda code: before(code)\nsys.exit(6)"
    ),
    "a second session, closed in opening order": Case(
        7, False, "exit code 7",
        "other = session('other'); third = session('third'); other.close(); third.close(); sys.exit(7)",
    ),
    "with, returns": Case(0, True, "", "with lockstep: pass"),
    "with, sys.exit(0)": Case(0, True, "", "with lockstep: sys.exit(0)"),
    "with, raise SystemExit(3)": Case(
        3, False, "with exit code 3: SystemExit(3)", "with lockstep: raise SystemExit(3)"
    ),
    "with, raises": Case(1, False, "by ValueError: broke", "with lockstep: raise ValueError('broke')"),
    "with, in a generator that is dropped": Case(
        0, False, "by GeneratorExit", "def g():\n  with lockstep: yield 1\nx = g(); next(x); x.close()"
    ),
    "close in a finally": Case(
        1, False, "by ValueError: broke", "try: raise ValueError('broke')\nfinally: lockstep.close()"
    ),
    "close, the whole host in an except": Case(
        0, True, "", "lockstep.close()", "try: import no_such_module\nexcept ImportError:\n"
        "  lockstep = session(); cache = pair(lockstep); exercise(lockstep, cache); lockstep.close()\n",
    ),
    "close, then sys.exit(1)": Case(1, True, "", "lockstep.close(); sys.exit(1)"),
}  # fmt: skip

WORKER = """
import multiprocessing
def work(then):
    lockstep = session()
    exercise(lockstep, pair(lockstep))
    exec(then)
def worker(then):
    process = multiprocessing.get_context("fork").Process(target=work, args=(then,))
    process.start(); process.join(); sys.exit(process.exitcode)
"""
ENDS |= {
    "a worker of multiprocessing returns": Case(0, True, "without close", "worker('')", WORKER),
    "a worker of multiprocessing, sys.exit(0)": Case(0, True, "without close", "worker('sys.exit(0)')", WORKER),
    "a worker of multiprocessing, sys.exit(3)": Case(3, False, "SystemExit(3)", "worker('sys.exit(3)')", WORKER),
    "a worker of multiprocessing raises": Case(1, False, "by ZeroDivisionError", "worker('1 / 0')", WORKER),
}

LOG = "(out / 'rank-0000.jsonl')"
CLOSE = "\nlockstep.close(); resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)); print(lockstep.verdict)"
_REFUSE = (
    "real = os.write\ndef refuse(fd, data):\n  if fd < 3: return real(fd, data)\n  raise OSError({}, os.strerror({}))"
)
_AGAIN = "\nlockstep.event('more'); exercise(lockstep, cache)"
_GAVE = "host = open(out.parent / 'checkpoint', 'wb', buffering=0); host.write(b'WEIGHTS')"
DISK = {
    "directory removed": Case(
        0, False, "rank-0000.jsonl was removed",
        "for _ in range(9): shutil.rmtree(out, ignore_errors=True)" + _AGAIN + CLOSE,
    ),
    "file removed": Case(0, False, "rank-0000.jsonl was removed", f"{LOG}.unlink()" + _AGAIN + CLOSE),
    "file replaced": Case(
        0, False, "replaced by another file",
        f"(out / 'other').write_bytes(b''); (out / 'other').replace({LOG})" + _AGAIN + CLOSE,
    ),
    "file cut to nothing": Case(0, False, "changed by somebody else", f"os.truncate({LOG}, 0)" + _AGAIN + CLOSE),
    "somebody writes into the file": Case(
        0, False, "changed by somebody else", f"{LOG}.open('a').write('hello')" + _AGAIN + CLOSE
    ),
    "size limit reached": Case(
        0, False, "File too large",
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LOG}.stat().st_size + 20, -1))" + _AGAIN + CLOSE,
    ),
    "size limit reached, and lifted": Case(
        0, False, "File too large",
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LOG}.stat().st_size + 20, -1))" + _AGAIN
        + "\nresource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))" + _AGAIN + CLOSE,
    ),
    **{
        f"every write fails with {name}": Case(0, False, text, _REFUSE.format(number, number)
            + "\nos.write = refuse" + _AGAIN + CLOSE)
        for name, number, text in (
            ("ENOSPC", 28, "No space left on device"), ("EIO", 5, "Input/output error"),
            ("EROFS", 30, "Read-only file system"), ("EDQUOT", 122, "Disk quota exceeded"),
        )
    },
    "a disk that fails and recovers": Case(
        0, False, "No space left on device",
        _REFUSE.format(28, 28) + "\nos.write = refuse" + _AGAIN + "\nos.write = real" + _AGAIN + CLOSE,
    ),
    "writes of one byte": Case(
        0, True, "", "real = os.write\nos.write = lambda fd, data: real(fd, data[:1])" + _AGAIN + CLOSE
    ),
    "descriptors closed": Case(0, True, "", "os.closerange(3, 64)" + _AGAIN + CLOSE),
    "descriptor closed and given to the host": Case(
        0, True, "", f"os.closerange(3, 64)\n{_GAVE}" + _AGAIN + CLOSE
    ),
    "descriptor given to the host, and our file removed": Case(
        0, False, "rank-0000.jsonl was removed", f"os.closerange(3, 64); {LOG}.unlink()\n{_GAVE}" + _AGAIN + CLOSE
    ),
    "directory where open windows go": Case(
        0, False, "open windows not written", "from reports.record.records import Window\n"
        "(out / 'rank-0000.open.json').mkdir(); lockstep.recorder._writer.open_windows([Window('cache', 0, 0.0)])" 
        + CLOSE,
    ),
    "directory where the summary goes": Case(
        0, False, "summary not written", "(out / 'summary.json').mkdir()" + CLOSE
    ),
    "evidence is a link out of the run": Case(
        0, True, "", "(out.parent / 'elsewhere').mkdir(); (out / 'evidence').symlink_to(out.parent / 'elsewhere')\n"
        "exercise(lockstep, cache)" + CLOSE + "\nassert not list((out.parent / 'elsewhere').iterdir())",
        "lockstep = session()\ncache = pair(lockstep)\n",
    ),
    "standard error closed as well": Case(
        0, False, "rank-0000.jsonl was removed", f"sys.stderr.close(); {LOG}.unlink()" + _AGAIN + CLOSE
    ),
    "killed on a full disk": Case(
        -9, False, "No space left on device",
        _REFUSE.format(28, 28) + "\nos.write = refuse" + _AGAIN + "\nos.kill(os.getpid(), 9)",
    ),
}  # fmt: skip


def played(case: Case, out: Path, candidate: str = "manager()") -> str:
    """Play one case; return what came of it, or raise AssertionError if it is not what it should be."""
    done = script(PRELUDE.format(out=str(out), candidate=candidate) + case.opened + case.then, out)
    assert done.returncode == case.code, (done.returncode, done.stderr[-2000:])
    assert "KeyboardInterrupt" in done.stderr or not _OURS.search(done.stderr), done.stderr[-2000:]
    host = out / "checkpoint"
    assert not host.exists() or host.read_bytes() == b"WEIGHTS"
    try:
        run = read_run(out / "run")
    except RunUnreadable:  # nothing is there any more; then the host heard the verdict
        assert "INCONCLUSIVE" in done.stdout
        assert case.says in done.stdout
        return "nothing left, said by the host's own verdict"
    judgement = judge([run])
    missing = [demand for demand in judgement.demands if demand.verdict is not Verdict.PASS]
    passes = [demand.demanded for demand in missing] == [_NO_SELFTEST]
    said = "\n".join((str(judgement), *map(str, missing), run.ended))
    assert "judge it again" not in said, said
    if candidate == "manager()":
        assert passes is case.passes, said
    else:
        assert judgement.verdict is not Verdict.PASS
        assert not passes, said
        lost = run.lost or any("changed" in one or "removed" in one for one in run.problems)
        assert lost or judgement.verdict is Verdict.FAIL, said
    assert case.says in said, said
    return f"{'would pass' if passes else judgement.verdict.value}: {run.ended or run.lost or run.state}"


def play_all(cases: dict[str, Case], candidate: str) -> Iterator[tuple[str, str]]:
    """Play cases one after the other; yield each with what came of it."""
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as out:
            try:
                yield name, played(case, Path(out), candidate)
            except AssertionError as wrong:
                yield name, f"WRONG: {wrong!s:.1500}"


def main() -> int:
    """Play everything, with a sound candidate and with one that is wrong once."""
    n_wrong = n = 0
    for title, cases in (("ways to end", ENDS), ("conditions of the disk", DISK)):
        for candidate in ("manager()", "WrongAt(30)"):
            print(f"\n{len(cases)} {title}, candidate {candidate}")
            for name, came in play_all(cases, candidate):
                print(f"  {name:50} {came}", flush=True)
                n_wrong += came.startswith("WRONG")
                n += 1
    print(f"\n{n} cases, {n_wrong} wrong")
    return n_wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
