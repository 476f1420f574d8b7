"""Pages of real runs in a real browser: what a person sees, at a desk and on a phone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.disk.repros import keep_repro
from reports.formats.html.page import MAX_BYTES
from reports.reader import read_run
from reports.record.repro import KeptRepro
from tests.guards import guards
from tests.reports.formats.html.chrome import Chrome
from tests.reports.records_for_tests import divergence, write_run
from validator.commands.report import write_page
from validator.gate.judgement import judge

pytestmark = pytest.mark.slow

VERDICTS = {"passing": "PASS", "failing": "FAIL", "inconclusive": "INCONCLUSIVE", "crashed": "INCONCLUSIVE"}
WINDOWS = {"desk": (1280, 800), "phone": (390, 844)}
HOSTILE = (
    "<script>document.title = 'owned'; window.owned = 1</script>"
    '<img src=x onerror="window.owned = 2">"\'`{{ 7 * 7 }} \u202egnitsrever\u202c \u05d0\u05d1 &amp; \x1b[31m \ud800'
)


@pytest.mark.parametrize(("window", "scheme"), [("desk", "light"), ("phone", "dark")])
@pytest.mark.parametrize("kind", VERDICTS)
def test_a_real_run_shows_its_verdict_its_plots_and_what_they_are_made_of(
    chrome: Chrome, runs: dict[str, Path], kind: str, window: str, scheme: str
) -> None:
    page, (width, height) = runs[kind] / "report.html", WINDOWS[window]

    chrome.open(page, width, height, scheme)

    assert chrome.console == []
    assert chrome.requests == [page.as_uri()]
    box = chrome.run("(b => [b.left, b.top, b.right, b.bottom])(document.querySelector('h1').getBoundingClientRect())")
    assert 0 <= box[0] < box[2] <= width
    assert 0 <= box[1] < box[3] <= height, "the verdict is not seen without scrolling"
    assert chrome.run("document.querySelector('h1').innerText").split()[0] == VERDICTS[kind]
    assert chrome.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    sizes = chrome.run(
        "[...document.querySelectorAll('svg')].filter(e => e.checkVisibility())"
        ".map(e => [e.clientWidth, e.clientHeight])"
    )
    assert len(sizes) >= 5
    assert all(width > 150 and height > 60 for width, height in sizes)
    assert chrome.run("document.querySelectorAll('#training table tbody tr').length") >= 2
    assert chrome.run("[...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label'))")
    broken = chrome.run(
        "[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
        ".filter(h => !h.startsWith('#') || !document.getElementById(h.slice(1)))"
    )
    assert broken == [], "a link leads nowhere"
    assert chrome.run("document.querySelectorAll('a').length") >= 5


class TestFailingRun:
    def test_first_screen_names_the_planted_defect(self, chrome: Chrome, runs: dict[str, Path]) -> None:
        chrome.open(runs["failing"] / "report.html", 1280, 800)

        said = chrome.run("document.querySelector('.worst').innerText")
        assert "copied in part" in said
        assert "candidate at fault" in said
        assert "did not copy the last 1 tokens" in said
        assert chrome.run("document.querySelector('.worst').getBoundingClientRect().bottom") <= 800

    def test_heat_map_is_dark_at_the_token_that_was_lost_and_nowhere_else(
        self, chrome: Chrome, runs: dict[str, Path]
    ) -> None:
        chrome.open(runs["failing"] / "report.html", 1280, 800)

        rows = chrome.run(
            "[...document.querySelectorAll('details[open] .plots details table')[0].tBodies[0].rows]"
            ".map(r => [...r.cells].slice(1).map(c => c.textContent))"
        )
        assert len(rows) >= 2, "keys and values of one layer at least"
        for row in rows:
            assert set(row[:-1]) <= {"0"}
            assert float(row[-1]) > 0

    def test_works_by_keyboard(self, chrome: Chrome, runs: dict[str, Path]) -> None:
        chrome.open(runs["failing"] / "report.html", 1280, 800)

        chrome.press("Tab")
        first = chrome.run("document.activeElement.textContent")
        for _ in range(60):
            chrome.press("Tab")
            if chrome.run("document.activeElement.tagName") == "SUMMARY":
                break
        was_open = chrome.run("document.activeElement.parentElement.open")
        chrome.press("Enter")

        assert first == "Skip to what differed"
        assert chrome.run("document.activeElement.parentElement.open") is not was_open

    def test_a_table_is_copied_as_tabbed_text(self, chrome: Chrome, runs: dict[str, Path]) -> None:
        chrome.open(runs["failing"] / "report.html", 1280, 800)
        chrome.run("document.addEventListener('copy', e => { window.copied = document.activeElement.value })")

        chrome.run("document.querySelector('#differed button.copy').focus()")
        chrome.press("Enter")  # only a person's own deed may write the clipboard

        assert chrome.run("window.copied").split("\n")[0].split("\t")[:2] == ["cause", "at fault"]

    def test_prints_everything(self, chrome: Chrome, runs: dict[str, Path]) -> None:
        chrome.open(runs["failing"] / "report.html", 1280, 800)

        chrome.run("window.dispatchEvent(new Event('beforeprint'))")

        assert chrome.run("[...document.querySelectorAll('details')].every(d => d.open)")


@guards("reports/formats/html/templates/page.js", 'querySelector("pre").textContent', 'querySelector("pre").title')
def test_the_test_under_a_divergence_is_copied_as_it_was_written(chrome: Chrome, tmp_path: Path) -> None:
    found = divergence()
    path = write_run(tmp_path, divergences=(found,))
    source = "def test_divergence_000():\n    assert [1][:1] == []  # <b>&amp; \t é\n\n\n"
    keep_repro(path, KeptRepro(0, 0, found.cause, found.fault, source, 4, fails=True, passes=True))
    run = read_run(path)
    page = write_page(run, judge([run]))
    chrome.open(page, 1280, 800)
    chrome.run("document.addEventListener('copy', e => { window.copied = document.activeElement.value })")

    chrome.run("document.querySelector('pre[aria-label^=Test] + button.copy').focus()")
    chrome.press("Enter")

    assert chrome.run("window.copied") == source.replace("\t", "\\t")
    assert chrome.run("document.activeElement.textContent") == "Copied"
    assert chrome.console == []
    assert chrome.requests == [page.as_uri()]


class TestHostileRun:
    @pytest.fixture
    def page(self, runs: dict[str, Path], tmp_path: Path) -> Path:
        path = tmp_path / "run"
        shutil.copytree(runs["failing"], path)
        run = read_run(path)
        long = HOSTILE + "A" * 10_000
        changes: dict[str, Any] = {"explanation": HOSTILE, "key": HOSTILE, "cache": HOSTILE, "history": (HOSTILE, long)}
        run.divergences = [replace(one, **changes, candidate_error=long, control_error=long) for one in run.divergences]
        run.caches[0] |= {"control": HOSTILE, "candidate": HOSTILE}
        run.manifest |= {"run_id": HOSTILE, "versions": {HOSTILE: HOSTILE}, "config": {HOSTILE: long}}
        run.events.append({"event": HOSTILE, "detail": long})
        run.problems.append(long)
        run.totals.coverage[HOSTILE] = 1
        run.totals.lookups[HOSTILE] = {"both_miss": 1}
        run.totals.latency_ns[f"control.get.{HOSTILE}"] = {"50": 1}
        return write_page(run, judge([run]))

    def test_data_is_text_and_does_nothing(self, chrome: Chrome, page: Path) -> None:
        chrome.open(page, 390, 844)

        assert chrome.console == []
        assert chrome.run("window.owned") is None
        assert chrome.run("document.querySelectorAll('img, script').length") == 1  # the page's own script
        text = chrome.run("document.body.textContent")
        assert "<script>document.title = 'owned'" in text
        assert "{{ 7 * 7 }}" in text
        assert "\u202e" not in text
        assert "\\u202egnitsrever" in text
        assert "more characters]" in text
        assert chrome.run("document.documentElement.scrollWidth") <= 390
        assert page.stat().st_size < MAX_BYTES

    def test_a_script_that_got_in_would_not_run(self, chrome: Chrome, page: Path) -> None:
        content = page.read_text("utf-8").replace("</h1>", "</h1><script>window.owned = 3</script>", 1)
        page.write_text(content, "utf-8")

        chrome.open(page, 390, 844)

        assert chrome.run("window.owned") is None
        assert "Content Security Policy" in json.dumps(chrome.console)
