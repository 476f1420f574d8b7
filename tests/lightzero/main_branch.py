"""Run by the tests: the main branch's own world model, driven by hand, as collector and search drive it.

The branch is not on the registry, and its compiled tree search would have to be built; neither matters to its caches.
Packages that it imports and does not use here are stood in for. Arguments: its source, ``legacy`` or ``new``.
"""

from __future__ import annotations

import copy
import importlib.abc
import importlib.machinery
import json
import sys
import types
from typing import Any

MISSING = {"transformers", "nltk", "rouge", "rouge_score", "openai", "moviepy", "minigrid"}


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
from lzero.model import unizero_model  # noqa: E402
from lzero.policy.unizero import UniZeroPolicy  # noqa: E402

from shadow.hosts.lightzero import install  # noqa: E402

# The branch's vector models are built for another environment; their encoder does, their decoder is not needed.
encoder = unizero_model.RepresentationNetworkMLP
unizero_model.RepresentationNetworkMLP = lambda *args, layer_num=None, **kwargs: encoder(*args, **kwargs)
unizero_model.VectorDecoderForMemoryEnv = lambda *args, **kwargs: None

installation = install()
config = EasyDict(UniZeroPolicy.config["model"]["world_model_cfg"])
config.update(
    max_blocks=10, max_tokens=20, context_length=8, context_length_for_recurrent=8, device="cpu", action_space_size=2,
    num_layers=2, num_heads=2, embed_dim=64, env_num=2, collector_env_num=2, evaluator_env_num=2, obs_type="vector",
    norm_type="BN", rotary_emb=True, num_simulations=8, max_cache_size=4, use_new_cache_manager=mode == "new",
    cache_validation_mode=True, cache_validation={"out": "runs", "audit_share": 1.0},
)  # fmt: skip
model = unizero_model.UniZeroModel(
    observation_shape=4, action_space_size=2, world_model_cfg=config, model_type="mlp", norm_type="BN"
).eval()
world_model, rng = model.world_model, np.random.default_rng(0)
assert (hasattr(world_model, "kv_cache_manager"), world_model.use_new_cache_manager) == (mode == "new",) * 2


@torch.no_grad()
def play(model: Any, steps: int) -> None:
    last, actions = torch.zeros(2, 4), [-1, -1]
    for step in range(steps):
        shown = torch.as_tensor(rng.normal(size=(2, 4)), dtype=torch.float32)
        root = model.initial_inference(last, actions, shown, np.array([step, step]))
        latents = root.latent_state.cpu().numpy()
        for simulation in range(6):
            node = [(latents, torch.as_tensor(rng.integers(0, 2, 2)))]
            latents = model.recurrent_inference(node, simulation, [1, 1], np.array([step, step])).latent_state
            latents = latents.cpu().numpy()
        last, actions = shown, list(rng.integers(0, 2, 2))
        if step % 10 == 9:  # an episode of env 1 ends
            own = model.world_model
            if own.use_new_cache_manager:
                own.kv_cache_manager.init_pools[1].clear()
                assert len(own.kv_cache_manager.init_pools[0]._key_to_index) == 4
            else:
                own.past_kv_cache_init_infer_envs[1].clear()
            actions[1] = -1


play(model, 30)
target = copy.deepcopy(model)
play(target, 5)
target.world_model.clear_caches()
world_model.clear_caches()
names = ("total_query_count", "hit_count", "root_total_query_cnt", "root_hit_cnt")
print("COUNTED", json.dumps({name: getattr(world_model, name) for name in names}))
