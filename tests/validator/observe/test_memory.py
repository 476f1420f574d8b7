"""Memory that hangs on a cache: counted at audits, and charged where it is more than its entries may take."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch

from reports.record.words import Cause, Fault
from shadow.manager import KVCacheManager
from tests.guards import guards
from tests.validator.trials import charged, entry, legacy, manager, trial
from validator.entries.reachable import reachable
from validator.proof.trial import Trial

KEEPING: dict[str, Callable[[], Any]] = {
    "a list": list,
    "a deque": deque,
    "an object's list": lambda: types.SimpleNamespace(append=[].append),
    "a closure": lambda: _closure(),
    "a function": lambda: types.SimpleNamespace(append=_enclosing([])),
    "a dict": lambda: _Numbered(),
}


def _enclosing(kept: list[Any]) -> Callable[[Any], None]:
    return lambda one: kept.append(one)


class _Numbered(dict[int, Any]):
    def append(self, one: Any) -> None:
        self[len(self)] = one


def _closure() -> Any:
    kept: list[Any] = []

    class Keeps:
        __slots__ = ("append", "kept")

    made = Keeps()
    made.append, made.kept = kept.append, {"deeper": (kept,)}
    return made


class Leaks(KVCacheManager):
    """Keeps a copy of all that it ever stored, and says nothing of it."""

    kept: Any

    def set_recur_cache(self, cache_key: int, kv_cache: Any, priority: float | None = None) -> int:
        self.kept.append(kv_cache.clone())
        return super().set_recur_cache(cache_key, kv_cache)


def leaking(kept: Any) -> Leaks:
    made = Leaks({"num_simulations": 2, "max_cache_size": 4}, 2)
    made.kept = kept
    return made


def audited(run: Trial, audits: int = 4, sets: int = 8) -> Trial:
    for audit in range(audits):
        for number in range(sets):
            run.cache.set_recur_cache(number, entry(float(audit * sets + number)))
        run.pair.audit()
    return run


@guards(
    "validator/observe/audits.py",
    "self.memory.look()\n        for side",
    "for side",
)
@guards("validator/observe/memory.py", "if self._running[name] == _RUNNING:", "if False:")
@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize("where", sorted(KEEPING))
def test_a_cache_that_keeps_all_it_was_given_is_charged_once(where: str, primary: str) -> None:
    run = audited(trial(manager(), leaking(KEEPING[where]()), primary), audits=6)
    assert charged(run) == [(Cause.GROWS, Fault.CANDIDATE)]
    assert run.divergences[0].explanation.startswith("The candidate (Leaks) holds ")


def test_two_audits_are_not_enough() -> None:
    assert charged(audited(trial(manager(), leaking([])), audits=2)) == []


def test_a_slow_leak_is_seen_by_its_growth() -> None:
    run = trial(manager({"num_simulations": 500, "max_cache_size": 500}), leaking([]))
    run.pair.case.candidate.model.pool("recur", None).capacity = 1000  # room for a thousand, of which two are used
    assert charged(audited(run, audits=6, sets=2)) == [(Cause.GROWS, Fault.CANDIDATE)]


@guards("validator/models/legacy_dict.py", "self.most = max(", "max(")
def test_a_ring_whose_slots_outlive_its_clears_fills_and_does_not_leak() -> None:
    config = {"num_simulations": 500, "max_cache_size": 500}
    run = trial(manager(config), legacy(config))
    for number in range(40):  # short episodes: few entries are alive, and ever more slots are written
        run.cache.set_init_cache(0, number, entry(float(number)))
        if number % 4 == 3:
            run.cache.clear_init_cache(0)  # which is audited
    assert charged(run) == []


class Prepared(KVCacheManager):
    """Has memory ready for all that it may hold, before anything is stored."""

    def __init__(self, entries: int) -> None:
        super().__init__({"num_simulations": 2, "max_cache_size": 4}, 2)
        self.ready = torch.zeros(entries * entry(1.0).nbytes, dtype=torch.uint8)


def test_a_pool_that_lies_ready_is_none_that_grows() -> None:
    assert charged(audited(trial(manager(), Prepared(4)))) == []
    assert charged(audited(trial(legacy(), manager()), sets=3)) == []


def test_what_a_cache_only_refers_to_is_not_its_own() -> None:
    cache = manager()
    cache.set_recur_cache(1, entry(1.0))
    own = reachable(cache)[0]
    assert own == cache.nbytes == entry(1.0).nbytes
    cache.model = torch.nn.Linear(500, 500)  # type: ignore[attr-defined]
    cache.module, cache.kind, cache.function = types, Prepared, audited  # type: ignore[attr-defined]
    cache.keys_values_wm_list.append(entry(2.0))
    cache.view = cache.recur_pool._slots[0]  # type: ignore[attr-defined]
    assert reachable(cache)[0] == own
    cache.more = torch.zeros(1000, dtype=torch.uint8).expand(5, 1000)  # type: ignore[attr-defined]
    assert reachable(cache)[0] == own + 1000


def test_no_code_of_a_stranger_is_run() -> None:
    class Touchy:
        def __init__(self) -> None:
            self.__dict__["held"] = torch.zeros(16, dtype=torch.uint8)

        def __getattribute__(self, name: str) -> Any:
            raise SystemExit

        __class__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

        def __hash__(self) -> int:
            raise SystemExit

    made = object.__new__(Touchy)
    object.__getattribute__(made, "__dict__")["held"] = torch.zeros(16, dtype=torch.uint8)
    assert reachable(made)[0] == 16


@guards("validator/observe/memory.py", "if began < self._next_s or", "if")
def test_counting_keeps_to_its_share_of_the_time() -> None:
    run = audited(trial(manager(), leaking([]), overhead_budget=0.03), audits=9)
    assert charged(run) == []  # nine audits within a millisecond or so: counted once


@guards("validator/observe/memory.py", " or self._case.now < self._next:", ":")
def test_counting_grows_rare_where_there_is_much_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    monkeypatch.setattr("validator.observe.memory.reachable", lambda cache: looks.append(cache) or (0, 1000))
    audited(trial(manager(), manager()), audits=100, sets=50)
    assert len(looks) == 2 * (32 + 3)  # at each audit at first, of two sides; then one for each thousand of operations


def test_the_figure_is_in_the_window() -> None:
    run = audited(trial(manager(), manager()))
    held = run.pair.drain(0.0).bytes_held
    assert held["control_counted"] == held["control"] > 0
    assert held["candidate_counted"] == held["candidate"]
