"""What can be found wrong, and the words for it: every sentence that a report says about a cache is made here.

Whoever looks finds a ``Kind`` and its facts, which are data. A clause names the facts in braces; its subject is a side,
except for those that are whole sentences, which begin with a capital letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from xxhash import xxh3_64_hexdigest

from reports.record.words import Cause, Dimension
from shadow.outside import from_outside
from validator.models.places import where
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
    clause = kind.clause.format_map({name: _WRITTEN.get(name, told)(value) for name, value in facts.items()})
    return f"{who} {clause}".lstrip() + (f"; {note}" if note else "") + "."


def key_text(key: object) -> str:
    """Write a cache key: a whole number of 64 bits as 16 hex digits, anything else as its ``repr``.

    Keys that are equal because one is NumPy's number are written alike. What is cut ends in a hash of all of it.
    """
    if isinstance(key, (int, np.integer)) and -(1 << 63) <= int(key) < 1 << 64:
        return f"{int(key) & (1 << 64) - 1:016x}"
    return told(key, repr, _KEY_MOST)


def told(value: object, write: Callable[[object], str] = str, most: int = 4000) -> str:
    """Write a stranger's object, cut; one that raises instead, or answers no text, is named by its type."""
    try:
        text = f"{write(value)}"
    except BaseException as raised:  # its class may do as it likes
        if from_outside(raised):
            raise
        text = f"<{type(value).__qualname__} that has no {write.__name__}>"
    if len(text) <= most:
        return text
    whole = xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))
    return f"{text[: most - 20]}… {whole}"


def can_be_told_apart(key: object) -> bool:
    """Tell whether a key can be told from others: by its hash, and by comparing it. None stands for no key."""
    try:
        hash(key)
        return key is not None and bool(key == key) in (True, False)
    except Exception:  # a stranger's class may do as it likes
        return False


def put_back(left: Sequence[str]) -> str:
    """Say of process-wide state that it was put back, but for what is left."""
    return NOT_PUT_BACK % ", ".join(left) if left else PUT_BACK


_WRITTEN: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("key", "kept", "other_key"), key_text),
    **dict.fromkeys(("pool", "other_pool", "cleared"), lambda place: where(*place)),
    **dict.fromkeys(("old", "new"), lambda value: str(value).removeprefix("torch.")),
    "dim": lambda dim: "tokens" if dim is None else f"rows of dimension {dim}",
}

_presence = partial(Kind, Dimension.PRESENCE)
_live_keys = partial(Kind, Dimension.LIVE_KEYS)
_value = partial(Kind, Dimension.VALUE)
_structure = partial(Kind, Dimension.STRUCTURE)
_isolation = partial(Kind, Dimension.ISOLATION)
_error = partial(Kind, Dimension.ERROR)
_staleness = partial(Kind, Dimension.STALENESS)
_life_cycle = partial(Kind, Dimension.LIFE_CYCLE)

# -- which keys a side answers -----------------------------------------------------------------------------------------

NOT_FOUND_BY_BOTH_POOLS = _presence(Cause.WRONG_POOL_ORDER, "does not find in a hierarchical lookup what {pool} holds")
MISSED = _presence(Cause.MISSED, "answered nothing although it holds the entry")
KEPT_ANOTHER = _live_keys(
    Cause.WRONG_EVICTION, "evicted this key and kept {kept}, which should have given way before it"
)
CLEARED_TOO_MUCH = _live_keys(
    Cause.CLEAR_TOO_WIDE, "dropped an entry of {pool} when operation {op} cleared {cleared} only"
)
DROPPED_TOO_EARLY = _live_keys(
    Cause.CAPACITY_OFF, "holds {held} entries where {capacity} fit, and dropped the oldest too early"
)
EVICTED_A_YOUNGER = _live_keys(Cause.WRONG_EVICTION, "evicted this key although an older one should go")
LOST = _presence(Cause.SET_IGNORED, "lost this entry although nothing evicted or cleared it")
LOST_LATER = _live_keys(
    Cause.WRONG_EVICTION,
    "dropped this entry, which it answered at operation {op}, although nothing evicted or cleared it",
)
ONE_STORE = _live_keys(
    Cause.ONE_STORE, "keeps {pool} and {other_pool} in one store: each answers what was stored in the other alone"
)
NOT_STORED = _presence(Cause.SET_IGNORED, "does not hold what operation {op} gave it to store")
NOT_STORED_AGAIN = _presence(Cause.RESET_IGNORED, "does not hold what operation {op} gave it to store")
NOT_CLEARED = _live_keys(Cause.CLEAR_FORGOTTEN, "still holds an entry of {pool} that operation {op} cleared")
NOT_DELETED = _live_keys(Cause.CLEAR_FORGOTTEN, "still holds an entry that operation {op} removed")
OUT_OF_TURN = _live_keys(Cause.WRONG_EVICTION, "removed key {key} by its own choice, where {other_key} was next")
CHOSE_OTHERS = _live_keys(
    Cause.POLICY_DIFFERS,
    "Each side chose for itself what to remove, and they differ: the control {control}, the candidate {candidate}",
)
BEYOND_CAPACITY = _live_keys(
    Cause.CAPACITY_OFF, "still holds a key that operation {op} should have evicted, beyond the {capacity} that fit"
)
NOT_EVICTED = _live_keys(Cause.WRONG_EVICTION, "still holds a key that operation {op} should have evicted")
PHANTOM = _presence(Cause.PHANTOM, "answers a key that was never stored, or long gone")

