"""What is to make a candidate for ``generate`` is refused before any program begins, if it can't be called so."""

from __future__ import annotations

import pytest

from shadow.hosts.transformers import generate
from tests.guards import guards


def fits(asked: object) -> None:
    """Makes nothing."""


def taxed(size: int, rate: float) -> None:
    """What is called otherwise."""


@guards("shadow/hosts/transformers/generate.py", "inspect.signature(made).bind(None)", "pass")
def test_what_is_called_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "find_spec", lambda name: True)

    assert generate.maker(f"{__name__}:fits") is fits
    assert generate.maker("builtins:iter") is iter  # has no signature
    with pytest.raises(generate.Unsupported, match=r"called as MAKE\(asked\) \(missing a required argument: 'rate'\)"):
        generate.maker(f"{__name__}:taxed")
