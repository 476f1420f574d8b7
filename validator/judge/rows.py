"""Where the wrong rows of an answer come from: a row is what one token has in one head of one key or value tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shadow.memory.buffers import Leaf, bytes_of
from validator.entries.compare import valid
from validator.judge import words
from validator.judge.charge import Finding
from validator.judge.side_view import Digests
from validator.models.stored import Stored

_LEAST_BYTES = 16
_Rows = list[list[bytes]]  # by tensor, in order of sample, head and token


class _Source(NamedTuple):
    """Where a row is found: which set stored it (None for the very entry that was asked), and in which tensor."""

    stored: Stored | None
    leaf: int


def named_rows(
    expected: Stored,
    answer: Sequence[Leaf],
    truth: Sequence[Leaf],
    others: Iterable[tuple[Stored, Sequence[Leaf]]],
    digest: Digests,
) -> Finding | None:
    """Name what is wrong with an answer by where its wrong rows were stored.

    Args:
        expected: What was stored.
        answer: Leaves of what was answered, of the same structure as
        truth: what was stored.
        others: Other entries that are alive, with the leaves of what is held there.
        digest: Tells whether that is what was stored; asked where a wrong row was found.

    Returns:
        None unless every wrong row is found, in this entry or in others, or every one is zero.
    """
    found, right = _rows(answer), _rows(truth)
    wrong = [(i, row) for i, rows in enumerate(found) for row, own in zip(rows, right[i], strict=True) if row != own]
    wanted = {row for _, row in wrong}
    facts: dict[str, Any] = {"wrong": len(wrong), "n": sum(map(len, found))}
    if not any(map(any, wanted)):
        return Finding(words.ROWS_NOT_COPIED, facts)
    # A row of zeros may be anybody's, and a few bytes may be alike by chance.
    if not all(map(any, wanted)) or sum(map(len, wanted)) < _LEAST_BYTES:
        return None
    sources: dict[bytes, _Source] = {}
    for stored, leaves in ((None, truth), *others):
        places = [(row, index) for index, rows in enumerate(_rows(leaves)) for row in wanted.intersection(rows)]
        if places and (stored is None or digest(leaves) == stored.digest):
            for row, index in places:
                sources.setdefault(row, _Source(stored, index))
        if len(sources) == len(wanted):
            break
    else:
        return None
    owners = Counter(sources[row].stored for _, row in wrong)
    if set(owners) == {None}:
        moved = any(sources[row].leaf != index for index, row in wrong)
        return Finding(words.ROWS_MIXED_UP if moved else words.ROWS_PERMUTED, facts)
    owner = next(stored for stored, _ in owners.most_common() if stored is not None)
    facts |= {"other_key": owner.key, "pool": (owner.pool, owner.env_id)}
    if len([stored for stored in owners if stored is not None]) > 1:
        return Finding(words.ROWS_OF_OTHERS, {**facts, "entries": len(set(owners) - {None})})
    other_env = owner.pool == expected.pool and owner.env_id != expected.env_id
    return Finding(words.ROWS_OF_OTHER_ENV if other_env else words.ROWS_OF_OTHER_KEY, facts)


def _rows(leaves: Sequence[Leaf]) -> _Rows:
    return [_rows_of(leaf) for leaf in leaves]


def _rows_of(leaf: Leaf) -> list[bytes]:
    values = valid(leaf)
    found = bytes(bytes_of(values))
    width = (values.shape[-1] if values.ndim else 1) * values.element_size()
    return [found[begin : begin + width] for begin in range(0, len(found), width)] if found else []
