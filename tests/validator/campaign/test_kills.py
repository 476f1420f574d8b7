"""Jobs and drivers that are killed at random; ``python -m tests.torture.campaigns`` does it hundreds of times."""

from __future__ import annotations

import random
import sys

import pytest

from tests.guards import guards
from tests.torture.campaigns import kill_some


@guards("reports/record/campaign.py", "found.setdefault(one.job, one)", "found.setdefault(one.job, self.attempts[0])")
@pytest.mark.skipif(sys.platform != "linux", reason="who a driver's children are is told by /proc")
def test_no_job_is_lost_or_counted_twice_whoever_is_killed() -> None:
    found = kill_some(random.Random(3), 4)

    assert found["kills"] >= 1
    assert found["campaigns"] == 1
    assert {name: n for name, n in found.items() if name.startswith("wrong") and n} == {}
