"""Run directories, mutated: ``python -m tests.torture.directories``; each goes through gate, report and compare.

What must not be: a traceback, a hang, a PASS of what was not recorded so. Prints how often each was, by what was done.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.record.words import EXIT_CODE, EXIT_USAGE, Verdict
from tests.validator.gate.sealed import documents, edited, edits, places, write_sealed
from tests.validator.gate.test_edited_and_sealed import is_free, record
from tests.validator.sessions import WrongAt
from tests.validator.trials import manager
from validator.cli import main

READ = ("run.json", "rank-0000.jsonl", "rank-0001.jsonl", "summary.json")
FORMATS = ("json",) * 5 + ("markdown", "junit") * 2 + ("html", "terminal")
HANG_S = 20
ODD = (None, True, -1, 0, 2**63, 10**400, 1.5, float("inf"), "", "\ud800<b>::error::", [], {}, [[[]]], {"a": {"b": 1}})


class Hang(BaseException):
    """A command took longer than ``HANG_S``."""


def recorded(out: Path) -> dict[str, Path]:
    """Record real runs: two that pass, one that fails, one that was killed."""
    with pytest.MonkeyPatch.context() as patch:
        runs = {
            "passes": record(out / "1", manager(), patch),
            "two ranks": record(out / "2", manager(), patch, ranks=2),
            "fails": record(out / "3", WrongAt(3), patch),
        }
    runs["killed"] = Path(shutil.copytree(runs["fails"], out / "4" / "run"))
    (runs["killed"] / "summary.json").unlink()
    lines = runs["killed"] / "rank-0000.jsonl"
    lines.write_bytes(b"".join(lines.read_bytes().splitlines(keepends=True)[:-1]))
    return runs


class Mutations:
    """Draws one change of a run directory at a time.

    Args:
        draw: Where from.
        runs: Sound run directories, for files of others.

    Attributes:
        harmless: Whether the last change may leave a PASS: it changed nothing that is judged.
        what: What it changed, where that is one value.
    """

    def __init__(self, draw: random.Random, runs: list[Path]) -> None:
        self._draw = draw
        self._runs = runs
        self.harmless, self.what = False, ""
        kinds: tuple[Callable[[Path], None], ...] = (
            *(self.bytes_flipped, self.truncated, self.lines_dropped, self.lines_repeated, self.lines_swapped),
            *(self.value_replaced, self.value_sealed, self.value_sealed, self.all_sealed, self.all_sealed),
            *(self.file_of_another_run, self.emptied, self.made_huge, self.made_a_link, self.removed, self.garbage),
        )
        self.kinds = kinds

    def __call__(self, path: Path) -> str:
        """Change a directory in place, and return what was done."""
        self.harmless, self.what = False, ""
        kind = self._draw.choice(self.kinds)
        before = {name: (path / name).read_bytes() for name in READ if (path / name).is_file()}
        kind(path)
        now = {name: (path / name).read_bytes() for name in READ if (path / name).is_file() and kind != self.made_huge}
        self.harmless = self.harmless or now == before
        return kind.__name__.replace("_", " ")

    def _file(self, path: Path) -> Path:
        return self._draw.choice([path / name for name in READ if (path / name).exists()])

    def bytes_flipped(self, path: Path) -> None:
        file = self._file(path)
        data = bytearray(file.read_bytes())
        for _ in range(self._draw.choice((1, 1, 1, 8))):
            data[self._draw.randrange(len(data))] ^= 1 << self._draw.randrange(8)
        file.write_bytes(data)

    def truncated(self, path: Path) -> None:
        file = self._file(path)
        os.truncate(file, self._draw.randrange(file.stat().st_size))

    def lines_dropped(self, path: Path) -> None:
        self._lines(path, lambda lines, at: lines[:at] + lines[at + 1 :])

    def lines_repeated(self, path: Path) -> None:
        self._lines(path, lambda lines, at: lines[: at + 1] + lines[at:])

    def lines_swapped(self, path: Path) -> None:
        self._lines(path, lambda lines, at: [*lines[:at], *reversed(lines[at : at + 2]), *lines[at + 2 :]])
        self.harmless = True  # each line says the same as before; windows out of their order are noticed all the same

    def _lines(self, path: Path, change: Callable[[list[Any], int], list[Any]]) -> None:
        """Change the lines of a rank before its close, sealed again or not."""
        name = self._draw.choice([name for name in READ if name.endswith("l") and (path / name).exists()])
        lines = documents(path)[name]
        changed = change(lines[:-1], self._draw.randrange(max(1, len(lines) - 1))) + lines[-1:]
        if self._draw.random() < 0.5:
            write_sealed(path, name, changed)
        else:
            raws = (path / name).read_bytes().splitlines(keepends=True)
            (path / name).write_bytes(b"".join(change(raws[:-1], 0) + raws[-1:]))

    def _replaced(self, path: Path, odd: bool) -> tuple[str, list[Any]]:
        found = {name: lines for name, lines in documents(path).items() if name in READ}
        name = self._draw.choice(sorted(found))
        at = self._draw.randrange(len(found[name]))
        where = self._draw.choice([*places(found[name][at])])
        value = found[name][at]
        for part in where:
            value = value[part]
        new = self._draw.choice(ODD if odd else edits(value))
        if odd and self._draw.random() < 0.3:
            where = where[: self._draw.randrange(len(where))] or where
        self.what = f" ({name}:{at + 1} {where!r:.100}: {value!r:.60} -> {new!r:.60})"
        self.harmless = is_free(f"{name}:{at + 1} {'.'.join(map(str, where))}:") or new == value
        return name, [*found[name][:at], edited(found[name][at], where, new), *found[name][at + 1 :]]

    def value_replaced(self, path: Path) -> None:
        name, lines = self._replaced(path, odd=True)
        write_sealed(path, name, lines)
        self.harmless = False
        data = (path / name).read_bytes()
        at = data.rindex(b'"}') - 1  # the last digit of its seal, which is broken
        (path / name).write_bytes(data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :])

    def value_sealed(self, path: Path) -> None:
        write_sealed(path, *self._replaced(path, odd=self._draw.random() < 0.5))

    def all_sealed(self, path: Path) -> None:
        write_sealed(path, *self._replaced(path, odd=self._draw.random() < 0.3), whole=True)

    def file_of_another_run(self, path: Path) -> None:
        other = self._draw.choice(self._runs)
        name = self._draw.choice([name for name in READ if (other / name).exists()])
        shutil.copyfile(other / name, path / name)

    def emptied(self, path: Path) -> None:
        self._file(path).write_bytes(self._draw.choice((b"", b"\n", b"{}", b"[]", b"null", b'"\\ud800"')))

    def made_huge(self, path: Path) -> None:
        os.truncate(self._file(path), self._draw.choice((20 << 20, 4 << 30)))

    def made_a_link(self, path: Path) -> None:
        file = self._file(path)
        file.unlink()
        if self._draw.random() < 0.3:
            os.mkfifo(file)
        else:
            file.symlink_to(
                self._draw.choice(("/dev/zero", "/etc/passwd", "nowhere", ".", str(self._runs[0] / file.name)))
            )

    def removed(self, path: Path) -> None:
        self._file(path).unlink()

    def garbage(self, path: Path) -> None:
        file = path / self._draw.choice((*READ, "rank-0000.open.json", "rank-0007.jsonl"))
        file.write_bytes(self._draw.randbytes(300) + b"\n" + b"[" * self._draw.choice((1, 900, 90_000)))


@contextlib.contextmanager
def limited() -> Iterator[None]:
    def hung(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(command: list[str]) -> tuple[str, int]:
    """Run one command; return what must not be, or nothing, and its exit code."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited():
            code = main(command)
    except Hang:
        return "hang", -1
    except BaseException as error:
        return f"traceback: {error!r:.200}", -1
    known = {*EXIT_CODE.values(), EXIT_USAGE} if command[0] == "gate" else {0, EXIT_USAGE}
    return ("" if code in known else f"traceback: {err.getvalue():.300}"), code


