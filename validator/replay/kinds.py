"""What a shape of cache needs to be played again: how one is built, who plays on it, how its entries are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter, signature
from json import dumps
from typing import Any, ClassVar

from reports.record.trace import Form, Layout
from shadow.entries import TENSOR
from shadow.interface import CacheCapacities
from shadow.memory.buffers import WHOLE
from validator.proof.appends.stream import AppendPlayer
from validator.proof.shrink import Setting
from validator.proof.stream import Player
from validator.replay.bodies import Bodies, Body
from validator.shapes import find
from validator.shapes.append import AppendShape
from validator.shapes.shape import Shape

Plainer = Callable[[Any], Any]
_SIZES = ("num_simulations", "max_cache_size", "game_segment_length", "cache_capacity_rule")


class Kind(ABC):
    """What one shape needs.

    Attributes:
        name: What it is called.
        sizes: What of a config may be made smaller.
        player: Who plays.
        plainer: Each makes of what is recorded of an entry that of a plainer one.
    """

    name: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]] = ()
    player: ClassVar[type[Player]] = Player
    plainer: ClassVar[tuple[Plainer, ...]] = ()

    @abstractmethod
    def config(self, about: Mapping[str, Any], known: dict[str, Any], env_num: int) -> dict[str, Any]:
        """Return what sizes follow from, of the first line of an index and the config that stands there."""

    @abstractmethod
    def arguments(self, make: Callable[..., Any], config: Mapping[str, Any], env_num: int) -> str:
        """Return, as text, the arguments by which a class makes a cache of a config."""

    def sizes_in(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what of this config may be made smaller."""
        return self.sizes

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the shape of caches of a config."""
        return find(None, self.name)

    def bodies(self, kept: Mapping[Body, Any]) -> Bodies:
        """Return who makes entries of what is recorded of them; ``kept`` are those that are known whole."""
        return Bodies(kept=kept)

    def plainer_settings(self, setting: Setting) -> list[Setting]:
        """Return plainer caches of one env than those of a setting, to be tried."""
        return []

    def names(self) -> dict[str, Any]:
        """Return what ``arguments`` may name."""
        return {}


def _laid_out(layout: Layout, nest: Layout, form: Form) -> Plainer:
    """Return what lays out an entry like this, one that is a nest like that."""
    return lambda body: Body(body.digest, layout) if body.form is None else Body(body.digest, nest, form)


def _appended(rows: int | None, tokens: int | None) -> Plainer:
    """Return what makes an append one of one head and two numbers, of so many rows and tokens."""

    def plain(body: Body) -> Body:
        leaves = [leaf for leaf in body.layout if len(leaf[0]) == 4]
        if len(leaves) != len(body.layout):
            return body
        shapes = ((rows or shape[0], 1, shape[2] if tokens is None else tokens, 2) for shape, *_ in leaves)
        return body._replace(layout=tuple((shape, "float32", "cpu", WHOLE) for shape in shapes))

    return plain


_TINY: Layout = (((1, 1, 1, 2), "float32", "cpu", 1),) * 2  # one layer, one head, one token
_SMALL: Layout = (((2, 2, 3, 2), "float32", "cpu", 2),) * 4  # two of each
_TENSOR: Layout = (((2,), "float32", "cpu", WHOLE),)
_PAIR: Form = (("", "dict"), ("k", TENSOR), ("v", TENSOR))


class PoolsKind(Kind):
    name = "pools"
    sizes = ("num_simulations", "max_cache_size")
    plainer = (_laid_out(_SMALL, _TENSOR * 2, _PAIR), _laid_out(_TINY, _TENSOR, (("tensor", TENSOR),)))

    def config(self, about: Mapping[str, Any], known: dict[str, Any], env_num: int) -> dict[str, Any]:
        return known if known.keys() & set(_SIZES) else known | _config_of(about.get("policy"), env_num)

    def arguments(self, make: Callable[..., Any], config: Mapping[str, Any], env_num: int) -> str:
        fields = ", ".join(f"{_text(name)}: {_text(value)}" for name, value in config.items() if name != "capacity")
        return f"config={{{fields}}}, env_num={env_num}"


class MappingKind(Kind):
    """A mapping is made of its capacity, or of nothing; it keeps what it is given, so that each entry is made anew."""

    name = "mapping"
    plainer = PoolsKind.plainer

    def config(self, about: Mapping[str, Any], known: dict[str, Any], env_num: int) -> dict[str, Any]:
        policies = about.get("policy")
        declared = [each.get("capacity") for each in (policies or {}).values() if isinstance(each, Mapping)]
        sizes = [size for size in (*declared, known.get("capacity")) if type(size) is int and size > 0]
        return {"capacity": sizes[0]} if sizes else {}

    def arguments(self, make: Callable[..., Any], config: Mapping[str, Any], env_num: int) -> str:
        return str(config["capacity"]) if config and _takes_a_capacity(make) else ""

    def sizes_in(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(config)

    def bodies(self, kept: Mapping[Body, Any]) -> Bodies:
        return Bodies(anew=True, kept=kept)


class AppendKind(Kind):
    """An append cache is made of what its signature asks for: a config of transformers, windows, layers, room."""

    name = "append"
    player = AppendPlayer
    plainer = tuple(_appended(rows, tokens) for rows in (None, 2, 1) for tokens in (None, 1))

    def config(self, about: Mapping[str, Any], known: dict[str, Any], env_num: int) -> dict[str, Any]:
        said, layers, room = known.get("windows"), about.get("layers"), known.get("room")
        windows = [each if type(each) is int and each > 0 else None for each in said or ()]
        missing = min(layers, 1 << 12) - len(windows) if type(layers) is int else 0
        return {
            "windows": (*windows, *[None] * missing),
            "room": room if type(room) is int and room > 0 else 1 << 10,
        }

    def arguments(self, make: Callable[..., Any], config: Mapping[str, Any], env_num: int) -> str:
        windows, room = config["windows"], config["room"]
        layers = len(windows)
        known = {
            "config": _config_text(windows),
            "windows": f"{windows!r}",
            **dict.fromkeys(("max_cache_len", "room"), f"{room}"),
            **dict.fromkeys(("layers", "num_layers", "num_hidden_layers"), f"{layers}"),
        }
        try:
            asked = signature(make).parameters.values()
        except (TypeError, ValueError):
            return ""
        wanted = {"windows", *(["config"] if any(windows) else [])}
        given = [
            each for each in asked if each.name in known and (each.default is Parameter.empty or each.name in wanted)
        ]
        return ", ".join(f"{each.name}={known[each.name]}" for each in given)

    def shape(self, config: Mapping[str, Any]) -> Shape:
        return AppendShape(tuple(config["windows"]))

    def plainer_settings(self, setting: Setting) -> list[Setting]:
        windows = dict.fromkeys(setting.config["windows"])
        return [Setting({**setting.config, "windows": (window,)}, 1, ()) for window in windows]

    def names(self) -> dict[str, Any]:
        return {"PretrainedConfig": _pretrained_config}


_KINDS = {kind.name: kind for kind in (PoolsKind(), MappingKind(), AppendKind())}


def kind_of(about: Mapping[str, Any]) -> Kind:
    """Return the kind of the caches that a trace is of."""
    return _KINDS.get(str(about.get("shape")), _KINDS["pools"])


def _text(value: Any) -> str:
    return dumps(value) if isinstance(value, str) else repr(value)


@cache
def _takes_a_capacity(make: Callable[..., Any]) -> bool:
    try:
        make(1)
    except TypeError:
        return False
    return True


def _config_text(windows: tuple[int | None, ...]) -> str:
    """Return the least config of a model whose caches have these windows."""
    kinds = ", ".join(f'"{"sliding" if window else "full"}_attention"' for window in windows)
    window = max([each for each in windows if each], default=None)
    return f"PretrainedConfig(num_hidden_layers={len(windows)}, sliding_window={window}, layer_types=[{kinds}])"


def _pretrained_config(**fields: Any) -> Any:
    from transformers import PretrainedConfig

    return PretrainedConfig(**fields)


def _config_of(policy: Any, env_num: int) -> dict[str, Any]:
    """Return a config that asks for the capacities that a side declared, if one can."""
    for side in ("control", "candidate"):
        try:
            sizes = CacheCapacities(**policy[side]["capacities"])
            config = {"num_simulations": max(1, sizes.recur // env_num), "max_cache_size": sizes.init}
            if CacheCapacities.from_config(config, env_num) == sizes:
                return config
        except (KeyError, TypeError, ValueError):
            continue
    return {}
