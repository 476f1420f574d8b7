"""What of a record may leave the machine: no secret, and no more of a path than is needed.

A secret is known by its name: a text in a place, or behind an option, whose name holds whole words such as ``api_key``,
``password`` or ``hf_token``. Numbers and booleans never are, so ``max_tokens = 64`` stays. A secret that nothing names
can't be known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

REDACTED = "REDACTED"
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ALONE = re.compile(
    r"secrets?|passwords?|passwd|passphrase|pwd|credentials?|authorization|bearer|cookie|(api|access|secret|private)key|"
    r"(auth|access|api|hf)token"
)
_OF_KEYS = re.compile(r"api|access|secret|private|ssh|encryption|signing|auth|account|storage|license|client|master")
# Of a text model's vocabulary: ``pad_token``, ``eos_token``; every other ``..._token`` lets somebody in.
_OF_VOCABULARY = re.compile(
    r"pad|bos|eos|unk|mask|sep|cls|start|end|stop|begin|special|image|video|audio|extra|additional|next|first|last|per|"
    r"new|word|prefix|suffix|middle|fim|boundary"
)
_OF_TOKENS = re.compile(r"auth|access|api|hf|refresh|session|bearer|secret")
_HARMLESS = re.compile(r"[\"']?(true|false|none|null)?", re.IGNORECASE)
_HINT = r"(?i:key|secret|passw|passphrase|pwd|credential|token|authorization|bearer|cookie)"
_NAMED = re.compile(  # behind a name with = or :, as in settings, command lines, JSON and headers
    rf"(?<![\w.-])(?P<name>[\w.-]*?{_HINT}[\w.-]*)(?P<is>\\?[\"']?\s*[:=]\s*(?:(?:Bearer|Basic)\s+)?\\?)"
    r"(?P<value>\"[^\"\n]*|'[^'\n]*|[^\s\"'&,;)}\]]+)"
)
_OPTION = re.compile(rf"(?<!\S)(?P<name>--?[\w.-]*?{_HINT}[\w.-]*)(?P<is>\s+)(?P<value>[^\s-]\S*)")
_IN_URL = re.compile(r"(?<![\w+.-])(?P<scheme>[A-Za-z][\w+.-]*://)(?P<who>[^\s/?#\"']+)@")
_HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/-]{8,}=*")


def is_secret(name: str) -> bool:
    """Say whether what has this name is a secret, if it is text."""
    words = [word.lower() for word in _WORD.findall(name)]
    if any(map(_ALONE.fullmatch, words)):
        return True
    if any(_OF_KEYS.fullmatch(first) and last in ("key", "keys") for first, last in pairwise(words)):
        return True
    before = words[-2] if len(words) > 1 else ""
    last = words[-1] if words else ""
    return (last == "token" and not _OF_VOCABULARY.fullmatch(before)) or (
        last == "tokens" and _OF_TOKENS.fullmatch(before) is not None
    )


def redacted(value: Any, secret: bool = False) -> Any:
    """Return a piece of JSON without its secrets, and with its paths shortened.

    Args:
        value: Tables, lists, texts, numbers.
        secret: Whether its own name says that it is a secret.
    """
    if isinstance(value, Mapping):
        named = [str(value.get(each, "")) for each in ("name", "key")]
        also = {"value"} if any(map(is_secret, named)) else set()
        return {key: redacted(item, secret or key in also or is_secret(str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        done = []
        for position, item in enumerate(value):
            before = value[position - 1] if position else ""
            option = (
                isinstance(before, str)
                and (before.startswith("-") or len(value) == 2)
                and not re.search("[:=]", before)
            )
            follows = option and is_secret(before) and not str(item).startswith("--")
            done.append(redacted(item, secret or follows))
        return done
    if isinstance(value, str):
        return REDACTED if secret and value else redacted_text(value)
    return value


def redacted_text(text: str) -> str:
    """Return text without what stands behind the name of a secret in it, and with its paths shortened."""
    if not text.isalnum():
        for pattern in (_NAMED, _OPTION):
            text = pattern.sub(_cut, text)
        text = _IN_URL.sub(_without_password, text)
        text = _HEADER.sub(rf"\1 {REDACTED}", text)
    return shortened(text)


def in_a_log(text: str) -> str:
    """Return text that is no command in a log of GitHub Actions: its runner takes some lines for one."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return text
    return re.sub(r":(?=:)", ": ", text).replace("##[", "## [")


def shortened(text: str) -> str:
    """Return text with ``.`` and ``~`` for the working directory and for the home directory."""
    if os.sep not in text:
        return text
    for folder, short in ((_folder(Path.cwd), "."), (_folder(Path.home), "~")):
        if len(folder) > 1 and folder in text:
            text = re.sub(rf"(?<![\w./~-]){re.escape(folder)}(?![\w.-])", short, text)
    return text


def _cut(found: re.Match[str]) -> str:
    if not is_secret(found["name"]) or _HARMLESS.fullmatch(found["value"]):
        return found[0]
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return f"{found['name']}{found['is']}{quote}{REDACTED}"


def _without_password(found: re.Match[str]) -> str:
    alone = ":" not in found["who"] and not found["scheme"].startswith("http")  # as in ssh://git@host
    return found[0] if alone else f"{found['scheme']}{REDACTED}@"


def _folder(known: Callable[[], Path]) -> str:
    try:
        return str(known())
    except (OSError, RuntimeError):  # it was removed, or there is none
        return ""
