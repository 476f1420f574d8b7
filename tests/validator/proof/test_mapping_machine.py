"""Any program of a mapping's verbs, found by Hypothesis: sound mappings are silent and answer as one alone would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cachetools
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.guards import guards
from tests.shadow.nests import floats
from tests.validator.trials import trial

KEYS = st.sampled_from([0, 1, 2, 3, "a", ("a", 1)])
PRIMARIES = ("control", "candidate")


class Mappings(RuleBasedStateMachine):
    """A mapping in lockstep with its like, beside one alone that is told the same."""

    make: Callable[[], Any] = dict
    primary = "control"

    def __init__(self) -> None:
        super().__init__()
        self.alone = self.make()
        self.run = trial(self.make(), self.make(), self.primary)
        self.number = 0

    def same(self, act: Callable[[Any], Any]) -> None:
        """Do the same to both, and compare what comes of it."""
        came = []
        for cache in (self.run.cache, self.alone):
            try:
                came.append((act(cache), None))
            except KeyError as error:
                came.append((None, error.args))
        assert plain(came[0]) == plain(came[1])

    @rule(key=KEYS)
    def set(self, key: Any) -> None:
        self.number += 1
        entry = {"k": floats(self.number, 2), "v": [floats(-self.number, 1)]}
        self.same(lambda cache: cache.__setitem__(key, entry))

    @rule(key=KEYS)
    def setdefault(self, key: Any) -> None:
        self.number += 1
        entry = {"k": floats(self.number, 2), "v": [floats(-self.number, 1)]}
        self.same(lambda cache: cache.setdefault(key, entry))

    @rule(key=KEYS)
    def get(self, key: Any) -> None:
        self.same(lambda cache: cache.get(key))

    @rule(key=KEYS)
    def look(self, key: Any) -> None:
        self.same(lambda cache: cache[key])

    @rule(key=KEYS)
    def has(self, key: Any) -> None:
        self.same(lambda cache: key in cache)

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        self.same(lambda cache: cache.pop(key))

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        self.same(lambda cache: cache.__delitem__(key))

    @rule()
    def popitem(self) -> None:
        self.same(lambda cache: cache.popitem())

    @rule()
    def items(self) -> None:
        self.same(lambda cache: list(cache.items()))

    @rule()
    def clear(self) -> None:
        self.same(lambda cache: cache.clear())

    @precondition(lambda self: self.number > 3)
    @rule()
    def audit(self) -> None:
        self.run.pair.audit()

    @invariant()
    def is_silent(self) -> None:
        assert self.run.failures == []
        assert [charge.explanation for charge in self.run.divergences] == []

    def teardown(self) -> None:
        self.run.finish()
        self.is_silent()


def plain(value: Any) -> Any:
    """Return a value with tensors as lists, so that == compares it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


@guards(
    "validator/observe/removals.py",
    "side.model.pool(pool, env_id).delete(key, seen.op_index)\n                self",
    "self",
)
@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize(
    "make", [dict, lambda: cachetools.LRUCache(3), lambda: cachetools.FIFOCache(3)], ids=["dict", "LRU", "FIFO"]
)
def test_any_program_on_sound_mappings_is_silent(make: Callable[[], Any], primary: str) -> None:
    machine = type("Machine", (Mappings,), {"make": staticmethod(make), "primary": primary})
    machine.TestCase.settings = settings(max_examples=8, stateful_step_count=24, deadline=None, derandomize=True)
    machine.TestCase().runTest()
