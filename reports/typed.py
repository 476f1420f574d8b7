"""Lines of windows decoded and checked in one step by msgspec, where it is installed: several times as fast as json.

It may only be stricter than ``reports.read.lines``: what it refuses is decoded and checked there, slowly, and that has
the last word, and the words for what is wrong.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

from reports.record.histogram import BUCKETS
from reports.record.words import Outcome
from reports.short import Full

_BEGIN = b'{"type":"window",'
_NEEDED, _SHORT = {"cache", "seq", "t_s"}, {"like", "counts"}


@functools.cache
def window_decoder() -> Callable[[Sequence[bytes]], list[Any]] | None:
    """Return what makes of each line a checked window, like ``Short`` or ``Full``, and None of any that is none.

    Imports msgspec when it is first called: a training process, which only writes, never does.

    Returns:
        The decoder; None where msgspec is not installed.
    """
    try:
        import msgspec
    except ImportError:
        return None

    full_type, short_fields = _types(msgspec.Meta)
    full = msgspec.json.Decoder(full_type)
    short = msgspec.json.Decoder(msgspec.defstruct("Short", short_fields, forbid_unknown_fields=True, gc=False))
    refused = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

    def in_short(raws: Sequence[bytes]) -> list[Any]:
        with contextlib.suppress(*refused):
            windows: list[Any] = short.decode_lines(b"".join(raws))
            if len(windows) == len(raws):
                return windows
        return [one(short.decode, raw) for raw in raws]

    def one(decode: Callable[[bytes], Any], raw: bytes) -> Any:
        # A writer writes ASCII; in a field that it does not know msgspec would let pass what is no UTF-8.
        with contextlib.suppress(*refused):
            return decode(raw) if raw.isascii() else None
        return None

    def lines(raws: Sequence[bytes]) -> list[Any]:
        found: list[Any] = [None] * len(raws)
        begun = [at for at, raw in enumerate(raws) if raw.startswith(_BEGIN)]
        # In short are those with one brace, at their begin: there are no tables in them, and none goes on in the next.
        short_ones = [at for at in begun if not raws[at].rfind(b"{")]
        for at, window in zip(short_ones, in_short([raws[at] for at in short_ones]), strict=True):
            found[at] = window
        for at in begun if len(short_ones) < len(begun) else ():
            if found[at] is None:
                found[at] = one(in_full, raws[at])
        return found

    def in_full(raw: bytes) -> Full | None:
        line = full.decode(raw)
        return Full.of(line) if line.keys() >= _NEEDED and not line.keys() & _SHORT else None

    return lines


def _types(meta: Any) -> tuple[Any, list[tuple[str, Any]]]:
    count: Any = Annotated[int, meta(ge=0, le=2**63 - 1)]
    progress: Any = Annotated[int, meta(ge=-1, le=2**63 - 1)]
    outcome: Any = Literal.__getitem__(tuple(outcome.value for outcome in Outcome))
    bucket: Any = Literal.__getitem__(tuple(map(str, range(BUCKETS))))
    group: Any = Annotated[str, meta(pattern=r"\A[^|]*\|[^|]*\|[^|]*\Z")]
    both: dict[str, Any] = {"type": Literal["window"], "t_s": Annotated[float, meta(ge=0, lt=1e12)], "cache": str}
    both |= {"seq": count, "harness_ns": count, "train_iter": progress, "env_step": progress}
    full = both | dict.fromkeys(("ops", "coverage", "envs", "bytes_held", "dropped"), dict[str, count])
    full |= {"lookups": dict[str, dict[outcome, count]], "latency_ns": dict[str, dict[bucket, count]]}
    full |= {"divergences": dict[group, count], **dict.fromkeys(_SHORT, Any)}
    make: Any = TypedDict
    # In the order of a line, which is the fastest to decode.
    return make("Full", full, total=False), [*both.items(), ("like", count), ("counts", list[count]), ("rank", count)]
