"""Tells the session what LightZero's policies and learners do: weight updates, episode ends, progress, TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from shadow.hosts.lightzero.attachment import ATTRIBUTE
from shadow.hosts.lightzero.installation import Installation
from shadow.hosts.lightzero.oracle import ATTRIBUTE as ORACLE

_ROLES = {"learn": "_learn_model", "collect": "_collect_model", "eval": "_eval_model", "target": "_target_model"}


def watch_policy(policy: Any, installation: Installation) -> None:
    """Wrap the methods of one policy object that learn and reset, if one of its models is validated.

    Args:
        policy: DI-engine policy, fully constructed.
        installation: Where its session is.
    """
    session = installation.validation
    roles = {role: _of_model(getattr(policy, name, None)) for role, name in _ROLES.items()}
    if session is None or not any(roles.values()):
        return
    serving: dict[int, list[str]] = {}
    for role, attachment in roles.items():
        if attachment is not None:
            serving.setdefault(id(attachment), []).append(role)
    session.event("roles", "; ".join("one model for " + ", ".join(names) for names in serving.values()))

    steps = _OptimizerSteps(policy)

    def learned(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = steps.count
        result = method(*args, **kwargs)
        if steps.count != before or not steps.optimizers:
            for attachment in {id(found): found for found in roles.values() if found is not None}.values():
                if attachment.shadow is not None:  # the target follows the weights in the same call
                    session.weights_updated(cache=attachment.shadow)
        return result

    def reset(role: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        attachment = _of_model(getattr(policy, _ROLES[role], None))
        if attachment is not None and attachment.shadow is not None:
            for env_id in _ended(*args, **kwargs):
                session.episode_ended(env_id, cache=attachment.shadow)
        return result

    def inferred(role: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        oracle = _of_model(getattr(policy, _ROLES[role], None), ORACLE)
        if oracle is None:
            return method(*args, **kwargs)
        oracle.serves(role, kwargs.get("ready_env_id"))
        try:
            result = method(*args, **kwargs)
        finally:
            oracle.serves("", None)
        oracle.acted(role, {env_id: output["action"] for env_id, output in result.items()})
        return result

    for name, wrapper in (
        ("_forward_learn", learned),
        ("_forward_collect", partial(inferred, "collect")),
        ("_forward_eval", partial(inferred, "eval")),
        ("_reset_collect", partial(reset, "collect")),
        ("_reset_eval", partial(reset, "eval")),
    ):
        method = getattr(policy, name, None)
        if callable(method):
            setattr(policy, name, partial(wrapper, method))


def watch_learner(learner: Any, installation: Installation) -> None:
    """Take the TensorBoard writer of a learner that was just built, if it has one and something is validated."""
    tb_logger = getattr(learner, "_tb_logger", None)
    if installation.validation is not None and tb_logger is not None and hasattr(tb_logger, "add_scalar"):
        installation.validation.live(tb_logger)


def told_progress(learner: Any, env_step: int, installation: Installation) -> None:
    """Tell where the training stands, from the learner's own numbers."""
    if installation.validation is not None:
        train_iter = getattr(learner, "train_iter", None)
        installation.validation.progress(
            train_iter=int(train_iter) if train_iter is not None else None,
            env_step=int(env_step) if env_step >= 0 else None,
        )


class _OptimizerSteps:
    """Counts the steps of a policy's optimizers; with gradient accumulation not every call of learn makes one."""

    def __init__(self, policy: Any) -> None:
        self.count = 0
        self.optimizers = [each for each in vars(policy).values() if isinstance(each, torch.optim.Optimizer)]
        for optimizer in self.optimizers:
            optimizer.register_step_post_hook(self._stepped)

    def _stepped(self, *_: Any) -> None:
        self.count += 1


def _of_model(model: Any, attribute: str = ATTRIBUTE) -> Any:
    world_model = getattr(model, "world_model", None)
    return None if world_model is None else getattr(world_model, "__dict__", {}).get(attribute)


def _ended(env_id: Any = None, current_steps: Any = None, *_: Any, **__: Any) -> list[int]:
    """Read the envs whose episodes ended off a reset: collectors name them, and then give no step count."""
    if env_id is None or current_steps is not None:
        return []
    return [int(each) for each in (env_id if isinstance(env_id, (list, tuple)) else [env_id])]
