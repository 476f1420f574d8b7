"""What watching costs where one entry is huge: time of a set and a get, and memory at the peak.

``python benchmarks/big_entries.py [MEGABYTES]`` plays one entry of about that size (default: 500) through the old and
the new store, once alone and once watched, each in a process of its own, since peak memory is a process's. *Fresh* is
the first operation of its kind, into memory that nothing has touched; *hot* is the median of eight more, after the
first ones, which are all looked at closely. Time is processor time of the thread; *peak* is what the process held at
most beyond torch and the entry itself. A get of two caches alone copies nothing, so what it is held against is the set.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MEASURE = """
import json, resource, statistics, sys, time
import torch
from shadow.entry import KeysValues, leaves
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from validator.config import ValidationConfig
from validator.proof.trial import Trial
torch.set_num_threads(1)
watched, megabytes = sys.argv[1] == "watched", int(sys.argv[2])
config = {"num_simulations": 2, "max_cache_size": 4}
made = KeysValues(1, 16, max(1, megabytes * 1000_000 // (8 * 2048 * 4)), 2048, 4)
for layer in made:
    for part in (layer._k_cache, layer._v_cache):
        part._cache.fill_(1.5)
        part._cache[0, :, :, 0] = torch.arange(part._cache.shape[2])
        part._size = part._cache.shape[2]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
before = peak()
caches = [LegacyKVCache(config, 1), KVCacheManager(config, 1)]
if watched:
    trial = Trial(*caches, config=ValidationConfig(overhead_budget=0.0))
    caches = [trial.cache]
def timed(work):
    began = time.thread_time()
    for cache in caches:
        work(cache)
    return time.thread_time() - began
kinds = {"set": lambda cache: cache.set_recur_cache(1, made), "get": lambda cache: cache.get_recur_cache(1)}
found = {"entry": made.nbytes / 1e6}
for name, work in kinds.items():
    times = [timed(work) for _ in range(12)]
    found |= {name + " fresh": times[0], name + " hot": statistics.median(times[4:])}
found["peak"] = peak() - before
if watched:
    assert not trial.divergences and not trial.failures, (trial.divergences, trial.failures)
print(json.dumps(found))
"""


def measured(how: str, megabytes: str) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-c", MEASURE, how, megabytes]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the measurement failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, and print what watching adds."""
    size = sys.argv[1] if len(sys.argv) > 1 else "500"
    if not size.isdecimal() or size == "0":
        sys.exit(f"how many megabytes is a whole number above 0, got {size!r}")
    alone, watched = (measured(how, size) for how in ("alone", "watched"))
    print(f"one entry of {alone['entry']:,.0f} MB, 4 layers, full")
    for how in ("fresh", "hot"):
        own, both, got = (1e3 * time for time in (alone[f"set {how}"], watched[f"set {how}"], watched[f"get {how}"]))
        print(f"{how:5} set alone {own:,.0f} ms, watched {both:,.0f} ms: {both / own:.2f} x")
        print(f"      get watched {got:,.0f} ms: with the set {(both + got) / own:.2f} x")
    copies = (watched["peak"] - alone["peak"]) / alone["entry"]
    print(
        f"peak  alone {alone['peak']:,.0f} MB, watched {watched['peak']:,.0f} MB: {copies:.2f} copies of the entry more"
    )


if __name__ == "__main__":
    main()
