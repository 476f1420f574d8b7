"""Is the byte work compiled here? Where it is not, one line says so, with the command that compiles it."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from urllib.parse import unquote

from rich.console import Console

from shadow.memory import dense


def tell_if_not_compiled(err: Console) -> None:
    """Print that validating is slow here and what would change it; nothing where it is compiled.

    Args:
        err: Where to.
    """
    if dense.COMPILED:
        return
    err.print(
        "byte work is done in Python, because nothing compiled it: results are the same, validating takes longer. With "
        f"a C compiler: pip install --no-cache-dir --force-reinstall --no-deps {_installed_from()}",
        markup=False,
        soft_wrap=True,
    )


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
