"""A bundle is a run that can be opened elsewhere: it says the same, and holds nothing that is a person's own."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from reports.disk.layout import RUN_FILE, SUMMARY_FILE
from reports.disk.repros import keep_repro
from reports.formats.html.page import PAGE_FILE
from reports.reader import read_run
from reports.record.repro import KeptRepro
from reports.record.words import Fault
from tests.guards import guards
from tests.reports.records_for_tests import divergence, edit, write_run
from tests.validator.sessions import open_session
from tests.validator.trials import legacy, manager
from validator.cli import main
from validator.config import ValidationConfig
from validator.gate.judgement import judge
from validator.proof.selftest import TERRAIN
from validator.proof.stream import Player, steps
from validator.session import Lockstep

OWN = "my-own-0.0078125"
CONFIG = {"lr": OWN, "nested": [{"deep": OWN}]}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = {"config": CONFIG, "mine": {"a": OWN}, "script": ["train.py", OWN]}
    settings = ValidationConfig(selftest=False, overhead_budget=0.0)
    with Lockstep(tmp_path_factory.mktemp("a"), settings, manifest_extra=about) as lockstep:
        cache = lockstep.shadow(control=legacy(envs=3), candidate=manager(envs=3))
        Player(cache, cache.observer).play_all(steps(0, 300, TERRAIN))
    one = read_run(lockstep.run_dir).divergences[0]
    keep_repro(lockstep.run_dir, KeptRepro(0, one.id, one.cause, one.fault, "a = 1\n", 1))
    return lockstep.run_dir


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_run(tmp_path, "r1", divergences=(divergence(),), config=CONFIG, mine=OWN)


def packed(run: Path, out: Path, *flags: str, name: str = "b.zip") -> Path:
    """Pack a run and unpack it elsewhere."""
    out.mkdir(exist_ok=True)
    assert main(["bundle", str(run), "-o", str(out / name), *flags]) == 0
    shutil.unpack_archive(out / name, out / "unpacked")
    return out / "unpacked" / run.name


def said(run: Path) -> tuple[object, ...]:
    found = read_run(run)
    judgement = judge([found])
    return found.state, found.problems, judgement.verdict, len(judgement.reasons), found.totals, found.divergences


@guards("reports/read/packing.py", "before.update(first)", "before.copy()")
@guards("reports/read/packing.py", 'json.loads(sealed)["digest"]', 'close["digest"]')
def test_what_is_unpacked_says_the_same_and_can_be_played_and_shrunk(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = packed(recorded, tmp_path)
    printed = capsys.readouterr().out
    assert said(there) == said(recorded)
    assert said(there)[1] == []
    assert {f.relative_to(there).as_posix() for f in there.rglob("*") if f.is_file()} == {
        *(f.relative_to(recorded).as_posix() for f in recorded.rglob("*") if f.is_file()),
        *(PAGE_FILE, "BUNDLE.txt"),
    }
    assert main(["replay", str(there), "--out", str(tmp_path / "again")]) == main(["gate", str(there)]) == 1
    assert "came again on the same two classes" in capsys.readouterr().out
    assert main(["shrink", str(there), "--divergence", "0"]) == 0
    assert main(["report", str(there)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "complete, bundled without argv, cwd, validation.out, config, mine, script" in shown
    for text in (printed, (there / "BUNDLE.txt").read_text()):
        assert "left out: argv, cwd, validation.out, config, mine, script; run.json, rank-0000.jsonl" in " ".join(
            text.split()
        )
        assert "trace/, 2 files" in text


@guards("reports/read/packing.py", "value if keep or name in _OURS else LEFT_OUT", "value")
def test_nothing_in_it_is_a_person_s_own_unless_that_is_asked_for(recorded: Path, tmp_path: Path) -> None:
    there = packed(recorded, tmp_path)
    for file in there.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert OWN.encode() not in content, file
        assert str(recorded.parent).encode() not in content, file
    assert json.loads((there / RUN_FILE).read_text())["config"] == "LEFT OUT"
    whole = packed(recorded, tmp_path / "whole", "--with-config")
    for file in recorded.rglob("*"):
        assert not file.is_file() or file.read_bytes() == (whole / file.relative_to(recorded)).read_bytes()
    assert OWN in (whole / PAGE_FILE).read_text()


def test_secrets_of_earlier_versions_are_left_out_of_the_whole_configuration_too(tmp_path: Path) -> None:
    path = write_run(tmp_path, divergences=(divergence(),))
    edit(path / RUN_FILE, lambda lines: [lines[0], b' "config": {"api_key": "sk-123456789"},\n', *lines[1:]])
    there = packed(path, tmp_path / "whole", "--with-config")
    assert "sk-123456789" not in (there / RUN_FILE).read_text()


@guards("reports/read/packing.py", "if is_sealed(old, before):", "if True:")
@pytest.mark.parametrize("name", [RUN_FILE, SUMMARY_FILE, "rank-0000.jsonl"])
def test_what_was_changed_by_hand_is_not_sealed_by_packing_it(name: str, small: Path, tmp_path: Path) -> None:
    old, new = {RUN_FILE: (b'"torch"', b'"Torch"'), SUMMARY_FILE: (b"both_miss", b"both_mist")}.get(
        name, (b"version 1", b"version 2")
    )
    edit(small / name, lambda lines: [b"".join(lines).replace(old, new)])
    assert any("changed" in one or "contradict" in one or "disagree" in one for one in read_run(small).problems)
    there = packed(small, tmp_path)
    assert len(read_run(there).problems) >= len(read_run(small).problems)


def test_what_is_not_of_the_run_stays_here(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / "notes.txt").write_text(OWN)
    (small / "evidence").mkdir()
    (small / "evidence" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text(OWN)
    there = packed(small, tmp_path, name="b.tgz")
    printed = capsys.readouterr().out
    assert "not packed, for it is no part of a run: evidence/link, notes.txt" in printed
    assert "no divergence was made a test yet" in printed
    assert not (there / "notes.txt").exists()
    assert said(there) == said(small)
    with tarfile.open(tmp_path / "b.tgz") as archive:
        assert {(one.uname, one.uid, one.isfile()) for one in archive} == {("", 0, True)}


def test_what_can_not_be_packed_is_said_in_one_sentence(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    goes_on = open_session(tmp_path / "going")
    monkeypatch.chdir(tmp_path)
    for run, flags, problem in (
        (goes_on.run_dir, [], "is in progress; pack it when it has ended"),
        (small, ["-o", "b.rar"], "b.rar: expected a name that ends with .zip or .tar.gz"),
        (small, ["-o", "nowhere/b.zip"], "nowhere/b.zip: can't be written (No such file or directory); name another"),
        (tmp_path / "none", [], "there is nothing; expected a run directory"),
    ):
        assert main(["bundle", str(run), *flags]) == 2
        assert problem in capsys.readouterr().err
    goes_on.close()
    assert [*tmp_path.glob("*.zip"), *tmp_path.glob("*.tmp")] == []
    assert main(["bundle", str(small)]) == 0
    assert zipfile.ZipFile("r1.zip").testzip() is None


def test_a_crashed_run_is_packed_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path, divergences=(divergence(fault=Fault.CONTROL),), close=False, pid=1, hostname="elsewhere")
    there = packed(path, tmp_path)
    assert "the run is crashed" in capsys.readouterr().out
    assert said(there)[:3] == said(path)[:3]
