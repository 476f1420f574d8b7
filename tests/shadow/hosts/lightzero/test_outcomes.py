"""What a LightZero training comes to is heard once each: returns of collected episodes, losses of updates."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from shadow.hosts.lightzero.outcomes import listen


class Collector:
    """As LightZero's: episodes pile up, and every second log empties the list."""

    def __init__(self) -> None:
        self._episode_info: list[dict[str, Any]] = []
        self.logs = 0

    def collect(self, *rewards: float) -> None:
        self._episode_info += [{"reward": reward, "step": 9} for reward in rewards]
        self._output_log(0)

    def _output_log(self, train_iter: int) -> None:
        self.logs += 1
        if self.logs % 2 == 0:
            self._episode_info.clear()


class Policy:
    """As DI-engine's: what learns is a method of the object."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    def _forward_learn(self, data: Any) -> Any:
        return self.answers.pop(0)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float], type, type]:
    collector, policy = type("Own", (Collector,), dict(vars(Collector))), type("Own", (Policy,), dict(vars(Policy)))
    for name, content in (
        ("lzero", {}),
        ("lzero.worker", {"MuZeroCollector": collector, "helper": lambda: None}),
        ("ding", {}),
        ("ding.policy", {}),
        ("ding.policy.base_policy", {"Policy": policy}),
    ):
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    returns: list[float] = []
    losses: list[float] = []
    listen(returns.append, losses.append)
    return returns, losses, collector, policy


def test_every_collected_episode_is_heard_once(heard: Any) -> None:
    returns, _, collector, _ = heard
    one = collector()

    one.collect(10.0, 11.0)
    one.collect()
    one.collect(12.0)
    collector().collect(99.0)

    assert returns == [10.0, 11.0, 12.0, 99.0]
    assert one.logs == 3


def test_the_total_loss_of_every_update_is_heard_and_the_answer_passed_on(heard: Any) -> None:
    _, losses, _, policy = heard
    answers = [{"weighted_total_loss": 3.5, "total_loss": 9.0}, {"total_loss": 2.5}, {"cur_lr": 0.1}, None]
    one = policy(list(answers))

    assert [one._forward_learn(None) for _ in answers] == answers
    assert losses == [3.5, 2.5]
