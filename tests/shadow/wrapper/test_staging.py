"""A staged copy is what the host stores, in memory of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shadow.entries import leaves as any_leaves
from shadow.entry import KeysValues, leaves
from shadow.memory import regions
from shadow.wrapper.staging import Staging
from tests.guards import guards
from tests.shadow.entries import assert_equal_entries, foreign_entry, layer_of, make_entry
from tests.shadow.nests import assert_equal_nests, make_nest

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int64, torch.bool]


@pytest.fixture(autouse=True, params=[True, False], ids=["as memory", "by kernels"])
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Staging, "as_memory", request.param)


def staged_by(staging: Staging, entry: Any) -> Any:
    return staging.stage(entry)[0]


def addresses(entry: Any) -> set[int]:
    return {leaf.tensor.untyped_storage().data_ptr() for leaf in leaves(entry) if leaf.tensor.numel()}


@pytest.mark.parametrize("size", [0, 1, 3, 4])
def test_a_staged_copy_equals_the_entry_and_shares_nothing_with_it(size: int) -> None:
    entry = make_entry(1, size=size)
    staged = staged_by(Staging(), entry)
    assert staged is not entry
    assert type(staged) is KeysValues
    assert_equal_entries(staged, make_entry(1, size=size))
    assert not addresses(staged) & addresses(entry)
    for own, other in zip(staged, entry, strict=True):
        assert own is not other
        assert own._k_cache is not other._k_cache
        assert own._v_cache is not other._v_cache


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    buffers = [torch.ones(1, 2, 3, 4).to(dtype) for _ in range(2)]
    staged = staged_by(Staging(), foreign_entry(((buffers[0], 2), (buffers[1], 3))))
    assert [leaf.tensor.dtype for leaf in leaves(staged)] == [dtype, dtype]
    assert [leaf.size for leaf in leaves(staged)] == [2, 3]
    assert torch.equal(leaves(staged)[1].tensor, buffers[1])


def test_strides_are_kept() -> None:
    entry = make_entry(1)
    entry[0]._k_cache._cache = torch.zeros(1, 2, 2, 4).transpose(2, 3)
    entry[0]._v_cache._cache = torch.zeros(1, 2, 4, 4)[..., ::2]
    staged = staged_by(Staging(), entry)
    assert [leaf.tensor.stride() for leaf in leaves(staged)] == [leaf.tensor.stride() for leaf in leaves(entry)]
    assert_equal_entries(staged, entry)


def test_an_expanded_tensor_becomes_a_plain_one_of_the_same_values() -> None:
    entry = make_entry(1, layers=1)
    entry[0]._k_cache._cache = torch.arange(8.0).reshape(1, 1, 4, 2).expand(3, 2, 4, 2)
    staged = staged_by(Staging(), entry)
    assert leaves(staged)[0].tensor.is_contiguous()
    assert torch.equal(leaves(staged)[0].tensor[:, :, :3], entry[0]._k_cache._cache[:, :, :3])


def test_the_same_object_is_reused_for_one_layout_and_filled_anew() -> None:
    staging = Staging()
    first = staged_by(staging, make_entry(1, size=4))
    second = staged_by(staging, make_entry(2, size=2))
    assert second is first
    assert_equal_entries(second, make_entry(2, size=2))


def test_another_layout_gets_another_object() -> None:
    staging = Staging()
    one = staged_by(staging, make_entry(1))
    assert staged_by(staging, make_entry(1, batch=2)) is not one
    assert staged_by(staging, make_entry(1, dtype=torch.float64)) is not one
    assert staged_by(staging, make_entry(1, layers=1)) is not one
    assert staged_by(staging, make_entry(1)) is one


def test_copies_of_many_layouts_do_not_pile_up() -> None:
    staging = Staging()
    for batch in range(1, 60):
        assert_equal_entries(staged_by(staging, make_entry(1, batch=batch)), make_entry(1, batch=batch))
    assert len(staging._copies) <= Staging._MOST_LAYOUTS


@guards("shadow/wrapper/staging.py", "or not _put_together(shell)", "")
@pytest.mark.parametrize("dense", [True, False])
def test_a_tensor_put_into_the_copy_by_a_cache_is_put_out_again(dense: bool) -> None:
    def made(number: float) -> KeysValues:
        entry = make_entry(number)
        if not dense:
            entry[0]._k_cache._cache = entry[0]._k_cache._cache.transpose(2, 3).contiguous().transpose(2, 3)
        return entry

    staging = Staging()
    staged = staged_by(staging, made(1))
    staged[0]._k_cache._cache = torch.zeros(9)
    staged[1]._v_cache._size = 99
    assert_equal_entries(staged_by(staging, made(2)), made(2))


@guards("shadow/wrapper/staging.py", " or staged._keys_values is not layers:", ":")
@pytest.mark.parametrize("what", ["layers", "layer", "cache", "memory"])
def test_a_copy_that_a_cache_took_apart_is_put_together(what: str) -> None:
    staging = Staging()
    staged = staged_by(staging, make_entry(1))
    if what == "layers":
        staged._keys_values = staged._keys_values[::-1]
    elif what == "layer":
        del staged[1]._v_cache
    elif what == "cache":
        staged[0]._k_cache = staged[0]._v_cache
    else:
        staged[0]._k_cache._cache.data = torch.zeros(1, 2, 4, 2)
    assert_equal_entries(staged_by(staging, make_entry(2)), make_entry(2))


def test_cells_beyond_the_valid_length_are_not_read() -> None:
    entry = make_entry(1, size=2)  # NaN beyond
    staged = staged_by(Staging(), entry)
    for leaf in leaves(staged):
        leaf.tensor[:, :, 2:] = 5
    restaged = staged_by(Staging(), entry)
    assert_equal_entries(restaged, make_entry(1, size=2))


def test_an_entry_of_the_autograd_graph_is_staged_without_history() -> None:
    entry = make_entry(1, layers=1)
    entry[0]._k_cache._cache = torch.ones(1, 2, 4, 2, requires_grad=True) * 2
    staged = staged_by(Staging(), entry)
    assert not leaves(staged)[0].tensor.requires_grad


def test_a_copy_made_under_inference_mode_can_be_filled_outside_it() -> None:
    staging = Staging()
    with torch.inference_mode():
        staged_by(staging, make_entry(1))
    assert_equal_entries(staged_by(staging, make_entry(2)), make_entry(2))


class ForeignCache:
    """As LightZero's: more attributes than ours."""

    def __init__(self, tensor: torch.Tensor, size: int) -> None:
        self._cache, self._size = tensor, size
        self._num_samples, self._n, self._device = tensor.shape[0], tensor.shape[1], "cpu"


