"""How long watching makes an ``update`` of an append cache, beyond both sides' own time: ``python append_overhead.py``.

By this thread's clock on the CPU. The fastest tenth says what it costs where no other program gets in the way;
``kv-lockstep bench --added`` counts the same in calls.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import thread_time_ns
from typing import Any

import torch

from validator import Lockstep
from validator.proof.appends.caches import FixedCache, GrowingCache

HEADS, WIDTH, WARM = 8, 64, 100
PAIRS = {"fixed": lambda room: FixedCache(1, room), "growing": lambda room: GrowingCache((None,))}


class Own:
    """Adds up the time that the sides take themselves, nanoseconds."""

    def __init__(self) -> None:
        self.ns = 0

    def timed(self, cache: Any) -> Any:
        """Return a cache whose updates are timed."""
        update = cache.update

        def timed(*args: Any) -> Any:
            began = thread_time_ns()
            answer = update(*args)
            self.ns += thread_time_ns() - began
            return answer

        cache.__class__ = type("Timed", (type(cache),), {"update": staticmethod(timed)})
        return cache


class ByHand:
    """Updates both sides, and does nothing else: what it adds is what the clock takes."""

    def __init__(self, control: Any, candidate: Any) -> None:
        self._sides = control, candidate

    def update(self, *args: Any) -> None:
        """Update one side after the other."""
        for side in self._sides:
            side.update(*args)


def measure(kind: str, held: int, updates: int, watched: bool = True) -> tuple[list[float], list[float]]:
    """Return the microseconds that both sides take for each update, and those that watching, with a record, adds."""
    own, alone, added = Own(), [], []
    with TemporaryDirectory() as path, Lockstep(Path(path)) as lockstep:
        control, candidate = (own.timed(PAIRS[kind](held + WARM + updates)) for _ in range(2))
        cache = (lockstep.shadow if watched else ByHand)(control=control, candidate=candidate)
        for tokens, times in ((held, 1), (1, WARM), (1, updates)):
            keys, values = torch.randn(2, 1, HEADS, tokens, WIDTH)
            for _ in range(times):
                own.ns, began = 0, thread_time_ns()
                cache.update(keys, values, 0)
                added.append((thread_time_ns() - began - own.ns) / 1e3)
                alone.append(own.ns / 1e3)
    return alone[-updates:], added[-updates:]


def main() -> None:
    """Print a line for each pair and each number of tokens held."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--updates", type=int, default=1000, metavar="N", help="updates timed (default: 1000)")
    updates = arguments.parse_args().updates
    torch.set_num_threads(1)
    gc.disable()
    print(f"one row, {HEADS} heads of {WIDTH}, a token at a time; microseconds of this thread: fastest tenth, median")
    for kind in PAIRS:
        for held in (512, 8192):
            (v, b), (w, a) = ((quantiles(each, n=10)[0], median(each)) for each in measure(kind, held, updates))
            x, y = (
                f(measure(kind, held, updates, watched=False)[1]) for f in (lambda t: quantiles(t, n=10)[0], median)
            )
            told = f"watching adds {w - x:.0f}, {a - y:.0f} beyond the clock's own {x:.0f}, {y:.0f}"
            print(f"{kind}, {held:,} held: both sides {v:.0f}, {b:.0f}; {told}", flush=True)


if __name__ == "__main__":
    main()