# -- which value a key answers -----------------------------------------------------------------------------------------

EARLIER_VERSION = _value(Cause.RESET_IGNORED, "answers what operation {op} stored, before the key was set again")
EARLIER_LIFE = _value(Cause.STALE_VERSION, "answers what operation {op} stored under this key in an earlier life of it")
OTHER_ENV = _value(Cause.OTHER_ENV, "answers the entry of key {other_key} of {pool}")
OTHER_POOL = _value(Cause.WRONG_POOL_ORDER, "answers this key from {pool}")
OTHER_KEY = _value(Cause.OTHER_KEY, "answers the entry of key {other_key} of {pool}")
OUTLIVED = _value(
    Cause.DICT_OUTLIVES_RING,
    "answers the entry of key {other_key}, which operation {op} wrote into the slot of the key that was asked: the "
    "dict outlives the ring",
)
MIXED_UP = _value(Cause.LAYER_MIXED, "has keys, values, layers or tensors in one another's place")
OTHER_BITS = _value(Cause.CORRUPTED, "answers other bits for the same values (the sign of zero, or a NaN's payload)")
PERMUTED = _value(Cause.TOKENS_PERMUTED, "holds the right values in another order")
ROUNDED = _value(Cause.ROUNDING, "rounded the values, as a store of lower precision would")
END_NOT_COPIED = _value(Cause.PARTIAL_COPY, "did not copy the last {last} {dim} of {wrong} of {n} tensors")
SOME_NOT_COPIED = _value(
    Cause.PARTIAL_COPY, "copied {right} of {n} tensors; the others are those that operation {op} stored"
)
SOME_OF_BEFORE = _value(
    Cause.PARTIAL_COPY,
    "copied {right} of {n} tensors; the others are those that operation {op} stored under this key before",
)
NOT_COPIED = _value(Cause.PARTIAL_COPY, "did not copy {wrong} of {n} tensors: they are zero")
ROWS_NOT_COPIED = _value(Cause.PARTIAL_COPY, "did not copy {wrong} of {n} rows: they are zero")
ROWS_MIXED_UP = _value(
    Cause.LAYER_MIXED, "has {wrong} of {n} rows in another tensor's place: keys, values or layers of this entry"
)
ROWS_PERMUTED = _value(Cause.TOKENS_PERMUTED, "has {wrong} of {n} rows in the place of others of the same tensor")
ROWS_OF_OTHER_KEY = _value(Cause.OTHER_KEY, "answers {wrong} of {n} rows out of the entry of key {other_key} of {pool}")
ROWS_OF_OTHER_ENV = _value(Cause.OTHER_ENV, "answers {wrong} of {n} rows out of the entry of key {other_key} of {pool}")
ROWS_OF_OTHERS = _value(
    Cause.OTHER_KEY,
    "answers {wrong} of {n} rows out of {entries} other entries, most of them that of key {other_key} of {pool}",
)
CORRUPTED_IN_PART = _value(Cause.CORRUPTED, "answers values that were never stored, in {wrong} of {n} tensors")
CORRUPTED = _value(Cause.CORRUPTED, "answers values that were never stored")
NEVER_STORED = _value(Cause.UNKNOWN, "answers values that were never stored")

