"""What one shadowed pair did since its last window, counted where it is hot."""

from __future__ import annotations

from collections import defaultdict

from shadow.operation import OPERATIONS, Pool
from validator.histogram import BUCKETS, bucket
from validator.records import Outcome, Window

OUTCOMES = tuple(Outcome)
EQUAL, DIFFER, CONTROL_ONLY, CANDIDATE_ONLY, MISS, ERROR = range(6)
_NAMES = tuple(operation.name for operation in OPERATIONS)
_LOOKED_UP: tuple[Pool, ...] = ("init", "recur", "wm", "hierarchical")


class Counters:
    """Counts of one pair between two windows; ``drain`` turns them into a window and starts anew.

    Attributes:
        ops: Operations by ``kind.pool``.
        lookups: Per pool a list with one count per outcome, in the order of ``Outcome``.
        divergences: Divergences by ``dimension|cause|fault``.
        coverage: What was exercised, by name.
        envs: Lookups by env id.
        dropped: What was not looked at or not written, by reason.
        harness_ns: Time beyond the primary's own, nanoseconds.
    """

    def __init__(self) -> None:
        self.control_ns = {name: [0] * BUCKETS for name in _NAMES}
        self.candidate_ns = {name: [0] * BUCKETS for name in _NAMES}
        self._start()

    def _start(self) -> None:
        self.ops = dict.fromkeys(_NAMES, 0)
        self.lookups = {pool: [0] * len(OUTCOMES) for pool in _LOOKED_UP}
        self.divergences: dict[str, int] = defaultdict(int)
        self.coverage: dict[str, int] = defaultdict(int)
        self.envs: dict[int, int] = defaultdict(int)
        self.dropped: dict[str, int] = defaultdict(int)
        self.harness_ns = 0

    def timed(self, name: str, control_ns: int, candidate_ns: int) -> None:
        """Count one operation (``kind.pool``) and how long each side took for it, nanoseconds."""
        self.ops[name] += 1
        self.control_ns[name][bucket(control_ns)] += 1
        self.candidate_ns[name][bucket(candidate_ns)] += 1

    def drain(
        self, cache: str, seq: int, t_s: float, bytes_held: dict[str, int], train_iter: int, env_step: int
    ) -> Window:
        """Return everything counted since the last time as a window, and start anew."""
        latency: dict[str, dict[str, int]] = {}
        for side, histograms in (("control", self.control_ns), ("candidate", self.candidate_ns)):
            for name, counts in histograms.items():
                if self.ops[name]:
                    found = {str(index): count for index, count in enumerate(counts) if count}
                    latency[f"{side}.{name}"] = found
                    histograms[name] = [0] * BUCKETS
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
            coverage=dict(self.coverage),
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
