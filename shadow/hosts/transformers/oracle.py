"""Recomputes sequences of a generation by one forward into a fresh cache, and reads what the watched caches hold.

Which tokens a sequence has is known from what ``generate`` prepares each input from: the whole sequences, in the order
that its rows should have, and their mask. So a cache that was never reordered, a wrong mask or position, and a prefix
of another prompt are seen, whatever the model was given. A row is recomputed alone, without its padding. The scores of
the next token are compared too: of what the last layer attends to, nothing is stored.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from shadow.hosts.transformers.generate import Asked
from shadow.recompute import Oracle, Place, Recomputed, Suspect, Suspicion, Tensors, UnknownModel

_PREPARES = "prepare_inputs_for_generation"
_UPDATES = "_update_model_kwargs_for_generation"  # told what the model answered, rows not yet reordered
_HOOKED = (_PREPARES, _UPDATES)
_TOKENS = {"attention_mask", "position_ids", "cache_position", "past_key_values", "cache"}  # all else adds to them
_EXACT = {"DynamicLayer", "DynamicSlidingWindowLayer", "StaticLayer", "StaticSlidingWindowLayer"}
_OTHERS = 8  # rows and generations that may explain what another holds


class SequencesRecomputer:
    """Implements ``shadow.recompute.Recomputer`` for one cache, over all generations that use it.

    Args:
        control: The control.
        candidate: The candidate; what it holds is judged where it has layers that can be read.
        model: The model that uses it first.
    """

    def __init__(self, control: Any, candidate: Any, model: Any) -> None:
        self.host = model
        self._sides = {"control": _weak(control), "candidate": _weak(candidate)}  # the host alone keeps them alive
        self._before: list[Tensor] = []  # the sequences of generations that are over
        self._model: Any = None

    @property
    def is_alive(self) -> bool:
        """Whether the host still holds the cache."""
        return self._side("control") is not None

    def follows(self, cache: Any) -> bool:
        """Tell whether this is the cache of the host that is followed."""
        return any(cache is self._side(side) for side in self._sides)

    def attach(self, oracle: Oracle) -> None:
        """Hook nothing yet: a generation has to begin."""
        self._oracle = oracle

    def detach(self) -> None:
        """Give the model its own methods back."""
        if self._model is not None:
            for name in _HOOKED:
                vars(self._model).pop(name, None)
            vars(self._model).update(self._own)
        self._model = None

    def begin(self, asked: Asked) -> None:
        """Follow a generation that is about to use the cache.

        Raises:
            UnknownModel: If the model prepares its inputs otherwise than transformers' own.
        """
        model = asked.model
        for name in _HOOKED:
            if not callable(getattr(model, name, None)):
                raise UnknownModel(f"the oracle looked for {name} in a {type(model).__name__} and did not find it")
        self.detach()
        why = _not_judged(asked)
        if why:
            self._oracle.not_judged(why)
            return
        self._rows = self._oracle.choose("sequences", asked.batch_size)
        self._model, self._own = model, {name: vars(model)[name] for name in _HOOKED if name in vars(model)}
        self._due = 1  # columns at which it is compared next
        self._prefix = -1  # columns that it held when the generation began
        self._ids: Tensor | None = None
        self._is_fed = False  # whether what the model answers next is of this cache
        self._fed: Tensor | None = None  # what was fed to each row, whatever rows were reordered since
        setattr(model, _PREPARES, self._hooked(getattr(model, _PREPARES)))
        setattr(model, _UPDATES, self._hooked_update(getattr(model, _UPDATES)))

    def end(self, model: Any) -> None:
        """Look at what the cache holds when a generation is over."""
        if model is not self._model:
            return
        with self._oracle.contained("recompute a sequence", model):
            if self._ids is not None:
                self._compare(self._ids, self._mask)
                self._before = [*self._before, self._ids[:, : self._held()]][-_OTHERS:]
        self.detach()

    def stored(self, place: Place, entry: Any) -> None:
        """Nothing: an append cache has no sets."""

    def looked_up(self, place: Place, answer: Any) -> None:
        """Note that rows moved: until inputs are prepared again, nobody knows which sequence is where."""
        if place.operation != "rearrange.crop":
            self._ids = None

    def _hooked(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def prepare(input_ids: Any, *args: Any, **named: Any) -> Any:
            with self._oracle.contained("recompute a sequence", self._model):
                self._prepared(input_ids, named)
            return real(input_ids, *args, **named)

        return prepare

    def _hooked_update(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def update(outputs: Any, *args: Any, **named: Any) -> Any:
            with self._oracle.contained("recompute a sequence", self._model):
                self._answered(getattr(outputs, "logits", None))
            return real(outputs, *args, **named)

        return update

    def _answered(self, logits: Any) -> None:
        """Compare now and then what is held, and the scores that the model gave for it."""
        fed, self._is_fed = self._is_fed, False
        if self._model is None or self._ids is None or not fed:
            return
        held = self._held()
        if held < self._due or held <= self._prefix:
            return
        whole = isinstance(logits, Tensor) and held == self._ids.shape[1] and logits.shape[0] == self._ids.shape[0]
        self._compare(self._ids, self._mask, logits[:, -1] if whole else None)
        # At once, behind the first reordering, and then ever more seldom.
        self._due = held + 1 if self._due == 1 else 2 * held

    def _prepared(self, ids: Tensor, named: dict[str, Any]) -> None:
        cache = named.get("cache", named.get("past_key_values"))
        if self._model is None or cache is None or not self.follows(cache):
            return
        mask, held = named.get("attention_mask"), self._held()
        beside = [name for name, each in named.items() if isinstance(each, Tensor) and name not in _TOKENS]
        if beside or named.get("inputs_embeds") is not None:
            self._oracle.not_judged(f"sequences of more than tokens: {', '.join(beside) or 'inputs_embeds'}")
            self._ids = None
            return
        if ids.shape[1] < held or (mask is not None and (mask.ndim != 2 or mask.shape[1] != ids.shape[1])):
            self._oracle.not_judged("sequences of which only the newest tokens are known")
            self._ids = None
            return
        if self._prefix < 0:
            self._prefix, self._prompt, self._fed = held, ids.shape[1], ids
        elif self._fed is not None:
            self._fed = (
                torch.cat([self._fed[:, :held], ids[:, held:]], 1) if self._fed.shape[0] == ids.shape[0] else None
            )
        self._ids = ids
        self._mask = torch.ones_like(ids) if mask is None else mask
        self._begun, self._is_fed = held, True

    # -- what is held, and what should be ------------------------------------------------------------------------------

    def _compare(self, ids: Tensor, mask: Tensor, scores: Tensor | None = None) -> None:
        held = self._held()
        if not held or held > ids.shape[1]:
            return
        for row in sorted(self._rows):
            if row >= ids.shape[0] or not self._oracle.affords():
                continue
            pad = int((mask[row, :held] == 0).sum())
            if pad == held or bool(mask[row, :pad].any()):
                self._oracle.not_judged("sequences with gaps in their mask")
                continue
            begins = [max(pad, held - columns) for columns in self._columns()]  # of what is compared of each layer
            found = {side: self._read(side, row, begins, held) for side in self._sides}
            read: dict[str, Tensors] = {side: tensors for side, tensors in found.items() if tensors}
            if read:
                self._judge(ids, mask, row, pad, held, begins, read, None if scores is None else scores[row])
            else:
                self._oracle.not_judged("caches whose layers can't be read")

    def _judge(
        self,
        ids: Tensor,
        mask: Tensor,
        row: int,
        pad: int,
        held: int,
        begins: list[int],
        found: dict[str, Tensors],
        scores: Tensor | None,
    ) -> None:
        own = ids[row : row + 1, pad:held]
        computed = self._recomputed(own)

        def expected(read: Callable[[list[Tensor], int], Tensors], first: int, tokens_alone: bool) -> Recomputed:
            def again(batch: int) -> Tensors:
                return read(self._recomputed(own.expand(batch, -1)), pad)

            def suspects() -> Iterator[Suspect]:
                for what, tensors, behind, detail in self._suspects(ids, mask, row, pad, held):
                    yield Suspect(what, read(tensors, behind), detail)

            return Recomputed(read(computed, pad), again, suspects, first, tokens_alone)

        rotary = any(hasattr(self._model.config, name) for name in ("rope_theta", "rope_parameters"))
        stored = expected(lambda tensors, behind: _cut(tensors, begins, behind), min(begins), rotary)
        agree = self._oracle.judge(Place(-1, "append.layers", "layers", row=row), found, stored)
        if agree and scores is not None:
            given = _scores([scores[None, None, None]])
            by_scores = expected(lambda tensors, behind: _scores(tensors), held - 1, False)
            self._oracle.judge(Place(-1, "append.scores", "scores", row=row), {"host": given}, by_scores)

    def _suspects(
        self, ids: Tensor, mask: Tensor, row: int, pad: int, held: int
    ) -> Iterator[tuple[Suspicion, list[Tensor], int, str]]:
        """Yield what may have been done, what that makes, the position of its first column, and what is said of it."""
        own = ids[row : row + 1, pad:held]
        if self._fed is not None and self._fed.shape[0] == len(ids):
            fed = self._fed[row : row + 1, pad:held]
            if fed.shape == own.shape and not torch.equal(fed, own):
                yield "another row", self._recomputed(fed), pad, "what was fed to this row, not reordered"
        for other in range(min(len(ids), _OTHERS)):
            if other != row and torch.equal(mask[other, :held], mask[row, :held]):
                theirs = ids[other : other + 1, pad:held]
                behind = own.clone()  # what the row was given last stands behind another's history
                behind[:, : max(0, self._begun - pad)] = theirs[:, : max(0, self._begun - pad)]
                for tokens in (theirs, behind):
                    yield "another row", self._recomputed(tokens), pad, f"row {other}"
        for number, before in enumerate(reversed(self._before), 1):
            if pad < self._prefix <= before.shape[1] and row < len(before):
                begun = torch.cat(
                    [before[row : row + 1, pad : self._prefix], ids[row : row + 1, self._prefix : held]], 1
                )
                told = f"the first {self._prefix} tokens are those of {number} generations before"
                yield "stale", self._recomputed(begun), pad, told
        positions = torch.arange(held - pad, device=ids.device)
        if pad:
            padded = ids[row : row + 1, :held]
            for at in (torch.cat([positions.new_ones(pad), positions]), torch.arange(held, device=ids.device)):
                yield "padding attended", self._recomputed(padded, at), 0, f"{pad} columns of it"
        newest = positions >= max(1, self._prompt - pad)
        for by in (*((pad,) if pad else ()), 1, -1):
            for moved in (positions + by, positions + by * newest):
                told = f"{abs(by)} too {'far' if by > 0 else 'near'}"
                yield "position off", self._recomputed(own, moved.clamp(min=0)), pad, told

    def _recomputed(self, ids: Tensor, positions: Tensor | None = None) -> list[Tensor]:
        """Run whole sequences of one length into a fresh cache.

        Returns:
            Keys and values of each layer in turn, and the scores of the next token ``(rows, 1, 1, vocabulary)``.
        """
        from transformers import DynamicCache

        cache, more = DynamicCache(), dict[str, Any]()
        if positions is not None:
            more["position_ids"] = positions[None].expand(len(ids), -1)
        known = inspect.signature(self._model.forward).parameters
        more["cache" if "cache" in known else "past_key_values"] = cache
        if "logits_to_keep" in known:
            more["logits_to_keep"] = 1
        answer = self._model.forward(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **more)
        stored = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        return [*stored, answer.logits[:, None, -1:]]

    def _side(self, name: str) -> Any:
        return self._sides[name]()

    def _held(self) -> int:
        """Return how many tokens the control says that it has seen."""
        return int(self._side("control").get_seq_length())

    def _columns(self) -> list[int]:
        """Return how many columns each layer keeps on both sides, as far as they can be read."""
        sides = [getattr(self._side(side), "layers", ()) for side in self._sides]
        keys = [[getattr(layer, "keys", None) for layer in layers] for layers in sides]
        return [
            min([each.shape[2] for each in both if isinstance(each, Tensor) and each.ndim == 4], default=0)
            for both in zip_longest(*keys)
        ]

    def _read(self, side: str, row: int, begins: list[int], held: int) -> list[Tensor]:
        """Return what a side holds of a row, keys and values of each layer, from there on; nothing if not all."""
        found = []
        for layer, begin in zip(getattr(self._side(side), "layers", ()), begins, strict=False):
            for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None)):
                if type(layer).__name__ not in _EXACT or not isinstance(tensor, Tensor):
                    return []
                oldest = max(0, held - tensor.shape[2])
                found.append(tensor.detach()[row : row + 1, :, begin - oldest : held - oldest])
        return found


def _cut(tensors: list[Tensor], begins: list[int], first: int) -> list[Tensor]:
    """Keep of each layer what lies from some position on, given the position of the first column."""
    return [tensor[:, :, begins[index // 2] - first :] for index, tensor in enumerate(tensors[:-1])]


def _scores(tensors: list[Tensor]) -> list[Tensor]:
    """Keep the scores alone, twice: what is judged are pairs."""
    return [tensors[-1], tensors[-1]]


def _weak(cache: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(cache)
    except TypeError:  # one that can't be referred to weakly is not judged, rather than kept alive
        return lambda: None


def _not_judged(asked: Asked) -> str:
    """Say why a generation can't be recomputed, or nothing."""
    if asked.role != "decoder":
        return f"the cache of {asked.role}"
    if getattr(asked.config, "is_encoder_decoder", False):
        return "a model with an encoder"
    return "the model is in training mode" if asked.model.training else ""
