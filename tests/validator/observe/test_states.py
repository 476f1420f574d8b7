"""States of linear attention in lockstep: carried over where the host writes them, charged where a side is wrong."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reports.record.words import Cause, Fault
from tests.guards import guards
from tests.validator.sessions import open_session
from validator.proof.appends.caches import GrowingCache
from validator.proof.appends.proof import AppendTrial

KERNEL = 3
CARRIED = "states that the host wrote in place, carried over"


class StatesCache(GrowingCache):
    """Keeps the last columns of a convolution and a recurrent state of each layer, as transformers' layers do."""

    layers: list[Any]

    def __init__(self) -> None:
        super().__init__((None, None))
        for layer in self.layers:
            layer.conv_states, layer.recurrent_states = {0: None}, {0: None}

    def update_conv_state(self, given: Tensor, layer_idx: int) -> Tensor:
        kept = self.layers[layer_idx].conv_states
        if kept[0] is None:
            kept[0] = given.new_zeros((*given.shape[:-1], KERNEL))
        full = torch.cat((kept[0], given), -1)
        kept[0].copy_(full[..., -KERNEL:])
        return full

    def update_recurrent_state(self, given: Tensor, layer_idx: int) -> Tensor:
        kept = self.layers[layer_idx].recurrent_states
        kept[0] = given.clone() if kept[0] is None else kept[0].copy_(given)
        return kept[0]

    def has_previous_state(self, layer_idx: int) -> bool:
        kept = self.layers[layer_idx].recurrent_states[0]
        return kept is not None and bool(kept.any())

    def reset(self) -> None:
        super().reset()
        self.moved(torch.zeros_like)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.moved(lambda state: state[beam_idx])

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.moved(lambda state: state.repeat_interleave(repeats, 0))

    def moved(self, change: Callable[[Tensor], Tensor]) -> None:
        for layer in self.layers:
            for kept in (layer.conv_states, layer.recurrent_states):
                kept[0] = None if kept[0] is None else change(kept[0])


