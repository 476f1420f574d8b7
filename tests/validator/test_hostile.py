"""A candidate can't harm the host, and is charged for trying."""

from __future__ import annotations

import copy
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.record.words import Cause, Fault
from shadow.manager import KVCacheManager
from shadow.wrapper.doors.pools import ShadowCache
from tests.guards import guards
from tests.validator.hostile import CANDIDATES, Panic, fails, is_right, meet, overriding
from tests.validator.trials import charged, entry, manager, trial
from validator import registry, session
from validator.shapes import pools

_RARE = ("GeneratorExit", "CancelledError", "StopIteration", "MemoryError", "a surrogate")
KINDS = [each for each in CANDIDATES if not any(what in each.name for what in _RARE)]  # the others: make torture


@pytest.fixture(autouse=True)
def _little_ceremony(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "provenance", dict)
    monkeypatch.setattr(registry, "source_of", lambda kind: "")
    monkeypatch.setattr(pools, "ShadowCache", lambda *args: ShadowCache(*args[:-1], 2))  # state looked at twice
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@guards("validator/judge/side.py", "return Unreadable(error)\n    finally:", "raise\n    finally:")
@guards(
    "validator/judge/case.py", 'self.charge(against(side, finding), Place(-1, "audit", "all"), errors=errors)', "pass"
)
@guards("validator/entries/readable.py", 'raise ValueError("its memory was freed")', "pass")
@guards("shadow/wrapper/doors/door.py", "if problem is not None or what:", "if problem is not None:")
@guards("validator/observe/keyed_pair.py", "theirs.ledger.begin_as(own.ledger)", "pass")
@guards("shadow/wrapper/staging.py", "if regions is None:", "if False:")
@pytest.mark.parametrize("part", range(8))
def test_it_harms_nobody_and_is_charged(part: int, tmp_path: Path) -> None:
    wrong = []
    for number, hostile in enumerate(KINDS[part::8]):
        met = meet(hostile, tmp_path / str(number))
        if not is_right(hostile, met):
            wrong.append((hostile.name, met))
    assert wrong == []


def test_there_are_enough_kinds() -> None:
    assert len({each.name for each in KINDS}) == len(KINDS) >= 65


@pytest.mark.parametrize("number", [0, 1])
def test_what_only_the_validator_calls_harms_no_host_of_a_primary_either(number: int, tmp_path: Path) -> None:
    wrong = []
    for each, hostile in enumerate([kind for kind in KINDS if kind.answers][number::12]):
        met = meet(hostile, tmp_path / str(each), "candidate")
        if not is_right(hostile, met):
            wrong.append((hostile.name, met))
    assert wrong == []


@guards("shadow/outside.py", "if trace.tb_frame.f_code in handlers:", "if False:")
def test_what_a_handler_of_the_host_raises_during_a_call_of_the_candidate_reaches_the_host() -> None:
    def handler(number: int, frame: Any) -> None:
        raise SystemExit(f"signal {number}")

    def get(self: Any, cache_key: int) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return KVCacheManager.get_recur_cache(self, cache_key)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        run = trial(manager(), overriding(get_recur_cache=get)())
        with pytest.raises(SystemExit, match="signal"):
            run.cache.get_recur_cache(1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert charged(run) == []


def test_every_optional_method_is_named_once_and_not_asked_again() -> None:
    asked = []

    def peek(self: Any, *args: Any) -> Any:
        asked.append(args)
        raise Panic

    run = trial(manager(), overriding(peek=peek)())
    for number in range(9):
        run.cache.set_recur_cache(number, entry(number))
    run.finish()
    assert charged(run) == [(Cause.RAISED, Fault.CANDIDATE)]
    assert run.divergences[0].explanation == "The candidate (Hostile) raised Panic in peek()."
    assert run.divergences[0].candidate_error == "Panic: "
    assert len(asked) == 1


def test_an_odd_answer_is_told() -> None:
    run = trial(manager(), overriding(nbytes=float("nan"))())
    run.pair.drain(0.0)
    assert [each.explanation for each in run.divergences] == [
        "The candidate (Hostile) answered nan as a size in nbytes()."
    ]


def test_a_copy_that_fails_leaves_the_host_with_the_primarys_own() -> None:
    control = manager()
    run = trial(control, overriding(__deepcopy__=fails(Panic))())
    found = copy.deepcopy({"model": run.cache, "control": control})
    assert type(found["model"]) is KVCacheManager
    assert found["model"] is found["control"]  # as it would be without the shadow
    assert charged(run) == [(Cause.RAISED, Fault.CANDIDATE)]
    assert run.pair.counters.dropped["deep copies not observed"] == 1
