"""Append caches in lockstep: what is found, and who is charged with it."""

from __future__ import annotations

import copy
import pickle
import weakref
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from reports.content.facts import exercised
from reports.record.words import Cause, Fault
from tests.guards import guards
from tests.validator.sessions import open_session
from validator.config import ValidationConfig
from validator.gate.judgement import Evidence
from validator.gate.policy import GatePolicy
from validator.gate.rules.campaign import exact
from validator.gate.shipped import find_file
from validator.judge.counters import ERROR
from validator.proof.appends.caches import FixedCache, GrowingCache, GrowingLayer
from validator.proof.appends.faults import PLANTED_APPENDS, WHOLE
from validator.proof.appends.proof import AppendTrial, planted_trial
from validator.proof.appends.stream import calls
from validator.session import Lockstep
from validator.shapes.append import AppendShape

ONE = (None,)


def states(tokens: int, rows: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, tokens, 4, generator=draw), torch.randn(rows, 2, tokens, 4, generator=draw)


def charges(trial: AppendTrial) -> set[tuple[Cause, Fault]]:
    assert trial.failures == []
    return set(trial.causes())


def planted(name: str) -> Any:
    return next(each for each in PLANTED_APPENDS if each.name == name)


@guards("validator/observe/appends.py", "if windowed and offset > need:", "if False:")
def test_a_window_declared_one_short_is_found_by_the_configuration() -> None:
    trial = planted_trial(planted("a window declared one short"), "candidate", "control")
    trial.play_until(calls((None, 4, None)), 200, (Cause.WINDOW_OFF,))

    assert charges(trial) == {(Cause.WINDOW_OFF, Fault.CANDIDATE)}
    assert "has a window off by 1 in layer 1" in trial.divergences[0].explanation


@guards(
    "validator/observe/appends.py", "if not table.holds(parts, begin, digests(held, rows, until - begin)):", "if False:"
)
def test_an_old_position_that_changes_is_found_by_taking_turns() -> None:
    trial = AppendTrial(GrowingCache(ONE), GrowingCache(ONE))
    trial.cache.update(*states(40), 0)
    candidate = trial.pair.case.candidate.cache
    candidate.layers[0].values[:, :, 7] = candidate.layers[0].values[:, :, 8]

    for seed in range(40):
        trial.cache.update(*states(1, seed=seed), 0)

    assert charges(trial) == {(Cause.POSITION_SHIFTED, Fault.CANDIDATE)}
    assert "shifted by 1, at 1 of" in trial.divergences[0].explanation


