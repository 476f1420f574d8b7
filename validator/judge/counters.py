"""What one shadowed pair did since its last window, counted where it is hot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from reports.record.histogram import BUCKETS
from reports.record.records import Window
from reports.record.words import Outcome
from shadow.operation import Operation

OUTCOMES = tuple(Outcome)
EQUAL, DIFFER, CONTROL_ONLY, CANDIDATE_ONLY, MISS, ERROR = range(6)
_BATCH = 2048  # times kept before they are sorted into their buckets together


def _zeros() -> Any:
    return np.zeros(BUCKETS, dtype=np.int64)


class Counters:
    """Counts of one pair between two windows; ``drain`` turns them into a window and starts anew.

    Args:
        operations: What is counted.

    Attributes:
        times: Per ``kind.pool`` how long each side took for the last operations, nanoseconds: control, candidate,
            control, ...; whoever adds to it calls ``sort_in_full`` now and then.
        lookups: Per pool a list with one count per outcome, in the order of ``Outcome``.
        divergences: Divergences by ``dimension|cause|fault``.
        coverage: What was exercised, by name.
        envs: Lookups by env id.
        layers: Sets by number of layers that hold something in K and V; 0 where one of them holds nothing.
        dropped: What was not looked at or not written, by reason.
        harness_ns: Time beyond the primary's own, nanoseconds.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        listed = tuple(operations)  # several methods may be counted under one name
        kinds = dict.fromkeys(operation.name for operation in listed)
        looked_up = (operation.pool for operation in listed if operation.kind in ("get", "append"))
        self._looked_up = list(dict.fromkeys(looked_up))
        self._histograms: dict[str, list[Any]] = {name: [_zeros(), _zeros()] for name in kinds}
        self.times: dict[str, list[int]] = {name: [] for name in kinds}
        self._sorted_in = dict.fromkeys(kinds, 0)
        self._start()

    def _start(self) -> None:
        self._before = self._ops_ever()
        self.lookups = {pool: [0] * len(OUTCOMES) for pool in self._looked_up}
        self.divergences: dict[str, int] = defaultdict(int)
        self.coverage: dict[str, int] = defaultdict(int)
        self.envs: dict[int, int] = defaultdict(int)
        self.layers: dict[int, int] = defaultdict(int)
        self.dropped: dict[str, int] = defaultdict(int)
        self.harness_ns = 0

    @property
    def has_any(self) -> bool:
        """Whether anything was counted since the last window."""
        return bool(self.coverage or self.divergences or self.dropped) or self._ops_ever() != self._before

    @property
    def ops(self) -> dict[str, int]:
        """Operations by ``kind.pool``."""
        before = self._before
        return {name: count - before[name] for name, count in self._ops_ever().items()}

    def _ops_ever(self) -> dict[str, int]:
        return {name: count + len(self.times[name]) // 2 for name, count in self._sorted_in.items()}

    def untimed(self, name: str) -> None:
        """Count an operation of which nobody knows how long it took."""
        self._sorted_in[name] += 1

    def sort_in_full(self) -> None:
        """Count the times of which many are kept in their histograms."""
        for name, times in self.times.items():
            if len(times) >= _BATCH:
                self.sort_in(name)

    def sort_in(self, name: str) -> None:
        """Count the times of one kind of operation in its histograms."""
        times = self.times[name]
        self._sorted_in[name] += len(times) // 2
        both = buckets(np.array(times, dtype=np.int64).reshape(-1, 2))
        for side, histogram in enumerate(self._histograms[name]):
            histogram += np.bincount(both[:, side], minlength=BUCKETS)
        times.clear()

    def drain(
        self,
        cache: str,
        seq: int,
        t_s: float,
        bytes_held: dict[str, int],
        train_iter: int,
        env_step: int,
        with_latency: bool = True,
    ) -> Window:
        """Return everything counted since the last time as a window, and start anew; latencies may wait for a later."""
        latency: dict[str, dict[str, int]] = {}
        for name, histograms in self._histograms.items() if with_latency else ():
            if self.times[name]:
                self.sort_in(name)
            if any(histogram.any() for histogram in histograms):
                for side, histogram in zip(("control", "candidate"), histograms, strict=True):
                    latency[f"{side}.{name}"] = {str(i): int(histogram[i]) for i in np.flatnonzero(histogram)}
                    histogram[:] = 0
        window = Window(
            cache=cache,
            seq=seq,
            t_s=t_s,
            ops={name: count for name, count in self.ops.items() if count},
            lookups={
                pool: {outcome.value: count for outcome, count in zip(OUTCOMES, counts, strict=True) if count}
                for pool, counts in self.lookups.items()
                if any(counts)
            },
            divergences=dict(self.divergences),
            coverage={**self.coverage, **{f"sets_of_{n}_layers": count for n, count in self.layers.items()}},
            envs={str(env_id): count for env_id, count in self.envs.items()},
            latency_ns=latency,
            bytes_held=bytes_held,
            harness_ns=self.harness_ns,
            dropped=dict(self.dropped),
            train_iter=train_iter,
            env_step=env_step,
        )
        self._start()
        return window


def buckets(values: Any) -> Any:
    """Return the bucket of each of an array of whole numbers of nanoseconds; ``histogram.bucket`` for many at once."""
    values = np.maximum(values, 0)
    # Exact for all that a double holds exactly: 2 ** 53 ns are 104 days.
    exponent = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(exponent - 4, 0)
    return np.where(values < 16, values, ((exponent - 3) << 3) + ((values >> shift) & 7))
