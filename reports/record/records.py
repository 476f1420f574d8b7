"""What is put on record: one divergence, and what a pair did in one window of time.

With the words of ``reports.record.words`` these are the whole contract between the validator, which makes them, and the
reports, which read them. They hold numbers and text, never a tensor.

On disk (schema 2), one run directory holds:

* ``run.json``: ``schema, run_id, created, rank, world_size, versions, git, seed, device, platform, hostname, pid,
  host`` (the program that was watched), ``config, switches`` and more of what ran.
* ``rank-NNNN.jsonl``: one JSON object a line, each with ``type`` and ``t_s`` (seconds since the run began):
  ``cache`` (a shadowed pair: ``cache`` its name, ``control``, ``candidate`` class names, ``primary``, ``policy``),
  ``window`` (a ``Window`` without its empty tables; where it has latencies, ``timed`` is what these add up to, see
  ``reports.record.totals``), ``divergence`` (a ``Divergence``), ``event`` (``event`` a name,
  ``detail`` text), and ``close`` as the last line of an
  orderly end, with an inventory of all lines before it: ``reports.record.inventory``.
* ``rank-NNNN.open.json``: ``windows``, those that are no line yet, as far as they were counted; gone after the close.
* ``summary.json``: written atomically at close.
* ``evidence/*.safetensors``: tensors of single divergences, valid regions only.

Of schema 1 there was no file of open windows, and windows may be in short; see ``reports.read.schema1``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Final

from reports.record.words import Cause, Dimension, Fault, Outcome

_OF_A_LAYER = re.compile(r"layer(\d{1,9})\.([kv])")


def called(place: str) -> str:
    """Return what a tensor is called, given where in its entry it stands: ``L1 V`` for ``layer1.v``."""
    layered = _OF_A_LAYER.fullmatch(place)
    return f"L{layered[1]} {layered[2].upper()}" if layered else place


@dataclass(frozen=True, slots=True)
class LeafDifference:
    """How one tensor of both sides differs, valid region only.

    Attributes:
        layer: Layer, from 0; of a nest the ordinal of the tensor.
        part: ``K`` or ``V``; of a nest the path.
        rung: First step of the comparison that failed: ``layers``, ``structure`` (of a nest: other containers, keys or
            plain values), ``shape``, ``dtype``, ``device``, ``length`` or ``bits``.
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
        path: Of a nest of tensors, where in it this one stands, as ``1.k``; else empty.
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
    path: str = ""

    @property
    def place(self) -> str:
        """Where in its entry the tensor stands, as evidence names it: ``layer1.v``, or its path."""
        return self.path or f"layer{self.layer}.{self.part.lower()}"

    @property
    def name(self) -> str:
        """What the tensor is called: ``L1 V``, or its path."""
        return called(self.place)

    @property
    def is_finite(self) -> bool:
        """Whether neither side holds a NaN or an infinity."""
        return not (self.n_nan_control or self.n_nan_candidate or self.n_inf_control or self.n_inf_candidate)


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


# What becomes of a field when windows that follow each other are added up; the first's is kept where nothing is said.
_COUNTS: Final = {"adds": True}  # a number for each name
_NESTED: Final = {"adds": True, "nested": True}  # such a table for each name
_LAST: Final = {"last": True}  # what is said last: an empty table and -1 say nothing


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
    ops: dict[str, int] = field(default_factory=dict, metadata=_COUNTS)
    lookups: dict[str, dict[str, int]] = field(default_factory=dict, metadata=_NESTED)
    divergences: dict[str, int] = field(default_factory=dict, metadata=_COUNTS)
    coverage: dict[str, int] = field(default_factory=dict, metadata=_COUNTS)
    envs: dict[str, int] = field(default_factory=dict, metadata=_COUNTS)
    latency_ns: dict[str, dict[str, int]] = field(default_factory=dict, metadata=_NESTED)
    bytes_held: dict[str, int] = field(default_factory=dict, metadata=_LAST)
    harness_ns: int = 0
    dropped: dict[str, int] = field(default_factory=dict, metadata=_COUNTS)
    train_iter: int = field(default=-1, metadata=_LAST)
    env_step: int = field(default=-1, metadata=_LAST)
    rank: int = 0


COUNTS: Final = tuple(f.name for f in fields(Window) if f.metadata == _COUNTS)
NESTED: Final = tuple(f.name for f in fields(Window) if f.metadata == _NESTED)
LAST: Final = tuple(f.name for f in fields(Window) if f.metadata == _LAST)