def torture(n: int, seed: int = 0, *, progress: bool = False) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Mutate and judge.

    Args:
        n: Directories.
        seed: Of what is drawn.
        progress: Whether standard error says how far it is.

    Returns:
        How many there were of each kind, with what became of them; and what must not be, one sentence each.
    """
    draw = random.Random(seed)
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        runs = recorded(Path(scratch))
        mutations = Mutations(draw, list(runs.values()))
        for number in range(n):
            base = draw.choice([*runs, "passes", "passes"])
            path = Path(shutil.copytree(runs[base], Path(scratch) / "mutated"))
            done = mutations(path)
            passes = base in ("passes", "two ranks") and mutations.harmless
            verdicts = []
            for command in (
                ["gate", str(path)],
                ["report", str(path), "--format", draw.choice(FORMATS), "--output", "-"],
                ["compare", str(path), str(runs["passes"]), "--format", "html", "--output", str(Path(scratch) / "c")],
            ):
                fault, code = outcome(command)
                verdicts.append(code)
                if fault:
                    wrong.append(f"{number}: {command[0]} of {base}, {done}: {fault}")
            if verdicts[0] == EXIT_CODE[Verdict.PASS] and not passes:
                wrong.append(f"{number}: {base}, {done}{mutations.what}: wrong PASS")
            named = {EXIT_CODE[verdict]: verdict.value for verdict in Verdict} | {EXIT_USAGE: "refused"}
            counts[done, named.get(verdicts[0], "fault")] += 1
            shutil.rmtree(path)
            if progress:
                print(f"\r{number + 1:,} of {n:,}, {len(wrong)} wrong", end="", file=sys.stderr, flush=True)
    return counts, wrong


def run() -> int:
    """Torture as many as asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.directories", description=__doc__)
    parser.add_argument("--n", type=int, default=12_000, help="run directories (default: 12000)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same mutations (default: 0)")
    arguments = parser.parse_args()
    begun = time.monotonic()
    counts, wrong = torture(arguments.n, arguments.seed, progress=True)
    print(file=sys.stderr)
    columns = ("PASS", "FAIL", "INCONCLUSIVE", "refused")
    print(f"{'mutated':<22}" + "".join(f"{name:>14}" for name in columns))
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind:<22}" + "".join(f"{counts[kind, name]:>14,}" for name in columns))
    print(f"{sum(counts.values()):,} run directories, each through gate, report and compare: ", end="")
    print(f"{len(wrong)} tracebacks, hangs and wrong PASSes in {time.monotonic() - begun:.0f} s")
    print(*wrong[:40], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(run())
