"""Which tensors of one divergence are kept, as safetensors bytes: those that differ first, and both sides of each."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save

from reports.record.records import called
from shadow.entries import form_of, paths
from validator.entries.compare import differences, valid
from validator.entries.readable import entry_leaves

_NAMED = 8  # tensors that a note names


def evidence(control: Any, candidate: Any, limit_bytes: int) -> tuple[bytes, str]:
    """Serialise what both sides answered, valid regions only.

    Where space is short, tensors that differ come before those that are equal, in order of layer, K before V; one
    that both sides have is kept of both or of neither, since one alone can't be compared.

    Args:
        control: The control's entry, or None.
        candidate: The candidate's, or None.
        limit_bytes: Space for this divergence.

    Returns:
        The bytes, empty if nothing fits, with names as ``control.layer0.k``, or ``control.1.k`` of a nest; and a note
        on what was left out: how many tensors, how large, which, and which of these differ.
    """
    sides = {side: entry_leaves(entry) or [] for side, entry in (("control", control), ("candidate", candidate))}
    by_path = {
        side: dict(zip(paths(form_of(leaves), len(leaves)), leaves, strict=True)) for side, leaves in sides.items()
    }
    every = list({**by_path["control"], **by_path["candidate"]})
    differing = {one.place for one in differences(sides["control"], sides["candidate"])}
    kept: dict[str, torch.Tensor] = {}
    used = left_out_bytes = 0
    left_out = []
    for path in sorted(every, key=lambda path: path not in differing):
        regions = {side: _storable(valid(leaves[path])) for side, leaves in by_path.items() if path in leaves}
        nbytes = sum(region.nbytes for region in regions.values())
        if used + nbytes > limit_bytes:
            left_out_bytes += nbytes
            left_out.append(f"{called(path)}{' (differs)' if path in differing else ''}")
            continue
        used += nbytes
        for side, region in regions.items():
            kept[f"{side}.{path}"] = region.cpu().contiguous().clone()
    note = ""
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        note = (
            f"{len(left_out)} of {len(every)} tensors left out, {left_out_bytes:,} bytes of both sides, because "
            f"{limit_bytes:,} are allowed: {', '.join(left_out[:_NAMED])}{more}"
        )
    return (save(kept) if kept else b""), note


def _storable(values: torch.Tensor) -> torch.Tensor:
    """Return values in a type that the file format knows: complex numbers as pairs along one more dimension."""
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
