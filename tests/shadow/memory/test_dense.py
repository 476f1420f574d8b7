"""The byte work of dense entries: compiled or not, the same answers."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from shadow.entry import leaves
from shadow.memory import dense_python
from shadow.memory.dense import COMPILED, columns_of
from tests.shadow.entries import make_entry

try:
    from shadow.memory import _dense
except ImportError:
    _dense = None  # type: ignore[assignment]

VIEWS = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
ROOT = Path(__file__).parents[3]
NEEDS_C = pytest.mark.skipif(
    not COMPILED, reason="shadow.memory._dense was not compiled here, or torch is older than 2.10"
)


@pytest.fixture(params=["python", pytest.param("C", marks=NEEDS_C)])
def work(request: pytest.FixtureRequest) -> ModuleType:
    return dense_python if request.param == "python" else _dense


def place(entry: Any) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
    tensors = tuple(leaf.tensor for leaf in leaves(entry))
    return tensors, tuple(tensor.data_ptr() for tensor in tensors)


def addresses(*tensors: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)


def survey(work: ModuleType, entry: Any, any_size: bool = False, anywhere: bool = False) -> Any:
    return work.survey(entry._keys_values, torch.Tensor, any_size, anywhere)


@pytest.mark.parametrize("any_size", [False, True])
def test_a_dense_entry_is_surveyed(work: ModuleType, any_size: bool) -> None:
    entry = make_entry(1, size=3)
    tensors, where = place(entry)
    shape, dtype, size, found, lie = survey(work, entry, any_size)
    assert (shape, dtype, size, lie) == (tensors[0].shape, torch.float32, 0 if any_size else 3, where)
    assert all(one is other for one, other in zip(found, tensors, strict=True))


class Odd(torch.Tensor):
    """A subclass, which may answer what it likes."""


NOT_DENSE = {
    "class": lambda tensor: tensor.as_subclass(Odd),
    "no tensor": lambda tensor: tensor.numpy(),
    "shape": lambda tensor: tensor[:, :, :-1].contiguous(),
    "dimensions": lambda tensor: tensor[..., 0].contiguous(),
    "dtype": lambda tensor: tensor.double(),
    "dtype of that size": lambda tensor: tensor.to(torch.int32),
    "dtype of that kind": lambda tensor: tensor.to(torch.float16),
    "strides": lambda tensor: tensor.mT.contiguous().mT,
    "layout": lambda tensor: tensor.to_sparse(),
    "device": lambda tensor: tensor.to("meta"),
    "negative": lambda tensor: torch._neg_view(tensor),
}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("part", ["_k_cache", "_v_cache"])
@pytest.mark.parametrize("what", NOT_DENSE)
def test_one_buffer_that_is_not_dense_is_noticed_anywhere(work: ModuleType, what: str, layer: int, part: str) -> None:
    entry = make_entry(1, size=3)
    cache = getattr(entry[layer], part)
    cache._cache = NOT_DENSE[what](cache._cache)
    assert survey(work, entry) is None
    assert survey(work, entry, any_size=True) is None
    assert survey(work, entry, anywhere=True) is None


@pytest.mark.parametrize("size", [2, -1, 2**80, True, None, 3.0])
@pytest.mark.parametrize("layer", [0, 1])
def test_one_length_that_differs_or_is_none_is_noticed(work: ModuleType, layer: int, size: Any) -> None:
    entry = make_entry(1, size=3)
    entry[layer]._v_cache._size = size
    assert survey(work, entry) is None
    assert survey(work, entry, any_size=True) is not None


def test_no_layers_are_no_dense_entry(work: ModuleType) -> None:
    assert work.survey((), torch.Tensor, False, False) is None
    with pytest.raises(AttributeError):
        work.survey((object(),), torch.Tensor, False, False)
    with pytest.raises(TypeError):
        work.survey(None, torch.Tensor, False, False)


def test_an_entry_that_lies_where_it_lay_answers_its_length(work: ModuleType) -> None:
    entry = make_entry(1, size=3)
    assert work.placed(entry._keys_values, *place(entry)) == 3
    assert work.placed(list(entry._keys_values), *place(entry)) == 3


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("part", ["_k_cache", "_v_cache"])
def test_another_buffer_memory_or_length_is_noticed_anywhere(work: ModuleType, layer: int, part: str) -> None:
    for change, expected in (("buffer", -1), ("memory", -1), ("length", -2), ("kind of length", -2)):
        entry = make_entry(1, size=3)
        known = place(entry)
        cache = getattr(entry[layer], part)
        if change == "buffer":
            cache._cache = cache._cache[:]
        elif change == "memory":
            cache._cache.data = cache._cache.clone()
        else:
            cache._size = 2 if change == "length" else 3.0
        assert work.placed(entry._keys_values, *known) == expected, change


@pytest.mark.parametrize("size", [-1, 2**80, True, None])
def test_an_impossible_length_is_none(work: ModuleType, size: Any) -> None:
    entry = make_entry(1)
    known = place(entry)
    for layer in entry:
        layer._k_cache._size = layer._v_cache._size = size
    assert work.placed(entry._keys_values, *known) in (-2, 2**80)


def test_another_number_of_layers_lies_elsewhere(work: ModuleType) -> None:
    entry = make_entry(1, layers=2)
    tensors, where = place(entry)
    assert work.placed(entry._keys_values[:1], tensors, where) == -1
    assert work.placed((), (), ()) == -1


def test_what_has_no_layers_raises(work: ModuleType) -> None:
    entry = make_entry(1, layers=1)
    with pytest.raises(AttributeError):
        work.placed((object(),), *place(entry))


@pytest.mark.parametrize("at", [0, 5, 8, 13, 16, 21])
def test_only_runs_count(work: ModuleType, at: int) -> None:
    one = torch.arange(48, dtype=torch.uint8).reshape(2, 24)
    other = one.clone()
    where = addresses(one[0], one[1]), addresses(other[0], other[1])
    assert work.equal(*where, 3, 8, 5)
    other[1, at] += 1
    assert work.equal(*where, 3, 8, 5) == (at % 8 >= 5)
    assert not work.equal(*where, 1, 0, 24)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("n", [1, 5, 208])
@pytest.mark.parametrize("order", ["in place", "backwards", "apart"])
def test_runs_are_gathered_one_behind_the_other(work: ModuleType, order: str, rows: int, n: int) -> None:
    source = torch.randint(0, 256, (3, rows, 208), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    buffers = {"in place": [*source], "backwards": [*source][::-1], "apart": [source[0], source[2]]}[order]

    found = bytes(work.gather(addresses(*buffers), rows, 208, n))

    assert found == b"".join(bytes(row[:n].tolist()) for buffer in buffers for row in buffer)


def test_bytes_come_apart_into_equal_parts(work: ModuleType) -> None:
    whole = bytes(range(12))

    assert [bytes(part) for part in work.parts(whole, 3)] == [whole[:4], whole[4:8], whole[8:]]
    assert [bytes(part) for part in work.parts(memoryview(whole), 1)] == [whole]
    assert [bytes(part) for part in work.parts(b"", 2)] == [b"", b""]


@NEEDS_C
def test_what_lies_together_is_gathered_in_place() -> None:
    source = torch.arange(24, dtype=torch.uint8).reshape(3, 8)

    together, apart = (_dense.gather(addresses(*rows), 1, 0, 8) for rows in (source, (source[0], source[2])))
    source.add_(1)

    assert bytes(together) == bytes(range(1, 25))
    assert bytes(apart) == bytes([*range(8), *range(16, 24)])


def test_no_runs_are_equal_and_gather_to_nothing(work: ModuleType) -> None:
    one, other = torch.zeros(8, dtype=torch.uint8), torch.ones(8, dtype=torch.uint8)
    assert work.equal(addresses(one), addresses(other), 2, 4, 0)
    assert bytes(work.gather(addresses(one), 2, 4, 0)) == bytes(work.gather((), 2, 4, 4)) == b""


@pytest.mark.parametrize("index", range(4))
def test_a_buffer_turned_around_in_place_lies_elsewhere(work: ModuleType, index: int) -> None:
    entry = make_entry(1, size=2, heads=4, max_tokens=4)
    tensors, where = place(entry)
    assert work.placed(entry._keys_values, tensors, where) == 2
    tensors[index].transpose_(1, 2)
    assert work.placed(entry._keys_values, tensors, where) == -1


@NEEDS_C
@pytest.mark.parametrize("major", [0, 1, 2])
def test_a_table_of_another_version_is_not_used(major: int) -> None:
    table = (ctypes.c_uint32 * 32)(major, *[1] * 31)
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule = new_capsule(ctypes.addressof(table), b"dlpack_exchange_api", None)
    try:
        with nullcontext() if major == 1 else pytest.raises(ImportError, match=f"is of version {major}, not 1"):
            _dense.connect(capsule)
        with pytest.raises(ValueError, match="PyCapsule"):
            _dense.connect(object())
    finally:
        _dense.connect(VIEWS)


def test_a_torch_without_views_of_tensors_leaves_the_work_to_python() -> None:
    script = (
        "import torch; Tensor = torch.Tensor\n"
        "if hasattr(Tensor, '__dlpack_c_exchange_api__'): del Tensor.__dlpack_c_exchange_api__\n"
        "from shadow.memory import dense; print(dense.COMPILED, dense.survey.__module__)"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "shadow.memory.dense_python"]


def test_tuples_of_other_lengths_are_refused(work: ModuleType) -> None:
    one = torch.zeros(8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r".+"):
        work.equal(addresses(one), addresses(one, one), 1, 0, 8)


def test_an_entry_that_lies_where_it_lay_is_refilled(work: ModuleType) -> None:
    entry, other = make_entry(1, size=2), make_entry(2, size=3)
    tensors, where = place(entry)
    _, source = place(other)
    batch, heads, tokens, width = tensors[0].shape
    runs = (batch * heads, tokens * width * 4, 3 * width * 4)

    assert work.refill(entry._keys_values, tensors, where, source, *runs, 3)

    assert [leaf.size for leaf in leaves(entry)] == [3] * 4
    for mine, theirs in zip(leaves(entry), leaves(other), strict=True):
        assert torch.equal(mine.tensor[:, :, :3], theirs.tensor[:, :, :3])


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("change", ["buffer", "memory", "layers"])
def test_an_entry_that_lies_elsewhere_is_not_refilled(work: ModuleType, change: str, layer: int) -> None:
    entry, other = make_entry(1, size=2), make_entry(2, size=2)
    tensors, where = place(entry)
    before = [tensor.clone() for tensor in tensors]
    cache = entry[layer]._v_cache
    layers = entry._keys_values
    if change == "buffer":
        cache._cache = cache._cache[:]
    elif change == "memory":
        cache._cache.data = cache._cache.clone()
    else:
        layers = layers[:layer]

    assert not work.refill(layers, tensors, where, place(other)[1], 1, 0, 8, 2)

    assert all(torch.equal(one, two) for one, two in zip(map(bits, tensors), map(bits, before), strict=True))
    with pytest.raises(AttributeError):
        work.refill((object(), object()), tensors, where, where, 1, 0, 8, 2)


def restage(work: ModuleType, entry: Any, staged: Any, where: Any = None) -> Any:
    tensors, lay = where or place(staged)
    batch, heads, tokens, width = tensors[0].shape
    structure = (tuple(tensors[0].shape), tensors[0].dtype, batch * heads, tokens, width * 4)
    copy = (staged._keys_values, tensors, lay)
    return work.restage(entry._keys_values, torch.Tensor, structure, copy)


@pytest.mark.parametrize("size", [0, 3, 4])
def test_an_entry_is_copied_to_a_staged_one(work: ModuleType, size: int) -> None:
    staged, entry = make_entry(1, size=2, max_tokens=4), make_entry(2, size=size, max_tokens=4)
    before = [tensor.clone() for tensor in place(staged)[0]]

    length, tensors, lie = restage(work, entry, staged)

    assert (length, lie) == (size, place(entry)[1])
    assert all(one is other for one, other in zip(tensors, place(entry)[0], strict=True))
    assert [leaf.size for leaf in leaves(staged)] == [size] * 4
    for mine, theirs, old in zip(leaves(staged), leaves(entry), before, strict=True):
        assert torch.equal(mine.tensor[:, :, :size], theirs.tensor[:, :, :size])
        assert torch.equal(bits(mine.tensor[:, :, size:]), bits(old[:, :, size:]))


def untouched(staged: Any, before: list[torch.Tensor]) -> bool:
    return all(torch.equal(bits(one), bits(two)) for one, two in zip(place(staged)[0], before, strict=True))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("change", ["buffer", "memory"])
def test_a_staged_entry_that_lies_elsewhere_is_not_filled(work: ModuleType, change: str, layer: int) -> None:
    staged, entry = make_entry(1, size=2), make_entry(2, size=2)
    where, before = place(staged), [tensor.clone() for tensor in place(staged)[0]]
    cache = staged[layer]._v_cache
    if change == "buffer":
        cache._cache = cache._cache[:]
    else:
        cache._cache.data = cache._cache.clone()

    assert restage(work, entry, staged, where) is None

    assert untouched(staged, before)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("what", [*NOT_DENSE, "length", "no memory"])
def test_only_a_dense_entry_of_the_structure_is_copied(work: ModuleType, what: str, layer: int) -> None:
    staged, entry = make_entry(1, size=2), make_entry(2, size=2)
    before = [tensor.clone() for tensor in place(staged)[0]]
    cache = entry[layer]._k_cache
    if what == "length":
        cache._size = 1
    elif what == "no memory":
        cache._cache.untyped_storage().resize_(0)
    else:
        cache._cache = NOT_DENSE[what](cache._cache)

    assert restage(work, entry, staged) is None

    assert untouched(staged, before)


@pytest.mark.parametrize("what", ["all too long", "all of another shape", "other layers"])
def test_an_entry_of_another_structure_is_not_copied(work: ModuleType, what: str) -> None:
    staged, entry = make_entry(1, size=2, max_tokens=4), make_entry(2, size=2, max_tokens=4)
    before = [tensor.clone() for tensor in place(staged)[0]]
    if what == "all too long":
        for layer in entry:
            layer._k_cache._size = layer._v_cache._size = 5
    elif what == "all of another shape":
        entry = make_entry(2, size=2, max_tokens=5)
    else:
        entry._keys_values = entry._keys_values[:1]

    assert restage(work, entry, staged) is None

    assert untouched(staged, before)


def test_what_has_no_layers_is_not_staged(work: ModuleType) -> None:
    staged, none = make_entry(1, size=2), make_entry(2, size=2)
    none._keys_values = (object(), object())
    with pytest.raises(AttributeError):
        restage(work, none, staged)
    where = place(staged)
    staged._keys_values = (object(), object())
    with pytest.raises(AttributeError):
        restage(work, make_entry(2, size=2), staged, where)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int32)


def lie(entry: Any) -> tuple[Any, tuple[torch.Tensor, ...], tuple[int, ...]]:
    return entry._keys_values, *place(entry)


def structure(entry: Any) -> tuple[Any, torch.dtype, int, int, int]:
    tensor = leaves(entry)[0].tensor
    batch, heads, tokens, width = tensor.shape
    return tensor.shape, tensor.dtype, batch * heads, tokens, width * tensor.element_size()


@pytest.mark.parametrize("size", [0, 1, 3, 4])
def test_entries_that_hold_the_same_agree(work: ModuleType, size: int) -> None:
    one, other = make_entry(1, size=size), make_entry(1, size=size)
    for tensor, _ in leaves(other):
        tensor[:, :, size:] = 7  # beyond the valid length nothing counts
    found = work.agreed(lie(one), lie(other), structure(one), True)
    assert (found[0], bytes(found[1])) == (
        size,
        b"".join(t[:, :, :size].contiguous().numpy().tobytes() for t, _ in leaves(one)),
    )
    assert work.agreed(lie(one), lie(other), structure(one), False) == (size, None)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("changed", [0, 1])
def test_one_value_or_length_or_place_is_enough_not_to_agree(work: ModuleType, index: int, changed: int) -> None:
    pair = make_entry(1, size=3), make_entry(1, size=3)
    lies, struct_ = (lie(pair[0]), lie(pair[1])), structure(pair[0])
    layer = pair[changed][index // 2]
    cache = layer._v_cache if index % 2 else layer._k_cache
    cache._cache[0, 1, 2, 1] += 1
    assert work.agreed(*lies, struct_, False) is None
    cache._cache[0, 1, 2, 1] -= 1
    assert work.agreed(*lies, struct_, False) == (3, None)
    cache._size = 2
    assert work.agreed(*lies, struct_, False) is None
    cache._size = 3
    cache._cache = cache._cache.clone()
    assert work.agreed(*lies, struct_, False) is None


def test_entries_that_are_longer_than_their_buffers_do_not_agree(work: ModuleType) -> None:
    one = make_entry(1, size=3)
    for layer in one:
        layer._k_cache._size = layer._v_cache._size = 99
    assert work.agreed(lie(one), lie(one), structure(one), False) is None


POSITIONS = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4) - 60
LAID_OUT = {
    "contiguous": POSITIONS,
    "heads behind positions": POSITIONS.transpose(1, 2).contiguous().transpose(1, 2),
    "a view of room for more": torch.nn.functional.pad(POSITIONS, (0, 0, 1, 2))[:, :, 1:-2],
    "width not together": POSITIONS.mT.contiguous().mT,
    "one vector for all": POSITIONS[:, :, :, :1].expand(2, 3, 5, 4),
    "negative": torch._neg_view(POSITIONS),
    "conjugate": torch.complex(POSITIONS, POSITIONS).conj(),
    "bfloat16": POSITIONS.to(torch.bfloat16),
    "bool": POSITIONS > 0,
    "float8": POSITIONS.to(torch.float8_e4m3fn),
    "class": POSITIONS.as_subclass(Odd),
    "with a gradient": POSITIONS.clone().requires_grad_(),
    "no width": POSITIONS[..., :0],
    "no rows": POSITIONS[:0],
}


@pytest.mark.parametrize("laid_out", LAID_OUT)
@pytest.mark.parametrize(("begin", "end"), [(0, 5), (2, 3), (4, 5), (3, 3), (2, 9)])
def test_columns_are_copied_position_by_position(laid_out: str, begin: int, end: int) -> None:
    tensor = LAID_OUT[laid_out]
    plain = tensor.detach().resolve_neg().resolve_conj()
    expected = b"".join(
        bytes(plain[row, head, position].clone().view(torch.uint8).numpy())
        for row in range(plain.shape[0])
        for position in range(begin, min(end, 5))
        for head in range(plain.shape[1])
        if plain.shape[3]
    )

    assert columns_of((tensor, tensor), begin, end) == (expected, expected)
    assert dense_python.columns_of((tensor, tensor), begin, end) == (expected, expected)


@NEEDS_C
def test_columns_are_left_to_python_where_they_are_no_plain_memory() -> None:
    asked: list[Any] = []

    def otherwise(*args: Any) -> tuple[bytes, ...]:
        asked.append(args)
        return ()

    plain = {"contiguous", "heads behind positions", "a view of room for more", "bfloat16", "with a gradient"}
    plain |= {"no width", "no rows"}
    left = {
        name for name, each in LAID_OUT.items() if _dense.columns(torch.Tensor, otherwise, (each, each), 1, 3) == ()
    }

    assert left == LAID_OUT.keys() - plain
    assert all(args[1:] == (1, 3) and len(args[0]) == 2 for args in asked)
    for wrong in ((torch.Tensor, otherwise, (), 0), (torch.Tensor, otherwise, [], 0, 1)):
        with pytest.raises(TypeError, match="columns takes"):
            _dense.columns(*wrong)
