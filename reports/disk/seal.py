"""Was a file changed after it was written? Its last member is a digest of every byte before it.

This tells of accidents and of careless edits. Whoever wants to deceive can compute the digest again.
"""

from __future__ import annotations

import hashlib
from typing import Any

_MARK = b'"digest":"'
_HEX_DIGITS = 32


def new_digest() -> Any:
    """Return an empty running digest, a hash object of ``hashlib``."""
    return hashlib.blake2b(digest_size=_HEX_DIGITS // 2)


def seal(data: bytes, before: Any = None) -> bytes:
    """Add the digest to one JSON object.

    Args:
        data: The object, with members and without a newline at its end.
        before: Running digest of what stands before it in its file; it is not changed.

    Returns:
        The object with a last member ``digest``.
    """
    body = data[:-1].rstrip() + b"," + _MARK
    return body + _digest(body, before) + b'"}'


def is_sealed(data: bytes, before: Any = None) -> bool:
    """Say whether an object's digest, the very end of it, fits all that stands before."""
    body = data[: data.rfind(_MARK) + len(_MARK)]
    return body.endswith(_MARK) and data == body + _digest(body, before) + b'"}'


def _digest(body: bytes, before: Any) -> bytes:
    running = new_digest() if before is None else before.copy()
    running.update(body)
    return bytes(running.hexdigest(), "ascii")
