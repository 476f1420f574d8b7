"""Every planted fault is noticed, named, and charged to the right side; sound pairs stay silent."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections import OrderedDict
from itertools import islice
from typing import Any

import pytest
import torch

from reports.record.words import Cause
from reports.record.words import Fault as Side
from shadow.entry import leaves
from tests.guards import guards
from tests.validator.trials import charged, config, entry, legacy, manager, trial
from validator.proof.faults.planted import PLANTED, Planted
from validator.proof.faults.wrapped import entered
from validator.proof.selftest import (
    Result,
    SelfTest,
    _judged,
    _places,
    _plant,
    _terrain,
    quick_selftest,
    selftest,
    surroundings_kept,
)
from validator.proof.stream import steps


@pytest.fixture(scope="module")
def quick() -> SelfTest:
    with torch.no_grad():  # as inside generate(), where the first cache opens a session
        return quick_selftest()


def of(result: SelfTest, fault: Planted, where: str = "candidate", primary: str = "control") -> Result:
    (found,) = [p for p in result.results if (p.name, p.where, p.primary) == (fault.name, where, primary)]
    return found


def test_there_are_at_least_forty_faults_of_every_family_and_no_name_twice() -> None:
    assert len(PLANTED) >= 40
    assert {fault.family for fault in PLANTED} == {"presence", "value", "structure", "isolation", "error"}
    assert len({fault.name for fault in PLANTED}) == len(PLANTED)


@guards("validator/judge/presence.py", "if asked in side.model.places.searched and", "if False and")
@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_the_quick_form_detects_each_fault_with_the_right_cause_and_side(quick: SelfTest, fault: Planted) -> None:
    planted = of(quick, fault)
    assert planted.detected
    assert planted.side_right, planted.named
    assert planted.cause_right, planted.named


@guards("validator/proof/selftest.py", "@torch.inference_mode(False)  #", "#")
def test_the_mode_of_whoever_calls_hides_no_fault() -> None:
    of_modes = [fault for fault in PLANTED if "grad" in fault.name]
    assert of_modes
    with torch.no_grad():
        found = selftest(of_modes, operations=60)
    assert all(of(found, fault).detected for fault in of_modes)


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_each_fault_is_noticed_and_charged_to_nobody_innocent_wherever_it_is_planted(fault: Planted) -> None:
    wrong = []
    for where, primary in _places(True, fault):
        with surroundings_kept():
            run = _plant(fault, where, primary)
            stream = steps(0, 450, _terrain(fault, where))
            while not run.divergences and (part := list(islice(stream, 10))):
                run.play(part)
            run.play(islice(stream, 20))  # what follows must not be charged to the innocent
            run.finish()
        planted = _judged(fault, where, primary, run)
        assert run.failures == []
        if not (planted.detected and planted.side_right):
            wrong.append((where, primary, planted.named))
    assert wrong == []


def test_the_full_form_plants_on_either_side_and_on_both_under_either_primary() -> None:
    result = selftest(PLANTED[:1], operations=60, full=True)
    assert [(p.where, p.primary) for p in result.results] == [
        ("candidate", "control"),
        ("candidate", "candidate"),
        ("control", "control"),
        ("control", "candidate"),
        ("both", "control"),
    ]
    assert result.passed


def test_sound_pairs_stay_silent(quick: SelfTest) -> None:
    assert (quick.false_alarms, quick.harness_faults) == (0, ())
    assert quick.sound_operations > 1000
    assert quick.passed


def sound(**changes: Any) -> Result:
    planted = Result("a fault", "value", "candidate", "control", True, True, True, ("named",), operations=1)
    return dataclasses.replace(planted, **changes)


ALARMS = ("a false alarm", "a fault of the harness")


@pytest.mark.parametrize(
    ("result", "passed"),
    [
        (SelfTest((sound(),), 0, 10, ()), True),
        (SelfTest((), 0, 10, ()), False),
        (SelfTest((sound(detected=False),), 0, 10, ()), False),
        (SelfTest((sound(), sound(side_right=False)), 0, 10, ()), False),
        (SelfTest((sound(cause_right=False), *[sound()] * 18), 0, 10, ()), False),
        (SelfTest((sound(cause_right=False), *[sound()] * 19), 0, 10, ()), True),
        (SelfTest((sound(),), 1, 10, ()), False),
        (SelfTest((sound(),), 0, 10, ("ValueError()",)), False),
    ],
    ids=["all right", "nothing planted", "one missed", "wrong side", "causes below 95 %", "causes at 95 %", *ALARMS],
)
def test_a_selftest_passes_only_if_nothing_was_missed(result: SelfTest, passed: bool) -> None:
    assert result.passed is passed
    assert result.summary()["passed"] is passed


def test_a_fault_that_does_nothing_is_reported_as_missed() -> None:
    idle = Planted("does nothing", "value", lambda inner: inner, (Cause.CORRUPTED,))
    result = selftest((idle,), operations=200)
    assert not result.passed
    assert not result.results[0].detected


@guards("validator/proof/faults/wrapped.py", "    _entered.append(mode)\n", "")
def test_a_planted_mode_does_not_end_when_it_is_collected() -> None:
    with surroundings_kept():
        entered(torch.inference_mode())
        gc.collect()
        assert torch.is_inference_mode_enabled()
    gc.collect()
    assert not torch.is_inference_mode_enabled()


class October2025:
    """The manager as first published: a bounded map by first insertion that stores the object it is given."""

    def __init__(self, capacity: int = 4) -> None:
        self.pools: dict[Any, OrderedDict[int, Any]] = {}
        self.capacity = capacity

    def _set(self, place: Any, key: int, kv_cache: Any) -> int:
        pool = self.pools.setdefault(place, OrderedDict())
        if key not in pool and len(pool) >= self.capacity:
            pool.popitem(last=False)
        pool[key] = kv_cache
        return len(pool) - 1

    def set_init_cache(self, env_id: int, cache_key: int, kv_cache: Any) -> int:
        return self._set(env_id, cache_key, kv_cache)

    def set_recur_cache(self, cache_key: int, kv_cache: Any) -> int:
        return self._set("recur", cache_key, kv_cache)

    def get_init_cache(self, env_id: int, cache_key: int) -> Any:
        return self.pools.get(env_id, OrderedDict()).get(cache_key)

    def get_recur_cache(self, cache_key: int) -> Any:
        return self.pools.get("recur", OrderedDict()).get(cache_key)


@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize("pool", ["init", "recur"])
@pytest.mark.parametrize("control", [manager, legacy])
def test_the_first_published_manager_fails_at_the_first_lookup_after_two_sets(
    control: Any, pool: str, primary: str
) -> None:
    run = trial(control(config(4)), October2025(), primary)
    first = (0,) if pool == "init" else ()
    scratch = entry(1)
    for number in (1, 2):
        for own, fresh in zip(leaves(scratch), leaves(entry(number)), strict=True):
            own.tensor.copy_(fresh.tensor)
        getattr(run.cache, f"set_{pool}_cache")(*first, number, scratch)
    getattr(run.cache, f"get_{pool}_cache")(*first, 1)
    assert charged(run)
    assert set(charged(run)) == {(Cause.ALIASED_ON_SET, Side.CANDIDATE)}


def test_faults_leave_the_cache_they_break_a_copyable_object() -> None:
    for fault in PLANTED:
        copy.copy(fault.make(manager()))
