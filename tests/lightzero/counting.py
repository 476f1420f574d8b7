"""Run by the tests in the place of the stock script: the stock script, and what can be counted without kv-lockstep.

LightZero counts its own lookups (``total_query_count`` in the search, ``root_total_query_cnt`` at roots) and hits.
Beside that, the dict lookups are counted where the model makes them, generators are compared around every shadowed
operation, and what the model copies for its batch is checked to be one of LightZero's own slot objects.
"""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import lzero.model.unizero_world_models.world_model as world_model
import numpy as np
import torch

from shadow.hosts.lightzero.taps import Tap
from shadow.shadow_cache import ShadowCache
from validator.session import Lockstep

models: list[Any] = []
found = {"dict_lookups": 0, "operations": 0, "generators_moved": 0, "batch_copies": 0, "foreign_objects": 0}

construct, get, run = world_model.WorldModel.__init__, Tap.get, ShadowCache._run
open_session = Lockstep.__init__
copy_for_batch = world_model.WorldModel.custom_copy_kv_cache_to_shared_wm


def constructing(self: Any, *args: Any, **kwargs: Any) -> None:
    construct(self, *args, **kwargs)
    models.append(self)


def getting(self: Any, key: Any, default: Any = None) -> Any:
    found["dict_lookups"] += 1
    return get(self, key, default)


def generators() -> tuple[Any, ...]:
    legacy = np.random.get_state(legacy=True)
    return torch.default_generator.get_state().numpy().tobytes(), random.getstate(), legacy[1].tobytes(), legacy[2:]


def running(self: Any, *args: Any) -> Any:
    before = generators()
    try:
        return run(self, *args)
    finally:
        found["operations"] += 1
        found["generators_moved"] += generators() != before


def opening(self: Any, *args: Any, **kwargs: Any) -> None:
    before = generators()
    open_session(self, *args, **kwargs)
    found["generators_moved"] += generators() != before


def copying(self: Any, src_kv: Any) -> Any:
    found["batch_copies"] += 1
    slots = [*self.shared_pool_recur_infer, *(slot for pool in self.shared_pool_init_infer for slot in pool)]
    found["foreign_objects"] += not any(src_kv is slot for slot in slots)
    return copy_for_batch(self, src_kv)


world_model.WorldModel.__init__ = constructing
world_model.WorldModel.custom_copy_kv_cache_to_shared_wm = copying
Lockstep.__init__ = opening  # type: ignore[method-assign]
Tap.get = getting  # type: ignore[method-assign]
ShadowCache._run = running  # type: ignore[method-assign]

counts, script = Path(sys.argv[1]), sys.argv[2]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    names = ("total_query_count", "hit_count", "root_total_query_cnt", "root_hit_cnt")
    for name in names:
        found[name] = sum(getattr(model, name) for model in models)
    counts.write_text(json.dumps(found))
