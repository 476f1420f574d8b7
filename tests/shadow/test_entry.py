"""The entry type: update with its pairwise shift, prune, reset, clone, and what is refused at the door."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from shadow.entry import Cache, KeysValues, KVCache, leaves
from shadow.lent import checked_leaves
from shadow.memory.buffers import Leaf, describe, one_view
from tests.shadow.entries import assert_equal_entries, foreign_entry, layer_of, make_entry, raw_bytes, snapshot

NAN = float("nan")


def numbered(first: int, count: int) -> torch.Tensor:
    """Return ``(1, 1, count, 1)``: tokens named first, first + 1, ..."""
    return torch.arange(first, first + count, dtype=torch.float32).reshape(1, 1, count, 1)


def one_cache(max_tokens: int, held: int = 0) -> Cache:
    """Return a cache ``(1, 1, max_tokens, 1)`` holding tokens 0, 1, ... and NaN beyond."""
    cache = Cache.over(torch.full((1, 1, max_tokens, 1), NAN))
    cache.update(numbered(0, held))
    return cache


def tokens(cache: Cache) -> list[int]:
    return [int(token) for token in cache.get().flatten()]


# update


@pytest.mark.parametrize(
    ("held", "new", "expected"),
    [
        (0, 0, []),
        (0, 1, [100]),
        (0, 5, [100, 101, 102, 103, 104]),
        (0, 6, [100, 101, 102, 103, 104, 105]),
        (3, 0, [0, 1, 2]),
        (3, 1, [0, 1, 2, 100]),
        (4, 2, [0, 1, 2, 3, 100, 101]),
        (6, 0, [0, 1, 2, 3, 4, 5]),
        # odd overflow: one token too many drops a whole pair
        (6, 1, [2, 3, 4, 5, 100]),
        (5, 2, [2, 3, 4, 100, 101]),
        (6, 3, [4, 5, 100, 101, 102]),
        (1, 6, [100, 101, 102, 103, 104, 105]),
        # even overflow
        (6, 2, [2, 3, 4, 5, 100, 101]),
        (5, 3, [2, 3, 4, 100, 101, 102]),
        (6, 4, [4, 5, 100, 101, 102, 103]),
        (6, 6, [100, 101, 102, 103, 104, 105]),
        # the pair to drop is more than what is held: all goes
        (6, 5, [100, 101, 102, 103, 104]),
        (3, 6, [100, 101, 102, 103, 104, 105]),
    ],
)
def test_update_drops_the_oldest_tokens_in_pairs(held: int, new: int, expected: list[int]) -> None:
    cache = one_cache(6, held)
    cache.update(numbered(100, new))
    assert tokens(cache) == expected


def test_update_of_an_odd_buffer_drops_more_than_is_held() -> None:
    cache = one_cache(3, held=1)
    cache.update(numbered(100, 3))
    assert tokens(cache) == [100, 101, 102]


def test_update_over_and_over_keeps_the_newest_tokens_in_order() -> None:
    cache = one_cache(5)
    history: list[int] = []
    for step in range(12):
        cache.update(numbered(2 * step, 2))
        history += [2 * step, 2 * step + 1]
        assert tokens(cache) == history[-min(len(history), 4) :]


def test_update_with_the_count_named_as_in_iris_does_the_same() -> None:
    cache = one_cache(4)
    cache.update(numbered(7, 2), tokens=2)
    assert tokens(cache) == [7, 8]


def test_update_shifts_each_sample_head_and_channel_on_its_own() -> None:
    cache = Cache(num_samples=2, num_heads=2, max_tokens=4, embed_dim=6)
    old, new = torch.rand(2, 2, 4, 3), torch.rand(2, 2, 2, 3)
    cache.update(old)
    cache.update(new)
    assert torch.equal(cache.get(), torch.cat([old[:, :, 2:], new], dim=2))


def test_update_detaches_and_casts() -> None:
    cache = Cache(1, 1, 4, 1, dtype=torch.float64)
    cache.update(torch.full((1, 1, 2, 1), 0.1, requires_grad=True) * 3)
    assert (cache.get().dtype, cache.get().requires_grad) == (torch.float64, False)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((2, 1, 1, 1), "(1, 1, n <= 4, 1), got (2, 1, 1, 1)"),
        ((1, 2, 1, 1), "(1, 1, n <= 4, 1), got (1, 2, 1, 1)"),
        ((1, 1, 1, 2), "(1, 1, n <= 4, 1), got (1, 1, 1, 2)"),
        ((1, 1, 5, 1), "(1, 1, n <= 4, 1), got (1, 1, 5, 1)"),
        ((1, 1, 1), "(1, 1, n <= 4, 1), got (1, 1, 1)"),
    ],
)
def test_update_refuses_what_does_not_fit_and_changes_nothing(shape: tuple[int, ...], found: str) -> None:
    cache = one_cache(4, held=3)
    with pytest.raises(ValueError, match="new tokens must have shape") as caught:
        cache.update(torch.zeros(shape))
    assert str(caught.value) == f"new tokens must have shape {found}"
    assert tokens(cache) == [0, 1, 2]


def test_update_names_the_count_the_caller_promised() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(1, 1, 2 <= 4, 1\), got \(1, 1, 3, 1\)"):
        one_cache(4).update(numbered(0, 3), tokens=2)


def test_a_layer_updates_keys_and_values_apart() -> None:
    layer = KVCache(1, 1, 4, 1)
    layer.update(numbered(0, 2), numbered(50, 2))
    keys, values = layer.get()
    assert (keys.flatten().tolist(), values.flatten().tolist()) == ([0, 1], [50, 51])


# prune, reset, register tokens


@pytest.mark.parametrize("make_mask", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_prune_keeps_the_samples_of_the_mask_in_order(make_mask: Any) -> None:
    entry = make_entry(1, batch=3)
    before = snapshot(entry)
    entry.prune(make_mask([True, False, True]))
    for leaf, was in zip(leaves(entry), before, strict=True):
        assert leaf.tensor.shape == (2, 2, 4, 2)
        assert leaf.size == 3
        assert torch.equal(leaf.tensor[:, :, :3], was.tensor[[0, 2]])


def test_a_pruned_entry_can_be_updated_on() -> None:
    entry = make_entry(1, batch=3, layers=1)
    entry.prune(np.array([False, True, False]))
    entry[0].update(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
    assert entry.size == 4
    assert entry[0]._k_cache._num_samples == 1


@pytest.mark.parametrize(
    ("mask", "found"),
    [(np.array([True]), "(1,)"), (np.array([[True, False]]), "(1, 2)"), (torch.tensor(True), "()")],
)
def test_prune_refuses_a_mask_of_another_shape(mask: Any, found: str) -> None:
    with pytest.raises(ValueError, match="mask must") as caught:
        make_entry(1, batch=2).prune(mask)
    assert str(caught.value) == f"mask must have shape (2,), got {found}"


@pytest.mark.parametrize("mask", [np.array([0, 1]), torch.tensor([1, 1]), np.array([1.0, 0.0])])
def test_prune_refuses_numbers_that_would_be_taken_for_row_indices(mask: Any) -> None:
    entry = make_entry(1, batch=2)
    with pytest.raises(ValueError, match="mask must be boolean, got ") as caught:
        entry.prune(mask)
    assert str(caught.value).endswith(str(mask.dtype))
    assert_equal_entries(entry, make_entry(1, batch=2))


def test_views_handed_out_before_a_reset_stay() -> None:
    entry = make_entry(1, layers=1)
    keys, values = entry[0].get()
    before = raw_bytes(keys), raw_bytes(values)
    entry.reset()
    entry[0].update(torch.zeros(1, 2, 4, 2), torch.zeros(1, 2, 4, 2))
    assert (raw_bytes(keys), raw_bytes(values)) == before


def test_reset_forgets_all_tokens_and_keeps_shape_and_dtype() -> None:
    entry = make_entry(1, batch=2, dtype=torch.bfloat16)
    entry.reset()
    assert entry.size == 0
    for leaf in leaves(entry):
        assert (leaf.size, leaf.tensor.shape, leaf.tensor.dtype) == (0, (2, 2, 4, 2), torch.bfloat16)


@pytest.mark.parametrize(("count", "left"), [(0, 3), (2, 1), (3, 0), (9, 0), (-1, 3)])
def test_register_tokens_are_hidden_from_every_buffer(count: int, left: int) -> None:
    entry = make_entry(1, size=3)
    entry.remove_register_tokens(count)
    assert [leaf.size for leaf in leaves(entry)] == [left] * 4


# shapes, sizes, names


def test_shapes_show_the_valid_region() -> None:
    entry = make_entry(1, size=3, batch=2, heads=4, max_tokens=8, head_dim=5)
    assert entry[0].shape == entry[0]._v_cache.shape == (2, 4, 3, 5)
    assert entry[0]._k_cache._cache.shape == (2, 4, 8, 5)
    assert entry[0]._k_cache.get().shape == (2, 4, 3, 5)
    assert (entry[0]._k_cache._num_samples, entry[0]._k_cache._max_tokens) == (2, 8)


def test_a_new_entry_is_empty_in_every_buffer() -> None:
    entry = KeysValues(num_samples=2, num_heads=4, max_tokens=8, embed_dim=20, num_layers=3)
    assert (len(entry), entry.size, len(leaves(entry))) == (3, 0, 6)
    for leaf in leaves(entry):
        assert (leaf.tensor.shape, leaf.size) == ((2, 4, 8, 5), 0)


def test_size_is_that_of_the_keys_of_layer_0_and_0_without_layers() -> None:
    entry = make_entry(1, size=3)
    entry[0]._v_cache._size = 1
    entry[1]._k_cache._size = 2
    assert entry.size == 3
    assert KeysValues.from_layers([]).size == 0


def test_the_names_that_lightzero_reaches_for_are_there() -> None:
    entry = make_entry(1)
    for layer in range(len(entry)):
        for side in ("_k_cache", "_v_cache"):
            cache = getattr(entry._keys_values[layer], side)
            assert isinstance(cache._cache, torch.Tensor)
            assert cache._size == 3
    entry._keys_values[0]._k_cache._cache = torch.zeros(1, 2, 4, 2)
    entry._keys_values[0]._k_cache._size = 1
    assert torch.equal(entry[0].get()[0], torch.zeros(1, 2, 1, 2))


def test_indexing_and_iteration_give_the_layers_in_order() -> None:
    entry = make_entry(1, layers=3)
    assert [layer is entry[index] for index, layer in enumerate(entry)] == [True] * 3
    assert entry[-1] is entry._keys_values[2]


def test_leaves_are_k_then_v_layer_by_layer() -> None:
    entry = make_entry(1)
    assert [
        leaf.tensor is buffer
        for leaf, buffer in zip(
            leaves(entry),
            [entry[0]._k_cache._cache, entry[0]._v_cache._cache, entry[1]._k_cache._cache, entry[1]._v_cache._cache],
            strict=True,
        )
    ] == [True] * 4


def test_buffers_of_one_entry_do_not_overlap() -> None:
    entry = KeysValues(1, 2, 4, 4, num_layers=3)
    for number, leaf in enumerate(leaves(entry)):
        leaf.tensor.fill_(number)
    assert [leaf.tensor.unique().tolist() for leaf in leaves(entry)] == [[0], [1], [2], [3], [4], [5]]


def test_nbytes_counts_every_buffer_whole() -> None:
    assert make_entry(1, size=0, batch=2, heads=3, max_tokens=5, head_dim=7, layers=2).nbytes == 4 * 2 * 3 * 5 * 7 * 4


def test_an_entry_can_be_referred_to_weakly() -> None:
    entry = make_entry(1)
    assert weakref.ref(entry)() is entry


# clone


def test_a_clone_shares_nothing_in_either_direction() -> None:
    entry = make_entry(1)
    twin = entry.clone()
    for leaf in leaves(twin):
        leaf.tensor.fill_(0)
    assert_equal_entries(entry, make_entry(1))
    twin = entry.clone()
    for leaf in leaves(entry):
        leaf.tensor.fill_(0)
    entry.reset()
    assert_equal_entries(twin, make_entry(1))


def test_a_clone_shares_no_storage() -> None:
    entry = make_entry(1)
    own = {leaf.tensor.untyped_storage().data_ptr() for leaf in leaves(entry)}
    assert own.isdisjoint({leaf.tensor.untyped_storage().data_ptr() for leaf in leaves(entry.clone())})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_a_clone_keeps_the_dtype(dtype: torch.dtype) -> None:
    if not dtype.is_floating_point:
        entry = KeysValues(1, 2, 4, 4, 2, dtype=dtype)
        for leaf in leaves(entry):
            leaf.tensor.fill_(2**53 + 1)
        for layer in entry:
            layer._k_cache._size = layer._v_cache._size = 4
    else:
        entry = make_entry(1, dtype=dtype)
    assert_equal_entries(entry.clone(), entry)


def test_a_clone_keeps_the_device() -> None:
    entry = KeysValues(1, 2, 4, 4, 2, device="meta")
    assert {leaf.tensor.device.type for leaf in leaves(entry.clone())} == {"meta"}


def test_a_clone_keeps_capacity_and_every_length() -> None:
    entry = make_entry(1, size=3)
    entry[0]._v_cache._size = 0
    entry[1]._k_cache._size = 4
    entry[1]._k_cache._cache.fill_(5)
    twin = entry.clone()
    assert [leaf.size for leaf in leaves(twin)] == [3, 0, 4, 3]
    assert {leaf.tensor.shape[2] for leaf in leaves(twin)} == {4}
    assert_equal_entries(twin, entry)


def test_a_clone_of_non_contiguous_buffers_holds_equal_values() -> None:
    entry = make_entry(1)
    expected = snapshot(entry)
    for layer in entry:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = cache._cache.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
            assert not cache._cache.is_contiguous()
    assert_equal_entries(entry.clone(), expected)


def test_a_clone_of_an_expanded_buffer_has_cells_of_its_own() -> None:
    buffer = torch.rand(1, 2, 4, 2).expand(3, -1, -1, -1)
    entry = KeysValues.from_layers([layer_of(Cache.over(buffer, 4), Cache.over(buffer, 4))])
    twin = entry.clone()
    twin[0]._k_cache._cache[0].fill_(9)
    assert torch.equal(twin[0]._k_cache._cache[1], buffer[1])


def test_a_clone_keeps_k_v_and_layers_of_different_shapes_and_dtypes() -> None:
    entry = KeysValues.from_layers(
        [
            layer_of(Cache.over(torch.rand(1, 2, 4, 2), 3), Cache.over(torch.rand(1, 1, 4, 2), 3)),
            layer_of(Cache.over(torch.rand(2, 2, 8, 2).double(), 8), Cache.over(torch.rand(2, 2, 6, 5).half(), 0)),
        ]
    )
    twin = entry.clone()
    assert [leaf.tensor.shape for leaf in leaves(twin)] == [leaf.tensor.shape for leaf in leaves(entry)]
    assert_equal_entries(twin, entry)


def test_a_clone_is_detached() -> None:
    entry = make_entry(1, layers=1)
    entry[0]._k_cache._cache = torch.rand(1, 2, 4, 2, requires_grad=True) * 2
    assert [leaf.tensor.requires_grad for leaf in leaves(entry.clone())] == [False, False]


def test_copying_reads_and_writes_only_what_is_valid() -> None:
    target = make_entry(0, size=4)
    for leaf in leaves(target):
        leaf.tensor.fill_(7)
    target.copy_from(leaves(make_entry(1, size=3)))
    assert_equal_entries(target, make_entry(1, size=3))
    assert [leaf.tensor[:, :, 3:].unique().tolist() for leaf in leaves(target)] == [[7]] * 4


def test_fits_tells_number_shape_dtype_and_device_apart() -> None:
    entry = make_entry(1)
    assert entry.fits(leaves(make_entry(2, size=1)))
    for other in (
        make_entry(1, layers=1),
        make_entry(1, batch=2),
        make_entry(1, max_tokens=5),
        make_entry(1, dtype=torch.float64),
        KeysValues(1, 2, 4, 4, 2, device="meta"),
    ):
        assert not entry.fits(leaves(other))


# deepcopy and pickle


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda entry: pickle.loads(pickle.dumps(entry))], ids=["deepcopy", "pickle"]
)
def test_copies_made_by_python_are_equal_and_independent(copied: Any) -> None:
    entry = make_entry(1)
    entry[1]._v_cache._size = 2
    expected = snapshot(entry)
    twin = copied(entry)
    for leaf in leaves(entry):
        leaf.tensor.fill_(0)
    assert isinstance(twin, KeysValues)
    assert_equal_entries(twin, expected)
    for layer in twin:
        layer.update(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
    assert twin.size == 4


def test_a_deep_copy_of_an_entry_in_one_block_does_not_tie_its_layers_together() -> None:
    entry = make_entry(1).clone()
    twin = copy.deepcopy(entry)
    twin[0]._k_cache._cache.fill_(9)
    twin[0]._k_cache._size = 0
    assert_equal_entries(entry, make_entry(1))
    assert_equal_entries(KeysValues.from_layers([twin[1]]), KeysValues.from_layers([make_entry(1)[1]]))


# Modes of torch


def test_default_dtype_is_read_when_made_and_not_remembered() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        wide = KeysValues(1, 2, 4, 4, 1)
        narrow_clone = make_entry(1, dtype=torch.float32).clone()
    finally:
        torch.set_default_dtype(torch.float32)
    assert wide[0]._k_cache._cache.dtype == torch.float64
    assert wide.clone()[0]._k_cache._cache.dtype == torch.float64
    assert narrow_clone[0]._k_cache._cache.dtype == torch.float32
    wide.reset()
    assert wide[0]._k_cache._cache.dtype == torch.float64


def _made() -> KeysValues:
    return KeysValues(2, 2, 4, 4, 2)


def _cloned() -> KeysValues:
    return make_entry(1, batch=2).clone()


def _of_mixed_shapes() -> KeysValues:
    entry = make_entry(1, batch=2)
    entry[0]._k_cache._cache = torch.rand(2, 2, 9, 2)
    return entry.clone()


def _reset() -> KeysValues:
    entry = make_entry(1, batch=2).clone()
    entry.reset()
    return entry


def _pruned() -> KeysValues:
    entry = PRUNED_LATER.clone()
    entry.prune(np.array([True, True, False]))
    return entry


PRUNED_LATER = make_entry(1, batch=3)


@pytest.mark.parametrize("make", [_made, _cloned, _of_mixed_shapes, _reset, _pruned])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_an_entry_made_in_inference_mode_can_be_written_outside(make: Any, mode: Any) -> None:
    with mode():
        entry = make()
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    assert modes == (False, mode is torch.inference_mode)
    for layer in entry:
        layer.update(torch.ones(2, 2, 1, 2), torch.ones(2, 2, 1, 2))
        assert not layer._k_cache._cache.is_inference()
        layer._k_cache._cache[:, :, 0] = 5.0
    assert entry[1]._k_cache._cache[0, 0, 0, 0] == 5.0


def test_values_computed_in_inference_mode_can_be_appended_outside() -> None:
    with torch.inference_mode():
        new = torch.ones(1, 1, 2, 1)
    cache = one_cache(4, held=1)
    cache.update(new)
    assert tokens(cache) == [0, 1, 1]


# Foreign entries


def test_a_foreign_entry_of_the_same_shape_is_read_the_same_way() -> None:
    k, v = torch.rand(1, 2, 4, 2), torch.rand(1, 2, 4, 2)
    found = checked_leaves(foreign_entry(((k, 3), (v, 2))))
    assert [leaf.size for leaf in found] == [3, 2]
    assert found[0].tensor is k
    assert found[1].tensor is v


def test_what_a_foreign_container_claims_about_itself_is_never_read() -> None:
    k, v = torch.rand(2, 2, 4, 2), torch.rand(2, 2, 4, 2)
    liar = foreign_entry(((k, 3), (v, 3)), device="cuda:7", _device="cuda:7", num_samples=9, dtype=torch.int8, size=99)
    twin = KeysValues.empty_like(checked_leaves(liar))
    assert (twin[0]._k_cache._cache.shape, twin[0]._k_cache._cache.dtype) == (k.shape, k.dtype)
    assert twin[0]._k_cache._cache.device.type == "cpu"


def test_lengths_may_be_numpy_numbers() -> None:
    k = torch.rand(1, 2, 4, 2)
    assert [leaf.size for leaf in checked_leaves(foreign_entry(((k, np.int64(3)), (k, np.int32(0)))))] == [3, 0]


GOOD = (torch.zeros(1, 2, 4, 2), 3)
MALFORMED = [
    pytest.param(
        None,
        TypeError,
        "kv_cache must be a KeysValues (layers with _k_cache and _v_cache), got NoneType: "
        "'NoneType' object has no attribute '_keys_values'",
        id="none",
    ),
    pytest.param(
        torch.zeros(1, 2, 4, 2),
        TypeError,
        "kv_cache must be a KeysValues (layers with _k_cache and _v_cache), got Tensor: "
        "'Tensor' object has no attribute '_keys_values'",
        id="tensor",
    ),
    pytest.param(foreign_entry(), ValueError, "kv_cache has no layers; there is nothing to store", id="no layers"),
    pytest.param(
        foreign_entry((GOOD, GOOD), (GOOD, (torch.zeros(2, 4, 2), 3))),
        ValueError,
        "layer 1 V: expected a tensor (B, num_heads, T, head_dim), got float32 (2, 4, 2) on cpu",
        id="3 dimensions",
    ),
    pytest.param(
        foreign_entry((GOOD, GOOD), ((None, 3), GOOD)),
        ValueError,
        "layer 1 K: expected a tensor (B, num_heads, T, head_dim), got NoneType",
        id="no tensor",
    ),
    pytest.param(
        foreign_entry((GOOD, (np.zeros((1, 2, 4, 2)), 3))),
        ValueError,
        "layer 0 V: expected a tensor (B, num_heads, T, head_dim), got ndarray",
        id="numpy",
    ),
    pytest.param(
        foreign_entry(((torch.zeros(1, 2, 4, 2, dtype=torch.float64), 5), GOOD)),
        ValueError,
        "layer 0 K: valid length 5 outside [0, 4] of float64 (1, 2, 4, 2) on cpu",
        id="too long",
    ),
    pytest.param(
        foreign_entry((GOOD, (torch.zeros(1, 2, 4, 2), -1))),
        ValueError,
        "layer 0 V: valid length -1 outside [0, 4] of float32 (1, 2, 4, 2) on cpu",
        id="negative",
    ),
    pytest.param(
        foreign_entry((GOOD, (torch.zeros(1, 2, 4, 2), None))),
        ValueError,
        "layer 0 V: valid length must be a whole number, got None",
        id="length none",
    ),
    pytest.param(
        foreign_entry((GOOD, GOOD), (GOOD, (torch.zeros(1, 2, 4, 2), 2.0))),
        ValueError,
        "layer 1 V: valid length must be a whole number, got 2.0",
        id="length float",
    ),
    pytest.param(
        foreign_entry((GOOD, (torch.zeros(1, 2, 4, 2).to_sparse(), 3))),
        ValueError,
        "layer 0 V: expected a tensor (B, num_heads, T, head_dim), got sparse_coo float32 (1, 2, 4, 2) on cpu",
        id="sparse",
    ),
]


@pytest.mark.parametrize(("entry", "error", "message"), MALFORMED)
def test_a_malformed_entry_is_refused_naming_the_leaf(entry: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        checked_leaves(entry)
    assert str(caught.value) == message


def test_describe_never_shows_values() -> None:
    assert describe(torch.full((1, 2), 12345.0).bfloat16()) == "bfloat16 (1, 2) on cpu"
    assert describe([12345.0]) == "list"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
        ({"num_heads": -1}, "num_heads must be a whole number of at least 1, got -1"),
        ({"max_tokens": 1.0}, "max_tokens must be a whole number of at least 1, got 1.0"),
        ({"num_layers": True}, "num_layers must be a whole number of at least 1, got True"),
        ({"embed_dim": 5}, "embed_dim must be a multiple of num_heads, got 5 and 2"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    sizes = {"num_samples": 1, "num_heads": 2, "max_tokens": 4, "embed_dim": 4, "num_layers": 2, **changes}
    with pytest.raises(ValueError, match="must be") as caught:
        KeysValues(**sizes)
    assert str(caught.value) == message


# One kernel for a whole entry


@pytest.mark.parametrize("size", [0, 1, 3, 4])
def test_an_entry_in_one_piece_has_one_view_of_its_valid_regions(size: int) -> None:
    entry = make_entry(1, size=size).clone()
    view = one_view(leaves(entry))
    assert view is not None
    assert view.untyped_storage().data_ptr() == leaves(entry)[0].tensor.untyped_storage().data_ptr()
    for own, leaf in zip(view, leaves(entry), strict=True):
        assert torch.equal(own, leaf.tensor[:, :, :size])


@pytest.mark.parametrize("leaf", range(1, 4))
@pytest.mark.parametrize("change", ["another allocation", "length", "dtype", "strides", "order"])
def test_what_lies_apart_or_differs_has_no_one_view(leaf: int, change: str) -> None:
    entry = make_entry(1, size=2, max_tokens=2, head_dim=2).clone()
    found = leaves(entry)
    tensor, size = found[leaf]
    if change == "another allocation":
        found[leaf] = Leaf(tensor.clone(), size)
    elif change == "length":
        found[leaf] = Leaf(tensor, 1)
    elif change == "dtype":
        found[leaf] = Leaf(tensor.view(torch.int32), size)
    elif change == "strides":
        found[leaf] = Leaf(tensor.transpose(2, 3), size)
    else:
        found[leaf], found[0] = found[0], found[leaf]
    assert one_view(found) is None


def test_an_entry_that_is_not_plain_is_copied_all_the_same() -> None:
    source = make_entry(3, size=2, dtype=torch.complex64)
    for made in (source, source.clone()):
        copied = KeysValues.empty_like(leaves(made))
        copied.copy_from(leaves(made))
        assert_equal_entries(copied, source)