def played(cache: Any, decode: bool = True, turns: int = 2, after: Callable[[Any], None] = lambda _: None) -> None:
    """Do what a model of linear attention does: whole prompts through the cache, single tokens in place."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(turns):
        for layer in range(2):
            cache.update_conv_state(torch.randn(2, 4, 5, generator=draw), layer)
            cache.update_recurrent_state(torch.randn(2, 3, 4, generator=draw), layer)
        for layer in cache.layers if decode else ():
            layer.conv_states[0].copy_(torch.randn(2, 4, KERNEL, generator=draw))
            layer.recurrent_states[0].mul_(0.5)
        after(cache)


def judged(candidate: Any, primary: str = "control", control: Any = None, **how: Any) -> AppendTrial:
    trial = AppendTrial(control or StatesCache(), candidate, primary)
    played(trial.cache, **how)
    trial.finish()
    assert trial.failures == []
    return trial


def beams(cache: Any) -> None:
    cache.reorder_cache(torch.tensor([1, 0]))


@pytest.mark.parametrize("primary", ["control", "candidate"])
@pytest.mark.parametrize("inference", [False, True])
@guards("validator/observe/states.py", "                theirs.copy_(state)\n", "                pass\n")
@guards(
    "validator/observe/states.py",
    "same(tensor, self.contents) if self.version is None else tensor._version == self.version",
    "tensor is self.tensor",
)
def test_what_a_model_writes_in_place_is_carried_over_and_sound_sides_are_silent(primary: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        trial = judged(StatesCache(), primary, after=beams)

    assert trial.causes() == {}
    assert trial.pair.counters.lookups["layers"][0] == 8
    assert trial.pair.counters.coverage[CARRIED] == 8
    assert not trial.pair.counters.dropped


class NotReordered(StatesCache):
    def reorder_cache(self, beam_idx: Tensor) -> None:
        pass


class KeptAcrossReset(StatesCache):
    def reset(self) -> None:
        pass


class StoresElsewhere(StatesCache):
    def update_conv_state(self, given: Tensor, layer_idx: int) -> Tensor:
        full = super().update_conv_state(given, layer_idx)
        self.layers[layer_idx].conv_states[0][..., 0] += 1
        return full


class Rounds(StatesCache):
    def update_recurrent_state(self, given: Tensor, layer_idx: int) -> Tensor:
        return super().update_recurrent_state(given.bfloat16().float(), layer_idx)


class Shifts(StatesCache):
    def update_conv_state(self, given: Tensor, layer_idx: int) -> Tensor:
        return super().update_conv_state(given.roll(1, -1), layer_idx)


@guards("validator/observe/states.py", "if found is None or same(found, expected) or (", "if True or (")
@guards("validator/observe/states.py", "            elif right.count(True) == 1:", "            elif False:")
@pytest.mark.parametrize(
    ("broken", "cause", "after"),
    [
        (NotReordered, Cause.OTHER_ROW, beams),
        (KeptAcrossReset, Cause.KEPT_ACROSS_RESET, lambda cache: cache.reset()),
        (Rounds, Cause.CORRUPTED, beams),
        (Shifts, Cause.CORRUPTED, beams),
    ],
)
@pytest.mark.parametrize("where", ["control", "candidate"])
def test_a_wrong_state_is_charged_to_the_side_that_keeps_it(broken: Any, cause: Cause, after: Any, where: str) -> None:
    sides = {"control": StatesCache(), "candidate": StatesCache(), where: broken()}
    trial = judged(sides["candidate"], control=sides["control"], after=after)

    assert set(trial.causes()) == {(cause, Fault(where))}


def test_sides_that_are_wrong_together_about_rows_are_seen() -> None:
    assert set(judged(NotReordered(), control=NotReordered(), after=beams).causes()) == {
        (Cause.OTHER_ROW, Fault.CONTROL),
        (Cause.OTHER_ROW, Fault.CANDIDATE),
    }


@guards("validator/observe/states.py", "if not all(same(one, other) for one, other in pairs):", "if False:")
def test_a_state_that_is_stored_otherwise_than_answered_is_seen_before_the_host_writes_over_it() -> None:
    assert judged(StoresElsewhere()).causes().keys() == {(Cause.UNKNOWN, Fault.UNKNOWN)}


def test_a_deep_copy_goes_on_with_the_states_of_the_original() -> None:
    trial = AppendTrial(StatesCache(), StatesCache())
    played(trial.cache)
    other = copy.deepcopy(trial.cache)
    for layer in other.layers:
        layer.recurrent_states[0].add_(1)
    played(other)
    trial.finish()

    assert (trial.causes(), trial.failures) == ({}, [])


class KeepsElsewhere(StatesCache):
    """Keeps its states where nobody finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.layers = StatesCache(), GrowingCache((None, None)).layers

    def update_conv_state(self, given: Tensor, layer_idx: int) -> Tensor:
        return self.own.update_conv_state(given, layer_idx)

    def update_recurrent_state(self, given: Tensor, layer_idx: int) -> Tensor:
        return self.own.update_recurrent_state(given, layer_idx)


@guards("validator/observe/states.py", "counters.dropped[_NOT_CARRIED] += 1", "pass")
def test_a_side_whose_states_are_not_found_is_not_compared_once_the_host_wrote_and_the_run_says_so() -> None:
    lacking = "states that the host wrote in place, of which the other side has none"
    at_the_end, later = judged(KeepsElsewhere(), turns=1), judged(KeepsElsewhere())

    assert at_the_end.causes() == later.causes() == {}
    assert at_the_end.pair.counters.dropped == {lacking: 2}
    assert later.pair.counters.dropped == {lacking: 2, "states of layers of which nobody knows what they hold": 4}


@guards("validator/observe/append_pair.py", "        self.states.let_go()\n", "")
def test_a_session_keeps_no_state_alive_that_its_host_let_go(tmp_path: Path) -> None:
    with open_session(tmp_path) as lockstep:
        cache = lockstep.shadow(control=StatesCache(), candidate=StatesCache())
        played(cache)
        state = weakref.ref(cache.layers[0].recurrent_states[0])
        del cache

        assert state() is None


@guards("validator/observe/append_pair.py", "unreadable = primary.stateful() + [", "unreadable = [")
@pytest.mark.parametrize("which", ["control", "candidate"])
def test_a_cache_that_keeps_a_state_already_is_refused(which: str) -> None:
    sides = {"control": StatesCache(), "candidate": StatesCache()}
    played(sides[which])

    with pytest.raises(ValueError, match=r"keeps a state|give a new one"):
        AppendTrial(**sides)
