"""From a trace to a program: its records as steps that can be played, whole or in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from reports.record.trace import HAS_BODY, HAS_ENV, HAS_KEY, INTERNED, NEGATIVE, ODD_ENV, Trace, Verb
from shadow.operation import Given
from validator.proof.stream import LIFE_CYCLE, Step
from validator.replay.bodies import Body
from validator.replay.recording import LIFE

COPIED = "copied"
_AT_ONCE = 8192
_NOT_PLAYED = {
    "unobserved": "calls of the primary that were no operations",
    "torn": "operations that were interrupted half-way",
    "held_before": "pairs that held something when they were met, and begin empty here",
    "advised": "arguments beyond key and entry, such as priorities",
}


class Program:
    """What one trace says was done, as an array that is turned into steps where they are wanted.

    Args:
        trace: The trace.

    Attributes:
        about: What was recorded: see ``Trace.about``; and how many ``layers`` an append cache was seen to have.
        path: The index of the trace.
        kept: Entries that were kept whole, the bytes of their valid regions.
        ops: Ordinal of the operation of each record; of the life cycle that of the next one.
        left_out: What was recorded and can't be played, with how often.
    """

    def __init__(self, trace: Trace) -> None:
        self.about = {**trace.about, "layers": _layers(trace)}
        self.path = trace.path
        self._trace = trace
        self._records = records = trace.records
        self._interned = (records["flags"] & INTERNED) != 0
        verbs = trace.verbs
        life = np.array([verb.kind == LIFE for verb in verbs], bool)
        self.is_life = life[records["verb"]] if len(records) else np.zeros(0, bool)
        self.kept = {Body(d, trace.layouts[n], trace.forms[n]): body for (d, n), body in trace.bodies.items()}
        self.ops = records["op"].astype(np.int64)
        playable = np.array([verb.kind != LIFE or verb.method in LIFE_CYCLE for verb in verbs], bool)
        by_name = [np.flatnonzero(records["verb"] == number) for number in range(len(verbs))]
        self.left_out = Counter(
            {
                _NOT_PLAYED[verb.method]: len(at)
                for verb, at in zip(verbs, by_name, strict=True)
                if verb.method in _NOT_PLAYED
            }
        )
        self.copied_at = np.concatenate(
            [at for verb, at in zip(verbs, by_name, strict=True) if verb.method == COPIED] or [np.zeros(0, np.int64)]
        )
        kinds = np.array([verb.kind in ("set", "append") for verb in verbs], bool)
        stores = kinds[records["verb"]] if len(records) else self.is_life
        odd = (records["flags"] & ODD_ENV) != 0
        bodyless = stores & ((records["flags"] & HAS_BODY) == 0)
        unknown = self._interned & (records["key"] >= len(trace.keys))
        rearranging = np.array([verb.kind == "rearrange" for verb in verbs], bool)
        if rearranging.any():
            is_told = np.array([type(key) is tuple for key in trace.keys], bool)
            told = self._interned & ~unknown
            told[told] = is_told[records["key"][told]]
            unknown |= rearranging[records["verb"]] & ~told
        self.left_out["operations whose env is no whole number"] = int(odd.sum())
        in_layers = self.about.get("shape") == "append"
        more = in_layers & ((records["flags"] & HAS_ENV) != 0)
        self.left_out["arguments beyond keys, values and layer"] = int(more.sum())
        self.left_out["sets whose entry could not be digested"] = int(bodyless.sum())
        self.left_out["operations under keys that could not be told apart"] = int(unknown.sum())
        self._played = (playable[records["verb"]] if len(records) else self.is_life) & ~odd & ~bodyless & ~unknown
        self.left_out = +self.left_out

    def __len__(self) -> int:
        return len(self._records)

    @property
    def n_operations(self) -> int:
        """How many operations it holds."""
        return int((self._played & ~self.is_life).sum())

    @property
    def n_verbs(self) -> int:
        """How many verbs there are."""
        return len(self._trace.verbs)

    def field(self, name: str) -> Any:
        """Return one field of all records."""
        return self._records[name]

    def verb(self, number: int) -> Verb:
        """Return what a number of a verb stands for."""
        return self._trace.verbs[number]

    def steps(self, at: Any | None = None) -> Iterator[Step]:
        """Yield the steps at these ordinals, those that can't be played left out; None for all of them."""
        chosen = np.flatnonzero(self._played) if at is None else at[self._played[at]]
        trace = self._trace
        verbs, layouts, forms = [verb.method for verb in trace.verbs], trace.layouts, trace.forms
        in_layers = self.about.get("shape") == "append"
        keys = [Given(key) if in_layers and type(key) is tuple else key for key in trace.keys]
        for start in range(0, len(chosen), _AT_ONCE):
            rows = self._records[chosen[start : start + _AT_ONCE]].tolist()
            for verb, flags, _, env, layout, _, key, digest in rows:
                if flags & HAS_KEY and flags & (INTERNED | NEGATIVE):
                    key = keys[key] if flags & INTERNED else key - (1 << 64)
                if flags & HAS_KEY == 0:
                    key = None
                if in_layers and type(key) is int:  # a layer is to its cache what an env is to others
                    env, flags, key = key, flags | HAS_ENV, None
                yield Step(
                    verbs[verb],
                    env if flags & HAS_ENV else None,
                    key,
                    Body(digest, layouts[layout - 1], forms[layout - 1]) if flags & HAS_BODY else None,
                )

    def progress_at(self, at: int) -> tuple[int, int]:
        """Return training iteration and environment step as told at a record of the life cycle, -1 for not told."""
        record = self._records[at]
        return int(record["layout"]) - 1, int(record["digest"]) - 1


def _layers(trace: Trace) -> int:
    """Return how many layers an append cache was seen to have, 0 for other caches."""
    appending = np.array([verb.kind == "append" for verb in trace.verbs], bool)
    if not appending.any():
        return 0
    found = trace.records["key"][appending[trace.records["verb"]]]
    return int(found.max()) + 1 if len(found) else 0
