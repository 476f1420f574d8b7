"""Which words does a judgement use? The closed lists, and the exit code of each verdict."""

from __future__ import annotations

from enum import Enum
from typing import Final

SCHEMA: Final = 2  # of what is written
READS: Final = range(1, SCHEMA + 1)
ONLY_COUNTED: Final = "divergences only counted"  # in ``dropped``: looked at, judged and counted, not written in full
STATE_LOOKS: Final = "operations looked at for process-wide state"  # in ``coverage``
# In ``coverage``: what was recomputed without a cache; what was not, and the reason or the class of what was raised.
RECOMPUTED: Final = (
    *("recomputations", "recomputations that agreed", "values recomputed"),
    *("envs followed", "searches followed", "sequences followed"),
)
NOT_RECOMPUTED: Final = "recomputations not judged: "
NOT_RECOMPUTED_RAISED: Final = f"{NOT_RECOMPUTED}raised "
# What else is counted in ``coverage``, beside ``sets_of_N_layers`` and what is said of one side's answers: the names
# that can be demanded of a run.
COVERAGE: Final = (
    *("overwrites", "evictions", "evictions_control", "evictions_candidate", "ring_wraps", "lookups_of_both_pools"),
    *("clears_all", "clears_init", "clears_init_env", "clears_recur", "weight_updates", "episodes", "searches"),
    *("audits_full", "audits_left_out_for_budget", "entries_audited", "calls that were not observed"),
    *("entries from before", "entries from before that both sides agree on"),
    *(
        "equal only within tolerance",
        "layers held equal only within tolerance",
        "lookups compared late",
        "hits on older entries, which the host allows",
    ),
    *("changes of answers that another thread may have made", "removals", "questions for presence"),
    *("layers read", "layers taken over", "deep copies", "prefills", "window wraps", "reset", "reorder_cache", "crop"),
    *("batch_repeat_interleave", "batch_select_indices", "activate_past_recording", "early_initialization"),
    *RECOMPUTED,
    "not comparable: rows",
    "states read",
    "states that the host wrote in place, carried over",
)


class Outcome(str, Enum):
    """What a lookup came to; every get falls in exactly one."""

    BOTH_HIT_EQUAL = "both_hit_equal"
    BOTH_HIT_DIFFER = "both_hit_differ"
    CONTROL_ONLY = "control_only"
    CANDIDATE_ONLY = "candidate_only"
    BOTH_MISS = "both_miss"
    ERROR = "error"


DIFFERING: Final = (Outcome.BOTH_HIT_DIFFER, Outcome.CONTROL_ONLY, Outcome.CANDIDATE_ONLY)


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
    RECOMPUTE = "recompute"


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
    ONE_STORE = "one store behind two pools"
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
    # which vector stands at a position of an append cache
    OTHER_ROW = "row of another beam or sample"
    POSITION_SHIFTED = "position shifted"
    NOT_CROPPED = "not cropped"
    KEPT_ACROSS_RESET = "kept across a reset"
    WINDOW_OFF = "window off"
    COLUMNS_OFF = "columns other than announced"
    # whose memory it is
    ALIASED_ON_SET = "aliased on set"
    ALIASED_ON_GET = "aliased on get"
    SHARED_SLOT = "two entries share storage"
    INPUT_EDITED = "input edited"
    GROWS = "memory grows"
    MEDDLED = "process-wide state changed"
    # when it was stored
    STALE_WEIGHTS = "hit crosses a weight update"
    STALE_EPISODE = "hit crosses an episode end"
    EPISODE_NOT_CLEARED = "episode end left entries alive"
    SEARCH_NOT_CLEARED = "search began without a clear"
    # what a recomputation without a cache shows of the host
    OTHER_HISTORY = "another env's history"
    PADDED_LENGTH = "padded length stored"
    PADDING_ATTENDED = "padding attended to"
    POSITION_OFF = "position off"
    HISTORY_BEGINS_OFF = "history begins too early or late"
    STALE_HISTORY = "stale history"
    OTHER_TOKEN = "another token than the host's own"
    UNEXPLAINED = "unexplained"
    # the rest
    POLICY_DIFFERS = "declared policies differ"
    BAD_ENV = "env id out of range"
    RAISED = "raised"
    ODD = "odd answer"
    UNKNOWN = "unknown"


class Verdict(str, Enum):
    """May it ship?"""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


EXIT_CODE: Final = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 5}
EXIT_USAGE: Final = 2
EXIT_HARNESS: Final = 3
