"""LightZero 0.2.0's own model, in this process, driven as its collector, its policy and its tree search drive it.

Small and fast: nothing is trained, the tree is drawn from a generator, and which env is at which step is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reports.reader import find_runs, read_run
from reports.record.run import Run
from shadow.hosts.lightzero.installation import Installation
from shadow.hosts.lightzero.policies import watch_policy

ACTIONS, OBSERVATION, EPISODE, SEARCH = 2, 4, 4, 3
COLLECTED, EVALUATED = EPISODE + 2, 2  # steps
EVERYTHING = {"envs": 8, "searches": 1, "budget": 0}  # of the settings of an oracle: all is followed


def build(envs: int, rotary: bool = True, fresh: bool = False, **settings: Any) -> Any:
    """Build a UniZeroModel whose latent states differ from each other, as those of a trained one do.

    Args:
        envs: How many envs it serves.
        rotary: Whether its positions are rotary.
        fresh: Whether it was never updated: LightZero makes what shifts positions after each training phase.
        settings: More of its config.
    """
    from easydict import EasyDict
    from lzero.model.unizero_model import UniZeroModel
    from lzero.policy.unizero import UniZeroPolicy

    config = EasyDict(UniZeroPolicy.config["model"]["world_model_cfg"])
    config.update(max_blocks=10, max_tokens=20, context_length=8, context_length_for_recurrent=8, device="cpu")
    config.update(num_layers=2, num_heads=2, embed_dim=64, norm_type="BN", obs_type="vector", rotary_emb=rotary)
    config.update(env_num=envs, collector_env_num=envs, evaluator_env_num=envs, num_simulations=SEARCH)
    config.update(action_space_size=ACTIONS, **settings)
    torch.manual_seed(0)
    shape = {"observation_shape": OBSERVATION, "action_space_size": ACTIONS, "model_type": "mlp", "norm_type": "BN"}
    model = UniZeroModel(world_model_cfg=config, **shape).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.1)
    if not rotary and not fresh:
        model.world_model.precompute_pos_emb_diff_kv()
    return model


class Policy:
    """Keeps the last observations and actions of a batch as LightZero's does, and searches a random tree.

    Args:
        model: The model, for collection and evaluation.
        deep: Whether each simulation goes on from the last node, so that all rows are of one length; else from any.
    """

    def __init__(self, model: Any, deep: bool) -> None:
        self._collect_model = self._eval_model = model
        self._deep = deep
        self._random = np.random.default_rng(0)
        self.outputs: list[bytes] = []
        self._reset_collect()

    def _reset_collect(self, env_id: Any = None) -> None:
        self.last_obs = torch.zeros(self._collect_model.world_model.env_num, OBSERVATION)
        self.last_action = [-1] * len(self.last_obs)

    _reset_eval = _reset_collect

    @torch.no_grad()
    def _forward_collect(self, shown: torch.Tensor, ready_env_id: Sequence[int], timestep: Sequence[Any]) -> Any:
        rows, random, model = len(shown), self._random, self._collect_model
        roots = model.initial_inference(self.last_obs, self.last_action, shown, timestep).latent_state
        nodes, depths = [roots.numpy()], [[0] * rows]
        for simulation in range(SEARCH):
            chosen = [len(nodes) - 1 if self._deep else random.integers(len(nodes)) for _ in range(rows)]
            states = np.stack([nodes[at][row] for row, at in enumerate(chosen)])
            depth = [depths[at][row] for row, at in enumerate(chosen)]
            history = [(states, torch.as_tensor(random.integers(0, ACTIONS, rows)))]
            output = model.recurrent_inference(history, simulation, depth, timestep)
            nodes.append(output.latent_state.numpy())
            depths.append([one + 1 for one in depth])
            self.outputs += [output.value.numpy().tobytes(), output.latent_state.numpy().tobytes()]
        actions = [int(one) for one in random.integers(0, ACTIONS, rows)]
        self.last_obs, self.last_action = shown, actions
        return {env: {"action": action} for env, action in zip(ready_env_id, actions, strict=True)}

    _forward_eval = _forward_collect


def play(
    model: Any,
    out: Path,
    *,
    oracle: dict[str, Any] | None,
    deep: bool = True,
    policy: type[Policy] = Policy,
    plant: Callable[[Any], None] = lambda world_model: None,
    plant_late: Callable[[Any], None] = lambda world_model: None,
) -> tuple[Run, Policy]:
    """Collect for an episode and a half under validation, then evaluate.

    Args:
        model: From ``build``.
        out: Where to record.
        oracle: Settings of the oracle, None for none.
        deep: See ``Policy``.
        policy: Which policy drives it.
        plant: Breaks the world model before anything is attached to it.
        plant_late: Breaks it after.

    Returns:
        What was recorded, and the policy.
    """
    world_model, random = model.world_model, np.random.default_rng(1)
    plant(world_model)
    world_model.config.cache_validation = {"out": str(out), "selftest": False, "oracle": oracle}
    installation = Installation(None, force=True)
    try:
        installation.attach(world_model)
    except ValueError:
        close(installation)
        raise
    plant_late(world_model)
    driven = policy(model, deep)
    watch_policy(driven, installation)
    envs = list(range(world_model.env_num))
    for infer, count in ((driven._forward_collect, COLLECTED), (driven._forward_eval, EVALUATED)):
        for step in range(count):
            if step and not step % EPISODE:
                driven._reset_collect(envs)
            shown = torch.as_tensor(random.normal(size=(len(envs), OBSERVATION)), dtype=torch.float32)
            infer(shown, ready_env_id=envs, timestep=[np.array(step % EPISODE)] * len(envs))
        driven._reset_eval(envs)
    close(installation)
    return read_run(find_runs(out)[-1]), driven


def close(installation: Installation) -> None:
    """End the session of an installation, as the end of its process would."""
    assert installation.validation is not None
    installation.validation.close()  # type: ignore[attr-defined]  # a Lockstep, of which the host knows less
