"""Follows the histories of some envs through one world model, and says for each entry it stores what it should be.

What comes in is taken for true: observations, actions, positions, the nodes of the search. What the model looks up,
pads, shifts and stores is recomputed from that and handed to whoever judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import torch

from shadow.hosts.lightzero.lineage import Chain, Lineage, Token, not_judged
from shadow.hosts.lightzero.suspects import Step, suspects
from shadow.recompute import Oracle, Place, Recomputed, Tensors, regions

ATTRIBUTE = "_kv_lockstep_oracle"
ROOTS, NODES = "forward_initial_inference", "forward_recurrent_inference"
_NO_ACTION = -1  # before an episode's first observation, as LightZero's policies give it
_MEASURED_EVERY = 10  # shifted roots from one measurement to the next

Env = tuple[str, int]  # the mode of the policy that it serves, empty where none is known, and its number


class Root(NamedTuple):
    """The last root of one env.

    Attributes:
        chain: Its history, None where its beginning is not known.
        latent: Its latent state as a token.
        step: Which step of its episode it is, negative where nobody says.
    """

    chain: Chain | None
    latent: Token
    step: int


class Seen:
    """What is seen of one inference while it runs.

    Attributes:
        found: By the number of an env, the valid regions of what was found for it; None for a miss.
        stored: Place and valid regions of what was stored, in its order.
    """

    def __init__(self) -> None:
        self.found: dict[int, Tensors | None] = {}
        self.stored: list[tuple[Place, Tensors]] = []


class LineageOracle:
    """Recomputes what one world model stores.

    Args:
        world_model: LightZero's, fully constructed.
    """

    lineage: Lineage
    _oracle: Oracle
    _followed: frozenset[int]  # envs

    def __init__(self, world_model: Any) -> None:
        self.host = self.model = world_model
        self._mode = ""
        self._told: list[int] | None = None  # the env of each row, where a policy said
        self._actions: dict[Env, Any] = {}
        self._roots: dict[Env, Root] = {}
        self._rows: list[Env] = []  # of the running search
        self._nodes: dict[bytes, Chain | None] = {}
        self._searching = False  # whether the running search is followed
        self._seen: Seen | None = None
        self._weights = -1
        self._steps_count = False  # whether step 0 of an episode can be told from others: some envs always say 0
        self._until_measured = 0
        self._before: dict[str, Any] = {}

    # -- in and out ---------------------------------------------------------------------------------------------------

    def attach(self, oracle: Oracle) -> None:
        """Begin to follow the envs that are chosen.

        Raises:
            UnknownModel: If the model is none that can be recomputed.
        """
        self.lineage = Lineage(self.model)
        self._oracle = oracle
        self._followed = oracle.choose("envs", int(self.model.env_num))
        self.put_in()

    def put_in(self) -> None:
        """Stand before both inferences of the model."""
        own = self.model.__dict__
        self._before = {name: own.get(name) for name in (ROOTS, NODES)}
        own[ROOTS] = partial(self._inferred, getattr(self.model, ROOTS), self._roots_follow)
        own[NODES] = partial(self._noded, getattr(self.model, NODES))
        own[ATTRIBUTE] = self

    def detach(self) -> None:
        """Leave the model as it was before."""
        own = self.model.__dict__
        for name, before in {**self._before, ATTRIBUTE: None}.items():
            own.pop(name, None)
            if before is not None:
                own[name] = before

    # -- what it is told ----------------------------------------------------------------------------------------------

    def serves(self, mode: str, envs: Iterable[int] | None) -> None:
        """Hear from a policy for which envs it infers next, row by row, and in which of its modes."""
        self._mode = mode
        self._told = None if envs is None else [int(env) for env in envs]

    def acted(self, mode: str, actions: Mapping[Any, Any]) -> None:
        """Hear which action each env takes."""
        self._actions |= {(mode, int(env)): action for env, action in actions.items()}

    def looked_up(self, place: Place, answer: Any) -> None:
        """See a lookup."""
        if self._seen is not None and place.env_id is not None:
            self._seen.found[place.env_id] = None if answer is None else regions(answer)

    def stored(self, place: Place, entry: Any) -> None:
        """See a set; the model uses the entry for the next row, but what it points to until the next inference."""
        if self._seen is not None:
            self._seen.stored.append((place, regions(entry)))

    # -- both inferences ----------------------------------------------------------------------------------------------

    def _inferred(self, infer: Callable[..., Any], follow: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
        seen = None
        with self._oracle.contained("the begin of an inference"):
            why = not_judged(self.model)
            if why:
                self._oracle.not_judged(why)
            else:
                seen = Seen()
        self._seen = seen
        try:
            result = infer(*args, **kwargs)
        finally:
            self._seen = None
        if seen is not None:
            followed = False
            with self._oracle.contained("a recomputation", self.model):
                follow(seen, result[1], *args, **kwargs)
                followed = True
            if not followed:  # who is lost is found again where a history begins
                self._forget()
        return result

    def _noded(self, infer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._searching:
            return infer(*args, **kwargs)
        return self._inferred(infer, self._nodes_follow, *args, **kwargs)

    def _roots_follow(self, seen: Seen, latents: Any, given: Mapping[str, Any], start_pos: Any = 0) -> None:
        if given.get("current_obs") is None:
            return  # targets of the training: nothing is cached
        weights = sum(weight._version for weight in self.model.parameters())
        if weights != self._weights:
            self._forget()
        self._weights, self._nodes = weights, {}
        count, actions = len(latents), given["action"]
        ids = self._told if self._told is not None and len(self._told) == count else given.get("ready_env_id")
        self._rows = [(self._mode, int(env)) for env in (range(count) if ids is None else ids)]
        self._searching = self._oracle.search_is_followed()
        steps = [_step(start_pos, row) for row in range(count)]
        self._steps_count = self._steps_count or max(steps, default=0) > 0

        def tokens_of(row: int) -> tuple[Token, ...]:
            action, shown = actions[row], self.lineage.latent(latents[row], 2 * steps[row])
            if isinstance(action, Integral) and action == _NO_ACTION:
                return (shown,)
            return (self.lineage.action(self._actions.get(self._rows[row], action), 2 * steps[row] - 1), shown)

        slots = self._slots(count)
        found = {slot: Chain(tensors, ()) for slot, tensors in seen.found.items() if tensors is not None}
        for row, env in enumerate(self._rows):
            if env[1] not in self._followed:
                continue
            last, step, slot = self._roots.pop(env, None), steps[row], slots[row]
            at = 2 * step
            shown, before = self.lineage.latent(latents[row], at), None
            anew = slot not in seen.found
            begins = anew or (step == 0 and self._steps_count and (last is None or last.step != 0))
            follows = last is not None and (step < 0 or last.step < 0 or step == last.step + 1)
            if anew and last is not None and step != 0:
                self._oracle.not_judged("whether the host rightly began a history anew amid an episode")
            if not begins and seen.found[slot] is None:
                began = last.latent if follows and last is not None else self._encoded(given["obs"][row : row + 1])
                before = self.lineage.follow(None, [began._replace(position=at)])
            elif not begins and follows and last is not None:
                before = last.chain
            chain = None
            if begins or before is not None:
                tokens = (shown,) if begins else tokens_of(row)
                made = Step(before, tokens, row, slots, found, tokens_of)
                chain = self._judge(made, [one for one in seen.stored if one[0].env_id == slot])
            else:
                self._oracle.not_judged("steps of a history whose beginning was not seen")
            self._roots[env] = Root(chain, shown, step)
            self._measure(chain)

    def _nodes_follow(
        self, seen: Seen, latents: Any, history: Any, index: int = 0, depths: Any = (), start_pos: Any = 0
    ) -> None:
        states, actions = history[-1]
        at = [2 * (_step(start_pos, row) + int(depths[row])) for row in range(len(latents))]

        def tokens_of(row: int) -> tuple[Token, ...]:
            return (
                self.lineage.action(actions[row], at[row] + 1),
                self.lineage.latent(latents[row], at[row] + 2),
            )

        slots = self._slots(len(latents))
        found = {slot: Chain(tensors, ()) for slot, tensors in seen.found.items() if tensors is not None}
        parents = [self._parent(env, state) for env, state in zip(self._rows, states, strict=True)]
        for row, env in enumerate(self._rows):
            name, before = _bytes(latents[row]), parents[row]
            self._nodes[name] = None
            if env[1] not in self._followed:
                continue
            if seen.found.get(slots[row], ()) is None:
                before = self.lineage.follow(None, [self.lineage.latent(states[row], 2 * _step(start_pos, row))])
            if before is None:
                self._oracle.not_judged("nodes whose history is not followed")
                continue
            step = Step(before, tokens_of(row), row, slots, found, tokens_of)
            self._nodes[name] = self._judge(step, seen.stored[row : row + 1])

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _judge(self, step: Step, stored: list[tuple[Place, Tensors]]) -> Chain | None:
        """Have one stored entry judged; return the history to go on from, which is the stored one where it differs."""
        if not stored:
            self._oracle.not_judged("steps after which the host stored nothing")
            return None
        place, got = stored[-1]
        if not self._oracle.affords():
            return _gone_on_from(got, step)
        want = self.lineage.follow(step.before, step.tokens)
        expected = Recomputed(
            want.tensors,
            lambda rows: self.lineage.follow(step.before, step.tokens, rows).tensors,
            lambda: suspects(self.lineage, step, int(got[0].shape[2])),
            want.tokens[0].position if self.lineage.rotary else 0,
        )
        if self._oracle.judge(place, {"host": got}, expected) is not False:
            return want
        return _gone_on_from(got, step)  # what follows is news

    def _measure(self, chain: Chain | None) -> None:
        if chain is None or not chain.shifted or chain.length != len(chain.tokens):
            return
        self._until_measured -= 1
        if self._until_measured <= 0:
            self._until_measured = _MEASURED_EVERY
            self._oracle.measured("shift error", self.lineage.shift_error(chain))

    def _slots(self, count: int) -> list[int]:
        """Return the number of each row's env as the store counts them: release 0.2.0 goes by rows."""
        numbers = getattr(self.model, "current_infer_env_ids", None)
        return list(range(count)) if numbers is None else [int(number) for number in numbers[:count]]

    def _parent(self, env: Env, state: Any) -> Chain | None:
        """Return the history under a key as the store finds it: among the env's roots, then among all nodes."""
        name, root = _bytes(state), self._roots.get(env)
        if root is not None and _bytes(root.latent.embedding) == name:
            return root.chain
        return self._nodes.get(name)

    def _encoded(self, observation: Any) -> Token:
        return self.lineage.latent(self.model.tokenizer.encode_to_obs_embeddings(observation), 0)

    def _forget(self) -> None:
        self._roots.clear()
        self._nodes.clear()


def _gone_on_from(stored: Tensors, step: Step) -> Chain:
    """Return the history after a step as it was stored, taken for true."""
    before, tensors = step.before, [tensor.clone() for tensor in stored]
    known = (*(() if before is None else before.tokens), *step.tokens)
    length = int(tensors[0].shape[2])
    return Chain(tensors, known[-length:], length < len(known) or (before is not None and before.shifted))


def _bytes(latent: Any) -> bytes:
    return torch.as_tensor(latent).detach().cpu().numpy().tobytes()


def _step(start_pos: Any, row: int) -> int:
    """Return the step of a row's episode; negative where one number stands for all rows."""
    if isinstance(start_pos, int) or len(start_pos) <= row:
        return -1
    return int(torch.as_tensor(start_pos[row]).reshape(-1)[0])
