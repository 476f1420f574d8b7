"""Where an entry lies: found once, and never taken for granted."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from shadow import located
from shadow.entry import KeysValues
from shadow.located import region
from tests.guards import guards
from tests.shadow.entries import make_entry


def _uneven(number: float) -> KeysValues:
    entry = make_entry(number)
    entry[0]._v_cache._size = 2
    return entry


def test_a_region_follows_the_entry_it_is_of() -> None:
    entry = KeysValues(1, 2, 4, 4, 2)
    before = region(entry)
    assert before is not None
    entry[0]._k_cache._cache = torch.zeros(1, 2, 4, 2)
    after = region(entry)
    assert after is not None
    assert after.addresses[0] == entry[0]._k_cache._cache.data_ptr()


@guards("shadow/located.py", 'getattr(entry, "_keys_values", None)', "entry._keys_values")
def test_what_is_no_such_entry_is_told_without_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asking whether one came from outside takes longer than all else that is done with a small nest.
    monkeypatch.delattr(located, "from_outside")
    assert [region(nest) for nest in ({"k": torch.zeros(2)}, torch.zeros(2), (), None)] == [None] * 4


def test_memory_swapped_under_a_tensor_is_noticed() -> None:
    entry = KeysValues(1, 2, 4, 4, 2)
    known = region(entry)
    assert known is not None
    before = known.addresses
    entry[0]._k_cache._cache.data = torch.zeros(1, 2, 4, 2)
    again = region(entry)
    assert again is not None
    assert again.addresses != before
    assert again.addresses[0] == entry[0]._k_cache._cache.data_ptr()


@pytest.mark.parametrize("own", [True, False])
def test_an_entry_with_new_buffers_is_found_again_and_a_copy_of_where_it_lay_stays(own: bool) -> None:
    made = KeysValues(1, 2, 4, 4, 2)
    entry: Any = made if own else HostsOwn(made._keys_values)
    known = region(entry)
    assert known is not None
    before = known.copy()
    fresh = [torch.zeros(1, 2, 4, 2) for _ in range(4)]
    for layer, (k, v) in zip(made, zip(fresh[::2], fresh[1::2], strict=True), strict=True):
        layer._k_cache._cache, layer._v_cache._cache = k, v
        layer._k_cache._size = layer._v_cache._size = 3
    again = region(entry)
    assert again is not None
    assert again.addresses == tuple(tensor.data_ptr() for tensor in fresh)
    assert (again.size, before.size) == (3, 0)
    assert before.addresses == tuple(tensor.data_ptr() for tensor in before.tensors)
    assert before.addresses != again.addresses
    made[1]._v_cache._size = 5  # more than there is room for
    assert region(entry) is None


class HostsOwn:
    """An entry class of another library."""

    def __init__(self, layers: Any) -> None:
        self._keys_values = layers


def test_an_entry_of_the_hosts_own_class_is_looked_over_once() -> None:
    entry = HostsOwn(make_entry(1)._keys_values)
    known = region(entry)
    assert known is not None
    before = known.addresses
    assert region(entry) is known
    assert known.addresses is before
    entry._keys_values[0]._k_cache._cache = torch.zeros_like(entry._keys_values[0]._k_cache._cache)
    assert region(entry) is known
    assert known.addresses != before


@pytest.mark.parametrize(
    "broken",
    [
        lambda: _uneven(1),
        lambda: make_entry(1, dtype=torch.complex64),
        lambda: KeysValues(1, 2, 4, 4, 2, device="meta"),
        lambda: _with(make_entry(1), torch.zeros(1, 2, 2, 4).transpose(2, 3)),
        lambda: _with(make_entry(1), torch.zeros(1, 2, 4, 2, dtype=torch.float64)),
        lambda: _with(make_entry(1), torch.zeros(1, 2, 5, 2)),
        lambda: _with(make_entry(1), torch.zeros(1, 2, 4, 2).to_sparse()),
        lambda: _with(make_entry(1), torch.zeros(1, 2, 4, 2, dtype=torch.complex64).conj().imag),
        lambda: _with(make_entry(1), None),
        lambda: _sized(make_entry(1), 3.0),
        lambda: _sized(make_entry(1), True),
        lambda: _sized(make_entry(1), 5),
        lambda: _sized(make_entry(1), None),
        lambda: KeysValues.from_layers([]),
        object,
        lambda: None,
    ],
)
def test_what_is_not_plain_has_no_region(broken: Callable[[], Any]) -> None:
    assert region(broken()) is None


def _with(entry: KeysValues, buffer: Any) -> KeysValues:
    entry[1]._k_cache._cache = buffer
    return entry


def _sized(entry: KeysValues, size: Any) -> KeysValues:
    for layer in entry:
        layer._k_cache._size = layer._v_cache._size = size
    return entry


@pytest.mark.parametrize("own", [True, False])
def test_where_an_entry_lay_is_forgotten_with_it(own: bool) -> None:
    made = make_entry(1)
    entry: Any = made if own else HostsOwn(made._keys_values)
    gc.collect()  # what other tests left
    before = len(located._known)
    region(entry)
    assert len(located._known) == before + 1
    del entry, made
    gc.collect()
    assert len(located._known) == before


def test_an_entry_that_is_dense_no_more_is_forgotten() -> None:
    entry = make_entry(1)
    region(entry)
    assert located.known(id(entry)) is not None
    entry[0]._v_cache._size = 1
    assert region(entry) is None
    assert located.known(id(entry)) is None
