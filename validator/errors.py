"""The errors that a person can do something about.

::

    LockstepError            something was wrong with what kv-lockstep was given; the text says what to do
    └── ConfigError          a setting, a flag or a policy is unknown, mistyped or impossible

``shadow.settings.SettingsError`` (a ``ValueError``, for hosts that must not know the validator) becomes a
``ConfigError`` where a command reads settings. ``reports.errors.RunUnreadable`` says that a directory is no run. The
command line answers all of them with exit code 2; every other exception is a fault of the harness, exit code 3.
"""

from __future__ import annotations


class LockstepError(Exception):
    """Something was wrong with what kv-lockstep was given."""


class ConfigError(LockstepError):
    """A setting, a flag or a policy is unknown, mistyped or impossible."""