@guards("validator/observe/appends.py", "if columns_of((*answer,), before - offset, end - offset) !=", "if () ==")
@pytest.mark.parametrize("part", [0, 1])
def test_what_is_new_is_compared_at_once(part: int) -> None:
    class Off(GrowingCache):
        def answer(self, layer_idx: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            both = keys.clone(), values.clone()
            both[part][0, 1, -1, 3] += 1e-6
            return both

    trial = AppendTrial(GrowingCache(ONE), Off(ONE))
    trial.cache.update(*states(1), 0)

    assert charges(trial) == {(Cause.ROUNDING, Fault.CANDIDATE)}


@guards("validator/observe/appends.py", "    if columns_of((tensor,), 0, tensor.shape[2])[0] !=", "    if () ==")
@pytest.mark.parametrize("inference", [False, True])
def test_a_side_that_writes_into_what_it_is_given_is_charged(inference: bool) -> None:
    class Writing(GrowingCache):
        def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
            answer = super().update(keys.clone(), values.clone(), layer_idx)
            values.zero_()
            return answer

    with torch.inference_mode(inference):
        keys, values = states(2)
        before = values.clone()
        trial = AppendTrial(GrowingCache(ONE), Writing(ONE))
        trial.cache.update(keys, values, 0)

        assert charges(trial) == {(Cause.INPUT_EDITED, Fault.CANDIDATE)}
        assert torch.equal(values, before)  # the candidate has its own


def test_both_sides_wrong_together_are_seen() -> None:
    trial = planted_trial(planted("rows stored in reverse"), "both", "control")
    trial.play_until(calls((None, 4, None)), 100, ())

    assert charges(trial) == {(Cause.OTHER_ROW, Fault.BOTH)}


@pytest.mark.parametrize("primary", ["control", "candidate"])
def test_a_cache_of_fixed_room_and_one_that_grows_agree(primary: str) -> None:
    trial = AppendTrial(GrowingCache(WHOLE), FixedCache(2, 64), primary)
    trial.play(islice(calls(WHOLE, 3, 64), 400))
    trial.finish()

    assert charges(trial) == set()
    assert not trial.pair.counters.lookups["layers"][ERROR]
    assert dict(trial.pair.counters.dropped) == {}


def _zeroed(layer: GrowingLayer) -> None:
    assert layer.keys is not None
    layer.keys[:, :, 1] = 0.0


def _without_the_first(layer: GrowingLayer) -> None:
    assert layer.keys is not None
    assert layer.values is not None
    layer.keys, layer.values = layer.keys[:, :, 1:], layer.values[:, :, 1:]


def _turned_round(layer: GrowingLayer) -> None:
    assert layer.keys is not None
    layer.keys = layer.keys.flip(2)


def _moved(layer: GrowingLayer) -> None:
    assert layer.keys is not None
    layer.keys = layer.keys.clone()


@guards("validator/observe/appends.py", "        self._contents.host_wrote(layer)\n", "")
@guards("validator/observe/append_pair.py", "            self.contents.all_as_left()\n", "            pass\n")
@pytest.mark.parametrize("change", [_zeroed, _without_the_first, _turned_round])
@pytest.mark.parametrize("then", ["append", "reorder", "end"])
def test_what_the_host_changes_of_what_the_primary_holds_is_charged_to_the_host(change: Any, then: str) -> None:
    trial = AppendTrial(GrowingCache(ONE), GrowingCache(ONE))
    trial.cache.update(*states(3, rows=2), 0)
    change(trial.cache.layers[0])
    if then == "append":
        trial.cache.update(*states(1, rows=2), 0)
    elif then == "reorder":
        trial.cache.reorder_cache(torch.tensor([1, 0]))
    trial.finish()

    assert charges(trial) == {(Cause.ALIASED_ON_GET, Fault.HOST)}
    assert (
        trial.divergences[0].explanation == "The host changed what layer 0 of the control holds between two operations."
    )


@guards("validator/observe/contents.py", "or not self._audited(case.primary, layer, table, ", "or (")
def test_tensors_that_the_host_moves_are_no_change() -> None:
    trial = AppendTrial(GrowingCache(ONE), GrowingCache(ONE))
    trial.cache.update(*states(3), 0)
    _moved(trial.cache.layers[0])
    trial.cache.update(*states(1), 0)
    trial.finish()

    assert charges(trial) == set()


@guards("validator/observe/rearrangements.py", "if self._declares_it_cannot(side, method, error):", "if False:")
def test_a_side_that_says_that_it_cannot_is_not_comparable_and_not_at_fault() -> None:
    class Uncroppable(GrowingCache):
        def crop(self, tokens_to_remove: int) -> None:
            raise NotImplementedError

    trial = AppendTrial(GrowingCache(ONE), Uncroppable(ONE))
    trial.cache.update(*states(3), 0)
    trial.cache.crop(-1)
    trial.cache.update(*states(1), 0)
    lost = dict(trial.pair.counters.dropped)
    trial.cache.reset()
    trial.cache.update(*states(2), 0)

    assert charges(trial) == set()
    assert lost == {"appends to layers of which nobody knows what they hold": 1}
    assert trial.pair.counters.coverage["not comparable: crop"] == 1
    assert dict(trial.pair.counters.dropped) == lost  # since the reset it is comparable again


def test_a_deep_copy_is_a_pair_of_its_own(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=GrowingCache(ONE), candidate=GrowingCache(ONE))
        cache.update(*states(5), 0)
        other = copy.deepcopy(cache)
        cache.update(*states(1, seed=1), 0)
        other.update(*states(2, seed=2), 0)
        other.crop(-1)
        names = [pair.name for pair in lockstep.pairs]

    run = lockstep.on_disk()
    assert names == ["cache", "cache-copy"]
    assert run.totals.n_divergences == 0
    assert run.totals.lookups == {"layers": {"both_hit_equal": 3}}
    assert (cache.get_seq_length(), other.get_seq_length()) == (6, 6)


@guards("validator/observe/append_pair.py", "secondary.fill(layer, keys, values)", "pass")
def test_what_the_primary_held_before_is_given_to_the_other_side(tmp_path: Path) -> None:
    full = GrowingCache(ONE)
    full.update(*states(5), 0)
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=full, candidate=GrowingCache(ONE))
        cache.update(*states(1, seed=1), 0)

    assert lockstep.on_disk().totals.lookups == {"layers": {"both_hit_equal": 1}}
    assert [event["event"] for event in lockstep.on_disk().events if event["event"] == "held_before"] == ["held_before"]


