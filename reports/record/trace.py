"""A trace: the operations of one shadowed pair, as they lie on disk and as they were read.

An index (JSON, one object a line) says what a record's numbers stand for, and a row of segments holds the records, of
one size each. ``trace/rank-0000-00.jsonl`` is the index of the first pair of rank 0; its lines are

* ``{"trace": FORMAT, ...}``: the first one, what was recorded: see ``Trace.about``;
* ``{"verb": n, "method", "kind", "pool", "name"}``, ``{"layout": n, "leaves": [[count, shape, dtype, device, size],
  ...], "form"}`` (of a nest: ``[[path, what], ...]``), ``{"key": n, "value"}`` (``"repr"`` instead, of a key that JSON
  has no word for): before the first record that names it;
* ``{"segment": n, "first", "records", "digest"}``: a segment that is whole, and the ordinal of its first record;
* ``{"bodies": n, "digest"}``: how many entries were kept whole, and the digest of the file that they are in;
* ``{"dropped": n}``: a segment that gave way to later ones; ``{"ended": why}``: nothing could be written any more;
* ``{"close": records, "digest"}``: the last line of an orderly end, whose digest is of the whole index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final

import numpy as np

FORMAT: Final = 1
RECORD: Final = np.dtype(
    [
        ("verb", "<u1"),
        ("flags", "<u1"),
        ("spare", "<u2"),
        ("env", "<i4"),
        (
            "layout",
            "<u4",
        ),  # number of a set's layout plus 1, 0 for none; of the life cycle: training iteration plus 1
        ("op", "<u4"),  # ordinal of the operation, its lowest 32 bits
        ("key", "<u8"),
        ("digest", "<u8"),  # of what is stored, 0 for none; of the life cycle: environment step plus 1
    ]
)
HAS_ENV: Final = 1
HAS_KEY: Final = 2
NEGATIVE: Final = 4  # the key is a whole number below 0, in two's complement
INTERNED: Final = 8  # the key is no whole number of 64 bits: ``key`` is its number in the index
ODD_ENV: Final = 16  # the environment was no whole number of 32 bits, and is not recorded
HAS_BODY: Final = 32
BODY: Final = Struct("<QQII")  # before each entry that is kept: its digest, a check of its bytes, layout plus 1, bytes


@dataclass(frozen=True, slots=True)
class Verb:
    """What a number of a trace stands for.

    Attributes:
        method: Method of the cache, or of the life cycle.
        kind: ``get``, ``set``, ``clear``, ... or ``life`` for what is no operation.
        pool: Where.
        name: Label in reports.
    """

    method: str
    kind: str
    pool: str = ""
    name: str = ""


Layout = tuple[tuple[tuple[int, ...], str, str, int], ...]  # per leaf: shape, dtype, device, valid length
Form = tuple[tuple[str, str], ...]  # of a nest: path and what stands there, in order


@dataclass(slots=True)
class Trace:
    """One trace, read.

    Attributes:
        path: Its index.
        about: First line of the index: ``run_id, rank, cache, shape, control, candidate, primary, env_num, policy,
            promises, config`` (what sizes follow from), ``copy_of`` and ``copied_at`` of a deep copy,
            ``digest`` (what the numbers of entries are).
        records: Array of ``RECORD``.
        first: Ordinal of the first record that is there; those before gave way.
        verbs: By number.
        layouts: By number.
        forms: Of the same numbers, None of what is no nest.
        keys: Keys that are no whole numbers, and what a method that takes no key was given, by number.
        bodies: Entries that were kept, each the bytes of its valid regions, by digest and number of layout.
        stand_ins: How many of them JSON has no word for, so that a text stands for each.
        whole: Whether it was closed in order.
        ended: Why it ended before the run, or empty.
        problems: What is wrong with it, one sentence each.
    """

    path: str
    about: dict[str, Any]
    records: Any
    first: int = 0
    verbs: list[Verb] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)
    forms: list[Form | None] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    bodies: dict[tuple[int, int], Any] = field(default_factory=dict)
    stand_ins: int = 0
    whole: bool = False
    ended: str = ""
    problems: list[str] = field(default_factory=list)
