"""Run by the tests: the stock script with a world model that overrides how the store is built, as multi-task ones do.

The released wheel has no multi-task model. This one builds on the released world model: the constructor runs the
parent's, then builds the store once more in other sizes, with other dicts, and looks up in a method of its own.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from lzero.model import unizero_model
from lzero.model.unizero_world_models.world_model import WorldModel


class OverridingWorldModel(WorldModel):
    """Has three slots per root ring, and double the nodes."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        self._initialize_cache_structures()
        self.shared_pool_size = 2 * self.num_simulations * self.env_num
        self.shared_pool_recur_infer = [None] * self.shared_pool_size
        self.shared_pool_size_init = 3
        self.shared_pool_init_infer = [[None] * 3 for _ in range(self.env_num)]

    def _initialize_cache_structures(self) -> None:
        self.past_kv_cache_recurrent_infer = {}
        self.past_kv_cache_init_infer_envs = [{} for _ in range(self.env_num)]
        self.keys_values_wm_list: list[Any] = []
        self.keys_values_wm_size_list: list[int] = []

    def forward_initial_inference(self, *args: Any, task_id: int = 0, **kwargs: Any) -> Any:
        return super().forward_initial_inference(*args, **kwargs)


unizero_model.WorldModel = OverridingWorldModel
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