# -- what an append cache answers --------------------------------------------------------------------------------------

NOT_TENSORS = _structure(Cause.SHAPE_OFF, "answered {what} where keys and values of {shape} were to be answered")
OTHER_SHAPE_OF_ALL = _structure(Cause.SHAPE_OFF, "answers {part} of shape {old} where {new} was appended")
OTHER_DTYPE_OF_ALL = _structure(Cause.DTYPE_DRIFT, "answers {part} of dtype {old} where {new} was appended")
NOT_AS_ANNOUNCED = _structure(
    Cause.COLUMNS_OFF, "answered {columns} columns of layer {layer} where it had announced {announced}"
)
WINDOW_OFF = _value(
    Cause.WINDOW_OFF,
    "has a window off by {n} in layer {layer}: with {seen} tokens seen, positions from {needed} on are attended to, "
    "and it answers those from {begin} on",
)
WINDOW_HELD_OFF = _value(
    Cause.WINDOW_OFF,
    "has a window off by {n} in layer {layer}: it announced {announced} columns and answered {columns}, the last of "
    "which are the right ones",
)
TRUNCATED = _structure(
    Cause.LENGTH_OFF, "answers positions [{begin}, {end}) of layer {layer} where [{needed}, {seen}) were appended"
)
LENGTH_TOLD = _structure(Cause.LENGTH_OFF, "says that layer {layer} has seen {said} tokens where {seen} were appended")
NOT_CROPPED_LENGTH = _structure(
    Cause.NOT_CROPPED, "says after crop that layer {layer} has seen {said} tokens where {seen} are left"
)
NOT_RESET_LENGTH = _structure(
    Cause.KEPT_ACROSS_RESET, "says after reset that layer {layer} has seen {said} tokens where none are left"
)
_AT = "at {wrong} of {n} places of layer {layer}, such as row {row}, position {position}"
PARTS_MIXED = _value(Cause.LAYER_MIXED, f"answers keys in the place of values or the reverse {_AT}")
LAYERS_MIXED = _value(Cause.LAYER_MIXED, f"answers what was appended to layer {{other_layer}} {_AT}")
ROW_OF_OTHER = _value(Cause.OTHER_ROW, f"answers row {{other_row}}, another beam or sample, {_AT}")
NOT_REARRANGED = _value(Cause.OTHER_ROW, f"answers the rows as they stood before {{verb}} {_AT}")
SHIFTED = _value(Cause.POSITION_SHIFTED, f"answers what was appended at another position, shifted by {{shift}}, {_AT}")
FROM_BEFORE_CROP = _value(Cause.NOT_CROPPED, f"answers what a crop had dropped {_AT}")
FROM_BEFORE_RESET = _value(Cause.KEPT_ACROSS_RESET, f"answers what a reset had dropped {_AT}")
ELSEWHERE = _value(
    Cause.UNKNOWN,
    f"answers what was appended elsewhere (layer {{other_layer}}, row {{other_row}}, shifted by {{shift}}) {_AT}",
)
ZERO_THERE = _value(Cause.PARTIAL_COPY, f"answers zeros {_AT}")
ROUNDED_THERE = _value(Cause.ROUNDING, f"rounded the values {_AT}")
HEADS_PERMUTED = _value(Cause.TOKENS_PERMUTED, f"answers the right values in another order {_AT}")
NEVER_APPENDED = _value(Cause.CORRUPTED, f"answers values that were never appended {_AT}")
STATES_DIFFER = _value(Cause.UNKNOWN, "Both sides answered {method} of layer {layer} and their answers differ")
STATES_KEPT_DIFFER = _value(Cause.UNKNOWN, "Both sides keep a state of layer {layer} and what they keep differs")
STATE_NOT_KEPT = _value(Cause.CORRUPTED, "answers another recurrent state of layer {layer} than it was given")
STATE_NOT_JOINED = _value(
    Cause.CORRUPTED, "answers something else of layer {layer} than what it was given behind the state that it held"
)
STATE_NOT_REARRANGED = _value(
    Cause.OTHER_ROW, "keeps a state of layer {layer} whose rows are not those that {verb} asked"
)
STATE_KEPT_ACROSS_RESET = _value(Cause.KEPT_ACROSS_RESET, "keeps a state of layer {layer} that {verb} had to drop")
APPENDED_EDITED = _isolation(Cause.INPUT_EDITED, "changed the {part} it was given to append to layer {layer}")
APPENDED_KEPT = _isolation(
    Cause.ALIASED_ON_SET, "keeps the {part} it was given to append to layer {layer} itself instead of a copy"
)
HOST_WROTE_HELD = _isolation(
    Cause.ALIASED_ON_GET, "The host changed what layer {layer} of the {side} holds between two operations"
)
RAISED_ON_APPEND = _error(Cause.RAISED, "raised {error} in {method}() of layer {layer}")
RAISED_ON_REARRANGE = _error(Cause.RAISED, "raised {error} in {method}()")
BOTH_RAISED = _error(Cause.RAISED, "Both sides raised {error} in {method}()")

