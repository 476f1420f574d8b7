"""What goes wrong when a LightZero is not what this host knows; all of it is found before any training starts."""

from __future__ import annotations

INSTALL_COMMAND = (
    "pip install torch==2.13.0 && pip install -r tests/lightzero/requirements.txt && "
    "pip install --no-deps -r tests/lightzero/requirements-nodeps.txt"
)


class LightZeroMissing(ImportError):
    """LightZero can't be imported; the text gives the install command that works."""


class LightZeroMismatch(RuntimeError):
    """LightZero's internals do not look as expected; the text names what was looked for."""


def missing(what: str) -> LightZeroMissing:
    """Return the error for a package that can't be imported."""
    return LightZeroMissing(
        f"{what} can't be imported. Plain 'pip install LightZero' drags in a torch with 4 GB of CUDA; this order works "
        f"(CPython 3.11, x86-64 Linux), from a checkout of kv-lockstep:\n  {INSTALL_COMMAND}"
    )
