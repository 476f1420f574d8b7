"""What counts as equal: rung by rung, valid region only, against a brute-force count."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reports.record.records import LeafDifference
from shadow.entry import leaves
from shadow.located import region
from shadow.memory.buffers import Leaf
from tests.guards import guards
from tests.shadow.entries import make_entry
from validator.entries.compare import Tolerance, agreement, differences, equal, equal_bits, rung, same_bits, valid

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (*FLOATS, torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64, torch.complex128)


def leaf(tensor: Tensor, size: int | None = None) -> Leaf:
    return Leaf(tensor, tensor.shape[2] if size is None else size)


def buffer(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (2, 2, 4, 3)) -> Tensor:
    cells = torch.arange(1, math.prod(shape) + 1).reshape(shape)
    return (cells % 2 == 0) if dtype is torch.bool else cells.to(dtype)


def changed(tensor: Tensor, *index: int) -> Tensor:
    other = tensor.clone()
    other[index] = ~other[index] if tensor.dtype is torch.bool else other[index] + 1
    return other


def only(control: Leaf, candidate: Leaf, tolerance: Tolerance | None = None) -> LeafDifference:
    """The one difference of two single tensors, which ``equal`` must see as well."""
    (difference,) = differences([control], [candidate], tolerance)
    assert not equal([control], [candidate])
    return difference


# Equality of bits


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 3], ids="batch{}".format)
def test_equal_bits_are_equal_and_one_changed_cell_is_not(dtype: torch.dtype, batch: int) -> None:
    tensor = buffer(dtype, (batch, 2, 4, 3))
    one = leaf(tensor, 3)

    assert equal([one], [leaf(tensor.clone(), 3)])
    assert differences([one], [leaf(tensor.clone(), 3)]) == ()
    for index in ((0, 0, 0, 0), (batch - 1, 1, 2, 2)):
        difference = only(one, leaf(changed(tensor, *index), 3))
        assert (difference.rung, difference.n_mismatched, difference.n_elements) == ("bits", 1, batch * 2 * 3 * 3)
        assert difference.max_abs_index == index


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_full_buffer_is_compared_to_its_last_cell(dtype: torch.dtype) -> None:
    tensor = buffer(dtype)
    assert equal([leaf(tensor)], [leaf(tensor.clone())])
    assert only(leaf(tensor), leaf(changed(tensor, 1, 1, 3, 2))).max_abs_index == (1, 1, 3, 2)


@pytest.mark.parametrize("shape", [(1, 2, 4, 3), (3, 2, 4, 3)], ids=["few rows", "many rows"])
@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("garbage", [7.0, float("nan"), float("inf")])
def test_cells_beyond_the_valid_length_differ_freely(shape: tuple[int, ...], size: int, garbage: float) -> None:
    one, other = buffer(shape=shape), buffer(shape=shape)
    other[:, :, size:] = garbage
    assert equal([Leaf(one, size)], [Leaf(other, size)])
    assert differences([Leaf(one, size)], [Leaf(other, size)]) == ()


def test_an_entry_of_no_tokens_is_equal_whatever_its_cells() -> None:
    one, other = make_entry(1, size=0), make_entry(2, size=0)
    assert equal(leaves(one), leaves(other))
    assert differences(leaves(one), leaves(other)) == ()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_same_nan_is_equal_to_itself_and_another_payload_is_not(dtype: torch.dtype) -> None:
    tensor = buffer(dtype)
    tensor[0, 0, 1, 1] = float("nan")
    assert equal([leaf(tensor)], [leaf(tensor.clone())])
    other = tensor.clone()
    width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    other.view(width)[0, 0, 1, 1] ^= 1
    assert bool(other[0, 0, 1, 1].isnan())

    difference = only(leaf(tensor), leaf(other))

    assert (difference.n_mismatched, difference.n_nan_control, difference.n_nan_candidate) == (1, 1, 1)
    assert (difference.max_abs_diff, difference.max_rel_diff) == (None, None)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64], ids=str)
def test_zero_and_negative_zero_differ(dtype: torch.dtype) -> None:
    zeros = torch.zeros(1, 1, 2, 2, dtype=dtype)
    difference = only(leaf(zeros), leaf(torch.full_like(zeros, -0.0)))
    assert (difference.rung, difference.n_mismatched, difference.max_abs_diff) == ("bits", 4, 0.0)


def strided_views(tensor: Tensor) -> list[Tensor]:
    """The same values behind other strides."""
    transposed = torch.empty(*tensor.shape[:2], tensor.shape[3], tensor.shape[2], dtype=tensor.dtype).transpose(2, 3)
    wide = torch.empty(*tensor.shape[:3], 2 * tensor.shape[3], dtype=tensor.dtype)[..., ::2]
    late = torch.empty(tensor.shape[0] + 1, *tensor.shape[1:], dtype=tensor.dtype)[1:]
    return [view.copy_(tensor) for view in (transposed, wide, late)]


@pytest.mark.parametrize("kind", range(3), ids=["transposed", "every second channel", "with an offset"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_strides_play_no_part(kind: int, dtype: torch.dtype) -> None:
    tensor = buffer(dtype)
    view = strided_views(tensor)[kind]
    for one, other in ((tensor, view), (view, tensor), (view, view)):
        assert equal([leaf(one, 3)], [leaf(other, 3)])
    view[1, 0, 2, 1] += 1
    assert only(leaf(tensor, 3), leaf(view, 3)).max_abs_index == (1, 0, 2, 1)


def test_an_expanded_tensor_is_compared_by_what_it_shows() -> None:
    row = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert equal([leaf(row.expand(4, 1, 2, 3))], [leaf(row.repeat(4, 1, 1, 1))])


def test_tensors_that_want_a_gradient_are_compared_without_one() -> None:
    one = buffer().requires_grad_()
    assert equal([leaf(one)], [leaf(buffer())])
    assert only(leaf(one), leaf(changed(buffer(), 0, 0, 0, 0))).n_mismatched == 1


def test_neither_input_is_written() -> None:
    one, other = buffer(), changed(buffer(), 0, 1, 2, 2)
    kept = one.clone(), other.clone()
    differences([leaf(one)], [leaf(other)])
    differences([leaf(one)], [leaf(other)], Tolerance(0.1, 0.1))
    assert torch.equal(one, kept[0])
    assert torch.equal(other, kept[1])


# Structure comes before values, and in order


@guards("validator/entries/compare.py", 'return "shape"', "pass")
@guards("validator/entries/compare.py", 'return "dtype"', "pass")
@guards("validator/entries/compare.py", 'return "length"', "pass")
@pytest.mark.parametrize(
    ("control", "candidate", "expected"),
    [
        ((torch.float32, (1, 2, 4, 3), 2), (torch.float32, (1, 2, 5, 3), 2), "shape"),
        ((torch.float32, (1, 2, 4, 3), 2), (torch.float64, (1, 2, 5, 3), 3), "shape"),
        ((torch.float32, (1, 2, 4, 3), 2), (torch.float64, (1, 2, 4, 3), 3), "dtype"),
        ((torch.int32, (1, 2, 4, 3), 2), (torch.float32, (1, 2, 4, 3), 2), "dtype"),
        ((torch.float32, (1, 2, 4, 3), 2), (torch.float32, (1, 2, 4, 3), 3), "length"),
        ((torch.float32, (1, 2, 4, 3), 2), (torch.float32, (1, 2, 4, 3), 2), None),
    ],
)
def test_the_first_rung_that_fails_is_named(
    control: tuple[Any, ...], candidate: tuple[Any, ...], expected: str | None
) -> None:
    one, other = (Leaf(buffer(dtype, shape), size) for dtype, shape, size in (control, candidate))
    assert rung(one, other) == expected
    assert [difference.rung for difference in differences([one], [other])] == ([] if expected is None else [expected])
    assert equal([one], [other]) == (expected is None)


@guards("validator/entries/compare.py", 'return "device"', "pass")
def test_another_device_comes_after_dtype_and_before_length() -> None:
    here, away = buffer(), buffer().to("meta")
    assert rung(Leaf(here, 2), Leaf(away, 3)) == "device"
    assert rung(Leaf(here, 2), Leaf(away.double(), 3)) == "dtype"
    assert not equal([Leaf(here, 2)], [Leaf(away, 2)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2, 4, 3), (3, 2, 4, 3)),
        ((2, 1, 4, 3), (2, 2, 4, 3)),
        ((2, 2, 4, 1), (2, 2, 4, 3)),
        ((0, 2, 4, 3), (1, 2, 4, 3)),
    ],
    ids=str,
)
def test_shapes_that_would_broadcast_differ_in_shape(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    difference = only(leaf(torch.zeros(one)), leaf(torch.zeros(other)))
    assert (difference.rung, difference.n_elements, difference.n_mismatched) == ("shape", 0, 0)
    assert difference.control == f"float32 {one} on cpu, 4 valid"
    assert difference.candidate == f"float32 {other} on cpu, 4 valid"


@pytest.mark.parametrize("tolerance", [None, Tolerance(10.0, 10.0)], ids=["exact", "tolerant"])
def test_a_capacity_that_differs_is_a_shape_that_differs_although_the_valid_cells_agree(
    tolerance: Tolerance | None,
) -> None:
    difference = only(leaf(buffer()[:, :, :3].clone(), 2), leaf(buffer(), 2), tolerance)
    assert (difference.rung, difference.n_elements, difference.n_mismatched) == ("shape", 24, 0)


def test_values_of_another_dtype_are_still_counted() -> None:
    one, other = buffer(torch.float32), changed(buffer(torch.float64), 0, 0, 1, 2)
    difference = only(leaf(one), leaf(other))
    assert (difference.rung, difference.n_mismatched, difference.max_abs_index) == ("dtype", 1, (0, 0, 1, 2))


@guards("validator/entries/compare.py", "len(control) != len(candidate) or form_of", "form_of")
def test_missing_layers_are_named_on_either_side() -> None:
    three, one = leaves(make_entry(1, layers=3)), leaves(make_entry(1, layers=1))
    assert not equal(three, one)
    found = differences(three, one)
    assert [(d.layer, d.part, d.rung, d.candidate) for d in found] == [
        (1, "K", "layers", "absent"),
        (1, "V", "layers", "absent"),
        (2, "K", "layers", "absent"),
        (2, "V", "layers", "absent"),
    ]
    assert [d.control for d in differences(one, three)] == ["absent"] * 4
    assert not equal([], one)
    assert equal([], [])


def test_lengths_of_k_and_v_are_judged_apart() -> None:
    one, other = make_entry(1), make_entry(1)
    other[1]._v_cache._size = 2
    (difference,) = differences(leaves(one), leaves(other))
    assert (difference.layer, difference.part, difference.rung) == (1, "V", "length")
    assert not equal(leaves(one), leaves(other))


def test_every_leaf_that_differs_is_listed_k_before_v() -> None:
    one, other = make_entry(1, layers=3), make_entry(1, layers=3)
    other[2]._v_cache._cache[0, 0, 0, 0] += 1
    other[0]._v_cache._cache[0, 0, 0, 0] += 1
    other[2]._k_cache._cache[0, 0, 0, 0] += 1
    found = differences(leaves(one), leaves(other))
    assert [(d.layer, d.part) for d in found] == [(0, "V"), (2, "K"), (2, "V")]


@pytest.mark.parametrize("index", range(4), ids=["layer 0 K", "layer 0 V", "layer 1 K", "layer 1 V"])
def test_no_leaf_is_skipped(index: int) -> None:
    one, other = leaves(make_entry(1)), leaves(make_entry(1))
    other[index].tensor[0, 1, 2, 1] += 1
    assert not equal(one, other)
    assert [2 * d.layer + "KV".index(d.part) for d in differences(one, other)] == [index]


# Counts and greatest differences

numbers = st.one_of(
    st.floats(-100, 100, width=32),
    st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1.0, 1.0]),
)


def brute(
    control: np.ndarray[Any, Any], candidate: np.ndarray[Any, Any], tolerance: Tolerance | None
) -> dict[str, Any]:
    """Count cell by cell, as slowly and plainly as possible."""
    found: dict[str, Any] = {"n_mismatched": 0, "abs": None, "rel": None}
    for index in np.ndindex(*control.shape):
        a, b = float(control[index]), float(candidate[index])
        if tolerance is None:
            unequal = struct.pack("f", a) != struct.pack("f", b)
        else:
            both_nan = math.isnan(a) and math.isnan(b)
            distance = abs(a - b)
            close = math.isfinite(distance) and distance <= tolerance.atol + tolerance.rtol * abs(a)
            unequal = not (close or a == b or both_nan)
        if not unequal:
            continue
        found["n_mismatched"] += 1
        distance = abs(a - b)
        relative = distance / abs(a) if a else (float("inf") if distance else float("nan"))
        for name, value in (("abs", distance), ("rel", relative)):
            if math.isfinite(value) and (found[name] is None or value > found[name][0]):
                found[name] = (value, index)
    return found


@settings(max_examples=60)
@given(
    st.lists(st.tuples(numbers, numbers), min_size=12, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.sampled_from([None, Tolerance(0.0, 0.0), Tolerance(0.25, 0.0), Tolerance(0.0, 1.5), Tolerance(0.1, 0.1)]),
)
def test_counts_and_greatest_differences_match_a_brute_force_count(
    pairs: list[tuple[float, float]], alike: list[bool], tolerance: Tolerance | None
) -> None:
    control = np.array([a for a, _ in pairs], dtype=np.float32).reshape(1, 2, 3, 2)
    candidate = np.array([a if same else b for (a, b), same in zip(pairs, alike, strict=True)], dtype=np.float32)
    candidate = candidate.reshape(1, 2, 3, 2)
    expected = brute(control, candidate, tolerance)

    found = differences([leaf(torch.from_numpy(control))], [leaf(torch.from_numpy(candidate))], tolerance)

    assert bool(found) == bool(expected["n_mismatched"])
    if found:
        (difference,) = found
        assert (difference.n_mismatched, difference.n_elements) == (expected["n_mismatched"], 12)
        assert difference.n_nan_control == np.isnan(control).sum()
        assert difference.n_nan_candidate == np.isnan(candidate).sum()
        assert difference.n_inf_control == np.isinf(control).sum()
        assert difference.n_inf_candidate == np.isinf(candidate).sum()
        for name, value, index in (
            ("abs", difference.max_abs_diff, difference.max_abs_index),
            ("rel", difference.max_rel_diff, difference.max_rel_index),
        ):
            if expected[name] is None:
                assert (value, index) == (None, None)
            else:
                assert value == pytest.approx(expected[name][0], rel=1e-12)
                assert index == expected[name][1]
    if tolerance is None:
        assert equal([leaf(torch.from_numpy(control))], [leaf(torch.from_numpy(candidate))]) == (not found)


def test_the_greatest_difference_is_found_beyond_the_first_block() -> None:
    one = torch.ones(1, 2, 100_000, 1)
    other = one.clone()
    other[0, 0, 5, 0], other[0, 1, 70_000, 0], other[0, 1, 99_999, 0] = 2.0, 5.0, 3.0
    difference = only(leaf(one), leaf(other))
    assert (difference.n_mismatched, difference.max_abs_diff) == (3, 4.0)
    assert (difference.max_abs_index, difference.max_rel_index) == ((0, 1, 70_000, 0), (0, 1, 70_000, 0))


def test_greatest_absolute_and_relative_difference_may_lie_apart() -> None:
    one, other = torch.tensor([100.0, 0.5]).reshape(1, 1, 2, 1), torch.tensor([110.0, 1.0]).reshape(1, 1, 2, 1)
    difference = only(leaf(one), leaf(other))
    assert (difference.max_abs_diff, difference.max_abs_index) == (10.0, (0, 0, 0, 0))
    assert (difference.max_rel_diff, difference.max_rel_index) == (1.0, (0, 0, 1, 0))


@guards("validator/entries/compare.py", "np.where(np.isfinite(values), values, -1.0)", "values")
def test_nan_and_inf_are_counted_apart_and_do_not_hide_the_greatest_distance() -> None:
    one = torch.tensor([1.0, float("nan"), float("inf"), 4.0]).reshape(1, 1, 4, 1)
    other = torch.tensor([1.5, 2.0, float("-inf"), float("nan")]).reshape(1, 1, 4, 1)
    difference = only(leaf(one), leaf(other))
    assert (difference.n_mismatched, difference.max_abs_diff, difference.max_abs_index) == (4, 0.5, (0, 0, 0, 0))
    assert (difference.n_nan_control, difference.n_nan_candidate) == (1, 1)
    assert (difference.n_inf_control, difference.n_inf_candidate) == (1, 1)


def test_large_whole_numbers_are_compared_by_their_bits() -> None:
    one = torch.full((1, 1, 1, 1), 2**60, dtype=torch.int64)
    assert only(leaf(one), leaf(one + 1)).n_mismatched == 1


# Tolerance


@pytest.mark.parametrize(
    ("rtol", "atol", "within"),
    [(0.0, 0.0, False), (0.0, 0.5, True), (0.0, 0.4, False), (0.05, 0.0, True), (0.04, 0.0, False), (0.03, 0.2, True)],
)
def test_tolerance_is_atol_plus_rtol_times_the_control(rtol: float, atol: float, within: bool) -> None:
    one, other = torch.full((1, 1, 1, 1), 10.0), torch.full((1, 1, 1, 1), 10.5)
    found = differences([leaf(one)], [leaf(other)], Tolerance(rtol, atol))
    assert (found == ()) == within


def test_tolerance_scales_with_the_control_and_not_with_the_candidate() -> None:
    small, large = leaf(torch.full((1, 1, 1, 1), 1.0)), leaf(torch.full((1, 1, 1, 1), 2.0))
    assert differences([large], [small], Tolerance(0.5, 0.0)) == ()
    assert len(differences([small], [large], Tolerance(0.5, 0.0))) == 1


def test_tolerance_excuses_no_structure_and_no_nan_on_one_side_only() -> None:
    one = buffer()
    other = one.clone()
    other[0, 0, 0, 0] = float("nan")
    generous = Tolerance(1e9, 1e9)
    assert only(leaf(one), leaf(other), generous).n_mismatched == 1
    assert only(leaf(one, 2), leaf(one.clone(), 3), generous).rung == "length"
    assert only(leaf(one), leaf(one.double()), generous).rung == "dtype"


@guards("validator/entries/compare.py", " | (u.isnan() & v.isnan())", "")
def test_under_a_tolerance_zeros_of_both_signs_and_nans_of_any_payload_are_close() -> None:
    one = torch.tensor([0.0, float("nan"), float("inf")]).reshape(1, 1, 3, 1)
    other = torch.tensor([-0.0, float("nan"), float("inf")]).reshape(1, 1, 3, 1)
    other.view(torch.int32)[0, 0, 1, 0] ^= 1
    assert differences([leaf(one)], [leaf(other)], Tolerance(0.0, 0.0)) == ()


@guards("validator/entries/compare.py", " & distance.isfinite()", "")
def test_an_infinite_control_excuses_nothing() -> None:
    one, other = torch.full((1, 1, 1, 1), float("inf")), torch.full((1, 1, 1, 1), 3.0)
    assert only(leaf(one), leaf(other), Tolerance(0.5, 0.5)).n_mismatched == 1


def test_complex_numbers_of_one_magnitude_are_still_apart() -> None:
    one, other = torch.full((1, 1, 1, 1), 1 + 0j), torch.full((1, 1, 1, 1), 0 + 1j)
    assert only(leaf(one), leaf(other), Tolerance(0.1, 0.1)).max_abs_diff == pytest.approx(2**0.5)


# Helpers that others build on


def test_valid_is_a_detached_view_of_the_defined_tokens() -> None:
    tensor = buffer().requires_grad_()
    region = valid(Leaf(tensor, 2))
    assert region.shape == (2, 2, 2, 3)
    assert region.data_ptr() == tensor.data_ptr()
    assert not region.requires_grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits_tells_element_by_element(dtype: torch.dtype) -> None:
    tensor = buffer(dtype)
    alike = same_bits(tensor, changed(tensor, 1, 0, 3, 1))
    assert (~alike).nonzero().tolist() == [[1, 0, 3, 1]]
    assert equal_bits(leaf(tensor), leaf(tensor.clone()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1, 7, 40])
def test_long_runs_of_every_kind_of_number_are_counted_as_they_are(dtype: torch.dtype, size: int) -> None:
    draw = np.random.default_rng(size)
    special = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-42, 3e38, -3e38, 1.0]
    one, other = (
        np.where(
            draw.random((2, 2, 40, 31)) < 0.1, draw.choice(special, (2, 2, 40, 31)), draw.normal(size=(2, 2, 40, 31))
        )
        for _ in range(2)
    )
    same = draw.random(one.shape) < 0.5
    a, b = torch.tensor(one, dtype=dtype), torch.tensor(np.where(same, one, other), dtype=dtype)
    found = only(leaf(a, size), leaf(b, size))

    u, v = a[:, :, :size].double().numpy(), b[:, :, :size].double().numpy()
    bits = np.int32 if dtype is torch.float32 else np.int64
    unequal = a.numpy().view(bits)[:, :, :size] != b.numpy().view(bits)[:, :, :size]
    with np.errstate(all="ignore"):
        distance = np.where(unequal, np.abs(u - v), np.nan)
        relative = distance / np.abs(u)
    distance[~np.isfinite(distance)] = relative[~np.isfinite(relative)] = -1
    assert found.n_mismatched == unequal.sum()
    assert (found.n_nan_control, found.n_nan_candidate) == (np.isnan(u).sum(), np.isnan(v).sum())
    assert (found.n_inf_control, found.n_inf_candidate) == (np.isinf(u).sum(), np.isinf(v).sum())
    assert (found.max_abs_diff, found.max_rel_diff) == (distance.max(), relative.max())
    assert found.max_abs_index == np.unravel_index(distance.argmax(), distance.shape)
    assert found.max_rel_index == np.unravel_index(relative.argmax(), relative.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_each_record_is_found_in_whatever_block_it_lies(dtype: torch.dtype) -> None:
    one = torch.full((1, 1, 4, 1000), 8.0, dtype=dtype)
    other = one + 1
    other[0, 0, 1, 7] = 12.0  # the greatest distance, and none of the later ones is as great
    one[0, 0, 2, 500], other[0, 0, 2, 500] = 0.5, 1.0  # the greatest share
    other[0, 0, 3, 990] = 12.0  # as great, and later
    found = only(leaf(one), leaf(other))
    assert (found.max_abs_diff, found.max_abs_index) == (4.0, (0, 0, 1, 7))
    assert (found.max_rel_diff, found.max_rel_index) == (1.0, (0, 0, 2, 500))


# Agreement of dense entries


@pytest.mark.parametrize(
    "other",
    [
        lambda t: t.view(torch.int32),
        lambda t: t.view(t.shape[0], t.shape[2], t.shape[1], t.shape[3]),
        lambda t: t.double(),
    ],
    ids=["dtype", "shape", "size"],
)
def test_the_same_bytes_in_another_structure_are_no_agreement(other: Callable[[torch.Tensor], torch.Tensor]) -> None:
    one = make_entry(1, size=2, max_tokens=4).clone()
    two = one.clone()
    assert agreement(one, two, True) is not None
    for layer in two:
        for cache in (layer._k_cache, layer._v_cache):
            cache._cache = other(cache._cache)
    assert region(two) is not None
    assert agreement(one, two, True) is None


def test_an_agreement_is_found_again_where_entries_moved() -> None:
    one, two = make_entry(1).clone(), make_entry(1).clone()
    before = agreement(one, two, True)
    for layer in two:
        layer._k_cache._cache = layer._k_cache._cache.clone()
    assert before is not None
    assert agreement(one, two, True) == before
    assert agreement(one, object(), True) is None
