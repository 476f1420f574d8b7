"""Where a validated model of LightZero writes, where nobody said."""

from __future__ import annotations

from typing import Any

import pytest

from shadow.hosts.lightzero.installation import Installation
from tests.guards import guards


@guards("shadow/hosts/lightzero/installation.py", "if _is_a_rank() else", "if False else")
@pytest.mark.parametrize(
    ("size", "out"), [("1", "data/exp_261129_010203/validation"), ("2", "data/exp-validation")], ids=["alone", "rank"]
)
def test_ranks_write_beside_the_experiment_as_it_was_named(
    size: str, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DI-engine puts the time behind a name that exists, on some ranks only; a directory in there would be reason."""
    monkeypatch.setenv("WORLD_SIZE", size)
    told: list[Any] = []
    installation = Installation(lambda settings, about: told.append(settings), force=True)
    installation.compiled({"exp_name": "data/exp_261129_010203"}, given={"exp_name": "data/exp"})

    installation._open_for({})

    assert told == [{"out": out}]
