"""Hears what a LightZero training comes to: the return of each episode it collects, the loss of each update."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any

from shadow.hosts.lightzero.install import after
from shadow.interface import read_field

_LOSSES = ("weighted_total_loss", "total_loss")


def listen(on_return: Callable[[float], None], on_loss: Callable[[float], None]) -> None:
    """Hook LightZero's collectors and policies; for a process of its own, because nothing is ever unhooked.

    Args:
        on_return: Called with the undiscounted return of each collected episode.
        on_loss: Called with the total loss of each update.
    """
    worker = import_module("lzero.worker")
    for collector in list(vars(worker).values()):
        if inspect.isclass(collector) and callable(getattr(collector, "_output_log", None)):
            _hear_returns(collector, on_return)
    policy = import_module("ding.policy.base_policy").Policy
    after(policy, "__init__", lambda self: _hear_losses(self, on_loss))


def _hear_returns(collector: Any, on_return: Callable[[float], None]) -> None:
    log = collector._output_log

    @wraps(log)
    def logged(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Called after each collection; it empties the list of episodes only now and then.
        episodes = self._episode_info
        heard: int = self.__dict__.get("_kv_lockstep_heard", 0)
        for episode in episodes[heard:]:
            on_return(float(episode["reward"]))
        result = log(self, *args, **kwargs)
        self.__dict__["_kv_lockstep_heard"] = len(self._episode_info)
        return result

    collector._output_log = logged


def _hear_losses(policy: Any, on_loss: Callable[[float], None]) -> None:
    learn = getattr(policy, "_forward_learn", None)
    if not callable(learn):
        return

    @wraps(learn)
    def learned(*args: Any, **kwargs: Any) -> Any:
        result = learn(*args, **kwargs)
        loss = _total(result)
        if loss is not None:
            on_loss(loss)
        return result

    policy._forward_learn = learned


def _total(result: Any) -> float | None:
    if isinstance(result, Mapping):
        for name in _LOSSES:
            value = read_field(result, name)
            if value is not None:
                return float(value)
    return None
