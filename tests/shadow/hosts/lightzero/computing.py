"""A world model that computes as LightZero's does, written for these tests; no line of LightZero is in it.

Two layers, absolute positions, a window that is cut and set back. Rows of a batch have to be of one length.
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from shadow.entry import KeysValues
from tests.shadow.hosts.lightzero.fakes import Release020

EMBED, HEADS, CONTEXT, ACTIONS, OBSERVATION = 8, 2, 8, 2, 4
_KEPT = CONTEXT - 3


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(EMBED, EMBED) for _ in range(3))

    def forward(self, x: torch.Tensor, past: Any) -> torch.Tensor:
        heads = [
            to(x).view(len(x), -1, HEADS, EMBED // HEADS).transpose(1, 2) for to in (self.query, self.key, self.value)
        ]
        past.update(*heads[1:])
        k, v = past.get()
        seen = (heads[0] @ k.transpose(-2, -1)).softmax(-1) @ v
        return seen.transpose(1, 2).reshape(x.shape)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(EMBED), _Attention()


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block() for _ in range(2))

    def generate_empty_keys_values(self, n: int, max_tokens: int) -> KeysValues:
        return KeysValues(n, HEADS, max_tokens, EMBED, 2)

    def forward(self, x: torch.Tensor, past: Any) -> torch.Tensor:
        for block, layer in zip(self.blocks, past._keys_values, strict=True):
            x = x + block.attn(block.norm(x), layer)
        return x


class ComputingWorldModel(nn.Module, Release020):
    """See the top of this module."""

    def __init__(self, env_num: int) -> None:
        nn.Module.__init__(self)
        Release020.__init__(self, env_num, num_simulations=8, action_space_size=ACTIONS)
        torch.manual_seed(0)
        self.transformer = _Transformer()
        self.act_embedding_table, self.pos_emb = nn.Embedding(ACTIONS, EMBED), nn.Embedding(CONTEXT, EMBED)
        self.encoder = nn.Linear(OBSERVATION, EMBED)
        self.tokenizer = SimpleNamespace(encode_to_obs_embeddings=lambda shown: self.encoder(shown)[:, None])
        self.context_length, self.num_heads, self.num_observations_tokens = CONTEXT, HEADS, 1
        self.device = torch.device("cpu")
        self.eval()

    __setstate__ = Release020.__setstate__

    def forward_initial_inference(self, given: Any, start_pos: Any) -> Any:
        latents = self.tokenizer.encode_to_obs_embeddings(given["current_obs"])
        if max(given["action"]) < 0:
            past, _ = self.step([None] * len(latents), latents)
        else:
            last = self.tokenizer.encode_to_obs_embeddings(given["obs"])
            found = [self.past_kv_cache_init_infer_envs[row].get(_key(one)) for row, one in enumerate(last)]
            entries = [self.shared_pool_init_infer[row][slot] for row, slot in enumerate(found)]
            past, _ = self.step(entries, self.act_embedding_table(torch.tensor(given["action"]))[:, None], latents)
        for row, latent in enumerate(latents):
            slot = self.custom_copy_kv_cache_to_shared_init_envs(self._cut(past, row), row)
            self.past_kv_cache_init_infer_envs[row][_key(latent)] = slot
        self.past_kv_cache_recurrent_infer.clear()
        return None, latents

    def forward_recurrent_inference(self, history: Any, index: int, depths: Any, start_pos: Any) -> Any:
        states, actions = history[-1]
        entries = self.retrieve_or_generate_kvcache(states)
        past, latents = self.step(entries, self.act_embedding_table(actions)[:, None])
        past, _ = self.step([self._cut(past, row, 99) for row in range(len(latents))], latents)
        for row, latent in enumerate(latents):
            slot = self.custom_copy_kv_cache_to_shared_recur(self._cut(past, row))
            self.past_kv_cache_recurrent_infer[_key(latent)] = slot
        return None, latents

    def retrieve_or_generate_kvcache(self, states: Any) -> Any:
        entries = []
        for row, state in enumerate(states):
            slot, pool = self.past_kv_cache_init_infer_envs[row].get(_key(state)), self.shared_pool_init_infer[row]
            if slot is None:
                slot, pool = self.past_kv_cache_recurrent_infer.get(_key(state)), self.shared_pool_recur_infer
            entries.append(pool[slot])
        return entries

    def step(self, entries: Any, *tokens: torch.Tensor) -> Any:
        """Append tokens to the entries of a batch; return all of it, and what comes out of the last one."""
        size = 0 if entries[0] is None else entries[0].size
        past = self.transformer.generate_empty_keys_values(len(entries), CONTEXT)
        for layer, cached in enumerate(past._keys_values if size else ()):
            rows = [entry._keys_values[layer] for entry in entries]
            cached.update(torch.cat([row.get()[0] for row in rows]), torch.cat([row.get()[1] for row in rows]))
        for at, token in enumerate(tokens, start=size):
            output = self.transformer(token + self.pos_emb(torch.tensor([at])), past)
        return past, output

    def _cut(self, past: Any, row: int, longest: int = CONTEXT - 2) -> KeysValues:
        entry = self.transformer.generate_empty_keys_values(1, CONTEXT)
        for block, layer, cached in zip(self.transformer.blocks, entry._keys_values, past._keys_values, strict=True):
            kept = [tensor[row : row + 1] for tensor in cached.get()]
            if past.size > longest:
                kept = [tensor[:, :, 2 : 2 + _KEPT] + self._moved(to) for tensor, to in
                        zip(kept, (block.attn.key, block.attn.value), strict=True)]  # fmt: skip
            layer.update(*kept)
        return entry

    def _moved(self, to: Any) -> torch.Tensor:
        made = to(self.pos_emb.weight)
        return (made[:_KEPT] - made[2 : 2 + _KEPT]).view(1, _KEPT, HEADS, -1).transpose(1, 2)


class ComputingModel:
    """What a policy holds: the world model behind LightZero's two inferences."""

    def __init__(self, env_num: int = 2) -> None:
        self.world_model = ComputingWorldModel(env_num)

    def initial_inference(self, obs: Any, action: Any, shown: Any, start_pos: Any) -> Any:
        given = {"obs": obs, "action": action, "current_obs": shown}
        return self._output(self.world_model.forward_initial_inference(given, start_pos))

    def recurrent_inference(self, history: Any, index: int, depths: Any, start_pos: Any) -> Any:
        return self._output(self.world_model.forward_recurrent_inference(history, index, depths, start_pos))

    @staticmethod
    def _output(result: Any) -> Any:
        return SimpleNamespace(latent_state=result[1], value=result[1])


def _key(latent: Any) -> str:
    return hashlib.blake2b(torch.as_tensor(latent).numpy().tobytes(), digest_size=8).hexdigest()
