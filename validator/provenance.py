"""What ran, for the manifest: versions, commit, machine. Never the environment's variables."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from shadow.plain import COMPILED

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
