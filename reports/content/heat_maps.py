"""What the evidence of a divergence shows: where, over layers, heads and tokens, both sides differ and by how much.

Numbers in a grid: 0 is equal, a positive number the greatest absolute difference behind that cell, infinity a cell
where NaN or Inf stands on one side only, NaN a cell that one side does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from reports.record.records import called

Array = npt.NDArray[Any]

_MAX_BYTES = 256 << 20
_MAX_ROWS = 24
_MAX_COLUMNS = 48
_RAW = np.dtype("V1")  # of a type that can't be drawn
_PLAIN = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"},
}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of differences.

    Attributes:
        rows: Name of each row.
        columns: Name of each column: a token, or several put together.
        values: One row of numbers each, as the module says.
        remark: What was put together or left out, or empty.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """Where the two sides of one divergence differ.

    Attributes:
        layers: Over layers (keys and values apart) and tokens.
        heads: Over heads and tokens of the worst tensor.
        worst: Name of that tensor, as ``L1 V``.
        tensor: Its name in the file, without the side.
    """

    layers: Grid
    heads: Grid
    worst: str
    tensor: str


def differences(run: Path, file: str) -> Shown | str:
    """Read the evidence of one divergence.

    Args:
        run: The run directory.
        file: Evidence file in it, as ``reports.reader`` left it in a divergence.

    Returns:
        The differences, or a sentence on why there are none to show.
    """
    try:
        path = run / file
        if path.stat().st_size > _MAX_BYTES:
            return f"{file} is too large to be drawn"
        tensors = dict(_tensors(path.read_bytes()))
    except (OSError, ValueError, SafetensorError) as fault:
        return f"{file} can't be read: {fault!s:.200}"
    names = sorted({name.partition(".")[2] for name in tensors}, key=_order)
    missing = {side for side in ("control", "candidate") if not any(name.startswith(f"{side}.") for name in tensors)}
    if missing:
        return f"tensors of only one side are kept: there is nothing of the {' or '.join(sorted(missing))} to subtract"
    heads: dict[str, Array] = {}
    odd: dict[str, list[str]] = {}
    for name in names:
        sides = [tensors.get(f"{side}.{name}") for side in ("control", "candidate")]
        grid = _by_head(*sides)
        if grid is None:
            odd.setdefault(_why_not(*sides), []).append(called(name))
        else:
            heads[name] = grid
    why_not = " and ".join(f"{why} ({', '.join(names)})" for why, names in odd.items())
    if not heads:
        return f"nothing can be subtracted, because {why_not}"
    worst = max(heads, key=lambda name: _gravity(heads[name]))
    width = max(grid.shape[1] for grid in heads.values())
    by_layer = np.full((len(heads), width), np.nan)
    for row, grid in enumerate(heads.values()):
        by_layer[row, : grid.shape[1]] = _greatest(grid, 0)
    layers = _grid([called(name) for name in heads], by_layer, f"not drawn, because {why_not}" if odd else "")
    return Shown(layers, _grid([f"head {h}" for h in range(len(heads[worst]))], heads[worst]), called(worst), worst)


def _tensors(data: bytes) -> list[tuple[str, Array]]:
    """Read safetensors without torch; numpy has no bfloat16, whose bits are the upper half of a float32's."""
    found = []
    read: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
    for name, about in read(data):
        kind, raw = about["dtype"], bytes(about["data"])
        if kind == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        elif kind in _PLAIN:
            values = np.frombuffer(raw, _PLAIN[kind])
        else:
            found.append((name, np.frombuffer(raw, _RAW)))
            continue
        found.append((name, values.reshape(about["shape"])))
    return found


def _by_head(control: Array | None, candidate: Array | None) -> Array | None:
    """Return the greatest absolute difference by head and token, of two ``(B, num_heads, T, head_dim)``.

    Of another number of dimensions, the last stands for channels if there are two, the one before for tokens, the one
    before that for heads, and the others for samples.
    """
    if control is None or candidate is None or _RAW in (control.dtype, candidate.dtype):
        return None
    if control.ndim != candidate.ndim:
        return None
    control, candidate = _as_entry(control), _as_entry(candidate)
    (b, h, t, d), (b2, h2, t2, d2) = control.shape, candidate.shape
    if (b, h, d) != (b2, h2, d2) or not max(t, t2) or not b * h * d:
        return None
    both = min(t, t2)
    x, y = (side[:, :, :both].astype(np.float64) for side in (control, candidate))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(x - y)
    gap[(x == y) | (np.isnan(x) & np.isnan(y))] = 0.0
    gap[~np.isfinite(gap)] = np.inf
    grid = np.full((h, max(t, t2)), np.nan)
    grid[:, :both] = gap.max(axis=(0, 3))
    return grid


def _as_entry(values: Array) -> Array:
    """Return values as ``(B, num_heads, T, head_dim)``."""
    if values.ndim < 2:
        return values.reshape(1, 1, values.size, 1)
    return values.reshape(math.prod(values.shape[:-3]), *(1, *values.shape)[-3:])


def _why_not(control: Array | None, candidate: Array | None) -> str:
    if control is None or candidate is None:
        return "only one side has them"
    if _RAW in (control.dtype, candidate.dtype):
        return "their dtype can't be drawn"
    return "their shapes differ"


def _gravity(grid: Array) -> float:
    known = grid[~np.isnan(grid)]
    return float(known.max()) if known.size else -1.0


def _greatest(grid: Array, axis: int) -> Array:
    """Return the maximum over what is known, NaN where nothing is."""
    filled = np.where(np.isnan(grid), -1.0, grid).max(axis=axis)
    return np.where(filled < 0, np.nan, filled)


def _grid(rows: list[str], values: Array, remark: str = "") -> Grid:
    remarks = [remark] if remark else []
    if len(rows) > _MAX_ROWS:
        order = sorted(range(len(rows)), key=lambda row: -_gravity(values[row]))
        kept = sorted(order[:_MAX_ROWS])
        remarks.append(f"the {_MAX_ROWS} worst of {len(rows)} rows")
        rows, values = [rows[row] for row in kept], values[kept]
    n_tokens = values.shape[1]
    each = math.ceil(n_tokens / _MAX_COLUMNS)
    starts = range(0, n_tokens, each)
    if each > 1:
        remarks.append(f"{each} tokens in each column, the greatest difference counts")
        values = np.stack([_greatest(values[:, start : start + each], 1) for start in starts], axis=1)
    columns = [str(start) if each == 1 else f"{start}-{min(start + each, n_tokens) - 1}" for start in starts]
    cells = tuple(tuple(float(cell) for cell in row) for row in values)
    return Grid(tuple(rows), tuple(columns), cells, "; ".join(remarks))


def _order(name: str) -> tuple[int, str]:
    digits = "".join(char for char in name.partition(".")[0] if char.isdecimal() and char.isascii())
    return int(digits[:9] or 0), name
