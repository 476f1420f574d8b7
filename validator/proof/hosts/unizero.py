"""Faults planted in the embedded host: a small world model is played on scripted envs, both caches sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch

from reports.record.words import Cause
from shadow.entry import KeysValues
from shadow.hosts.unizero import world_model as host
from shadow.hosts.unizero.config import WorldModelConfig
from shadow.hosts.unizero.contexts import Contexts
from shadow.hosts.unizero.network import Network, build_network
from shadow.hosts.unizero.oracle import UnizeroRecomputer
from shadow.hosts.unizero.world_model import WorldModel
from shadow.legacy import LegacyKVCache
from shadow.manager import KVCacheManager
from shadow.switch import BuiltCache
from validator.config import OracleConfig
from validator.oracle.oracle import Oracle
from validator.proof.faults.acts import acted
from validator.proof.hosts.planted import Plant, PlantedInHost
from validator.proof.trial import Trial

ENV_NUM, OBSERVATION_DIM, NUM_ACTIONS = 3, 4, 2
_READY = ((0, 1, 2), (2, 0), (1, 2), (0, 1, 2), (1,), (2, 0, 1))  # rows are not env ids
_SIMULATIONS = 3
SIZES: dict[str, Any] = {
    **{"embed_dim": 16, "num_heads": 2, "num_layers": 2, "hidden_dim": 16, "value_bound": 5, "max_tokens": 20},
    **{"context_length": 8, "num_simulations": _SIMULATIONS, "max_cache_size": 8},
}


def lively_network(config: WorldModelConfig, seed: int = 0) -> Network:
    """Build a network in which every weight matters, also those that training starts at zero."""
    network = build_network(config, OBSERVATION_DIM, NUM_ACTIONS, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        network.transformer.distance_bias.normal_(0.0, 2.0, generator=generator)
    return network


def play(
    plant: Plant, with_oracle: bool, steps: int = 12, settings: OracleConfig | None = None, seed: int = 0
) -> Trial:
    """Play a world model on scripted envs: episodes of unequal length, searches, and new weights half-way.

    Args:
        plant: Puts a fault into it.
        with_oracle: Whether it is recomputed; by default all of it.
        steps: Vector steps.
        settings: What is followed, for other than all.
        seed: Of what the envs show and which actions are taken.
    """
    config = WorldModelConfig(**SIZES)
    trial = Trial(LegacyKVCache(config, ENV_NUM), KVCacheManager(config, ENV_NUM))
    model = WorldModel(lively_network(config), config, BuiltCache(trial.cache, trial.pair, ""))  # type: ignore[arg-type]
    with plant(model):
        if with_oracle:
            settings = settings or OracleConfig(envs=ENV_NUM, searches=1, budget=0.0)
            oracle = Oracle(trial.pair, UnizeroRecomputer(model, ENV_NUM), settings, seed=0)
        drive(model, steps, seed)
        if with_oracle:
            oracle.close()
    trial.finish()
    return trial


def drive(model: WorldModel, steps: int = 12, seed: int = 0) -> None:
    """Drive a world model by scripted envs: episodes of unequal length, searches, and new weights half-way."""
    draw = np.random.default_rng(seed)
    actions: dict[int, int | None] = dict.fromkeys(range(ENV_NUM))
    ends = {0: 5, 1: 7, 2: 11}  # after so many steps an episode of this env ends
    for step in range(steps):
        ready = _READY[step % len(_READY)]
        shown = draw.normal(size=(len(ready), OBSERVATION_DIM)).astype(np.float32)
        roots = model.initial_inference(ready, shown, [actions[env_id] for env_id in ready])
        model.prepare_roots(ready)
        model.start_search()
        nodes = [[latent] for latent in roots.latents]
        for _ in range(_SIMULATIONS):
            chosen = np.stack([known[int(draw.integers(len(known)))] for known in nodes])
            found = model.recurrent_inference(ready, chosen, draw.integers(NUM_ACTIONS, size=len(ready)).tolist())
            for known, latent in zip(nodes, found.latents, strict=True):
                known.append(latent)
        for env_id in ready:
            actions[env_id] = int(draw.integers(NUM_ACTIONS))
            if step and step % ends[env_id] == 0:
                model.episode_ended(env_id)
                actions[env_id] = None
        if step == steps // 2:
            with torch.no_grad():
                for parameter in model.network.parameters():
                    parameter.mul_(0.97)
            model.weights_moved()


# -- the faults --------------------------------------------------------------------------------------------------------


class _Between:
    """A host that passes on to its cache what it should not."""

    def __init__(self, cache: Any, **methods: Callable[..., Any]) -> None:
        self._cache = cache
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._cache, name)
        return partial(self._methods[name], real) if name in self._methods else real


def _rows_for_envs(model: Any) -> AbstractContextManager[Any]:
    """Take the row of an env in the batch for its id."""
    ready: list[int] = []
    real = model.initial_inference

    def initial_inference(env_ids: Any, *rest: Any) -> Any:
        ready[:] = env_ids
        return real(env_ids, *rest)

    def by_row(method: Any, env_id: int, *rest: Any) -> Any:
        acted(ready.index(env_id) != env_id)
        return method(ready.index(env_id), *rest)

    model.initial_inference = initial_inference
    names = ("get_init_cache", "set_init_cache", "hierarchical_get")
    model.cache = _Between(model.cache, **dict.fromkeys(names, by_row))
    return nullcontext()


def _envs_swapped(model: Any) -> AbstractContextManager[Any]:
    """Store the root of env 0 as that of env 1, and the reverse."""
    swap = {0: 1, 1: 0}

    def set_init_cache(method: Any, env_id: int, *rest: Any) -> Any:
        acted(env_id in swap)
        return method(swap.get(env_id, env_id), *rest)

    model.cache = _Between(model.cache, set_init_cache=set_init_cache)
    return nullcontext()


@contextmanager
def _contexts(kind: type[Contexts], model: Any) -> Iterator[None]:
    vars(host)["Contexts"] = kind
    try:
        yield
    finally:
        vars(host)["Contexts"] = Contexts


class _RowsMixed(Contexts):
    """The contexts of a batch, stacked in another order than its rows."""

    @classmethod
    def stack(cls, entries: Any, blank: Any) -> Contexts:
        mixed = entries if None in entries else [*entries[1:], *entries[:1]]
        acted(mixed is not entries and len(mixed) > 1)
        return super().stack(mixed, blank)


class _BatchLength(Contexts):
    """Short histories, stored with the length of the longest in the batch."""

    def entry(self, row: int) -> KeysValues:
        own, self.lengths[row] = self.lengths[row], max(self.lengths)
        acted(own != self.lengths[row])
        try:
            return super().entry(row)
        finally:
            self.lengths[row] = own


class _LayersSwapped(Contexts):
    """The first two layers, stored in each other's place."""

    def entry(self, row: int) -> KeysValues:
        first, second, *others = super().entry(row)._keys_values
        acted()
        return KeysValues.from_layers([second, first, *others])


