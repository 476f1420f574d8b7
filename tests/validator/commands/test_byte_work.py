"""Where the byte work is not compiled, the commands that wait for it say so once, with the command that compiles it."""

from __future__ import annotations

import json
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shadow.hosts.lightzero import LightZeroMissing
from shadow.memory import dense
from validator.cli import main
from validator.commands.byte_work import tell_if_not_compiled

SAID = "pip install --no-cache-dir --force-reinstall --no-deps"


TRAIN = ["train", "--config", "smoke", "--set", "world_model_cfg.cache_validation_mode=true"]


def stopped(*_: Any) -> None:
    raise LightZeroMissing("stopped here, before anything long begins")


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("command", "step"),
    [(TRAIN, "_validated"), (["run", __file__], "install"), (["bench", "--quick"], "bench_caches")],
    ids=["train", "run", "bench"],
)
def test_what_is_not_compiled_is_said_once(
    command: list[str],
    step: str,
    compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dense, "COMPILED", compiled)
    monkeypatch.setattr(import_module(f"validator.commands.{command[0]}"), step, stopped)

    main(command)

    assert capsys.readouterr().err.count(SAID) == (0 if compiled else 1)


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (None, "kv-lockstep"),
        ({"url": "file:///home/me/kv%20lockstep", "dir_info": {}}, "'/home/me/kv lockstep'"),
        ({"url": "file:///home/me/kv", "dir_info": {"editable": True}}, "-e /home/me/kv"),
        ({"url": "https://host/kv.git", "vcs_info": {"vcs": "git"}}, "git+https://host/kv.git"),
        ({"url": "https://host/kv.whl", "archive_info": {}}, "https://host/kv.whl"),
    ],
)
def test_the_command_installs_from_where_it_was_installed(
    noted: dict[str, Any] | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    if noted:
        (tmp_path / "direct_url.json").write_text(json.dumps(noted))
    monkeypatch.setattr(metadata, "distribution", lambda _: metadata.PathDistribution(tmp_path))
    monkeypatch.setattr(dense, "COMPILED", False)
    monkeypatch.setattr(import_module("validator.commands.bench"), "bench_caches", stopped)

    main(["bench", "--quick"])

    assert f"{SAID} {expected}\n" in capsys.readouterr().err


def test_where_torch_is_too_old_a_newer_torch_is_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dense, "COMPILED", False)
    monkeypatch.setattr(dense, "NEEDS", "what_this_torch_has_not")

    tell_if_not_compiled(Console(stderr=True))

    said = capsys.readouterr().err
    assert "pip install 'torch>=2.10'" in said
    assert SAID not in said
