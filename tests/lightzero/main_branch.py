"""Run by the tests: the main branch's own world model, driven by hand, as collector and search drive it.

The branch is not on the registry, and its compiled tree search would have to be built; neither matters to its caches.
Packages that it imports and does not use here are stood in for. Arguments: its source, and ``legacy``, ``new`` (its
manager object), ``rebuild`` (legacy, and windows made anew of their tokens in the place of a shift) or ``multitask``
(its multi-task world model, which overrides how the store is built and asked).

Beside LightZero's own counters every lookup in a dict, or of the manager, is counted where the model makes it.
"""

from __future__ import annotations

import copy
import importlib.abc
import importlib.machinery
import json
import sys
import types
from typing import Any

MISSING = {
    *("transformers", "nltk", "rouge", "rouge_score", "openai", "moviepy", "minigrid", "simple_parsing"),
}


class StandIn(types.ModuleType):
    """A module of which any name can be imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for what is not installed, and for compiled parts."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in MISSING or (name.startswith("lzero.mcts.ctree.") and name.count(".") == 4):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        return StandIn(spec.name)

    def exec_module(self, module: Any) -> None:
        """Leave it empty."""


source, mode = sys.argv[1:3]
sys.path.insert(0, source)
sys.meta_path.insert(0, Finder())

import numpy as np  # noqa: E402
import torch  # noqa: E402
from easydict import EasyDict  # noqa: E402

from shadow.hosts.lightzero import install  # noqa: E402
from shadow.hosts.lightzero.managed import ManagerFacade  # noqa: E402
from shadow.hosts.lightzero.taps import Tap  # noqa: E402

# The branch's multi-task model reads these and, overriding where they are set, never sets them: it can't be built as
# it stands, watched or not.
OMITTED = ("exact_kv_window_reset", "rebuild_kv_window_from_tokens", "use_new_cache_manager")
ENVS, SEARCH, ACTIONS = 2, 6, 2
SIZES = {
    "max_blocks": 10, "max_tokens": 20, "context_length": 8, "context_length_for_recurrent": 8, "device": "cpu",
    "num_layers": 2, "num_heads": 2, "embed_dim": 64, "env_num": ENVS, "collector_env_num": ENVS,
    "evaluator_env_num": ENVS, "norm_type": "BN", "num_simulations": 8, "max_cache_size": 4,
    "use_new_cache_manager": mode == "new", "cache_validation_mode": True,
    "cache_validation": {
        "out": "runs", "audit_share": 1.0, "selftest": False, "oracle": {"envs": ENVS, "searches": 2, "budget": 0},
    },
}  # fmt: skip
rng = np.random.default_rng(0)
counted = {"init": 0, "recur": 0, "hierarchical": 0}


class SingleTask:
    """UniZero on vectors, as on CartPole."""

    shape: tuple[int, ...] = (4,)
    ending = (1,)  # envs whose episodes end after ten steps

    def build(self) -> Any:
        from lzero.model import unizero_model
        from lzero.policy.unizero import UniZeroPolicy

        # The branch's vector models are built for another environment; their encoder does, their decoder is not needed.
        encoder = unizero_model.RepresentationNetworkMLP
        unizero_model.RepresentationNetworkMLP = lambda *args, layer_num=None, **kwargs: encoder(*args, **kwargs)
        unizero_model.VectorDecoderForMemoryEnv = lambda *args, **kwargs: None
        config = EasyDict(UniZeroPolicy.config["model"]["world_model_cfg"])
        config.update(SIZES, action_space_size=ACTIONS, obs_type="vector", rotary_emb=mode != "rebuild")
        config.rebuild_kv_window_from_tokens = mode == "rebuild"
        return unizero_model.UniZeroModel(
            observation_shape=4, action_space_size=ACTIONS, world_model_cfg=config, model_type="mlp", norm_type="BN"
        )

    def root(self, model: Any, last: Any, actions: list[int], shown: Any, step: int) -> Any:
        return model.initial_inference(last, actions, shown, np.array([step, step]))

    def node(self, model: Any, history: Any, simulation: int, step: int) -> Any:
        return model.recurrent_inference(history, simulation, [1, 1], np.array([step, step]))


class MultiTask:
    """Two tasks on one model, in turn, on images."""

    shape: tuple[int, ...] = (3, 64, 64)
    ending = (0, 1)  # the multi-task model has no way to begin one env alone

    def build(self) -> Any:
        from lzero.model.unizero_model_multitask import UniZeroMTModel, WorldModelMT
        from lzero.policy.unizero import UniZeroPolicy

        config = EasyDict(UniZeroPolicy.config["model"]["world_model_cfg"])
        config.update(SIZES, action_space_size=18, obs_type="image", encoder_type="resnet", rotary_emb=False)
        config.update(task_num=2, share_head=False, use_task_embed=True, task_embed_option="add_task_embed")
        for setting in OMITTED:
            setattr(WorldModelMT, setting, False)
        return UniZeroMTModel(
            observation_shape=self.shape, num_channels=8, world_model_cfg=config, norm_type="BN", task_num=2
        )

    def root(self, model: Any, last: Any, actions: list[int], shown: Any, step: int) -> Any:
        return model.initial_inference(last, actions, shown, task_id=step // 10 % 2)

    def node(self, model: Any, history: Any, simulation: int, step: int) -> Any:
        return model.recurrent_inference(history, simulation, [1, 1], task_id=step // 10 % 2)


@torch.no_grad()
def play(model: Any, steps: int) -> None:
    """Search from one observation after the other, as collector and tree search do."""
    own = model.world_model
    last, actions = torch.zeros(ENVS, *host.shape), [-1] * ENVS
    for step in range(steps):
        shown = torch.as_tensor(rng.normal(size=(ENVS, *host.shape)), dtype=torch.float32)
        latents = host.root(model, last, actions, shown, step).latent_state.cpu().numpy()
        for simulation in range(SEARCH):
            if step % 5 == 3 and simulation == 2:  # a state that nobody stored: a miss in both stores
                latents = rng.normal(size=latents.shape).astype(np.float32)
            node = [(latents, torch.as_tensor(rng.integers(0, ACTIONS, ENVS)))]
            latents = host.node(model, node, simulation, step).latent_state.cpu().numpy()
        last, actions = shown, list(rng.integers(0, ACTIONS, ENVS))
        for env_id in host.ending if step % 10 == 9 else ():
            if mode == "new":
                own.kv_cache_manager.init_pools[env_id].clear()
                assert len(own.kv_cache_manager.init_pools[1 - env_id]._key_to_index) == 4
            else:
                own.past_kv_cache_init_infer_envs[env_id].clear()
            actions[env_id] = -1


def counting(cls: Any, name: str, count: Any) -> None:
    method = getattr(cls, name)

    def counts(self: Any, *args: Any, **kwargs: Any) -> Any:
        count(self, *args)
        return method(self, *args, **kwargs)

    setattr(cls, name, counts)


def saw_dict(tap: Any, *_: Any) -> None:
    counted["recur" if tap.env_id is None else "init"] += 1


def saw_manager(_: Any, operation: str, *__: Any) -> None:
    pool = {"get_init_cache": "init", "get_recur_cache": "recur", "hierarchical_get": "hierarchical"}.get(operation)
    if pool is not None:
        counted[pool] += 1


counting(Tap, "get", saw_dict)
counting(Tap, "__getitem__", saw_dict)
counting(ManagerFacade, "_operate", saw_manager)
install()
host = MultiTask() if mode == "multitask" else SingleTask()
built = host.build().eval()
world_model = built.world_model
assert hasattr(world_model, "kv_cache_manager") == (mode == "new")
play(built, 30)
asked = dict(counted)
target = copy.deepcopy(built)
play(target, 5)
target.world_model.clear_caches()
world_model.clear_caches()
names = ("total_query_count", "hit_count", "root_total_query_cnt", "root_hit_cnt")
own_counts = {name: getattr(world_model, name) for name in names}
print("COUNTED", json.dumps({**own_counts, "asked": asked, "world_model": type(world_model).__name__}))
