"""Lines of windows decoded and checked in one step by msgspec, where it is installed: several times as fast as json.

It may only be stricter than ``reports.lines``: what it refuses is decoded and checked there, slowly, and that has the
last word, and the words for what is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

from validator.histogram import BUCKETS
from validator.records import Outcome

_BEGIN = b'{"type":"window",'


Decode = Callable[[Sequence[bytes]], list[dict[str, Any] | None]]


@functools.cache
def window_decoder() -> Decode | None:
    """Return what turns lines into checked windows, and any line that is no sound window into None.

    Imports msgspec when it is first called: a training process, which only writes, never does.

    Returns:
        The function; None where msgspec is not installed.
    """
    try:
        import msgspec
    except ImportError:
        return None

    decode, refused = msgspec.json.Decoder(_window_type(msgspec.Meta)).decode, msgspec.DecodeError

    def windows(raws: Sequence[bytes]) -> list[dict[str, Any] | None]:
        found: list[dict[str, Any] | None] = []
        for raw in raws:
            line = None
            # A writer writes ASCII; in a name that it does not know msgspec would let pass what is no UTF-8.
            if raw.startswith(_BEGIN) and raw.isascii():
                try:
                    line = decode(raw)
                    pairs = ("like" in line) == ("counts" in line)
                    if not (pairs and "cache" in line and "seq" in line and "t_s" in line):
                        line = None
                except (refused, UnicodeDecodeError, RecursionError):
                    line = None
            found.append(line)
        return found

    return windows


def _window_type(meta: Any) -> Any:
    count: Any = Annotated[int, meta(ge=0, le=2**63 - 1)]
    progress: Any = Annotated[int, meta(ge=-1, le=2**63 - 1)]
    outcome: Any = Literal.__getitem__(tuple(outcome.value for outcome in Outcome))
    bucket: Any = Literal.__getitem__(tuple(map(str, range(BUCKETS))))
    group: Any = Annotated[str, meta(pattern=r"\A[^|]*\|[^|]*\|[^|]*\Z")]
    fields: dict[str, Any] = {"type": Literal["window"], "cache": str, "t_s": Annotated[float, meta(ge=0, lt=1e12)]}
    fields |= dict.fromkeys(("seq", "harness_ns", "like"), count)
    fields |= dict.fromkeys(("train_iter", "env_step"), progress)
    fields |= dict.fromkeys(("ops", "coverage", "envs", "bytes_held", "dropped"), dict[str, count])
    fields |= {"lookups": dict[str, dict[outcome, count]], "latency_ns": dict[str, dict[bucket, count]]}
    fields |= {"divergences": dict[group, count], "counts": list[count]}
    make: Any = TypedDict
    return make("WindowLine", fields, total=False)
