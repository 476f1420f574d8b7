"""Run by the tests in the place of a script: that script, and what can be counted of it without kv-lockstep.

LightZero counts its own lookups (``total_query_count`` in the search, ``root_total_query_cnt`` at roots) and hits.
Beside that every dict that the model asks is counted where the model asks it, generators are compared around every
operation that is shadowed, and what the model copies for its batch is checked to be one of its own slot objects.
Arguments: where to write the counts, the script, and the script's own.
"""

from __future__ import annotations

import json
import random
import runpy
import sys
from functools import wraps
from pathlib import Path
from typing import Any

import lzero.model.unizero_world_models.world_model as world_model
import numpy as np
import torch

from shadow.hosts.lightzero.attachment import InlineAttachment
from shadow.hosts.lightzero.taps import Tap
from validator.session import Lockstep

models: list[Any] = []
found = {
    **dict.fromkeys(("init_dict_asked", "recur_dict_asked", "init_dict_answered_search", "by_the_way"), 0),
    **dict.fromkeys(("operations", "generators_moved", "batch_copies", "foreign_objects"), 0),
}
construct, copy_for_batch = world_model.WorldModel.__init__, world_model.WorldModel.custom_copy_kv_cache_to_shared_wm
searching, get = world_model.WorldModel.retrieve_or_generate_kvcache, Tap.get
in_search = False


def constructing(self: Any, *args: Any, **kwargs: Any) -> None:
    construct(self, *args, **kwargs)
    models.append(self)


@wraps(searching)  # whose source tells the host what a miss does there
def search(self: Any, *args: Any, **kwargs: Any) -> Any:
    global in_search
    in_search = True
    try:
        return searching(self, *args, **kwargs)
    finally:
        in_search = False


def getting(self: Any, key: Any, default: Any = None) -> Any:
    answer = get(self, key, default)
    found["recur_dict_asked" if self.env_id is None else "init_dict_asked"] += 1
    found["init_dict_answered_search"] += self.env_id is not None and in_search and answer is not None
    return answer


def by_the_way(self: Any, key: Any) -> Any:
    found["by_the_way"] += 1  # another way to ask a dict, which LightZero does not use
    return self.get(key)


def generators() -> tuple[Any, ...]:
    legacy = np.random.get_state(legacy=True)
    return torch.default_generator.get_state().numpy().tobytes(), random.getstate(), legacy[1].tobytes(), legacy[2:]


def unmoved(cls: Any, name: str) -> None:
    """Compare the generators around every call of a method."""
    method = getattr(cls, name)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = generators()
        try:
            return method(self, *args, **kwargs)
        finally:
            found["operations"] += 1
            found["generators_moved"] += generators() != before

    setattr(cls, name, call)


def copying(self: Any, src_kv: Any) -> Any:
    found["batch_copies"] += 1
    slots = [*self.shared_pool_recur_infer, *(slot for pool in self.shared_pool_init_infer for slot in pool)]
    found["foreign_objects"] += not any(src_kv is slot for slot in slots)
    return copy_for_batch(self, src_kv)


world_model.WorldModel.__init__ = constructing
world_model.WorldModel.custom_copy_kv_cache_to_shared_wm = copying
world_model.WorldModel.retrieve_or_generate_kvcache = search
Tap.get = getting  # type: ignore[method-assign]
Tap.__getitem__ = by_the_way  # type: ignore[method-assign]
unmoved(Lockstep, "__init__")
unmoved(Lockstep, "weights_updated")
for operation in ("looked_up", "stored", "cleared"):
    unmoved(InlineAttachment, operation)

counts, script = Path(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[2:]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    for name in ("total_query_count", "hit_count", "root_total_query_cnt", "root_hit_cnt"):
        found[name] = sum(getattr(model, name) for model in models)
    counts.write_text(json.dumps(found))
