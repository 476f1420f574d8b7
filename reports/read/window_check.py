"""Is a line a window that can be added up, and what is wrong with it if not?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, product
from math import inf
from typing import Any

from reports.record.histogram import BUCKETS
from reports.record.records import COUNTS, Window
from reports.record.words import Cause, Dimension, Fault, Outcome

_BUCKET_NAMES = frozenset(map(str, range(BUCKETS)))
_OUTCOME_NAMES = frozenset(outcome.value for outcome in Outcome)
_GROUPS = frozenset("|".join(word.value for word in words) for words in product(Dimension, Cause, Fault))
_FIELDS = frozenset(Window.__dataclass_fields__)
_TABLES = (*COUNTS, "bytes_held")
_NUMBERS = (("seq", 0), ("like", 0), ("harness_ns", 0), ("train_iter", -1), ("env_step", -1))
_TOO_MANY = 2**63


def check_window(line: dict[str, Any]) -> None:
    """Check a window down to its counts, because they are added up.

    Args:
        line: What stands in its line.

    Raises:
        ValueError: If it can't be added up; says why.
    """
    try:
        lookups, latency = line.get("lookups", {}), line.get("latency_ns", {})
        tables = [line[name] for name in _TABLES if name in line]
        tables += lookups.values()
        tables += latency.values()
        if ("counts" in line) != ("like" in line):
            raise KeyError("like" if "counts" in line else "counts")
        if "counts" in line:
            if tables:
                raise ValueError("tables beside counts")
            tables.append(dict(enumerate(line["counts"])))
        counts = list(chain.from_iterable(map(dict.values, tables)))  # raises TypeError where one is no table
        if counts and not (set(map(type, counts)) == {int} and min(counts) >= 0 and max(counts) < _TOO_MANY):
            bad = next(n for n in counts if type(n) is not int or not 0 <= n < _TOO_MANY)
            raise ValueError(f"{bad!r:.40} is no count")
        for outcomes in lookups.values():
            if not outcomes.keys() <= _OUTCOME_NAMES:
                raise ValueError(f"unknown outcome {min(outcomes.keys() - _OUTCOME_NAMES)!r:.40}")
        if not _BUCKET_NAMES.issuperset(chain.from_iterable(latency.values())):
            raise ValueError("latency outside the histogram's buckets")
        for group in line.get("divergences", ()):
            if group not in _GROUPS:
                raise ValueError(f"{group!r:.60} is no dimension|cause|fault")
        if type(line["cache"]) is not str:
            raise ValueError("cache is no name")
        if not 0 <= line["t_s"] < 1e12:  # seconds; false for NaN
            raise ValueError("t_s is no time")
        for name, least in _NUMBERS:
            if type(number := line.get(name, 0)) is not int or not least <= number < _TOO_MANY:
                raise ValueError(f"{number!r:.40} is no {name}")
        if took := line.get("timed", ()):
            control_ns, candidate_ns, n = took
            if not (0 <= control_ns < inf and 0 <= candidate_ns < inf and type(n) is int and 0 <= n < _TOO_MANY):
                raise ValueError(f"{took!r:.40} is no time of both sides")
        if "seq" not in line:
            raise KeyError("seq")
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        said = f"lacks {fault}" if isinstance(fault, KeyError) else str(fault)
        if isinstance(fault, TypeError) and "descriptor" in said:
            said = "a table of counts is none"
        raise ValueError(f"no window that this version understands: {said:.120}") from None


def window_of(line: Mapping[str, Any], rank: int) -> Window:
    """Return the window that stands in a line in full, which has been checked; what it does not know is left out."""
    return Window(**{**{name: line[name] for name in _FIELDS & line.keys()}, "rank": rank})
