"""One run as one HTML page; see ``templates/run.html`` for its order."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.content import facts, text
from reports.content.facts import Judgement
from reports.formats.html import view
from reports.formats.html.svg import cell
from reports.record.run import Run

PAGE_FILE = "report.html"
MAX_BYTES = 1_000_000
# Divergences shown in full, operations plotted, characters of one text: less of it until the page is small enough.
_FRUGALITY = ((10, 24, 4000), (4, 12, 1000), (1, 4, 300), (0, 0, 80))
_LONGEST = 4000


def render(run: Run, judgement: Judgement) -> str:
    """Return the page of one run, below ``MAX_BYTES`` whatever the run holds.

    Args:
        run: What was recorded.
        judgement: What follows from it.
    """
    for n_divergences, n_operations, longest in _FRUGALITY:
        page = render_template("run.html", view.of_run(run, judgement, n_divergences, n_operations), longest)
        if len(page.encode("utf-8", "backslashreplace")) <= MAX_BYTES:
            break
    return page


def render_template(name: str, about: Mapping[str, Any], longest: int = _LONGEST) -> str:
    """Fill one template; every value is escaped, and shown without what could move or hide text."""
    assets = {kind: _asset(file) for kind, file in (("style", "page.css"), ("script", "page.js"))}
    digests = {kind: _digest(code) for kind, code in assets.items()}
    return _environment(longest).get_template(name).render({**about, **assets, "digests": digests})


@cache
def _environment(longest: int) -> Environment:
    environment = Environment(
        loader=PackageLoader("reports.formats.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=partial(_harmless, longest),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(text, name)
        for name in ("line", "plural", "share", "micros", "seconds", "size", "number", "abbreviated")
    }
    environment.filters |= {"words": facts.words, "cell": cell, "quoted": json.dumps}  # as in Python
    return environment


def _asset(file: str) -> Markup:
    return Markup((files("reports.formats.html") / "templates" / file).read_text("utf-8"))


def _digest(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _harmless(longest: int, value: Any) -> Any:
    return value if isinstance(value, Markup) else text.clean(value, longest)
