"""Meets every cache that ``generate`` makes or is given, without an edit of the program that calls it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Final

from shadow.named import named
from shadow.wrapper.doors.append import NOT_IN_A_GRAPH

OLDEST: Final = (4, 56)
_MISSING: Final = "transformers is not installed here: pip install 'kv-lockstep[transformers]'"
_PARTS: Final = {"self_attention_cache": "", "cross_attention_cache": "cross attention"}  # of an encoder-decoder cache


class Unsupported(RuntimeError):
    """Says in one sentence why caches can't be met here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a cache when ``generate`` has it ready; whoever makes the candidate goes by it.

    Attributes:
        control: The cache that ``generate`` made or was given; it is not watched yet.
        model: The model that generates.
        config: Its configuration.
        batch_size: Rows of the batch, beams and returned sequences counted.
        max_length: Most tokens that it is going to hold.
        role: ``decoder``, ``assistant`` (of assisted decoding), or either with ``cross attention`` behind it.
        windows: The window of each layer, None for one that keeps everything, by the configuration; None where it
            doesn't say.
    """

    control: Any
    model: Any
    config: Any
    batch_size: int
    max_length: int
    role: str
    windows: tuple[int | None, ...] | None


def maker(name: str) -> Callable[[Asked], Any]:
    """Return what makes a candidate for each cache that is met, by ``package.module:callable``.

    Raises:
        Unsupported: If there is no such callable, it can't be called with an ``Asked`` alone, or no transformers that
            it could be asked for.
    """
    if find_spec("transformers") is None:
        raise Unsupported(_MISSING)
    try:
        made = named(name)
        with suppress(ValueError):  # of a builtin that has no signature
            inspect.signature(made).bind(None)
        return made
    except (TypeError, ValueError) as problem:
        what = "which makes the candidate of each cache that it is told of, called as MAKE(asked)"
        raise Unsupported(f"expected module:callable, {what} ({problem})") from None


@contextmanager
def every_cache(meet: Callable[[Asked], Any], ended: Callable[[Any], None] | None = None) -> Iterator[None]:
    """Call ``meet`` with every cache that any model prepares for generation, and let it go on with what that returns.

    Args:
        meet: Told of a cache; returns the object that ``generate`` is to use, mostly the same.
        ended: Told of a model whose ``generate`` is over; None for nobody.

    Raises:
        Unsupported: If transformers is not installed, or older than 4.56.
    """
    mixin = _generation_mixin()
    real = mixin._prepare_cache_for_generation
    signature = inspect.signature(real)

    @functools.wraps(real)
    def prepare(self: Any, *args: Any, **named: Any) -> Any:
        answer = real(self, *args, **named)
        asked = signature.bind(self, *args, **named).arguments
        generation_config, model_kwargs = asked["generation_config"], asked["model_kwargs"]
        rows = asked["batch_size"] * max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
        role = "assistant" if getattr(generation_config, "is_assistant", False) else "decoder"
        for name in ("cache", "past_key_values"):
            cache = model_kwargs.get(name)
            if cache is None:
                continue
            _refuse_full_graph(generation_config, cache)
            if not all(hasattr(cache, part) for part in _PARTS):
                windows = _windows(self.config)
                model_kwargs[name] = meet(
                    Asked(cache, self, self.config, rows, asked["max_cache_length"], role, windows)
                )
                continue
            for part, what in _PARTS.items():
                windows = None if what else _windows(self.config)
                told = Asked(
                    getattr(cache, part),
                    self,
                    self.config,
                    rows,
                    asked["max_cache_length"],
                    f"{role} {what}".strip(),
                    windows,
                )
                setattr(cache, part, meet(told))
        return answer

    whole = mixin.generate

    @functools.wraps(whole)
    def generate(self: Any, *args: Any, **named: Any) -> Any:
        try:
            return whole(self, *args, **named)
        finally:
            ended(self)  # type: ignore[misc]  # None was asked for above

    mixin._prepare_cache_for_generation = prepare
    if ended is not None:
        mixin.generate = generate
    try:
        yield
    finally:
        mixin._prepare_cache_for_generation = real
        mixin.generate = whole


def _generation_mixin() -> Any:
    try:
        version = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        raise Unsupported(_MISSING) from None
    known = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if known < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Unsupported(
            f"transformers {version} keeps its caches otherwise than from {oldest} on: install {oldest} or newer"
        )
    from transformers.generation.utils import GenerationMixin

    return GenerationMixin


def _windows(config: Any) -> tuple[int | None, ...] | None:
    """Return the windows that the library itself reads in a configuration."""
    from transformers.cache_utils import DynamicCache

    try:
        layers = DynamicCache(config=config).layers
    except Exception:  # a model of somebody's own, whose configuration says nothing of layers
        return None
    return tuple(getattr(layer, "sliding_window", None) for layer in layers) or None


def _refuse_full_graph(generation_config: Any, cache: Any) -> None:
    compiled = getattr(generation_config, "compile_config", None)
    if getattr(compiled, "fullgraph", False) and getattr(cache, "is_compileable", False):
        raise Unsupported(NOT_IN_A_GRAPH)
