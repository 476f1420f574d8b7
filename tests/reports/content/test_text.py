"""Words for numbers: short, never claiming more or less than there is."""

from __future__ import annotations

import pytest

from reports.content import text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.abbreviated(99_999), "99,999"),
        (text.abbreviated(100_000), "100 k"),
        (text.abbreviated(3_600_000), "3.6 M"),
        (text.abbreviated(99_960_000), "100 M"),
        (text.abbreviated(12_000_000_000), "12.0 G"),
        (text.abbreviated(10**12), "1.0e+12"),
        (text.share(None), "-"),
        (text.share(0.0), "0.00%"),
        (text.share(1e-9), "<0.01%"),
        (text.share(0.99999), ">99.99%"),
        (text.share(1.0), "100.00%"),
        (text.micros(None), "-"),
        (text.micros(1_234), "1.23"),
        (text.micros(9_990), "10.0"),
        (text.micros(99_600), "100"),
        (text.micros(12_345_678), "12,346"),
        (text.seconds(0.0421), "42 ms"),
        (text.seconds(61.0), "61.0 s"),
        (text.seconds(600), "10.0 min"),
        (text.seconds(36_000), "10.0 h"),
        (text.size(1023), "1023 B"),
        (text.size(1536), "1.5 KiB"),
        (text.size(3 << 20), "3.0 MiB"),
        (text.size(5 << 30), "5.0 GiB"),
        (text.ratio(1.0, 2.0), "0.50x"),
        (text.ratio(1.0, 0.0), "-"),
        (text.ratio(None, 2.0), "-"),
        (text.number(None), "-"),
        (text.number(0.000123456), "0.000123"),
        (text.plural(1, "lookup"), "1 lookup"),
        (text.plural(1200, "lookup"), "1,200 lookups"),
    ],
)
def test_numbers(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    "harmful", ["\x1b", "\x07", "\r", "\x7f", "\x9b", "\u202e", "\u2028", "\ufeff", "\ud800", "\U000e0041"]
)
def test_characters_that_do_something_are_spelled_out(harmful: str) -> None:
    assert text.clean(f"a{harmful}b").isprintable()
    assert text.clean(f"a{harmful}b").startswith("a\\")


def test_text_keeps_its_lines_and_its_letters() -> None:
    assert text.clean("é 漢\nb") == "é 漢\nb"
    assert text.line("a\nb") == "a\\nb"


def test_what_is_cut_is_counted() -> None:
    assert text.clean("x" * 1500, limit=10) == "x" * 10 + " [1,490 more characters]"
