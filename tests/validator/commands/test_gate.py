"""``kv-lockstep gate`` with policies, waivers and conformance results, as a shell sees it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reports.record.run import Run
from tests.validator.campaign import POLICIES, busy_window, policy, write, write_streams
from tests.validator.gate.runs import window, write_run
from tests.validator.gate.waivers import EATEN, WHOLE
from validator import cli
from validator.commands import gate_evidence
from validator.gate.shipped import shipped_names

NOW = time.time()
Printed = pytest.CaptureFixture[str]


def test_policies_ship_by_name() -> None:
    assert shipped_names("gate") == sorted([*POLICIES, "test"])
    assert shipped_names("waivers") == ["legacy-ring", "lightzero-0.2.0"]
    assert [policy(name).name for name in POLICIES] == list(POLICIES)


def test_gate_judges_by_the_name_of_a_policy(tmp_path: Path, capsys: Printed) -> None:
    write(tmp_path, 1, now=NOW)

    assert cli.main(["gate", str(tmp_path), "--policy", "smoke"]) == 0
    assert capsys.readouterr().out.startswith("PASS by policy 'smoke'")
    assert cli.main(["gate", str(tmp_path), "--policy", "shadow-to-canary"]) == 5
    printed = " ".join(capsys.readouterr().out.split())
    assert "sound runs of the shadow stage: at least 3, found 1; record one more: kv-lockstep train" in printed
    assert "init 0 in 4,000: below 7.5e-04 0 in 100: below 3.0e-02" in printed


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--policy", "shadow-to-canry"],
            "did you mean 'shadow-to-canary'? A file of your own is named by path",
        ),
        (["--policy", "mine"], "mine: no gate policy of this name ships; known are canary-to-default, remove-legacy"),
        (["--policy", "mine.toml"], "mine.toml: a gate policy can't be read (No such file or directory)"),
        (["--waivers", "legacy-rings"], "no file of waivers of this name ships; did you mean 'legacy-ring'?"),
        (["--waivers", "gone.toml"], "gone.toml: waivers can't be read (No such file or directory); check the path"),
    ],
)
def test_what_is_not_there_is_refused_with_2(tmp_path: Path, capsys: Printed, flags: list[str], said: str) -> None:
    write_run(tmp_path, "one", window())

    assert cli.main(["gate", str(tmp_path), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_waiver_is_active_where_it_is_named(tmp_path: Path, capsys: Printed) -> None:
    write_run(tmp_path, "one", window(divergences={EATEN: 3}))

    assert cli.main(["gate", str(tmp_path)]) == 1
    capsys.readouterr()
    assert cli.main(["gate", str(tmp_path), "--waivers", "legacy-ring"]) == 0
    printed = capsys.readouterr().out
    assert "3 divergences in 300 lookups are waived" in printed
    assert "owner cache team" in printed


def test_a_waiver_without_expiry_is_refused_with_2(tmp_path: Path, capsys: Printed) -> None:
    write_run(tmp_path / "runs", "one", window())
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE.replace("expires = 2027-06-30\n", ""))

    assert cli.main(["gate", str(tmp_path / "runs"), "--waivers", str(file)]) == 2
    assert "waiver 'L3': expires is required, a date such as 2027-03-31" in capsys.readouterr().err


def test_one_waiver_of_two_files_is_refused_with_2(tmp_path: Path, capsys: Printed) -> None:
    write_run(tmp_path / "runs", "one", window())
    file = tmp_path / "mine.toml"
    file.write_text(WHOLE)

    command = ["gate", str(tmp_path / "runs"), "--waivers", "legacy-ring", "--waivers", str(file)]
    assert cli.main(command) == 2
    assert "waiver 'L3' is in another of the files as well" in capsys.readouterr().err


def test_a_policy_of_other_bytes_is_refused_with_2(tmp_path: Path, capsys: Printed) -> None:
    write_run(tmp_path / "runs", "one", window())
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xfe")

    assert cli.main(["gate", str(tmp_path / "runs"), "--policy", str(file)]) == 2
    assert "expected a gate policy as UTF-8 text" in capsys.readouterr().err


def test_a_failing_gate_says_what_to_do_for_every_demand(tmp_path: Path, capsys: Printed) -> None:
    write_run(tmp_path, "one", window(divergences={EATEN: 1}, lookups={}))

    assert cli.main(["gate", str(tmp_path)]) == 1
    table = capsys.readouterr().out.partition("Demands")[2]
    assert table.index("FAIL") < table.index("INCONCLUSIVE") < table.index("PASS")
    assert "train longer" in " ".join(table.split())


def test_the_gate_finds_conformance_beside_a_run_named_alone(tmp_path: Path) -> None:
    path = write(tmp_path, 1, now=NOW)
    write_streams(tmp_path)

    (found,) = gate_evidence.read_sources(gate_evidence.find_sources([path])).conformance
    assert (found.operations, found.conforms, found.problem) == (100_000, True, "")


def test_the_conformance_command_leaves_what_the_gate_counts(tmp_path: Path, capsys: Printed) -> None:
    assert cli.main(["conformance", "--control", "new", "--ops", "300", "--seed", "4", "--out", str(tmp_path)]) == 0
    assert f"result: {tmp_path}/conformance-" in capsys.readouterr().out
    write(tmp_path, 1, now=NOW)

    (found,) = gate_evidence.read_sources(gate_evidence.find_sources([tmp_path])).conformance
    assert (found.candidate, found.control) == ("shadow.manager.KVCacheManager",) * 2
    assert (found.seed, found.operations, found.conforms, found.charged) == (4, 300, True, {})
    assert len(found.source) == 12
    assert found.problem == ""


def test_a_failing_conformance_result_names_who_was_charged(tmp_path: Path) -> None:
    command = ["conformance", "--control", "new", "--ops", "60", "--out", str(tmp_path)]
    assert cli.main([*command, "--candidate", "tests.validator.candidates:Garbage"]) == 1
    write(tmp_path, 1, now=NOW)

    (found,) = gate_evidence.read_sources(gate_evidence.find_sources([tmp_path])).conformance
    assert not found.conforms
    assert "candidate" in found.charged
    assert found.candidate == "tests.validator.candidates.Garbage"


def test_many_runs_are_read_alike_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        write(tmp_path, seed, busy_window(divergences={EATEN: seed}), now=NOW)

    def read() -> list[tuple[object, ...]]:
        def told(run: Run) -> tuple[object, ...]:
            return run.path, run.totals, run.timed, run.windows, run.manifest, run.problems

        return [told(run) for run in gate_evidence.read_sources(gate_evidence.find_sources([tmp_path])).runs]

    one_by_one = read()
    monkeypatch.setattr(gate_evidence, "_MANY", 1)
    assert read() == one_by_one
    assert [run[1].n_divergences for run in one_by_one] == [0, 1, 2, 3]  # type: ignore[attr-defined]
