"""What may leave the machine: a secret is known by its name, and a path says no more than is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.read.conformance import write_conformance
from reports.reader import read_run
from reports.record.redaction import is_secret, redacted, redacted_text
from reports.writer import RunWriter
from tests.guards import guards
from tests.reports.records_for_tests import divergence, write_run
from tests.validator.gate.trainings import trainings_of
from validator.cli import main

SECRET = "s3cr3t-v4lue"
SECRETS = """api_key apiKey wandb_api_key AWS_SECRET_ACCESS_KEY access_key secret clientSecret db.password passwd
credential credentials auth_token
use_auth_token hf_token HF_TOKEN github_token token private_key --api-key auth_tokens"""
HARMLESS = """max_tokens tokens key keys cache_key key_buckets eos_token pad_token tokenizer secretary tokens_per_block
n_keys monkey author num_tokens token_dim passes"""


def test_whole_words_say_what_is_a_secret() -> None:
    assert [name for name in SECRETS.split() if not is_secret(name)] == []
    assert [name for name in HARMLESS.split() if is_secret(name)] == []


@pytest.mark.parametrize(
    "told",
    [
        {"api_key": SECRET},
        {"a": [{"b": {"hf_token": SECRET}}]},
        {"credentials": {"user": SECRET, "all": [SECRET]}},
        [["api_key", SECRET], ["b", 1]],
        {"env": [{"name": "HF_TOKEN", "value": SECRET}]},
        ["x.py", "--api-key", SECRET, "--n", "3"],
        ["x.py", f"--api-key={SECRET}", f"API_KEY={SECRET}"],
        f"python x.py --password {SECRET} --max-tokens 5",
        f"https://me:{SECRET}@host/x",
        f"https://{SECRET}@host/x",
        f"https://host/x?token={SECRET}&n=1",
        f'{{"api_key": "{SECRET} {SECRET}", "b": 1}}',
        f"Config(api_key='{SECRET}', n=3)",
        f"Authorization: Bearer {SECRET}",
        f"OSError: password: {SECRET}",
    ],
)
def test_a_secret_is_redacted_wherever_its_name_stands(told: Any) -> None:
    found = redacted(told)

    assert SECRET not in json.dumps(found)
    assert "REDACTED" in json.dumps(found)
    assert redacted(found) == found


@pytest.mark.parametrize(
    "told",
    [
        {"max_tokens": 64, "password": 5, "use_auth_token": True, "api_key": None, "token": ""},
        ["--max_tokens=64", "--use_auth_token=True", "--key", "a", "eos_token='</s>'"],
        "ssh://git@host/x and git@host:x, 12 keys: 3",
    ],
)
def test_numbers_booleans_and_other_names_stay(told: Any) -> None:
    assert redacted(told) == told


def test_home_and_working_directory_are_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    here = str(Path.cwd())

    assert redacted_text(f"{here}/runs/x and {here}") == "./runs/x and ."
    assert redacted_text("/home/me/data, /home/merry, /mnt/home/me") == "~/data, /home/merry, /mnt/home/me"


@guards("reports/writer.py", 'redacted(described({"schema": SCHEMA', '(described({"schema": SCHEMA')
@guards("reports/writer.py", "{**redacted(about),", "{**about,")
@guards("reports/writer.py", "redacted(to_json(divergence))", "to_json(divergence)")
@guards("reports/writer.py", '"detail": redacted(detail)', '"detail": detail')
def test_no_file_that_is_written_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    named = f"password={SECRET}"
    told: dict[str, Any] = {"config": {"api_key": SECRET}, "argv": ["--token", SECRET], "cwd": str(Path.cwd())}
    monkeypatch.setattr("tests.reports.records_for_tests.CACHE", {"control": named, "policy": {"secret": SECRET}})
    found = divergence(explanation=named, candidate_error=named, history=(named,))
    path = write_run(tmp_path, divergences=(found,), close=False, **told)
    RunWriter.create(tmp_path, "r2", told, evidence_limit_bytes=0).event("host_failed", named)
    write_conformance(tmp_path, told)
    trainings = trainings_of(path=tmp_path / "ab-1")
    trainings.path.mkdir()
    trainings.manifest |= told
    from reports.read.trainings import write_trainings

    write_trainings(trainings, {"reasons": [named]})
    monkeypatch.setattr("sys.argv", ["kv-lockstep", "--token", SECRET])
    main(["gate", str(path), "--record", str(tmp_path / "record.json")])
    for kind in ("html", "markdown", "junit", "json"):
        main(["report", str(path), "--format", kind, "--output", str(tmp_path / f"report.{kind}")])

    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) >= 9
    assert [file.name for file in files if SECRET in file.read_text("utf-8", "replace")] == []
    assert [file.name for file in files if str(Path.cwd()) in file.read_text("utf-8", "replace")] == []
    assert SECRET not in capfd.readouterr().out


@guards("reports/reader.py", "run.manifest = redacted(run.manifest)", "pass")
def test_what_an_older_version_wrote_is_redacted_on_its_way_out(tmp_path: Path) -> None:
    path = write_run(tmp_path, config={"api_key": "x"})
    file = path / "run.json"
    file.write_bytes(file.read_bytes().replace(b"REDACTED", SECRET.encode()))

    assert read_run(path).manifest["config"] == {"api_key": "REDACTED"}