class _KeysForValues(Contexts):
    """Keys stored as values, and the reverse."""

    def entry(self, row: int) -> KeysValues:
        entry = super().entry(row)
        for layer in entry._keys_values:
            layer._k_cache, layer._v_cache = layer._v_cache, layer._k_cache
        acted()
        return entry


class _PairTooLong(Contexts):
    """A window that keeps a pair more than it should when a root is trimmed."""

    def trim(self, row: int, kept: int) -> None:
        too_long = len(self.lengths) == 1 and kept + 2 < self.lengths[row]
        acted(too_long)
        super().trim(row, kept + 2 * too_long)


class _PairTooShort(Contexts):
    """A window that drops a pair too many to make room."""

    def make_room(self, tokens: int) -> None:
        acted(any(length + tokens + 2 > self.capacity for length in self.lengths))
        super().make_room(tokens + 2)


class _NextRow(Contexts):
    """The entry of the next row of the batch, stored as a row's own."""

    def entry(self, row: int) -> KeysValues:
        moved = len(self.lengths) > 1 == len(set(self.lengths))
        acted(moved)
        return super().entry((row + moved) % len(self.lengths))


def _padding_attended(model: Any) -> AbstractContextManager[Any]:
    """Attend to the empty cells of rows that are shorter than the longest."""
    transformer = model.network.transformer
    real = transformer._bias

    def longest(lengths: Any, n: int) -> Any:
        acted(len(set(lengths)) > 1)
        return real([max(lengths)] * len(lengths), n)

    transformer._bias = longest
    return nullcontext()


