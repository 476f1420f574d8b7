"""Are a rank's windows all there, in their order?"""

from __future__ import annotations

from collections.abc import Sequence


class Order:
    """Watches the ordinals of windows; each pair counts its own from 0."""

    def __init__(self) -> None:
        self._following: dict[str, int] = {}
        self._n_missing: dict[str, int] = {}
        self._disordered: dict[str, None] = {}

    def saw(self, cache: str, seqs: Sequence[int]) -> None:
        """Note the next windows of a pair."""
        expected = self._following.get(cache, 0)
        if seqs == list(range(expected, expected + len(seqs))):
            self._following[cache] = expected + len(seqs)
            return
        for seq in seqs:
            self._saw(cache, seq)

    def _saw(self, cache: str, seq: int) -> None:
        expected = self._following.get(cache, 0)
        if seq == expected:
            self._following[cache] = seq + 1
        elif seq < expected:
            self._disordered[cache] = None
        else:
            self._n_missing[cache] = self._n_missing.get(cache, 0) + seq - expected
            self._following[cache] = seq + 1

    def gaps(self) -> list[str]:
        """Name windows that are missing, repeated or out of order."""
        gaps = [
            f"{count} window{'s' * (count != 1)} of {cache!r:.60} missing before its last"
            for cache, count in self._n_missing.items()
        ]
        return gaps + [f"windows of {cache!r:.60} are repeated or out of order" for cache in self._disordered]
