"""What can be found wrong, and the words for it: every sentence that a report says about a cache is made here.

Whoever looks finds a ``Kind`` and its facts, which are data. A clause names the facts in braces; its subject is a side,
except for those that are whole sentences, which begin with a capital letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from reports.record.words import Cause, Dimension
from validator.models.pools import where
from validator.models.stored import Reason

_KEY_MOST = 200  # characters


class Kind(NamedTuple):
    """One thing that can be wrong.

    Attributes:
        dimension: In what respect.
        cause: Why.
        clause: What is said of it.
    """

    dimension: Dimension
    cause: Cause
    clause: str


def say(kind: Kind, facts: Mapping[str, Any], who: str = "", note: str = "") -> str:
    """Say in one sentence what was found.

    Args:
        kind: What.
        facts: Its facts by name, as they are; how each is written is decided here.
        who: The subject of the clause; empty where that is a whole sentence.
        note: What is to be said beside it.
    """
    clause = kind.clause.format_map({name: _WRITTEN.get(name, str)(value) for name, value in facts.items()})
    return f"{who} {clause}".lstrip() + (f"; {note}" if note else "") + "."


def key_text(key: object) -> str:
    """Write a cache key: a whole number as the 16 hex digits of its lowest 64 bits, anything else as its ``repr``, cut.

    Keys that are equal because one is NumPy's number are written alike.
    """
    if isinstance(key, (int, np.integer)):
        return f"{int(key) & (1 << 64) - 1:016x}"
    try:
        text = repr(key)
    except Exception:  # a stranger's class may do as it likes
        text = f"<{type(key).__qualname__} that has no repr>"
    return text if len(text) <= _KEY_MOST else f"{text[: _KEY_MOST - 1]}…"


def _of_torch(value: object) -> str:
    return str(value).removeprefix("torch.")


def _pool(place: tuple[Any, int | None]) -> str:
    return where(*place)


_WRITTEN: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("key", "kept", "other_key"), key_text),
    **dict.fromkeys(("pool", "cleared"), _pool),
    **dict.fromkeys(("old", "new"), _of_torch),
}

# -- which keys a side answers -----------------------------------------------------------------------------------------

NOT_FOUND_BY_BOTH_POOLS = Kind(
    Dimension.PRESENCE, Cause.WRONG_POOL_ORDER, "does not find in a hierarchical lookup what {pool} holds"
)
MISSED = Kind(Dimension.PRESENCE, Cause.MISSED, "answered nothing although it holds the entry")
KEPT_ANOTHER = Kind(
    Dimension.LIVE_KEYS,
    Cause.WRONG_EVICTION,
    "evicted this key and kept {kept}, which should have given way before it",
)
CLEARED_TOO_MUCH = Kind(
    Dimension.LIVE_KEYS,
    Cause.CLEAR_TOO_WIDE,
    "dropped an entry of {pool} when operation {op} cleared {cleared} only",
)
DROPPED_TOO_EARLY = Kind(
    Dimension.LIVE_KEYS,
    Cause.CAPACITY_OFF,
    "holds {held} entries where {capacity} fit, and dropped the oldest too early",
)
EVICTED_A_YOUNGER = Kind(Dimension.LIVE_KEYS, Cause.WRONG_EVICTION, "evicted this key although an older one should go")
LOST = Kind(Dimension.PRESENCE, Cause.SET_IGNORED, "lost this entry although nothing evicted or cleared it")
NOT_STORED = Kind(Dimension.PRESENCE, Cause.SET_IGNORED, "does not hold what operation {op} gave it to store")
NOT_STORED_AGAIN = Kind(Dimension.PRESENCE, Cause.RESET_IGNORED, "does not hold what operation {op} gave it to store")
NOT_CLEARED = Kind(
    Dimension.LIVE_KEYS, Cause.CLEAR_FORGOTTEN, "still holds an entry of {pool} that operation {op} cleared"
)
BEYOND_CAPACITY = Kind(
    Dimension.LIVE_KEYS,
    Cause.CAPACITY_OFF,
    "still holds a key that operation {op} should have evicted, beyond the {capacity} that fit",
)
NOT_EVICTED = Kind(
    Dimension.LIVE_KEYS, Cause.WRONG_EVICTION, "still holds a key that operation {op} should have evicted"
)
PHANTOM = Kind(Dimension.PRESENCE, Cause.PHANTOM, "answers a key that was never stored, or long gone")

# -- which value a key answers -----------------------------------------------------------------------------------------

EARLIER_VERSION = Kind(
    Dimension.VALUE, Cause.RESET_IGNORED, "answers what operation {op} stored, before the key was set again"
)
EARLIER_LIFE = Kind(
    Dimension.VALUE,
    Cause.STALE_VERSION,
    "answers what operation {op} stored under this key in an earlier life of it",
)
OTHER_ENV = Kind(Dimension.VALUE, Cause.OTHER_ENV, "answers the entry of key {other_key} of {pool}")
OTHER_POOL = Kind(Dimension.VALUE, Cause.WRONG_POOL_ORDER, "answers this key from {pool}")
OTHER_KEY = Kind(Dimension.VALUE, Cause.OTHER_KEY, "answers the entry of key {other_key} of {pool}")
OUTLIVED = Kind(
    Dimension.VALUE,
    Cause.DICT_OUTLIVES_RING,
    "answers the entry of key {other_key}, which operation {op} wrote into the slot of the key that was asked: the "
    "dict outlives the ring",
)
MIXED_UP = Kind(Dimension.VALUE, Cause.LAYER_MIXED, "has keys, values or layers in one another's place")
OTHER_BITS = Kind(
    Dimension.VALUE,
    Cause.CORRUPTED,
    "answers other bits for the same values (the sign of zero, or a NaN's payload)",
)
PERMUTED = Kind(Dimension.VALUE, Cause.TOKENS_PERMUTED, "holds the right values in another order")
ROUNDED = Kind(Dimension.VALUE, Cause.ROUNDING, "rounded the values, as a store of lower precision would")
END_NOT_COPIED = Kind(
    Dimension.VALUE, Cause.PARTIAL_COPY, "did not copy the last {tokens} tokens of {wrong} of {n} tensors"
)
SOME_NOT_COPIED = Kind(
    Dimension.VALUE,
    Cause.PARTIAL_COPY,
    "copied {right} of {n} tensors; the others are those that operation {op} stored",
)
CORRUPTED_IN_PART = Kind(
    Dimension.VALUE, Cause.CORRUPTED, "answers values that were never stored, in {wrong} of {n} tensors"
)
CORRUPTED = Kind(Dimension.VALUE, Cause.CORRUPTED, "answers values that were never stored")
NEVER_STORED = Kind(Dimension.VALUE, Cause.UNKNOWN, "answers values that were never stored")

# -- how it is built ---------------------------------------------------------------------------------------------------

NO_ENTRY_ANSWERED = Kind(Dimension.STRUCTURE, Cause.SHAPE_OFF, "answered a {type}, which is no entry")
NO_ENTRY_HELD = Kind(Dimension.STRUCTURE, Cause.SHAPE_OFF, "holds a {type}, which is no entry")
OTHER_LAYERS = Kind(Dimension.STRUCTURE, Cause.SHAPE_OFF, "answers {found} layers where {stored} were stored")
_CHANGED = "changed the %s of layer {layer} {part} from {old} to {new}"
OTHER_SHAPE = Kind(Dimension.STRUCTURE, Cause.SHAPE_OFF, _CHANGED % "shape")
OTHER_DTYPE = Kind(Dimension.STRUCTURE, Cause.DTYPE_DRIFT, _CHANGED % "dtype")
OTHER_DEVICE = Kind(Dimension.STRUCTURE, Cause.DEVICE_DRIFT, _CHANGED % "device")
OTHER_LENGTH = Kind(Dimension.STRUCTURE, Cause.LENGTH_OFF, _CHANGED % "valid length")

# -- whose memory it is ------------------------------------------------------------------------------------------------

INPUT_EDITED = Kind(
    Dimension.ISOLATION, Cause.INPUT_EDITED, "changed the entry it was given to store at operation {op}"
)
REFERENCE_STORED = Kind(
    Dimension.ISOLATION,
    Cause.ALIASED_ON_SET,
    "stored a reference to its input instead of a copy at operation {op}: both live in the same memory",
)
REFERENCE_CHANGED = Kind(
    Dimension.ISOLATION,
    Cause.ALIASED_ON_SET,
    "stored a reference to its input instead of a copy, and the input changed since",
)
HOST_WROTE = Kind(
    Dimension.ISOLATION,
    Cause.ALIASED_ON_GET,
    "hands out what it stores, and the host wrote into the entry of operation {op}",
)
RESULT_CHANGED = Kind(
    Dimension.ISOLATION,
    Cause.ALIASED_ON_GET,
    "changed a result that it had handed out while it was held: a later operation reused its memory",
)
ONE_MEMORY = Kind(
    Dimension.ISOLATION, Cause.SHARED_SLOT, "keeps the entries of keys {key} and {other_key} in one memory"
)
MEMORY_OF_BOTH = Kind(
    Dimension.ISOLATION, Cause.SHARED_SLOT, "Control and candidate keep the entry of key {key} in the same memory"
)
PROCESS_CHANGED = Kind(Dimension.ISOLATION, Cause.MEDDLED, "changed {what} during a call")

# -- what was raised ---------------------------------------------------------------------------------------------------

RAISED_ON_GET = Kind(Dimension.ERROR, Cause.RAISED, "raised {error} instead of answering")
RAISED_FOR_A_MISS = Kind(
    Dimension.ERROR,
    Cause.RAISED,
    "raised TypeError instead of missing: it indexes its pool with the None that its dict answered",
)
RAISED_ON_SET = Kind(Dimension.ERROR, Cause.RAISED, "raised {error} instead of storing")
RAISED_ON_CLEAR = Kind(Dimension.ERROR, Cause.RAISED, "raised {error} instead of clearing")
RAISED_ON_READ = Kind(Dimension.ERROR, Cause.RAISED, "raised {error} when an entry was read back")
BOTH_REFUSED = Kind(Dimension.ERROR, Cause.RAISED, "Both sides refused to store this: {error}")
ENV_OUT_OF_RANGE = Kind(
    Dimension.ERROR,
    Cause.BAD_ENV,
    "The host passed env_id {env_id} where [0, {env_num}) is possible; the control {control}, the candidate "
    "{candidate}",
)

# -- what the host promises --------------------------------------------------------------------------------------------

CROSSES_UPDATE = Kind(
    Dimension.STALENESS,
    Cause.STALE_WEIGHTS,
    "Both sides answer what operation {op} stored before weight update {update}; the host did not clear it in between",
)
CROSSES_EPISODE = Kind(
    Dimension.STALENESS,
    Cause.STALE_EPISODE,
    "Both sides answer what operation {op} stored before the end of episode {episode} of env {env_id}; the host did "
    "not clear it in between",
)
EPISODE_LEFT_ENTRIES = Kind(
    Dimension.LIFE_CYCLE,
    Cause.EPISODE_NOT_CLEARED,
    "The host ended an episode of env {env_id} and left {left} entries of it alive",
)
EPISODE_WIPED_OTHERS = Kind(
    Dimension.LIFE_CYCLE,
    Cause.CLEAR_TOO_WIDE,
    "The host ended an episode of env {env_id}, and its {operation} wiped live entries of envs {others}",
)
SEARCH_LEFT_ENTRIES = Kind(
    Dimension.LIFE_CYCLE,
    Cause.SEARCH_NOT_CLEARED,
    "The host began a search with {left} entries of the search before still alive",
)

# -- what nobody did wrong ---------------------------------------------------------------------------------------------

QUIRKS = {
    reason: Kind(Dimension.PRESENCE, cause, f"{clause}; it happened at operation {{op}}")
    for reason, cause, clause in (
        (
            Reason.SLOT_LEAK,
            Cause.SLOT_LEAK,
            "stored the key twice in two slots, and reuse of the older slot deleted the live key (L1)",
        ),
        (
            Reason.AGE_REFRESHED,
            Cause.AGE_REFRESHED,
            "gave a re-set key a new age, so this key gave way in its place (L2)",
        ),
        (
            Reason.CAPACITY_EATEN,
            Cause.CAPACITY_EATEN,
            "spent slots on re-sets of keys it already held, so this key gave way although there was room (L3)",
        ),
        (
            Reason.REVERSE_MAP_SURVIVED,
            Cause.REVERSE_MAP_SURVIVED,
            "kept its slot-to-key map across a clear, and a stale entry of it deleted the live key (L4)",
        ),
    )
}
STILL_HELD = Kind(
    Dimension.PRESENCE,
    Cause.AGE_REFRESHED,
    "gave this key a new age when it was set again, and still holds it although it should have given way (L2)",
)
POLICIES_DIFFER = Kind(
    Dimension.PRESENCE,
    Cause.POLICY_DIFFERS,
    "Both sides do what they declare, and {control} (control) and {candidate} (candidate) keep different keys alive",
)
KNOWN_TO_DIFFER = Kind(
    Dimension.VALUE, Cause.UNKNOWN, "Both sides answer what they were last found to hold, and that differs"
)
ANSWERS_DIFFER = Kind(Dimension.VALUE, Cause.UNKNOWN, "Both sides answered this lookup and their answers differ")

# -- what is said beside it --------------------------------------------------------------------------------------------

PERHAPS_THE_HOST = "it hands out what it stores, so the host may have done it"
TENSORS_GONE = "the result came from the device after the operation, and its tensors are gone"
LEFT_AS_IT_IS = "it was left as it is, as it would be without validation"
PUT_BACK = "it was put back; until the first such change only some calls are looked at"
