"""Text that wants to be more than text, in every field of a run directory, does nothing in any format of report."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import save

from reports.content.text import clean
from reports.disk.repros import keep_repro, read_repros
from reports.formats.html import svg
from reports.formats.html.page import render
from reports.formats.trackers import about, final_metrics, over_time
from reports.reader import read_run
from reports.record.repro import KeptRepro
from tests.guards import guards
from tests.reports.records_for_tests import divergence, leaf, window, write_run
from tests.validator.gate.sealed import documents, edited, places, write_sealed
from validator.cli import main
from validator.gate.judgement import judge

HOSTILE = (
    "x\"><script>a</script><img src=x onerror=b>' ` ``` ![a](http://b) @all | {{ 7*7 }} ]]> & \x1b[31m \u202e \ud800"
    "\r::error::c\n::warning::d\u2028::error::e\x85##[error]f\n  ::error::g\n##[command]h\0"
)
FORMATS = ("terminal", "html", "markdown", "junit", "json")
SIDES = ("control", "candidate")
# What is checked against a closed list, or names a file: changed, the line is refused; see the second test.
WORDS = {"type", "dimension", "cause", "fault", "outcome", "schema", "digest", "state", "event", "run_id", "evidence"}


class Elements(HTMLParser):
    """What of a page could do anything: elements, their attributes, and the values of those that style or link."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str, str]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, "", "")}
        self.found |= {(tag, name, "") for name, _ in attrs}
        self.found |= {(tag, name, value or "") for name, value in attrs if name in ("class", "href", "src")}


def run_directory(out: Path) -> Path:
    found = divergence(evidence="", leaves=(leaf(), leaf(part="K")), control_error="a", candidate_error="b")
    windows = (window(0, divergences={found.group: 2}, dropped={"a": 1}), window(1))
    path = write_run(out, windows=windows, divergences=(found,), config={"a": {"b": ["c"]}}, hostname="d")
    (path / "evidence").mkdir()
    tensors = {f"{side}.layer1.{HOSTILE[:60]}": np.ones((1, 2, 3, 4), "f4") for side in SIDES}
    (path / "evidence" / 'a"b.safetensors').write_bytes(save(tensors))
    for name, lines in documents(path).items():
        for position, line in enumerate(lines):
            if line.get("type") == "divergence":
                lines[position] = {**line, "evidence": 'evidence/a"b.safetensors'}
        write_sealed(path, name, lines)
    keep_repro(path, KeptRepro(0, found.id, found.cause, found.fault, "a = 1\n", 1))
    return path


def hostile(value: Any, inside: str = "") -> Any:
    """Put it in the place of every text, and of every name that is data: one as often as there are several."""
    if isinstance(value, dict):
        named = inside in ("config", "versions", "switches", "ops", "coverage", "envs", "bytes_held", "dropped")
        return {(f"{key}{HOSTILE}" if named else key): hostile(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, inside) for item in value]
    return HOSTILE if isinstance(value, str) and inside not in WORDS else value


def shown(path: Path, kind: str) -> tuple[int, str]:
    buffer, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(buffer, encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["report", str(path), "--format", kind, "--output", "-"])
    out.flush()
    return code, buffer.getvalue().decode("utf-8")


def commands(text: str) -> Iterator[str]:
    """Yield what the runner of GitHub Actions would take for a command: it trims lines, and ends them at CR too."""
    for line in re.split(r"[\r\n\x85\u2028]", text):
        if line.strip().startswith("::") or "##[" in line:
            yield line


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return run_directory(tmp_path)


