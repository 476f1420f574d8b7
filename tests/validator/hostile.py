"""Candidates that do what they can against the host, and the host that they meet."""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from reports.record.words import Cause
from shadow.entry import KeysValues, leaves
from shadow.interface import CacheCapacities, CachePolicy
from shadow.manager import KVCacheManager
from shadow.wrapper import process_state
from tests.shadow.entries import make_entry
from tests.validator.trials import ENVS, manager
from validator.config import ValidationConfig
from validator.session import Lockstep


class Hostile(NamedTuple):
    """One way to be hostile.

    Attributes:
        name: What it does.
        make: Makes the candidate.
        causes: One of these must be charged to the candidate; none where there is nothing to charge.
        answers: Whether its calls are sound, so that it can be the primary too.
    """

    name: str
    make: Callable[[], Any]
    causes: tuple[Cause, ...]
    answers: bool = False


class Panic(BaseException):
    """What a Rust extension raises."""


class Mute(Exception):
    """What can't be written down."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Touchy:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise Panic(name)

    def __eq__(self, other: object) -> bool:
        raise Panic

    def __hash__(self) -> int:
        raise Panic


class Refuses(torch.Tensor):
    """A tensor that nothing can be done with."""

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        raise Panic


_SET = "set_recur_cache"
CALLS = ("get_init_cache", "get_recur_cache", "get_wm_cache", "hierarchical_get", "set_init_cache", "set_recur_cache",
         "set_wm_cache", "clear_all", "clear_init_caches", "clear_init_cache", "clear_recur_cache")  # fmt: skip
OPTIONAL = ("peek", "live_keys", "policy", "reset_stats", "__deepcopy__")
ATTRIBUTES = ("nbytes", "config", "env_num", "peek", "live_keys", "policy")
RAISED: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: RuntimeError("planted"),
    "what is no Exception": Panic,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration,
    "MemoryError": MemoryError,
    "an error without text": Mute,
    "an error with a surrogate": lambda: ValueError("\ud800" * 9999),
}


def overriding(**own: Any) -> Callable[[], Any]:
    """Make a manager with methods or attributes of its own."""

    def make() -> Any:
        made = manager()
        made.__class__ = type("Hostile", (KVCacheManager,), {**own, "__slots__": ()})
        return made

    return make


def fails(error: Callable[[], BaseException]) -> Callable[..., Any]:
    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise error()

    return fail


def returns(value: Callable[[], Any]) -> Callable[..., Any]:
    return lambda self, *args: value()


def reading(change: Callable[[KeysValues], Any]) -> Callable[[], Any]:
    """Answer entries that were changed, or something in their place."""

    def get(self: Any, cache_key: int) -> Any:
        found = KVCacheManager.get_recur_cache(self, cache_key)
        if found is None:
            return None
        own = found.clone()
        changed = change(own)
        return own if changed is None else changed

    return overriding(get_recur_cache=get)


def storing(change: Callable[[Any], Any]) -> Callable[[], Any]:
    """Do something to what was given, after it was stored."""

    def store(self: Any, cache_key: int, kv_cache: Any) -> Any:
        slot = KVCacheManager.set_recur_cache(self, cache_key, kv_cache)
        change(kv_cache)
        return slot

    return overriding(set_recur_cache=store)


def meddling(change: Callable[[Any], Any], method: str = "set_recur_cache") -> Callable[[], Any]:
    """Change the process before a call."""

    def call(self: Any, *args: Any) -> Any:
        change(self)
        return getattr(KVCacheManager, method)(self, *args)

    return overriding(**{method: call})


def _leaf(**own: Any) -> Callable[[KeysValues], None]:
    def change(entry: KeysValues) -> None:
        layer = entry._keys_values[0]
        layer._k_cache = type("Odd", (), {"_cache": layer._k_cache._cache, "_size": layer._k_cache._size, **own})()  # type: ignore[assignment]

    return change


def _entry(**own: Any) -> Callable[[Any], Any]:
    return lambda entry: type("Odd", (), own)()


def _endless(entry: Any) -> Any:
    same = property(lambda self: self)
    layers = property(lambda self: itertools.repeat(self))
    return type("Odd", (), {"_keys_values": layers, "_k_cache": same, "_v_cache": same, "_cache": 1, "_size": 1})()


def _freed(entry: Any) -> None:
    for leaf in leaves(entry):
        leaf.tensor.untyped_storage().resize_(0)


def _lists(value: Callable[[], Any]) -> Callable[[], Any]:
    return overriding(live_keys=returns(value))


_GUARDS: list[Any] = []


def _inference(self: Any) -> None:
    _GUARDS.append(torch.inference_mode())  # kept, since one that is dropped is left
    _GUARDS[-1].__enter__()


def _sizes(init: Any = 4, recur: Any = 4, wm: Any = 2) -> CacheCapacities:
    return CacheCapacities(init, recur, wm)


class Lies(list[Any]):
    def __len__(self) -> int:
        return -5

    def __iter__(self) -> Iterator[Any]:
        return itertools.count()


class Unasked(KVCacheManager):
    """Answers any attribute with an error of its own."""

    def __getattr__(self, name: str) -> Any:
        raise Panic(name)

    def __getattribute__(self, name: str) -> Any:
        if name in ("peek", "live_keys", "nbytes", "policy", "config", "env_num"):
            raise Panic(name)
        return super().__getattribute__(name)


def _candidates() -> Iterator[Hostile]:
    raised, odd, meddled = (Cause.RAISED,), (Cause.ODD,), (Cause.MEDDLED,)
    for method in CALLS:
        for what in ("an error", "what is no Exception"):
            yield Hostile(f"raises {what} in {method}", overriding(**{method: fails(RAISED[what])}), raised)
    for what, error in RAISED.items():
        yield Hostile(f"raises {what} in every get", overriding(**{m: fails(error) for m in CALLS[:4]}), raised)
        for method in OPTIONAL:
            yield Hostile(
                f"raises {what} in {method}",
                overriding(**{method: fails(error)}),
                raised if method != "policy" else (),  # what it declares is its own business, and said
                method != "reset_stats" and method != "__deepcopy__",
            )
        yield Hostile(f"raises {what} in nbytes", overriding(nbytes=property(fails(error))), raised, True)
        yield Hostile(
            f"answers that raise {what}", reading(_entry(_keys_values=property(fails(error)))), (Cause.SHAPE_OFF,)
        )
    for name in ATTRIBUTES:
        if name != "nbytes":
            yield Hostile(
                f"raises in the attribute {name}",
                overriding(**{name: property(fails(Panic))}),
                raised if name != "policy" else (),
                name in ("peek", "live_keys", "policy"),
            )
    yield Hostile("raises in all that is optional", lambda: _unasked(), raised)

    for value, what in (("text", "text"), (7, "a number"), (object(), "an object"), (Touchy(), "what raises")):
        yield Hostile(f"shows {what}", overriding(peek=returns(lambda value=value: value)), odd, True)
    yield Hostile("shows what another key holds", overriding(peek=returns(cache(lambda: make_entry(99.0)))), (), True)
    for name, listed in (
        ("nothing at all", lambda: None), ("a number", lambda: 7), ("text", lambda: "abc"), ("bytes", lambda: b"abc"),
        ("keys without end", itertools.count), ("lists", lambda: [[1], [2]]), ("what raises", lambda: [Touchy()]),
        ("a list that lies", Lies), ("None", lambda: [None]), ("what it doesn't hold", lambda: [12345, 5.5]),
        ("a generator that raises", lambda: (1 / 0 for _ in "ab")),
    ):  # fmt: skip
        yield Hostile(f"lists {name}", _lists(listed), (Cause.ODD, Cause.RAISED), True)
    yield Hostile("lists no key", _lists(list), (), True)
    for size in ("12", float("nan"), -1, 1e300, True, 10**400, [1], torch.tensor(3)):
        yield Hostile(f"is {size!r:.12} large", overriding(nbytes=size), odd, True)
    for name, policy in (
        ("text", lambda: "lru"), ("an object", object), ("what raises", Touchy),
        ("an unknown kind", lambda: CachePolicy("magic", _sizes())),  # type: ignore[arg-type]
        ("no sizes", lambda: CachePolicy("fifo", None)),  # type: ignore[arg-type]
        ("sizes below 0", lambda: CachePolicy("fifo", _sizes(-1))),
        ("sizes that are text", lambda: CachePolicy("fifo", _sizes("4"))),
    ):  # fmt: skip
        yield Hostile(f"declares {name}", overriding(policy=returns(policy)), (), True)
    for number in (-1, "2", 10**12, None):
        yield Hostile(f"has {number} envs", with_envs(number), ())
    yield Hostile("has a number of envs that raises", with_envs(Touchy()), raised)
    yield Hostile("copies to itself", overriding(__deepcopy__=lambda self, memo: self), odd)
    yield Hostile("copies to nothing", overriding(__deepcopy__=lambda self, memo: None), odd)
    yield Hostile("copies to an object", overriding(__deepcopy__=lambda self, memo: object()), raised)

    for name, answer in (
        ("layers without end", _endless),
        ("layers that raise", _entry(_keys_values=(Touchy(), Touchy()))),
        ("a lent entry without origin", _entry(is_lent=True)),
        ("NumPy arrays", lambda e: _leaf(_cache=np.zeros((1, 2, 8, 4), np.float32))(e)),
        ("no buffer", _leaf(_cache=None)), ("a buffer that raises", _leaf(_cache=Touchy())),
        ("a length that raises", _leaf(_size=Touchy())), ("a length of NaN", _leaf(_size=float("nan"))),
        ("a length of text", _leaf(_size="3")), ("a length below 0", _leaf(_size=-4)),
        ("a length beyond all", _leaf(_size=10**30)),
        ("a sparse tensor", _leaf(_cache=torch.zeros(1, 2, 8, 4).to_sparse())),
        ("a tensor of no device", _leaf(_cache=torch.zeros(1, 2, 8, 4, device="meta"))),
        ("a tensor that refuses", _leaf(_cache=torch.zeros(1, 2, 8, 4).as_subclass(Refuses))),
        ("freed memory", _freed), ("an exception", lambda e: Panic()), ("its class", lambda e: KeysValues),
        ("what raises", lambda e: Touchy()), ("text", lambda e: "entry"), ("False", lambda e: False),
    ):  # fmt: skip
        causes = (Cause.SHAPE_OFF, Cause.LENGTH_OFF, Cause.CORRUPTED, Cause.OTHER_KEY, Cause.UNKNOWN)
        yield Hostile(f"answers {name}", reading(answer), causes)

    for name, change in (
        ("the class of", lambda e: setattr(e, "__class__", type("Own", (KeysValues,), {"__slots__": ()}))),
        ("the layers of", lambda e: delattr(e, "_keys_values")),
        ("a layer of", lambda e: setattr(e, "_keys_values", (None,))),
        ("the buffers of", lambda e: setattr(e[0]._k_cache, "_cache", None)),
        ("the lengths of", lambda e: setattr(e[0]._k_cache, "_size", Touchy())),
        ("the memory of", _freed),
        ("the shape of", lambda e: leaves(e)[0].tensor.transpose_(1, 2)),
        ("the values of", lambda e: [leaf.tensor.data.fill_(3) for leaf in leaves(e)]),
    ):  # fmt: skip
        edited = () if name == "the class of" else (Cause.INPUT_EDITED,)
        yield Hostile(f"takes away {name} what it was given", storing(change), edited)

    for name in ("len", "bool", "eq", "hash", "repr", "iter", "contains", "sizeof"):
        yield Hostile(f"raises in __{name}__", overriding(**{f"__{name}__": fails(Panic)}), (), True)

    for name, method, meddle in (
        ("leaves inference mode on", _SET, _inference),
        ("leaves inference mode on after a get", "get_recur_cache", _inference),
        ("switches grad mode off", "get_recur_cache", lambda self: torch.set_grad_enabled(False)),
        ("changes the default dtype", _SET, lambda self: torch.set_default_dtype(torch.float64)),
        ("changes the default device", _SET, lambda self: torch.set_default_device("meta")),
        ("switches autocast on", _SET, lambda self: torch.set_autocast_enabled("cpu", True)),
        ("changes the thread number", _SET, lambda self: torch.set_num_threads(torch.get_num_threads() + 1)),
        ("changes deterministic algorithms", _SET, lambda self: torch.use_deterministic_algorithms(True)),
        ("flushes denormals", _SET, lambda self: torch.set_flush_denormal(True)),
        ("changes the matmul precision", _SET, lambda self: torch.set_float32_matmul_precision("medium")),
        ("changes numpy's error state", _SET, lambda self: np.seterr(all="raise")),
        ("detects anomalies", _SET, lambda self: torch.autograd.set_detect_anomaly(True)),
        ("changes the directory", _SET, lambda self: os.chdir("/")),
        ("changes the environment", _SET, lambda self: os.environ.update(PATH="")),
        ("takes a signal", _SET, lambda self: signal.signal(signal.SIGUSR1, signal.SIG_IGN)),
        ("draws and seeds", _SET, lambda self: (torch.manual_seed(1), np.random.seed(1))),
    ):  # fmt: skip
        yield Hostile(name, meddling(meddle, method), meddled)
    yield Hostile("leaves inference mode on in peek", meddling(_inference, "peek"), meddled, True)
    yield Hostile(
        "switches grad mode off in live_keys",
        meddling(lambda self: torch.set_grad_enabled(False), "live_keys"),
        meddled,
        True,
    )


def _unasked() -> Any:
    made = manager()
    made.__class__ = Unasked
    return made


def with_envs(number: Any) -> Callable[[], Any]:
    def make() -> Any:
        made = manager()
        made.init_pools = list(made.init_pools)
        made.__class__ = type(
            "Hostile", (KVCacheManager,), {"_init_pool": lambda self, env_id: self.init_pools[env_id]}
        )
        made.env_num = number
        return made

    return make


CANDIDATES = tuple(_candidates())


@cache
def _entries(number: int) -> KeysValues:
    return make_entry(number)


def host(cache: Any, told: Any = None) -> list[Any]:
    """Use a cache as a training does, and return all that it answered."""
    seen: list[Any] = []

    def saw(answer: Any) -> None:
        seen.append(
            None
            if answer is None
            else [(leaf.size, leaf.tensor[:, :, : leaf.size].tolist()) for leaf in leaves(answer)]
        )

    def use(cache: Any, numbers: range) -> None:
        for number in numbers:
            env_id, key = number % ENVS, number % 5
            cache.set_init_cache(env_id, key, _entries(number))
            saw(cache.get_init_cache(env_id, key))
            cache.set_recur_cache(key, _entries(number + 50))
            saw(cache.get_recur_cache(key))
            cache.set_wm_cache(key % 2, _entries(number + 90))
            saw(cache.get_wm_cache(key % 2))
            saw(cache.hierarchical_get(env_id, key))
            saw(cache.hierarchical_get(env_id, key + 1))

    use(cache, range(6))
    cache.clear_recur_cache()
    cache.clear_init_cache(0)
    use(cache, range(6, 8))
    use(copy.deepcopy(cache), range(8, 9))
    cache.reset_stats()
    seen.append(cache.get_stats_summary()["recur_pool"])
    cache.clear_init_caches()
    cache.clear_all()
    if told is not None:
        told.weights_updated()
    use(cache, range(9, 11))
    seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()))
    return seen


@cache
def _expected() -> list[Any]:
    return host(manager())


class Met(NamedTuple):
    """What came of one candidate.

    Attributes:
        unharmed: Whether the host was answered, and left, as without it.
        causes: What was charged to the candidate.
        others: Who else was charged with anything.
        faults: What the harness itself raised, or what the host met.
        summary: Whether the summary was written.
    """

    unharmed: bool
    causes: set[Cause]
    others: set[str]
    faults: list[str]
    summary: bool


def meet(hostile: Hostile, out: Path, primary: str = "control") -> Met:
    """Let a host meet a candidate."""
    before = process_state.state()
    expected = _expected()
    process_state.put_back(before)
    candidate = hostile.make()
    faults: list[str] = []
    answered: list[Any] = []
    lockstep = Lockstep(out, ValidationConfig(run_id=f"run-{primary}", selftest=False))
    try:
        shadow = lockstep.shadow(control=manager(), candidate=candidate, primary=primary)
        answered = host(shadow, lockstep)
    except BaseException as error:
        faults.append(f"the host met {type(error).__name__}")
    try:
        lockstep.close()
    except BaseException as error:
        faults.append(f"close met {type(error).__name__}")
    changed = process_state.changed(before, process_state.state())
    _GUARDS.clear()
    process_state.put_back(before)
    totals = lockstep.totals()
    groups = [group.split("|") for group in totals.divergences]
    faults += [
        f"{name} x{count}"
        for name, count in totals.dropped.items()
        if "deep copies" not in name and "only counted" not in name
    ]
    return Met(
        answered == expected and not changed,
        {Cause(cause) for _, cause, fault in groups if fault == "candidate"},
        {f"{cause} ({fault})" for _, cause, fault in groups if fault != "candidate"},
        faults + [f"left {name}" for name in changed],
        (lockstep.run_dir / "summary.json").exists(),
    )


def is_right(hostile: Hostile, met: Met) -> bool:
    """Tell whether nobody was harmed, and the candidate was charged if there was anything."""
    charged = bool(met.causes & {*hostile.causes}) if hostile.causes else not met.causes
    return met.unharmed and charged and not met.faults and met.summary and not met.others
