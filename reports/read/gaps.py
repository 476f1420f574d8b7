"""Are a rank's windows all there, in their order, by a clock that goes forward?"""

from __future__ import annotations

from dataclasses import dataclass, field

from reports.record.records import Window


@dataclass(slots=True)
class _Seen:
    """What was seen of one pair.

    Attributes:
        following: Ordinal of the window that comes next.
        n_missing: Windows that are missing before it.
        is_disordered: Whether one came twice, or after a later one.
        latest_s: When the last one ended.
        backwards: From when to when the clock went backwards, or empty.
    """

    following: int = 0
    n_missing: int = 0
    is_disordered: bool = False
    latest_s: float = 0.0
    backwards: str = ""


@dataclass(slots=True)
class Gaps:
    """Watches the ordinals of windows, which each pair counts from 0, and their times."""

    _pairs: dict[str, _Seen] = field(default_factory=dict)

    def saw(self, window: Window) -> None:
        """Note the next window of a pair."""
        seen = self._pairs.setdefault(window.cache, _Seen())
        if window.t_s < seen.latest_s:
            seen.backwards = f"from {seen.latest_s:.6g} s to {window.t_s:.6g} s"
        seen.latest_s = window.t_s
        if window.seq < seen.following:
            seen.is_disordered = True
        else:
            seen.n_missing += window.seq - seen.following
            seen.following = window.seq + 1

    def following(self, cache: str) -> int:
        """Return the ordinal of the window of a pair that comes next."""
        return self._pairs[cache].following if cache in self._pairs else 0

    def sentences(self) -> list[str]:
        """Name windows that are missing, repeated or out of order."""
        pairs = self._pairs.items()
        return [
            *(
                f"{seen.n_missing} window{'s' * (seen.n_missing != 1)} of {cache!r:.60} missing before its last"
                for cache, seen in pairs
                if seen.n_missing
            ),
            *(
                f"the clock of {cache!r:.60} goes backwards, {seen.backwards}"
                for cache, seen in pairs
                if seen.backwards
            ),
            *(f"windows of {cache!r:.60} are repeated or out of order" for cache, seen in pairs if seen.is_disordered),
        ]
