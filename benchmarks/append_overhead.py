"""What watching adds to one ``update`` of an append cache, beyond both sides' own time: ``python append_overhead.py``.

Times are those of this thread on the CPU, so that other programs count little: the median of rounds, each
of which appends a token at a time to caches that hold so many. Calls are counted by Python's own profiler hook.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from statistics import median
from time import thread_time_ns
from typing import Any

import torch

from validator.proof.appends.caches import FixedCache, GrowingCache
from validator.proof.appends.proof import AppendTrial

HEADS, WIDTH, UPDATES = 8, 64, 128
PAIRS: dict[str, Callable[[int], Any]] = {
    "growing": lambda room: GrowingCache((None,)),
    "fixed": lambda room: FixedCache(1, room),
}


def states(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values of some tokens."""
    return torch.randn(1, HEADS, tokens, WIDTH), torch.randn(1, HEADS, tokens, WIDTH)


def microseconds(cache: Any, tokens: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Append one token after another; return the time of each, microseconds."""
    began = thread_time_ns()
    for keys, values in tokens:
        cache.update(keys, values, 0)
    return (thread_time_ns() - began) / 1e3 / len(tokens)


def calls(cache: Any, tokens: list[tuple[torch.Tensor, torch.Tensor]]) -> Counter[str]:
    """Count calls per update: of Python functions, and of what is written in C, torch's among them."""
    seen: Counter[str] = Counter()

    def count(frame: Any, event: str, called: Any) -> None:
        if event in ("call", "c_call"):
            seen[event] += 1
            if event == "c_call" and isinstance(getattr(called, "__self__", None), torch.Tensor):
                seen["tensor"] += 1

    sys.setprofile(count)
    for keys, values in tokens:
        cache.update(keys, values, 0)
    sys.setprofile(None)
    return Counter({name: round(number / len(tokens)) for name, number in seen.items()})


def measure(kind: str, held: int, rounds: int) -> tuple[float, float, Counter[str]]:
    """Return both sides' own time per update, what watching adds, and the calls of a watched one."""
    make, room = PAIRS[kind], held + UPDATES + 1
    tokens = [states(1) for _ in range(UPDATES)]
    own, added = [], []
    for _ in range(rounds):
        first, second, third, fourth = (make(room) for _ in range(4))
        watched = AppendTrial(first, second).cache
        prefill = states(held)
        for cache in (watched, third, fourth):
            cache.update(*prefill, 0)
        alone = microseconds(third, tokens) + microseconds(fourth, tokens)
        own.append(alone)
        added.append(microseconds(watched, tokens) - alone)
    again = AppendTrial(make(room), make(room)).cache
    again.update(*states(held), 0)
    return median(own), median(added), calls(again, tokens)


def main() -> None:
    """Print a line for each pair and each number of tokens held."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="rounds, whose median counts (default: 20)"
    )
    rounds = arguments.parse_args().rounds
    torch.set_num_threads(1)
    print(f"one row, {HEADS} heads of {WIDTH}, a token at a time; microseconds of this thread per update")
    for kind in PAIRS:
        for held in (512, 8192):
            own, added, seen = measure(kind, held, rounds)
            print(
                f"{kind} beside {kind}, {held:,} held: both sides alone {own:.0f}, watching adds {added:.0f}"
                f" ({seen['call']} Python calls, {seen['c_call']} of C, {seen['tensor']} of them of tensors)",
                flush=True,
            )


if __name__ == "__main__":
    main()
