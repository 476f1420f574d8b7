"""How fast is a long run read, and its page written?

Writes synthetic runs into a temporary directory: one of 10^7 operations with 10^4 divergences in full, and a million
lines of each kind that a rank's file may be full of. Exits with 1 if the page takes 5 s or 500 MB, or a million lines
take 5 s. Seconds of the page are those of one core; for lines they are what passes, and those of one core stand beside
it, as does what ``json.loads`` alone takes for these lines: other work on the machine, which shares its caches, slows
all of them alike.

    python benchmarks/report_speed.py
"""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from reports.reader import read_run
from reports.record.codec import to_json
from reports.record.histogram import is_due
from reports.record.records import Divergence, LeafDifference, Window
from reports.record.totals import fold, summarise
from reports.record.words import Cause, Dimension, Fault, Outcome
from reports.short import Shortener
from reports.writer import RunWriter

WANTED_S, WANTED_MB = 5.0, 500
N_LINES = 1_000_000
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
        event = b'{"type":"event","t_s":%d.5,"event":"weights_updated","detail":"version %d"}\n'
        events_s = many_lines(out, "events", (event % (number, number) for number in range(N_LINES)))
        windows_s = many_lines(out, "windows", window_lines(N_LINES))
    return int(page_s >= WANTED_S or peak_mb >= WANTED_MB or max(events_s, windows_s) >= WANTED_S)


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
    writer.close(summarise(fold(windows), schema=1, run_id="long", state="complete"))
    return writer.path


def rich_window(seq: int) -> Window:
    """Return a window of 20,000 operations with everything in it that a real one has."""
    return Window(
        cache="collect",
        seq=seq,
        t_s=5.0 * (seq + 1),
        ops=dict.fromkeys(_OPERATIONS, 20_000 // len(_OPERATIONS)),
        lookups={pool: {"both_hit_equal": 2500, "both_miss": 300} for pool in ("init", "wm", "hierarchical")},
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


def window_lines(count: int) -> Iterator[bytes]:
    """Yield windows as a writer writes those of one pair in a long run: most in short, seldom with histograms."""
    shortener = Shortener()
    rich = to_json(rich_window(0))
    bare = {**rich, "latency_ns": {}}
    for seq in range(count):
        t_s = 5.0 * seq + seq % 97 / 97  # of 15 to 17 digits, as those of a clock
        about = {"seq": seq, "t_s": t_s, "train_iter": seq * 10, "harness_ns": 2_500_000_000 + seq}
        about |= {"envs": {str(env): 700 + seq % (env + 2) for env in range(4)}}
        line = shortener.line({**(rich if is_due(seq) else bare), **about})
        yield json.dumps({"type": "window", **line, "rank": 0}, separators=(",", ":")).encode() + b"\n"


def many_lines(out: Path, name: str, lines: Iterable[bytes]) -> float:
    """Write a rank's file of these lines, read it, and return the seconds that took."""
    path = RunWriter.create(out, name, {}, evidence_limit_bytes=0).path
    file = path / "rank-0000.jsonl"
    with file.open("wb") as stream:
        stream.writelines(lines)
    begin, begin_core = time.perf_counter(), time.process_time()
    run = read_run(path)
    passed_s, core_s = time.perf_counter() - begin, time.process_time() - begin_core
    assert run.n_events or run.totals.ops, "nothing was read"
    begin_core, count = time.process_time(), 0
    with file.open("rb") as stream:
        for line in stream:
            json.loads(line)
            count += 1
    alone_s = time.process_time() - begin_core
    each = f"{file.stat().st_size / count:4.0f} bytes a line"
    beside = f"({core_s:.1f} s of one core; json.loads alone {alone_s:.1f} s)"
    print(f"{count:>9,} lines, {name:<30} {passed_s:6.1f} s  {each}  {beside}")
    file.unlink()
    return passed_s


if __name__ == "__main__":
    sys.exit(main())
