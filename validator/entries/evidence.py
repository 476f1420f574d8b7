"""Which tensors of one divergence are kept, as safetensors bytes: those that differ first, and both sides of each."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save

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
        The bytes, empty if nothing fits, with names as ``control.layer0.k``; and a note on what was left out: how
        many tensors, how large, which, and which of these differ.
    """
    sides = {side: entry_leaves(entry) or [] for side, entry in (("control", control), ("candidate", candidate))}
    n_leaves = max(map(len, sides.values()))
    differing = {2 * one.layer + "KV".index(one.part) for one in differences(sides["control"], sides["candidate"])}
    kept: dict[str, torch.Tensor] = {}
    used = left_out_bytes = 0
    left_out = []
    for index in sorted(range(n_leaves), key=lambda index: index not in differing):
        regions = {side: valid(leaves[index]) for side, leaves in sides.items() if index < len(leaves)}
        nbytes = sum(region.nbytes for region in regions.values())
        layer, part = index // 2, "kv"[index % 2]
        if used + nbytes > limit_bytes:
            left_out_bytes += nbytes
            left_out.append(f"L{layer} {part.upper()}{' (differs)' if index in differing else ''}")
            continue
        used += nbytes
        for side, region in regions.items():
            kept[f"{side}.layer{layer}.{part}"] = region.cpu().contiguous().clone()
    note = ""
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        note = (
            f"{len(left_out)} of {n_leaves} tensors left out, {left_out_bytes:,} bytes of both sides, because "
            f"{limit_bytes:,} are allowed: {', '.join(left_out[:_NAMED])}{more}"
        )
    return (save(kept) if kept else b""), note
