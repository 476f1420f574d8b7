"""The words of a judgement, and the records that carry them to disk and back.

These types are the whole contract between the validator, which makes them, and the reports, which read them. They hold
numbers and text, never a tensor. ``to_json`` and ``from_json`` are exact inverses; a reader ignores fields it does not
know, so that a newer writer stays readable.

On disk (``SCHEMA``), one run directory holds:

* ``run.json``: ``schema, run_id, created, rank, world_size, versions, git, seed, device, platform, hostname, pid,
  host`` (the program that was watched), ``config, switches`` and more of what ran.
* ``rank-NNNN.jsonl``: one JSON object a line, each with ``type`` and ``t_s`` (seconds since the run began):
  ``cache`` (a shadowed pair: ``cache`` its name, ``control``, ``candidate`` class names, ``primary``, ``policy``),
  ``window`` (a ``Window`` without its empty tables; where an earlier one has the same names, ``like`` its ordinal and
  ``counts`` in the order of its names, see ``reports.short``), ``divergence`` (a ``Divergence``), ``event`` (``event``
  a name, ``detail`` text), and ``close`` as the last line of an orderly end.
* ``summary.json``: written atomically at close.
* ``evidence/*.safetensors``: tensors of single divergences, valid regions only.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

SCHEMA: Final = 1
ONLY_COUNTED: Final = "divergences only counted"  # in ``dropped``: looked at, judged and counted, not written in full


class Outcome(str, Enum):
    """What a lookup came to; every get falls in exactly one."""

    BOTH_HIT_EQUAL = "both_hit_equal"
    BOTH_HIT_DIFFER = "both_hit_differ"
    CONTROL_ONLY = "control_only"
    CANDIDATE_ONLY = "candidate_only"
    BOTH_MISS = "both_miss"
    ERROR = "error"


class Dimension(str, Enum):
    """In what respect something diverged."""

    PRESENCE = "presence"
    VALUE = "value"
    STRUCTURE = "structure"
    LIVE_KEYS = "live_keys"
    ISOLATION = "isolation"
    STALENESS = "staleness"
    LIFE_CYCLE = "life_cycle"
    ERROR = "error"


class Fault(str, Enum):
    """Who is wrong."""

    CONTROL = "control"
    CANDIDATE = "candidate"
    BOTH = "both"
    HOST = "host"
    UNKNOWN = "unknown"


class Cause(str, Enum):
    """Why: the closed list. ``UNKNOWN`` is honest, a wrong name is a bug."""

    # quirks of the legacy ring
    SLOT_LEAK = "duplicate-key slot leak"  # L1
    AGE_REFRESHED = "age refreshed by re-set"  # L2
    CAPACITY_EATEN = "capacity eaten"  # L3
    REVERSE_MAP_SURVIVED = "reverse map survived clear"  # L4
    DICT_OUTLIVES_RING = "dict outlives the ring"  # LightZero 0.2.0
    # which keys are alive
    WRONG_EVICTION = "wrong eviction"
    CAPACITY_OFF = "capacity off"
    SET_IGNORED = "set ignored"
    MISSED = "missed an entry it holds"
    RESET_IGNORED = "re-set ignored"
    PHANTOM = "answers a key that was never stored"
    WRONG_POOL_ORDER = "wrong pool order"
    CLEAR_FORGOTTEN = "clear forgotten"
    CLEAR_TOO_WIDE = "clear too wide"
    # which value a key answers
    STALE_VERSION = "stale version of this key"
    OTHER_KEY = "another key's entry"
    OTHER_ENV = "another env's entry"
    LAYER_MIXED = "layer or K/V mixed up"
    TOKENS_PERMUTED = "tokens, heads or samples permuted"
    LENGTH_OFF = "truncated or padded length"
    SHAPE_OFF = "shape off"
    DTYPE_DRIFT = "dtype drift"
    DEVICE_DRIFT = "device drift"
    ROUNDING = "rounding"
    PARTIAL_COPY = "copied in part"
    CORRUPTED = "values corrupted"
    # whose memory it is
    ALIASED_ON_SET = "aliased on set"
    ALIASED_ON_GET = "aliased on get"
    SHARED_SLOT = "two entries share storage"
    INPUT_EDITED = "input edited"
    MEDDLED = "process-wide state changed"
    # when it was stored
    STALE_WEIGHTS = "hit crosses a weight update"
    STALE_EPISODE = "hit crosses an episode end"
    EPISODE_NOT_CLEARED = "episode end left entries alive"
    SEARCH_NOT_CLEARED = "search began without a clear"
    # the rest
    POLICY_DIFFERS = "declared policies differ"
    BAD_ENV = "env id out of range"
    RAISED = "raised"
    UNKNOWN = "unknown"


class Verdict(str, Enum):
    """May it ship?"""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


EXIT_CODE: Final = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 5}
EXIT_USAGE: Final = 2
EXIT_HARNESS: Final = 3


@dataclass(frozen=True, slots=True)
class LeafDifference:
    """How one key or value tensor of both sides differs, valid region only.

    Attributes:
        layer: Layer, from 0.
        part: ``K`` or ``V``.
        rung: First step of the comparison that failed: ``shape``, ``dtype``, ``device``, ``length`` or ``bits``.
        control: Description of the control's tensor: dtype, shape, device, valid length.
        candidate: The same of the candidate.
        n_elements: Elements compared, 0 where structure forbade it.
        n_mismatched: Elements that differ.
        max_abs_diff: Greatest finite absolute difference, None if none is finite.
        max_abs_index: Its index ``(sample, head, token, channel)``.
        max_rel_diff: Greatest finite difference relative to the control.
        max_rel_index: Its index.
        n_nan_control: NaNs of the control.
        n_nan_candidate: NaNs of the candidate.
        n_inf_control: Infinities of the control.
        n_inf_candidate: Infinities of the candidate.
    """

    layer: int
    part: str
    rung: str
    control: str
    candidate: str
    n_elements: int = 0
    n_mismatched: int = 0
    max_abs_diff: float | None = None
    max_abs_index: tuple[int, ...] | None = None
    max_rel_diff: float | None = None
    max_rel_index: tuple[int, ...] | None = None
    n_nan_control: int = 0
    n_nan_candidate: int = 0
    n_inf_control: int = 0
    n_inf_candidate: int = 0


@dataclass(frozen=True, slots=True)
class Divergence:
    """One observation that must not happen if both sides are right.

    Attributes:
        id: Ordinal in its rank, from 0.
        cache: Name of the shadowed pair.
        op_index: Ordinal of the operation that showed it, from 0.
        operation: ``kind.pool`` of that operation, or ``audit``.
        pool: ``init``, ``recur``, ``wm``, ``hierarchical`` or ``all``.
        env_id: Environment, if the operation has one.
        key: Cache key as 16 hex digits, if the operation has one.
        outcome: Lookup outcome, None where it was no lookup.
        dimension: In what respect the sides, or a side and its model, differ.
        cause: Why.
        fault: Who is wrong.
        explanation: One sentence for a bug report.
        leaves: Every tensor that differs.
        history: The last operations that matter, oldest first, one line each.
        control_error: What the control raised, or empty.
        candidate_error: What the candidate raised, or empty.
        train_iter: Training iteration, -1 if the host did not say.
        env_step: Environment steps, -1 if the host did not say.
        episode: Episode of the env, -1 where there is no env.
        weight_version: Weight updates so far.
        evidence: File in the run directory with the tensors of both sides, or empty.
        evidence_note: Why there is no evidence, or what of it was cut, or empty.
        t_s: Seconds since the run began.
        rank: Rank of the process that wrote it.
    """

    id: int
    cache: str
    op_index: int
    operation: str
    pool: str
    env_id: int | None
    key: str | None
    outcome: Outcome | None
    dimension: Dimension
    cause: Cause
    fault: Fault
    explanation: str
    leaves: tuple[LeafDifference, ...] = ()
    history: tuple[str, ...] = ()
    control_error: str = ""
    candidate_error: str = ""
    train_iter: int = -1
    env_step: int = -1
    episode: int = -1
    weight_version: int = 0
    evidence: str = ""
    evidence_note: str = ""
    t_s: float = 0.0
    rank: int = 0

    @property
    def group(self) -> str:
        """Label under which equal divergences are counted: ``dimension|cause|fault``."""
        return f"{self.dimension.value}|{self.cause.value}|{self.fault.value}"


@dataclass(frozen=True, slots=True)
class Window:
    """What one shadowed pair did since its last window. Everything countable is a difference, so windows add up.

    Attributes:
        cache: Name of the shadowed pair.
        seq: Ordinal of the window of this pair, from 0 without gaps.
        t_s: End of the window, seconds since the run began.
        ops: Operations by ``kind.pool``.
        lookups: Lookups by pool, then by outcome.
        divergences: Divergences by ``dimension|cause|fault``; repeats of one fault are counted here, written once.
        coverage: What was exercised, by name: ``overwrites, evictions, ring_wraps, clears_all, clears_init, ...``.
        envs: Lookups by env id as text.
        latency_ns: Log-scale histograms by ``side.kind.pool``: bucket number as text to count; see ``histogram``.
            In a long run most windows have none, and the next that has some counts for them as well.
        bytes_held: Bytes by side at the end of the window; not a difference.
        harness_ns: Time beyond the primary's own, nanoseconds.
        dropped: What was not looked at or not written, by reason.
        train_iter: Training iteration at its end, -1 if the host did not say.
        env_step: Environment steps at its end, -1 if the host did not say.
        rank: Rank of the process that wrote it.
    """

    cache: str
    seq: int
    t_s: float
    ops: dict[str, int] = field(default_factory=dict)
    lookups: dict[str, dict[str, int]] = field(default_factory=dict)
    divergences: dict[str, int] = field(default_factory=dict)
    coverage: dict[str, int] = field(default_factory=dict)
    envs: dict[str, int] = field(default_factory=dict)
    latency_ns: dict[str, dict[str, int]] = field(default_factory=dict)
    bytes_held: dict[str, int] = field(default_factory=dict)
    harness_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    train_iter: int = -1
    env_step: int = -1
    rank: int = 0


R = typing.TypeVar("R")


def to_json(record: Any) -> dict[str, Any]:
    """Turn a record into what ``json.dumps`` takes."""
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def from_json(cls: type[R], data: Mapping[str, Any]) -> R:
    """Rebuild a record.

    Args:
        cls: Its class.
        data: What ``to_json`` made, perhaps with unknown fields beside.

    Returns:
        The record.

    Raises:
        ValueError: If a required field is missing or a word is none of the closed list.
    """
    values = {}
    for name, rebuilt in _rebuilders(typing.cast(Any, cls)):
        if name in data:
            values[name] = rebuilt(data[name])
    try:
        return cls(**values)
    except TypeError as missing:
        raise ValueError(f"not a {cls.__name__}: {missing}") from None


Rebuild = Callable[[Any], Any]


@functools.cache
def _rebuilders(cls: type) -> tuple[tuple[str, Rebuild], ...]:
    """Return what rebuilds each field; a run may have ten thousand divergences, so hints are looked at once."""
    hints = typing.get_type_hints(cls)
    return tuple((f.name, _rebuilder(hints[f.name])) for f in dataclasses.fields(cls))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _rebuilder(hint: Any) -> Rebuild:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        inner = _rebuilder(next(option for option in typing.get_args(hint) if option is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _rebuilder(typing.get_args(hint)[0])
        return lambda value: tuple(map(item, _of(list, "a list", value)))
    if origin is dict:
        return lambda value: _of(dict, "an object", value)
    if issubclass(hint, Enum):
        return typing.cast(Rebuild, hint)
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        return lambda value: from_json(kind, _of(Mapping, "an object", value))
    if hint is float:
        return lambda value: float(value) if type(value) is int else _of(float, "float", value)
    return lambda value: value if type(value) is hint else _of(hint, hint.__name__, value)


def _of(kind: Any, called: str, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"expected {called}, got {value!r:.80}")
    return value
