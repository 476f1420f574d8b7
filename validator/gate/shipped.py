"""Where is a configuration, a policy or a file of waivers? What ships is found by name, any other by its path."""

from __future__ import annotations

from pathlib import Path

from validator.errors import ConfigError

TRAININGS = "."  # the kind that lies in no folder of its own

# ``configs/`` of the checkout becomes ``validator/shipped_configs/`` when the package is built; see pyproject.toml.
_HERE = Path(__file__).parents[1]


def shipped_names(kind: str) -> list[str]:
    """Return the names that ship: ``kind`` is ``TRAININGS``, ``gate`` (policies) or ``waivers``."""
    return sorted(path.stem for path in shipped_folder(kind).glob("*.toml"))


def find_file(kind: str, given: str, what: str) -> Path:
    """Find a file that a person named.

    Args:
        kind: ``TRAININGS``, ``gate`` or ``waivers``.
        given: Path of a TOML file, or the name of one that ships.
        what: What it is, for messages.

    Returns:
        Its path.

    Raises:
        ConfigError: If it is neither; the nearest name that ships is told.
    """
    from shadow.settings import nearest  # here because it imports torch

    if given.endswith(".toml") or "/" in given or "\\" in given:
        return Path(given)
    names = shipped_names(kind)
    if given in names:
        return shipped_folder(kind) / f"{given}.toml"
    hint = nearest(given, names)
    end = "" if hint.endswith("?") else "."
    raise ConfigError(f"{given}: no {what} of this name ships; {hint}{end} A file of your own is named by path, *.toml")


def shipped_folder(kind: str) -> Path:
    """Return where they lie: ``kind`` is ``TRAININGS``, ``gate`` (policies) or ``waivers``."""
    installed = _HERE / "shipped_configs" / kind
    return installed if installed.is_dir() else _HERE.parent / "configs" / kind