def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path: Path) -> None:
    full, behind = GrowingCache(ONE), GrowingCache((4,))
    full.update(*states(5), 0)
    behind.update(*states(9), 0)
    with open_session(tmp_path) as lockstep:
        watched = lockstep.shadow(control=GrowingCache(ONE), candidate=GrowingCache(ONE))
        for control, candidate, said in (
            (GrowingCache(ONE), full, "holds something already: give a new one"),
            (behind, GrowingCache((4,)), "layer 0 no longer holds all of it"),
            (GrowingCache(ONE), object(), "has no update, get_seq_length, get_mask_sizes"),
            (watched, GrowingCache(ONE), "is watched already"),
            (GrowingCache(ONE), watched, "is watched already"),
        ):
            with pytest.raises(ValueError, match=said):
                lockstep.shadow(control=control, candidate=candidate)


@guards("shadow/wrapper/doors/append.py", '    "__reduce_ex__": _refuse_pickling,\n', "")
def test_pickling_is_refused_in_one_sentence() -> None:
    trial = AppendTrial(GrowingCache(ONE), GrowingCache(ONE))

    with pytest.raises(TypeError, match="a GrowingCache that kv-lockstep watches can't be pickled"):
        pickle.dumps(trial.cache)


@guards("shadow/wrapper/doors/append.py", '    "__del__": _gone,\n', "")
@guards("validator/registry.py", "pairing._replace(control=None, candidate=None)", "pairing")
def test_a_cache_that_the_host_lets_go_is_looked_at_once_more_and_freed(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        candidate = GrowingCache(ONE)
        cache = lockstep.shadow(control=GrowingCache(ONE), candidate=candidate)
        cache.update(*states(3), 0)
        candidate.layers[0].keys[:, :, 1] = 0.0
        gone = weakref.ref(candidate)
        del cache, candidate
        lockstep.shadow(control=GrowingCache(ONE), candidate=GrowingCache(ONE))

        assert gone() is None
        assert [pair.name for pair in lockstep.pairs] == ["cache-2"]

    (divergence,) = lockstep.on_disk().divergences
    assert (divergence.cause, divergence.fault, divergence.operation) == (Cause.PARTIAL_COPY, Fault.CANDIDATE, "audit")


def test_a_store_that_rounds_passes_within_a_tolerance_that_is_counted() -> None:
    rounding = planted("rounded to bfloat16")
    config = ValidationConfig(overhead_budget=0.0, rtol=0.01, atol=0.01)
    trial = AppendTrial(GrowingCache(WHOLE), rounding.make(GrowingCache(WHOLE)), "control", WHOLE, config)
    trial.play(islice(calls(WHOLE), 40))

    assert charges(trial) == set()
    assert trial.pair.counters.coverage["equal only within tolerance"] > 0


@guards("validator/observe/appends.py", "if len(findings) > 1 and not all(", "if False and not all(")
def test_a_tolerance_does_not_excuse_both_sides_that_are_wrong_alike() -> None:
    wrong = planted("rows stored in reverse")
    config = ValidationConfig(overhead_budget=0.0, rtol=0.01, atol=0.01)
    sides = wrong.make(GrowingCache(WHOLE)), wrong.make(GrowingCache(WHOLE))
    trial = AppendTrial(*sides, "control", WHOLE, config)
    trial.play(islice(calls(WHOLE), 40))

    assert charges(trial) == {(Cause.OTHER_ROW, Fault.BOTH)}


class LaterLossy(GrowingCache):
    """Keeps what was appended as it is, until more is: then what it holds is rounded, as a quantised store does."""

    def kept(self, layer: Any, part: torch.Tensor) -> torch.Tensor:
        return super().kept(layer, part if layer.keys is None else part.bfloat16().float())


@guards(
    "validator/observe/contents.py", "if findings and not self._close_enough(layer, table, findings):", "if findings:"
)
@guards("validator/registry.py", "if pairing.config is not self._config else {}", "if False else {}")
@guards("validator/observe/append_pair.py", "        super().close()\n", "")
def test_a_tolerance_of_one_pair_alone_is_on_record_with_the_greatest_errors(tmp_path: Path) -> None:
    with Lockstep(tmp_path, ValidationConfig(run_id="run", selftest=False)) as lockstep:
        for name, more in (("lossy", {"rtol": 0.01, "atol": 0.01}), ("exact", {})):
            cache = lockstep.shadow(control=GrowingCache(WHOLE), candidate=LaterLossy(WHOLE), name=name, **more)
            for number in range(6):
                for layer in range(2):
                    keys = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(number))
                    cache.update(keys, 2 * keys, layer)
            cache.reorder_cache(torch.tensor([1, 0]))
    run = lockstep.on_disk()

    assert {divergence.cache for divergence in run.divergences} == {"exact"}
    assert run.totals.coverage["layers held equal only within tolerance"] > 0
    said = dict(exercised(run))["tolerance"]
    assert said.startswith("none: bits must be equal; of lossy rtol 0.01, atol 0.01: close is equal; lossy: greatest")
    assert "layer0.k" in said
    assert "layer1.v" in said
    assert "over positions 0-0: " in said
    (demand,) = exact(Evidence([run]), GatePolicy.load(find_file("gate", "remove-legacy", "gate policy")))
    assert (demand.verdict.value, demand.found[:5]) == ("INCONCLUSIVE", "lossy")


