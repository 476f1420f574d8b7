from collections.abc import Callable, Iterable, Sequence
from typing import Any

Columns = Callable[[tuple[Any, ...], int, int], tuple[bytes, ...]]

def connect(capsule: Any, /) -> None: ...
def columns(
    tensor_type: type, otherwise: Columns, tensors: tuple[Any, ...], begin: int, end: int, /
) -> tuple[bytes, ...]: ...
def survey(
    layers: Iterable[Any], tensor_type: type, any_size: bool, anywhere: bool, /
) -> tuple[Any, Any, int, tuple[Any, ...], tuple[int, ...]] | None: ...
def placed(layers: Sequence[Any], tensors: tuple[Any, ...], addresses: tuple[int, ...], /) -> int: ...
def refill(
    layers: Sequence[Any],
    tensors: tuple[Any, ...],
    addresses: tuple[int, ...],
    source: tuple[int, ...],
    rows: int,
    step: int,
    n: int,
    size: int,
    /,
) -> bool: ...
def restage(
    layers: Iterable[Any],
    tensor_type: type,
    structure: tuple[Any, Any, int, int, int],
    staged: tuple[Sequence[Any], tuple[Any, ...], tuple[int, ...]],
    /,
) -> tuple[int, tuple[Any, ...], tuple[int, ...]] | None: ...
def equal(one: tuple[int, ...], other: tuple[int, ...], rows: int, step: int, n: int, /) -> bool: ...
def gather(addresses: tuple[int, ...], rows: int, step: int, n: int, /) -> memoryview | bytes: ...
def parts(contents: Any, count: int, /) -> tuple[memoryview, ...]: ...
def agreed(
    one: tuple[Any, tuple[Any, ...], tuple[int, ...]],
    other: tuple[Any, tuple[Any, ...], tuple[int, ...]],
    structure: tuple[Any, Any, int, int, int],
    wanted: bool,
    /,
) -> tuple[int, memoryview | bytes | None] | None: ...
