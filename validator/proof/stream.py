"""Seeded operation streams that go where caches break, and the driver that plays them on any cache.

A stream is a sequence of ``Step``s, plain values: it can be played again, cut down to a shorter one that still shows a
difference, and printed as a program.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from shadow.entry import KeysValues, leaves
from shadow.interface import CacheCapacities
from shadow.memory.buffers import Leaf
from shadow.operation import Given

LAYERS, HEADS, TOKENS, HEAD_DIM = 2, 2, 8, 4
_DTYPES = ("float32", "float32", "float32", "bfloat16", "float64")
_PAYLOADS = ("plain", "plain", "plain", "nan", "inf", "zeros", "strided", "uneven")

_SETS = ("set_init_cache", "set_init_cache", "set_recur_cache", "set_recur_cache", "set_wm_cache")
_GETS = ("get_init_cache", "get_init_cache", "get_recur_cache", "hierarchical_get", "hierarchical_get", "get_wm_cache")
LIFE_CYCLE = ("weights_updated", "search_started", "episode_ended")


class EntrySpec(NamedTuple):
    """A recipe for one entry.

    Attributes:
        seed: What tells its values from those of others.
        tokens: Tokens put in; more than the buffer holds make it shift.
        batch: Batch size.
        dtype: Element type.
        payload: ``plain``, ``nan``, ``inf``, ``zeros`` (of both signs), ``strided`` or ``uneven`` (V shorter than K).
    """

    seed: int
    tokens: int
    batch: int = 1
    dtype: str = "float32"
    payload: str = "plain"


class Step(NamedTuple):
    """One thing a host does.

    Attributes:
        verb: Method of the cache interface, or of the life cycle.
        env_id: Environment, if the verb takes one.
        key: Cache key, if the verb takes one; ``Given`` of a verb that takes something else.
        entry: Recipe of what to store, for a set.
    """

    verb: str
    env_id: int | None = None
    key: Any = None
    entry: Any = None

    def __str__(self) -> str:
        keys = self.key if isinstance(self.key, Given) else (self.key,)
        given = [repr(value) for value in (self.env_id, *keys) if value is not None]
        if self.entry is not None:
            given.append(f"entry{tuple(self.entry)!r}")
        return f"{self.verb}({', '.join(given)})"


@dataclass(frozen=True, slots=True)
class Terrain:
    """What a stream may do.

    Attributes:
        env_num: Environments.
        capacities: What the pools hold; keys are drawn so that every pool wraps and repeats.
        batches: Batch sizes to draw from.
        one_layout: Whether all entries share dtype and batch size, for a side whose slots keep those of the first.
    """

    env_num: int = 3
    capacities: CacheCapacities = field(default_factory=lambda: CacheCapacities(init=4, recur=6, wm=3))
    batches: tuple[int, ...] = (1, 1, 1, 2, 3)
    one_layout: bool = False


def entry(spec: EntrySpec) -> KeysValues:
    """Make the entry of a recipe; the same recipe makes the same bits."""
    generator = torch.Generator().manual_seed(spec.seed)
    dtype = getattr(torch, spec.dtype)
    made = KeysValues(spec.batch, HEADS, TOKENS, HEADS * HEAD_DIM, LAYERS, dtype=dtype)
    for layer in made:
        for part, cache in enumerate((layer._k_cache, layer._v_cache)):
            if spec.payload == "strided":
                wide = torch.empty(spec.batch, HEADS, HEAD_DIM, TOKENS, dtype=dtype, device="cpu")
                cache._cache = wide.transpose(2, 3)
            tokens = max(0, spec.tokens - 1) if part and spec.payload == "uneven" else spec.tokens
            # Whatever dtype and device a planted fault has made the default, the bits are the same.
            drawn = torch.randn(
                spec.batch, HEADS, tokens, HEAD_DIM, generator=generator, dtype=torch.float32, device="cpu"
            )
            values = drawn.to(dtype)
            if spec.payload == "nan":
                values[..., ::3] = float("nan")
            elif spec.payload == "inf":
                values[..., ::3] = float("inf")
                values[..., 1::3] = float("-inf")
            elif spec.payload == "zeros":
                values[..., ::2] = -0.0
            for start in range(0, tokens, 3):  # in pieces, so that a full buffer shifts by odd and even amounts
                cache.update(values[:, :, start : start + 3])
    return made


def steps(seed: int, count: int, terrain: Terrain) -> Iterator[Step]:
    """Draw an adversarial stream: repeated keys, wraps, one key in several pools, reuse after clears.

    Args:
        seed: Same seed, same stream.
        count: Cache operations; life-cycle steps come on top.
        terrain: What it may do.

    Yields:
        Steps.
    """
    draw = random.Random(seed)
    sizes = terrain.capacities
    # Few enough keys to repeat, enough to overflow every pool; two of them differ only above bit 32.
    keys = [draw.getrandbits(64) for _ in range(max(sizes.init, sizes.recur) + 3)]
    keys.append(keys[0] ^ (1 << 40))
    recent: list[int] = []
    specs = [_spec(draw, terrain) for _ in range(48)]
    done = 0
    while done < count:
        key = draw.choice(keys) if not recent or draw.random() < 0.5 else draw.choice(recent)
        env_id = draw.randrange(terrain.env_num)
        dice = draw.random()
        done += 1
        if dice < 0.42:
            recent = [*recent[-5:], key]
            spec = draw.choice(specs)._replace(seed=done)
            verb = draw.choice(_SETS)
            yield Step(verb, env_id if verb == "set_init_cache" else None, key, spec)
        elif dice < 0.96:
            verb = draw.choice(_GETS)
            yield Step(verb, env_id if verb in ("get_init_cache", "hierarchical_get") else None, key)
        elif dice < 0.975:
            yield Step("clear_recur_cache")
            yield Step("search_started")
        elif dice < 0.99:
            yield Step("clear_init_cache", env_id)
            yield Step("episode_ended", env_id)
        elif dice < 0.994:
            yield Step("clear_init_caches")
        else:
            yield Step("clear_all")
            yield Step("weights_updated")


def _spec(draw: random.Random, terrain: Terrain) -> EntrySpec:
    tokens = draw.choice((0, 1, 2, 3, TOKENS - 1, TOKENS, TOKENS, TOKENS + 1, TOKENS + 2, TOKENS + 5))
    payload = draw.choice(_PAYLOADS)
    if terrain.one_layout:
        return EntrySpec(0, tokens, terrain.batches[0], _DTYPES[0], payload)
    return EntrySpec(0, tokens, draw.choice(terrain.batches), draw.choice(_DTYPES), payload)


@functools.cache
@torch.inference_mode(False)
def _pattern(spec: EntrySpec) -> tuple[list[Leaf], Any]:
    """Return leaves that are only ever copied from, and their layout; recipes are few, and players many."""
    source = leaves(entry(spec))
    return source, tuple((leaf.tensor.shape, leaf.tensor.stride(), leaf.tensor.dtype) for leaf in source)


def _mark(made: KeysValues, seed: int) -> None:
    """Make every tensor of an entry one of its kind: small whole numbers are exact in every dtype."""
    for index, leaf in enumerate(leaves(made)):
        if leaf.size:
            leaf.tensor[0, 0, 0] = torch.tensor((seed & 127, (seed >> 7) & 127, (seed >> 14) & 127, index + 1))


class Player:
    """Plays steps on a cache as a host would, with one scratch entry per layout that it writes over and over.

    Args:
        cache: The cache.
        life_cycle: Told of life-cycle steps; None to skip them.
        make: Makes the entry of a recipe; None for those of ``EntrySpec``.
    """

    def __init__(self, cache: Any, life_cycle: Any = None, make: Callable[[Any], Any] | None = None) -> None:
        self._cache = cache
        self._life_cycle = life_cycle
        self._scratch: dict[Any, KeysValues] = {}
        self._make = make or self._entry

    def play(self, step: Step) -> Any:
        """Do one step and return what the cache answered; what it raises comes through."""
        args: list[Any] = [value for value in (step.env_id, step.key) if value is not None]
        if step.verb in LIFE_CYCLE:
            return None if self._life_cycle is None else getattr(self._life_cycle, step.verb)(*args)
        if step.entry is not None:
            args.append(self._make(step.entry))
        return getattr(self._cache, step.verb)(*args)

    def play_all(self, stream: Iterable[Step]) -> int:
        """Do all steps, going on after what the cache raises; return how many were cache operations."""
        count = 0
        for step in stream:
            count += step.verb not in LIFE_CYCLE
            try:
                self.play(step)
            except Exception:  # a planted fault on the primary side; the pair has seen it
                continue
        return count

    def _entry(self, spec: EntrySpec) -> KeysValues:
        source, layout = _pattern(spec._replace(seed=spec.seed % 4))
        scratch = self._scratch.get(layout)
        if scratch is None:
            scratch = self._scratch[layout] = entry(spec)
        scratch.copy_from(source)
        _mark(scratch, spec.seed)
        return scratch
