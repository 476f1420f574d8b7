"""Random programs, shrunk by Hypothesis: sound pairs are silent, a planted fault gets a short program."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from reports.record.words import Cause, Fault
from shadow.entry import leaves
from tests.shadow.entries import assert_equal_entries
from tests.validator.trials import DictCache, config, entry, legacy, manager
from validator.proof.conformance import QUIRKS
from validator.proof.trial import Trial

ENVS = st.integers(0, 1)
KEYS = st.integers(1, 4)
SIZES = st.integers(0, 4)
# Without the phase that explains: it plays a program that fails some hundred times more.
PHASES = (Phase.generate, Phase.shrink)
MODEST = settings(max_examples=15, stateful_step_count=25, phases=PHASES)
ALLOWED = {(cause, Fault.CONTROL) for cause in QUIRKS}


def machine(control: Any, candidate: Any, primary: str = "control", allowed: Any = frozenset()) -> Any:
    """Make a machine of two makers of caches that fails on the first charge that is not allowed."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.run = Trial(control(), candidate(), primary)
            self.number = 0
            self.host: dict[Any, Any] = {}  # what the host may rely on, if both are sound maps of distinct ages

        def entry(self, size: int) -> Any:
            self.number += 1
            return entry(self.number, size=size)

        @rule(env_id=ENVS, key=KEYS, size=SIZES)
        def set_init(self, env_id: int, key: int, size: int) -> None:
            self.run.cache.set_init_cache(env_id, key, self.entry(size))

        @rule(key=KEYS, size=SIZES)
        def set_recur(self, key: int, size: int) -> None:
            self.run.cache.set_recur_cache(key, self.entry(size))

        @rule(key=KEYS, size=SIZES)
        def set_wm(self, key: int, size: int) -> None:
            made = self.entry(size)
            self.run.cache.set_wm_cache(key, made)
            assert_equal_entries(self.run.cache.get_wm_cache(key), made)

        @rule(env_id=ENVS, key=KEYS)
        def get_init(self, env_id: int, key: int) -> None:
            self.run.cache.get_init_cache(env_id, key)

        @rule(key=KEYS)
        def get_recur(self, key: int) -> None:
            self.run.cache.get_recur_cache(key)

        @rule(key=KEYS)
        def get_wm(self, key: int) -> None:
            self.run.cache.get_wm_cache(key)

        @rule(env_id=ENVS, key=KEYS)
        def hierarchical(self, env_id: int, key: int) -> None:
            self.run.cache.hierarchical_get(env_id, key)

        @rule()
        def search(self) -> None:
            self.run.cache.clear_recur_cache()
            self.run.pair.search_started()

        @rule(env_id=ENVS)
        def episode_end(self, env_id: int) -> None:
            self.run.cache.clear_init_cache(env_id)
            self.run.pair.episode_ended(env_id)

        @rule()
        def weights(self) -> None:
            self.run.cache.clear_all()
            self.run.pair.weights_updated()

        @invariant()
        def nothing_is_charged(self) -> None:
            assert self.run.failures == []
            assert set(self.run.causes()) <= allowed, self.run.divergences

        def teardown(self) -> None:
            self.run.finish()
            assert set(self.run.causes()) <= allowed, self.run.divergences

    return Machine


def lru() -> Any:
    return manager(config(3, cache_eviction_strategy="lru"))


@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize(
    ("control", "candidate", "allowed"),
    [
        (lambda: manager(config(2)), lambda: manager(config(2)), set()),
        (lambda: legacy(config(2)), lambda: legacy(config(2)), set()),
        (lambda: legacy(config(2)), lambda: manager(config(2)), ALLOWED),
        (lambda: manager(config(3)), lambda: DictCache(init=3, recur=8), set()),
        (lru, lru, set()),
    ],
    ids=["manager twice", "legacy twice", "legacy and manager", "manager and a dict", "lru twice"],
)
def test_no_program_makes_a_sound_pair_differ(control: Any, candidate: Any, allowed: Any, primary: str) -> None:
    run_state_machine_as_test(machine(control, candidate, primary, allowed), settings=MODEST)  # type: ignore[no-untyped-call]


class ForgetsOnClear(DictCache):
    """The first set after a clear of the recurrent pool is lost."""

    cleared = False

    def clear_recur_cache(self) -> None:
        self.cleared = True
        super().clear_recur_cache()

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        if self.cleared:
            self.cleared = False
            return 0
        return super().set_recur_cache(cache_key, kv_cache)


class OffByOneToken(DictCache):
    """Loses the last token of a full buffer."""

    def _store(self, kv_cache: Any) -> Any:
        own = kv_cache.clone()
        if all(leaf.size == leaf.tensor.shape[2] for leaf in leaves(own)):
            own[1]._v_cache._cache[:, :, -1] = 0
        return own


@pytest.mark.parametrize(
    ("faulty", "cause", "most_calls"),
    [
        (ForgetsOnClear, Cause.SET_IGNORED, 2),
        (OffByOneToken, Cause.PARTIAL_COPY, 1),
    ],
)
def test_a_planted_fault_is_found_and_shrunk_to_a_short_program(
    faulty: Any, cause: Cause, most_calls: int, capsys: pytest.CaptureFixture[str]
) -> None:
    made = machine(lambda: manager(config(3)), lambda: faulty(init=3, recur=8))
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(made, settings=settings(MODEST, max_examples=30, stateful_step_count=10))  # type: ignore[no-untyped-call]  # Hypothesis types none of it
    said = str(caught.value) + "\n".join(getattr(caught.value, "__notes__", [])) + capsys.readouterr().out
    assert cause.name in said or cause.value in said
    program = [
        line
        for line in said.splitlines()
        if (line.strip().startswith("state.") and "(key" in line) or "state.search" in line
    ]
    assert 1 <= len(program) <= most_calls, said
