"""The rollout record: what ``gate --record`` writes, and what ``gate --verify`` notices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.disk.layout import encoded
from reports.disk.seal import seal
from reports.read.trainings import write_trainings
from tests.guards import guards
from tests.validator.gate.runs import divergence, window, write_run
from tests.validator.gate.trainings import trainings_of
from validator.cli import main

POLICY = "max_divergences = 0\n\n[runs]\nsame_candidate = false\n"
WAIVERS = """
[[waiver]]
id = "L1"
cause = "duplicate-key slot leak"
side = "control"
owner = "A. Reviewer"
reason = "known"
issue = "https://example.org/1"
expires = 2999-01-01
max_count = 10
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two sound runs, trainings beside them, and a policy."""
    runs = tmp_path / "runs"
    for name in ("one", "two"):
        write_run(runs, name, window())
    written = trainings_of(path=runs / "ab-one")
    written.path.mkdir()
    written.manifest["seeds"] = [0, 1, 2]
    write_trainings(written, {})
    (runs / "one" / "evidence").mkdir(exist_ok=True)
    (runs / "one" / "evidence" / "0.safetensors").write_bytes(b"tensors")
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    return tmp_path


def record(place: Path, *more: str) -> int:
    policy = ["--policy", str(place / "policy.toml")]
    return main(["gate", str(place / "runs"), *policy, "--record", str(place / "decision.json"), *more])


def verify(place: Path) -> int:
    return main(["gate", "--verify", str(place / "decision.json")])


def content(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "decision.json").read_text(encoding="utf-8"))
    return found


@guards("reports/read/evidence_files.py", 'names += [f"{EVIDENCE_DIR}', '_ = [f"{EVIDENCE_DIR}')
def test_a_record_says_who_judged_what_when_and_how(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record(place, "--by", "A. Reviewer") == 0

    found = content(place)
    assert found["kind"] == "rollout record"
    assert (found["who"], found["policy"], found["verdict"]) == ("A. Reviewer", "policy", "PASS")
    assert found["recorded"].endswith("+00:00")
    assert found["reasons"][0].startswith("0 divergences in 600 lookups")
    assert {"demanded", "found", "verdict", "where", "remedy"} == set(found["demands"][0])
    assert [(item["kind"], item["path"], sorted(item["files"])) for item in found["evidence"]] == [
        ("run", "runs/one", ["evidence/0.safetensors", "rank-0000.jsonl", "run.json", "summary.json"]),
        ("run", "runs/two", ["rank-0000.jsonl", "run.json", "summary.json"]),
        ("ab", "runs/ab-one", ["ab.json"]),
        ("policy", ".", ["policy.toml"]),
    ]
    assert f"record: {place / 'decision.json'}" in capsys.readouterr().out


def test_what_did_not_change_verifies_with_the_recorded_verdict(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(place, "--by", "A. Reviewer")
    capsys.readouterr()

    assert verify(place) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("PASS, recorded 2")
    assert "by A. Reviewer, policy 'policy'" in printed
    assert "unchanged: 9 files; judged again as of then, the verdict is the same" in printed


def test_evidence_that_moves_with_its_record_still_verifies(place: Path) -> None:
    record(place)
    moved = place.rename(place.with_name(f"{place.name}-moved"))

    assert verify(moved) == 0


def test_a_policy_that_ships_is_found_in_the_installation_that_verifies(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, file = str(place / "runs"), str(place / "decision.json")
    assert main(["gate", runs, "--policy", "smoke", "--waivers", "legacy-ring", "--record", file]) == 5
    items = content(place)["evidence"]

    assert [(item["kind"], item["path"], list(item["files"])) for item in items[-2:]] == [
        ("policy", "", ["smoke.toml"]),
        ("waivers", "", ["legacy-ring.toml"]),
    ]
    assert verify(place.rename(place.with_name(f"{place.name}-moved"))) == 5
    assert "unchanged: 10 files" in capsys.readouterr().out


def _edit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1", b"2", 1) if b"1" in data else data + b" ")


def _link_out(path: Path) -> None:
    outside = path.parents[2] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


CHANGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("runs/one/run.json", _edit, "run runs/one: run.json has changed"),
    ("runs/two/rank-0000.jsonl", _edit, "run runs/two: rank-0000.jsonl has changed"),
    ("runs/one/summary.json", Path.unlink, "run runs/one: summary.json is missing"),
    ("runs/one/evidence/0.safetensors", _edit, "run runs/one: evidence/0.safetensors has changed"),
    ("runs/one/evidence/1.safetensors", Path.touch, "run runs/one: evidence/1.safetensors was not there"),
    ("runs/two/rank-0001.jsonl", Path.touch, "run runs/two: rank-0001.jsonl was not there"),
    ("runs/two/run.json", _link_out, "run runs/two: run.json is no plain file inside its directory"),
    ("runs/two", shutil.rmtree, "run runs/two: rank-0000.jsonl is missing"),
    ("runs/ab-one/ab.json", _edit, "ab runs/ab-one: ab.json has changed"),
    ("policy.toml", _edit, "policy .: policy.toml has changed"),
]


@guards("reports/read/evidence_files.py", "elif found[name] != recorded[name]:", "elif False:")
@guards("reports/read/evidence_files.py", "if name not in found:", "if False:")
@guards("reports/read/evidence_files.py", "elif name not in recorded:", "elif False:")
@guards("reports/read/evidence_files.py", "if is_inside(directory, name):", "if (directory / name).exists():")
@pytest.mark.parametrize(("name", "change", "named"), CHANGES, ids=[f"{c[0]} {c[1].__name__}" for c in CHANGES])
def test_whatever_changed_is_named_and_a_pass_is_none_any_more(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, change: Callable[[Path], object], named: str
) -> None:
    record(place)
    capsys.readouterr()
    change(place / name)

    assert verify(place) == 5
    printed = capsys.readouterr().out
    assert named in printed
    assert "INCONCLUSIVE: this is not what was judged; run kv-lockstep gate again" in printed


def test_pages_and_logs_may_be_made_again(place: Path) -> None:
    record(place)
    (place / "runs" / "one" / "report.html").write_text("<p>", encoding="utf-8")
    (place / "runs" / "ab-one" / "seed-0-control.log").write_text("x", encoding="utf-8")

    assert verify(place) == 0


def test_a_waiver_belongs_to_what_was_judged(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waivers = place / "waivers.toml"
    waivers.write_text(WAIVERS, encoding="utf-8")
    before = record(place, "--waivers", str(waivers))

    assert verify(place) == before
    waivers.write_text(WAIVERS.replace("= 10", "= 99"), encoding="utf-8")
    assert verify(place) == 5
    assert "waivers .: waivers.toml has changed" in capsys.readouterr().out


@guards("validator/commands/gate_record.py", "Verdict.FAIL if verdict is Verdict.FAIL else", "")
def test_a_recorded_fail_stays_one_whatever_is_done_to_it(place: Path) -> None:
    planted = divergence()
    write_run(place / "runs", "bad", window(divergences={planted.group: 1}), divergences=(planted,))
    assert record(place) == 1

    assert verify(place) == 1
    shutil.rmtree(place / "runs" / "bad")
    assert verify(place) == 1


def test_an_inconclusive_verdict_stays_one(place: Path) -> None:
    write_run(place / "runs", "empty")
    assert record(place) == 5

    assert verify(place) == 5


@guards("validator/commands/gate_record.py", 'changes = list(record["changed"])', "changes = []")
def test_an_edited_record_gives_itself_away(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(place)
    file = place / "decision.json"
    file.write_bytes(file.read_bytes().replace(b'"who": "', b'"who": "not ', 1))

    assert verify(place) == 5
    assert "decision.json was changed after it was written" in capsys.readouterr().out


@guards("validator/commands/gate_record.py", "if again.verdict is not verdict:", "if False:")
def test_a_verdict_that_the_evidence_does_not_give_is_noticed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever wants to deceive can seal a record again; the evidence still says what it says."""
    write_run(place / "runs", "empty")
    record(place)
    forged = {name: value for name, value in content(place).items() if name != "digest"} | {"verdict": "PASS"}
    (place / "decision.json").write_bytes(seal(encoded(forged, indent=1)))
    capsys.readouterr()

    assert verify(place) == 5
    assert "judged again as of then by version 0.1.0 the verdict is INCONCLUSIVE" in capsys.readouterr().out


