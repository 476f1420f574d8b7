"""What one training costs and comes to, measured from within its process."""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from validator.ab.alone import Counted
from validator.provenance import source_of

_RECENT = 20  # episodes


class Meter:
    """Starts when the first cache is built, so that importing and setting up don't count.

    Attributes:
        caches: Every cache that was handed to the model.
    """

    def __init__(self) -> None:
        self.caches: list[Counted] = []
        self._began: tuple[float, float] | None = None

    def built(self, cache: Counted) -> None:
        """Hear of a cache."""
        self.caches.append(cache)
        self._began = self._began or (time.process_time(), time.perf_counter())

    def read(self, returns: Sequence[float], losses: Sequence[float]) -> dict[str, Any]:
        """Read the meter at the end.

        Args:
            returns: Of every finished episode, in order.
            losses: Total loss of every update, or means of equal stretches of them, in order.

        Returns:
            Fields of ``reports.record.trainings.Training``.
        """
        cpu_s, wall_s = (0.0, 0.0) if self._began is None else self._began
        kinds = {cache.kind for cache in self.caches}
        late = losses[-max(1, len(losses) // 5) :]
        error = "" if all(map(math.isfinite, losses)) else "the loss is not finite"
        if not self.caches:
            error = "no cache was built, so nothing was measured"
        on_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return {
            "cache": ", ".join(sorted({f"{kind.__module__}.{kind.__qualname__}" for kind in kinds})),
            "source": ", ".join(sorted({source_of(kind) for kind in kinds})),
            "device": "cuda" if on_cuda else "cpu",
            "episodes": len(returns),
            "cpu_s": time.process_time() - cpu_s if self._began else 0.0,
            "wall_s": time.perf_counter() - wall_s if self._began else 0.0,
            "peak_bytes": torch.cuda.max_memory_allocated() if on_cuda else peak_resident_bytes(),
            "lookups": sum(cache.lookups for cache in self.caches),
            "hits": sum(cache.hits for cache in self.caches),
            "mean_return": statistics.fmean(returns[-_RECENT:]) if returns else None,
            "mean_loss": statistics.fmean(late) if losses and not error else None,
            "error": error,
        }


def peak_resident_bytes() -> int:
    """Return the most memory this program held.

    Linux carries ``ru_maxrss`` over from the process that started this one, so it could be that one's; its own
    high-water mark stands in ``/proc``.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
