"""What shrinking a divergence came to."""

from __future__ import annotations

from dataclasses import dataclass

from reports.record.words import Cause, Fault


@dataclass(frozen=True, slots=True)
class KeptRepro:
    """The test that a divergence was shrunk to, or why there is none.

    Attributes:
        rank: Rank that the divergence was found on.
        divergence: Its number on that rank.
        cause: Why.
        fault: Who is wrong.
        source: Text of the test, empty if there is none.
        calls: Calls of the cache in it.
        fails: Whether it was seen to fail on the cache at fault.
        passes: Whether it was seen to pass with a sound cache in its place.
        said: Where there is no test, why.
    """

    rank: int
    divergence: int
    cause: Cause
    fault: Fault
    source: str = ""
    calls: int = 0
    fails: bool = False
    passes: bool = False
    said: str = ""

    @property
    def file(self) -> str:
        """Name of the test's file; numbers of divergences are each rank's own."""
        return f"test_{f'rank_{self.rank}_' if self.rank else ''}divergence_{self.divergence:03d}.py"
