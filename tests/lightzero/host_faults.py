"""What a LightZero that is broken in one place does; both caches store what it gives them, and agree."""

from __future__ import annotations

from typing import Any

import torch

from tests.lightzero.by_hand import Policy


def rows_swapped_in_the_batch(world_model: Any) -> None:
    """Put what was looked up for one env into another's row."""
    pad = world_model.trim_and_pad_kv_cache

    def padded(*args: Any, **kwargs: Any) -> Any:
        world_model.keys_values_wm_list.reverse()
        world_model.keys_values_wm_size_list.reverse()
        return pad(*args, **kwargs)

    world_model.trim_and_pad_kv_cache = padded


def rows_swapped_when_stored(world_model: Any) -> None:
    """Store for each env what was computed for another."""

    def flip(layers: Any) -> None:
        for layer in layers:
            layer._k_cache._cache, layer._v_cache._cache = layer._k_cache._cache.flip(0), layer._v_cache._cache.flip(0)

    _before_storing(world_model, flip)


def keys_of_another_layer(world_model: Any) -> None:
    """Store the first layer's keys as the last one's too."""

    def copy(layers: Any) -> None:
        layers[-1]._k_cache._cache = layers[0]._k_cache._cache

    _before_storing(world_model, copy)


def length_of_the_batch_stored(world_model: Any) -> None:
    """Store a short history with the length to which its batch was padded."""
    update = world_model.update_cache_context

    def updated(latent_state: Any, is_init_infer: bool = True, **kwargs: Any) -> Any:
        if not is_init_infer:
            sizes = world_model.keys_values_wm_size_list_current
            world_model.keys_values_wm_size_list_current = [max(sizes)] * len(sizes)
        return update(latent_state, is_init_infer, **kwargs)

    world_model.update_cache_context = updated


def wrong_action_in_the_search(world_model: Any) -> None:
    """Append another action than the search took."""
    forward = world_model.forward

    def forwarded(given: Any, *args: Any, **kwargs: Any) -> Any:
        if "act_tokens" in given and not kwargs.get("is_init_infer", True):
            given = {"act_tokens": 1 - given["act_tokens"]}
        return forward(given, *args, **kwargs)

    world_model.forward = forwarded


def positions_ahead(world_model: Any) -> None:
    """Turn what the search appends to the position after its own."""
    pass_through = world_model._transformer_pass

    def passed(*args: Any, start_pos: Any = 0, **kwargs: Any) -> Any:
        moved = [one + 1 for one in start_pos] if isinstance(start_pos, list) else start_pos
        return pass_through(*args, start_pos=moved, **kwargs)

    world_model._transformer_pass = passed


def positions_not_set_back(world_model: Any) -> None:
    """Cut the window and leave the positions of what is kept."""
    for tables in (*world_model.pos_emb_diff_k, *world_model.pos_emb_diff_v):
        for at, change in tables.items():
            tables[at] = torch.zeros_like(change)


def window_kept_too_long(world_model: Any) -> None:
    """Cut the window one pair of tokens too late."""
    world_model.context_length += 2


class ForgetsEpisodeEnds(Policy):
    """Goes on after an episode's end from its last observation, whose root is still there."""

    def _reset_collect(self, env_id: Any = None) -> None:
        if env_id is None:
            super()._reset_collect()

    _reset_eval = _reset_collect


class SharesRoots(Policy):
    """Evaluates from where collection stands, because both keep their last observations in one place."""

    def _forward_eval(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "_collected", None) is not None:
            (self.last_obs, self.last_action), self._collected = self._collected, None
        return super()._forward_collect(*args, **kwargs)

    def _forward_collect(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._forward_collect(*args, **kwargs)
        self._collected = self.last_obs, self.last_action
        return result


class ForgetsActions(Policy):
    """Tells the model another action than the env took."""

    def _forward_collect(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._forward_collect(*args, **kwargs)
        self.last_action = [1 - action for action in self.last_action]
        return result


def _before_storing(world_model: Any, change: Any) -> None:
    update = world_model.update_cache_context

    def updated(*args: Any, **kwargs: Any) -> Any:
        change(world_model.keys_values_wm._keys_values)
        return update(*args, **kwargs)

    world_model.update_cache_context = updated