def test_a_tolerance_by_halves_is_refused(tmp_path: Path) -> None:
    with (
        Lockstep(tmp_path, ValidationConfig(selftest=False)) as lockstep,
        pytest.raises(ValueError, match="rtol and atol must be given together"),
    ):
        lockstep.shadow(control=GrowingCache(WHOLE), candidate=GrowingCache(WHOLE), rtol=0.1)


def test_a_layer_whose_tensors_lie_elsewhere_is_compared_by_its_answers() -> None:
    class Elsewhere(GrowingCache):
        def __init__(self) -> None:
            super().__init__(ONE)
            self.layers, self.own = [], self.layers

        def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int) -> Any:
            self.layers = self.own
            try:
                return super().update(keys, values, layer_idx)
            finally:
                self.layers = []

        def get_seq_length(self, layer_idx: int = 0) -> int:
            layer: GrowingLayer = self.own[layer_idx]
            return layer.seen

        def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
            return self.own[layer_idx].seen + query_length, 0

    trial = AppendTrial(GrowingCache(ONE), Elsewhere())
    for seed in range(3):
        trial.cache.update(*states(2, seed=seed), 0)
    trial.finish()

    assert charges(trial) == set()
    assert trial.pair.counters.coverage["layers of the candidate that can't be read"] == 1
    assert trial.pair.counters.lookups["layers"][0] == 3


@guards("validator/registry.py", "or pair.watches(cache)", "or pair is cache.observer")
def test_a_weight_update_can_be_told_of_one_watched_cache(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        one, other = (
            lockstep.shadow(control=GrowingCache(ONE), candidate=GrowingCache(ONE), name=name) for name in ("a", "b")
        )
        for cache in (one, other):
            cache.update(*states(3), 0)
        lockstep.weights_updated(one)

        assert [pair.case.weight_version for pair in lockstep.pairs] == [1, 0]


@guards("validator/shapes/append.py", "door.in_forked_child()", "pass")
def test_a_cache_that_is_let_be_is_the_primary_alone_and_says_so(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=GrowingCache(ONE), candidate=GrowingCache(ONE))
        AppendShape().let_be(cache)
        cache.update(*states(3), 0)

        assert cache.get_seq_length(0) == 3
        assert lockstep.pairs[0].case.candidate.cache.get_seq_length(0) == 0
    assert (lockstep.run_dir / "rank-0000.forked").exists()
