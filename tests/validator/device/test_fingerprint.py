"""Hashes of entries that a device computes, and differences that it counts."""

from __future__ import annotations

import pytest
import torch

from shadow.entry import KeysValues, leaves
from shadow.memory.buffers import Leaf
from shadow.memory.regions import of_leaves
from tests.guards import guards
from tests.shadow.entries import foreign_entry, make_entry
from tests.validator.device.devices import DEVICES, at, on
from validator.device.fingerprint import make_weights
from validator.device.queue import DeferredQueue


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_one_bit_anywhere_changes_the_hash_of_its_tensor_and_no_other(dtype: torch.dtype, device: str) -> None:
    queue = DeferredQueue()
    entry = on(make_entry(0, dtype=dtype), device)
    before = tuple(queue.hashes([at(entry)])[0])
    for index, leaf in enumerate(leaves(entry)):
        for bit in range(8 * leaf.tensor.element_size()):
            flipped = leaf.tensor.view(torch.uint8)
            cell = (0, 1, 2, leaf.tensor.element_size() + bit // 8)
            flipped[cell] ^= 1 << bit % 8
            after = tuple(queue.hashes([at(entry)])[0])
            assert [a == b for a, b in zip(before, after, strict=True)] == [i != index for i in range(4)]
            flipped[cell] ^= 1 << bit % 8


@guards("validator/device/fingerprint.py", "8: torch.int32}  # 64", "8: torch.int64}  # 64")
def test_signs_flipped_in_pairs_do_not_cancel() -> None:
    for dtype in (torch.float32, torch.float64):
        entry = make_entry(1, dtype=dtype)
        flipped = entry.clone()
        for tensor, _ in leaves(flipped):
            tensor[0, 0, 0].neg_()
        one, other = DeferredQueue().hashes([at(entry), at(flipped)])
        assert all(a != b for a, b in zip(one, other, strict=True))


@guards("validator/device/fingerprint.py", "numbers.mul_(weights[: numbers.shape[3]])", "numbers.mul_(weights[0])")
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_order_is_part_of_the_hash(dim: int) -> None:
    entry = make_entry(1, batch=2)
    turned = make_entry(1, batch=2)
    for tensor, size in leaves(turned):
        tensor[:, :, :size] = tensor[:, :, :size].flip(dim)
    one, other = DeferredQueue().hashes([at(entry), at(turned)])
    assert all(a != b for a, b in zip(one, other, strict=True))


@guards("validator/device/queue.py", "[:, :, :, :, :, : structure.size]", "")
@pytest.mark.parametrize("size", [1, 3, 4])
def test_hashes_do_not_depend_on_strides_allocations_or_cells_beyond_the_length(size: int) -> None:
    apart = make_entry(1, size=size)
    together = apart.clone()
    other = make_entry(1, size=size)
    for leaf in leaves(other):
        leaf.tensor[:, :, size:] = 7
    strided = KeysValues.from_layers(make_entry(1, size=size))
    for layer in strided:
        for cache in (layer._k_cache, layer._v_cache):
            wide = torch.empty(1, 2, 4, 4)[..., ::2]
            cache._cache = wide.copy_(cache._cache)
    queue = DeferredQueue()
    expected = queue.hashes([at(apart)])[0]
    assert all(expected)
    for same in (together, other, strided):
        assert queue.hashes([at(same)])[0] == expected
    assert queue.hashes([at(apart), at(together), at(other)]) == [expected] * 3


def test_buffers_at_uneven_distances_in_one_allocation_are_not_taken_for_a_block() -> None:
    block = torch.arange(6 * 24.0).reshape(6, 1, 2, 4, 3)
    uneven = [Leaf(block[index], 3) for index in (0, 1, 2, 4)]
    apart = [Leaf(leaf.tensor.clone(), 3) for leaf in uneven]
    backwards = [Leaf(block[index], 3) for index in (3, 2)]
    queue = DeferredQueue()
    assert queue.hashes([at(uneven)])[0] == queue.hashes([at(apart)])[0]
    assert list(queue.hashes([at(backwards)])[0]) == list(queue.hashes([at(backwards[::-1])])[0])[::-1]


@guards("validator/device/results.py", "tuple(map(fingerprint.unlike_empty, found))", "found")
def test_empty_entries_hash_to_nothing_and_zeros_do_not() -> None:
    zeros = [Leaf(torch.zeros(1, 2, 3, 2), 3)] * 2
    queue = DeferredQueue()
    assert queue.hashes([at([Leaf(t, 0) for t, _ in zeros])])[0] == (0, 0)
    assert all(queue.hashes([at(zeros)])[0])


def test_weights_of_a_position_do_not_depend_on_how_many_there_are_and_are_odd() -> None:
    few, many = make_weights(8, torch.device("cpu")), make_weights(4096, torch.device("cpu"))
    assert torch.equal(few, many[:8])
    assert bool((many & 1).all())
    assert len(set(many.tolist())) == 4096
    assert 0.45 < (many < 0).double().mean() < 0.55


def test_weights_and_hashes_draw_from_no_generator() -> None:
    before = torch.get_rng_state()
    DeferredQueue().hashes([at(make_entry(1))])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_mismatches_are_counted_per_tensor_in_elements(dtype: torch.dtype) -> None:
    one, other = make_entry(0, dtype=dtype), make_entry(0, dtype=dtype)
    leaves(other)[1].tensor[0, :, 0] += 1
    leaves(other)[3].tensor[0, 0, 0, 0] = -leaves(other)[3].tensor[0, 0, 0, 0]
    queue = DeferredQueue()
    found = queue.compare(at(one), at(other), hashed=True)
    assert found.counts == (0, 4, 0, 1)
    for index, entry in enumerate((one, other)):
        assert found.hashes(index) == queue.hashes([at(entry)])[0]
    assert [a == b for a, b in zip(found.hashes(0), found.hashes(1), strict=True)] == [True, False, True, False]
    assert queue.compare(at(one), at(other), hashed=False).counts == (0, 4, 0, 1)


@guards("shadow/memory/regions.py", "length != size\n            or type(tensor)", "type(tensor)")
@pytest.mark.parametrize(
    "entry",
    [
        [],
        leaves(make_entry(1, dtype=torch.complex64)),
        [*leaves(make_entry(1)), Leaf(torch.zeros(1, 2, 4, 2), 2)],
        [*leaves(make_entry(1)), Leaf(torch.zeros(1, 2, 4, 2, dtype=torch.float64), 3)],
        leaves(foreign_entry((("no tensor", 1), ("no tensor", 1)))),
        [Leaf(torch.zeros(1, 2, 4, 2), 5)],
    ],
    ids=["no layers", "complex", "lengths", "dtypes", "no tensors", "length beyond"],
)
def test_irregular_entries_are_left_to_the_immediate_way(entry: list[Leaf]) -> None:
    assert of_leaves(entry, anywhere=True) is None
