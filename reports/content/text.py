"""How numbers and names are put into words for people, the same in every format of report."""

from __future__ import annotations

import unicodedata

from reports.record.redaction import in_a_log, shortened

_VISIBLE = frozenset("\n")


def clean(value: object, limit: int = 400) -> str:
    """Turn data from a run into text that can do nothing: not move a cursor, not reverse the line, not fill the page.

    Args:
        value: A name, a key, an exception text, ...
        limit: Most characters; what is cut is counted in its place.

    Returns:
        The text. Control, format, private and unpaired characters are shown by their escapes; line ends stay. Under
        GitHub Actions, whose log takes commands, nothing in it is one.
    """
    text = shortened(str(value))
    if len(text) > limit:
        text = f"{text[:limit]} [{len(text) - limit:,} more characters]"
    return in_a_log("".join(_shown(char) for char in text))


def line(value: object, limit: int = 400) -> str:
    """Return ``clean`` text on one line."""
    return clean(value, limit).replace("\n", "\\n")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def abbreviated(count: int) -> str:
    """Return a count in at most six characters; exact below 100,000, where single ones matter."""
    if count < 100_000:
        return f"{count:,}"
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if count < size * 1000:
            return f"{count / size:.0f} {unit}" if count >= size * 99.95 else f"{count / size:.1f} {unit}"
    return f"{count:.1e}"


def share(part: float | None) -> str:
    """Return a share in percent, never rounded up to all or down to nothing."""
    if part is None:
        return "-"
    if 0 < part < 0.0001:
        return "<0.01%"
    if 0.9999 < part < 1:
        return ">99.99%"
    return f"{part:.2%}"


def micros(nanoseconds: float | None) -> str:
    """Return a duration as a number of microseconds with three digits."""
    if nanoseconds is None:
        return "-"
    value = nanoseconds / 1000
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def seconds(value: float) -> str:
    """Return a duration in the unit that people use for it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Return an amount of memory."""
    if n_bytes < 1024:
        return f"{n_bytes:.0f} B"
    for unit in ("KiB", "MiB"):
        n_bytes /= 1024
        if n_bytes < 1024:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} GiB"


def ratio(candidate: float | None, control: float | None) -> str:
    """Return how many times the control's the candidate's number is."""
    return f"{candidate / control:.2f}x" if control and candidate is not None else "-"


def number(value: float | None) -> str:
    """Return a measured difference with three digits."""
    return "-" if value is None else f"{value:.3g}"


def _shown(char: str) -> str:
    if char.isascii():
        return char if char.isprintable() or char in _VISIBLE else repr(char)[1:-1]
    if unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp"):
        return char.encode("unicode_escape").decode()
    return char
