"""Any program of an append cache's verbs, found by Hypothesis: sound caches are silent, a planted fault is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reports.record.words import Fault
from tests.guards import guards
from validator.proof.appends.caches import FixedCache, GrowingCache, Windows
from validator.proof.appends.faults import PLANTED_APPENDS, WHOLE, WINDOWS
from validator.proof.appends.proof import AppendTrial

ROOM = 40
ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=4)


class Appends(RuleBasedStateMachine):
    """An append cache in lockstep with its like, beside one alone that is told the same."""

    windows: Windows = WHOLE
    primary = "control"
    candidate: Callable[[Windows], Any] = GrowingCache
    keeps_rows = False  # whether a side has no room for other rows

    def __init__(self) -> None:
        super().__init__()
        self.alone = GrowingCache(self.windows)
        made = type(self).candidate(self.windows)
        self.run = AppendTrial(GrowingCache(self.windows), made, self.primary, self.windows)
        self.rows, self.number = 2, 0

    @property
    def seen(self) -> int:
        return int(self.alone.layers[0].seen)

    def same(self, method: str, *args: Any) -> Any:
        """Do the same to both, and compare what comes of it."""
        answer, own = (getattr(cache, method)(*args) for cache in (self.run.cache, self.alone))
        if own is not None and self.primary == "control":
            assert all(map(torch.equal, answer, own))

    @rule(tokens=st.sampled_from([1, 1, 1, 0, 2, 3, 4, 5]))
    def append(self, tokens: int) -> None:
        if self.seen + tokens > ROOM:
            return
        for layer in range(len(self.windows)):
            self.number += 1
            keys = torch.arange(self.rows * 2 * tokens * 3.0).reshape(self.rows, 2, tokens, 3) + 1000.0 * self.number
            self.same("update", keys, -keys, layer)

    @precondition(lambda self: self.seen)
    @rule(chosen=ROWS)
    def reorder(self, chosen: list[int]) -> None:
        self.same("reorder_cache", torch.tensor([(chosen * self.rows)[row] % self.rows for row in range(self.rows)]))

    @precondition(lambda self: self.seen and not self.keeps_rows)
    @rule(chosen=ROWS)
    def select(self, chosen: list[int]) -> None:
        self.same("batch_select_indices", torch.tensor([row % self.rows for row in chosen]))
        self.rows = len(chosen)

    @precondition(lambda self: self.seen and self.rows < 4 and not self.keeps_rows)
    @rule(times=st.integers(1, 2))
    def repeat(self, times: int) -> None:
        self.same("batch_repeat_interleave", times)
        self.rows *= times

    @precondition(lambda self: self.seen and not any(self.windows))
    @rule(count=st.integers(1, ROOM))
    def crop(self, count: int) -> None:
        self.same("crop", -min(count, self.seen))

    @rule(rows=st.integers(1, 3))
    def reset(self, rows: int) -> None:
        self.same("reset")
        self.rows = self.rows if self.keeps_rows else rows

    @rule()
    def audit(self) -> None:
        self.run.pair.audit()

    @invariant()
    def is_silent(self) -> None:
        assert self.run.failures == []
        assert [(charge.cause.value, charge.fault) for charge in self.run.divergences] == []

    def teardown(self) -> None:
        self.run.finish()
        self.is_silent()


def play(**about: Any) -> None:
    """Search programs on a pair; the first that is not silent is raised, without a search for a shorter one."""
    case = type("Machine", (Appends,), about).TestCase
    phases = (Phase.explicit, Phase.generate)
    case.settings = settings(max_examples=8, stateful_step_count=20, deadline=None, derandomize=True, phases=phases)
    case().runTest()


@guards(
    "validator/observe/rearrangements.py", 'elif method in ("reorder_cache", "batch_select_indices"):', "elif False:"
)
@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize(
    "pair",
    [
        {"windows": WHOLE},
        {"windows": WINDOWS},
        {"candidate": lambda windows: FixedCache(len(windows), ROOM), "keeps_rows": True},
    ],
    ids=["like", "windows", "fixed"],
)
def test_any_program_on_sound_caches_is_silent(pair: dict[str, Any], primary: str) -> None:
    play(**pair, primary=primary)


@pytest.mark.parametrize("name", ["selected in order of rows", "crop drops one too few", "a window one short"])
def test_a_planted_fault_is_found_by_some_program_and_the_candidate_is_charged(name: str) -> None:
    (planted,) = [each for each in PLANTED_APPENDS if each.name == name]
    with pytest.raises(AssertionError) as found:
        play(windows=planted.windows, candidate=lambda windows: planted.make(GrowingCache(windows)))

    charged = str(found.value)
    assert any(cause.value in charged for cause in planted.causes)
    assert Fault.CANDIDATE.value in charged
    assert "'control'" not in charged
