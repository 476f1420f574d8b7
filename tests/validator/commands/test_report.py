"""``report``, ``compare`` and ``watch`` as a person types them, on sound runs and on broken ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.reports.records_for_tests import divergence, edit, window, write_run
from validator.cli import main

STALE = "value|stale version of this key|candidate"
FORMATS = ("terminal", "html", "markdown", "junit", "json")


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    windows = (window(0, divergences={STALE: 1}), window(1))
    return write_run(tmp_path / "runs", windows=windows, divergences=(divergence(),), pid=None)


class TestReport:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_every_format_can_be_written_to_a_file(self, run: Path, kind: str, tmp_path: Path) -> None:
        file = tmp_path / "out"

        assert main(["report", str(run), "--format", kind, "--output", str(file)]) == 0

        text = file.read_text("utf-8")
        assert "stale version of this key" in text
        assert "FAIL" in text or kind == "junit"

    def test_html_lands_in_the_run_directory(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", str(run), "--format", "html"]) == 0

        assert capsys.readouterr().out.strip() == str(run / "report.html")
        assert (run / "report.html").exists()

    def test_machine_formats_print_nothing_else(self, run: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        main(["report", str(run), "--format", "json"])
        assert json.loads(capsysbinary.readouterr().out)["verdict"] == "FAIL"

        main(["report", str(run), "--format", "junit"])
        assert ElementTree.fromstring(capsysbinary.readouterr().out).tag == "testsuites"

    def test_a_place_that_cannot_be_written_is_usage(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", str(run), "--format", "html", "--output", str(run / "no" / "page.html")]) == 2

        assert "name another file: --output FILE" in capsys.readouterr().err

    def test_ci_gets_its_summary_and_annotations(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        summary = tmp_path / "summary.md"
        summary.write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        monkeypatch.setenv("GITHUB_ACTIONS", "true")

        main(["report", str(run)])

        assert summary.read_text("utf-8").startswith("before\n## ❌ FAIL")
        assert "::error title=kv-lockstep::stale version of this key" in capsys.readouterr().err

    def test_a_missing_tracker_is_usage(
        self, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "wandb", None)

        assert main(["report", str(run), "--to", "wandb"]) == 2
        assert "pip install wandb" in capsys.readouterr().err


def _newer(path: Path) -> None:
    (path / "run.json").write_text(json.dumps({**json.loads((path / "run.json").read_text()), "schema": 99}))


def _torn(path: Path) -> None:
    edit(path / "rank-0000.jsonl", lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]])


def _no_rank(path: Path) -> None:
    (path / "run.json").write_text(json.dumps({**json.loads((path / "run.json").read_text()), "world_size": 3}))


def _no_manifest(path: Path) -> None:
    (path / "run.json").unlink()


def _no_lines(path: Path) -> None:
    (path / "rank-0000.jsonl").unlink()


def _no_evidence(path: Path) -> None:
    edit(path / "rank-0000.jsonl", lambda ls: [x.replace(b'"evidence":""', b'"evidence":"evidence/x"') for x in ls])


class TestBadInput:
    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (_newer, "this kv-lockstep reads up to 2"),
            (_torn, "the last line is cut off"),
            (_no_rank, "2 of 3 ranks left no file"),
            (_no_manifest, "run.json is missing"),
            (_no_lines, "1 of 1 ranks left no file"),
            (_no_evidence, "evidence of 1 divergences is no file of this run"),
        ],
    )
    @pytest.mark.parametrize("kind", FORMATS)
    def test_what_can_be_shown_is_shown_with_what_is_missing(
        self, run: Path, damage: Callable[[Path], None], said: str, kind: str, tmp_path: Path
    ) -> None:
        damage(run)

        assert main(["report", str(run), "--format", kind, "--output", str(tmp_path / "out")]) == 0

        text = " ".join((tmp_path / "out").read_text("utf-8").replace("\\", "").split())
        assert said in text

    @pytest.mark.parametrize("kind", FORMATS)
    def test_what_is_no_run_is_usage(self, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "run.json").write_text('{"name": "a mail client"}')
        (tmp_path / "empty").mkdir()

        for name in ("foreign", "empty", "absent"):
            assert main(["report", str(tmp_path / name), "--format", kind]) == 2
            assert "expected a run directory" in capsys.readouterr().err


class TestCompare:
    def test_both_formats(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        other = write_run(tmp_path / "others", "r2")

        assert main(["compare", str(run), str(other)]) == 0
        text = capsys.readouterr().out
        assert main(["compare", str(run), str(other), "--format", "html"]) == 0

        assert "vanished" in text
        assert text.count("A: LegacyKVCache against KVCacheManager; B: LegacyKVCache against KVCacheManager") == 6
        page = (other / "compare.html").read_text("utf-8")
        assert "vanished" in page
        assert page.count("A: LegacyKVCache against KVCacheManager") == 6


class TestWatch:
    def test_shows_figures_until_the_end(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["watch", str(run)]) == 0

        text = capsys.readouterr().out
        assert "closed, 10.0 s, 200 operations, 20 per second" in text
        assert "control 80.00%" in text
        assert "the last: candidate at fault, stale version of this key, operation 1,041" in text

    def test_once_does_not_wait_for_the_end(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_run(tmp_path, close=False, pid=os.getpid())

        assert main(["watch", str(path), "--once"]) == 0
        assert "in progress" in capsys.readouterr().out

    def test_no_time_between_looks_is_usage(self, run: Path) -> None:
        assert main(["watch", str(run), "--every", "0"]) == 2


def test_a_copied_run_directory_reports_the_same(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy" / run.name)
    for path, file in ((run, "a"), (tmp_path / "copy", "b")):
        main(["report", str(path), "--format", "html", "--output", str(tmp_path / file)])

    one, other = ((tmp_path / name).read_text("utf-8") for name in ("a", "b"))
    assert one.replace(str(run), "") == other.replace(str(tmp_path / "copy" / run.name), "")
