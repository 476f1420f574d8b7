"""What the page on pytest shows is what comes out, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import validator.commands.at_close  # noqa: F401  loaded once: torch can't be loaded twice
from validator.pytest_plugin import SETTINGS

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[1] / "docs" / "pytest.md").read_text(encoding="utf-8")
PROGRAM, SHOWN = (re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[0] for language in ("python", "text"))
# Where a run lies, and how long it took, is another each time.
OTHER_EACH_TIME = re.compile(r"/\S+/kv-lockstep\d+|\d+ ms")


def test_the_first_example_prints_what_is_shown_below_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_my_cache=PROGRAM)
    quiet = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "-p", "no:hypothesispytest"]
    done = pytester.runpytest_inprocess("-W", "error", *quiet)

    assert OTHER_EACH_TIME.sub("...", SHOWN) in OTHER_EACH_TIME.sub("...", str(done.stdout) + "\n")


def test_without_its_bug_it_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_my_cache=PROGRAM.replace("if self.get_recur_cache(cache_key) is None:", "if True:"))
    done = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist")

    (said,) = re.findall(r"Without the bug it is `(.*?)`", PAGE)
    assert said in str(done.stdout)


def test_every_setting_is_on_the_page_and_no_other() -> None:
    assert re.findall(r"`--kv-lockstep-(\w+) \w+", PAGE) == list(SETTINGS)
