"""Digests tell entries apart by contents, order and structure, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shadow.entry import KeysValues, leaves
from shadow.located import region
from shadow.memory import dense_python
from shadow.memory.buffers import Leaf
from tests.guards import guards
from tests.shadow.entries import layer_of, make_entry
from validator.entries import compare
from validator.entries import digest as digests
from validator.entries.compare import agreement
from validator.entries.digest import Digest, digest, digest_region, holds

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def of(entry: KeysValues) -> Digest:
    return digest(leaves(entry))


def strided(source: list[Leaf]) -> Digest:
    """Digest copies of leaves in memory where tokens do not lie one behind the other: those of no dense entry."""
    return digest([Leaf(tensor.transpose(2, 3).contiguous().transpose(2, 3), size) for tensor, size in source])


def each(entry: KeysValues, change: Any) -> KeysValues:
    """Change the valid region of every tensor of an entry."""
    for tensor, size in leaves(entry):
        tensor[:, :, :size] = change(tensor[:, :, :size].clone())
    return entry


@guards("validator/entries/digest.py", "found = bytes_of(valid(leaf))", "found = bytes_of(tensor.detach())")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_entry_made_twice_has_the_same_digest(dtype: torch.dtype) -> None:
    assert of(make_entry(1, dtype=dtype)) == of(make_entry(1, dtype=dtype))
    assert of(make_entry(1, dtype=dtype)) == of(make_entry(1, dtype=dtype).clone())
    bent = make_entry(1, dtype=dtype)
    for tensor, size in leaves(bent):
        tensor[:, :, size:] = 7
    assert of(make_entry(1, dtype=dtype)) == strided(leaves(make_entry(1, dtype=dtype))) == strided(leaves(bent))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "change",
    [
        lambda region: region.flip(2),
        lambda region: region.flip(1),
        lambda region: region.flip(0),
        lambda region: region.flip(3),
        lambda region: region.roll(1, dims=2),
        lambda region: -region,
    ],
    ids=["tokens", "heads", "samples", "channels", "rolled", "sign"],
)
def test_order_and_sign_are_part_of_the_digest(change: Any, dtype: torch.dtype) -> None:
    # Cells that are exact and distinct in every dtype: 24 of 0 to 95.
    entry = make_entry(0, batch=2, dtype=dtype)
    for index, (tensor, size) in enumerate(leaves(entry)):
        tensor[:, :, :size] = torch.arange(24 * index, 24 * (index + 1)).reshape(2, 2, size, 2) + 1
    before = of(entry)
    after = of(each(entry, change))
    assert all(one != other for one, other in zip(before.contents, after.contents, strict=True))
    assert after.layout == before.layout


def test_keys_and_values_swapped_make_another_digest() -> None:
    entry = make_entry(1)
    swapped = KeysValues.from_layers(layer_of(layer._v_cache, layer._k_cache) for layer in entry)
    assert of(swapped) != of(entry)
    assert sorted(of(swapped).contents) == sorted(of(entry).contents)


def test_layers_swapped_make_another_digest() -> None:
    entry = make_entry(1)
    assert of(KeysValues.from_layers(reversed(list(entry)))) != of(entry)


@pytest.mark.parametrize("index", range(4))
def test_one_bit_anywhere_changes_the_hash_of_its_tensor_and_no_other(index: int) -> None:
    entry = make_entry(1)
    before = of(entry).contents
    leaves(entry)[index].tensor.view(torch.int32)[0, 1, 2, 1] ^= 1
    after = of(entry).contents
    assert [one == other for one, other in zip(before, after, strict=True)] == [i != index for i in range(4)]


def test_zeros_of_both_signs_and_nans_of_two_payloads_are_told_apart() -> None:
    zeros = torch.zeros(1, 1, 1, 4)
    assert digest([Leaf(zeros, 1)]) != digest([Leaf(-zeros, 1)])
    nans = torch.full((1, 1, 1, 4), float("nan"))
    other = nans.clone()
    other.view(torch.int32)[0, 0, 0, 0] ^= 1
    assert digest([Leaf(nans, 1)]) == digest([Leaf(nans.clone(), 1)])
    assert digest([Leaf(nans, 1)]) != digest([Leaf(other, 1)])


@guards(
    "validator/entries/digest.py",
    "return Digest(tuple(contents), tuple(layout), whole",
    "return Digest(tuple(contents), (), whole",
)
@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(1, 4, 2, 3),
        torch.zeros(1, 2, 4, 3, dtype=torch.int32),
        torch.zeros(2, 2, 2, 3),
        torch.zeros(1, 2, 8, 3)[:, :, ::2].contiguous().view(1, 2, 3, 4),
    ],
    ids=["other axes", "other dtype", "other batch", "other head_dim"],
)
def test_the_same_bytes_in_another_structure_are_another_entry(other: torch.Tensor) -> None:
    one = torch.zeros(1, 2, 4, 3)
    assert one.nbytes == other.nbytes
    for digested in (digest, strided):
        assert digested([Leaf(one, one.shape[2])]) != digested([Leaf(other, other.shape[2])])


def test_length_is_part_of_the_digest_even_where_no_byte_shows_it() -> None:
    empty = torch.zeros(0, 2, 4, 3)
    assert digest([Leaf(empty, 1)]) != digest([Leaf(empty, 2)])
    assert of(make_entry(1, size=2)) != of(make_entry(1, size=3))


def test_capacity_is_part_of_the_digest() -> None:
    assert of(make_entry(1, max_tokens=4)).contents == of(make_entry(1, max_tokens=5)).contents
    assert of(make_entry(1, max_tokens=4)) != of(make_entry(1, max_tokens=5))


def test_a_layer_less_is_another_entry() -> None:
    assert of(make_entry(1, layers=1)) != of(make_entry(1, layers=2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 3, 4])
def test_cells_beyond_the_valid_length_play_no_part(dtype: torch.dtype, size: int) -> None:
    one, other = make_entry(1, size=size, dtype=dtype), make_entry(1, size=size, dtype=dtype)
    for tensor, _ in leaves(other):
        tensor[:, :, size:] = 7
    assert of(one) == of(other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strides_play_no_part(dtype: torch.dtype) -> None:
    tensor = leaves(make_entry(1, batch=2, dtype=dtype))[0].tensor
    transposed = torch.empty(2, 2, 2, 4, dtype=dtype).transpose(2, 3).copy_(tensor)
    wide = torch.empty(2, 2, 4, 4, dtype=dtype)[..., ::2].copy_(tensor)
    expected = digest([Leaf(tensor, 3)])
    assert digest([Leaf(transposed, 3)]) == expected
    assert digest([Leaf(wide, 3)]) == expected


def test_a_tensor_that_wants_a_gradient_is_digested_as_any_other() -> None:
    tensor = torch.ones(1, 1, 2, 2)
    assert digest([Leaf(tensor.clone().requires_grad_(), 2)]) == digest([Leaf(tensor, 2)])


def test_empty_tensors_hash_to_nothing() -> None:
    assert of(make_entry(1, size=0)).contents == (0, 0, 0, 0)


# The shorter ways for entries that lie in plain memory must come to the same


def plain(entry: KeysValues) -> Any:
    found = region(entry)
    assert found is not None, "an entry of our own in one block is plain"
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 3, 4])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("tokens", [4, 400])
def test_a_plain_entry_digests_as_its_leaves_do(dtype: torch.dtype, size: int, batch: int, tokens: int) -> None:
    entry = make_entry(1, size=size, batch=batch, max_tokens=tokens, dtype=dtype).clone()
    assert digest_region(plain(entry)) == strided(leaves(entry)) == of(entry)


@pytest.mark.parametrize("size", [0, 1, 3, 4])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("tokens", "head_dim"), [(4, 2), (4, 600), (400, 2)])
def test_plain_entries_are_equal_exactly_where_their_leaves_are(
    size: int, batch: int, tokens: int, head_dim: int
) -> None:
    shape = {"size": size, "batch": batch, "max_tokens": tokens, "head_dim": head_dim}
    one, other = make_entry(1, **shape).clone(), make_entry(1, **shape).clone()
    for tensor, _ in leaves(other):
        tensor[:, :, size:] = 5  # beyond the valid length nothing counts
    assert agreement(one, other, False) is not None
    assert digest_region(plain(one)) == digest_region(plain(other))
    for index in range(4 if size else 0):
        for place in ((0, 0, 0, 0), (batch - 1, 1, size - 1, head_dim - 1)):
            bent = one.clone()
            leaves(bent)[index].tensor[place] += 1
            assert agreement(one, bent, False) is None
            assert digest_region(plain(bent)) != digest_region(plain(one))


def test_plain_entries_of_another_structure_are_not_equal() -> None:
    one = make_entry(1).clone()
    for other in (make_entry(1, size=2), make_entry(1, max_tokens=5), make_entry(1, batch=2), make_entry(1, layers=1)):
        assert agreement(one, other.clone(), False) is None
    assert agreement(one, make_entry(1, dtype=torch.float64).clone(), False) is None


@pytest.mark.parametrize("size", [0, 1, 3, 4])
@pytest.mark.parametrize("apart", [False, True])
def test_compiled_or_not_the_digest_is_the_same(monkeypatch: pytest.MonkeyPatch, size: int, apart: bool) -> None:
    entry = make_entry(1, size=size, batch=2)
    found = plain(entry if apart else entry.clone())
    expected = digest_region(found)

    for name in ("gather", "parts"):
        monkeypatch.setattr(f"validator.entries.digest.{name}", getattr(dense_python, name))

    assert digest_region(found) == expected
    assert holds(found, expected)


def test_the_whole_is_hashed_apart_from_its_parts_and_moves_with_each() -> None:
    entry = make_entry(1)
    before = of(entry)
    assert before.whole not in (*before.contents, 0)
    for index in range(4):
        bent = entry.clone()
        leaves(bent)[index].tensor[0, 1, 2, 1] += 1
        assert of(bent).whole != before.whole
        assert not holds(plain(bent), before)


def test_a_dense_entry_of_another_structure_does_not_hold_what_was_digested() -> None:
    assert not holds(plain(make_entry(1, max_tokens=5).clone()), of(make_entry(1, max_tokens=4)))


def test_digests_of_two_kinds_are_never_of_the_same_contents() -> None:
    host = of(make_entry(1))
    device = host._replace(whole=None)

    assert device.same_contents(device)
    assert host.same_contents(host)
    assert not device.same_contents(host)
    assert not host.same_contents(device)
    assert device != host


def test_a_contiguous_tensor_of_unusual_strides_is_digested_as_its_copy() -> None:
    one = torch.rand(2, 2, 3, 8)[:1, :1, :, :1].transpose(2, 3)[:, :, :, :1]
    assert one.is_contiguous()
    assert one.stride(-1) != 1

    assert digest([Leaf(one, 1)]).contents == digest([Leaf(one.clone(), 1)]).contents


@guards("validator/entries/digest.py", "                whole.update(piece)\n", "")
@guards("validator/entries/compare.py", "if len(addresses) * rows * n <= LARGE:", "if True:")
@pytest.mark.parametrize("size", [0, 1, 3, 4])
def test_a_large_entry_has_the_same_digest_and_is_never_gathered(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_run(addresses: tuple[int, ...], rows: int, step: int, n: int) -> Any:
        assert (len(addresses), rows) == (1, 1) or not n
        return dense_python.gather(addresses, rows, step, n)

    entry, twin = make_entry(1, size=size), make_entry(1, size=size).clone()
    expected, agreed = of(entry), agreement(entry, twin, hashed=True)
    monkeypatch.setattr(digests, "_PIECE", 8)
    for module in (compare, digests):
        monkeypatch.setattr(module, "LARGE", 0)
        monkeypatch.setattr(module, "gather", one_run)
    here = region(entry)
    assert here is not None
    assert digest_region(here) == expected
    assert holds(here, expected)
    assert agreement(entry, twin, hashed=True) == agreed
    assert agreed is not None
    assert agreed[2] == expected.whole
