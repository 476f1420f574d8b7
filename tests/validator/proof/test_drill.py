"""A host is run with a planted fault, and what came of it is told rightly: found, missed, or nothing it could show."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.content.facts import meaning, ran
from reports.reader import find_runs, read_run
from reports.record.drills import DrillOutcome
from reports.record.run import Run
from reports.record.words import Cause, Verdict
from tests.guards import guards
from tests.validator.sessions import exercise
from tests.validator.trials import manager
from validator.config import ValidationConfig
from validator.errors import ConfigError
from validator.gate.judgement import judge
from validator.gate.rules.identity import is_sound
from validator.proof.appends.caches import GrowingCache
from validator.proof.drill import planting
from validator.proof.drill.exercised import NEVER, exercised, handful, lacking
from validator.proof.drill.judged import charges, drilled
from validator.proof.drill.planting import FAULT, OUT, asked
from validator.proof.faults.acts import acted
from validator.proof.faults.planted import PLANTED, Planted
from validator.proof.faults.wrapped import Wrapped
from validator.proof.mappings import Plain
from validator.proof.selftest import EVERYTHING
from validator.session import Lockstep

Host = Callable[[Lockstep], None]
Drilled = Callable[..., tuple[Run, DrillOutcome, str]]


def fault(name: str) -> Any:
    (found,) = [each for each in EVERYTHING if each.name == name]
    return found


def busy(lockstep: Lockstep) -> None:
    exercise(lockstep, lockstep.shadow(control=manager(), candidate=manager()))


def idle(lockstep: Lockstep) -> None:
    """Stores and finds one entry: nothing is evicted, overwritten or cleared."""
    from tests.shadow.entries import make_entry

    cache = lockstep.shadow(control=manager(), candidate=manager())
    cache.set_init_cache(0, 1, make_entry(1))
    cache.get_init_cache(0, 1)


class DoesNothing(Wrapped):
    def store(self, *given: Any) -> Any:
        acted()
        return super().store(*given)


BLIND = Planted("passes by", "value", DoesNothing, (Cause.CORRUPTED,))


@pytest.fixture
def drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drilled:
    def run(planted: Any, host: Host = busy) -> tuple[Run, DrillOutcome, str]:
        def once(name: str) -> Run:
            monkeypatch.setenv(FAULT, name)
            monkeypatch.setenv(OUT, str(tmp_path / (name or "before")))
            with Lockstep(tmp_path / "own", ValidationConfig(selftest=False)) as lockstep:
                host(lockstep)
            (path,) = find_runs(tmp_path / (name or "before"))
            return read_run(path)

        before = once("")
        if planted not in EVERYTHING:
            monkeypatch.setattr(planting, "EVERYTHING", (planted,))
        after = once(planted.name)
        done = exercised([before])
        found = drilled(planted, [after], charges([before]), done, "", 0.0, "")
        return after, found.outcome, found.why

    return run


@guards("validator/session.py", "candidate = self.drill.planted(candidate, shaped.name, self.event)", "pass")
@guards("validator/proof/drill/judged.py", "if failed and not innocent and", "if failed and not innocent and not")
@pytest.mark.parametrize("name", ["keys and values swapped", "the youngest is evicted", "a re-set is ignored"])
def test_a_fault_that_the_host_shows_is_found(drill: Drilled, name: str) -> None:
    run, outcome, _ = drill(fault(name))

    assert outcome is DrillOutcome.FOUND
    assert judge([run]).verdict is Verdict.FAIL
    assert run.events[-1]["event"] == "drill_acted"
    assert int(run.events[-1]["detail"]) > 0


@guards("validator/proof/drill/judged.py", "outcome = DrillOutcome.MISSED", "outcome = DrillOutcome.NOT_EXERCISED")
@guards("validator/gate/rules/__init__.py", "    soundness.nothing_planted,\n", "")
@guards("validator/gate/rules/identity.py", "planted(run) or run.lost", "run.lost")
def test_a_fault_that_passes_by_is_missed_and_its_run_is_no_evidence_for_all_that(drill: Drilled) -> None:
    run, outcome, _ = drill(BLIND)

    assert outcome is DrillOutcome.MISSED
    judgement = judge([replace(run, manifest={**run.manifest, "selftest": {"passed": True}})])
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "drill: fault 'passes by' planted" in judgement.reasons[0]
    assert not is_sound(run)
    assert meaning(run, judgement).startswith("drill: fault passes by planted")
    assert ran(run)[1].startswith("drill: fault passes by planted")


def test_a_drill_that_says_nothing_of_its_fault_is_no_run_without_one(drill: Drilled) -> None:
    run, _, _ = drill(BLIND)
    for told in ({"fault": None}, {}, "", [1]):
        assert not is_sound(replace(run, manifest={**run.manifest, "drill": told}, ranks={}))
    assert is_sound(replace(run, manifest={**run.manifest, "drill": {"fault": ""}}, ranks={}))  # that without a fault


@guards("validator/proof/drill/judged.py", "any(side != Fault.CONTROL.value for _, side in new)", "False")
def test_a_fault_that_is_called_otherwise_is_misnamed(drill: Drilled) -> None:
    other = replace(fault("keys and values swapped"), name="another name", causes=(Cause.ROUNDING,))
    assert drill(other)[1] is DrillOutcome.MISNAMED


@guards("validator/proof/drill/judged.py", "lacking(planted, done) or acts == 0", "acts == 0")
def test_a_host_that_never_evicts_is_told_that_eviction_faults_would_not_show(drill: Drilled) -> None:
    _, outcome, why = drill(fault("the least recently used is evicted"), idle)
    assert outcome is DrillOutcome.NOT_EXERCISED
    assert why.startswith("never evicts")


@guards("validator/proof/drill/judged.py", "lacking(planted, done) or acts == 0", "lacking(planted, done)")
def test_a_fault_that_changes_nothing_on_a_host_is_not_called_missed(drill: Drilled) -> None:
    _, outcome, why = drill(fault("samples swapped"))  # its entries have one sample
    assert (outcome, why) == (DrillOutcome.NOT_EXERCISED, "it changed nothing here")


def test_a_fault_of_another_shape_is_not_planted(drill: Drilled) -> None:
    assert drill(fault("rounded to float16"))[1] is DrillOutcome.NOT_PLANTED


def test_a_program_that_left_no_run_has_no_result() -> None:
    found = drilled(fault("values scaled"), [], charges([]), frozenset(NEVER), "", 0.0, "stopped after 1 s")
    assert (found.outcome, found.acts, found.why) == (DrillOutcome.NO_RESULT, None, "stopped after 1 s")


def test_the_handful_has_each_family_and_each_thing_that_a_host_does() -> None:
    done = frozenset(NEVER)
    chosen = list(handful(PLANTED, done))
    assert {each.family for each in chosen} == {each.family for each in PLANTED}
    assert {need for each in chosen for need in each.needs} == {need for each in PLANTED for need in each.needs}
    assert len(chosen) < 20
    assert not [each for each in handful(PLANTED, done - {"evictions"}) if "evictions" in each.needs]


def test_every_need_has_words() -> None:
    assert [each.name for each in EVERYTHING if not set(each.needs) <= NEVER.keys()] == []
    assert lacking(fault("the youngest is evicted"), frozenset()) == "never evicts"


def test_an_unknown_fault_is_refused_in_one_sentence() -> None:
    assert asked({}) is None
    with pytest.raises(ConfigError, match=r"KV_LOCKSTEP_DRILL='nonsense' names no planted fault"):
        asked({FAULT: "nonsense"})


@guards("validator/proof/faults/wrapped.py", ' or name.startswith("__")', "")
def test_a_deep_copy_has_the_fault_too_and_is_a_cache_of_its_own() -> None:
    wrapped = fault("values scaled").make(Copying())
    assert type(copy.deepcopy(wrapped)) is type(wrapped)

    evicting = fault("the youngest is evicted").make(manager())
    pool = copy.deepcopy(evicting).recur_pool
    assert pool._next_victim.__self__ is pool


class Copying:
    def __deepcopy__(self, memo: dict[int, Any]) -> Copying:
        return Copying()


class Own(dict[Any, Any]):
    """A mapping of a host's own."""


def test_faults_that_need_not_reach_inside_fit_caches_of_a_host() -> None:
    mapping = [each for each in EVERYTHING if each.shape == "mapping"]
    general = [each.name for each in mapping if each.fits(Own())]
    assert len(general) >= 6
    assert "a mapping evicts the youngest" not in general
    assert [each.name for each in mapping if each.fits({})] == []  # a dict can't be made anything else
    assert all(each.fits(Plain()) for each in mapping)

    class Mine(GrowingCache):
        pass

    sound, broken = Mine((None,)), fault("keys and values swapped as stored").make(Mine((None,)))
    keys, values = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert type(broken).__name__ == "Mine"
    assert sound.update(keys, values, 0)[0].item() == 1
    assert broken.update(keys, values, 0)[0].item() == 0


def test_faults_that_reach_into_the_manager_are_not_planted_elsewhere() -> None:
    class Bare:
        """A candidate of the least interface."""

    fitting = {each.name for each in PLANTED if each.fits(Bare())}
    assert "keys and values swapped" in fitting
    assert not fitting & {"the youngest is evicted", "a re-set is ignored"}  # no pools, no live_keys
