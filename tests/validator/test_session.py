"""A session from its first line on disk to its verdict, whatever happens in between."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.content import facts
from reports.reader import read_run
from reports.record.words import Cause, Fault, Verdict
from tests.shadow.entries import make_entry
from tests.validator.sessions import WrongAt, exercise, open_session
from tests.validator.trials import DictCache, Undeclared, legacy, manager
from validator.config import ValidationConfig
from validator.gate.judgement import judge
from validator.session import Lockstep


@pytest.fixture(autouse=True)
def _excepthook_is_put_back() -> Iterator[None]:
    before = sys.excepthook
    yield
    assert sys.excepthook == before


def verdict_of(path: Path) -> Verdict:
    return judge([read_run(path)]).verdict


def reasons(lockstep: Lockstep) -> str:
    return str(lockstep.verdict)


def test_a_clean_run_is_complete_on_disk_and_lacks_nothing_but_the_selftest(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        exercise(lockstep, lockstep.shadow(control=manager(), candidate=DictCache()))
    path = lockstep.run_dir
    assert sorted(p.name for p in path.iterdir()) == ["rank-0000.jsonl", "run.json", "summary.json", "trace"]
    lines = [json.loads(line) for line in (path / "rank-0000.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["cache", "window", "close"]
    summary = json.loads((path / "summary.json").read_text())
    assert summary["state"] == "complete"
    assert summary["divergences"]["total"] == 0
    assert summary["lookups"]["both_hit_equal"] == 24
    assert {"schema", "run_id", "ops", "hit_rate", "first_divergence", "coverage", "latency_ns"} <= set(summary)
    assert {"bytes_held", "overhead", "dropped"} <= set(summary)
    run = read_run(path)
    assert (run.state, run.problems) == ("complete", [])
    assert lockstep.verdict.verdict is Verdict.INCONCLUSIVE
    assert len([d for d in lockstep.verdict.demands if d.verdict is not Verdict.PASS]) == 1


def test_a_clean_run_with_its_selftest_passes(tmp_path: Path) -> None:
    with open_session(tmp_path, selftest=True) as lockstep:
        exercise(lockstep, lockstep.shadow(control=legacy(), candidate=manager()))
    judgement = lockstep.verdict
    # Keys repeat above, so the legacy ring may part by its quirks; these are the only thing that may be charged.
    assert {d.fault for d in read_run(lockstep.run_dir).divergences} <= {Fault.CONTROL}
    assert judgement.verdict in (Verdict.PASS, Verdict.FAIL)


def test_manager_against_manager_passes(tmp_path: Path) -> None:
    with open_session(tmp_path, selftest=True) as lockstep:
        exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))
    assert lockstep.verdict.verdict is Verdict.PASS, reasons(lockstep)
    assert lockstep.verdict.exit_code == 0


def test_one_wrong_value_fails_the_run_and_is_on_disk_at_once(tmp_path: Path) -> None:
    lockstep = open_session(tmp_path)
    cache = lockstep.shadow(control=manager(), candidate=WrongAt(30))
    exercise(lockstep, cache)
    written = read_run(lockstep.run_dir)
    (divergence,) = written.divergences
    assert (divergence.cause, divergence.fault) == (Cause.CORRUPTED, Fault.CANDIDATE)
    assert divergence.key is not None
    assert len(divergence.key) == 16
    assert (lockstep.run_dir / divergence.evidence).stat().st_size > 0
    assert divergence.history
    assert lockstep.verdict.verdict is Verdict.FAIL, "judged in the middle of the run"
    lockstep.close()
    assert lockstep.verdict.exit_code == 1
    summary = json.loads((lockstep.run_dir / "summary.json").read_text())
    assert summary["first_divergence"]["id"] == 0


def test_an_empty_run_is_inconclusive(tmp_path: Path) -> None:
    with open_session(tmp_path, selftest=True):
        pass
    assert verdict_of(tmp_path / "run") is Verdict.INCONCLUSIVE


def test_a_run_that_is_not_closed_is_inconclusive(tmp_path: Path) -> None:
    lockstep = open_session(tmp_path, selftest=True)
    exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))
    assert lockstep.verdict.verdict is Verdict.INCONCLUSIVE
    lockstep.close()
    assert lockstep.verdict.verdict is Verdict.PASS, reasons(lockstep)


def test_the_host_s_own_writer_is_shown_every_lookup_by_the_close(tmp_path: Path) -> None:
    shown: dict[str, float] = {}

    class Board:
        def add_scalar(self, tag: str, value: float, step: int) -> None:
            shown[tag] = shown.get(tag, 0) + value

    lockstep = open_session(tmp_path, window_ops=1)
    lockstep.live(Board())
    cache = lockstep.shadow(control=legacy(), candidate=manager(), name="c")
    for _ in range(2):
        exercise(lockstep, cache)
        for pair in lockstep.pairs:
            lockstep.recorder.window(pair, force=False)
    lockstep.close()

    totals = read_run(lockstep.run_dir).totals
    assert sum(value for tag, value in shown.items() if "/lookups/" in tag) == totals.n_lookups > 0


def test_a_second_close_changes_nothing(tmp_path: Path) -> None:
    lockstep = open_session(tmp_path)
    lockstep.close()
    before = (lockstep.run_dir / "summary.json").read_bytes()
    lockstep.close("crashed")
    assert (lockstep.run_dir / "summary.json").read_bytes() == before


@pytest.mark.parametrize(("error", "state"), [(RuntimeError("boom"), "crashed"), (KeyboardInterrupt(), "interrupted")])
def test_an_error_inside_the_context_is_told_and_comes_through(
    tmp_path: Path, error: BaseException, state: str
) -> None:
    def host() -> None:
        with open_session(tmp_path, selftest=True) as lockstep:
            exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))
            raise error

    with pytest.raises(type(error)):
        host()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["state"] == state
    assert verdict_of(tmp_path / "run") is Verdict.INCONCLUSIVE


def test_a_run_id_that_is_taken_is_refused_before_the_training(tmp_path: Path) -> None:
    open_session(tmp_path).close()
    with pytest.raises(OSError, match="holds run run already"):
        open_session(tmp_path)


def test_pairs_and_their_copies_get_names_of_their_own(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        one = lockstep.shadow(control=manager(), candidate=legacy())
        lockstep.shadow(control=manager(), candidate=legacy())
        copy.deepcopy(one)
        copy.deepcopy(one)
    assert [pair.case.name for pair in lockstep.pairs] == ["cache", "cache-2", "cache-copy", "cache-copy-2"]
    assert [line["cache"] for line in read_run(lockstep.run_dir).caches] == [pair.case.name for pair in lockstep.pairs]


# The disk goes away


def test_a_run_directory_that_vanishes_costs_the_verdict_and_not_the_training(tmp_path: Path) -> None:
    lockstep = open_session(tmp_path, selftest=True)
    cache = lockstep.shadow(control=manager(), candidate=WrongAt(3))
    shutil.rmtree(lockstep.run_dir)
    exercise(lockstep, cache)
    lockstep.close()
    with pytest.raises(Exception, match=r".+"):
        verdict_of(lockstep.run_dir)


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_a_disk_that_takes_nothing_any_more_costs_the_verdict_and_not_the_training(
    tmp_path: Path, problem: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    lockstep = open_session(tmp_path, selftest=True, window_ops=10)
    cache = lockstep.shadow(control=manager(), candidate=manager())
    exercise(lockstep, cache)

    def refuse(*args: Any) -> int:
        raise problem

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        exercise(lockstep, cache)
        lockstep.close()
    assert verdict_of(lockstep.run_dir) is not Verdict.PASS


# The harness itself fails


@pytest.mark.parametrize(
    "where", ["before", "lookups.got", "lookups._compare", "sets.was_set", "_cleared", "weights_updated", "audit"]
)
def test_a_fault_of_the_harness_is_named_and_makes_the_run_inconclusive(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise ZeroDivisionError("planted in the harness")

    part, _, method = where.rpartition(".")

    with open_session(tmp_path, selftest=True) as lockstep:
        cache = lockstep.shadow(control=manager(), candidate=manager())
        pair = lockstep.pairs[0]
        monkeypatch.setattr(getattr(pair, part) if part else pair, method, fail)
        exercise(lockstep, cache)
    run = read_run(lockstep.run_dir)
    assert run.totals.dropped["harness faults"] >= 1
    text = (lockstep.run_dir / "rank-0000.jsonl").read_text()
    assert "planted in the harness" in text
    assert '"harness_fault"' in text
    judgement = judge([run])
    assert judgement.verdict is not Verdict.PASS
    assert "harness faults" in str(judgement) or judgement.verdict is Verdict.FAIL


# Bounds


def test_divergences_beyond_the_limit_are_counted_and_said(tmp_path: Path) -> None:
    class Wrong(DictCache):
        def _answer(self, held: Any) -> Any:
            return None

    with open_session(tmp_path, max_divergences=2) as lockstep:
        cache = lockstep.shadow(control=manager(), candidate=Wrong())
        for key in range(4):
            cache.set_recur_cache(key, make_entry(key))
            cache.get_recur_cache(key)
    run = read_run(lockstep.run_dir)
    assert len(run.divergences) == 2
    assert run.totals.n_divergences > 2
    assert run.totals.dropped["divergences only counted"] >= 1
    assert judge([run]).verdict is Verdict.FAIL


def test_evidence_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    with open_session(tmp_path, evidence_mb=0.0) as lockstep:
        exercise(lockstep, lockstep.shadow(control=manager(), candidate=WrongAt(30)))
    (divergence,) = read_run(lockstep.run_dir).divergences
    assert divergence.evidence == ""
    assert divergence.evidence_note.startswith("not kept:")


@pytest.mark.slow
def test_the_memory_of_a_session_does_not_grow_with_its_length(tmp_path: Path) -> None:
    entry = make_entry(1, layers=1)
    with open_session(tmp_path, window_ops=100, audit_share=0.0) as lockstep:
        cache = lockstep.shadow(control=manager(), candidate=manager())

        def go(start: int, count: int) -> int:
            for key in range(start, start + count):
                cache.set_recur_cache(key, entry)
                cache.get_recur_cache(key)
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            first = go(0, 400)
            second = go(400, 600)
            last = go(1_000, 2_000)
        finally:
            tracemalloc.stop()
    # Windows are folded at 64 of them, so the level moves a little; per operation nothing may stay.
    assert last - second < 150_000, (first, second, last)


def test_caches_that_declare_nothing_pass_once_the_envs_are_told_and_the_report_says_what_that_is_worth(
    tmp_path: Path,
) -> None:
    for envs, verdict in (({}, "INCONCLUSIVE"), ({"env_num": 2}, "PASS")):
        with Lockstep(tmp_path / verdict, ValidationConfig(), manifest_extra=envs) as lockstep:
            cache = lockstep.shadow(control=Undeclared(), candidate=Undeclared())
            for key in range(5):
                cache.set_recur_cache(key, make_entry(key))
            assert cache.get_recur_cache(0) is None, "an eviction, which is seen by this alone"
            exercise(lockstep, cache)
        assert lockstep.verdict.verdict.value == verdict, lockstep.verdict.reasons
    said = dict(facts.exercised(read_run(lockstep.run_dir)))["assumed"]
    assert "presence is judged by agreement only: candidate (Undeclared) declares no policy()" in said
