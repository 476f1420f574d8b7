"""Adversarial streams for append caches: what a host may do, at the edges of windows, batches and resets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator
from inspect import signature
from itertools import count
from typing import Any, NamedTuple

import torch

from shadow.operation import Given
from validator.proof.stream import LIFE_CYCLE, Player, Step

HEADS, WIDTH = 2, 4
_KINDS = ("reorder_cache", "batch_repeat_interleave", "batch_select_indices", "crop")


class AppendSpec(NamedTuple):
    """A recipe for what one ``update`` appends.

    Attributes:
        seed: What tells its values from those of others.
        rows: Rows.
        tokens: Tokens of each.
    """

    seed: int
    rows: int
    tokens: int


class AppendPlayer(Player):
    """Plays steps on an append cache: the layer of what is appended stands for the env, ``Given`` for a key.

    It counts for itself how many tokens each layer was given: a side that counts wrongly must not decide where the
    other one is told to put the next ones.
    """

    def __init__(self, cache: Any, life_cycle: Any = None, make: Callable[[Any], Any] | None = None) -> None:
        super().__init__(cache, life_cycle, make)
        self._seen: Counter[int | None] = Counter()

    def play(self, step: Step) -> Any:
        """Do one step and return what the cache answered; what it raises comes through."""
        if step.entry is not None:
            appended = self._make(step.entry)
            if step.verb != "update":
                return getattr(self._cache, step.verb)(*appended, step.env_id)
            seen, new = self._seen[step.env_id], appended[0].shape[2]
            self._seen[step.env_id] += new
            return self._cache.update(*appended, step.env_id, *positions(self._cache, seen, new))
        if step.verb in LIFE_CYCLE:
            return super().play(step)
        given = [argument(each) for each in step.key or ()]
        if step.verb == "reset":
            self._seen.clear()
        elif step.verb == "crop":
            (most,) = given
            for layer, seen in self._seen.items():
                self._seen[layer] = max(0, seen + most) if most < 0 else min(seen, most)
        return getattr(self._cache, step.verb)(*given)

    def _entry(self, spec: Any) -> Any:
        drawn = torch.Generator().manual_seed(spec.seed)
        return tuple(torch.randn(spec.rows, HEADS, spec.tokens, WIDTH, generator=drawn) for _ in range(2))


def positions(cache: Any, seen: int, new: int) -> tuple[Any, ...]:
    """Return where an update puts its tokens, for a cache that has to be told: transformers before 5.4."""
    if "cache_position" not in signature(cache.get_mask_sizes).parameters:
        return ()
    return ({"cache_position": torch.arange(seen, seen + new)},)


def argument(given: Any) -> Any:
    """Return what a method that rearranges is given, of what ``Given`` says."""
    if isinstance(given, tuple):
        return torch.tensor(given, dtype=torch.long)
    return getattr(torch, given.removeprefix("torch."), given) if isinstance(given, str) else given


def calls(
    windows: tuple[int | None, ...], seed: int = 0, room: int = 1 << 30, without: Container[str] = ()
) -> Iterator[Step]:
    """Make calls without end: a prefill of every edge, tokens, what rearranges, and a reset before the room is full.

    Args:
        windows: The window of each layer.
        seed: Same seed, same calls.
        room: Tokens that fit.
        without: What is not done, since a side can't: methods, and ``rows`` for another number of rows.
    """
    draw = torch.Generator().manual_seed(seed)
    edges = sorted({each for window in windows if window for each in (window - 1, window, window + 1)}) or [3, 5]
    narrowest = min((window for window in windows if window), default=None)

    def below(most: int) -> int:
        return int(torch.randint(most, (), generator=draw))

    seeds = count(seed << 32)

    def appended(tokens: int) -> Iterator[Step]:
        for layer in range(len(windows)):
            yield Step("update", layer, None, AppendSpec(next(seeds), rows, tokens))

    def rearranged(method: str, *given: Any) -> Step:
        return Step(method, None, Given(given))

    rows = 2
    while True:
        rows, seen = 1 + below(3) if "rows" not in without else rows, 0
        for _ in range(2 + below(3)):
            tokens = ([0, 1, *edges])[below(2 + len(edges))]
            for each in (tokens, *[1] * (1 + below(3))):
                if seen + each <= room:
                    yield from appended(each)
                    seen += each
            kind = below(4)
            if not seen:
                continue
            if _KINDS[kind] in without or (kind in (1, 2) and "rows" in without):
                pass
            elif kind == 0:
                yield rearranged("reorder_cache", tuple(below(rows) for _ in range(rows)))
            elif kind == 1 and rows <= 3:
                yield rearranged("batch_repeat_interleave", 2)
                rows *= 2
                yield from appended(1)
                seen += 1
            elif kind == 2 and rows > 1:
                kept = torch.randperm(rows, generator=draw)[: 1 + below(rows)].sort(descending=True).values
                yield rearranged("batch_select_indices", tuple(kept.tolist()))
                rows = len(kept)
            elif narrowest is None or seen < narrowest:
                gone = seen if below(3) == 0 else 1 + below(seen)
                yield rearranged("crop", -gone)
                seen -= gone
            if seen + 1 <= room:
                yield from appended(1)
                seen += 1
        yield rearranged("reset")
