"""The frame: exact or silent, the host charged or the side whose entry alone is wrong, never in the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from reports.record.words import Cause, Dimension, Fault
from shadow.entry import KeysValues
from shadow.recompute import Oracle as Talking
from shadow.recompute import Place, Recomputed, Suspect, regions
from shadow.settings import SettingsError
from tests.guards import guards
from tests.validator.trials import entry, legacy, manager
from validator.config import OracleConfig, ValidationConfig
from validator.oracle.oracle import Oracle
from validator.proof.trial import Trial

Expect = Callable[[Place], Recomputed]


class Recomputing:
    """Expects of each root what it is told to."""

    def __init__(self, expect: Expect) -> None:
        self.expect = expect
        self.heard: list[tuple[str, Any]] = []

    def attach(self, oracle: Talking) -> None:
        self.oracle = oracle

    def stored(self, place: Place, given: Any) -> None:
        self.heard.append((place.operation, place.key))
        if place.pool == "init":
            self.oracle.judge(place, {"host": regions(given)}, self.expect(place))

    def looked_up(self, place: Place, answer: Any) -> None:
        self.heard.append((place.operation, answer is not None))

    def detach(self) -> None:
        self.heard.append(("detach", None))


def exactly(right: KeysValues, *suspects: Suspect, noise: float = 0.0) -> Expect:
    """Expect this entry, recomputed with so much noise each time."""

    def again(batch: int) -> list[torch.Tensor]:
        return [each.expand(batch, -1, -1, -1) + noise for each in regions(right)]

    return lambda place: Recomputed(regions(right), again, lambda: iter(suspects), first=0)


def followed(expect: Expect, candidate: Any = None, **settings: Any) -> tuple[Trial, Recomputing, Oracle]:
    trial = Trial(legacy(), candidate or manager(), config=ValidationConfig(overhead_budget=0.0))
    recomputing = Recomputing(expect)
    return trial, recomputing, Oracle(trial.pair, recomputing, OracleConfig(**settings), seed=0)


def counted(trial: Trial) -> dict[str, int]:
    return {name: count for name, count in trial.pair.counters.coverage.items() if "recomput" in name}


def test_what_agrees_is_counted_and_silent() -> None:
    trial, recomputing, oracle = followed(exactly(entry(1)))

    trial.cache.set_init_cache(0, 7, entry(1))
    assert trial.cache.get_init_cache(0, 7) is not None
    oracle.close()
    trial.cache.set_init_cache(0, 8, entry(2))  # nobody listens any more

    assert recomputing.heard == [("set.init", 7), ("get.init", True), ("detach", None)]
    assert counted(trial) == {"recomputations": 1, "recomputations that agreed": 1, "values recomputed": 48}
    assert (trial.divergences, trial.failures) == ([], [])


@guards(
    "validator/oracle/oracle.py",
    "        if wrong:\n            self._charge(",
    "        if False:\n            self._charge(",
)
def test_what_both_sides_store_wrongly_is_the_hosts_fault_and_shown() -> None:
    trial, _, _ = followed(exactly(entry(1), Suspect("another env", regions(entry(2)), "env 1")))

    trial.cache.set_init_cache(0, 7, entry(2))

    (found,) = trial.divergences
    assert (found.dimension, found.cause, found.fault) == (Dimension.RECOMPUTE, Cause.OTHER_HISTORY, Fault.HOST)
    assert (found.env_id, found.pool, found.operation) == (0, "init", "set.init")
    assert "env 1" in found.explanation
    assert "at 3 of 3 positions from 0 to 2" in found.explanation
    assert [leaf.name for leaf in found.leaves] == ["L0 K", "L0 V", "L1 K", "L1 V"]
    assert found.leaves[0].control.startswith("found ")


class Forgetful:
    """A manager that answers zeros under one key."""

    def __init__(self) -> None:
        self._real = manager()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_init_cache(self, env_id: int, key: int) -> Any:
        found = self._real.get_init_cache(env_id, key)
        return entry(0) if found is not None and key == 7 else found


def test_where_one_side_alone_is_wrong_that_side_is_charged() -> None:
    trial, _, _ = followed(exactly(entry(1)), candidate=Forgetful())

    trial.cache.set_init_cache(0, 7, entry(1))
    trial.cache.get_init_cache(0, 7)

    assert [each.fault for each in trial.divergences if each.dimension is Dimension.RECOMPUTE] == [Fault.CANDIDATE]
    assert all(each.fault is Fault.CANDIDATE for each in trial.divergences)


@guards("validator/oracle/oracle.py", "if not self._exact or (wrong and not self._calibrate(expected)):", "if False:")
@pytest.mark.parametrize("given", [1, 2])
def test_a_recomputation_that_is_not_exact_judges_nothing(given: int) -> None:
    trial, _, _ = followed(exactly(entry(1), noise=1e-2))

    trial.cache.set_init_cache(0, 7, entry(given))

    why = "recomputations not judged: two recomputations of the same differ by more than a third of the tolerance"
    assert counted(trial) == {why: 1}
    assert trial.divergences == []


def test_a_recomputation_is_calibrated_before_anybody_is_charged() -> None:
    """Of the third nobody would have asked how exact it is: that is seen at the first, second, fourth, ..."""
    noise = iter([0.0, 0.0, 1e-2])
    trial, _, _ = followed(lambda place: exactly(entry(1), noise=next(noise))(place))

    for key, number in ((5, 1), (6, 1), (7, 2)):
        trial.cache.set_init_cache(0, key, entry(number))

    assert trial.divergences == []
    assert counted(trial)["recomputations that agreed"] == 2


@guards(
    "validator/oracle/oracle.py",
    "        except Exception as error:\n            self._note(step, error)",
    "        except ZeroDivisionError:\n            pass",
)
def test_what_a_recomputation_raises_is_counted_and_the_host_goes_on() -> None:
    def broken(place: Place) -> Recomputed:
        raise ArithmeticError("no such token")

    trial, _, _ = followed(broken)
    events: list[tuple[str, str]] = []
    trial.event = lambda name, detail="": events.append((name, detail))  # type: ignore[method-assign]  # heard

    for key in (7, 8):
        trial.cache.set_init_cache(0, key, entry(1))

    assert trial.cache.get_init_cache(0, 7) is not None
    assert counted(trial) == {"recomputations not judged: raised ArithmeticError": 2}
    assert [name for name, _ in events] == ["oracle_raised"]
    assert "no such token" in events[0][1]
    assert (trial.divergences, trial.failures) == ([], [])


@guards("validator/oracle/oracle.py", "self._spent_ns <= budget *", "self._spent_ns >= 0 * budget *")
def test_nothing_is_recomputed_beyond_the_budget() -> None:
    trial, _, oracle = followed(exactly(entry(1)), budget=0.01)
    assert oracle.affords()

    with oracle.contained("recompute at length"):
        time.sleep(0.05)

    assert not oracle.affords()
    assert counted(trial) == {"recomputations not judged: no time left in the budget": 1}


@guards("shadow/recompute.py", "        setattr(each, name, type(kept)())", "        pass")
def test_a_recomputation_calls_no_hook_and_draws_from_no_generator() -> None:
    _, _, oracle = followed(exactly(entry(1)))
    module, called = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), []
    module[0].register_forward_hook(lambda *_: called.append("after"))
    module.register_forward_pre_hook(lambda *_: called.append("before"))
    state = torch.get_rng_state()

    with oracle.contained("recompute", module):
        answer = module(torch.ones(1, 2))

    assert called == []
    assert not answer.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    module(torch.ones(1, 2))
    assert called == ["before", "after"]


def swapped(right: list[torch.Tensor]) -> list[torch.Tensor]:
    return [right[1], right[0], *right[2:]]


def longer(right: list[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.cat([each, torch.zeros_like(each[:, :, :1])], 2) for each in right]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (swapped, Cause.LAYER_MIXED),
        (longer, Cause.PADDED_LENGTH),
        (lambda right: [each[:, :, 1:] for each in right], Cause.HISTORY_BEGINS_OFF),
        (lambda right: [each.roll(1, 2) for each in right], Cause.POSITION_OFF),
        (lambda right: [each + 1 for each in right], Cause.UNEXPLAINED),
    ],
)
def test_what_needs_no_recomputation_is_named(change: Any, cause: Cause) -> None:
    trial, _, oracle = followed(exactly(entry(1)))
    place = Place(0, "set.init", "init", 0, 7)

    oracle.judge(place, {"host": change(regions(entry(1)))}, exactly(entry(1))(place))

    assert [each.cause for each in trial.divergences] == [cause]


def test_the_first_layer_tells_a_token_that_is_not_the_hosts_own() -> None:
    trial, _, oracle = followed(exactly(entry(1)))
    place, found = Place(0, "set.init", "init", 0, 7), regions(entry(1))
    found = [torch.cat([each[:, :, :2], each[:, :, 2:] + 1], 2) for each in found]

    oracle.judge(place, {"host": found}, exactly(entry(1))(place)._replace(tokens_alone=True))

    assert [each.cause for each in trial.divergences] == [Cause.OTHER_TOKEN]
    assert "at 1 positions, first at 2" in trial.divergences[0].explanation


def test_what_is_followed_is_drawn_by_a_generator_of_its_own() -> None:
    def drawn() -> Iterator[Any]:
        _, _, oracle = followed(exactly(entry(1)), envs=2, sequences=0, searches=3)
        yield oracle.choose("envs", 8)
        yield oracle.choose("sequences", 8)
        yield [oracle.search_is_followed() for _ in range(60)]

    envs, sequences, searches = drawn()
    assert [envs, sequences, searches] == list(drawn())
    assert (len(envs), sequences) == (2, frozenset())
    assert 0 < sum(searches) < 60


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"env": 2}, "unknown setting 'env'; did you mean 'envs'?"),
        ({"envs": -1}, "envs must be at least 0"),
        ({"budget": 2.0}, "budget must lie in [0, 1]"),
        ({"atol": 0.0}, "atol must lie between 0 and 1"),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(table: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        ValidationConfig.from_mapping({"oracle": table})
    assert said in str(refused.value)


def test_an_empty_table_turns_the_oracle_on() -> None:
    assert ValidationConfig.from_mapping({}).oracle is None
    assert ValidationConfig.from_mapping({"oracle": {}}).oracle == OracleConfig()
