"""The buffers of an entry: allocating them, copying between them, seeing them as one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from operator import index
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from shadow.interface import positive

WHOLE: Final = sys.maxsize  # valid length of a tensor without an axis of tokens: a slice up to it is all of it


class Leaf(NamedTuple):
    """One tensor of an entry and its valid length.

    Attributes:
        tensor: Buffer ``(B, num_heads, max_tokens, head_dim)``; of a nest any tensor.
        size: Valid tokens; ``WHOLE`` of a nest's.
    """

    tensor: Tensor
    size: int


def as_length(size: Any) -> Any:
    """Return a length as an int if it is NumPy's or a tensor's whole number, and as it is if it is none."""
    try:
        return index(size)
    except TypeError:
        return size


def one_view(source: Sequence[Leaf]) -> Tensor | None:
    """Return the valid regions of an entry as one view, for one kernel in place of many.

    Args:
        source: Its leaves.

    Returns:
        ``(leaves, B, num_heads, size, head_dim)``, detached; None where the buffers are not of one structure and length
        at equal distances in one allocation, as caches make them.
    """
    if not source:
        return None
    first, size = source[0]
    if first.ndim != 4 or first.layout is not torch.strided or not (first.numel() and 0 <= size <= first.shape[2]):
        return None
    shape, strides, dtype = first.shape, first.stride(), first.dtype
    at, last = first.data_ptr(), source[-1].tensor
    step_nbytes = source[1].tensor.data_ptr() - at if len(source) > 1 else 0
    # What lies at equal distances between two buffers of one allocation lies in that allocation.
    if strides[3] != 1 or step_nbytes < 0 or last.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
        return None
    for tensor, length in source:
        if (
            tensor.data_ptr() != at
            or length != size
            or tensor.shape != shape
            or tensor.dtype is not dtype
            or tensor.stride() != strides
        ):
            return None
        at += step_nbytes
    batch, heads, _, head_dim = shape
    step = step_nbytes // first.element_size()
    view = (len(source), batch, heads, size, head_dim)
    return first.detach().as_strided(view, (step, *strides), first.storage_offset())


def fill(buffers: Sequence[Tensor], source: Sequence[Leaf]) -> None:
    """Copy the valid regions of an entry into buffers of its shapes, in one kernel where they lie so."""
    theirs = one_view(source)
    if theirs is not None:
        mine = one_view([Leaf(buffer, leaf.size) for buffer, leaf in zip(buffers, source, strict=True)])
        if mine is not None:
            mine.copy_(theirs)
            return
    for buffer, (tensor, size) in zip(buffers, source, strict=True):
        if tensor.ndim == 4 and size < tensor.shape[2]:
            buffer[:, :, :size].copy_(tensor.detach()[:, :, :size])
        else:
            buffer.copy_(tensor.detach())


def ordinary() -> Any:
    """Leave inference mode, if it is on: what is allocated in it could not be written outside any more."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def empty_like(tensor: Tensor) -> Tensor:
    """Allocate an ordinary tensor of the same shape, dtype and device, whatever modes the caller runs in."""
    with ordinary():
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def empty_buffers(
    leading: tuple[int, ...],
    num_samples: int,
    num_heads: int,
    max_tokens: int,
    embed_dim: int,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Tensor:
    """Allocate ``(*leading, B, num_heads, max_tokens, head_dim)`` after checking every size."""
    sizes = {"num_samples": num_samples, "num_heads": num_heads, "max_tokens": max_tokens, "embed_dim": embed_dim}
    for name, value in sizes.items():
        positive(name, value)
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
    with ordinary():
        return torch.empty(
            (*leading, num_samples, num_heads, max_tokens, embed_dim // num_heads), dtype=dtype, device=device
        )


def empty_strided(tensor: Tensor) -> Tensor:
    """Allocate an ordinary tensor of the same shape, strides, dtype and device.

    Overlapping strides (an expanded tensor) can't be written through; of such a one the new one is simply contiguous.
    """
    strides = tensor.stride() if 0 not in tensor.stride() else torch.empty(tensor.shape).stride()
    with ordinary():
        return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device)


def in_one_block(count: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> list[Tensor]:
    """Allocate ordinary contiguous buffers of one structure that lie together in memory."""
    with ordinary():
        return list(torch.empty((count, *shape), dtype=dtype, device=device).unbind())


def match(one: Sequence[Leaf], other: Sequence[Leaf]) -> bool:
    """Tell whether two entries are of the same number of buffers, of the same shapes, dtypes and devices."""
    return len(one) == len(other) and all(
        mine.tensor.shape == theirs.tensor.shape
        and mine.tensor.dtype == theirs.tensor.dtype
        and mine.tensor.device == theirs.tensor.device
        for mine, theirs in zip(one, other, strict=True)
    )


def alike(source: Sequence[Leaf]) -> list[Tensor]:
    """Allocate contiguous buffers that match the given leaves; in one block where they are all of one structure."""
    first = source[0].tensor
    if match(source, [source[0]] * len(source)):
        return in_one_block(len(source), first.shape, first.dtype, first.device)
    return [empty_like(leaf.tensor) for leaf in source]


def stream_of(device: torch.device) -> int:
    """Return which stream is current on a device; 0 where there are none."""
    return torch._C._cuda_getCurrentRawStream(device.index) if device.type == "cuda" else 0


def describe(value: Any) -> str:
    """Describe a tensor by dtype and shape, anything else by its type; never by its values."""
    if isinstance(value, Tensor):
        layout = "" if value.layout is torch.strided else f"{str(value.layout).removeprefix('torch.')} "
        return f"{layout}{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    return type(value).__name__


def bytes_of(values: Tensor) -> memoryview:
    """Return the bytes of any tensor, whether NumPy knows its type or not."""
    own = values.cpu().resolve_conj().resolve_neg().contiguous()
    # Of one element to a dimension, torch takes any stride for contiguous; as_strided says the one that a view needs.
    return own.as_strided((own.numel(),), (1,)).view(torch.uint8).numpy().data
