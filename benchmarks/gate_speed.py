"""How long does the gate take over a thousand runs?

Writes synthetic run directories, each with as many windows, and as many bytes in each, as a run of
``configs/validate.toml`` leaves, and judges them by ``canary-to-default``. Exits with 1 if that takes 10 s or 500 MB.
Runs are read by several processes where there are many: memory is that of all of them together.

    python benchmarks/gate_speed.py
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from report_speed import rich_window

from reports.record.records import Window
from reports.record.totals import fold, summarise
from reports.record.words import SCHEMA
from reports.writer import RunWriter

WANTED_S, WANTED_MB = 10.0, 500
N_RUNS, N_WINDOWS = 1000, 56


def main() -> int:
    """Measure, and print one line."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        for number in range(N_RUNS):
            write_run(out, number)
        size_mb = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
        command = [sys.executable, "-m", "validator.cli", "gate", str(out), "--policy", "canary-to-default"]
        begin = time.monotonic()
        done = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak_mb = watched_mb(done)
        took_s = time.monotonic() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    about = f"{N_RUNS:,} runs of {N_WINDOWS} windows, {size_mb:.0f} MB on disk"
    print(f"{about}  {took_s:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of one core)  {peak_mb:.0f} MB")
    return int(took_s >= WANTED_S or peak_mb >= WANTED_MB)


def write_run(out: Path, number: int) -> None:
    """Write one run that the gate counts, as large as a real one."""
    windows, summary = _recorded()
    settings = {"digest_share": 1.0, "rtol": None, "atol": None}
    manifest = {"seed": number, "validation": settings, "selftest": {"passed": True}}
    writer = RunWriter.create(out, f"run-{number:04d}", manifest, evidence_limit_bytes=0)
    writer.cache("collect", control="LegacyKVCache", candidate="KVCacheManager", primary="control", env_num=4)
    for window in windows:
        writer.window(window)
    writer.close({**summary, "schema": SCHEMA, "run_id": f"run-{number:04d}", "state": "complete"})


@cache
def _recorded() -> tuple[list[Window], dict[str, Any]]:
    latency = {name: {str(bucket): 10 for bucket in range(70, 84)} for name in rich_window(0).latency_ns}
    windows = [replace(rich_window(seq), latency_ns=latency) for seq in range(N_WINDOWS)]
    return windows, summarise(fold(windows))


def watched_mb(gate: subprocess.Popen[str]) -> float:
    """Wait for a process; return the most memory that it and its children held together."""
    assert gate.stdout is not None
    most = 0.0
    reader = threading.Thread(target=gate.stdout.read)
    reader.start()
    while gate.poll() is None:
        held = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError, KeyError):  # processes end while they are looked at
                about = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                if str(gate.pid) in (about["Pid"].strip(), about["PPid"].strip()):
                    held += int(about.get("VmRSS", "0 kB").split()[0])
        most = max(most, held / 1024)
        time.sleep(0.05)
    reader.join()
    return most


if __name__ == "__main__":
    sys.exit(main())