@guards("validator/commands/gate_record.py", '".." not in Path(name).parts and', "True and")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda file: file.unlink(), "there is nothing; expected a record of --record"),
        (lambda file: file.write_bytes(b"{"), "can't be read as JSON"),
        (lambda file: file.write_bytes(seal(b'{"kind": "ab", "schema": 1}')), "found kind 'ab', schema 1; expected"),
        (lambda file: file.write_bytes(seal(b'{"kind": "rollout record", "schema": 1}')), "not a whole record"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b'"run.json"', b'"../x.json"')), "not a whole record"),
    ],
)
def test_what_is_no_record_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], text: str
) -> None:
    record(place)
    capsys.readouterr()
    change(place / "decision.json")

    assert verify(place) == 2
    assert text in capsys.readouterr().err


@guards("validator/commands/gate_record.py", "if os.path.lexists(file):", "if False:")
def test_a_record_is_never_overwritten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(place)
    before = (place / "decision.json").read_bytes()

    assert record(place) == 2
    assert "exists already, and a record is never overwritten; choose another name" in capsys.readouterr().err
    assert (place / "decision.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["gate"], "name at least one run"),
        (["gate", "runs", "--verify", "x.json"], "--verify FILE names its own runs, policy and waivers"),
        (["gate", "RUNS", "--record", "no/such/decision.json"], "its directory does not exist"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main([str(place / "runs") if word == "RUNS" else word for word in arguments]) == 2
    assert text in capsys.readouterr().err


# Trainings beside the runs


def test_the_gate_finds_trainings_beside_the_runs_and_says_so_if_it_does_not_judge_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", str(place / "runs"), "--policy", str(place / "policy.toml")]) == 0
    text = f"not judged, because policy 'policy' has no table [training]: {place / 'runs' / 'ab-one'}"
    assert text in capsys.readouterr().out


def test_the_gate_judges_trainings_that_its_policy_demands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "policy.toml").write_text(POLICY + "[training]\n", encoding="utf-8")
    runs = place / "runs"

    code = main(["gate", str(runs / "one"), str(runs / "ab-one"), "--policy", str(place / "policy.toml")])

    printed = capsys.readouterr().out
    assert code == 5  # these trainings are of other caches than the runs
    assert "the same trajectory with either cache" in printed
    assert "trained with the caches that the runs compared, found" in printed
    assert "not judged" not in printed


@pytest.fixture
def key_files(tmp_path: Path) -> tuple[str, str]:
    for name, key in (("gate.key", "0123456789abcdef\n"), ("other.key", "fedcba9876543210")):
        (tmp_path / name).write_text(key, encoding="utf-8")
    return str(tmp_path / "gate.key"), str(tmp_path / "other.key")


@guards("validator/commands/gate_record.py", "if not hmac.compare_digest(", "if False and not hmac.compare_digest(")
def test_a_signed_record_is_checked_with_its_key_alone(
    place: Path, key_files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    key, other = key_files
    file = place / "decision.json"
    assert record(place, "--key-file", key) == 0
    whole = file.read_bytes()
    capsys.readouterr()

    assert main(["gate", "--verify", str(file), "--key-file", key]) == 0
    assert "its signature was made with this key" in capsys.readouterr().out
    assert verify(place) == 0
    assert "its signature can't be checked without the key: --key-file FILE" in capsys.readouterr().out
    assert main(["gate", "--verify", str(file), "--key-file", other]) == 2
    assert "its signature was not made with this key, or it was changed since" in capsys.readouterr().err
    for change in ({"who": "Mallory"}, {"hmac": ""}):  # and sealed again
        file.write_bytes(seal(encoded({**{k: v for k, v in json.loads(whole).items() if k != "digest"}, **change})))
        assert main(["gate", "--verify", str(file), "--key-file", key]) == 2
    assert "it is not signed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"), [("short", "found a key of 5 bytes; expected at least 16"), (None, "found no plain file")]
)
def test_a_key_that_keeps_nobody_out_is_refused(
    place: Path, content: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = place / "gate.key"
    if content is None:
        key.mkdir()
    else:
        key.write_text(content, encoding="utf-8")

    assert record(place, "--key-file", str(key)) == 2
    assert said in capsys.readouterr().err
    assert not (place / "decision.json").exists()


def test_a_key_without_a_record_is_refused(place: Path, key_files: tuple[str, str]) -> None:
    assert main(["gate", str(place / "runs"), "--key-file", key_files[0]]) == 2