def _one_late(model: Any) -> AbstractContextManager[Any]:
    """Take every new token for one position later than it is."""
    transformer = model.network.transformer
    real = transformer._bias

    def masked(lengths: Any, n: int) -> Any:
        acted()
        return torch.where(real(lengths, n).isinf(), -torch.inf, real([each + 1 for each in lengths], n))

    transformer._bias = masked
    return nullcontext()


def _wrong_action(model: Any) -> AbstractContextManager[Any]:
    """Append another action than was taken, in the first row."""
    real = model._step_actions

    def other(contexts: Any, actions: Any, *rest: Any) -> Any:
        acted()
        return real(contexts, [int(not actions[0]), *actions[1:]], *rest)

    model._step_actions = other
    return nullcontext()


def _stale_root(model: Any) -> AbstractContextManager[Any]:
    """Go on from the root of the episode before, which was not cleared."""
    real, began = model.initial_inference, set()

    def initial_inference(env_ids: Any, shown: Any, actions: Any) -> Any:
        acted(any(each is None and env_id in began for env_id, each in zip(env_ids, actions, strict=True)))
        taken = [0 if each is None and env_id in began else each for env_id, each in zip(env_ids, actions, strict=True)]
        began.update(env_ids)
        return real(env_ids, shown, taken)

    model.initial_inference = initial_inference
    model.episode_ended = lambda env_id: None
    return nullcontext()


def _first_rows_mixed(model: Any) -> AbstractContextManager[Any]:
    """Append an action to the contexts of envs that only begin, as to those that go on."""
    real, prepare = model._step_actions, model.prepare_roots

    def every_row(contexts: Any, actions: Any, advance: Any = None) -> Any:
        acted(advance is not None and not all(advance))
        return real(contexts, actions)

    model._step_actions = every_row
    model.prepare_roots = lambda envs: prepare([each for each in envs if model._root_lengths[each] % 2])
    return nullcontext()


def _observations_rolled(model: Any) -> AbstractContextManager[Any]:
    """Encode what the envs show in another order than they stand in."""
    real = model.initial_inference

    def rolled(envs: Any, shown: Any, actions: Any) -> Any:
        acted(len(envs) > 1)
        return real(envs, shown[::-1].copy(), actions)

    model.initial_inference = rolled
    return nullcontext()


def nothing(model: Any) -> AbstractContextManager[Any]:
    """Plant nothing."""
    return nullcontext()


_FAULTS: tuple[tuple[str, Plant, tuple[Cause, ...]], ...] = (
    # Where an env has nothing under the number that it is taken for, its history is begun anew.
    ("the row of a batch taken for the env id", _rows_for_envs, (Cause.OTHER_HISTORY, Cause.HISTORY_BEGINS_OFF)),
    ("the roots of two envs swapped", _envs_swapped, (Cause.OTHER_HISTORY,)),
    ("contexts stacked in another order than the rows", partial(_contexts, _RowsMixed), (Cause.OTHER_HISTORY,)),
    ("the next row's entry stored", partial(_contexts, _NextRow), (Cause.OTHER_HISTORY,)),
    ("observations encoded in another order", _observations_rolled, (Cause.OTHER_HISTORY,)),
    ("the length of the batch stored", partial(_contexts, _BatchLength), (Cause.PADDED_LENGTH,)),
    ("padding of shorter rows attended to", _padding_attended, (Cause.PADDING_ATTENDED,)),
    ("new tokens taken for one position later", _one_late, (Cause.POSITION_OFF,)),
    ("a window kept one pair too long", partial(_contexts, _PairTooLong), (Cause.HISTORY_BEGINS_OFF,)),
    ("a window kept one pair too short", partial(_contexts, _PairTooShort), (Cause.HISTORY_BEGINS_OFF,)),
    ("first and continuing rows mixed", _first_rows_mixed, (Cause.HISTORY_BEGINS_OFF,)),
    ("the root of the episode before gone on from", _stale_root, (Cause.STALE_HISTORY,)),
    ("the wrong action appended", _wrong_action, (Cause.OTHER_TOKEN,)),
    ("layers stored in each other's place", partial(_contexts, _LayersSwapped), (Cause.LAYER_MIXED,)),
    ("keys stored as values", partial(_contexts, _KeysForValues), (Cause.LAYER_MIXED,)),
)
PLANTED_IN_UNIZERO = tuple(
    PlantedInHost(name, "embedded", causes, partial(play, plant), plant, "prepare_roots")
    for name, plant, causes in _FAULTS
)
