"""Pages, Markdown, JUnit, JSON, annotations: made from the same run, and harmless whatever it holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.formats.html.page import MAX_BYTES, render
from reports.formats.machine import as_json, as_junit, workflow_commands
from reports.formats.markdown import MOST_CHARACTERS, plain
from reports.formats.markdown import render as as_markdown
from reports.reader import read_run
from reports.record.run import Run
from reports.record.words import Cause, Fault
from tests.reports.records_for_tests import divergence, leaf, window, write_run
from validator.commands.report import write_page
from validator.gate.judgement import judge

STALE = "value|stale version of this key|candidate"
HOSTILE = "<script>x</script> | `` ``` ![a](http://b) @all ::error::x\r\n::warning::y \x1b[31m \u202e \ud800 ]]> &"


class Tags(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def failing(tmp_path: Path) -> Run:
    windows = (window(0, divergences={STALE: 1}), window(1, divergences={STALE: 1}))
    return read_run(write_run(tmp_path, windows=windows, divergences=(divergence(), divergence(id=1))))


@pytest.fixture
def hostile(failing: Run) -> Run:
    long = HOSTILE + "A" * 10_000
    texts = {"cache": HOSTILE, "operation": HOSTILE, "pool": HOSTILE, "key": HOSTILE, "explanation": long}
    errors = {"control_error": long, "candidate_error": long, "history": (HOSTILE, long)}
    leaves = tuple(
        leaf(layer=number, control=HOSTILE, candidate=long, path=long * (number % 2)) for number in range(60)
    )
    failing.divergences = [replace(one, **texts, **errors, leaves=tuple(leaves)) for one in failing.divergences]
    failing.caches[0] |= {"cache": HOSTILE, "control": HOSTILE, "candidate": long}
    failing.manifest |= {"run_id": HOSTILE, "created": HOSTILE, "versions": {HOSTILE: long}, "config": {HOSTILE: long}}
    failing.events.append({"event": HOSTILE, "detail": long})
    failing.problems += [long] * 100
    failing.totals.lookups[HOSTILE] = {"both_miss": 1}
    failing.totals.coverage[HOSTILE] = 7
    failing.totals.latency_ns[f"control.{HOSTILE}"] = {"40": 1}
    return failing


class TestPage:
    def test_fetches_nothing(self, failing: Run) -> None:
        page = render(failing, judge([failing]))

        for tag, attributes in Tags(page).tags:
            assert tag not in ("img", "link", "iframe", "object", "base")
            assert "src" not in attributes
            assert (attributes.get("href") or "#").startswith("#")
        assert "default-src 'none'" in page

    def test_order_is_that_of_the_questions(self, failing: Run) -> None:
        page = render(failing, judge([failing]))

        asked = ['id="verdict"', 'id="differed"', 'id="show"', 'id="training"', 'id="exercised"', 'id="cost"']
        places = [page.index(part) for part in [*asked, 'id="provenance"']]
        assert places == sorted(places)

    def test_hostile_text_opens_no_element(self, failing: Run, hostile: Run) -> None:
        page = render(hostile, judge([hostile]))

        assert sum(tag == "script" for tag, _ in Tags(page).tags) == 1
        assert "&lt;script&gt;x&lt;/script&gt;" in page
        assert "\u202e" not in page
        assert "\x1b" not in page

    def test_stays_below_its_limit_however_much_there_is(self, failing: Run) -> None:
        text = "x<" * 5_000
        causes = [(cause, fault) for cause in Cause for fault in Fault]
        failing.divergences = [
            replace(divergence(id=number), cause=cause, fault=fault, candidate_error=text, history=(text,) * 30)
            for number, (cause, fault) in enumerate(causes)
        ]
        failing.totals.lookups = {f"{number}{text}": {"both_miss": 1} for number in range(1000)}
        failing.totals.latency_ns = {
            f"{side}.{number}.{text}": {str(bucket): 1 for bucket in range(500)}
            for number in range(100)
            for side in ("control", "candidate")
        }
        failing.problems = [text] * 1000

        assert len(render(failing, judge([failing])).encode()) <= MAX_BYTES

    def test_is_written_beside_its_run(self, failing: Run) -> None:
        path = write_page(failing, judge([failing]))

        assert path == failing.path / "report.html"
        assert path.read_text("utf-8").startswith("<!doctype html>")

    def test_says_that_evidence_is_gone(self, failing: Run) -> None:
        failing.divergences = [replace(one, evidence="evidence/gone.safetensors") for one in failing.divergences]

        assert "evidence/gone.safetensors can&#39;t be read" in render(failing, judge([failing]))


class TestMarkdown:
    def test_says_what_failed_and_whose_fault(self, failing: Run) -> None:
        text = as_markdown(failing, judge([failing]))

        assert text.startswith("## ❌ FAIL: the candidate must not ship")
        assert "| candidate | stale version of this key | value | 2 |" in text
        assert "| L1 V | bits | 12 of 96 | 0.731 |" in text

    def test_hostile_text_is_capped_and_no_markup(self, hostile: Run) -> None:
        text = as_markdown(hostile, judge([hostile]))

        outside = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", text)
        assert len(text) <= MOST_CHARACTERS
        assert "<script" not in outside
        assert not re.search(r"(?<!\\)!\[", outside)
        assert "@all" not in outside
        assert "http://" not in outside

    def test_a_pipe_ends_no_cell(self) -> None:
        assert plain("a|b") == r"a\|b"


class TestJunit:
    def test_causes_and_demands_are_cases(self, failing: Run) -> None:
        judgement = judge([failing])

        suite = ElementTree.fromstring(as_junit(failing, judgement))[0]

        cases = {(case.get("classname"), case.get("name")): case for case in suite}
        cause = cases["kv-lockstep.cause", "stale version of this key (value, candidate at fault)"]
        assert cause.find("failure") is not None
        assert suite.get("tests") == str(len(judgement.demands) + 1)
        assert suite.get("failures") == "2"
        assert suite.get("timestamp") == "2026-11-23T04:17:00+00:00"

    def test_what_is_not_shown_is_an_error_and_no_pass(self, tmp_path: Path) -> None:
        run = read_run(write_run(tmp_path, windows=(), close=True))

        suite = ElementTree.fromstring(as_junit(run, judge([run])))[0]

        assert int(suite.get("errors", "0")) > 0
        assert suite.get("failures") == "0"

    def test_hostile_text_is_xml(self, hostile: Run) -> None:
        ElementTree.fromstring(as_junit(hostile, judge([hostile])))


class TestJson:
    def test_holds_verdict_causes_and_totals(self, failing: Run) -> None:
        told = json.loads(as_json(failing, judge([failing])))

        assert told["verdict"] == "FAIL"
        assert told["causes"][0]["count"] == 2
        assert told["causes"][0]["first"]["op_index"] == 1041
        assert told["totals"]["divergences"]["by_fault"] == {"candidate": 2}

    def test_hostile_text_comes_through_whole(self, hostile: Run) -> None:
        told = json.loads(as_json(hostile, judge([hostile])))

        assert told["manifest"]["run_id"] == HOSTILE


class TestWorkflowCommands:
    def test_a_cause_is_an_error(self, failing: Run) -> None:
        lines = list(workflow_commands(failing, judge([failing])))

        assert lines[0] == "::error title=kv-lockstep::FAIL: the candidate must not ship"
        assert lines[1].startswith("::error title=kv-lockstep::stale version of this key, candidate at fault, 2 times")

    def test_hostile_text_begins_no_command_of_its_own(self, hostile: Run) -> None:
        lines = list(workflow_commands(hostile, judge([hostile])))

        assert 0 < len(lines) <= 10
        assert not any("\n" in line or "\r" in line for line in lines)
