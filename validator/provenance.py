"""What ran, for the manifest: versions, commit, machine. Never the environment's variables."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

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
        "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else [],
    }


def unique_name() -> str:
    """Return a name for a directory of results: time, host, process and four random digits."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")[:24]
    return f"{stamp}-{host}-{os.getpid()}-{secrets.token_hex(2)}"


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