# -- how it is built ---------------------------------------------------------------------------------------------------

NO_ENTRY_ANSWERED = _structure(Cause.SHAPE_OFF, "answered a {type}, which is no entry")
NO_ENTRY_HELD = _structure(Cause.SHAPE_OFF, "holds a {type}, which is no entry")
OTHER_LAYERS = _structure(Cause.SHAPE_OFF, "answers {found} layers where {stored} were stored")
OTHER_FORM = _structure(Cause.SHAPE_OFF, "answers {found} at {leaf} where {stored} was stored")
_CHANGED = "changed the %s of {leaf} from {old} to {new}"
OTHER_SHAPE = _structure(Cause.SHAPE_OFF, _CHANGED % "shape")
OTHER_DTYPE = _structure(Cause.DTYPE_DRIFT, _CHANGED % "dtype")
OTHER_DEVICE = _structure(Cause.DEVICE_DRIFT, _CHANGED % "device")
OTHER_LENGTH = _structure(Cause.LENGTH_OFF, _CHANGED % "valid length")

# -- whose memory it is ------------------------------------------------------------------------------------------------

INPUT_EDITED = _isolation(Cause.INPUT_EDITED, "changed the entry it was given to store at operation {op}")
REFERENCE_STORED = _isolation(
    Cause.ALIASED_ON_SET,
    "stored a reference to its input instead of a copy at operation {op}: both live in the same memory",
)
REFERENCE_CHANGED = _isolation(
    Cause.ALIASED_ON_SET, "stored a reference to its input instead of a copy, and the input changed since"
)
HOST_WROTE_GIVEN = _isolation(
    Cause.ALIASED_ON_SET,
    "stores what it is given itself, as it declares, and the host wrote into that entry after operation {op} stored it",
)
HOST_WROTE = _isolation(
    Cause.ALIASED_ON_GET, "hands out what it stores, and the host wrote into the entry of operation {op}"
)
HANDS_OUT_STORED = _isolation(
    Cause.ALIASED_ON_GET,
    "answers with what it stores, or with the same memory twice, although it declares that it does not: what it "
    "answers is not the host's alone",
)
HOST_WOULD_WRITE = _isolation(
    Cause.ALIASED_ON_GET,
    "hands out what it stores, and the host writes into what it is given, as into the entry of operation {op}: in this "
    "side's place that would have been the store",
)
RESULT_CHANGED = _isolation(
    Cause.ALIASED_ON_GET,
    "changed a result that it had handed out while it was held: a later operation reused its memory",
)
ONE_MEMORY = _isolation(Cause.SHARED_SLOT, "keeps the entries of keys {key} and {other_key} in one memory")
MEMORY_OF_BOTH = _isolation(Cause.SHARED_SLOT, "Control and candidate keep the entry of key {key} in the same memory")
HOLDS_TOO_MUCH = _isolation(
    Cause.GROWS, "holds {held} bytes of tensors where the most entries that were ever in it at once take {most}"
)
PROCESS_CHANGED = _isolation(Cause.MEDDLED, "changed {what} during a call")

# -- what was raised ---------------------------------------------------------------------------------------------------

