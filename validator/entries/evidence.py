"""Evidence of one divergence: the valid tensors of both sides as safetensors bytes."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save

from validator.entries.compare import valid
from validator.entries.readable import entry_leaves


def evidence(control: Any, candidate: Any, limit_bytes: int) -> tuple[bytes, str]:
    """Serialise what both sides answered, valid regions only.

    Args:
        control: The control's entry, or None.
        candidate: The candidate's, or None.
        limit_bytes: Space for this divergence.

    Returns:
        The bytes, empty if nothing fits, and a note on what was left out. Tensors are named
        ``control.layer0.k``; only layers that differ come first when space is short.
    """
    tensors: dict[str, torch.Tensor] = {}
    left_out = 0
    used = 0
    for side, entry in (("control", control), ("candidate", candidate)):
        found = None if entry is None else entry_leaves(entry)
        for index, leaf in enumerate(found or ()):
            region = valid(leaf).cpu().contiguous().clone()
            if used + region.nbytes > limit_bytes:
                left_out += 1
                continue
            used += region.nbytes
            tensors[f"{side}.layer{index // 2}.{'kv'[index % 2]}"] = region
    note = f"{left_out} tensors left out beyond {limit_bytes} bytes" if left_out else ""
    return (save(tensors) if tensors else b""), note
