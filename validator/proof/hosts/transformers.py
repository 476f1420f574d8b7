"""Faults planted in a tiny model that generates: what it is given is wrong, and both caches hold it alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from reports.record.words import Cause
from shadow.hosts.transformers.generate import Asked
from validator.config import OracleConfig
from validator.oracle.oracle import Oracle
from validator.proof.faults.acts import acted
from validator.proof.hosts.planted import Plant, PlantedInHost
from validator.proof.trial import Trial
from validator.shapes.append import AppendShape, watched_generation

_ROWS, _PROMPT, _NEW = 3, 9, 12
_PREPARES = "prepare_inputs_for_generation"


def tiny_model() -> Any:
    """Make a tiny random Llama, whose weights follow from a seed alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LlamaForCausalLM(config).eval()


def play(host: Callable[[Any], None], with_oracle: bool) -> Trial:
    """Let a host generate, both caches sound.

    Args:
        host: Given the model, which it may break, generates.
        with_oracle: Whether all its sequences are recomputed.

    Returns:
        The trial of the cache that it used first.
    """
    from transformers import DynamicCache

    trials: list[Trial] = []
    oracles: list[Oracle] = []

    def shadow(control: Any, candidate: Any, primary: str, name: str, shape: AppendShape) -> Any:
        trials.append(Trial(control, candidate, primary, shape=shape))
        return trials[-1].cache

    def recompute(cache: Any, recomputer: Any) -> None:
        settings = OracleConfig(sequences=_ROWS * 4, budget=0.0)
        oracles.append(Oracle(trials[-1].pair, recomputer, settings, seed=0))

    def candidate(asked: Asked) -> Any:
        return DynamicCache()

    with watched_generation(shadow, candidate, "control", "generate", recompute if with_oracle else None):
        host(tiny_model())
    for oracle in oracles:
        oracle.close()
    trials[0].finish()
    return trials[0]


def sound(model: Any, cache: Any = None, seed: int = 5, **more: Any) -> Any:
    """Generate from prompts of different lengths, padded on the left."""
    ids = torch.randint(2, 61, (_ROWS, _PROMPT), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    if cache is None:
        mask[1, :3] = 0
        ids[1, :3] = 0
    with torch.no_grad():
        return model.generate(
            ids, attention_mask=mask, past_key_values=cache, max_new_tokens=_NEW, do_sample=False, **more
        )


def _preparing(change: Callable[[dict[str, Any], Any], None], model: Any) -> AbstractContextManager[Any]:
    """Change what the model is given, once its inputs are prepared."""
    real = getattr(model, _PREPARES)

    def prepare(input_ids: Any, *args: Any, **named: Any) -> Any:
        prepared = real(input_ids, *args, **named)
        change(prepared, named.get("attention_mask"))
        return prepared

    prepare.__signature__ = __import__("inspect").signature(real)  # type: ignore[attr-defined]
    setattr(model, _PREPARES, prepare)
    return nullcontext()


def _unmasked(prepared: dict[str, Any], mask: Any) -> None:
    acted(not bool(prepared["attention_mask"].all()))
    prepared["attention_mask"] = torch.ones_like(prepared["attention_mask"])


def _positions_of_columns(prepared: dict[str, Any], mask: Any) -> None:
    new, seen = prepared["input_ids"].shape[1], prepared["attention_mask"].shape[1]
    acted(not bool(mask.all()))
    prepared["position_ids"] = torch.arange(seen - new, seen)[None].expand(len(mask), -1)


def _one_late(prepared: dict[str, Any], mask: Any) -> None:
    if prepared["input_ids"].shape[1] == 1:
        prepared["position_ids"] = prepared["position_ids"] + 1
        acted()


def _last_layer_unmasked(model: Any) -> AbstractContextManager[Any]:
    """Attend to left padding in the last layer alone, of which nothing is stored any more."""

    def before(layer: Any, args: Any, named: dict[str, Any]) -> Any:
        acted(named.get("attention_mask") is not None)
        return args, {**named, "attention_mask": None}

    handle: AbstractContextManager[Any] = (
        model.get_decoder().layers[-1].register_forward_pre_hook(before, with_kwargs=True)
    )
    return handle


def _rows_rolled(prepared: dict[str, Any], mask: Any) -> None:
    if prepared["input_ids"].shape[1] == 1:
        prepared["input_ids"] = prepared["input_ids"].roll(1, 0)
        acted(len(mask) > 1)


def _token_twice(prepared: dict[str, Any], mask: Any) -> None:
    if prepared["input_ids"].shape[1] == 1:
        prepared["input_ids"] = (prepared["input_ids"] - 1).clamp(min=0)  # of any vocabulary
        acted()


def _not_reordered(model: Any) -> AbstractContextManager[Any]:
    """Never reorder a cache in a search by beams."""

    def reorder(cache: Any, beams: Any) -> Any:
        acted(beams.tolist() != list(range(len(beams))))
        return cache

    model._reorder_cache = reorder
    return nullcontext()


def _reordered_wrongly(model: Any) -> AbstractContextManager[Any]:
    """Reorder the cache by other beams than were chosen."""

    def reorder(cache: Any, beams: Any) -> Any:
        cache.reorder_cache(beams.flip(0))
        acted(len(beams) > 1)
        return cache

    model._reorder_cache = reorder
    return nullcontext()


def _prefix_of_another(model: Any) -> None:
    """Go on, with another prompt, from what a cache holds of the one before."""
    from transformers import DynamicCache

    cache = DynamicCache()
    before = sound(model, cache=cache, seed=6)
    cache.crop(6 - cache.get_seq_length())
    assert before.shape[0] == _ROWS
    sound(model, cache=cache, seed=7)


def _planted(name: str, plant: Plant, *causes: Cause, use: Callable[[Any], Any] = sound) -> PlantedInHost:
    """List what can be planted in any model; it is played by generating so."""

    def host(model: Any) -> None:
        with plant(model):
            use(model)

    return PlantedInHost(name, "transformers", causes, partial(play, host), plant, _PREPARES)


_by_beams = partial(sound, num_beams=3)
PLANTED_IN_TRANSFORMERS = (
    _planted("left padding not masked", partial(_preparing, _unmasked), Cause.PADDING_ATTENDED),
    _planted("the last layer attends to padding", _last_layer_unmasked, Cause.UNEXPLAINED),
    _planted(
        "the column taken for the position of padded rows",
        partial(_preparing, _positions_of_columns),
        Cause.POSITION_OFF,
    ),
    _planted("a position shifted twice", partial(_preparing, _one_late), Cause.POSITION_OFF),
    _planted("new tokens given to the next row", partial(_preparing, _rows_rolled), Cause.OTHER_ROW, Cause.OTHER_TOKEN),
    _planted("another token given than was chosen", partial(_preparing, _token_twice), Cause.OTHER_TOKEN),
    _planted("a cache never reordered in a beam search", _not_reordered, Cause.OTHER_ROW, use=_by_beams),
    _planted("a cache reordered by the wrong beams", _reordered_wrongly, Cause.OTHER_ROW, use=_by_beams),
    PlantedInHost(
        "a prefix of another prompt", "transformers", (Cause.STALE_HISTORY,), partial(play, _prefix_of_another)
    ),
)
