"""What is recorded of a pair while it runs: one small row per operation, written in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from operator import index
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from reports.record.trace import FORMAT, HAS_BODY, HAS_ENV, HAS_KEY, INTERNED, NEGATIVE, ODD_ENV, RECORD
from shadow.entries import Form
from shadow.interface import offered, read_field
from shadow.operation import Given, Operation
from validator.entries.digest import Digest
from validator.judge.side import Report, Unreadable, tried
from validator.replay.keeping import Keeping

LIFE: Final = "life"  # kind of a verb that is no operation
_BATCH = 4096  # rows in memory
_LAYOUTS_MOST = 1 << 16
_PACK = Struct("<BBHiIIQQ").pack
_WORD = (1 << 64) - 1
_FIELDS = ("num_simulations", "max_cache_size", "game_segment_length", "cache_capacity_rule", "cache_eviction_strategy")


class Moment(NamedTuple):
    """Where a training stands: its iteration and the environment step, -1 each if the host did not say."""

    train_iter: int
    env_step: int


# Ordinal, operation, env, key or what else a method is given, digest of what is stored. Of the life cycle: ordinal of
# the next operation, the verb as an operation, env, moment, None.
Row = tuple[int, Operation, Any, Any, Any]


class Pen(Protocol):
    """What a recording writes with; nothing of it raises."""

    @property
    def ended(self) -> str:
        """Why nothing is written any more, or empty."""

    @property
    def bodies_ended(self) -> str:
        """Why no entries are kept any more, or empty."""

    @property
    def head(self) -> bytes:
        """The oldest record that is there, if others gave way, else empty."""

    def line(self, value: dict[str, Any]) -> None: ...
    def append(self, records: bytes) -> None: ...
    def body(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Recording:
    """Records one pair.

    A pair notes rows, which costs it a tuple; what they come to on disk is worked out a batch at a time, when the pair
    looks at the clock. No entry is kept: only digests, of which those on a device are written once they are there.

    Args:
        pen: What it writes with.
        keeps: ``digests``, ``failing`` or ``all``; see ``ValidationConfig.record``.

    Attributes:
        note: Takes a row.
        rows: Rows that are noted and not yet written.
    """

    note: Callable[[Row], None]

    def __init__(self, pen: Pen, keeps: str = "digests") -> None:
        self.rows: list[Row] = []
        self.note = self.rows.append
        self._pen = pen
        self._verbs: dict[str, int] = {}
        self._layouts: dict[Any, int] = {}
        self._by_id: dict[int, tuple[Any, int]] = {}
        self._keys: dict[Any, int] = {}
        self._n_keys = 0  # those of them that entries are stored under
        self._failed = ""
        self._keeping = None if keeps == "digests" else Keeping(pen, keeps == "failing")

    @property
    def keep(self) -> Callable[[Digest, Any], None] | None:
        """What takes the digest of an entry and the entry, before either side has it; None if no entries are kept."""
        return None if self._keeping is None else self._keep

    def _keep(self, digest: Digest, entry: Any) -> None:
        assert self._keeping is not None
        try:
            self._keeping.keep(digest, self._layout(digest.layout, digest.form), entry)
        except Exception as problem:  # of a stranger's entry
            self._failed = self._failed or f"{type(problem).__name__}: {problem}"[:200]

    def diverged(self) -> None:
        """Write what led to a divergence."""
        self.write()
        if self._keeping is not None:
            self._keeping.write()

    def remarks(self) -> list[tuple[str, str]]:
        """Return what is to be said of the trace once it is closed: each a name of an event, and a detail."""
        said = []
        if self._ended:
            said.append(("trace_ended", f"{self._ended}; the run went on unrecorded"))
        if self._pen.head:
            (op_index,) = np.frombuffer(self._pen.head, RECORD)["op"]
            said.append(("trace_cut", f"older operations gave way: the trace reaches back to operation {op_index}"))
        if self._keeping is not None and (left_out := self._keeping.remark()):
            said.append(("trace_bodies", left_out))
        if self._n_keys:
            said.append(("trace_keys", f"{self._n_keys} keys are no whole numbers and are recorded by number"))
        return said

    @property
    def is_due(self) -> bool:
        """Whether a batch is waiting."""
        return len(self.rows) >= _BATCH

    @property
    def _ended(self) -> str:
        return self._failed or self._pen.ended

    def write(self) -> None:
        """Write what is noted, up to the first row whose digest a device still computes; never raises."""
        try:
            if not self._ended:
                self._write(self.rows)
        except Exception as problem:  # of a stranger's key, say
            self._failed = f"{type(problem).__name__}: {problem}"[:200]
        if self._ended:
            self.rows.clear()

    def _write(self, rows: list[Row]) -> None:
        verbs, layouts, records = self._verbs, self._by_id, []
        for op_index, operation, env_id, key, stored in rows:
            digest = layout = flags = 0
            if stored is not None:
                contents, described, whole, form = stored
                if whole is None:  # hashed on a device
                    if getattr(contents, "batch", None) is not None:
                        break
                    whole = hash(tuple(contents)) & _WORD
                known = layouts.get(id(described))
                layout = (known[1] if known is not None and form is None else self._layout(described, form)) + 1
                digest, flags = whole, HAS_BODY
            verb = verbs.get(operation[0])  # its method; by name, a field takes three times as long
            if verb is None:
                verb = self._new_verb(operation)
            if type(key) is int and 0 <= key <= _WORD:
                flags |= HAS_KEY
            elif type(key) is Moment:
                layout, digest, key = key.train_iter + 1 & 0xFFFFFFFF, key.env_step + 1 & _WORD, 0
            elif key is None:
                key = 0
            else:
                key, more = self._odd_key(key)
                flags |= more
            if env_id is None:
                env_id = 0
            elif type(env_id) is int and -(1 << 31) <= env_id < 1 << 31:
                flags |= HAS_ENV
            else:
                env_id, flags = 0, flags | HAS_ENV | ODD_ENV
            records.append(_PACK(verb, flags, 0, env_id, layout, op_index & 0xFFFFFFFF, key, digest))
        if records:
            self._pen.append(b"".join(records))
            del rows[: len(records)]

    def close(self) -> None:
        """Write the rest, waiting for devices, and seal it."""
        for row in self.rows:
            if row[4] is not None:
                tuple(row[4].contents)
        self.write()
        self._pen.close()

    def _new_verb(self, operation: Operation) -> int:
        verb = self._verbs[operation.method] = len(self._verbs)
        self._pen.line({"verb": verb, **dict(zip(("method", "kind", "pool", "name"), operation[:4], strict=True))})
        return verb

    def _layout(self, layout: Any, form: Form | None) -> int:
        """Return the number of a layout; dense entries share the object, by which it is known the next time."""
        number = self._layouts.get((layout, form))
        if number is None:
            if len(self._layouts) >= _LAYOUTS_MOST:
                raise NotImplementedError(f"entries of more than {_LAYOUTS_MOST:,} structures are not recorded")
            number = self._layouts[layout, form] = len(self._layouts)
            if form is None:
                self._by_id[id(layout)] = layout, number  # held, so that nothing else comes to lie there
            nest = {} if form is None else {"form": form}
            self._pen.line({"layout": number, "leaves": _runs(layout), **nest})
        return number

    def _odd_key(self, key: Any) -> tuple[int, int]:
        """Return number and flags of a key that is no whole number as they mostly are."""
        if isinstance(key, Integral) and -(1 << 63) <= index(key) <= _WORD:
            value = index(key)
            return value & _WORD, HAS_KEY | (NEGATIVE if value < 0 else 0)
        try:
            name = (type(key), key)
            number = self._keys.get(name)
        except Exception:  # of a stranger's class; the pair says what it makes of it
            return _WORD, HAS_KEY | INTERNED
        if number is None:
            number = self._keys[name] = len(self._keys)
            self._n_keys += type(key) is not Given
            self._pen.line({"key": number, **_worded(key)})
        return number, HAS_KEY | INTERNED


def life(verb: str) -> Operation:
    """Return what stands for a verb of the life cycle in a row."""
    return _LIFE.get(verb) or _LIFE.setdefault(verb, Operation(verb, LIFE, "", verb))  # type: ignore[arg-type]


_LIFE: dict[str, Operation] = {}


def about(report: Report, sides: Mapping[str, Any], built_of: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the first line of a trace's index: ``more``, and what the sizes of the caches follow from.

    Args:
        report: Told of what a side does to the process when it is asked; what it raises was charged before.
        sides: Control and candidate by name.
        built_of: What their pair knows of how they are built.
        more: What else is known.
    """
    kept: dict[str, Any] = dict(built_of)
    for name in ("candidate", "control"):
        found = tried(report, name, _fields, sides[name])
        kept |= {} if type(found) is Unreadable else found
    return {"trace": FORMAT, "record": RECORD.itemsize, "digest": "xxh3_64 of the valid bytes", "config": kept, **more}


def _fields(cache: Any) -> dict[str, Any]:
    config = offered(cache, "config")
    fields = {name: read_field(config, name) for name in _FIELDS if config is not None}
    fields["capacity"] = offered(cache, "maxsize")  # of a mapping, as they mostly call it
    return {name: value for name, value in fields.items() if type(value) in (int, str)}


def _runs(layout: Any) -> list[list[Any]]:
    runs: list[list[Any]] = []
    for shape, dtype, device, size in layout:
        leaf = [list(shape), str(dtype).removeprefix("torch."), str(device), int(size)]
        if runs and runs[-1][1:] == leaf:
            runs[-1][0] += 1
        else:
            runs.append([1, *leaf])
    return runs


def _worded(key: Any) -> dict[str, Any]:
    return {"value": key} if _is_worded(key) else {"repr": type(key).__qualname__}


def _is_worded(key: Any) -> bool:
    """Tell whether JSON has a word for a key."""
    return type(key) in (str, int, float, bool) or (isinstance(key, tuple) and all(map(_is_worded, key)))