RAISED_ON_GET = _error(Cause.RAISED, "raised {error} instead of answering")
RAISED_FOR_A_MISS = _error(
    Cause.RAISED, "raised TypeError instead of missing: it indexes its pool with the None that its dict answered"
)
RAISED_ON_SET = _error(Cause.RAISED, "raised {error} instead of storing")
RAISED_ON_CLEAR = _error(Cause.RAISED, "raised {error} instead of clearing")
RAISED_IN = _error(Cause.RAISED, "raised {error} in {method}()")
ODD_ANSWER = _error(Cause.ODD, "answered {what} in {method}()")
RAISED_ON_READ = _error(Cause.RAISED, "raised {error} when an entry was read back")
BOTH_REFUSED = _error(Cause.RAISED, "Both sides refused to store this: {error}")
ENV_OUT_OF_RANGE = _error(
    Cause.BAD_ENV,
    "The host passed env_id {env_id} where [0, {env_num}) is possible; the control {control}, the candidate "
    "{candidate}",
)
KEY_NOT_TOLD_APART = _error(
    Cause.RAISED,
    "The host passed a key of type {type}, which can't be told from others; the control {control}, the candidate "
    "{candidate}",
)

# -- what the host promises --------------------------------------------------------------------------------------------

CROSSES_UPDATE = _staleness(
    Cause.STALE_WEIGHTS,
    "Both sides answer what operation {op} stored before weight update {update}; the host did not clear it in between",
)
CROSSES_EPISODE = _staleness(
    Cause.STALE_EPISODE,
    "Both sides answer what operation {op} stored before the end of episode {episode} of env {env_id}; the host did "
    "not clear it in between",
)
EPISODE_LEFT_ENTRIES = _life_cycle(
    Cause.EPISODE_NOT_CLEARED, "The host ended an episode of env {env_id} and left {left} entries of it alive"
)
EPISODE_WIPED_OTHERS = _life_cycle(
    Cause.CLEAR_TOO_WIDE,
    "The host ended an episode of env {env_id}, and its {operation} wiped live entries of envs {others}",
)
DIFFERENT_BEFORE = _presence(
    Cause.UNKNOWN,
    "The host shadowed two caches that held different entries by then: {control} in the control alone, {candidate} in "
    "the candidate alone, and {differ} that differ",
)
SEARCH_LEFT_ENTRIES = _life_cycle(
    Cause.SEARCH_NOT_CLEARED, "The host began a search with {left} entries of the search before still alive"
)

# -- what nobody did wrong ---------------------------------------------------------------------------------------------

QUIRKS = {
    reason: _presence(Cause[reason.name], f"{clause}; it happened at operation {{op}}")
    for reason, clause in {
        Reason.SLOT_LEAK: "stored the key twice in two slots, and reuse of the older slot deleted the live key (L1)",
        Reason.AGE_REFRESHED: "gave a re-set key a new age, so this key gave way in its place (L2)",
        Reason.CAPACITY_EATEN: "spent slots on re-sets of keys it already held, so this key gave way although there "
        "was room (L3)",
        Reason.REVERSE_MAP_SURVIVED: "kept its slot-to-key map across a clear, and a stale entry of it deleted the "
        "live key (L4)",
    }.items()
}
STILL_HELD = _presence(
    Cause.AGE_REFRESHED,
    "gave this key a new age when it was set again, and still holds it although it should have given way (L2)",
)
POLICIES_DIFFER = _presence(
    Cause.POLICY_DIFFERS,
    "Both sides do what they declare, and {control} (control) and {candidate} (candidate) keep different keys alive",
)
NOBODY_KNOWS = _presence(
    Cause.POLICY_DIFFERS,
    "The {answered} answers this key and the {missed} does not; nobody knows whom the {unknown} evicts there, so it "
    "can't be told which of them is right",
)
KNOWN_TO_DIFFER = _value(Cause.UNKNOWN, "Both sides answer what they were last found to hold, and that differs")
ANSWERS_DIFFER = _value(Cause.UNKNOWN, "Both sides answered this lookup and their answers differ")

# -- what is said beside it --------------------------------------------------------------------------------------------

PERHAPS_THE_HOST = "it hands out what it stores, so the host may have done it"
SEEN_BEFORE = "it was seen to do so before"
CHANGED_SINCE = "what it answers is not what was stored there either"
TENSORS_GONE = "the result came from the device after the operation, and its tensors are gone"
LEFT_AS_IT_IS = "it was left as it is, as it would be without validation"
NOT_PUT_BACK = "%s could not be put back"
PUT_BACK = "it was put back; until the first such change only some calls are looked at"
