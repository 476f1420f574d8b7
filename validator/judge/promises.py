"""What both sides promise: how large they are, and whom they evict."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from shadow.interface import CacheCapacities, CachePolicy, PolicyKind
from validator.judge.side import Report, Unreadable, tried

_MOST_ENVS = 1 << 20  # of which a model is made each


def policies(control: Any, candidate: Any, report: Report) -> tuple[CachePolicy, CachePolicy, int, list[str]]:
    """Find out what both sides promise.

    The kind of eviction is what each side declares. The capacities are one yardstick for both: what the shared config
    asks for where a side carries one, else what the control declares. A side that differs is off, not excused.

    Args:
        control: Trusted cache.
        candidate: New cache.
        report: Told of a side that raises, or answers what can't be, when it is asked for any of this.

    Returns:
        Policy of the control, of the candidate, number of envs, and what had to be assumed, one sentence each.

    Raises:
        ValueError: If nothing says how large either side is.
    """
    sides = {"control": control, "candidate": candidate}
    asked = {name: partial(_asked, name, cache, report) for name, cache in sides.items()}
    declared = {name: _declared(name, ask, report) for name, ask in asked.items()}
    numbers = (ask("env_num", lambda cache: getattr(cache, "env_num", None)) for ask in asked.values())
    envs = next((n for n in numbers if type(n) is int and 0 < n <= _MOST_ENVS), 0)
    wanted = None
    for ask in asked.values():
        if wanted is None and envs:
            wanted = ask("config", lambda cache: _wanted(cache, envs))
    stated = [policy.capacities for policy in declared.values() if policy is not None]
    if wanted is None or (stated and wanted not in stated):
        wanted = stated[0] if stated else wanted
    if wanted is None:
        raise ValueError(
            "neither control nor candidate says how many entries it may hold; give one of them a policy() method that "
            "returns shadow.CachePolicy, or the attributes config and env_num"
        )
    assumed = []
    found = []
    for name, policy in declared.items():
        if policy is None:
            assumed.append(f"{name} declares no policy; FIFO with {wanted} is assumed")
        elif policy.capacities != wanted:
            assumed.append(f"{name} declares {policy.capacities}, but {wanted} is what both are held to")
        found.append(
            CachePolicy("fifo", wanted, live_results=None) if policy is None else replace(policy, capacities=wanted)
        )
    return found[0], found[1], envs or wanted.wm, assumed


def _asked(name: str, cache: Any, report: Report, what: str, question: Callable[[Any], Any]) -> Any:
    """Ask a side for something; what it raises is charged to it, and counts as nothing."""
    found = tried(report, name, question, cache)
    return report.misbehaved(name, what, found.error) if type(found) is Unreadable else found


def _wanted(cache: Any, envs: int) -> CacheCapacities | None:
    config = getattr(cache, "config", None)
    if config is None:
        return None
    with suppress(ValueError):
        return CacheCapacities.from_config(config, envs)
    return None


def _declared(name: str, ask: Callable[..., Any], report: Report) -> CachePolicy | None:
    policy = ask("policy", lambda cache: cache.policy() if callable(getattr(cache, "policy", None)) else None)
    if type(policy) is CachePolicy and policy.kind in get_args(PolicyKind) and _are_sizes(policy.capacities):
        return policy
    if policy is not None:
        report.misbehaved(name, "policy", f"a {type(policy).__name__} that declares nothing")
    return None


def _are_sizes(capacities: Any) -> bool:
    return type(capacities) is CacheCapacities and all(
        type(size) is int and 0 < size < 1 << 40 for size in (capacities.init, capacities.recur, capacities.wm)
    )
