"""Is the byte work compiled here? Where it is not, one line says so, with the command that compiles it."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from urllib.parse import unquote

import torch
from rich.console import Console

from shadow.memory import dense


def tell_if_not_compiled(err: Console) -> None:
    """Print that validating is slow here and what would change it; nothing where it is compiled.

    Args:
        err: Where to.
    """
    if dense.COMPILED:
        return
    if hasattr(torch.Tensor, dense.NEEDS):
        why = "nothing compiled it"
        remedy = f"With a C compiler: pip install --no-cache-dir --force-reinstall --no-deps {_installed_from()}"
    else:
        why = f"torch {torch.__version__} has no view of tensors for C"
        remedy = "With a newer one: pip install 'torch>=2.10'"
    said = f"byte work is done in Python, because {why}: results are the same, validating takes longer. {remedy}"
    err.print(said, markup=False, soft_wrap=True)


def _installed_from() -> str:
    """Return what pip was given: the place it noted down (PEP 610), else the name of the distribution."""
    try:
        noted = json.loads(metadata.distribution("kv-lockstep").read_text("direct_url.json") or "{}")
        url = str(noted["url"])
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return "kv-lockstep"
    if version_control := noted.get("vcs_info", {}).get("vcs"):
        return shlex.quote(f"{version_control}+{url}")
    return ("-e " if noted.get("dir_info", {}).get("editable") else "") + shlex.quote(
        unquote(url.removeprefix("file://"))
    )
