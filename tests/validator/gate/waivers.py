"""Waivers, as objects and as the text of a file, and the groups of divergences they are about."""

from __future__ import annotations

from datetime import date
from typing import Any

from validator.gate.waivers import Waiver

EATEN = "presence|capacity eaten|control"
LOST = "presence|missed an entry it holds|candidate"
WHOLE = """
[[waiver]]
id = "L3"
cause = "capacity eaten"
side = "control"
owner = "cache team"
reason = "known"
issue = "https://example.org/3"
expires = 2027-06-30
max_count = 10
"""


def waiver(**changes: Any) -> Waiver:
    about = {
        "id": "W",
        "cause": "capacity eaten",
        "side": "control",
        "owner": "me",
        "reason": "known",
        "issue": "https://example.org/1",
        "expires": date(2027, 6, 30),
        "max_count": 100_000,
    }
    return Waiver(**{**about, **changes})
