"""What a training process leaves on disk: the run directory, written so that nothing here can hurt the training.

Once a writer exists, nothing it does raises: a full disk, a directory removed under it or an object that is no JSON
costs the line it happened to, is counted under its reason in ``faults``, and the next line is tried again. Lines go
straight to the kernel, so what was written survives a SIGKILL. The first loss is said on standard error, and a file
that was made for it says what is lost. Lines go into our own file or nowhere: the host may have closed the descriptor,
and opened its checkpoint under the same number. NaN and infinities are written as null: JSON has no word for them.
Imports neither torch nor anything that draws (pandas, rich, jinja2).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from numbers import Real
from pathlib import Path
from typing import Any

from reports.aloud import say
from reports.disk.layout import (
    EVIDENCE_DIR,
    RUN_FILE,
    SUMMARY_FILE,
    described,
    encoded,
    forked_file,
    lost_file,
    open_file,
    rank_file,
    write_atomically,
)
from reports.disk.losses import note, reserve, told
from reports.disk.own_file import OwnFile
from reports.disk.process import alive, identity
from reports.disk.ranks import claimed_again, left_before, said_of
from reports.disk.seal import seal
from reports.errors import RunDirectoryError
from reports.record.codec import to_json
from reports.record.inventory import Inventory
from reports.record.records import Divergence, Window
from reports.record.redaction import redacted
from reports.record.totals import Timed
from reports.record.words import SCHEMA


class RunWriter:
    """One rank's pen. Made by ``create``; safe to use from several threads; silent in a forked child.

    Attributes:
        path: The run directory.
        rank: Rank of this process.
        faults: What went wrong, reason to count.
        lost_lines: Lines that are not on disk as a whole.
        evidence_reason: Why the last ``evidence`` returned nothing, or empty.
        evidence_bytes: Bytes of evidence written.
    """

    def __init__(self, path: Path, fd: int, rank: int, evidence_limit_bytes: int) -> None:
        self.path = path
        self.rank = rank
        self.faults: dict[str, int] = {}
        self.lost_lines = 0
        self.evidence_reason = ""
        self.evidence_bytes = 0
        self._limit = evidence_limit_bytes
        self._file = OwnFile(path / rank_file(rank), fd)
        self._pid = os.getpid()
        self._begin = time.monotonic()
        # Reentrant: a signal handler that closes the run may interrupt a write of the same thread.
        self._lock = threading.RLock()
        self._lines = 0
        self._inventory = Inventory()
        self._seal = ""
        self._closed: bool | None = None
        self._has_open = False

    @classmethod
    def create(
        cls, out: Path, run_id: str, manifest: Mapping[str, Any], *, rank: int = 0, evidence_limit_bytes: int
    ) -> RunWriter:
        """Make ``<out>/<run_id>/`` and open it; the only place that raises, and it does so before training starts.

        Args:
            out: Directory of runs; made if missing.
            run_id: Plain directory name of this run.
            manifest: What ran: ``run.json`` of rank 0, the first line of any other. ``schema, run_id, rank,
                world_size, created, pid, pid_started, hostname`` are filled in where it lacks them; what is no JSON is
                described by its ``repr``.
            rank: Rank of this process.
            evidence_limit_bytes: Space for this rank's evidence.

        Returns:
            The writer.

        Raises:
            RunDirectoryError: If the directory can't be written or holds another run.
        """
        if run_id in ("", ".", "..") or any(bad in run_id for bad in "/\\\0"):
            raise RunDirectoryError(f"run id {run_id!r}: expected a plain directory name, without separators")
        path = Path(out).absolute() / run_id  # the host may change its directory later
        advice = "choose another output directory or run id, or move the old run away"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        fd = -1
        filled = {"world_size": 1, "created": datetime.now(timezone.utc).isoformat(), **identity(), **manifest}
        try:
            filled = redacted(described({"schema": SCHEMA, "run_id": run_id, **filled, "rank": rank}))
            path.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                raise RunDirectoryError(f"{path}: is a symbolic link, which is not followed; {advice}")
            there = said_of(path, rank)
            if filled["world_size"] != 1 and there.get("pid") != os.getpid() and alive(there):
                claimed_again(path, rank)
                other = f"process {there['pid']} is rank {rank} of this run already"
                raise RunDirectoryError(f"{path}: {other}; give each process a rank of its own, or another run id")
            if os.path.lexists(path / RUN_FILE) and (rank == 0 or said_of(path, 0).get("run_id") != run_id):
                holds = said_of(path, 0).get("run_id") or "of unknown id"
                raise RunDirectoryError(f"{path}: holds run {holds} already; {advice}")
            if (earlier := left_before(path, filled.get("meeting"))) is not None:
                raise RunDirectoryError(f"{path}: holds what rank {earlier} of an earlier run left; {advice}")
            fd = os.open(path / rank_file(rank), flags, 0o644)  # O_EXCL: of two processes, one wins
            reserve(path, rank)
            if rank == 0:
                write_atomically(path / RUN_FILE, seal(encoded(filled, indent=1)))
        except RunDirectoryError:
            raise
        except FileExistsError as found:
            what = f"{found.filename} is there already, perhaps of an earlier run; {advice}"
            raise RunDirectoryError(f"{path}: {what}") from None
        except (OSError, ValueError, TypeError) as problem:
            if fd >= 0:
                os.close(fd)
                for name in (rank_file(rank), lost_file(rank)):
                    with contextlib.suppress(OSError):
                        (path / name).unlink()
            what = (problem.strerror if isinstance(problem, OSError) else "") or str(problem)
            raise RunDirectoryError(
                f"{path}: {what}; expected a directory that can be written; mend it, or choose another one"
            ) from problem
        writer = cls(path, fd, rank, evidence_limit_bytes)
        writer._inventory.ran = filled
        if rank:
            writer._line("rank", lambda: {**filled, "type": "rank", "t_s": None})
        return writer

    def elapsed_s(self) -> float:
        """Return seconds since the run began, the clock of every ``t_s``."""
        return time.monotonic() - self._begin

    def cache(self, name: str, **about: Any) -> bool:
        """Write that a pair is shadowed: ``control``, ``candidate`` class names, ``primary``, ``policy``."""
        return self._line("cache", lambda: {**redacted(about), "cache": name})

    def window(self, window: Window) -> bool:
        """Write one window of counters; False if that line is lost."""
        return self._line("window", lambda: self._in_full(window))

    def open_windows(self, windows: Sequence[Window]) -> bool:
        """Write windows as far as they were counted, in place of those written so before; False if that failed."""
        return self._write("open windows", lambda: self._replace_open(windows))

    def divergence(self, divergence: Divergence) -> bool:
        """Write one divergence in full; False if that line is lost."""
        return self._line(
            "divergence", lambda: redacted(to_json(divergence)) | {"rank": self.rank, "cache": divergence.cache}
        )

    def event(self, name: str, detail: str = "") -> bool:
        """Write that something happened in the life of the host or of the harness."""
        return self._line("event", lambda: {"event": name, "detail": redacted(detail)})

    def evidence(self, file_name: str, blob: bytes) -> str:
        """Keep the serialised tensors of one divergence.

        Args:
            file_name: Wanted name; anything but letters, digits, dot, dash and underscore is replaced.
            blob: safetensors bytes.

        Returns:
            Path relative to the run directory, or empty: ``evidence_reason`` then says why.
        """
        self.evidence_reason = ""
        if os.getpid() != self._pid:
            return ""
        with self._lock:
            try:
                if self.evidence_bytes + len(blob) > self._limit:
                    self.evidence_reason = (
                        f"not kept: {len(blob)} bytes beyond the limit of {self._limit} for this rank's evidence"
                    )
                    return ""
                clean = re.sub(r"[^A-Za-z0-9._-]+", "_", file_name).lstrip(".")[-120:] or "unnamed"
                relative = f"{EVIDENCE_DIR}/r{self.rank}-{clean}"
                (self.path / EVIDENCE_DIR).mkdir(exist_ok=True)
                if (self.path / EVIDENCE_DIR).is_symlink():
                    raise OSError(f"{EVIDENCE_DIR} is a symbolic link")
                if (self.path / relative).exists():
                    raise FileExistsError(f"{relative} is there already")
                write_atomically(self.path / relative, blob, sync=False)
                self.evidence_bytes += len(blob)
                return relative
            except Exception as problem:
                self.evidence_reason = f"not kept: {self._fault('evidence', problem)}"
                return ""

    def close(self, summary: Mapping[str, Any]) -> bool:
        """End the run: a last line, and for rank 0 ``summary.json``; a second call changes nothing.

        Args:
            summary: What ``reports.record.totals.summarise`` made. ``writer`` (faults and lost lines) is added.

        Returns:
            Whether everything this writer was ever given is on disk.
        """
        if os.getpid() != self._pid:
            return True
        with self._lock:
            if self._closed is not None:
                return self._closed
            if not self.lost_lines:  # else what is still open may be all that is left of such a line
                self.open_windows(())
            ending: dict[str, Any] = {
                name: said for name in ("state", "ended") if isinstance(said := summary.get(name), str) and said
            }
            if os.path.lexists(self.path / forked_file(self.rank)):
                ending["forked"] = True
            inventory = self._inventory.told(described(summary))
            self._line("close", lambda: {"run_id": self.path.name, **ending, **self._account(), "inventory": inventory})
            self._closed = False
            for name, step in (("sync", self._file.sync), ("summary", lambda: self._summarise(summary))):
                try:
                    step()
                except Exception as problem:
                    self._fault(name, problem)
            self._closed = not self.faults
            if self._closed:
                with contextlib.suppress(OSError):
                    (self.path / lost_file(self.rank)).unlink()
            else:
                note(self.path, self.rank, self._account())
                say(f"{self.path}: {self.losses}; this run can't pass")
            return self._closed

    @property
    def losses(self) -> str:
        """What is not on disk, and why; empty for nothing."""
        return told(self._account())

    def in_forked_child(self) -> None:
        """Have a lock that nobody holds."""
        self._lock = threading.RLock()

    def used_in_fork(self) -> None:
        """Leave a mark, in a forked child that used the cache: nobody watches there."""
        if self._closed is not None:
            return
        try:
            (self.path / forked_file(self.rank)).touch()
        except OSError as problem:
            say(f"{self.path}: the cache is used in a forked process, which can't be recorded: {problem.strerror}")

    def _in_full(self, window: Window) -> dict[str, Any]:
        line = {name: value for name, value in to_json(window).items() if value != {}} | {"rank": self.rank}
        if latency_ns := line.pop("latency_ns", None):
            line |= {"timed": Timed.of(latency_ns), "latency_ns": latency_ns}  # last: who needs the sum can stop there
        return line

    def _replace_open(self, windows: Sequence[Window]) -> None:
        path = self.path / open_file(self.rank)
        if windows:
            self._file.descriptor()  # a directory that somebody is removing is left alone
            whole = encoded({"windows": [self._in_full(window) for window in windows]})
            write_atomically(path, seal(whole), sync=False)
        elif self._has_open:
            path.unlink(missing_ok=True)
        self._has_open = bool(windows)

    def _summarise(self, summary: Mapping[str, Any]) -> None:
        if self.rank == 0:
            whole = encoded({**summary, "writer": self._account(), "lines_digest": self._seal}, indent=1)
            write_atomically(self.path / SUMMARY_FILE, seal(whole))

    def _account(self) -> dict[str, Any]:
        return {"lines": self._lines, "lost_lines": self.lost_lines, "faults": dict(self.faults)}

    def _line(self, kind: str, make: Callable[[], dict[str, Any]]) -> bool:
        def append() -> None:
            line = {"type": kind, "t_s": None, **make()}
            if not isinstance(line["t_s"], Real) or not math.isfinite(line["t_s"]):
                line["t_s"] = round(self.elapsed_s(), 6)
            if self._file.was_changed():
                self._fault("file", OSError(f"{rank_file(self.rank)} was changed by somebody else"))
            self._file.append((self._sealed(line) if kind == "close" else encoded(line)) + b"\n")
            self._lines += 1
            self._inventory.add(line)

        return self._write("line", append)

    def _write(self, what: str, step: Callable[[], None]) -> bool:
        """Take a step of which the training hears nothing, whatever comes of it; False if it failed."""
        if os.getpid() != self._pid:
            return True
        with self._lock:
            try:
                if self._closed is not None:
                    raise ValueError("written after the close")
                step()
                return True
            except Exception as problem:
                self.lost_lines += what == "line"
                self._fault(what, problem)
                return False

    def _sealed(self, line: dict[str, Any]) -> bytes:
        before = self._file.digest.copy()
        if self._file.torn:
            before.update(b"\n")
        sealed = seal(encoded(line), before)
        self._seal = str(json.loads(sealed)["digest"])
        return sealed

    def _fault(self, what: str, problem: Exception) -> str:
        said = (problem.strerror if isinstance(problem, OSError) else None) or str(problem) or "no reason given"
        reason = f"{what}: {type(problem).__name__}: {said:.200}"
        if reason not in self.faults and len(self.faults) >= 32:
            reason = f"{what}: further reasons"
        if not self.faults:
            say(f"{self.path}: {what} can't be written: {said:.200}; the training goes on, this run can't pass")
        self.faults[reason] = self.faults.get(reason, 0) + 1
        if not self._closed:
            note(self.path, self.rank, self._account())
        return reason
