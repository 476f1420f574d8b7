"""What ran, for the manifest: versions, commit, machine. Never the environment's variables."""

from __future__ import annotations

import hashlib
import inspect
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from shadow.memory.dense import COMPILED

_PACKAGES = ("kv-lockstep", "torch", "numpy", "pandas", "safetensors", "xxhash", "gymnasium", "LightZero", "DI-engine")


def provenance() -> dict[str, Any]:
    """Return versions, git commit and dirty flag of the working directory, platform, command line and devices."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git(),
        "platform": platform.platform(),
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
        "threads": torch.get_num_threads(),
        "compiled": COMPILED,
        "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else [],
    }


def source_of(kind: type) -> str:
    """Return a digest of the source of a class, its bases, and the modules that lie beside them.

    A version number says what somebody remembered to write down; this says whether it is the same code.

    Args:
        kind: The class.

    Returns:
        12 hex digits; empty where there is no source, as for classes made in a shell.
    """
    folders = set()
    for base in kind.__mro__[:-1]:
        try:
            folders.add(Path(inspect.getfile(base)).parent)
        except (OSError, TypeError):
            return ""
    found = hashlib.blake2b(digest_size=6)
    try:
        for file in sorted(file for folder in folders for file in folder.glob("*.py")):
            found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    except OSError:
        return ""
    return found.hexdigest()


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any] | None:
    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
