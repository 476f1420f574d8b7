"""How fast is a long run read, and its page written?

Writes synthetic runs into a temporary directory: one of a pair that was watched for a week, and one of 10^7 operations
with 10^4 divergences in full. Exits with 1 if loading the first takes 1 s, or the page of the second 5 s or 500 MB.
Seconds are those of one core.

    python benchmarks/report_speed.py
"""

from __future__ import annotations

import dataclasses
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reports import load
from reports.record.histogram import is_due
from reports.record.records import Divergence, LeafDifference, Window
from reports.record.totals import fold, summarise
from reports.record.words import SCHEMA, Cause, Dimension, Fault, Outcome
from reports.writer import RunWriter
from validator.config import ValidationConfig

LOAD_S, PAGE_S, PAGE_MB = 1.0, 5.0, 500
WEEK_S = 7 * 24 * 3600.0
_SIDES = ("control", "candidate")
_OPERATIONS = ("get.init", "get.hierarchical", "get.wm", "set.init", "set.recur", "set.wm", "clear.recur")


def main() -> int:
    """Measure, and print one line each."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        path = long_run(out)
        command = [sys.executable, "-m", "validator.cli", "report", str(path), "--format", "html"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page_s, peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        size = (path / "report.html").stat().st_size
        print(f"page of 10^7 operations, 10^4 divergences  {page_s:6.1f} s  {peak_mb:4.0f} MB  {size / 1000:.0f} kB")
        load(path)  # pandas is imported once
        week = week_of_one_pair(out)
        begin = time.process_time()
        n_windows = len(load(week).windows)
        load_s, size_mb = time.process_time() - begin, (week / "rank-0000.jsonl").stat().st_size / 1e6
        print(f"load of a pair's week, {n_windows:,} windows, {size_mb:.1f} MB   {load_s:5.2f} s")
    return int(load_s >= LOAD_S or page_s >= PAGE_S or peak_mb >= PAGE_MB)


def long_run(out: Path) -> Path:
    """Write a run of 10^7 operations with 10^4 divergences, every cause among them."""
    writer = RunWriter.create(out, "long", {"env_num": 4}, evidence_limit_bytes=0)
    writer.cache("collect", control="LegacyKVCache", candidate="KVCacheManager", primary="control")
    causes = list(Cause)
    windows = []
    for seq in range(500):
        groups = {f"value|{causes[(seq * 20 + n) % len(causes)].value}|candidate": 1 for n in range(20)}
        windows.append(dataclasses.replace(rich_window(seq), divergences=groups))
        writer.window(windows[-1])
    sizes = "float32 (1, 4, 12, 16) on cpu, 5 valid"
    leaf = LeafDifference(0, "K", "bits", sizes, sizes, 320, 64, 2.88, (0, 0, 4, 5), 20.7, (0, 3, 4, 14))
    leaves = tuple(dataclasses.replace(leaf, layer=n // 2, part="KV"[n % 2]) for n in range(4))
    history = tuple(f"#{n} get.hierarchical[0] 2085b06eeeac712e -> both_hit_equal" for n in range(8))
    for number in range(10_000):
        about = {"cache": "collect", "op_index": number, "operation": "get.wm", "pool": "wm", "env_id": None}
        cause = causes[number % len(causes)]
        kind = {"outcome": Outcome.BOTH_HIT_DIFFER, "dimension": Dimension.VALUE, "fault": Fault.CANDIDATE}
        said = "The candidate (KVCacheManager) answers values that were never stored, in 4 of 4 tensors."
        text = {"explanation": said, "key": "2085b06eeeac712e", "leaves": leaves, "history": history}
        writer.divergence(Divergence(id=number, **about, cause=cause, **kind, **text))  # type: ignore[arg-type]
    writer.close(summarise(fold(windows), schema=SCHEMA, run_id="long", state="complete"))
    return writer.path


def rich_window(seq: int) -> Window:
    """Return a window of 20,000 operations with everything in it that a real one has."""
    return Window(
        cache="collect",
        seq=seq,
        t_s=5.0 * (seq + 1),
        ops=dict.fromkeys(_OPERATIONS, 20_000 // len(_OPERATIONS)),
        lookups={pool: {"both_hit_equal": 2500, "both_miss": 357} for pool in ("init", "wm", "hierarchical")},
        coverage={"overwrites": 9, "evictions": 8, "ring_wraps": 2, "clears_recur": 60, "searches": 60, "episodes": 9},
        envs={str(env): 700 for env in range(4)},
        latency_ns={
            f"{side}.{name}": {str(bucket): 100 for bucket in range(60, 85)} for side in _SIDES for name in _OPERATIONS
        },
        bytes_held={"control": 491520, "candidate": 491520},
        harness_ns=2_500_000_000,
        train_iter=seq * 10,
        env_step=seq * 100,
    )


def week_of_one_pair(out: Path) -> Path:
    """Write a run of one pair as it is after a week at 1,000 operations a second."""
    from validator.recorder import Schedule  # with torch, whose memory must not be counted with the page's

    writer = RunWriter.create(out, "week", {"env_num": 4}, evidence_limit_bytes=0)
    writer.cache("collect", control="LegacyKVCache", candidate="KVCacheManager", primary="control")
    config = ValidationConfig()
    schedule, now_s, windows, with_latency = Schedule(config.window_s, config.window_ops, 0.0), 0.0, [], False
    for count in itertools.count():
        now_s += min(config.window_s, max(0.2, now_s * 0.1))
        with_latency |= is_due(count)
        if schedule.counted(now_s, 5_000):
            window = dataclasses.replace(rich_window(len(windows)), t_s=now_s)
            windows.append(window if with_latency else dataclasses.replace(window, latency_ns={}))
            writer.window(windows[-1])
            with_latency = False
        if now_s > WEEK_S:
            break
    writer.close(summarise(fold(windows), schema=SCHEMA, run_id="week", state="complete"))
    return writer.path


if __name__ == "__main__":
    sys.exit(main())
