"""Under which key the entry of a latent is cached."""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray


def latent_key(latent: NDArray[np.float32], buckets: int = 0) -> int:
    """Hash a latent to a cache key.

    Args:
        latent: Latent ``(embed_dim,)``, components in [0, 1].
        buckets: 0 hashes the exact bytes; n > 0 rounds each component to n levels first, so that near latents share
            a key.

    Returns:
        A whole number of 64 bits, unsigned.
    """
    if buckets:
        # NaN has no level; nan_to_num keeps the cast defined should a broken cache ever produce one.
        levels = np.minimum(np.nan_to_num(latent) * buckets, buckets - 1)
        return xxhash.xxh64_intdigest(levels.astype(np.uint8).tobytes())
    return xxhash.xxh64_intdigest(latent.tobytes())