class ForeignLayer:
    def __init__(self, k: ForeignCache, v: ForeignCache) -> None:
        self._k_cache, self._v_cache = k, v


class ForeignEntry:
    def __init__(self, layers: int, number: float, container: type = tuple) -> None:
        self._keys_values = container(
            ForeignLayer(*(ForeignCache(leaf.tensor, leaf.size) for leaf in pair))
            for pair in zip(*[iter(leaves(make_entry(number, layers=layers)))] * 2, strict=True)
        )
        self.note = "kept"


@pytest.mark.parametrize("container", [tuple, list])
def test_foreign_classes_keep_their_class_and_attributes(container: type) -> None:
    entry = ForeignEntry(2, 1, container)
    staged = staged_by(Staging(), entry)
    assert type(staged) is ForeignEntry
    assert staged.note == "kept"
    assert type(staged._keys_values[0]) is ForeignLayer
    assert type(staged._keys_values[0]._k_cache) is ForeignCache
    assert staged._keys_values[0]._k_cache._num_samples == 1
    assert_equal_entries(staged, make_entry(1))
    assert not addresses(staged) & addresses(entry)


def test_entries_of_two_classes_by_turns_keep_theirs() -> None:
    staging = Staging()
    for number in (1, 2):
        for made in (make_entry(number), ForeignEntry(2, number)):
            staged = staged_by(staging, made)
            assert type(staged) is type(made)
            assert_equal_entries(staged, make_entry(number))


def test_lengths_of_k_and_v_and_of_layers_are_each_their_own() -> None:
    entry = make_entry(1)
    entry[0]._v_cache._size, entry[1]._k_cache._size = 1, 0
    staged = staged_by(Staging(), entry)
    assert [leaf.size for leaf in leaves(staged)] == [3, 1, 0, 3]


@pytest.mark.parametrize(
    "made", [None, 7, "text", [1, 2], SimpleNamespace(_keys_values=7), {"a": [torch.ones(2)]}], ids=repr
)
def test_what_is_no_entry_is_copied_as_it_is(made: Any) -> None:
    staged = staged_by(Staging(), made)
    assert type(staged) is type(made)
    if isinstance(made, dict):
        assert staged["a"][0].data_ptr() != made["a"][0].data_ptr()


def test_an_entry_with_a_tensor_of_three_axes_is_copied_whole() -> None:
    entry = foreign_entry(((torch.ones(2, 3, 4), 2), (torch.ones(2, 3, 4), 2)))
    staged = staged_by(Staging(), entry)
    assert torch.equal(leaves(staged)[0].tensor, torch.ones(2, 3, 4))
    assert not addresses(staged) & addresses(entry)


