"""What each rank of a run did, side by side: a rank that stayed behind shows."""

from __future__ import annotations

from collections import Counter

from reports.content.text import line
from reports.record.run import Run
from reports.record.words import Outcome

HEAD = ("rank", "on", "seed", "how far", "operations", "both equal", "divergences", "weight updates")
N_NAMES = 4  # columns that are no numbers
_MOST = 256


def of_ranks(run: Run) -> list[tuple[str, ...]]:
    """Return a row for each rank, with a cell for each name in ``HEAD``; none where there is but one.

    Weight updates are of the pair that heard of most.
    """
    if len(run.fates) < 2:
        return []
    counted: dict[int, Counter[str]] = {rank: Counter() for rank in run.fates}
    updates: Counter[tuple[int, str]] = Counter()
    for window in run.windows:
        counts = counted.setdefault(window.rank, Counter())
        counts["ops"] += sum(window.ops.values())
        counts["equal"] += sum(each.get(Outcome.BOTH_HIT_EQUAL.value, 0) for each in window.lookups.values())
        counts["diverged"] += sum(window.divergences.values())
        updates[window.rank, window.cache] += window.coverage.get("weight_updates", 0)
    rows = []
    for rank, counts in sorted(counted.items())[:_MOST]:
        about = run.ranks.get(rank, {})
        most = max((count for (of, _), count in updates.items() if of == rank), default=0)
        numbers = (counts["ops"], counts["equal"], counts["diverged"], most)
        named = (str(rank), *(line(about.get(name, ""), 40) for name in ("hostname", "seed")), run.fates.get(rank, ""))
        rows.append((*named, *(f"{number:,}" for number in numbers)))
    return rows
