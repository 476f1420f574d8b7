"""Waivers: reviewed, expiring permissions, each for one described divergence."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from reports.record.words import Cause, Dimension, Fault
from validator.errors import ConfigError
from validator.toml import read_toml

# Whoever may be the candidate: to waive these a waiver must say which candidate.
_NAMES_THE_CANDIDATE = (Fault.CANDIDATE.value, Fault.BOTH.value, Fault.UNKNOWN.value)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a waiver holds; what is empty restricts nothing.

    Attributes:
        control: Full class name of the control.
        candidate: Full class name of the candidate.
        cache: Name of the shadowed pair.
        stage: ``shadow`` or ``canary``.
        dimensions: In what respect, such as ``presence``.
    """

    control: str = ""
    candidate: str = ""
    cache: str = ""
    stage: str = ""
    dimensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.stage not in ("", "shadow", "canary"):
            raise ValueError(f"stage must be 'shadow' or 'canary', got {self.stage!r}")
        for dimension in self.dimensions:
            _known("dimensions", dimension, [one.value for one in Dimension])


@dataclass(frozen=True, slots=True)
class Waiver:
    """One permission. Everything but ``scope`` is required.

    Attributes:
        id: Short name.
        cause: Cause of the divergence, exactly.
        side: Side at fault, exactly.
        owner: Who answers for it.
        reason: Why it is acceptable.
        issue: Link to where that was decided.
        expires: Last day on which it holds, UTC.
        max_count: Divergences over all judged runs up to which it holds.
        scope: Where it holds.
    """

    id: str = ""
    cause: str = ""
    side: str = ""
    owner: str = ""
    reason: str = ""
    issue: str = ""
    expires: date | None = None
    max_count: int = 0
    scope: Scope = field(default_factory=Scope)

    def __post_init__(self) -> None:
        which = f"waiver {self.id!r}" if self.id else "a waiver without id"
        for name in ("id", "cause", "side", "owner", "reason", "issue"):
            if not getattr(self, name).strip():
                raise ValueError(f"{which}: {name} is required")
        if self.expires is None:
            raise ValueError(f"{which}: expires is required, a date such as 2027-03-31: no waiver holds for ever")
        if isinstance(self.expires, datetime):
            raise ValueError(f"{which}: expires must be a date such as 2027-03-31, got {self.expires}")
        if self.max_count < 1:
            raise ValueError(f"{which}: max_count is required and at least 1, got {self.max_count}")
        if not self.issue.startswith(("https://", "http://")):
            raise ValueError(f"{which}: issue must be a link, https://..., got {self.issue!r}")
        _known("cause", self.cause, [one.value for one in Cause])
        _known("side", self.side, [one.value for one in Fault])
        if self.side in _NAMES_THE_CANDIDATE and not self.scope.candidate:
            raise ValueError(
                f"{which}: side {self.side!r} may be charged to the candidate, so scope.candidate must name its class, "
                "such as 'shadow.manager.KVCacheManager'"
            )


@dataclass(frozen=True, slots=True)
class _File:
    waiver: tuple[Waiver, ...] = ()


def load_waivers(path: Path) -> tuple[Waiver, ...]:
    """Read a file of waivers.

    Args:
        path: TOML file with tables ``[[waiver]]``.

    Returns:
        Its waivers.

    Raises:
        ConfigError: If the file can't be read, holds none, or one of them is not as it must be.
    """
    # Imported here because the package above it imports torch, which judging never needs.
    from shadow.settings import SettingsError, from_mapping

    tables: dict[str, Any] = read_toml(path, "waivers")
    try:
        waivers = from_mapping(_File, tables, str(path)).waiver
    except SettingsError as problem:
        raise ConfigError(str(problem)) from None
    if not waivers:
        raise ConfigError(f"{path}: holds no waiver; expected at least one table [[waiver]]")
    names = [waiver.id for waiver in waivers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path}: waiver {twice[0]!r} is there more than once; every id must be its own")
    return waivers


def _known(what: str, name: str, known: list[str]) -> None:
    from shadow.settings import nearest

    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; {nearest(name, known)}")