def test_a_length_beyond_the_buffer_is_copied_as_it_is() -> None:
    entry = layer_of(make_entry(1)[0]._k_cache, make_entry(1)[0]._v_cache)
    entry._k_cache._size = 99
    staged = staged_by(Staging(), KeysValues.from_layers([entry]))
    assert leaves(staged)[0].size == 99


def test_an_entry_turned_around_in_place_is_staged_as_it_is_now() -> None:
    staging, entry = Staging(), make_entry(1, size=4, heads=2, head_dim=2)
    for made in (entry, entry):
        staging.stage(made)
    entry[0]._k_cache._cache.transpose_(1, 3)  # the same tensor at the same address

    staged, _ = staging.stage(entry)

    for mine, theirs in zip(leaves(staged), leaves(entry), strict=True):
        assert torch.equal(mine.tensor, theirs.tensor)


# Nests


@guards("shadow/wrapper/staging.py", "        fill(buffers, source)\n        # A cache", "        # A cache")
def test_a_staged_nest_is_of_the_same_make_and_shares_nothing() -> None:
    staging, nest = Staging(), make_nest(1)
    staged = staged_by(staging, nest)
    assert_equal_nests(staged, make_nest(1))
    for leaf in any_leaves(staged):
        leaf.tensor.zero_()
    staged["layers"].clear()
    assert_equal_nests(nest, make_nest(1))


@guards("shadow/wrapper/staging.py", "[buffer.detach() for buffer in buffers]", "buffers")
def test_what_a_cache_makes_of_a_staged_nest_is_gone_at_the_next() -> None:
    staging = Staging()
    staged = staged_by(staging, make_nest(1))
    for leaf in any_leaves(staged):
        leaf.tensor.set_(torch.zeros(1, dtype=leaf.tensor.dtype))  # type: ignore[call-overload]  # its stub lacks a tensor
    staged["layers"].append(3)
    assert_equal_nests(staged_by(staging, make_nest(2)), make_nest(2))


def test_the_memory_of_a_staged_nest_is_reused() -> None:
    staging = Staging()
    first, second = (any_leaves(staged_by(staging, make_nest(number))) for number in (1, 2))
    assert [leaf.tensor.data_ptr() for leaf in first] == [leaf.tensor.data_ptr() for leaf in second]


def test_nests_of_ever_new_shapes_do_not_pile_up() -> None:
    staging = Staging()
    for length in range(1, 60):
        staged_by(staging, (torch.zeros(length), torch.zeros(1)))
    assert len(staging._memories) == Staging._MOST_LAYOUTS


def test_a_nest_staged_in_inference_mode_can_be_filled_outside() -> None:
    staging = Staging()
    with torch.inference_mode():
        staged_by(staging, make_nest(1))
    assert_equal_nests(staged_by(staging, make_nest(2)), make_nest(2))


def test_a_lazily_conjugated_tensor_is_staged_with_its_values() -> None:
    numbers = torch.tensor([1 + 2j, 3 - 1j])
    staged = staged_by(Staging(), (numbers.conj(), numbers.conj().imag))
    assert torch.equal(staged[0], torch.tensor([1 - 2j, 3 + 1j]))
    assert torch.equal(staged[1], torch.tensor([-2.0, 1.0]))


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts what is launched, views left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(found.alias_info and not found.alias_info.is_write for found in func._schema.returns):
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@guards("shadow/wrapper/staging.py", "block.narrow(3, 0, size)).copy_(copy)", "block.narrow(3, 0, size))")
@guards("shadow/wrapper/staging.py", "own.addresses, size, copy)", "own.addresses, size, block)")
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("most", [0, 1 << 16], ids=["what is valid", "whole"])
def test_two_kernels_stage_an_entry_on_a_device_and_leave_a_copy_to_look_at(
    size: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Staging, "as_memory", False)
    monkeypatch.setattr(regions, "_WHOLE_NBYTES", most)
    staging = Staging()
    staged_by(staging, make_entry(1, size=size))
    entry = make_entry(2, size=size)
    with Launches() as launches:
        staged, (own, copy) = staging.stage(entry)
    assert_equal_entries(staged, entry)
    assert launches.names == ["stack", "copy_"]
    assert own is not None
    assert copy is not None
    for leaf in leaves(staged):
        leaf.tensor.zero_()
    assert copy.copied is not None
    assert torch.equal(copy.copied[:, :, :, :size], regions.together((own,))[:, :, :, :size])
    assert copy.addresses == tuple(leaf.tensor.data_ptr() for leaf in leaves(staged))
    assert (own.size, copy.size) == (size, size)
