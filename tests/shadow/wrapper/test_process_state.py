"""What a training stands on process-wide: each part is seen when it changes, and put back."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from shadow.wrapper import process_state
from shadow.wrapper.both import LOOK_EVERY, LOOK_FIRST, MODES_EVERY
from shadow.wrapper.doors.pools import OPERATIONS, ShadowCache
from shadow.wrapper.process_state import EVERYTHING, MODES, changed, put_back, state
from tests.guards import guards
from tests.shadow.entries import make_entry
from tests.shadow.observers import Recorder

KEPT: list[Any] = []


def _inference(enabled: bool = True) -> None:
    KEPT.append(torch.inference_mode(enabled))
    KEPT[-1].__enter__()


def _function_mode() -> None:
    class Mode(torch.overrides.TorchFunctionMode):
        pass

    KEPT.append(Mode())
    KEPT[-1].__enter__()


CHANGES: dict[str, Callable[[], Any]] = {
    "inference mode": _inference,
    "grad mode": lambda: torch.set_grad_enabled(not torch.is_grad_enabled()),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "function modes": _function_mode,
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "thread number": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "deterministic fill uninitialized memory": lambda: torch._C._set_deterministic_fill_uninitialized_memory(False),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
    "cudnn deterministic": lambda: torch._C._set_cudnn_deterministic(not torch._C._get_cudnn_deterministic()),
    "math sdp enabled": lambda: torch.backends.cuda.enable_math_sdp(False),
    "flushing of denormals": lambda: torch.set_flush_denormal(True),
    "numpy error state": lambda: np.seterr(all="raise"),
    "environment": lambda: os.environ.pop("PATH"),
    "working directory": lambda: os.chdir("/"),
    "signal handlers": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "warnings that are errors": lambda: warnings.simplefilter("error", FutureWarning),
    "exception hook or output": lambda: setattr(sys, "excepthook", print),
    "garbage collection": gc.disable,
    "torch generator": lambda: torch.rand(1),
    "python generator": random.random,
    "numpy generator": np.random.randn,
}


@pytest.fixture(autouse=True)
def _all_as_it_was() -> Iterator[None]:
    before = state()
    yield
    KEPT.clear()
    assert put_back(before) == []


@guards("shadow/wrapper/process_state.py", "if part.put_back is not None and old != part.read():", "if False:")
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_change_is_seen_and_put_back(name: str) -> None:
    before = state()
    CHANGES[name]()
    assert name in changed(before, state())
    assert put_back(before) == []
    assert changed(before, state()) == []


@guards("shadow/wrapper/generators.py", "return _body(generator), ctypes", "return ctypes")
@guards("shadow/wrapper/generators.py", "if now != before:", "if before is None:")
@pytest.mark.parametrize("name", ["torch generator", "python generator", "numpy generator"])
def test_every_draw_is_seen_also_of_a_number_that_was_drawn_before(name: str) -> None:
    draw = {"numpy": np.random.randn, "python": lambda: random.gauss(0, 1), "torch": lambda: torch.randn(1)}
    for _ in range(4):  # of normals two are drawn at once, and the second one is kept
        before = state()
        expected = draw[name.split()[0]]()
        assert changed(before, state()) == [name]
        assert put_back(before) == []
        assert draw[name.split()[0]]() == expected


@guards("shadow/wrapper/generators.py", "np.random.get_state(legacy=False)", "np.random.get_state()")
def test_draws_of_another_source_of_numpy_are_seen() -> None:
    own = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.SFC64(1))
    try:
        before = state()
        assert changed(before, state()) == []
        expected = np.random.random()
        assert changed(before, state()) == ["numpy generator"]
        assert put_back(before) == []
        assert np.random.random() == expected
    finally:
        np.random.set_bit_generator(own)


def test_everything_that_can_be_tried_here_is_tried() -> None:
    left = {part.name for part in EVERYTHING} - CHANGES.keys()
    assert left - {"interop thread number", "dispatch modes", "locale of numbers"} == {
        name
        for name in left
        if "CUDA" in name or "cud" in name or "cublas" in name or "sdp" in name or "mkldnn" in name
    }


def test_what_does_not_change_equals_itself() -> None:
    assert changed(state(), state()) == []


@pytest.mark.parametrize("enabled", [True, False])
def test_inference_mode_is_put_back_again_and_again_whatever_the_host_is_in(enabled: bool) -> None:
    with torch.inference_mode(enabled):
        before = state(MODES)
        for _ in range(3):
            _inference(not enabled)
            assert put_back(before, MODES) == []
            assert torch.is_inference_mode_enabled() is enabled
            assert torch.is_grad_enabled() is not enabled
    assert not torch.is_inference_mode_enabled()
    assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_the_hosts_default_device_stays_its_own() -> None:
    torch.set_default_device("cpu")
    try:
        before = state(MODES)
        torch.set_default_device("meta")
        assert put_back(before, MODES) == []
        assert torch.empty(1).device.type == "cpu"
    finally:
        torch.set_default_device(None)
    assert torch._C._len_torch_function_stack() == 0


def test_a_variable_that_a_lazy_import_adds_is_no_change() -> None:
    before = state(MODES)
    os.environ["KV_LOCKSTEP_ADDED"] = "1"
    assert changed(before, state(MODES), MODES) == []
    del os.environ["KV_LOCKSTEP_ADDED"]


def test_what_can_not_be_put_back_is_named() -> None:
    before = state(MODES)
    found: list[list[str]] = []

    def elsewhere() -> None:
        # A signal's handler is set by the main thread alone.
        found.append(put_back(before, MODES))

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[0] == ["signal handlers"]


# When it is looked at


class Side:
    """Does something at every call."""

    def __init__(self, act: Callable[[], Any] = lambda: None) -> None:
        self.act = act

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args: self.act() and None


def shadowed(act: Callable[[], Any]) -> tuple[ShadowCache, Recorder]:
    observer = Recorder()
    return ShadowCache(Side(), Side(act), observer), observer


def test_the_first_of_each_kind_of_operation_are_looked_at() -> None:
    cache, observer = shadowed(lambda: None)
    for _ in range(LOOK_FIRST):
        for operation in OPERATIONS:
            arguments = {"init": 2, "hierarchical": 2, "recur": 1, "wm": 1}.get(operation.pool, 0)
            given: list[Any] = [0] * (arguments if operation.kind != "clear" else "init_env" in operation.name)
            if operation.kind == "set":
                given.append(make_entry(1))
            getattr(cache, operation.method)(*given)
    assert observer.state_looks == LOOK_FIRST * len(OPERATIONS)


def test_later_a_share_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(process_state, "state", lambda parts=EVERYTHING: asked.append(parts) or parts)
    cache, observer = shadowed(lambda: None)
    for _ in range(20_000):
        cache.get_recur_cache(1)
    looks = observer.state_looks - LOOK_FIRST
    assert 0.6 < looks * MODES_EVERY / 20_000 < 1.5
    generators = sum(parts is EVERYTHING for parts in asked) / 3 - LOOK_FIRST
    assert 0.4 < generators * LOOK_EVERY / 20_000 < 1.7


@guards(
    "shadow/wrapper/both.py",
    "            self._put_back(process_state.changed(before, process_state.state(parts), parts), before, parts)\n",
    "            pass\n",
)
@pytest.mark.parametrize("change", [_inference, lambda: torch.set_grad_enabled(False)])
def test_a_mode_of_this_thread_is_put_back_at_every_call(change: Callable[[], Any]) -> None:
    act: list[Callable[[], Any]] = []
    cache, observer = shadowed(lambda: [each() for each in act])
    for _ in range(LOOK_FIRST + 1):
        cache.get_recur_cache(1)
    act.append(change)
    cache.get_recur_cache(1)
    assert (torch.is_inference_mode_enabled(), torch.is_grad_enabled()) == (False, True)
    assert len(observer.meddlings) == 1
