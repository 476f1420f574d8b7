"""Recomputes without a cache what the embedded world model stores: roots at every step, nodes of some searches.

It sees what the collector and the search hand to the world model, keeps a history of each env from that, and never
looks at what the world model makes of it. A history begins anew with an episode, with new weights, and where the cache
no longer holds the root before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from shadow.hosts.unizero.history import History
from shadow.hosts.unizero.world_model import WorldModel, latent_key
from shadow.recompute import Oracle, Place, Recomputed, Suspect, UnknownModel, regions

_HOOKED = ("initial_inference", "prepare_roots", "start_search", "recurrent_inference", "weights_moved")
_NEEDED = ("encode", "normalise", "latent_token", "action_token", "next_latent_head")
_LOST = "what follows from what was charged"


class UnizeroRecomputer:
    """Implements ``shadow.recompute.Recomputer``.

    Args:
        world_model: The world model; its methods are wrapped while an oracle is attached.
        env_num: Environments.
    """

    def __init__(self, world_model: WorldModel, env_num: int) -> None:
        self.host = self._model = world_model
        self._env_num = env_num
        self._histories: dict[int, History] = {}
        self._before: dict[int, History] = {}  # one step ago
        self._keys: dict[int, int] = {}  # under which the last root lies
        self._lost: set[int] = set()  # envs of which what is stored was charged, until they begin anew
        self._nodes: dict[int, History] | None = None  # of the running search by key; None where it isn't followed
        self._sets: list[tuple[Place, Any]] = []  # since the host was last called
        self._missed: set[tuple[int | None, int | None]] = set()  # by env and key, since then

    def attach(self, oracle: Oracle) -> None:
        """Wrap the methods of the world model; see ``shadow.recompute.Recomputer``."""
        model, network = self._model, self._model.network
        for owner, names in ((model, _HOOKED), (network, _NEEDED), (network.transformer, ("layers", "distance_bias"))):
            for name in names:
                if not hasattr(owner, name):
                    raise UnknownModel(
                        f"the oracle looked for {name} in a {type(owner).__name__}, to recompute what it stores, and "
                        "did not find it; train the embedded world model, or leave --oracle and the table oracle away"
                    )
        self._oracle = oracle
        self._followed = oracle.choose("envs", self._env_num)
        self._own = {name: vars(model).get(name) for name in _HOOKED}
        for name in _HOOKED:
            setattr(model, name, self._hooked(name, getattr(model, name)))

    def detach(self) -> None:
        """Give the world model its own methods back."""
        for name, own in self._own.items():
            if own is None:
                delattr(self._model, name)
            else:
                setattr(self._model, name, own)

    def stored(self, place: Place, entry: Any) -> None:
        """Keep what is stored until the call is over: by then it is known what it should be."""
        if place.pool in ("init", "recur"):
            self._sets.append((place, entry))

    def looked_up(self, place: Place, answer: Any) -> None:
        """Note a miss: from there a history begins anew."""
        if answer is None:
            self._missed.add((place.env_id, place.key))

    def _hooked(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        follow = getattr(self, f"_{name}")

        def call(*args: Any, **named: Any) -> Any:
            self._sets.clear()
            self._missed.clear()
            answer = real(*args, **named)
            with self._oracle.contained(f"follow {name}"):
                follow(answer, *args, **named)
            return answer

        return call

    # -- what the host does, one method each ---------------------------------------------------------------------------

    def _initial_inference(
        self, answer: Any, env_ids: Sequence[int], observations: Any, last_actions: Sequence[int | None]
    ) -> None:
        for env_id, observation, action, latent in zip(
            env_ids, observations, last_actions, answer.latents, strict=True
        ):
            known = self._histories.get(env_id)
            anew = known is None or action is None or (env_id, self._keys.get(env_id)) in self._missed
            if anew:
                self._lost.discard(env_id)
            self._before[env_id] = known or self._new()
            self._histories[env_id] = self._stepped(self._new() if anew else known, action, np.array(observation))
            self._keys[env_id] = latent_key(latent, self._model.config.key_buckets)
        rows = dict(zip(env_ids, zip(last_actions, observations, strict=True), strict=True))
        for place, entry in self._sets:
            self._root(place, entry, lambda env_id: self._root_suspects(env_id, rows))

    def _prepare_roots(self, _: Any, env_ids: Sequence[int]) -> None:
        capacity = self._model.config.context_length
        for env_id in env_ids:
            history = self._histories.get(env_id)
            if history and history.length + 2 > capacity and (env_id, self._keys[env_id]) not in self._missed:
                self._before[env_id] = history.fork()
                history.trim((capacity // 2 - 1) | 1)
        for place, entry in self._sets:
            self._root(place, entry, self._trim_suspects)

    def _start_search(self, _: Any) -> None:
        self._nodes = {} if self._followed and self._oracle.search_is_followed() else None

    def _recurrent_inference(self, answer: Any, env_ids: Sequence[int], latents: Any, actions: Sequence[int]) -> None:
        if self._nodes is None:
            return
        if self._model.config.key_buckets:
            self._oracle.not_judged("nodes under keys of rounded latents", len(env_ids))
            return
        entries = {place.key: (place, entry) for place, entry in self._sets if place.pool == "recur"}
        parents = [self._parent(env_id, latent) for env_id, latent in zip(env_ids, latents, strict=True)]
        for row, (env_id, parent) in enumerate(zip(env_ids, parents, strict=True)):
            if parent is None or env_id not in self._followed:
                continue
            child, key = self._child(parent, actions[row]), latent_key(answer.latents[row])
            others = {env_ids[at]: one for at, one in enumerate(parents) if one is not None and at != row}
            place, entry = entries.get(key, (None, None))
            if place is None or not self._oracle.affords():
                self._nodes[key] = child
                continue
            suspects = self._node_suspects(parent, actions[row], others)
            if self._agrees(place._replace(env_id=env_id, row=row), entry, child, suspects):
                self._nodes[key] = child

    def _weights_moved(self, _: Any) -> None:
        self._histories.clear()
        self._nodes = None

    # -- histories -----------------------------------------------------------------------------------------------------

    def _new(self) -> History:
        return History(self._model.network, self._model.config.context_length)

    def _stepped(self, history: History | None, action: int | None, observation: Any, late: int = 0) -> History:
        """Return a history with an action, if it has anything that this could follow, and what the env then showed.

        From the action on it begins so many tokens too late.
        """
        stepped = (history or self._new()).fork()
        if stepped.tokens and action is not None:
            stepped.make_room()
            stepped.start += late
            stepped.act(action)
        stepped.observe(observation)
        return stepped

    def _parent(self, env_id: int, latent: Any) -> History | None:
        """Return the history of the node that a step begins from: one that is gone begins anew, from its latent."""
        key = latent_key(latent)
        if (env_id, key) in self._missed:
            alone = self._new()
            alone.imagine(np.array(latent))
            return alone
        if key == self._keys.get(env_id):
            return None if env_id in self._lost else self._histories.get(env_id)
        return (self._nodes or {}).get(key)

    def _child(self, parent: History, action: int, padding: int = 0, late: int = 0, begins_late: int = 0) -> History:
        child = parent.fork()
        child.make_room()
        child.start += begins_late
        child.act(action)
        acted = child.fork()
        child.imagine(lambda: acted.next_latent(padding, late))
        return child

    def _agrees(self, place: Place, entry: Any, history: History, suspects: Iterator[Suspect]) -> bool:
        """Recompute a history and have it judged; return False if something else was stored."""
        agrees: bool | None = None
        with self._oracle.contained("recompute a history", self._model.network):
            make, first = history.keys_values, len(history.tokens) - history.length
            expected = Recomputed(make(), make, lambda: suspects, first, tokens_alone=True)
            agrees = self._oracle.judge(place, {"host": regions(entry)}, expected)
        return agrees is not False

    def _root(self, place: Place, entry: Any, suspects: Callable[[int], Iterator[Suspect]]) -> None:
        env_id = place.env_id
        if place.pool != "init" or env_id not in self._followed or env_id is None:
            return
        history = self._histories.get(env_id)
        if history is None or env_id in self._lost:
            self._oracle.not_judged(_LOST if env_id in self._lost else "roots of which no history is known")
        elif self._oracle.affords() and not self._agrees(place, entry, history, suspects(env_id)):
            self._lost.add(env_id)

    # -- what the host may have done instead ---------------------------------------------------------------------------

    def _root_suspects(self, env_id: int, rows: dict[int, tuple[int | None, Any]]) -> Iterator[Suspect]:
        for other, history in self._histories.items():
            if other != env_id:
                yield Suspect("another env", history.keys_values(), f"env {other}")
        if env_id not in rows:
            return
        before, (action, seen) = self._before[env_id], rows[env_id]
        actions = range(self._model.network.action_token.num_embeddings)
        if action is None:
            for taken in actions:
                yield Suspect("stale", self._stepped(before, taken, seen).keys_values(), "that of the episode before")
            yield Suspect("stale", self._stepped(before, None, seen).keys_values(), "that of the episode before")
        for other, theirs in self._before.items():
            if other != env_id and theirs.tokens:
                told = f"that of env {other} before this step"
                yield Suspect("another env", self._stepped(theirs, action, seen).keys_values(), told)
        for other, (_, shown) in rows.items():
            if other != env_id:
                told = f"what env {other} showed"
                yield Suspect("another env", self._stepped(before, action, shown).keys_values(), told)
                yield Suspect("another env", self._stepped(None, None, shown).keys_values(), f"only {told}")
        for taken in actions:
            if action not in (None, taken):
                told = f"action {taken} in the place of {action}"
                yield Suspect("another token", self._stepped(before, taken, seen).keys_values(), told)
        for late in _beginnings(before):
            yield Suspect("begins elsewhere", self._stepped(before, action, seen, late).keys_values(), _told(late))
        yield Suspect("begins elsewhere", self._stepped(None, None, seen).keys_values(), "with the newest latent")
        for taken in actions:
            sooner = self._new()
            sooner.act(taken)
            sooner.observe(seen)
            yield Suspect("begins elsewhere", sooner.keys_values(), f"with action {taken} before the newest latent")
        own = self._histories[env_id]
        lengths = [other.length for other in self._histories.values()]
        yield from _misplaced(lambda *how: own.keys_values(1, *how), own.length, lengths)

    def _trim_suspects(self, env_id: int) -> Iterator[Suspect]:
        yield Suspect("begins elsewhere", self._before[env_id].keys_values(), "nothing was dropped")
        for late in _beginnings(self._histories[env_id]):
            off = self._histories[env_id].fork()
            off.start += late
            yield Suspect("begins elsewhere", off.keys_values(), _told(late))

    def _node_suspects(self, parent: History, action: int, others: dict[int, History]) -> Iterator[Suspect]:
        for other, theirs in others.items():
            yield Suspect("another env", self._child(theirs, action).keys_values(), f"env {other}")
        for taken in range(self._model.network.action_token.num_embeddings):
            if taken != action:
                told = f"action {taken} in the place of {action}"
                yield Suspect("another token", self._child(parent, taken).keys_values(), told)
        for late in _beginnings(parent):
            off = self._child(parent, action, begins_late=late)
            yield Suspect("begins elsewhere", off.keys_values(), _told(late))
        alone = self._new()
        alone.tokens, alone.sees_from = parent.tokens[-1:], [0]
        told = "with the latent that the step began from"
        yield Suspect("begins elsewhere", self._child(alone, action).keys_values(), told)
        lengths = [other.length for other in others.values()]
        yield from _misplaced(
            lambda *how: self._child(parent, action, *how).keys_values(1, *how), parent.length, lengths
        )


def _beginnings(history: History) -> Iterator[int]:
    """List by how many tokens too late, or too early, a context may begin."""
    begin = history.start
    while begin + history.capacity < len(history.tokens) + 2:  # what is about to be dropped to make room
        begin += 2
    for late in (-2, 2, -4, 4):
        if 0 <= begin + late < len(history.tokens):
            yield late


def _told(late: int) -> str:
    return f"{abs(late)} tokens too {'late' if late > 0 else 'early'}"


def _misplaced(make: Callable[[int, int], list[Tensor]], length: int, lengths: list[int]) -> Iterator[Suspect]:
    """Suspect that the newest tokens attended to padding up to another row's length, or took another place."""
    for padding in sorted({each - length for each in lengths if each > length}):
        yield Suspect("padding attended", make(padding, 0), f"{padding} cells of it")
    for late in (-2, -1, 1, 2):
        yield Suspect("position off", make(0, late), f"{abs(late)} too {'far' if late > 0 else 'near'}")