@guards("reports/content/text.py", 'in_a_log("".join', '("".join')
@guards("reports/formats/machine.py", r""".replace("##[", "\\u0023#[")""", "")
@guards("reports/formats/html/page.py", '"quoted": json.dumps', '"quoted": str')
def test_hostile_text_in_every_field_is_text_in_every_format(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    harmless = Elements(shown(path, "html")[1]).found
    for name, lines in documents(path).items():
        write_sealed(path, name, [hostile(line) for line in lines])
    (kept,), _ = read_repros(path)
    keep_repro(path, replace(kept, source=f"'''\n{HOSTILE}</pre>\n````\n{HOSTILE}\n", said=HOSTILE))

    texts = {}
    for kind in FORMATS:
        code, texts[kind] = shown(path, kind)
        assert code == 0
        assert [*commands(texts[kind])] == [], kind
        assert not re.search(r"[\x00\x1b\x85\u202e\u2028\ud800-\udfff]", texts[kind]), kind
    assert {(tag, name) for tag, name, _ in Elements(texts["html"]).found} <= {(tag, name) for tag, name, _ in harmless}
    assert "x&#34;&gt;&lt;script&gt;" in texts["html"]
    assert "<script" not in re.sub(r"(?ms)^(`{3,})(text|python)$.*?^\1$", "", texts["markdown"])
    assert json.loads(texts["json"])["manifest"]["hostname"] == HOSTILE
    ElementTree.fromstring(texts["junit"])
    for snippet in re.findall(r"(?ms)<pre>from safetensors.*?</pre>", texts["html"]):
        compile(
            re.sub("<.*?>", "", snippet).replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">"), "", "exec"
        )

    run = read_run(path)
    for name in [*final_metrics(run, judge([run])), *(name for _, step in over_time(run) for name in step)]:
        assert re.fullmatch(r"[A-Za-z0-9_./ -]+", name)
    assert all("\ud800" not in clean(said) for said in about(run, judge([run])).values())
    capfd.readouterr()
    assert main(["report", str(path)]) == 0
    printed = capfd.readouterr()
    annotations = [line for line in re.split(r"[\r\n]", printed.err) if line]
    assert [*commands(printed.out)] == []
    assert annotations == [line for line in annotations if re.match(r"::(error|warning) title=kv-lockstep::[^:]", line)]
    assert main(["compare", str(path), str(path)]) == main(["watch", str(path), "--once"]) == 0
    assert main(["gate", str(path)]) in (1, 5)
    assert [*commands(capfd.readouterr().out)] == []


@guards("reports/read/window_check.py", "if group not in _GROUPS:", "if False:")
def test_a_word_of_no_closed_list_is_refused_wherever_one_is_expected(path: Path) -> None:
    said = "x\" onload='\ud800"
    n_refused = 0
    for name, lines in documents(path).items():
        for position, line in enumerate(lines):
            words = [(place, said) for place in places(line) if place[-1] in WORDS and line.get("type")]
            words += [(("divergences",), {f"value|rounding|{said}": 2})] if "seq" in line else []
            for place, new in words:
                write_sealed(path, name, [*lines[:position], edited(line, place, new), *lines[position + 1 :]])
                run = read_run(path)
                assert run.problems, place
                n_refused += 1
                if place == ("divergences",):
                    assert any("is no dimension|cause|fault" in problem for problem in run.problems)
                    page = render(run, judge([run]))
                    assert "onload" not in {attribute for _, attribute, _ in Elements(page).found}
        write_sealed(path, name, lines)
    assert n_refused > 10


def test_a_plot_names_its_classes_by_letters_alone() -> None:
    drawn = svg.lines("t", [('fault-x" onload="a', [(0.0, 1.0)])], "x", str, bars=True)

    assert 'onload="' not in drawn


@guards("reports/formats/html/svg.py", "reversed([each for each in series if each[1]])", "reversed(series)")
def test_a_side_that_does_not_tell_its_memory_has_no_line(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, windows=(window(0, bytes_held={"control": 3}), window(1, bytes_held={}))))
    drawn = svg.lines("t", [("control", [(0.0, 1.0)]), ("candidate", [])], "x", str)

    assert render(run, judge([run]))
    assert drawn.count("<polyline") == 1
